"""Songs as an index has them, and what makes such rows in a process of a cluster."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mixstyle.cache.music.reader import UnreadableMusic
from mixstyle.cache.song_index.index import IndexedSong
from mixstyle.stages.separate.machine_kind import other_kind
from mixstyle.stages.separate.rule_versions import SongRules
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.songs.embed.embedder import EmbeddedSong
from mixstyle.stages.songs.embed.stage import embedder_of

NOTHING = np.empty(0, np.float32)


def row_of_song(path: str, stat: tuple[int, int], found: EmbeddedSong | UnreadableMusic) -> IndexedSong:
    """A row. path: within the music folder. stat: size and time of change, as they were before it was read."""
    if isinstance(found, UnreadableMusic):
        return IndexedSong(path, *stat, 0.0, NOTHING, NOTHING, str(found))
    loudness = asdict(found.loudness) if found.loudness else {}
    return IndexedSong(path, *stat, found.duration_s, found.embedding.numpy(), found.values, **loudness)


class SongMaker:
    """`cluster.actor.Maker` of `index`: a part is some songs, `(path, bytes, modified_ns)` each.

    options: `root` of the music, `rules`, and `machine`, the kind that the command was given on.
    """

    def __init__(self, settings: Settings, options: Mapping[str, Any], stack: ExitStack) -> None:
        rules = SongRules(**options["rules"])
        self._embedder = stack.enter_context(embedder_of(settings, rules=rules, measure=True))
        self._root, self._workers = Path(options["root"]), settings.embed.workers
        self.machine = other_kind({"machine": options["machine"]}, self._embedder.device)

    def make(self, part: Sequence[tuple[str, int, int]]) -> dict[str, Any]:
        """`{"songs": [(IndexedSong, note), ...], "fingerprint": {...}}`, in their order."""
        made = self._embedder.songs([self._root / path for path, _, _ in part], self._workers)
        songs = [
            (row_of_song(path, (size, time), found), getattr(found, "note", ""))
            for (path, size, time), found in zip(part, made, strict=True)
        ]
        return {"songs": songs, "fingerprint": dict(self._embedder.fingerprint)}
