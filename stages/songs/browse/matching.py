"""A match on the page: one song brought to the mix of another, as `mixstyle match` does it, to hear and to keep."""

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mixstyle.cache.match_chain import write_chain
from mixstyle.cache.music.writer import AudioForm
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.descriptors.presence import has_stem, is_meaningful
from mixstyle.stages.common.progress import watched
from mixstyle.stages.presentation.descriptor_names import KINDS, Kind, shown, shown_unit
from mixstyle.stages.songs.browse.jobs import Job
from mixstyle.stages.songs.browse.songs import Library, Track, Vector
from mixstyle.stages.songs.embedder import Embedder
from mixstyle.stages.songs.match.text import SHOWN, levels, lines
from mixstyle.stages.songs.match_plan import Plan, check_asked, measured_as_json
from mixstyle.stages.songs.match_render import Targets


@dataclass(frozen=True)
class Asked:
    """A song, a reference, and how much of each change is made."""

    song: Track
    reference: Track
    amount: float = 1.0
    keep: tuple[str, ...] = ()

    @classmethod
    def of(cls, library: Library, body: Any) -> "Asked":
        """From JSON. Raises MixstyleError (bad-option) for other values, KeyError for songs that there are not."""
        body = body if isinstance(body, dict) else {}
        amount, keep = body.get("amount", 1.0), body.get("keep", [])
        if not isinstance(amount, int | float) or not isinstance(keep, list):
            raise MixstyleError("amount should be a number, and keep a list of stems", code="bad-option")
        check_asked(float(amount), [str(stem) for stem in keep])
        song, reference = (library.track(str(body.get(name, ""))) for name in ("song", "reference"))
        return cls(song, reference, float(amount), tuple(map(str, keep)))


class Matching:
    """Runs matches, and keeps their files in a folder."""

    def __init__(self, library: Library, embedder: Embedder, folder: Path) -> None:
        self._library, self._embedder, self._folder = library, embedder, folder
        self._numbers = itertools.count(1)
        self._chains: dict[str, Path] = {}
        self._lock = threading.Lock()

    def chain(self, key: str) -> Path:
        """The chain's file of a match. Raises KeyError."""
        with self._lock:
            return self._chains[key]

    def work(self, asked: Asked) -> Callable[[Job], dict[str, Any]]:
        """A job that matches; its result names the track that came of it, and tells what was set."""

        def match(job: Job) -> dict[str, Any]:
            job.at("both are read, separated and compared")
            try:
                plan = self._embedder.match(asked.song.path, asked.reference.path, amount=asked.amount, keep=asked.keep)
                return self._made(job, asked, plan)
            except MixstyleError as error:
                raise MixstyleError(_by_name(error.message, asked), code=error.code) from error

        return match

    def forget(self, key: str) -> None:
        """Removes the files of a match."""
        with self._lock:
            chain = self._chains.pop(key, None)
        if chain is not None:
            chain.unlink(missing_ok=True)

    def _made(self, job: Job, asked: Asked, plan: Plan) -> dict[str, Any]:
        key = f"match-{next(self._numbers)}"
        path, chain_path = self._folder / f"{key}.wav", self._folder / f"{key}.json"
        with watched(lambda done: job.at("the changed song is written", done)):
            rendered = plan.render(Targets(path, AudioForm("wav", "24")))
        after = plan.after(rendered.gain.gain_db)
        made = {**plan.chain.made, "song": asked.song.name, "references": [asked.reference.name]}
        chain = replace(plan.chain, measured=measured_as_json(plan, after, rendered), made=made)
        write_chain(chain_path, chain)
        lufs = rendered.after.loudness_lufs
        track = Track(key, f"{asked.song.name}, matched", path, plan.song.look.duration_s, lufs, heard_s=())
        with self._lock:
            self._chains[key] = chain_path
        self._library.add(track)
        return {
            "key": key,
            "song": asked.song.key,
            "reference": asked.reference.key,
            "lines": lines(plan, rendered),
            "levels": levels(plan, after, rendered),
            "table": _table(plan, after),
        }


def _table(plan: Plan, after: Vector) -> dict[str, Any]:
    """Rows of descriptors, a cell a stem: before, after and of the reference."""
    kinds = {kind.descriptor.kind: kind for of_group in KINDS.values() for kind in of_group}
    left_alone = [s for s in STEMS if not (has_stem(plan.before, s) and has_stem(plan.reference, s))]
    rows = [
        {
            "title": kinds[name].title,
            "unit": shown_unit(kinds[name].descriptor.unit),
            "cells": [_cell(plan, after, kinds[name], stem) for stem in STEMS],
        }
        for name in SHOWN
    ]
    return {"left_alone": left_alone, "rows": rows}


def _cell(plan: Plan, after: Vector, kind: Kind, stem: str) -> list[str]:
    column = kind.columns[stem]
    values = [plan.before, after, plan.reference]
    if not is_meaningful(column, *values) or not np.isfinite([one[column] for one in values]).all():
        return []
    return [shown(column, float(one[column])) for one in values]


def _by_name(message: str, asked: Asked) -> str:
    """A message with the names of the songs instead of their temporary paths."""
    for track in (asked.song, asked.reference):
        message = message.replace(str(track.path), track.name)
    return message
