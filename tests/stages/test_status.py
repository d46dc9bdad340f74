"""`mixstyle status` beside real stages: what is done, left, failed, stale and why; and that it changes nothing."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import soundfile
from helpers.failure_log import read_failures
from helpers.mixed_cache import CLIP_S, FRAMES, clip_of, make_stems, settings_of
from helpers.numbers import numbers

from mixstyle.cache.feature_store.store import FeatureStore
from mixstyle.cache.models.checkpoints import BEST, LATEST
from mixstyle.cache.music.listing import list_tracks
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.stages.features.stage import features
from mixstyle.stages.report.stage import report
from mixstyle.stages.separate.stage import separate
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.status import StatusSummary, status
from mixstyle.stages.train.provenance import OTHER_INPUTS
from mixstyle.stages.train.stage import train

SONGS = 5
SEPARATE = {
    "input": "stems",
    "clip_s": CLIP_S,
    "clips_per_track": 2,
    "tracks_per_shard": 2,
    "validation_fraction": 0.0,
    "test_fraction": 0.0,
    "workers": 1,
}


pytestmark = pytest.mark.usefixtures("one_thread")


def here(folder: Path, **changes: dict[str, Any]) -> Settings:
    """The profile of these tests; `changes` by section."""
    return settings_of(folder, **{**changes, "separate": {**SEPARATE, **changes.get("separate", {})}})


def write_song(folder: Path, index: int) -> None:
    """Folders of stems, as Demucs writes them, with room for two clips."""
    song = folder / "music" / f"song {index}"
    song.mkdir(parents=True)
    for stem, audio in zip(STEMS, clip_of(index, 0).repeat(2, axis=-1)[..., : 2 * FRAMES], strict=True):
        soundfile.write(song / f"{stem}.wav", audio.T, SAMPLE_RATE)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every stage has run; one song lacks a stem."""
    folder = tmp_path_factory.mktemp("status")
    for index in range(SONGS):
        write_song(folder, index)
    (folder / "music" / "song 4" / "drums.wav").unlink()
    settings = here(folder)
    separate(settings)
    features(settings)
    train(settings)
    report(settings)
    return folder


def state_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file's size and time of change."""
    return {str(p.relative_to(folder)): (p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.rglob("*"))}


def has_a_line_for_each_stage(told: str, summary: StatusSummary) -> bool:
    """Its state, and what is there or else what to run."""
    lines = told.splitlines()
    return all(
        any(line.startswith(f"{one.stage}: {one.state}") and line.endswith(one.done or one.run) for line in lines)
        for one in summary.stages
    )


def test_before_anything_is_done_it_says_where_to_begin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_song(tmp_path, 0)
    summary = status(here(tmp_path))
    assert [(found.stage, found.state) for found in summary.stages] == [
        ("demo-songs", "not needed"),
        ("separate", "not started"),
        ("remix", "not needed"),
        *((stage, "not started") for stage in ("features", "train", "report", "evaluate")),
        ("index", "not needed"),
    ]
    told = capsys.readouterr().out
    assert has_a_line_for_each_stage(told, summary)
    assert (summary["separate"].run, summary["evaluate"].run) == ("mixstyle separate", "mixstyle evaluate")
    assert summary.next_command == "mixstyle separate"
    assert told.splitlines()[-1].endswith(summary.next_command)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["music", "profile.yaml"]


def test_when_all_is_done_it_tells_what_is_there_and_changes_nothing(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = here(finished)
    before = state_of(finished)
    summary = status(settings)
    assert state_of(finished) == before
    assert [(found.stage, found.state) for found in summary.stages] == [
        ("demo-songs", "not needed"),
        ("separate", "done"),
        ("remix", "not needed"),
        ("features", "done"),
        ("train", "done"),
        ("report", "done"),
        ("evaluate", "not started"),
        ("index", "not needed"),
    ]
    assert (summary.next_command, summary.left) == ("", ())
    told = capsys.readouterr().out
    assert has_a_line_for_each_stage(told, summary)
    assert numbers(summary["separate"].done)[:5] == [3, 3, 4, 5, 8], "shards, tracks and clips"
    (failed,) = summary["separate"].problems
    (failure,) = read_failures(finished / "stems" / "failures.csv")
    assert f"1 {failure.kind}" in failed
    assert f"separate: {failed}" in told.splitlines()
    assert numbers(summary["train"].done)[:4] == [4, 4, 2, 2], "steps and epochs"
    found = json.loads((finished / "report" / "metrics.json").read_text())["retrieval"]
    top1 = [round(100 * found[row]["top1"], 1) for row in ("trained", "raw", "untrained")]
    assert numbers(summary["report"].done)[-4:] == [4, *top1]
    assert "mixstyle" not in told.splitlines()[-1], "no next command"


@pytest.mark.parametrize(
    ("section", "name", "value", "stage", "told"),
    [
        ("separate", "clip_s", 1.25, "separate", "separate.clip_s: 1.5 -> 1.25"),
        ("separate", "seed", 3, "separate", "separate.seed: 0 -> 3"),
        ("separate", "silence_lufs", -50.0, "separate", "separate.silence_lufs: -60.0 -> -50.0"),
        ("train", "temperature", 0.2, "train", "train.temperature: 0.1 -> 0.2"),
        ("report", "split", "train", "report", "report.split: auto -> train"),
    ],
)
def test_a_changed_setting_is_named(finished: Path, section: str, name: str, value: Any, stage: str, told: str) -> None:
    changes = {section: {name: value}}
    if name == "clip_s":
        changes["train"] = {"clip_duration_s": value}
    found = status(here(finished, **changes))[stage]
    assert found.state == "stale"
    assert told in found.problems[-1]
    assert found.run == ("mixstyle report" if stage == "report" else f"mixstyle {stage} --rebuild")


def test_settings_that_change_nothing_make_nothing_stale(finished: Path) -> None:
    neutral = {"separate": {"workers": 3, "strict": True}, "train": {"workers": 1, "checkpoint_every": 1}}
    summary = status(here(finished, **neutral))
    assert {summary[stage].state for stage in ("separate", "features", "train", "report")} == {"done"}


def test_more_epochs_leave_steps_to_do(finished: Path) -> None:
    summary = status(here(finished, train={"num_epochs": 5}))
    assert summary["train"].state == "partly done"
    assert numbers(summary["train"].done)[:2] == [4, 10]
    assert summary.next_command == "mixstyle train"


def test_added_and_missing_music_is_noticed(finished: Path) -> None:
    write_song(finished, 9)
    music = str(finished / "music")
    try:
        found = status(here(finished))["separate"]
        assert found.state == "stale"
        _, named, change = found.problems[-1].partition(music)
        assert (named, numbers(change)[:1], "added" in change) == (music, [1], True)
    finally:
        for path in (finished / "music" / "song 9").iterdir():
            path.unlink()
        (finished / "music" / "song 9").rmdir()
    away = finished / "music"
    away.rename(finished / "elsewhere")
    try:
        found = status(here(finished))["separate"]
        assert found.state == "done"
        with pytest.raises(MixstyleError) as caught:
            list_tracks(away, "stems")
        assert caught.value.code == "not-found"
        assert str(caught.value) in found.problems[-1]
    finally:
        (finished / "elsewhere").rename(away)


def test_what_is_left_after_a_kill_is_told(tmp_path: Path) -> None:
    made = make_stems(tmp_path / "stems", shards=3)
    features(settings_of(tmp_path))
    summary = status(settings_of(tmp_path))
    assert (summary["separate"].state, summary["features"].state) == ("partly done", "partly done")
    assert numbers(summary["separate"].done)[:2] == numbers(summary["features"].done)[:2] == [3, 4], "shards"
    assert numbers(summary["separate"].done)[2:4] == [5, 8], "tracks that are there, of all of the manifest"
    assert "1 unreadable" in summary["separate"].problems[0]
    assert summary.next_command == "mixstyle separate"
    os.truncate(made[1].tar, 1000)
    summary = status(settings_of(tmp_path))
    assert summary["separate"].state == "damaged"
    assert "stems-000001.tar" in summary["separate"].problems[0]


def test_other_stems_make_what_follows_stale(finished: Path, tmp_path: Path) -> None:
    make_stems(tmp_path / "stems", tracks=4)
    # the store and the checkpoints of one folder beside the stems of another
    elsewhere = {
        "features": {"features_path": str(finished / "features.zarr")},
        "train": {"checkpoint_dir": str(finished / "checkpoints")},
    }
    summary = status(settings_of(tmp_path, **elsewhere))
    assert summary["features"].state == "stale"
    assert "separate.clips_per_track: 2 -> 3" in summary["features"].problems[0]
    assert summary["train"].state == "stale"
    assert OTHER_INPUTS["stems"] in summary["train"].problems[-1]


def test_a_training_without_a_whole_checkpoint_is_damaged(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "checkpoints", tmp_path / "checkpoints")
    settings = here(finished, train={"checkpoint_dir": str(tmp_path / "checkpoints")})
    paths = sorted((tmp_path / "checkpoints").glob("*.pt"))
    for path in paths:
        if path.name != BEST:
            path.write_bytes(b"")
    found = status(settings)["train"]
    assert (found.state, len(found.problems), BEST in found.done) == ("done", len(paths) - 1, True)
    (tmp_path / "checkpoints" / BEST).write_bytes(b"")
    found = status(settings)["train"]
    assert (found.state, found.run) == ("damaged", "mixstyle train --rebuild")
    assert str(tmp_path / "checkpoints" / LATEST) in found.problems[0]
    for path in paths:
        path.unlink()
    assert status(settings)["train"].state == "not started"
    assert (status(settings)["report"].state, status(settings)["report"].run) == ("stale", "mixstyle report")


def test_a_store_of_another_version_is_told(finished: Path) -> None:
    path = FeatureStore.open(finished / "features.zarr").path / "zarr.json"
    text = path.read_text()
    path.write_text(text.replace('"version": 1', '"version": 9'))
    try:
        found = status(here(finished))["features"]
    finally:
        path.write_text(text)
    assert found.state == "damaged"
    assert "version 9" in found.problems[0]
