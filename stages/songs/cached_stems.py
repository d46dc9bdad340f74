"""The stems that `mixstyle separate` has cached of music files, for commands that would separate them again.

They are taken where the folder was made with the same separator, precision and cutting, and the file, at its path in
the folder's music, has the content that was separated. They are rounded to 16 bits, by 1.5e-5 of full scale at most:
an embedding differs by 1e-4 from that of stems separated anew on a tested song, and a test holds it below 1e-3.
"""

import threading
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mixstyle.cache.music.cutting import CuttingRule
from mixstyle.cache.stem_store.stem_cache import CachedTrack, StemCache
from mixstyle.cache.storage.provenance import read_provenance
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.descriptors.song_loudness import SongLoudness
from mixstyle.pipeline.separation.separator import Separator
from mixstyle.pipeline.separation.versions import INFERENCE_VERSION
from mixstyle.stages.common.commands import told
from mixstyle.stages.common.progress import say
from mixstyle.stages.settings.separate import SeparateSettings


class CachedStems:
    """Stems in a folder, by the path of the music file; any number of threads may ask. root: the folder's music."""

    def __init__(self, stems_dir: Path, root: Path) -> None:
        self._stems_dir, self._root = stems_dir, root
        self._lock = threading.Lock()

    def find(self, path: Path) -> CachedTrack | None:
        """The track of a file, or None where there is none."""
        resolved = path.resolve()
        if not resolved.is_relative_to(self._root):
            return None
        with self._lock:
            tracks = self._tracks
        return tracks.get(resolved.relative_to(self._root).as_posix())

    def loudness(self, track: CachedTrack) -> SongLoudness | None:
        """The whole song's loudness, where `separate` measured it."""
        return SongLoudness.from_json(self._metadata(track))

    def read(self, track: CachedTrack, content_hash: str) -> tuple[tuple[int, ...], tuple[Tensor, ...], float] | None:
        """Starts, stems [4, 2, T] and the song's duration in s; None for other content and for damaged data."""
        metadata = self._metadata(track)
        if self._cache is None or metadata.get("content_hash") != content_hash:
            return None
        try:
            stems = tuple(torch.from_numpy(self._cache.read_clip(clip)) for clip in track.clips)
        except MixstyleError:
            return None  # told by the commands that are about this folder; here the song is separated instead
        return tuple(clip.start_frame for clip in track.clips), stems, float(metadata["duration_s"])

    def _metadata(self, track: CachedTrack) -> dict[str, Any]:
        try:
            return self._cache.read_metadata(track) if self._cache is not None else {}
        except MixstyleError:
            return {}

    @cached_property
    def _cache(self) -> StemCache | None:
        try:
            return StemCache(self._stems_dir)
        except MixstyleError as error:
            say(f"songs: no cached stems are used: {told(error)}")
            return None

    @cached_property
    def _tracks(self) -> dict[str, CachedTrack]:
        return {track.path: track for track in self._cache.tracks} if self._cache is not None else {}


def cached_stems(chosen: SeparateSettings, separator: Separator, cutting: CuttingRule) -> CachedStems | None:
    """The stems in `separate.stems_dir`; None where there are none that this separator and cutting would make."""
    path = chosen.stems_dir / "settings.json"
    if not path.is_file():
        return None
    try:
        stored = read_provenance(path).flat
    except MixstyleError:
        return None
    now: dict[str, Any] = {
        "input": "mixtures",
        "separator": separator.fingerprint,
        "precision": separator.precision,
        "inference_version": INFERENCE_VERSION,
        "clips_per_track": cutting.clips,
        "seed": cutting.seed,
        "silence_lufs": chosen.silence_lufs,
    }
    fits = all(stored.get(name) == value for name, value in now.items())
    same_clips = round(stored.get("clip_s", 0) * SAMPLE_RATE) == cutting.clip_frames
    if not fits or not same_clips or stored.get("cutting_version", 1) != cutting.version:
        return None
    music = Path(stored["data_path"])
    return CachedStems(chosen.stems_dir, (music if music.is_dir() else music.parent).resolve())
