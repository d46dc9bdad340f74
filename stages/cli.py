"""The command line: its commands, help and errors. What a command does is in another module."""

import io
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any

import typer

from mixstyle.cache.storage.remote_folder import by_url
from mixstyle.cache.storage.writable import REFUSALS
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.text import printable
from mixstyle.stages import cli_checks, cli_songs, cli_steps
from mixstyle.stages.common.commands import called_settings, told
from mixstyle.stages.common.exhausted_resources import (
    exhaustion,
    folder_is_gone,
    narrow_encoding,
    raise_file_limit,
)
from mixstyle.stages.common.stopping import Stopping

app = typer.Typer(
    name="mixstyle",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Learns what a mix sounds like, apart from what the song is. "
    "The steps, in order: separate, remix, features, train, report; each continues where it was stopped.",
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"mixstyle {version('mixstyle')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Prints the version and stops.")
    ] = False,
) -> None:
    """Options before the command."""


for command in (
    cli_steps.demo_songs_command,
    cli_steps.separate_command,
    cli_steps.fetch_separator_command,
    cli_steps.remix_command,
    cli_steps.features_command,
    cli_steps.train_command,
    cli_steps.evaluate_command,
    cli_steps.evaluate_musdb_command,
    cli_steps.evaluate_match_command,
    cli_steps.export_command,
    cli_steps.report_command,
    cli_songs.stems_command,
    cli_songs.match_command,
    cli_songs.apply_command,
    cli_songs.describe_command,
    cli_songs.embed_command,
    cli_songs.index_command,
    cli_songs.search_command,
    cli_songs.compare_command,
    cli_songs.browse_command,
    cli_checks.status_command,
    cli_checks.verify_command,
    cli_checks.doctor_command,
):
    app.command(command.__name__.removesuffix("_command").replace("_", "-"))(command)


GO_ON = {
    *("demo-songs", "fetch-separator", "separate", "remix", "features", "train", "index"),
    *("evaluate", "evaluate-musdb", "evaluate-match"),
}
"""Commands that continue where they were stopped."""


def main(run: Callable[[], Any] = app) -> None:
    """Runs the command line; a user's mistake ends in one line on stderr and exit status 1, Ctrl-C and SIGTERM as
    `Stopping` has it."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells of folders for its fonts, as warnings
    _open_what_is_closed()
    _escape_what_cannot_be_encoded()
    raise_file_limit()
    if gone := folder_is_gone():
        _print_error(gone)
        raise SystemExit(1)
    with Stopping(not GO_ON.isdisjoint(sys.argv[1:2])) as stopping:
        try:
            run()
        except MixstyleError as error:
            if not stopping.number:  # else what broke on the way is no news
                _print_error(told(_first_step(error)))
            raise SystemExit(1) from None
        except UnicodeEncodeError as error:
            if (helps := narrow_encoding(error)) is None:
                raise
            _print_error(helps)
            raise SystemExit(1) from None
        except (OSError, MemoryError, RuntimeError) as error:
            if (ran_out := exhaustion(error)) is not None:
                _print_error(ran_out)
                raise SystemExit(1) from None
            if not isinstance(error, OSError) or error.errno not in REFUSALS:
                raise
            # what no code below took for its own: a full disk under a library, or under the output of this command
            _print_error(f"{error.filename or 'cannot write'}: {error.strerror}")
            if error.filename is None:
                _drop_output()
            raise SystemExit(1) from None


def _first_step(error: MixstyleError) -> MixstyleError:
    """An error with the remedy that has to come first."""
    settings = called_settings()
    if settings is None:
        return error
    from mixstyle.stages.steps.first_step import first_step  # not for every command's start

    return first_step(error, settings)


def _print_error(line: str) -> None:
    print(printable(by_url(f"mixstyle: error: {line}")), file=sys.stderr)


def _open_what_is_closed() -> None:
    """A shell may start a command without output (`>&-`): the first file that it writes would get that number, and
    whatever a library prints would go into it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115, PTH123 (it stays until the end)
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def _escape_what_cannot_be_encoded() -> None:
    """Names may hold what the terminal's encoding has no bytes for: that is printed with backslashes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """What is still to be printed goes nowhere: the interpreter's end would try once more, and tell that at length."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
