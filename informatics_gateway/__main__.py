# SPDX-License-Identifier: Apache-2.0
"""The command line: `airway …`. Each command's work is in ``commands/``; here are only names and options.

A command imports its room when it runs: the libraries behind them take seconds to load, help must not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from informatics_gateway.commands.console import fail
from task_manager.errors import AirwayError, ConfigurationError

app = typer.Typer(
    name="airway",
    help="Imaging-AI task manager: DICOM, HL7 v2 and DICOMweb in; UPS workitems; SEG, SR and FHIR out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Data = Annotated[Path, typer.Option("--data", help="Folder for database, objects and work.")]
Config = Annotated[
    Path | None, typer.Option("--config", help="airway.yaml; rules/ and destinations.yaml beside it.")
]
_DATA = Path("airway-data")


@app.command("serve")
def serve_command(
    data: Data = _DATA,
    config: Config = None,
    http: Annotated[str, typer.Option(help="HOST:PORT of HTTP (default 127.0.0.1:8080).")] = "",
    dicom: Annotated[str, typer.Option(help="HOST:PORT of DICOM (default 127.0.0.1:11112).")] = "",
    hl7: Annotated[str, typer.Option(help="HOST:PORT of MLLP (default 127.0.0.1:2575).")] = "",
) -> None:
    """Run the gateway, the task manager and a performer; port 0 takes any free port."""
    from informatics_gateway.commands import serve

    serve.serve(data, config, http=http, dicom=dicom, hl7=hl7)


@app.command("demo")
def demo_command(
    study: Annotated[Path | None, typer.Option(help="A folder with a CT chest of your own.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the system running until Ctrl-C.")] = False,
    output: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo-output"),
) -> None:
    """Send an order and a CT chest through the whole system and read the results back."""
    from informatics_gateway.commands import demo

    raise typer.Exit(demo.run_demo(study=study, keep=keep, output=output))


@app.command("send")
def send_command(
    paths: Annotated[
        list[Path], typer.Argument(help="HL7 order files; files or folders with DICOM instances.")
    ],
    to: Annotated[str, typer.Option(help="HOST:PORT of the DICOM door.")] = "127.0.0.1:11112",
    hl7: Annotated[str, typer.Option(help="HOST:PORT of the MLLP door.")] = "127.0.0.1:2575",
    called: Annotated[str, typer.Option(help="Called AE title.")] = "AIRWAY",
    calling: Annotated[str, typer.Option(help="Calling AE title.")] = "AIRWAY_SEND",
) -> None:
    """Send orders over MLLP as a RIS would, images by C-STORE as a modality would."""
    from informatics_gateway.commands import send

    send.send(paths, to=to, hl7=hl7, called=called, calling=calling)


@app.command("explain")
def explain_command(
    study_instance_uid: Annotated[str, typer.Argument(help="Study Instance UID.")],
    data: Data = _DATA,
    config: Config = None,
) -> None:
    """Tell why a study did or did not run: every rule, condition, value seen and verdict."""
    from informatics_gateway.commands import explain

    explain.explain(study_instance_uid, data, config)


@app.command("apps")
def apps_command() -> None:
    """List the installed AI apps."""
    from informatics_gateway.commands import check

    check.list_apps()


@app.command("check-config")
def check_config_command(config: Config = None) -> None:
    """Report every fault of the configuration and the rules, with file, line and key."""
    from informatics_gateway.commands import check

    check.check_config(config)


@app.command("doctor")
def doctor_command(data: Data = _DATA, config: Config = None) -> None:
    """Check that this machine and data folder are fit to serve."""
    from informatics_gateway.commands import check

    check.doctor(data, config)


@app.command("migrate")
def migrate_command(data: Data = _DATA, config: Config = None) -> None:
    """Bring the database to this release's schema."""
    from informatics_gateway.commands import migrate

    migrate.migrate(data, config)


def main() -> None:
    """Run the command line; errors are told with what to do about them, never as a traceback."""
    try:
        app()
    except ConfigurationError as error:
        fail("The configuration needs attention:", *(str(fault) for fault in error.faults))
    except AirwayError as error:
        fail(str(error))


if __name__ == "__main__":
    main()
