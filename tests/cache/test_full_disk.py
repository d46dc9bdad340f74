"""Each format on a disk that is full: told in one line, and what was there stays.

A limit on the size of files stands for the disk: the system refuses to write beyond it, as it does on a full one.
"""

import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.small_encoder import write_encoder
from helpers.store_rows import shard

from mixstyle.cache.feature_store.layout import RowKeys
from mixstyle.cache.feature_store.store import FeatureStore
from mixstyle.cache.mel_store import MelStore
from mixstyle.cache.models.checkpoints import load_checkpoint, save_checkpoint
from mixstyle.cache.music.writer import AudioForm, audio_writer
from mixstyle.cache.song_index.index import IndexedSong, SongIndex
from mixstyle.cache.storage.atomic import write_bytes
from mixstyle.cache.storage.writable import REFUSALS
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.descriptors.compute import DESCRIPTORS, DESCRIPTORS_VERSION
from mixstyle.stages.demo_songs import stage as demo_songs
from mixstyle.stages.songs.embed import stage as embed
from mixstyle.stages.songs.embed.embedder import EmbeddedSong

ROOM_BYTES = 16_384


@contextmanager
def full_disk() -> Iterator[None]:
    before, writes_none = resource.getrlimit(resource.RLIMIT_FSIZE), sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # Python would keep cut bytecode of what is imported here, and fail on it later
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM_BYTES, before[1]))
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes_none
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def checkpoint(folder: Path) -> Callable[[], object]:
    content = {"encoder": {"weight": torch.rand(50_000)}, "step": 1}
    return lambda: save_checkpoint(folder / "latest.pt", content)


def export(folder: Path) -> Callable[[], object]:
    return lambda: write_encoder(folder / "encoder.safetensors")


def part(folder: Path) -> Callable[[], object]:
    rows = np.random.default_rng(0).standard_normal((40, 500)).astype(np.float32)
    songs = [IndexedSong(f"{i}.flac", 1, 2, 3.0, row, row) for i, row in enumerate(rows)]
    return lambda: SongIndex(folder).add(songs)


def descriptors(folder: Path) -> Callable[[], object]:
    rows = 100
    keys = RowKeys([f"{i}_0" for i in range(rows)], ["a"] * rows, ["b"] * rows, ["train"] * rows)
    store = FeatureStore.create(
        folder / "features.zarr",
        descriptors=DESCRIPTORS,
        descriptors_version=DESCRIPTORS_VERSION,
        keys=keys,
        rows_per_shard=rows,
        made_with={},
    )
    return lambda: store.write_shard(0, shard(store, 0))


def mels(folder: Path) -> Callable[[], object]:
    store = MelStore.open_or_create(folder / "mels.zarr", {}, rows=2, group_rows=2, shard_rows=2, mels=32, frames=64)
    values = np.random.default_rng(0).standard_normal((2, 8, 32, 64)).astype(np.float16)
    return lambda: store.write_group(0, values)


def plain(folder: Path) -> Callable[[], object]:
    return lambda: write_bytes(folder / "any.bin", bytes(2 * ROOM_BYTES))


def audio(folder: Path, name: str) -> Callable[[], object]:
    noise = np.random.default_rng(3).uniform(-1, 1, (2, ROOM_BYTES)).astype(np.float32)
    form = AudioForm.of(folder / name)

    def write() -> None:
        with audio_writer(folder / name, noise.shape[1], form) as writer:
            for start in range(0, noise.shape[1], 1000):
                writer.write(noise[:, start : start + 1000])

    return write


def wav(folder: Path) -> Callable[[], object]:
    return audio(folder, "song.wav")


def flac(folder: Path) -> Callable[[], object]:
    return audio(folder, "song.flac")


def rendered(folder: Path) -> Callable[[], object]:
    noise = np.random.default_rng(4).integers(-(2**15), 2**15, (2, ROOM_BYTES), np.int16)
    return lambda: demo_songs._write_flac(folder / "song.flac", noise)


def embeddings(folder: Path) -> Callable[[], object]:
    song = EmbeddedSong("a", 1.0, torch.rand(768), torch.rand(1, 768), torch.rand(1, 128), (0.0,))
    return lambda: embed._write(folder / "songs.npy", [(Path("a.wav"), song)] * 40)


KINDS = [checkpoint, export, part, descriptors, mels, plain, wav, flac, rendered, embeddings]


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_a_full_disk_is_told_in_one_line(make: Callable[[Path], Callable[[], object]], tmp_path: Path) -> None:
    write = make(tmp_path)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    with full_disk(), pytest.raises((MixstyleError, OSError)) as caught:
        write()
    if isinstance(caught.value, OSError):  # the command line tells those of `REFUSALS` in a line
        assert caught.value.errno in REFUSALS
    else:
        assert (caught.value.code, "\n" in str(caught.value)) == ("cannot-write", False)
    assert before <= {path for path in tmp_path.rglob("*") if path.is_file()}
    write()


def test_the_checkpoint_before_stays(tmp_path: Path) -> None:
    path = tmp_path / "latest.pt"
    save_checkpoint(path, {"step": 7})
    with full_disk(), pytest.raises(MixstyleError):
        save_checkpoint(path, {"step": 8, "encoder": torch.rand(50_000)})
    assert load_checkpoint(path)["step"] == 7
    assert [found.name for found in tmp_path.iterdir()] == ["latest.pt"]


def test_a_search_structure_that_cannot_be_kept_is_used_all_the_same(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((40, 500)).astype(np.float32)
    songs = SongIndex(tmp_path)
    songs.add([IndexedSong(f"{i}.flac", 1, 2, 3.0, row, row) for i, row in enumerate(rows)])
    with full_disk():
        found = songs.search(rows[3], 1)
    assert found[0][0].path == "3.flac"
    assert not (tmp_path / "nearest.faiss").exists()
