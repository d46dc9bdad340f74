"""Files that commands write at the end of their work: where one cannot be written then, what was computed is kept."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from mixstyle.pipeline.core.errors import MixstyleError


def write_or_keep(path: Path, write: Callable[[Path], None]) -> None:
    """Has `write` write `path`; where that cannot be, into a new folder for temporary files, which the error names.

    Raises MixstyleError (cannot-write).
    """
    try:
        write(path)
    except MixstyleError as error:
        if error.code != "cannot-write":
            raise
        elsewhere = Path(tempfile.mkdtemp(prefix="mixstyle-")) / path.name
        try:
            write(elsewhere)
        except MixstyleError:
            raise error from None
        raise MixstyleError(f"{error.message}; what was computed is kept in {elsewhere}", code=error.code) from error


def raise_for(failed: Sequence[MixstyleError], what: str) -> None:
    """Raises one error for what failed, if anything did: itself, or how many there were. what: the command."""
    if len(failed) == 1:
        raise failed[0]
    if failed:
        unwritten = [error for error in failed if error.code == "cannot-write"]
        if unwritten:
            raise MixstyleError("; ".join(error.message for error in unwritten), code="cannot-write")
        raise MixstyleError(f"{what}: {len(failed)} songs could not be used; see the reasons above", code="no-music")
