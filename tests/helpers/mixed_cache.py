"""A small cache of stems with failures in it, and the settings of a profile that reads it."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mixstyle.cache.music.listing import Listing
from mixstyle.cache.stem_store.failures import failures_of, write_failures
from mixstyle.cache.stem_store.manifest import ListedTrack, Manifest, store_manifest
from mixstyle.cache.stem_store.shards import ClipRecord, ShardInfo, TrackRecord, encode_clip, write_shard
from mixstyle.cache.storage.fingerprint import fingerprint
from mixstyle.cache.storage.provenance import Provenance, guard
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.stages.settings.profile import Settings, load_settings

CLIP_S = 1.5
FRAMES = round(CLIP_S * SAMPLE_RATE)
PER_SHARD = 2
FAILED_TRACK = 2
"""Cannot be read."""
SHORT_TRACK = 3
"""Has no room for its last clip."""


def settings_of(folder: Path, **changes: dict[str, Any]) -> Settings:
    """A profile that keeps everything in `folder`; `changes` by section."""
    sections: dict[str, dict[str, Any]] = {
        "separate": {"stems_dir": str(folder / "stems"), "data_path": str(folder / "music"), "device": "cpu"},
        "features": {"features_path": str(folder / "features.zarr"), "device": "cpu", "batch_clips": 3},
        "train": {
            "checkpoint_dir": str(folder / "checkpoints"),
            "log_dir": str(folder / "logs"),
            "device": "cpu",
            "batch_size": 2,
            "num_epochs": 2,
            "clip_duration_s": CLIP_S,
            "channels": [2, 4],
            "encoder_dim": 8,
            "film_hidden": 8,
            "hop_length": 512,
            "band_mels": 64,
            "band_step": 48,  # three sub-bands, as in helpers.training
            "workers": 0,
            "threads": 1,
        },
        "report": {"report_dir": str(folder / "report"), "device": "cpu"},
        "evaluate": {"evaluate_dir": str(folder / "evaluation"), "device": "cpu"},
        "embed": {"index_dir": str(folder / "index"), "device": "cpu"},
        "demo_songs": {"output_dir": str(folder / "rendered")},
        "remix": {},
    }
    for section, values in changes.items():
        sections[section].update(values)
    given = {f"{section}.{name}": value for section, values in sections.items() for name, value in values.items()}
    folder.mkdir(parents=True, exist_ok=True)
    profile = folder / "profile.yaml"
    profile.write_text("{}\n")
    return load_settings(profile, (), given)


def stem_settings(tracks: int, clips: int) -> dict[str, Any]:
    return {
        "clip_s": CLIP_S,
        "clips_per_track": clips,
        "tracks_per_shard": PER_SHARD,
        "tracks": tracks,
        "separator": "5e9a7a70",
        "precision": "fp32",
        "device": "cpu",
    }


def split_of(index: int, tracks: int) -> str:
    return "train" if index < tracks - 2 else ("validation" if index == tracks - 2 else "test")


def clip_of(index: int, slot: int) -> np.ndarray:
    """Stems [4, 2, T] of a clip: clips of a song differ in their noise, songs in level, spectrum and width."""
    song, clip = np.random.default_rng([7, index]), np.random.default_rng([7, index, slot])
    stems = np.empty((4, 2, FRAMES), np.float32)
    for stem in range(4):
        spectrum = np.fft.rfft(clip.standard_normal((2, FRAMES)))
        spectrum *= (1 + np.arange(spectrum.shape[1]) / 200) ** -song.uniform(0.3, 1.2)
        left, right = np.fft.irfft(spectrum, FRAMES)
        right = song.uniform(0, 1) * left + right * song.uniform(0.1, 1)
        both = np.stack([left, right])
        stems[stem] = song.uniform(0.02, 0.3) * both / np.abs(both).max()
    return stems


@lru_cache(maxsize=64)
def _encoded(index: int, slot: int) -> tuple[bytes, float]:
    return encode_clip(clip_of(index, slot))


def track_of(index: int, tracks: int, clips: int) -> TrackRecord:
    track_id, path = f"{index:012x}", f"Künstler {index}/song {index}.flac"
    made = []
    for slot in range(clips):
        start = slot * FRAMES
        if index == FAILED_TRACK:
            made.append(ClipRecord(f"{track_id}_{slot}", slot, None))
        elif index == SHORT_TRACK and slot == clips - 1:
            made.append(ClipRecord(f"{track_id}_{slot}", slot, None, reason="no room: the track holds fewer clips"))
        else:
            flac, scale = _encoded(index, slot)
            made.append(ClipRecord(f"{track_id}_{slot}", slot, start, scale, flac))
    reason = "unreadable: lost sync at 3.2 s" if index == FAILED_TRACK else ""
    return TrackRecord(track_id, path, split_of(index, tracks), tuple(made), reason)


def write_stems(stems_dir: Path, shard: int, tracks: int = 8, clips: int = 3) -> ShardInfo:
    """Writes one shard."""
    indices = range(shard * PER_SHARD, min((shard + 1) * PER_SHARD, tracks))
    records = [track_of(index, tracks, clips) for index in indices]
    return write_shard(stems_dir, shard, records, fingerprint(stem_settings(tracks, clips)))


def make_stems(stems_dir: Path, tracks: int = 8, clips: int = 3, shards: int | None = None) -> list[ShardInfo]:
    """Writes the manifest and the first `shards` shards (None: all), as `mixstyle separate` leaves them."""
    stems_dir.mkdir(parents=True)
    guard(stems_dir / "settings.json", Provenance("separate", stem_settings(tracks, clips)), rebuild=False)
    planned = []
    for index in range(tracks):
        record = TrackRecord(f"{index:012x}", f"Künstler {index}/song {index}.flac", split_of(index, tracks), ())
        planned.append(ListedTrack(index, record.track_id, record.path, f"track {record.path}", record.split))
    listing = Listing(stems_dir.parent / "music", {track.path: 1 for track in planned})
    store_manifest(stems_dir / "plan.jsonl.gz", Manifest(listing, tuple(planned), "track"))
    total = -(-tracks // PER_SHARD)
    made = [write_stems(stems_dir, shard, tracks, clips) for shard in range(total if shards is None else shards)]
    write_failures(stems_dir / "failures.csv", failures_of(made))
    return made
