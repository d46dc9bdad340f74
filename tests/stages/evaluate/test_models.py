"""Rows of an evaluation: names, the shipped encoder, and what cannot be a row."""

import shutil
import sys
from pathlib import Path

import pytest
import torch
from helpers.numbers import numbers

from mixstyle.cache.models.exports import load_encoder, save_export
from mixstyle.cache.stem_store.stem_cache import CachedTrack
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.common.assets import shipped_encoder
from mixstyle.stages.evaluate import models as module
from mixstyle.stages.evaluate.models import SHIPPED, EncoderRow, StemFX, rows_of, with_shipped

CPU = torch.device("cpu")
NEVER_TRAINED_ON = [CachedTrack("000000000001", "a.flac", "test", 0, 0, (), (0, 0))]


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some encoder that is not the shipped one."""
    path = tmp_path_factory.mktemp("models") / "mine.safetensors"
    save_export(path, load_encoder(shipped_encoder()), "a card", half=True)
    return path


def names(rows: list) -> list[str]:
    return [row.name for row in rows]


def test_the_shipped_encoder_stands_beside_a_checkpoint(export: Path) -> None:
    rows = with_shipped(rows_of([export], (), CPU), NEVER_TRAINED_ON, CPU)
    assert names(rows) == ["mine", SHIPPED, "untrained", "raw descriptors", "MFCC statistics"]


def test_the_shipped_encoder_is_one_row_under_its_own_name(tmp_path: Path) -> None:
    copy = tmp_path / "copy.safetensors"
    shutil.copy(shipped_encoder(), copy)
    rows = with_shipped(rows_of([copy], (), CPU), NEVER_TRAINED_ON, CPU)
    assert names(rows) == [SHIPPED, "untrained", "raw descriptors", "MFCC statistics"]


def test_the_shipped_encoder_is_left_out_where_it_was_trained_on_the_songs(
    export: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of([shipped_encoder()], (), CPU)
    assert isinstance(rows[0], EncoderRow)
    known = CachedTrack(f"{rows[0].trained_on[0]:012x}", "b.flac", "test", 0, 0, (), (0, 0))
    found = with_shipped(rows_of([export], (), CPU), [*NEVER_TRAINED_ON, known], CPU)
    assert SHIPPED not in names(found)
    _, named, why = capsys.readouterr().err.partition(SHIPPED)
    assert (named, numbers(why)) == (SHIPPED, [1, 2]), "one of the two songs"


def test_a_shipped_encoder_that_does_not_fit_is_left_out(
    export: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of([export], (), CPU)

    def refuse(path: Path, device: torch.device) -> None:
        raise MixstyleError("of other descriptors", code="stale")

    monkeypatch.setattr(module, "load_encoder", refuse)
    assert names(with_shipped(rows, NEVER_TRAINED_ON, CPU)) == names(rows)
    assert "of other descriptors" in capsys.readouterr().err


def test_encoders_of_one_name_are_called_by_their_folders(export: Path, tmp_path: Path) -> None:
    paths = [tmp_path / run / "ckpt" / "best.safetensors" for run in ("one", "two")]
    for path in paths:
        path.parent.mkdir(parents=True)
        shutil.copy(export, path)
    assert names(rows_of(paths, (), CPU))[:2] == ["one", "two"]


@pytest.mark.parametrize("reference", ["nomodule:x", "x", "json:loads"])
def test_a_model_that_is_none_is_refused_by_name(export: Path, reference: str) -> None:
    with pytest.raises(MixstyleError) as caught:
        rows_of([export], (reference,), CPU)
    assert caught.value.code == "bad-setting"
    assert reference in str(caught.value)


def test_stemfx_without_its_weights_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "stemfx", None)
    with pytest.raises(MixstyleError) as caught:
        StemFX()
    assert caught.value.code == "no-package"
