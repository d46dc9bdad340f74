"""`mixstyle features` on a small cache: what it computes, resumes, refuses, and what a kill costs."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from helpers.digests import digest
from helpers.mixed_cache import CLIP_S, FAILED_TRACK, SHORT_TRACK, clip_of, make_stems, settings_of, write_stems
from helpers.paths import TESTS

from mixstyle.cache.feature_store.store import FeatureStore
from mixstyle.cache.stem_store.shards import decode_clip, encode_clip, restamp_shard, tar_path
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.cache.storage.fingerprint import fingerprint
from mixstyle.cache.storage.locks import ShardLocks
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.descriptors.compute import describe
from mixstyle.stages.features import stage as features_stage
from mixstyle.stages.features.described_stems import open_described_stems
from mixstyle.stages.features.stage import features
from mixstyle.stages.features.status import features_status

TRACKS, CLIPS, SHARDS = 8, 3, 4


pytestmark = pytest.mark.usefixtures("one_thread")


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
                # by another code, alone or in a batch: 44,100 float32 squares in another order move a power by
                # sqrt(44100) 2^-24 = 1.3e-5, a level by 6e-5 dB
                np.testing.assert_allclose(values[row], expected, rtol=0, atol=1e-4)
                assert (reasons[row], start_s[row]) == ("", slot * CLIP_S)
    assert store.to_dataframe()["path"].to_list()[3] == "Künstler 1/song 1.flac"


def test_statistics_of_the_training_split_are_stored(finished: Path) -> None:
    store = FeatureStore.open(finished / "features.zarr")
    stored = store.stored_statistics()
    assert stored is not None
    values = store.values()[: (TRACKS - 2) * CLIPS].astype(float)
    # stored as float32: half a unit in the last place, 2^-24 = 6e-8 of the number
    np.testing.assert_allclose(stored[0], np.nanmedian(values, axis=0), rtol=6.1e-8, atol=0)


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


@pytest.mark.parametrize(("shards", "ended"), [(0, False), (2, False), (SHARDS, True)])
def test_nothing_is_left_to_do_only_where_all_stems_are_there(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], shards: int, ended: bool
) -> None:
    folder = copy_of(finished, tmp_path / "waiting", shards)
    features(settings_of(folder))
    capsys.readouterr()
    summary = features(settings_of(folder))
    assert (summary.shards_computed, summary.shards_waiting) == (0, SHARDS - shards)
    (told,) = (line for line in capsys.readouterr().out.splitlines() if "features.zarr" in line)
    assert (";" in told.partition("features.zarr")[2]) == ended, "that it has ended is said behind the store's name"


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
    with pytest.raises(MixstyleError) as caught:
        features(settings_of(folder))
    assert (caught.value.code, str(tar) in str(caught.value)) == ("damaged-file", True)
    assert FeatureStore.open(folder / "features.zarr").done.tolist() == [True, True, False, False]


def test_other_stems_are_refused_until_rebuild(finished: Path, tmp_path: Path) -> None:
    folder = copy_of(finished, tmp_path / "stale")
    features(settings_of(folder))
    before = digest(folder / "features.zarr")
    # the same settings, another content: a shard that was made again on another machine, say
    tar_path(folder / "stems", 1).with_suffix(".json").unlink()
    write_stems(folder / "stems", 1, TRACKS, clips=2)
    restamp_shard(folder / "stems", 1, fingerprint({**_stem_settings(folder)}))
    with pytest.raises(MixstyleError) as caught:
        features(settings_of(folder))
    assert (caught.value.code, "stems-000001.tar" in str(caught.value)) == ("stale", True)
    assert digest(folder / "features.zarr") == before
    assert features(settings_of(folder), rebuild=True).shards_computed == SHARDS
    assert features(settings_of(folder)).shards_computed == 0


def _stem_settings(folder: Path) -> dict[str, object]:
    from mixstyle.cache.storage.provenance import read_provenance

    return read_provenance(folder / "stems" / "settings.json").flat


def test_changed_settings_are_named(finished: Path, tmp_path: Path) -> None:
    folder = copy_of(finished, tmp_path / "settings", shards=1)
    features(settings_of(folder))
    for path in (folder / "stems").iterdir():
        path.unlink()
    (folder / "stems").rmdir()
    make_stems(folder / "stems", tracks=TRACKS, clips=2)
    with pytest.raises(MixstyleError) as caught:
        features(settings_of(folder))
    assert (caught.value.code, "separate.clips_per_track: 3 -> 2" in str(caught.value)) == ("stale", True)
    summary = features(settings_of(folder), rebuild=True)
    assert (summary.clips, summary.clips_failed) == (TRACKS * 2 - 3, 3)
    assert [p.name for p in folder.glob(".features*")] == [".features.zarr.lock"]


def test_no_stems_or_no_plan_say_what_to_run(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(MixstyleError) as caught:
        features(settings_of(tmp_path / "nothing"))
    assert caught.value.code == "step-missing"
    folder = copy_of(finished, tmp_path / "planless", shards=2)
    (folder / "stems" / "plan.jsonl.gz").unlink()
    with pytest.raises(MixstyleError) as caught:
        features(settings_of(folder))
    assert (caught.value.code, "plan" in str(caught.value)) == ("step-missing", True)


def test_a_run_beside_another_of_the_same_process_is_refused(finished: Path) -> None:
    with (
        ShardLocks(finished / "features.zarr", "mixstyle features"),
        pytest.raises(MixstyleError) as caught,
    ):
        features(settings_of(finished))
    assert caught.value.code == "in-use"


def test_shares_fill_a_store_one_after_the_other(finished: Path, tmp_path: Path) -> None:
    folder = copy_of(finished, tmp_path / "shares")
    first = features(settings_of(folder), shard_index=1, num_shards=3)
    assert (first.shards_computed, first.shards_elsewhere, first.shards_waiting) == (1, 3, 0)
    assert FeatureStore.open(folder / "features.zarr").done.tolist() == [False, True, False, False]
    assert FeatureStore.open(folder / "features.zarr").stored_statistics() is None
    assert features(settings_of(folder), shard_index=1, num_shards=3).shards_computed == 0
    assert features(settings_of(folder), shard_index=0, num_shards=3).shards_computed == 2
    last = features(settings_of(folder), shard_index=2, num_shards=3)
    assert (last.shards_computed, last.shards_elsewhere) == (1, 0)
    # the statistics too, which the last share wrote
    assert digest(folder / "features.zarr") == digest(finished / "features.zarr")


@pytest.mark.parametrize(("index", "shares"), [(2, 2), (-1, 2), (0, 0)])
def test_shares_that_are_none_are_refused(finished: Path, index: int, shares: int) -> None:
    with pytest.raises(MixstyleError) as caught:
        features(settings_of(finished), shard_index=index, num_shards=shares)
    told = f"--shard-index {index}" if shares else "--num-shards 0"
    assert (caught.value.code, told in str(caught.value)) == ("bad-option", True)


HOLD = """
import sys
from pathlib import Path
from mixstyle.cache.storage.locks import ShardLocks
with ShardLocks(Path(sys.argv[1]), "mixstyle features") as locks:
    print(locks.take([int(k) for k in sys.argv[2:]]), flush=True)
    sys.stdin.readline()
"""


@contextlib.contextmanager
def held(store: Path, shards: list[int]) -> Iterator[None]:
    """Another process that computes these shards."""
    command = [sys.executable, "-c", HOLD, str(store), *map(str, shards)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{shards}\n"
        yield
        process.communicate("\n", timeout=30)


def test_shards_that_another_process_computes_are_left_to_it(finished: Path, tmp_path: Path) -> None:
    folder = copy_of(finished, tmp_path / "held")
    with held(folder / "features.zarr", [0, 3]):
        summary = features(settings_of(folder))
        assert (summary.shards_computed, summary.shards_elsewhere) == (2, 2)
        with pytest.raises(MixstyleError) as caught:
            features(settings_of(folder))
        assert caught.value.code == "in-use"
    # It died without a word: what it held is anybody's again.
    assert features(settings_of(folder)).shards_computed == 2
    assert digest(folder / "features.zarr") == digest(finished / "features.zarr")


def test_a_store_that_is_being_filled_is_not_thrown_away(finished: Path, tmp_path: Path) -> None:
    folder = copy_of(finished, tmp_path / "filling", shards=1)
    features(settings_of(folder))
    for path in (folder / "stems").iterdir():
        path.unlink()
    (folder / "stems").rmdir()
    make_stems(folder / "stems", tracks=TRACKS, clips=2)
    before = digest(folder / "features.zarr")
    with held(folder / "features.zarr", [2]), pytest.raises(MixstyleError) as caught:
        features(settings_of(folder), rebuild=True)
    assert caught.value.code == "in-use"
    assert digest(folder / "features.zarr") == before


RUN = """
import sys
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from pathlib import Path
from helpers.mixed_cache import settings_of
from mixstyle.stages.features.described_stems import open_described_stems
from mixstyle.stages.features.stage import features
from mixstyle.stages.features.status import features_status
print("ready", flush=True)
sys.stdin.readline()
features(settings_of(Path({folder!r})), False, {index}, {shares})
"""


def run_in_background(folder: Path, index: int = 0, shares: int = 1) -> "subprocess.Popen[str]":
    """A process that fills a share once it is told to `start`."""
    script = RUN.format(tests=str(TESTS), folder=str(folder), index=index, shares=shares)
    return subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ
    )


def start(*processes: "subprocess.Popen[str]") -> None:
    """Has them begin together, once all have loaded."""
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()


def test_what_a_run_that_was_killed_at_its_beginning_left_is_removed(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_of(finished, tmp_path / "begun")

    def killed(*_: object) -> None:
        (unfinished,) = folder.glob(".features.zarr.*.partial")
        shutil.copytree(unfinished, tmp_path / "left" / unfinished.name)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(zarr, "consolidate_metadata", killed)  # the last step before the rename
        with pytest.raises(KeyboardInterrupt):
            features(settings_of(folder))
    assert not list(folder.glob(".features.zarr.*.partial"))
    shutil.copytree(tmp_path / "left", folder, dirs_exist_ok=True)  # SIGKILL would not have let it be removed
    assert len(list(folder.glob(".features.zarr.*.partial"))) == 1
    (folder / ".features.zarr.mine").mkdir()
    features(settings_of(folder))
    assert sorted(path.name for path in folder.glob(".features.zarr*")) == [
        ".features.zarr.lock",
        ".features.zarr.mine",
    ]
    assert (folder / "features.zarr").is_dir()


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_as_an_unbroken_one(finished: Path, tmp_path: Path) -> None:
    folder = copy_of(finished, tmp_path / "killed")
    process = run_in_background(folder)
    start(process)
    while process.poll() is None and _done(folder) < 2:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    done = _done(folder)
    assert 2 <= done < SHARDS, "killed too late to show anything"
    # what was done before the kill is not done again
    assert features(settings_of(folder)).shards_computed == SHARDS - done
    assert digest(folder / "features.zarr") == digest(finished / "features.zarr")


@pytest.mark.slow
def test_two_processes_at_once_of_which_one_is_killed_lose_nothing(tmp_path: Path) -> None:
    tracks, shards = 16, 8
    make_stems(tmp_path / "two" / "stems", tracks)
    make_stems(tmp_path / "one" / "stems", tracks)
    features(settings_of(tmp_path / "one"))
    folder = tmp_path / "two"
    processes = [run_in_background(folder, index, 2) for index in (0, 1)]
    start(*processes)
    while processes[0].poll() is None and not _done_by(folder, 0):
        time.sleep(0.002)
    processes[0].send_signal(signal.SIGKILL)
    for process in processes:
        process.communicate(timeout=60)
    assert processes[1].returncode == 0
    assert _done_by(folder, 1) == {1, 3, 5, 7}
    left = {0, 2, 4, 6} - _done_by(folder, 0)
    assert 0 < len(left) < 4, "killed too late to show anything"
    last = features(settings_of(folder), shard_index=0, num_shards=2)
    assert (last.shards_computed, last.shards_elsewhere, last.shards) == (len(left), 0, shards)
    assert digest(folder / "features.zarr") == digest(tmp_path / "one" / "features.zarr")


def _done_by(folder: Path, index: int) -> set[int]:
    """Shards of one of two shares that are marked done."""
    names = [p.name for p in (folder / "features.zarr" / "done" / "c").glob("*")]
    return {int(name) for name in names if name.isdecimal() and int(name) % 2 == index}


def _done(folder: Path) -> int:
    """Shards marked done, seen from outside: by their chunks' names."""
    return len([p for p in (folder / "features.zarr" / "done" / "c").glob("*") if p.name.isdecimal()])


def test_a_lost_chunk_is_told_by_those_who_read_and_computed_again(finished: Path, tmp_path: Path) -> None:
    folder = copy_of(finished, tmp_path / "lost")
    shutil.copytree(finished / "features.zarr", folder / "features.zarr")
    (folder / "features.zarr" / "descriptors" / "c" / "3" / "0").unlink()
    settings = settings_of(folder)
    _, status = features_status(settings, StemCache(folder / "stems"))
    assert (status.state, status.run, len(status.problems)) == ("damaged", "mixstyle features", 1)
    with pytest.raises(MixstyleError) as caught:
        open_described_stems(settings)
    assert (caught.value.code, caught.value.remedy) == ("damaged-file", ("features",))
    assert features(settings).shards_computed == 1
    assert digest(folder / "features.zarr") == digest(finished / "features.zarr")
    assert features_status(settings, StemCache(folder / "stems"))[1].state == "done"


@pytest.mark.parametrize("name", ["zarr.json", "descriptors/zarr.json", "clip_id/c/0"])
def test_a_store_that_is_damaged_as_a_whole_is_told_and_rebuilt(finished: Path, tmp_path: Path, name: str) -> None:
    folder = copy_of(finished, tmp_path / "damaged")
    shutil.copytree(finished / "features.zarr", folder / "features.zarr")
    damaged = folder / "features.zarr" / name
    damaged.write_bytes(damaged.read_bytes()[:-9])
    settings = settings_of(folder)
    for command in (features, open_described_stems):
        with pytest.raises(MixstyleError) as caught:
            command(settings)
        assert (caught.value.code, caught.value.remedy) == ("damaged-file", ("features", "--rebuild"))
    assert features_status(settings, StemCache(folder / "stems"))[1].state == "damaged"
    assert features(settings, rebuild=True).shards_computed == SHARDS
    assert digest(folder / "features.zarr") == digest(finished / "features.zarr")


def test_rebuild_deletes_nothing_that_is_no_store(finished: Path, tmp_path: Path) -> None:
    folder = copy_of(finished, tmp_path / "own", shards=2)
    path = folder / "features.zarr"
    path.mkdir()
    (path / "thesis.txt").write_text("the only copy")
    for rebuild in (False, True):
        with pytest.raises(MixstyleError) as caught:
            features(settings_of(folder), rebuild=rebuild)
        assert (caught.value.code, (path / "thesis.txt").read_text()) == ("wrong-file", "the only copy")
    shutil.rmtree(path)
    path.write_text("the only copy")
    with pytest.raises(MixstyleError) as caught:
        features(settings_of(folder), rebuild=True)
    assert (caught.value.code, path.read_text()) == ("wrong-file", "the only copy")


def test_rebuild_computes_all_of_it_though_nothing_changed(finished: Path, tmp_path: Path) -> None:
    folder = copy_of(finished, tmp_path / "again", shards=2)
    assert features(settings_of(folder)).shards_computed == 2
    assert features(settings_of(folder)).shards_computed == 0
    assert features(settings_of(folder), rebuild=True).shards_computed == 2
    # each of several processes is given the option: the second does not undo what the first has made
    assert features(settings_of(folder), rebuild=True, shard_index=0, num_shards=2).shards_computed == 0
