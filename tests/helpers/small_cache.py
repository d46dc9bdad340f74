"""A small cache of stems, written with the real writer, for tests of the stages that read it."""

from functools import lru_cache
from pathlib import Path

import numpy as np

from mixstyle.cache.stem_store.shards import ClipRecord, TrackRecord, encode_clip, write_shard
from mixstyle.cache.storage.provenance import Provenance, guard
from mixstyle.pipeline.core.stems import SAMPLE_RATE


def stems_of(seed: int, clip_s: float) -> np.ndarray:
    """Stems [4, 2, T] that differ by seed: noise with a spectrum, level and width of their own, and a tone."""
    rng = np.random.default_rng(seed)
    frames = round(clip_s * SAMPLE_RATE)
    time_s = np.arange(frames) / SAMPLE_RATE
    stems = np.empty((4, 2, frames), np.float32)
    for stem in range(4):
        spectrum = np.fft.rfft(rng.standard_normal((2, frames)))
        spectrum *= (1 + np.arange(spectrum.shape[1]) / 200) ** -rng.uniform(0.3, 1.2)
        noise = np.fft.irfft(spectrum, frames)
        noise[1] = rng.uniform(0, 1) * noise[0] + noise[1] * rng.uniform(0, 1)
        tone = np.sin(2 * np.pi * rng.uniform(60, 2000) * time_s) * (np.sin(2 * np.pi * 2 * time_s) > 0)
        stems[stem] = rng.uniform(0.02, 0.2) * (noise / np.abs(noise).max() + 0.5 * tone)
    return stems


@lru_cache(maxsize=64)
def _encoded(seed: int, clip_s: float) -> tuple[bytes, float]:
    """FLAC and scale of `stems_of`, once in a process: many modules make caches of the same songs."""
    return encode_clip(stems_of(seed, clip_s))


def make_cache(
    stems_dir: Path,
    tracks: int = 6,
    clips: int = 3,
    clip_s: float = 2.0,
    validation: int = 2,
    per_shard: int = 3,
    separator: str = "",
) -> None:
    """Writes shards of `tracks` tracks, the last `validation` of them in the validation split.

    separator: the fingerprint of one that is said to have made them.
    """
    settings = {"clip_s": clip_s, "clips_per_track": clips, "tracks_per_shard": per_shard, "tracks": tracks}
    stems_dir.mkdir(parents=True)
    provenance = Provenance("separate", settings, made_from={"separator": separator} if separator else {})
    made_with = guard(stems_dir / "settings.json", provenance, rebuild=False).fingerprint
    for shard in range(-(-tracks // per_shard)):
        records = []
        for index in range(shard * per_shard, min((shard + 1) * per_shard, tracks)):
            track_id = f"{index:012x}"
            made = []
            for slot in range(clips):
                flac, scale = _encoded(1000 * index + slot, clip_s)
                start = slot * round(clip_s * SAMPLE_RATE)
                made.append(ClipRecord(f"{track_id}_{slot}", slot, start, scale, flac))
            split = "train" if index < tracks - validation else "validation"
            records.append(TrackRecord(track_id, f"song{index}.flac", split, tuple(made)))
        write_shard(stems_dir, shard, records, made_with)
