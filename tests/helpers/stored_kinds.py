"""Small stored files of every kind, and how each is read."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from helpers.mixed_cache import make_stems
from helpers.small_encoder import write_encoder
from mixstyle.cache.mel_store import MelStore
from mixstyle.cache.models.checkpoints import load_checkpoint, save_checkpoint
from mixstyle.cache.models.exports import load_export
from mixstyle.cache.song_index.index import IndexedSong, SongIndex
from mixstyle.cache.stem_store.manifest import load_manifest
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.cache.storage.provenance import read_provenance


@dataclass(frozen=True)
class Stored:
    """A file, and what is read of it, as something that can be compared."""

    path: Path
    read: Callable[[], Any]


def stems(folder: Path) -> StemCache:
    make_stems(folder / "stems", tracks=2, clips=2)
    return StemCache(folder / "stems")


def sidecar(folder: Path) -> Stored:
    stems(folder)
    return Stored(folder / "stems" / "stems-000000.json", lambda: StemCache(folder / "stems").shards)


def shard(folder: Path) -> Stored:
    cache = stems(folder)
    clip, track = cache.tracks[0].clips[0], cache.tracks[0]

    def read() -> Any:
        StemCache(folder / "stems").verify()
        return cache.read_metadata(track), cache.read_clip(clip).tobytes()

    return Stored(cache.shards[0].tar, read)


def manifest(folder: Path) -> Stored:
    stems(folder)
    path = folder / "stems" / "plan.jsonl.gz"
    return Stored(path, lambda: load_manifest(path))


def settings(folder: Path) -> Stored:
    stems(folder)
    path = folder / "stems" / "settings.json"
    return Stored(path, lambda: read_provenance(path).to_json())


def index_of(folder: Path) -> SongIndex:
    rng = np.random.default_rng(3)
    songs = SongIndex(folder)
    vectors = rng.standard_normal((6, 8)).astype(np.float32)
    songs.add([IndexedSong(f"{i}.flac", 5, i, 9.5, v, v[:3], "", -9.0, 3.0, -1.0) for i, v in enumerate(vectors)])
    songs.write_nearest()
    return songs


def part(folder: Path) -> Stored:
    index_of(folder)
    return Stored(folder / "songs-00000000.parquet", lambda: repr(SongIndex(folder).usable))


def nearest(folder: Path) -> Stored:
    songs = index_of(folder)
    query = songs.usable[2].embedding
    return Stored(folder / "nearest.faiss", lambda: repr(SongIndex(folder).search(query, 6)))


def checkpoint(folder: Path) -> Stored:
    path = folder / "latest.pt"
    torch.manual_seed(0)
    save_checkpoint(path, {"encoder": {"weight": torch.randn(40, 30)}, "step": 7})

    def read() -> Any:
        content = load_checkpoint(path)
        return content["step"], content["encoder"]["weight"].tolist()

    return Stored(path, read)


def export(folder: Path) -> Stored:
    path = write_encoder(folder / "encoder.safetensors")

    def read() -> Any:
        loaded = load_export(path)
        weights = {name: value.numpy().tobytes() for name, value in loaded.encoder.state_dict().items()}
        return weights, loaded.settings, loaded.content["card"], loaded.separators

    return Stored(path, read)


def mels(folder: Path) -> Stored:
    path = folder / "mels.zarr"
    sizes = {"rows": 4, "group_rows": 2, "shard_rows": 4, "mels": 3, "frames": 5}
    store = MelStore.open_or_create(path, {"bank": "a"}, **sizes)
    store.write_group(0, np.random.default_rng(1).standard_normal((2, 8, 3, 5)).astype(np.float16))
    return Stored(path / "mels" / "c" / "0" / "0" / "0" / "0", lambda: store.read([0, 1]).tobytes())


KINDS = [sidecar, shard, manifest, settings, part, nearest, checkpoint, export, mels]


def without_checksums(path: Path) -> None:
    """A sidecar or settings as versions without checksums wrote them."""
    content = json.loads(path.read_text())
    for name in ("content_sha256", "crc32"):
        content.pop(name, None)
    path.write_text(json.dumps(content))
