"""loss.csv: what was written is read, and a row that is another than was written is told."""

from pathlib import Path

import pytest

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.train.log import COLUMNS, LOSS, TrainLog, read_loss

STEPS = 4


def written(folder: Path, steps: range, after: int = 0) -> Path:
    log = TrainLog(folder / LOSS, folder / "logs", after)
    for step in steps:
        values = dict.fromkeys(COLUMNS, 0.125 * step)
        log.write({**values, "step": step, "epoch": 1, "validation_loss": 2.5 if step == 2 else None}, {})
    log.close()
    return folder / LOSS


def test_rows_are_read_as_they_were_written_and_gone_on_with(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole", range(1, STEPS + 1)).read_text()
    assert [row["validation_loss"] for row in read_loss(tmp_path / "whole" / LOSS)] == ["", "2.5", "", ""]
    written(tmp_path / "parts", range(1, 4))
    assert written(tmp_path / "parts", range(3, STEPS + 1), after=2).read_text() == whole
    # of an earlier version, without checksums
    old = "\n".join(line.rpartition(",")[0] for line in whole.splitlines()[:3]) + "\n"
    (tmp_path / "parts" / LOSS).write_text(old)
    assert [row["step"] for row in read_loss(tmp_path / "parts" / LOSS)] == ["1", "2"]
    assert written(tmp_path / "parts", range(3, STEPS + 1), after=2).read_text() == whole


def test_every_byte_that_changes_and_every_row_that_goes_is_told(tmp_path: Path) -> None:
    path = written(tmp_path, range(1, STEPS + 1))
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    damaged = [b"".join(lines[:row] + lines[row + 1 :]) for row in range(1, STEPS)]
    damaged.append(b"".join([lines[0], lines[2], lines[1], *lines[3:]]))
    for place in range(len(whole) - 1):  # the last line end is that of a row that a killed run leaves torn
        for bit in (1, 16):
            damaged.append(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(MixstyleError) as caught:
            read_loss(path)
        assert (caught.value.code, caught.value.remedy) == ("damaged-file", ("train", "--rebuild"))
    path.write_bytes(whole[:-1])
    assert [row["step"] for row in read_loss(path)] == ["1", "2", "3"]
