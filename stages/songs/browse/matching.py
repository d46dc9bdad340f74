"""A match on the page: one song brought to the mix of others, as `mixstyle match` does it, to hear and to keep.

Of each match the song, its changed stems, the chain and what was told of it are kept in the page's folder until the
song is removed from the page; of old ones the stems go first, which are five times as large as the song.
"""

import itertools
import math
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from mixstyle.cache.match_chain import write_chain
from mixstyle.cache.music.writer import AudioForm
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.descriptors.absent_stems import is_meaningful
from mixstyle.stages.common.progress import tell
from mixstyle.stages.presentation.descriptor_names import KINDS, Kind, shown, shown_unit
from mixstyle.stages.songs.browse.jobs import Job, Jobs
from mixstyle.stages.songs.browse.songs import Library, Track, Vector
from mixstyle.stages.songs.embed.embedder import Embedder
from mixstyle.stages.songs.match.render import REST, Targets
from mixstyle.stages.songs.match.song_match import SongMatch, check_asked, measured_as_json
from mixstyle.stages.songs.match.text import SHOWN, levels, lines

MOST_REFERENCES = 8
KEPT_STEM_BYTES = 2 << 30
"""Of all matches; the stems of the last one stay whatever their size. About six songs of four minutes."""
_STEPS = {
    "clips": "clips of all songs are read and separated",
    "match: effects": "effects are searched",
    "look": "the song is measured",
    "match": "the whole song is separated and changed",
    "write": "song and stems are written",
    "after": "the result is measured",
}


@dataclass(frozen=True)
class Asked:
    """A song, its references, how much of each change is made, and whether effects are looked for."""

    song: Track
    references: tuple[Track, ...]
    amount: float = 1.0
    keep: tuple[str, ...] = ()
    search: bool = False

    @classmethod
    def of(cls, library: Library, body: Any) -> "Asked":
        """From JSON. Raises MixstyleError (bad-option) for other values, KeyError for songs that there are not."""
        body = body if isinstance(body, dict) else {}
        amount, keep, search = body.get("amount", 1.0), body.get("keep", []), body.get("search", False)
        keys = body.get("references", [])
        if not isinstance(amount, int | float) or not isinstance(keep, list) or not isinstance(search, bool):
            raise MixstyleError("amount should be a number, keep a list of stems, search yes or no", code="bad-option")
        amount = float(amount) if abs(amount) <= 1 else math.inf  # JSON has whole numbers that are no float
        check_asked(amount, [str(stem) for stem in keep])
        if not isinstance(keys, list) or not 1 <= len(keys) <= MOST_REFERENCES:
            raise MixstyleError(f"references: 1 to {MOST_REFERENCES} songs should be given", code="bad-option")
        song = library.track(str(body.get("song", "")))
        references = tuple(library.track(key) for key in dict.fromkeys(map(str, keys)))
        return cls(song, references, amount, tuple(map(str, keep)), search)

    def __str__(self) -> str:
        others = len(self.references) - 1
        also = f" and {others} other{'s' if others > 1 else ''}" if others else ""
        return f"{self.song.name}, brought to {self.references[0].name}{also}"


class Matching:
    """Runs matches, and keeps their files in a folder."""

    def __init__(self, library: Library, embedder: Embedder, folder: Path) -> None:
        self._library, self._embedder, self._folder = library, embedder, folder
        self._numbers = itertools.count(1)
        self._results: dict[str, dict[str, Any]] = {}
        self._stem_bytes: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def start(self, jobs: Jobs, asked: Asked) -> Job:
        """A job that matches; its result is what `result` gives."""
        key = f"match-{next(self._numbers)}"
        steps = {what: told for what, told in _STEPS.items() if asked.search or what != "match: effects"}
        return jobs.start(str(asked), self._work(key, asked), steps, lambda: self.forget(key))

    def result(self, key: str) -> dict[str, Any]:
        """What was set, and the result. Raises KeyError."""
        with self._lock:
            return self._results[key]

    def file(self, key: str, name: str) -> tuple[Path, str]:
        """A file of a match and the name to keep it under: chain.json, matched.wav, or a stem as `bass.wav`. Raises
        KeyError for others, MixstyleError (no-music) for stems that are not kept any more."""
        what = name.rpartition(".")[0]
        title = PurePosixPath(self.result(key)["of"]).stem
        if name == "chain.json":
            return self._chain(key), f"{title} chain.json"
        if name == "matched.wav":
            return self._song(key), f"{title} matched.wav"
        if name not in [f"{stem}.wav" for stem in (*STEMS, REST)]:
            raise KeyError(name)
        path = self._stems(key) / name
        if not path.is_file():
            raise MixstyleError("the stems of this match are not kept any more; match again", code="no-music")
        return path, f"{title} matched {what}.wav"

    def forget(self, key: str) -> None:
        """Removes the files of a match."""
        with self._lock:
            self._results.pop(key, None)
            self._stem_bytes.pop(key, None)
        for path in (self._chain(key), self._song(key)):
            path.unlink(missing_ok=True)
        shutil.rmtree(self._stems(key), ignore_errors=True)

    def _work(self, key: str, asked: Asked) -> Callable[[Job], dict[str, Any]]:
        references = [track.path for track in asked.references]
        chosen = {"amount": asked.amount, "keep": asked.keep, "search": asked.search}

        def match(_: Job) -> dict[str, Any]:
            try:
                return self._made(key, asked, self._embedder.match(asked.song.path, references, **chosen))
            except MixstyleError as error:
                raise MixstyleError(_by_name(error.message, asked), code=error.code) from error

        return match

    def _made(self, key: str, asked: Asked, matched: SongMatch) -> dict[str, Any]:
        targets = Targets(self._song(key), AudioForm("wav", "24"), self._stems(key))
        rendered = matched.render(targets)
        tell("after")
        after = matched.after(rendered.gain.gain_db)
        names = [track.name for track in asked.references]
        made = {**matched.chain.made, "song": asked.song.name, "references": names}
        write_chain(
            self._chain(key), replace(matched.chain, measured=measured_as_json(matched, after, rendered), made=made)
        )
        told, measured = lines(matched, rendered), levels(matched, after, rendered)
        result = {
            "key": key,
            "of": asked.song.name,
            "song": asked.song.key,
            "references": [track.key for track in asked.references],
            "lines": told,
            "levels": measured,
            "text": "\n".join([str(asked), *told, *measured]) + "\n",
            "table": _table(matched, after),
            "stems": [*STEMS, REST],
        }
        heard = [(start / SAMPLE_RATE, start / SAMPLE_RATE + matched.clips.clip_s) for start in matched.clips.starts]
        track = Track(
            key,
            f"{asked.song.name}, matched",
            targets.song,
            matched.song.look.duration_s,
            rendered.after.loudness_lufs,
            heard_s=tuple(heard),
            stems={stem: self._stems(key) / f"{stem}.wav" for stem in STEMS},
        )
        with self._lock:
            self._results[key] = result
            self._stem_bytes[key] = sum(path.stat().st_size for path in targets.stem_paths())
        self._drop_old_stems()
        self._library.add(track)
        return result

    def _drop_old_stems(self) -> None:
        with self._lock:
            while sum(self._stem_bytes.values()) > KEPT_STEM_BYTES and len(self._stem_bytes) > 1:
                old, _ = self._stem_bytes.popitem(last=False)
                shutil.rmtree(self._stems(old), ignore_errors=True)

    def _song(self, key: str) -> Path:
        return self._folder / f"{key}.wav"

    def _chain(self, key: str) -> Path:
        return self._folder / f"{key}.json"

    def _stems(self, key: str) -> Path:
        return self._folder / f"{key}-stems"


def _table(matched: SongMatch, after: Vector) -> dict[str, Any]:
    """Rows of descriptors, a cell a stem: before, after and of the reference."""
    kinds = {kind.descriptor.kind: kind for of_group in KINDS.values() for kind in of_group}
    left_alone = [stem for stem, both in matched.in_both.items() if not both]
    rows = [
        {
            "title": kinds[name].title,
            "unit": shown_unit(kinds[name].descriptor.unit),
            "cells": [_cell(matched, after, kinds[name], stem) for stem in STEMS],
        }
        for name in SHOWN
    ]
    return {"left_alone": left_alone, "rows": rows}


def _cell(matched: SongMatch, after: Vector, kind: Kind, stem: str) -> list[str]:
    column = kind.columns[stem]
    values = [matched.before, after, matched.reference]
    if not is_meaningful(column, *values) or not np.isfinite([one[column] for one in values]).all():
        return []
    return [shown(column, float(one[column])) for one in values]


def _by_name(message: str, asked: Asked) -> str:
    """A message with the names of the songs instead of their temporary paths."""
    for track in (asked.song, *asked.references):
        message = message.replace(str(track.path), track.name)
    return message
