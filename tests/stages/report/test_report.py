"""`mixstyle report` on a small trained encoder: its numbers by another way, its files, and what it refuses."""

import csv
import dataclasses
import io
import json
import math
import os
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.digests import digest
from helpers.mixed_cache import clip_of, make_stems, settings_of
from helpers.numbers import numbers
from helpers.paths import TESTS
from matplotlib.image import imread
from scipy.spatial.distance import cdist

from mixstyle.cache.models.exports import load_encoder
from mixstyle.cache.stem_store.shards import decode_clip, encode_clip
from mixstyle.cache.stem_store.stem_cache import CachedTrack
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.descriptors.compute import describe
from mixstyle.stages.features.stage import features
from mixstyle.stages.presentation.figures import label
from mixstyle.stages.presentation.html import Section, Table, page
from mixstyle.stages.report.figures import LossRow
from mixstyle.stages.report.results import Report, bundled, by_validation
from mixstyle.stages.report.stage import choose_split, limited, report
from mixstyle.stages.report.text import batch_of, chance_of, html
from mixstyle.stages.train.log import read_loss
from mixstyle.stages.train.stage import train

TRACKS = 10
"""One of them fails."""


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    make_stems(folder / "stems", TRACKS)
    features(settings_of(folder))
    train(settings_of(folder))
    report(settings_of(folder))
    return folder


def metrics(folder: Path) -> dict[str, dict[str, object]]:
    return json.loads((folder / "report" / "metrics.json").read_text())


def top(name: str, folder: Path, queries: np.ndarray, pool: np.ndarray) -> None:
    """Checks metrics.json's top-1 and top-5 of a row against sorted distances."""
    distance = cdist(queries, pool, "cosine")
    place = (distance < np.diag(distance)[:, None]).sum(axis=1)
    row = metrics(folder)["retrieval"][name]
    assert isinstance(row, dict)
    for k in (1, 5):
        assert row[f"top{k}"] == pytest.approx((place < k).mean(), abs=1e-12)  # both are float64
        assert row[f"top{k}_low"] <= row[f"top{k}"] <= row[f"top{k}_high"]


def stems(index: int, slot: int) -> torch.Tensor:
    return torch.from_numpy(decode_clip(*encode_clip(clip_of(index, slot))))[None]


def test_retrieval_is_what_the_encoder_alone_gives(finished: Path) -> None:
    loaded = load_encoder(finished / "checkpoints" / "best_model.pt")
    # the third track failed; the fourth has no third clip
    first = [stems(index, 0) for index in range(TRACKS) if index != 2]
    last = [stems(index, 1 if index == 3 else 2) for index in range(TRACKS) if index != 2]
    center, scale = loaded.encoder.descriptor_center, loaded.encoder.descriptor_scale
    rows: dict[str, list[np.ndarray]] = {"trained": [], "raw": []}
    for clips in (last, first):
        values = torch.cat([describe(clip) for clip in clips])
        with torch.no_grad():
            mels = torch.cat([loaded.mel(clip) for clip in clips])
            rows["trained"].append(loaded.encoder(mels, values).numpy())
        rows["raw"].append(((values - center) / scale).clamp(-5, 5).numpy())
    for name, (queries, pool) in rows.items():
        top(name, finished, queries, pool)
    found = metrics(finished)["retrieval"]
    assert (found["split"], found["queries"], found["pool"]) == ("all", 9, 9)
    assert found["chance"] == {"top1": 0.111111, "top5": 0.555556}


def test_songs_that_differ_in_their_mix_are_told_apart_by_descriptors(finished: Path) -> None:
    row = metrics(finished)["retrieval"]["raw"]
    assert isinstance(row, dict)
    assert row["top1"] > 0.6  # each song has levels, spectra and widths of its own: chance is 0.11


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.texts: dict[str, list[str]] = {"p": [], "caption": []}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag in self.texts:
            self.texts[tag].append("")
        if tag == "img":
            self.sources.append(dict(attrs)["src"] or "")
            assert dict(attrs)["alt"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data
        if self.open and self.open[-1] in self.texts:
            self.texts[self.open[-1]][-1] += data


def test_the_page_stands_alone_and_tells_the_facts(finished: Path) -> None:
    text = (finished / "report" / "report.html").read_text()
    parsed = _Page(text)
    assert parsed.open == []
    pictures = sorted((finished / "report").glob("*.png"))
    assert len(parsed.sources) == len(pictures) == 7
    assert all(source.startswith("data:image/png;base64,") for source in parsed.sources)
    assert "http" not in text
    told = " ".join(parsed.text.split())
    for fact in (
        "9 of 10; 7 train, 1 validation, 1 test",
        "1 unreadable",
        "1 no room",
        "fingerprint 5e9a7a70",
        "fp32",
        "26 of 1.5 s",
    ):
        assert fact in told, fact
    loaded = load_encoder(finished / "checkpoints" / "best_model.pt")
    assert f"step {loaded.step}" in told
    # of the 9 tracks, 7 were trained on: beside a retrieval of all tracks that has to be said
    assert [7, 9] in [numbers(paragraph) for paragraph in parsed.texts["p"]]


def test_figures_hold_pictures(finished: Path) -> None:
    for path in (finished / "report").glob("*.png"):
        image = imread(path)
        assert min(image.shape[:2]) > 400, path.name
        assert image[..., :3].std() > 0.05, path.name


def test_loss_csv_follows_the_training(finished: Path) -> None:
    def read(path: Path) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(path.read_text())))

    rows, source = read(finished / "report" / "loss.csv"), read(finished / "checkpoints" / "loss.csv")
    assert [row["step"] for row in rows] == [row["step"] for row in source]
    for row, original in zip(rows, source, strict=True):
        assert float(row["train_loss"]) == pytest.approx(float(original["train_loss"]), rel=1e-5)  # six digits


@pytest.mark.parametrize(
    "data",
    [b"step,trbin_loss,validation_loss\n1,2.5,\n", b"step,train_loss,validation_loss\n1,2.x,\n", b"\x94\xff" * 40],
)
def test_losses_that_are_damaged_are_told(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "loss.csv").write_bytes(data)
    with pytest.raises(MixstyleError) as caught:
        read_loss(tmp_path / "loss.csv")
    assert (caught.value.code, caught.value.remedy) == ("damaged-file", ("train", "--rebuild"))
    (tmp_path / "loss.csv").unlink()
    assert read_loss(tmp_path / "loss.csv") == []


def test_long_trainings_are_averaged() -> None:
    rows = [{"step": str(i), "train_loss": str(float(i)), "validation_loss": "9" if i == 40 else ""} for i in range(95)]
    found = bundled(rows, 10)
    assert len(found) == 10
    assert (found[0].step, found[0].train_loss) == (9, 4.5)
    assert (found[-1].step, found[-1].train_loss) == (94, 92.0)
    assert [row.validation_loss for row in found if np.isfinite(row.validation_loss)] == [9.0]


def test_losses_for_dvc_have_no_gaps_between_validations() -> None:
    nan = float("nan")
    rows = [
        LossRow(1, 4.0, nan),
        LossRow(2, 2.0, 2.5),
        LossRow(3, 1.0, nan),
        LossRow(4, 0.5, 1.5),
        LossRow(5, 9.0, nan),
    ]
    assert by_validation(rows) == [LossRow(2, 3.0, 2.5), LossRow(4, 0.75, 1.5)]
    assert by_validation(rows[:1]) == rows[:1]


RUN = """
import sys
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from pathlib import Path
from helpers.mixed_cache import settings_of
from mixstyle.stages.report.stage import report
print("ready", flush=True)
report(settings_of(Path({folder!r}), report={{"report_dir": {out!r}}}))
"""


@pytest.mark.slow
def test_a_killed_report_made_again_is_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    before = digest(finished / "report")
    out = tmp_path / "report"
    script = RUN.format(tests=str(TESTS), folder=str(finished), out=str(out))
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=os.environ)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    while process.poll() is None and not list(out.glob("map.png")):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert not (out / "settings.json").exists(), "killed too late to show anything"
    report(settings_of(finished, report={"report_dir": str(out)}))
    for stray in out.glob(".*.partial"):
        stray.unlink()
    assert digest(out) == before


@pytest.mark.slow
def test_an_encoder_of_other_stems_is_named_or_refused(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_stems(tmp_path / "stems", tracks=4)
    features(settings_of(tmp_path))
    with pytest.raises(MixstyleError) as caught:
        report(settings_of(tmp_path))
    assert (caught.value.code, caught.value.remedy) == ("step-missing", ("train",))
    assert str(tmp_path / "checkpoints" / "best_model.pt") in str(caught.value)
    checkpoint = finished / "checkpoints" / "best_model.pt"
    with pytest.raises(MixstyleError) as caught:
        report(settings_of(tmp_path, train={"checkpoint_dir": str(checkpoint.parent)}))
    assert caught.value.code == "stale"
    assert str(checkpoint) in str(caught.value)
    shown: list[tuple[Report, Any]] = []

    def kept(result: Report, figures: Any) -> str:
        shown.append((result, figures))
        return html(result, figures)

    monkeypatch.setattr("mixstyle.stages.report.stage.html", kept)
    summary = report(settings_of(tmp_path, report={"checkpoint": str(checkpoint), "split": "train"}))
    ((result, figures),) = shown
    page_of = _Page(summary.html.read_text())
    of_known = _Page(html(dataclasses.replace(result, known=True), figures))
    assert not result.known
    # a paragraph of the page says so, in place of how many of the tracks were trained on
    (told,) = set(page_of.texts["p"]) - set(of_known.texts["p"])
    (untold,) = set(of_known.texts["p"]) - set(page_of.texts["p"])
    assert (numbers(told), numbers(untold)) == ([], [2, 3])
    # 3 of 4 tracks are usable, and 2 of these are in the training split
    found = summary.metrics["retrieval"]
    assert (found["split"], found["queries"], found["pool"]) == ("train", 2, 3)
    assert [(name, one.queries, one.pool) for name, one in result.retrieval.items()] == [("train", 2, 3), ("all", 3, 3)]
    assert [numbers(caption) for caption in page_of.texts["caption"]] == [[2, 3], [3, 3]]


def test_a_batch_out_of_a_bank_is_told_in_groups_of_clips() -> None:
    bank = {"train": {"batch_size": 20, "objective": "chain-grid"}, "remix": {"contents": 6}}
    assert (numbers(batch_of(bank)), chance_of(bank)) == ([20, 6], pytest.approx(math.log(119)))
    ring = {"train": {"batch_size": 16, "objective": "chain-ring"}}
    assert (numbers(batch_of(ring)), chance_of(ring)) == ([16], pytest.approx(math.log(47)))


def _tracks(**counts: int) -> list[CachedTrack]:
    sides = [side for side, count in counts.items() for _ in range(count)]
    return [CachedTrack(f"{i:012x}", f"{i}.mp3", side, i, 0, (), (0, 0)) for i, side in enumerate(sides)]


def test_auto_takes_the_tracks_outside_training_where_there_are_ten() -> None:
    few, many = _tracks(train=30, validation=5, test=4), _tracks(train=30, validation=5, test=5)
    assert choose_split(few, "auto", known=True) == ("all", few)
    assert choose_split(many, "auto", known=True) == ("held-out", many[30:])
    assert choose_split(many, "auto", known=False) == ("all", many)
    assert choose_split(many, "test", known=True) == ("test", many[35:])
    with pytest.raises(MixstyleError) as caught:
        choose_split(_tracks(train=3), "test", known=True)
    assert caught.value.code == "bad-setting"
    assert "report.split=test" in str(caught.value)


def test_of_many_tracks_the_queries_are_embedded_first() -> None:
    tracks = _tracks(train=6, validation=1, test=3)
    assert limited(tracks, tracks[6:], 100) == tracks
    assert limited(tracks, tracks[6:], 6) == [*tracks[:2], *tracks[6:]]
    assert limited(tracks, tracks[6:], 3) == tracks[6:9]


def test_text_on_the_page_is_escaped() -> None:
    table = Table("<i>", ["<a>", "<b>"], [("<c>", [("<d>", "<e>")])])
    text = page("<t>", "<l>", [Section("<s>", ["<p>"], [table], facts=[("<f>", "<g>")])])
    for letter in "itlspfgabcde":
        assert f"&lt;{letter}&gt;" in text


def test_labels_are_shown_as_they_are() -> None:
    assert label("$a^2$") == r"\$a^2\$"
    assert label("_hidden") == " _hidden"
    assert label("日本 Größe") == "?? Größe"
    assert len(label("x" * 100)) == 30
