"""The stream of shards: its order alone, what it reads, going on exactly, and what is refused."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.small_cache import make_cache
from helpers.training import CLIP_S, profile, rows_of, settings_of

from mixstyle.cache.models.checkpoints import load_checkpoint
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.cache.stem_store.stream import stream_tracks, verified_tracks
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.features.described_stems import open_described_stems
from mixstyle.stages.features.stage import features
from mixstyle.stages.train.data import Batch, load_batches
from mixstyle.stages.train.readers import StreamReader
from mixstyle.stages.train.setup import datasets
from mixstyle.stages.train.shard_order import ShardOrder, StepDraw, fewest_tracks
from mixstyle.stages.train.stage import train

STREAM = {"reader": "stream", "stream_buffer_tracks": 4, "batch_size": 2}
SHARDS = {0: range(0, 5), 2: range(5, 9), 3: range(9, 15), 7: range(15, 20)}
"""Tracks by shard, 20 in all."""


def order(items: int = 3, buffer: int = 6, rank: int = 0, ranks: int = 1, seed: int = 0) -> ShardOrder:
    return ShardOrder(dict(SHARDS), seed=seed, buffer_tracks=buffer, items=items, rank=rank, ranks=ranks)


def own(draws: Sequence[StepDraw]) -> list[int]:
    return [track for draw in draws for track in draw.own]


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_an_epoch_gives_each_track_once_whatever_the_processes(ranks: int) -> None:
    seen: list[int] = []
    for rank in range(ranks):
        draws = [draw for draw in islice(order(1, 6, rank, ranks).steps(0), 40) if draw.rounds == 0]
        seen += own(draws)
    assert sorted(seen) == list(range(20))


def test_the_order_differs_by_epoch_seed_and_round_and_by_nothing_else() -> None:
    first = own(list(islice(order().steps(0), 12)))
    assert first == own(list(islice(order().steps(0), 12)))
    assert first[:18] != first[18:36], "the second round is in another order"
    assert first != own(list(islice(order().steps(1), 12)))
    assert first != own(list(islice(order(seed=1).steps(0), 12)))
    # a buffer of 6 mixes shards of 4 to 6 tracks: no step is of one shard's neighbours alone for long
    shard_of = {track: shard for shard, tracks in SHARDS.items() for track in tracks}
    assert any(len({shard_of[track] for track in draw.own}) > 1 for draw in islice(order().steps(0), 6))


def test_a_step_draws_from_what_was_read_and_nothing_twice() -> None:
    for rank in (0, 1):
        buffer: list[int] = []
        reads = order(2, 5, rank, 2).reads(3)
        for draw in islice(order(2, 5, rank, 2).steps(3), 30):
            assert list(draw.read) == [track for _, _, track in islice(reads, len(draw.read))]
            buffer += draw.read
            assert len(set(draw.own)) == 2
            assert all(other != mine for other, mine in zip(draw.others, draw.own, strict=True))
            assert {*draw.own, *draw.others} <= {*draw.own, *draw.held} <= set(buffer)
            assert len(draw.held) <= 5 - 2
            buffer = list(draw.held)


def test_the_place_of_reading_is_told() -> None:
    for draw in islice(order(3, 6).steps(0), 20):
        following = order(3, 6).reads(0)
        done = 0
        for step in order(3, 6).steps(0):
            done += len(step.read)
            if step == draw:
                break
        rounds, shard, track = next(islice(following, done, None))
        if draw.shard == -1:
            assert rounds > draw.rounds
        else:
            assert (shard, list(SHARDS[shard]).index(track)) == (draw.shard, draw.offset)


def test_what_cannot_fill_a_step_is_refused() -> None:
    assert fewest_tracks([5, 4, 6, 5], 2) == 9
    for wrong in ({"items": 3, "buffer": 2}, {"items": 6, "ranks": 4}, {"ranks": 5}):
        with pytest.raises(ValueError, match="buffer_tracks"):
            order(**wrong)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams")
    make_cache(folder / "stems", tracks=10, clips=3, clip_s=CLIP_S, validation=2, per_shard=3)
    features(settings_of(folder / "inputs"))
    return folder


def stream_of(shared: Path, **changes: object) -> StreamReader:
    settings = settings_of(shared / "data", **{**STREAM, **changes})
    data, _ = datasets(settings.train, *open_described_stems(settings), True)
    return StreamReader(data, settings.train.stream_buffer_tracks, range(data.batch_size))


def same(one: Batch, other: Batch) -> bool:
    return (
        one.track_ids == other.track_ids
        and one.chains == other.chains
        and torch.equal(one.stems, other.stems)
        and torch.equal(one.descriptors, other.descriptors)
    )


@pytest.mark.parametrize("objective", ["same-song", pytest.param("chain-ring", marks=pytest.mark.slow)])
def test_batches_hang_on_no_workers_and_on_no_beginning(shared: Path, objective: str) -> None:
    changes = {"objective": objective, "chain_effects": [1, 3] if objective == "chain-ring" else []}
    steps = [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (1, 0), (1, 1)]
    runs = [list(load_batches(stream_of(shared, **changes), steps, workers)) for workers in (0, 2)]
    assert all(same(one, other) for one, other in zip(*runs, strict=True))
    for first in (1, 4):
        later = list(load_batches(stream_of(shared, **changes), steps[first : first + 2], 0))
        assert all(same(one, other) for one, other in zip(later, runs[0][first : first + 2], strict=True))
    data = stream_of(shared, **changes).data
    assert sorted(name for batch in runs[0][:4] for name in batch.track_ids) == sorted(t.track_id for t in data.tracks)
    # what is streamed is what stands in the cache
    (request,) = islice(stream_of(shared, **changes).requests([(0, 0)], range(2)), 1)
    assert request.flacs
    by_place = {clip.row: data.cache.read_clip(clip) for clip in data.chosen_clips(request)}
    for clip in data.chosen_clips(request):
        np.testing.assert_array_equal(data.cache.decode(clip, request.flacs[clip.row]), by_place[clip.row])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / "ckpt" / "final_model.pt")["encoder"]


def test_a_stream_that_was_stopped_goes_on_exactly(shared: Path) -> None:
    chosen = {**STREAM, "num_epochs": 2, "validate_every": 9}
    train(settings_of(shared / "whole", **chosen, workers=2))
    for stop in (6, 0):  # in the middle of the second epoch; 8 steps in all
        train(settings_of(shared / "broken", **chosen, max_steps=stop))
    one, other = weights(shared / "whole"), weights(shared / "broken")
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert (shared / "whole" / "ckpt" / "loss.csv").read_text().count("\n") == 9
    kept = load_checkpoint(shared / "broken" / "ckpt" / "final_model.pt")["reader"]
    assert [place["steps"] for place in kept] == [4]
    assert kept == load_checkpoint(shared / "whole" / "ckpt" / "final_model.pt")["reader"]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_stream_that_was_killed_ends_as_an_unbroken_one(shared: Path, processes: int) -> None:
    changes = {**STREAM, "num_epochs": 3, "workers": 2, "processes": processes, "batch_size": 2}
    train(settings_of(shared / f"unbroken{processes}", **changes))
    folder = shared / f"killed{processes}"
    command = [sys.executable, "-m", "mixstyle.stages", "train", "--config", str(profile(folder, **changes))]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    log, deadline = folder / "ckpt" / "loss.csv", time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None and not (log.is_file() and len(rows_of(folder)) > 1):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert 0 < len(rows_of(folder)) < 12, "the run should have been killed in the middle"
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    one, other = weights(folder), weights(shared / f"unbroken{processes}")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_url_is_streamed_and_gives_what_the_folder_gives(shared: Path, tmp_path: Path) -> None:
    where = {"stems_url": f"file://{shared / 'stems'}", "stems_cache_dir": str(tmp_path / "kept")}
    for name, more in (("local", STREAM), ("url", {**STREAM, **where, "reader": "auto"})):
        train(settings_of(shared / name, **more, num_epochs=1))
    one, other = weights(shared / "local"), weights(shared / "url")
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"stream_buffer_tracks": 3, "batch_size": 4}, "train.stream_buffer_tracks=3"),
        ({"processes": 8, "batch_size": 8, "stream_buffer_tracks": 8}, "train.reader=stream"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_in_a_line(shared: Path, changes: dict[str, int], named: str) -> None:
    settings = settings_of(shared / "refused", **{**STREAM, **changes})
    data, _ = datasets(settings.train, *open_described_stems(settings), True)
    ranks = settings.train.processes
    with pytest.raises(MixstyleError) as caught:
        StreamReader(data, settings.train.stream_buffer_tracks, range(data.batch_size // ranks), 0, ranks)
    assert caught.value.code == "bad-setting"
    assert named in str(caught.value)


def test_a_stream_of_another_buffer_does_not_go_on(shared: Path) -> None:
    train(settings_of(shared / "buffer", **STREAM, num_epochs=1, max_steps=1))
    for more in ({"stream_buffer_tracks": 5}, {"reader": "random"}):
        with pytest.raises(MixstyleError) as caught:
            train(settings_of(shared / "buffer", **{**STREAM, **more}, num_epochs=1))
        assert f"train.{next(iter(more))}" in str(caught.value)


def test_a_tar_that_is_not_what_its_sidecar_says_is_named(shared: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(shared / "stems", tmp_path / "stems")
    cache = StemCache(tmp_path / "stems")
    tracks = [track for track in cache.tracks if track.shard == 1]
    tar = cache.shards[1].tar
    whole = tar.read_bytes()
    flipped = bytearray(whole)
    flipped[tracks[1].clips[0].offset + 3000] ^= 1
    header = bytearray(whole)
    header[tracks[1].clips[0].offset - 512 : tracks[1].clips[0].offset - 400] = b"x" * 112
    for bad, streamed in ((whole[: len(whole) // 2], False), (bytes(header), False), (bytes(flipped), True)):
        tar.write_bytes(bad)
        if not streamed:  # one wrong byte of a FLAC is for the decoder or the hash to find
            with pytest.raises(MixstyleError) as caught:
                list(stream_tracks(cache, [tracks]))
            assert (caught.value.code, str(tar) in str(caught.value)) == ("damaged-file", True)
        with pytest.raises(MixstyleError) as caught:
            list(verified_tracks(cache, cache.shards[1], tracks))
        assert (caught.value.code, str(tar) in str(caught.value)) == ("damaged-file", True)
    tar.write_bytes(whole)
    found = list(verified_tracks(cache, cache.shards[1], tracks))
    assert [track for track, _ in found] == tracks
    assert list(stream_tracks(cache, [tracks[1:], tracks[:1]])) == [*found[1:], found[0]]
