"""What training writes down as it goes: loss.csv for reports and DVC, and TensorBoard."""

import csv
import io
import math
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from mixstyle.cache.storage.atomic import write_text
from mixstyle.cache.storage.writable import REFUSALS, make_folder, refusals_told
from mixstyle.pipeline.core.errors import MixstyleError, one_line
from mixstyle.stages.train.monitor import watch_step

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

COLUMNS = (
    "step",
    "epoch",
    "train_loss",
    "validation_loss",
    "positive_similarity",
    "negative_similarity",
    "other_similarity",
    "accuracy",
    "gradient_norm",
    "learning_rate",
)
"""Of loss.csv; only what the same settings give again, so that an unbroken run and a resumed one write equal bytes."""
CHECKSUM = "checksum"
"""The last column of loss.csv: CRC-32 of all rows up to this one, each without its own checksum, in 8 hex digits. Files
of earlier versions lack it."""


LOSS = "loss.csv"
"""Beside the checkpoints."""
_NAMES = {"train_loss": "loss/train", "validation_loss": "loss/validation", "chain_loss": "loss/chain"}
"""In TensorBoard."""


class TrainLog:
    """Appends a row a step to `loss.csv`, and the same with throughput to TensorBoard.

    step: the last step that counts; what an earlier run logged after it is dropped.
    """

    def __init__(self, csv_path: Path, log_dir: Path, step: int) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter  # a second, and one process of several writes

        self._path, self._log_dir = csv_path, log_dir
        text, self._checksum = _rows(read_loss(csv_path), step)
        write_text(csv_path, text)
        make_folder(log_dir)
        self._hook, threading.excepthook = threading.excepthook, self._of_thread
        with self._refusals_told():
            self._board = SummaryWriter(str(log_dir), purge_step=step + 1 if step else None)
        self._file = csv_path.open("a", newline="", encoding="utf-8")

    @contextmanager
    def board(self) -> "Iterator[SummaryWriter]":
        """TensorBoard's writer. Raises MixstyleError (cannot-write), naming its folder, where a disk is full."""
        with self._refusals_told():
            yield self._board

    @contextmanager
    def _refusals_told(self) -> Iterator[None]:
        try:
            with refusals_told(self._log_dir):
                yield
        except BaseException:
            threading.excepthook = self._hook
            raise

    def _of_thread(self, told: "threading.ExceptHookArgs") -> None:
        """TensorBoard writes from a thread, whose refusals come up again where the training writes next: no traceback
        of the thread beside them."""
        if not (isinstance(told.exc_value, OSError) and told.exc_value.errno in REFUSALS):
            self._hook(told)

    def write(
        self, row: Mapping[str, float | int | None], speed: Mapping[str, float], embeddings: Tensor | None = None
    ) -> None:
        """row: by COLUMNS; what is missing or None stays empty. TensorBoard alone gets what else it has, `speed`, and
        what `watch_step` tells of the embeddings [3 B, E]."""
        with refusals_told(self._path):
            line, self._checksum = _checked([cell(row.get(name)) for name in COLUMNS], self._checksum)
            self._file.write(line)
            self._file.flush()
        step = int(row["step"] or 0)
        with self.board() as board:
            for name, value in {**{k: v for k, v in row.items() if k not in ("step", "epoch")}, **speed}.items():
                if value is not None:
                    board.add_scalar(_NAMES.get(name, name), value, step)
            if embeddings is not None:
                watch_step(board, embeddings, step)

    def close(self) -> None:
        """Raises MixstyleError (cannot-write) where what is left cannot be written."""
        try:
            with refusals_told(self._path):
                self._file.close()
            with self.board() as board:
                board.close()
        finally:
            threading.excepthook = self._hook


def told_row(row: Mapping[str, float | int | None], speed: Mapping[str, float], best_loss: float) -> dict[str, str]:
    """What a person at the terminal watches of a step, as text by name."""

    def text(value: float | int | None, digits: int = 3) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    return {
        "loss": text(row["train_loss"]),
        "best loss": text(best_loss) if math.isfinite(best_loss) else "-",
        "cosine to positives": text(row["positive_similarity"]),
        "to own negatives": text(row["negative_similarity"]),
        "to others": text(row["other_similarity"]),
        "positives found": f"{100 * float(row['accuracy'] or 0):.0f}%",
        "chain loss": text(row.get("chain_loss")),
        "gradient norm": text(row["gradient_norm"], 2),
        "learning rate": f"{float(row['learning_rate'] or 0):.2e}",
        "waiting for data": f"{100 * speed['speed/data_wait_share']:.0f}%",
    }


def read_loss(path: Path) -> list[dict[str, str]]:
    """Rows of a loss.csv; a last row that a killed run left torn is dropped, and a missing file has none.

    Raises MixstyleError ("damaged-file") where it is no text, has something else than numbers in its cells, or other
    rows than were written.
    """
    if not path.is_file():
        return []
    try:
        whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
        rows = list(csv.DictReader(io.StringIO(whole)))
        kept = [row for row in rows if None not in row and None not in row.values() and row.get("step", "").isdecimal()]
        for row in kept:
            for value in (row["train_loss"], *(row.get(name) or "0" for name in COLUMNS)):
                float(value)
        _check(rows)
    except (ValueError, KeyError, csv.Error) as error:  # no UTF-8 and no numbers are ValueErrors
        raise MixstyleError(
            f"{path}: damaged ({one_line(error)}); delete it to go on without the losses so far, or",
            code="damaged-file",
            remedy=("train", "--rebuild"),
        ) from error
    return kept


def _check(rows: list[dict[str, str]]) -> None:
    """Raises ValueError where rows are not those that were written."""
    unknown = [str(name) for row in rows[:1] for name in row if name not in (None, *COLUMNS, CHECKSUM)]
    if unknown:
        raise ValueError(f"unknown columns: {', '.join(unknown)}")
    checksum = 0
    for row in rows:
        if CHECKSUM not in row:
            return
        _, checksum = _checked([row.get(name) or "" for name in COLUMNS], checksum)
        if None in row or row[CHECKSUM] != f"{checksum:08x}":
            raise ValueError(f"the row of step {row['step']}, or one before it, is not what was written")


def _rows(rows: list[dict[str, str]], last_step: int) -> tuple[str, int]:
    """A loss.csv of the rows up to a step, and the checksum of all of them."""
    text, checksum = _line((*COLUMNS, CHECKSUM)), 0
    for row in rows:
        if int(row["step"]) <= last_step:
            line, checksum = _checked([row.get(name, "") for name in COLUMNS], checksum)
            text += line
    return text, checksum


def _checked(cells: list[str], before: int) -> tuple[str, int]:
    """A row with its checksum, and that as a number. before: of the rows before it."""
    checksum = zlib.crc32(_line(cells).encode(), before)
    return _line([*cells, f"{checksum:08x}"]), checksum


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return ",".join(cells) + "\n"


def cell(value: float | int | None) -> str:
    """A value as loss.csv has it."""
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.9g}"  # tells a float32 apart from all others
