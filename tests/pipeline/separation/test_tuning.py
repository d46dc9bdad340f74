"""The self-tuning: it prefers what was faster, measures once, and a folder keeps what it was begun with."""

import json
import mmap
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.small_separator import profile, write_separator, write_songs
from torch import Tensor

from mixstyle.cache.storage.atomic import read_json, write_json
from mixstyle.cache.storage.tuning_cache import load_tuning, machine, store_tuning, tunings_folder
from mixstyle.pipeline.separation import tuning
from mixstyle.pipeline.separation.separator import Separator, load_separator
from mixstyle.pipeline.separation.tuning import LARGEST_BATCH, Tuning, streams_on, tune
from mixstyle.stages.separate.stage import make_shard, open_run, separate
from mixstyle.stages.separate.tuned_streams import tuned_separation


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


class Timed(Separator):
    """A separator whose network takes as long as it is told, for a batch."""

    cost_s: Callable[[int], float]

    def run_network(self, chunks: Tensor) -> Tensor:
        import time

        time.sleep(self.cost_s(len(chunks)) * chunks.shape[-1] / self.chunk_frames)
        return torch.zeros(len(chunks), 4, *chunks.shape[1:])


def timed(folder: Path, cost_s: Callable[[int], float]) -> Separator:
    separator = load_separator(*write_separator(folder))
    separator.__class__ = Timed
    separator.cost_s = cost_s  # type: ignore[attr-defined]
    return separator


def test_it_takes_the_batch_that_is_fastest(tmp_path: Path) -> None:
    # 100 ms a batch and 1 ms a chunk: 101, 51, 26, 14, 7, 4 ms a chunk for 1, 2, 4, 8, 16, 32
    found = tune(timed(tmp_path, lambda n: 0.1 + 0.001 * n), threads=1, threads_per_stream=1)
    assert found.batch_chunks == LARGEST_BATCH
    assert found.chunk_s["1 stream x 1 thread, batch 1"] == pytest.approx(0.101, rel=0.5)  # a sleep may be late
    # larger batches take longer for each chunk: the single one
    assert tune(timed(tmp_path, lambda n: 0.03 * n**1.3), threads=1, threads_per_stream=1).batch_chunks == 1


def test_what_is_given_is_not_tried(tmp_path: Path) -> None:
    found = tune(timed(tmp_path, lambda n: 0.002 * n), threads=4, threads_per_stream=2, batch_chunks=3)
    assert (found.threads_per_stream, found.batch_chunks, found.chunk_s) == (2, 3, {})


def test_streams_share_the_threads_as_far_as_memory_goes(tmp_path: Path) -> None:
    # sleeping streams do not hinder each other: more of them are faster
    separator = timed(tmp_path, lambda n: 0.02 * n)
    assert tune(separator, threads=4, batch_chunks=1).threads_per_stream == 1
    assert [streams_on(separator.device, 4, n) for n in (1, 2, 4)] == [4, 2, 1]

    class Large(Timed):
        def run_network(self, chunks: Tensor) -> Tensor:
            # 64 MB for a whole chunk, of the system's own: torch's could come from memory that was freed before
            with mmap.mmap(-1, 64_000_000 * chunks.shape[-1] // self.chunk_frames) as memory:
                memory[:] = bytes([1]) * len(memory)
                return super().run_network(chunks)

    separator.__class__ = Large
    assert tune(separator, threads=4, batch_chunks=1, memory_bytes=1e6).threads_per_stream == 4


def test_a_tuning_is_kept_and_what_is_no_tuning_counts_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = {"device": "a", "threads": 2}
    found = Tuning(2, 4, {"1 streams": 0.5})
    path = store_tuning(case, found)
    assert path is not None
    assert path.parent == tunings_folder() == tmp_path / "xdg" / "mixstyle" / "tunings"
    assert load_tuning(case) == found
    assert load_tuning({**case, "threads": 3}) is None
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 2}))
    assert load_tuning(case) is None
    path.write_text("{torn")
    assert load_tuning(case) is None
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # no folder
    assert store_tuning(case, found) is None


def test_a_folder_keeps_what_it_was_begun_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tuning, "LARGEST_BATCH", 2)  # what is tried is tried above
    write_songs(tmp_path / "music", 3)
    settings = profile(tmp_path, tmp_path / "music", batch_chunks=0, streams=0, threads=2)
    run = open_run(settings)
    told = capsys.readouterr().err
    assert "measuring" in told
    assert re.search(r"batches of \d+, \d threads? a stream \(.*1 stream x 2 threads, batch 1: \d", told)
    stored = json.loads((tmp_path / "stems" / "settings.json").read_text())["settings"]
    assert (stored["threads_per_stream"], stored["batch_chunks"]) == (
        run.streams.threads_per_stream,
        run.streams.batch_chunks,
    )
    first = make_shard(run, 0)

    # another machine, whose tuning would find otherwise, goes on with the folder's
    for kept in tunings_folder().iterdir():
        write_json(kept, {**read_json(kept), "threads_per_stream": 2, "batch_chunks": 16}, checksum=True)
    assert separate(settings).shards_made == 1
    assert "measuring" not in capsys.readouterr().err
    assert make_shard(open_run(settings), 0) == first
    # a new folder takes what is kept, without measuring
    fresh = replace(settings, separate=replace(settings.separate, stems_dir=tmp_path / "other"))
    streams = open_run(fresh).streams
    assert (streams.threads_per_stream, streams.batch_chunks) == (2, 16)
    assert "measuring" not in capsys.readouterr().err


def test_mixes_that_are_separated_one_after_the_other_tell_once_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tuning, "LARGEST_BATCH", 2)
    settings = profile(tmp_path, tmp_path, batch_chunks=0, streams=0, threads=1)
    separator = load_separator(*write_separator(tmp_path))
    separate_mixes = tuned_separation(settings.separate, separator)
    mix = torch.randn(2, 44_100, generator=torch.Generator().manual_seed(0))
    first, second = (separate_mixes([mix])[0] for _ in range(2))
    assert torch.equal(first, second)
    assert len(re.findall(r"batches of \d+", capsys.readouterr().err)) == 1


def test_a_limit_on_instructions_is_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for variable in ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY"):
        monkeypatch.delenv(variable, raising=False)
    free = machine(cpu)
    assert set(free) == {"device", "torch"}, "as in tunings that are stored already"
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    first = machine(cpu)
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    assert len({str(kind) for kind in (free, first, machine(cpu))}) == 3
