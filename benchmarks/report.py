# SPDX-License-Identifier: Apache-2.0
"""The outcome of a run for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.figures import Figure, Sample

_WIDTH_OF_FILES = 140
_PEERS = {"orthanc": "Orthanc", "dcmtk": "DCMTK", "postgresql": "PostgreSQL"}


def print_report(figures: Sequence[Figure], facts: Mapping[str, Any]) -> None:
    """One table per group, the machine above and the command that repeats it below."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(width=_WIDTH_OF_FILES, highlight=False)
    machine = facts["machine"]
    libraries = ", ".join(f"{name} {version}" for name, version in machine["libraries"].items())
    peers = "".join(f"; {_PEERS[name]} {version}" for name, version in facts.get("peers", {}).items())
    load = ", ".join(str(each) for each in machine["load_average"])
    console.print(
        f"Machine: {machine['cores']} cores, {machine['model']}, {machine['memory_gib']} GiB, "
        f"{machine['system']}, files on {machine['file_system']}, load average {load} at the start",
        f"Python {machine['python']}, {libraries}{peers}",
        f"{_study(facts)}{facts['runs']} runs; {facts['started_at']}",
        sep="\n",
        markup=False,
    )
    for group in dict.fromkeys(figure.group for figure in figures):
        table = Table(title=f"\n{group}", title_justify="left", title_style="bold", box=None)
        table.add_column("")
        table.add_column("Airway", justify="right", no_wrap=True)
        table.add_column("unit", no_wrap=True)
        if any(figure.reference for figure in figures if figure.group == group):
            table.add_column("reference", justify="right", no_wrap=True)
            table.add_column("")
            table.add_column("ratio", justify="right", no_wrap=True)
        if any(figure.target for figure in figures if figure.group == group):
            table.add_column("target", justify="right", no_wrap=True)
        for figure in figures:
            if figure.group == group:
                table.add_row(*_cells(figure))
        console.print(table)
    console.print(
        "\nMedians (least - most). Ratio: Airway by reference; of rates more is better, of times less.",
        f"Again: {facts['command']}",
        sep="\n",
        markup=False,
    )


def to_json(figures: Sequence[Figure], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that is printed and every single run."""
    return {**facts, "figures": [figure.to_json() for figure in figures]}


def _study(facts: Mapping[str, Any]) -> str:
    study = facts.get("study")
    if study is None:
        return ""
    return (
        f"Study: {study['slices']} CT images of {study['size']}x{study['size']}, 16 bit, "
        f"{study['megabytes']} MB, quiet period {facts['quiet_period_s']:g} s; "
    )


def _cells(figure: Figure) -> tuple[str, ...]:
    own = (figure.name, _told(figure.airway), figure.unit)
    if figure.reference is None:
        return own
    aim = "" if figure.target is None else f"{figure.target:.2f}"
    return (*own, _told(figure.reference), figure.reference_name, f"{figure.ratio:.2f}", aim)


def _told(measured: Sample) -> str:
    least, most = min(measured.values), max(measured.values)
    return f"{_number(measured.median)} ({_number(least)} - {_number(most)})"


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"
