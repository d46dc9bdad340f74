"""Commands that look, and change nothing unless they are told to: status, verify and doctor."""

from pathlib import Path
from typing import Annotated

import typer

from mixstyle.stages.cli_options import Config, DataPath, Set, settings_of


def status_command(data_path: DataPath = None, config: Config = "demo", overrides: Set = None) -> None:
    """Shows what each step has done, what is left, what failed, and what is stale and why.

    Example:

      mixstyle status --config cpu
    """
    from mixstyle.stages.status import status

    status(settings_of(config, overrides, separate__data_path=data_path))


def verify_command(
    repair: Annotated[
        bool, typer.Option("--repair", help="Removes what is damaged, so that its command makes it again.")
    ] = False,
    config: Config = "demo",
    overrides: Set = None,
) -> None:
    """Checks all files that the steps stored, and lists those that have changed: flipped bits, lost and cut files.

    Examples:

      mixstyle verify --config cpu

      mixstyle verify --config cpu --repair
    """
    from mixstyle.stages.verify import failure, verify

    error = failure(verify(settings_of(config, overrides), repair), repair)
    if error is not None:
        raise error


def doctor_command(
    folder: Annotated[
        Path | None, typer.Option(help="A folder on the disk that is measured.", show_default="separate.stems_dir")
    ] = None,
    store: Annotated[
        str, typer.Option(metavar="URL", help="A store that is measured.", show_default="the profile's URLs")
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Prints JSON.")] = False,
    config: Config = "demo",
    overrides: Set = None,
) -> None:
    """Prints what a bug report needs: machine, versions, devices, disk, stores, models, and what is probably wrong.

    Examples:

      mixstyle doctor

      mixstyle doctor --config cpu --folder /scratch --json

      mixstyle doctor --store s3://bucket/stems
    """
    from mixstyle.stages.doctor.stage import doctor

    doctor(lambda: settings_of(config, overrides), folder, json, store)
