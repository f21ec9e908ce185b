# SPDX-License-Identifier: Apache-2.0
"""The command line: `airway …`. Each command's work is in ``commands/``; here are only names and options.

A command imports its room when it runs: the libraries behind them take seconds to load, help must not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from informatics_gateway.commands.console import fail
from informatics_gateway.commands.fetch import fetch_command
from informatics_gateway.commands.studies import studies_app
from task_manager.errors import AirwayError, ConfigurationError

app = typer.Typer(
    name="airway",
    help="Imaging-AI task manager: DICOM, HL7 v2 and DICOMweb in; UPS workitems; SEG, SR and FHIR out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

workitems_app = typer.Typer(
    help="List, show, create, cancel and watch the workitems of any UPS-RS server.", no_args_is_help=True
)
app.add_typer(workitems_app, name="workitems")
jobs_app = typer.Typer(
    help="List what could not be delivered or told, have it tried again, or drop it.", no_args_is_help=True
)
app.add_typer(jobs_app, name="jobs")
rules_app = typer.Typer(
    help="Try rules on files, replay them over past studies, train a series classifier.", no_args_is_help=True
)
app.add_typer(rules_app, name="rules")
app.add_typer(studies_app, name="studies")
app.command("fetch")(fetch_command)

Data = Annotated[Path, typer.Option("--data", help="Folder for database, objects and work.")]
Config = Annotated[
    Path | None, typer.Option("--config", help="airway.yaml; rules/ and destinations.yaml beside it.")
]
Url = Annotated[
    str, typer.Option("--url", help="DICOMweb base of the server; else that of --data or port 8080 here.")
]
TokenFile = Annotated[Path | None, typer.Option("--token-file", help="File with a bearer token.")]
CaFile = Annotated[
    Path | None, typer.Option("--ca-file", help="Certificates to trust instead of the usual ones.")
]
Uid = Annotated[str, typer.Argument(help="UID of the workitem.")]
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


@app.command("request")
def request_command(
    accession: Annotated[str, typer.Argument(help="Accession number of the study.")] = "",
    study: Annotated[str, typer.Option(help="Its Study Instance UID instead.")] = "",
    patient_id: Annotated[str, typer.Option(help="Whose accession number, where several may have it.")] = "",
    app_name: Annotated[str, typer.Option("--app", help="App that is wanted; else the rules decide.")] = "",
    priority: Annotated[str, typer.Option(help="HIGH, MEDIUM or LOW.")] = "",
    reason: Annotated[str, typer.Option(help="Why, in words.")] = "",
    key: Annotated[str, typer.Option(help="Name of the request: the same again is the same.")] = "",
    show: Annotated[str, typer.Option(help="Tell where the request with this key stands.")] = "",
    cancel: Annotated[str, typer.Option(help="Take the request with this key back.")] = "",
    url: Annotated[str, typer.Option(help="Address of the server; else that of --data.")] = "",
    data: Data = _DATA,
) -> None:
    """Ask for the analysis of a study; one that is not here is fetched, if an archive is configured."""
    from informatics_gateway.commands import request

    if show:
        request.show(show, url=url, data=data)
    elif cancel:
        request.cancel(cancel, url=url, data=data)
    else:
        asked = request.Asked(
            accession_number=accession,
            study_instance_uid=study,
            patient_id=patient_id,
            app=app_name,
            priority=priority,
            reason=reason,
            key=key,
        )
        request.ask(asked, url=url, data=data)


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
def doctor_command(
    data: Data = _DATA,
    config: Config = None,
    verify: Annotated[bool, typer.Option("--verify", help="Read objects, compare checksums.")] = False,
    since: Annotated[str, typer.Option(help="Verify only what arrived since this date or time.")] = "",
    sample: Annotated[float, typer.Option(min=0, max=100, help="Percentage of objects to verify.")] = 100.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Check that this machine and data folder are fit, and objects whole; else status 1."""
    from informatics_gateway.commands import doctor

    doctor.doctor(data, config, verify_objects=verify, since=since, sample=sample, as_json=as_json)


@app.command("retention")
def retention_command(
    data: Data = _DATA,
    config: Config = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be removed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Remove now what the policies of disk.retention ask for; the task manager does so by itself."""
    from informatics_gateway.commands import doctor

    doctor.retention(data, config, dry_run=dry_run, as_json=as_json)


@app.command("backup")
def backup_command(
    to: Annotated[Path, typer.Argument(help="Folder of the backup; objects that are there already stay.")],
    data: Data = _DATA,
    config: Config = None,
) -> None:
    """Copy database, objects and configuration to a folder, while Airway runs."""
    from informatics_gateway.commands import backup

    backup.backup(data, config, to)


@app.command("migrate")
def migrate_command(data: Data = _DATA, config: Config = None) -> None:
    """Bring the database to this release's schema."""
    from informatics_gateway.commands import migrate

    migrate.migrate(data, config)


@jobs_app.command("list")
def jobs_list_command(
    data: Data = _DATA,
    config: Config = None,
    state: Annotated[
        list[str] | None,
        typer.Option("--state", help="HELD (default), WAITING, RUNNING, DONE, DROPPED."),
    ] = None,
    lane: Annotated[str, typer.Option(help="Only of this destination or event repository.")] = "",
) -> None:
    """List jobs, oldest first: dead letters, unless states are named."""
    from informatics_gateway.commands import jobs

    jobs.list_jobs(data, config, states=state or (), lane=lane)


@jobs_app.command("retry")
def jobs_retry_command(
    keys: Annotated[list[str] | None, typer.Argument(help="Keys of the jobs, as listed.")] = None,
    data: Data = _DATA,
    config: Config = None,
    lane: Annotated[str, typer.Option(help="All dead letters of this destination or repository.")] = "",
) -> None:
    """Let jobs be tried now, their tries begun anew."""
    from informatics_gateway.commands import jobs

    jobs.retry(keys or (), data, config, lane=lane)


@jobs_app.command("drop")
def jobs_drop_command(
    keys: Annotated[list[str], typer.Argument(help="Keys of the jobs, as listed.")],
    reason: Annotated[str, typer.Option(help="Why; kept with the job, without names of patients.")],
    data: Data = _DATA,
    config: Config = None,
) -> None:
    """End deliveries or events that are not to be done any more."""
    from informatics_gateway.commands import jobs

    jobs.drop(keys, data, config, reason=reason)


@rules_app.command("try")
def try_rules_command(
    rules: Annotated[Path, typer.Argument(help="File of rules, or folder of such.")],
    study: Annotated[Path, typer.Argument(help="DICOM file, or folder of such.")],
    order: Annotated[Path | None, typer.Option(help="File with an HL7 order to join.")] = None,
    calling: Annotated[str, typer.Option(help="Calling AE title it would come from.")] = "",
    called: Annotated[str, typer.Option(help="Called AE title it would come to.")] = "AIRWAY",
    at: Annotated[str, typer.Option(help="Time of arrival, for time windows; now without it.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the explanations as JSON.")] = False,
) -> None:
    """Tell what rules would make of files: a dry run that keeps nothing."""
    from informatics_gateway.commands import rules as command

    command.try_rules(rules, study, order=order, calling=calling, called=called, at=at, as_json=as_json)


@rules_app.command("replay")
def replay_rules_command(
    since: Annotated[str, typer.Option(help="Date or time from which studies arrived.")],
    rules: Annotated[
        Path | None, typer.Option(help="File or folder of changed rules; the configured ones without it.")
    ] = None,
    data: Data = _DATA,
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every study as JSON.")] = False,
) -> None:
    """Tell which past studies a changed rule set would treat differently; changes nothing."""
    from informatics_gateway.commands import rules as command

    command.replay_rules(rules, since, data, config, as_json=as_json)


@rules_app.command("train")
def train_command(
    table: Annotated[Path, typer.Argument(help="CSV of headers with a column 'label'.")],
    output: Annotated[Path, typer.Argument(help="ONNX file to write.")],
) -> None:
    """Train a series classifier from labelled headers and tell how well it does."""
    from informatics_gateway.commands import rules as command

    command.train_classifier(table, output)


@rules_app.command("headers")
def headers_command(
    study: Annotated[Path, typer.Argument(help="Folder with DICOM files.")],
    output: Annotated[Path, typer.Argument(help="CSV file to write.")],
    column: Annotated[list[str] | None, typer.Option(help="Attribute to write; may repeat.")] = None,
) -> None:
    """Write a table of series for a person to label, the input of `rules train`."""
    from informatics_gateway.commands import rules as command

    command.write_headers(study, output, tuple(column or ()))


@workitems_app.command("list")
def list_workitems_command(
    state: Annotated[str, typer.Option(help="SCHEDULED, 'IN PROGRESS', COMPLETED or CANCELED.")] = "",
    code: Annotated[str, typer.Option(help="Code Value of the task.")] = "",
    station: Annotated[str, typer.Option(help="Station that it is assigned to.")] = "",
    patient_id: Annotated[str, typer.Option(help="Patient ID.")] = "",
    accession: Annotated[str, typer.Option(help="Accession number.")] = "",
    match: Annotated[list[str] | None, typer.Option(help="KEY=VALUE of any attribute; may repeat.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Workitems shown at most.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print DICOM JSON, with all attributes.")] = False,
    url: Url = "",
    data: Data = _DATA,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """List workitems in worklist order; without filters, all."""
    from informatics_gateway.commands import workitems

    workitems.list_workitems(
        workitems.Server(url=url, data=data, token_file=token_file, ca_file=ca_file),
        workitems.Filters(
            state=state,
            code=code,
            station=station,
            patient_id=patient_id,
            accession=accession,
            match=tuple(match or ()),
        ),
        limit=limit,
        as_json=as_json,
    )


@workitems_app.command("show")
def show_workitem_command(
    uid: Uid,
    as_json: Annotated[bool, typer.Option("--json", help="Print DICOM JSON.")] = False,
    url: Url = "",
    data: Data = _DATA,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Print everything about a workitem, what tells of the patient too."""
    from informatics_gateway.commands import workitems

    server = workitems.Server(url=url, data=data, token_file=token_file, ca_file=ca_file)
    workitems.show_workitem(server, uid, as_json=as_json)


@workitems_app.command("create")
def create_workitem_command(
    file: Annotated[Path, typer.Argument(help="File with one data set in DICOM JSON.")],
    uid: Annotated[
        str, typer.Option(help="UID it is to have; else the file's, or the server's choice.")
    ] = "",
    url: Url = "",
    data: Data = _DATA,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Create a workitem and print its UID."""
    from informatics_gateway.commands import workitems

    server = workitems.Server(url=url, data=data, token_file=token_file, ca_file=ca_file)
    workitems.create_workitem(server, file, uid=uid)


@workitems_app.command("cancel")
def cancel_workitem_command(
    uid: Uid,
    reason: Annotated[str, typer.Option(help="Why, in words.")] = "",
    code: Annotated[str, typer.Option(help="Why, as VALUE^SCHEME^MEANING of CID 9300.")] = "",
    url: Url = "",
    data: Data = _DATA,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Ask for cancellation; who holds the workitem decides."""
    from informatics_gateway.commands import workitems

    server = workitems.Server(url=url, data=data, token_file=token_file, ca_file=ca_file)
    workitems.cancel_workitem(server, uid, reason=reason, code=code)


@workitems_app.command("watch")
def watch_workitems_command(
    uid: Annotated[str, typer.Argument(help="UID of the workitem; watched until it is final.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Watch all workitems.")] = False,
    ae: Annotated[str, typer.Option(help="AE title to be told as; else one of its own.")] = "",
    seconds: Annotated[float | None, typer.Option(min=0, help="End after so long.")] = None,
    url: Url = "",
    data: Data = _DATA,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Print what happens to workitems as it happens."""
    from informatics_gateway.commands import workitems

    server = workitems.Server(url=url, data=data, token_file=token_file, ca_file=ca_file)
    workitems.watch_workitems(
        server,
        uid,
        everything=everything,
        receiving_ae=ae or workitems.default_receiving_ae(),
        seconds=seconds,
    )


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
