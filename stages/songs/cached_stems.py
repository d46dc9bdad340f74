"""The stems that `mixstyle separate` has cached of music files, for commands that would separate them again.

They are taken where the folder, which may be behind a URL, was made with the same separator, precision and cutting,
and the file, at its path in the folder's music, has the content that was separated. They are rounded to 16 bits, by
1.5e-5 of full scale at most: an embedding differs by 1e-4 from that of stems separated again on a tested song, and a
test holds it below 1e-3.
"""

import threading
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mixstyle.cache.music.clip_positions import CuttingRule
from mixstyle.cache.stem_store.stem_cache import CachedTrack, StemCache
from mixstyle.cache.storage.provenance import SETTINGS, read_provenance
from mixstyle.cache.storage.urls import url_of
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.descriptors.song_loudness import SongLoudness
from mixstyle.pipeline.separation.separator import Separator
from mixstyle.pipeline.separation.versions import INFERENCE_VERSION
from mixstyle.stages.common.commands import told
from mixstyle.stages.common.progress import remark
from mixstyle.stages.settings.places import open_shards
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.settings.separate import SeparateSettings


class CachedStems:
    """Stems in a folder or behind a URL, by the path of the music file; any number of threads may ask.

    wanted: what the shards should have been made with (`_wanted`); of others none is given. Nothing is opened before
    the first song is looked for.
    """

    def __init__(self, settings: Settings, wanted: Mapping[str, Any]) -> None:
        self._settings, self._wanted = settings, wanted
        self._lock = threading.Lock()

    def find(self, path: Path) -> CachedTrack | None:
        """The track of a file, or None where there is none."""
        with self._lock:
            root, tracks = self._root, self._tracks
        resolved = path.resolve()
        if root is None or not resolved.is_relative_to(root):
            return None
        return tracks.get(resolved.relative_to(root).as_posix())

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
        location = self._settings.separate.stems_dir
        path = location / SETTINGS
        try:
            if not url_of(location) and not (path.is_file() and _fits(read_provenance(path).flat, self._wanted)):
                return None  # before all shards are read
            found = open_shards(self._settings, location)
        except MixstyleError as error:
            remark(f"songs: no cached stems are used: {told(error)}")
            return None
        return found if _fits(found.settings, self._wanted) else None

    @cached_property
    def _root(self) -> Path | None:
        """The folder of the music."""
        if self._cache is None or url_of(self._cache.settings["data_path"]):
            return None
        music = Path(self._cache.settings["data_path"])
        return (music if music.is_dir() else music.parent).resolve()

    @cached_property
    def _tracks(self) -> dict[str, CachedTrack]:
        return {track.path: track for track in self._cache.tracks} if self._cache is not None else {}


def cached_stems(settings: Settings, separator: Separator, cutting: CuttingRule) -> CachedStems:
    """The stems in `separate.stems_dir`, as far as this separator and cutting would make the same."""
    return CachedStems(settings, _wanted(settings.separate, separator, cutting))


def _wanted(chosen: SeparateSettings, separator: Separator, cutting: CuttingRule) -> dict[str, Any]:
    return {
        "input": "mixtures",
        "separator": separator.fingerprint,
        "precision": separator.precision,
        "inference_version": INFERENCE_VERSION,
        "clips_per_track": cutting.clips,
        "clip_frames": cutting.clip_frames,
        "cutting_version": cutting.version,
        "seed": cutting.seed,
        "silence_lufs": chosen.silence_lufs,
    }


def _fits(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    try:
        frames = round(stored["clip_s"] * SAMPLE_RATE)
    except (KeyError, TypeError, ValueError, OverflowError):
        return False
    told = {"cutting_version": 1, **stored, "clip_frames": frames}
    return all(told.get(name) == value for name, value in wanted.items())
