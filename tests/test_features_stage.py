"""`mixstyle features` on a small cache: what it computes, resumes, refuses, and what a kill costs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from mixed_cache import CLIP_S, FAILED_TRACK, SHORT_TRACK, clip_of, make_stems, settings_of, write_stems
from test_features_store import digest

from mixstyle.cache.features_store import FeatureStore
from mixstyle.cache.fingerprint import fingerprint
from mixstyle.cache.shards import decode_clip, encode_clip, tar_path
from mixstyle.pipeline.descriptors import describe
from mixstyle.pipeline.errors import MixstyleError
from mixstyle.stages import features as features_stage
from mixstyle.stages.features import features

TRACKS, CLIPS, SHARDS = 8, 3, 4


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all stems and the store that one run makes of them."""
    folder = tmp_path_factory.mktemp("features")
    make_stems(folder / "stems")
    features(settings_of(folder))
    return folder


def copy_of(folder: Path, to: Path, shards: int = SHARDS) -> Path:
    """The same stems, up to a number of shards, in another folder."""
    make = to / "stems"
    make.mkdir(parents=True)
    kept = ["settings.json", "plan.jsonl.gz"]
    kept += [f"stems-{shard:06d}.{suffix}" for shard in range(shards) for suffix in ("tar", "json")]
    for name in kept:
        (make / name).write_bytes((folder / "stems" / name).read_bytes())
    return to


def test_rows_are_what_describe_gives_for_the_cached_clips(finished: Path) -> None:
    store = FeatureStore.open(finished / "features.zarr")
    values, reasons, start_s = store.values(), store.reasons, store.to_dataframe()["start_s"].to_numpy()
    for index in range(TRACKS):
        for slot in range(CLIPS):
            row = store.row(f"{index:012x}_{slot}")
            assert row == index * CLIPS + slot
            if index == FAILED_TRACK:
                assert np.isnan(values[row]).all()
                assert reasons[row] == "unreadable: lost sync at 3.2 s"
            elif (index, slot) == (SHORT_TRACK, CLIPS - 1):
                assert np.isnan(values[row]).all()
                assert np.isnan(start_s[row])
                assert reasons[row].startswith("no room")
            else:
                stems = decode_clip(*encode_clip(clip_of(index, slot)))
                expected = describe(torch.from_numpy(stems)[None]).numpy()[0]
                # alone or in a batch: sums in another order move the last bits
                np.testing.assert_allclose(values[row], expected, rtol=1e-4, atol=1e-3)
                assert (reasons[row], start_s[row]) == ("", slot * CLIP_S)
    assert store.to_dataframe()["path"].to_list()[3] == "Künstler 1/song 1.flac"


def test_statistics_of_the_training_split_are_stored(finished: Path) -> None:
    store = FeatureStore.open(finished / "features.zarr")
    stored = store.stored_statistics()
    assert stored is not None
    values = store.values()[: (TRACKS - 2) * CLIPS].astype(float)
    np.testing.assert_allclose(stored[0], np.nanmedian(values, axis=0), rtol=1e-6, atol=1e-6)


def test_a_second_run_reads_and_writes_nothing(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("describe was called")

    monkeypatch.setattr(features_stage, "describe", refuse)
    before = digest(finished / "features.zarr")
    summary = features(settings_of(finished))
    assert (summary.shards, summary.shards_computed, summary.shards_waiting) == (SHARDS, 0, 0)
    assert (summary.clips, summary.clips_failed) == (TRACKS * CLIPS - 4, 4)
    assert digest(finished / "features.zarr") == before


def test_shards_that_come_later_are_added(finished: Path, tmp_path: Path) -> None:
    folder = copy_of(finished, tmp_path / "later", shards=2)
    first = features(settings_of(folder))
    assert (first.shards_computed, first.shards_waiting, first.clips) == (2, 2, 8)
    store = FeatureStore.open(folder / "features.zarr")
    assert store.stored_statistics() is None
    for name in ("stems-000002", "stems-000003"):
        for suffix in (".tar", ".json"):
            source = finished / "stems" / f"{name}{suffix}"
            (folder / "stems" / source.name).write_bytes(source.read_bytes())
    assert features(settings_of(folder)).shards_computed == 2
    assert digest(folder / "features.zarr") == digest(finished / "features.zarr")


def test_threads_change_nothing(finished: Path, tmp_path: Path) -> None:
    folder = copy_of(finished, tmp_path / "threads")
    features(settings_of(folder, features={"workers": 5}))
    assert digest(folder / "features.zarr") == digest(finished / "features.zarr")


def test_a_damaged_shard_is_refused_by_name(finished: Path, tmp_path: Path) -> None:
    folder = copy_of(finished, tmp_path / "damaged")
    tar = tar_path(folder / "stems", 2)
    data = bytearray(tar.read_bytes())
    data[5000] ^= 1
    tar.write_bytes(bytes(data))
    with pytest.raises(MixstyleError, match=r"stems-000002.tar: its bytes .* run `mixstyle separate` again"):
        features(settings_of(folder))
    assert FeatureStore.open(folder / "features.zarr").done.tolist() == [True, True, False, False]


def test_other_stems_are_refused_until_rebuild(finished: Path, tmp_path: Path) -> None:
    folder = copy_of(finished, tmp_path / "stale")
    features(settings_of(folder))
    before = digest(folder / "features.zarr")
    # the same settings, another content: a shard that was made again on another machine, say
    tar_path(folder / "stems", 1).with_suffix(".json").unlink()
    changed = write_stems(folder / "stems", 1, TRACKS, clips=2)
    text = tar_path(folder / "stems", 1).with_suffix(".json").read_text()
    own = fingerprint({**_stem_settings(folder)})
    tar_path(folder / "stems", 1).with_suffix(".json").write_text(text.replace(changed.fingerprint, own))
    with pytest.raises(MixstyleError, match=r"features.zarr: .*stems-000001.tar holds other stems now.*--rebuild"):
        features(settings_of(folder))
    assert digest(folder / "features.zarr") == before
    assert features(settings_of(folder), rebuild=True).shards_computed == SHARDS
    assert features(settings_of(folder)).shards_computed == 0


def _stem_settings(folder: Path) -> dict[str, object]:
    from mixstyle.cache.fingerprint import read_settings

    return read_settings(folder / "stems" / "settings.json")


def test_changed_settings_are_named(finished: Path, tmp_path: Path) -> None:
    folder = copy_of(finished, tmp_path / "settings", shards=1)
    features(settings_of(folder))
    for path in (folder / "stems").iterdir():
        path.unlink()
    (folder / "stems").rmdir()
    make_stems(folder / "stems", tracks=TRACKS, clips=2)
    with pytest.raises(MixstyleError, match=r"separate.clips_per_track: 3 -> 2.*--rebuild"):
        features(settings_of(folder))
    summary = features(settings_of(folder), rebuild=True)
    assert (summary.clips, summary.clips_failed) == (TRACKS * 2 - 3, 3)
    assert [p.name for p in folder.glob(".features*")] == []


def test_no_stems_or_no_plan_say_what_to_run(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(MixstyleError, match="run `mixstyle separate` first"):
        features(settings_of(tmp_path / "nothing"))
    folder = copy_of(finished, tmp_path / "planless", shards=2)
    (folder / "stems" / "plan.jsonl.gz").unlink()
    with pytest.raises(MixstyleError, match="its plan is missing"):
        features(settings_of(folder))


def test_a_second_process_is_refused(finished: Path) -> None:
    store = FeatureStore.open(finished / "features.zarr", write=True)
    with store.locked(), pytest.raises(MixstyleError, match="another `mixstyle features`"):
        features(settings_of(finished))


RUN = """
import sys
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from pathlib import Path
from mixed_cache import settings_of
from mixstyle.stages.features import features
print("ready", flush=True)
features(settings_of(Path({folder!r})))
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_as_an_unbroken_one(finished: Path, tmp_path: Path) -> None:
    folder = copy_of(finished, tmp_path / "killed")
    script = RUN.format(tests=str(Path(__file__).parent), folder=str(folder))
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=os.environ)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    while process.poll() is None and _done(folder) < 2:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    done = _done(folder)
    assert 2 <= done < SHARDS, "killed too late to show anything"
    # what was done before the kill is not done again
    assert features(settings_of(folder)).shards_computed == SHARDS - done
    assert digest(folder / "features.zarr") == digest(finished / "features.zarr")


def _done(folder: Path) -> int:
    """Shards marked done, seen from outside: by their chunks' names."""
    return len([p for p in (folder / "features.zarr" / "done" / "c").glob("*") if p.name.isdecimal()])
