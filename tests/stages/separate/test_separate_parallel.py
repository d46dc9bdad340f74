"""Several processes fill one folder of stems: they share the shards out, and the bytes are those of one process."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from helpers.numbers import numbers
from helpers.small_separator import RATE, hashes, profile, song, write_separator, write_songs
from torch import Tensor

from mixstyle.cache.music.clip_positions import clip_starts
from mixstyle.cache.music.decode_pool import DecodedWindows, Decoder, Files
from mixstyle.cache.stem_store.shards import read_shard
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.separation.separator import Separator
from mixstyle.stages.separate.stage import separate
from mixstyle.stages.separate.tuned_streams import check_one_kind
from mixstyle.stages.settings.profile import Settings

SONGS, SHARDS = 8, 4


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Music, a separator, and what one process makes of them."""
    folder = tmp_path_factory.mktemp("parallel")
    write_songs(folder / "music", SONGS, seconds=2.0)
    write_separator(folder / "separator", num_overlap=1)
    (folder / "music" / "broken.mp3").write_text("no music")
    (folder / "music" / "song 7.flac").unlink()
    separate(profile(folder, folder / "music", threads=2, streams=2))
    return folder


@pytest.fixture
def settings(folder: Path, tmp_path: Path) -> Settings:
    """The same, still to be made."""
    shutil.copytree(folder / "separator", tmp_path / "separator")
    return profile(tmp_path, folder / "music", threads=2, streams=2)


def start(tmp_path: Path, *options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "mixstyle.stages", "separate", "--config", str(tmp_path / "profile.yaml")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*command, *options], env=environment, text=True, **pipes)  # type: ignore[call-overload]


@pytest.mark.slow
def test_shares_side_by_side_give_the_bytes_of_one_process(folder: Path, settings: Settings, tmp_path: Path) -> None:
    with start(tmp_path, "--shard-index", "1", "--num-shards", "2") as process:
        ours = separate(settings, shard_index=0, num_shards=2)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert ours.shards_made == SHARDS // 2
    assert hashes(tmp_path / "stems") == hashes(folder / "stems")
    assert StemCache(tmp_path / "stems").complete


def test_shares_one_after_the_other_give_the_bytes_of_one_process(
    folder: Path, settings: Settings, tmp_path: Path
) -> None:
    for place in (1, 0):
        assert separate(settings, shard_index=place, num_shards=2).shards_made == SHARDS // 2
    assert hashes(tmp_path / "stems") == hashes(folder / "stems")
    assert StemCache(tmp_path / "stems").complete


@pytest.mark.slow
def test_a_worker_on_each_device_gives_the_bytes_of_one_process(
    folder: Path, settings: Settings, tmp_path: Path
) -> None:
    summary = separate(replace(settings, separate=replace(settings.separate, devices=("cpu", "cpu"))))
    assert (summary.tracks_done, summary.tracks_failed) == (SONGS - 1, 1)
    assert hashes(tmp_path / "stems") == hashes(folder / "stems")


@pytest.mark.slow
def test_a_killed_parent_takes_its_workers_along_and_the_next_run_goes_on(
    folder: Path, settings: Settings, tmp_path: Path
) -> None:
    process = start(tmp_path, "--devices", "cpu,cpu")
    stop = time.monotonic() + 120
    while not list((tmp_path / "stems").glob("stems-*.json")):
        assert process.poll() is None
        assert time.monotonic() < stop
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)  # ends with the workers, who hold its standard error
    made = len(list((tmp_path / "stems").glob("stems-*.json")))
    assert separate(settings).shards_made == SHARDS - made
    assert hashes(tmp_path / "stems") == hashes(folder / "stems")


@pytest.mark.slow
def test_a_worker_that_dies_is_named(settings: Settings, tmp_path: Path) -> None:
    process = start(tmp_path, "--devices", "cpu,cpu")
    children: list[str] = []
    while len(children) < 2 and process.poll() is None:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        time.sleep(0.005)
    os.kill(int(children[0]), signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    (line,) = (line for line in errors.splitlines() if "SIGKILL" in line)
    assert "cpu" in line
    assert "Traceback" not in errors
    assert separate(settings).tracks_done == SONGS - 1


HOLD = """
import sys, pathlib
from mixstyle.cache.storage.locks import ShardLocks
with ShardLocks(pathlib.Path(sys.argv[1]), "mixstyle separate") as locks:
    print(locks.take(range(int(sys.argv[2]))), flush=True)
    sys.stdin.read()
"""


def test_shards_in_other_hands_are_left_alone(settings: Settings, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    stems = tmp_path / "stems"
    for held in (3, SHARDS):
        command = [sys.executable, "-c", HOLD, str(stems), str(held)]
        with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            assert json.loads(holder.stdout.readline()) == list(range(held))
            if held < SHARDS:
                summary = separate(settings)
                assert (summary.shards_made, summary.shards_elsewhere) == (1, 3)
            else:
                for rebuild in (False, True):  # nothing is deleted while another process writes
                    with pytest.raises(MixstyleError) as caught:
                        separate(settings, rebuild=rebuild)
                    assert caught.value.code == "in-use"
            assert (stems / "stems-000003.json").exists()
            holder.communicate()
    assert separate(settings).shards_made == 3


def test_shares_and_devices_that_cannot_be_are_told(settings: Settings) -> None:
    with pytest.raises(MixstyleError) as caught:
        separate(settings, shard_index=3, num_shards=3)
    assert caught.value.code == "bad-option"
    assert "--shard-index 3" in str(caught.value)
    elsewhere = replace(settings, separate=replace(settings.separate, devices=("cuda:98", "cuda:99")))
    with pytest.raises(MixstyleError) as caught:
        separate(elsewhere)
    assert caught.value.code == "no-device"
    assert "cuda:98" in str(caught.value)
    assert "--devices c" in str(caught.value)  # --device would not take their place


def test_a_reduced_batch_is_reported_and_recorded_with_its_shard(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Memory is made to end after the first batch of the second shard."""
    shutil.copytree(folder / "separator", tmp_path / "separator")
    chosen = profile(tmp_path, folder / "music", batch_chunks=4)
    whole, full = Separator.run_network, 4

    def scarce(self: Separator, chunks: Tensor) -> Tensor:
        nonlocal full
        if len(chunks) > full:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if (tmp_path / "stems" / "stems-000000.json").exists():
            full = 2
        return whole(self, chunks)

    monkeypatch.setattr(Separator, "run_network", scarce)
    separate(chosen)
    told = capsys.readouterr()
    (reduced,), (summed_up,) = (
        [line for line in text.splitlines() if "memory" in line] for text in (told.err, told.out)
    )
    assert (numbers(reduced), "cpu" in reduced, numbers(summed_up)[-1]) == ([2], True, 2)
    sizes = []
    for number in range(SHARDS):
        shard = read_shard(tmp_path / "stems", number)
        assert shard is not None
        sizes.append([track.get("batch_chunks") for track in shard.tracks if track["status"] == "ok"])
    assert sizes[0] == [None] * len(sizes[0])
    assert sizes[-1] == [[2]] * len(sizes[-1])
    theirs, ours = StemCache(folder / "stems"), StemCache(tmp_path / "stems")
    for one, other in zip(theirs.tracks, ours.tracks, strict=True):
        for clip, same in zip(one.clips, other.clips, strict=True):
            # a step of 16 bits, and float32 sums in another order
            np.testing.assert_allclose(theirs.read_clip(clip), ours.read_clip(same), atol=clip.scale / 32_768 + 1e-6)


def test_a_clip_costs_its_own_chunks_and_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two clips of 10 s from 4 minutes with the published chunk and overlap, all at a tenth: 15 of 94 chunks."""
    config, _ = write_separator(tmp_path / "separator")
    content = yaml.safe_load(config.read_text())
    chunk = 48_512  # 485,100 over ten, to the next multiple of the overlap
    content["audio"]["chunk_size"], content["inference"]["num_overlap"] = chunk, 4
    config.write_text(yaml.safe_dump(content))
    (tmp_path / "music").mkdir()
    soundfile.write(tmp_path / "music" / "song.flac", np.tile(song(0, 1.0), (24, 1)), RATE)
    chunks, decoded = [], []
    whole, read = Separator.run_network, Decoder.read

    def counted(self: Separator, batch: Tensor) -> Tensor:
        chunks.append(len(batch))
        return whole(self, batch)

    def noted(self: Decoder, files: Files, windows: list[tuple[int, int]], measure: bool = False) -> DecodedWindows:
        result = read(self, files, windows, measure)
        decoded.append(sum(window.audio.shape[-1] for window in result.windows))
        return result

    monkeypatch.setattr(Separator, "run_network", counted)
    monkeypatch.setattr(Decoder, "read", noted)
    chosen = profile(tmp_path, tmp_path / "music", clip_s=1.0, clips_per_track=2, batch_chunks=4)
    chosen = replace(chosen, train=replace(chosen.train, clip_duration_s=1.0))
    separate(chosen)
    step, length = chunk // 4, 24 * RATE
    border = chunk - step
    every = -(-(length + 2 * border) // step)  # chunks of the whole track
    assert every == 94
    # chunk i covers the track's frames i*step - border on; those that reach into one of the clips:
    starts = [i * step - border for i in range(every)]
    cut = [start for start in clip_starts(length, RATE, 2, chosen.separate.seed) if start is not None]
    needed = [s for s in starts if any(clip - chunk < s < clip + RATE for clip in cut)]
    assert len(cut) == 2
    assert sum(chunks) == len(needed) < every // 4
    assert chunks[:-1] == [4] * (len(chunks) - 1)  # one queue: only the last batch is not full
    # each clip's seconds, and at most a chunk beyond them on either side
    assert sum(decoded) <= 2 * (RATE + 2 * chunk)


def test_devices_are_of_one_kind() -> None:
    """A processor and a GPU differ in last bits, and bytes hang on no device that happened to be free."""
    check_one_kind([torch.device("cuda", 0), torch.device("cuda", 1)])
    with pytest.raises(MixstyleError) as caught:
        check_one_kind([torch.device("cpu"), torch.device("cuda", 0)])
    assert (caught.value.code, "cpu,cuda:0" in caught.value.message) == ("bad-setting", True)
