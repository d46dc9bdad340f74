"""What a task of the evaluation is made of: clips to embed, figures measured on them, tables, a section of the page."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mixstyle.cache.stem_store.stem_cache import CachedClip, CachedTrack, StemCache
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.mixing.fxnorm import StemTargets
from mixstyle.pipeline.mixing.mix_chain import MixChain, apply_mix_chain
from mixstyle.stages.evaluate.tasks.groups import SongGroups
from mixstyle.stages.evaluate.tasks.variants import Way
from mixstyle.stages.presentation.html import Section
from mixstyle.stages.settings.evaluate import EvaluateSettings

Audio = NDArray[np.float32]
Embeddings = NDArray[np.float32]
"""[clips, E], of one row, in the order of a part's items."""
Separate = Callable[[Sequence[Audio]], list[Audio]]
"""Mixtures [2, T] to stems [4, 2, T] each; together, since they share the separator's batches."""
Metrics = Mapping[str, Any]
"""What metrics.json holds: figures by their key, then by row."""


class ReadsStems(Protocol):
    """Stems that are elsewhere than in the cache."""

    def read(self) -> Audio:
        """Stems [4, 2, T]."""
        ...

    def to_json(self) -> Mapping[str, Any]:
        """Which stems these are, as plain JSON types."""
        ...


class Step(Protocol):
    """Something that is done to a clip's stems, beside mix chains."""

    def apply(self, stems: Audio) -> Audio:
        """Stems [4, 2, T] to as many."""
        ...

    def to_json(self) -> Mapping[str, Any]:
        """All that is done, as plain JSON types."""
        ...


@dataclass(frozen=True)
class Item:
    """A clip to make: a stretch of stems, and what is done to them.

    source: a clip of the cache, stems [4, 2, T], or what reads some. steps: in order; none leaves the stems as they
    are. start, frames: the stretch; -1 goes on to the end.
    """

    source: CachedClip | Audio | ReadsStems
    steps: tuple[MixChain | Step, ...] = ()
    start: int = 0
    frames: int = -1

    def render(self, cache: StemCache) -> Audio:
        """Stems [4, 2, frames] with all steps done."""
        if isinstance(self.source, CachedClip):
            stems = cache.read_clip(self.source, self.start, self.frames)
        else:
            whole = self.source if isinstance(self.source, np.ndarray) else self.source.read()
            stems = whole[..., self.start : None if self.frames < 0 else self.start + self.frames]
        for step in self.steps:
            stems = apply_mix_chain(stems, step) if isinstance(step, MixChain) else step.apply(stems)
        return stems

    def to_json(self) -> dict[str, Any]:
        """What the item is made from. Raises ValueError for stems that have no name."""
        if isinstance(self.source, np.ndarray):
            raise ValueError("stems in memory have no name to be stored by")
        source = {"clip": self.source.clip_id} if isinstance(self.source, CachedClip) else self.source.to_json()
        steps = [step.to_json() for step in self.steps]
        return {"source": source, "start": self.start, "frames": self.frames, "steps": steps}


Items = tuple[Item, ...]


@dataclass(frozen=True)
class Cut:
    """How long the stretches are that tasks remix. cached: frames of a cached clip. frames: of a stretch."""

    cached: int
    frames: int

    def drawn(self, rng: np.random.Generator, source: CachedClip | ReadsStems, *steps: MixChain | Step) -> Item:
        """A stretch of a clip of the cached length, at a place that is drawn."""
        frames = min(self.frames, self.cached)
        return Item(source, steps, int(rng.integers(self.cached - frames + 1)), frames)


def some_of(songs: Sequence[CachedTrack], most: int, seed: int) -> list[CachedTrack]:
    """At most that many songs, drawn by the seed, in their order."""
    chosen = np.random.default_rng([seed, 8]).permutation(len(songs))[:most]
    return [songs[int(place)] for place in sorted(chosen)]


@dataclass(frozen=True)
class Part:
    """Clips to embed; the embeddings are kept in the file `name`.npz, and the name begins with the task's key.

    songs: each clip's, as a number. make: the clips, which may take long: only when needed. way: what is between
    the clips' stems and their embedding. groups: of the songs, if figures need them.
    """

    name: str
    songs: tuple[int, ...]
    make: Callable[[], Items]
    way: Way = "as-is"
    groups: SongGroups | None = None

    def __len__(self) -> int:
        return len(self.songs)

    @cached_property
    def items(self) -> Items:
        return self.make()


@dataclass(frozen=True)
class Context:
    """What tasks render from. songs: the held-out ones. separate: makes what separates a mixture, once it is needed.
    groups: of the songs. targets: makes what FX normalisation brings their stems to."""

    options: EvaluateSettings
    cache: StemCache
    songs: Sequence[CachedTrack]
    separate: Callable[[], Separate]
    groups: SongGroups
    targets: Callable[[], StemTargets]

    @property
    def cut(self) -> Cut:
        return Cut(self.cache.clip_frames, round(self.options.clip_s * SAMPLE_RATE))


@dataclass(frozen=True)
class Column:
    """A column of the table that tasks with few figures share.

    key: of the metrics. show: a row's figure as text. chance: the name of chance within the figure; empty: it is 0.
    """

    title: str
    key: str
    show: Callable[[Mapping[str, Any]], str]
    chance: str = ""


@dataclass(frozen=True)
class TextTable:
    """A table for the terminal: its title, the head of the first column, the other heads, rows of cells."""

    title: str
    first: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class PageInput:
    """What a section of the page is made from. folder: gets the figures. embeddings: by row, if the task keeps them."""

    folder: Path
    metrics: Metrics
    options: EvaluateSettings
    embeddings: Mapping[str, Embeddings]

    @property
    def rows(self) -> Sequence[str]:
        return self.metrics["rows"]


@dataclass(frozen=True)
class Task:
    """One task of `mixstyle evaluate`, an entry of the registry.

    name: in `evaluate.tasks`. version: raised when its clips or what is done to them change, so that kept embeddings
    are made again. key: the figures' first key in metrics.json. parts: the clips. measure: a row's figures from its
    embeddings of a part, by key (`a.b` is b within a); the arguments are embeddings, part, row's name and settings.
    """

    name: str
    version: int
    key: str
    parts: Callable[[Context], list[Part]]
    measure: Callable[[Embeddings, Part, str, EvaluateSettings], dict[str, Any]]
    section: Callable[[PageInput], Section]
    columns: tuple[Column, ...] = ()
    """Of the table that tasks share."""
    table: Callable[[Metrics], TextTable] | None = None
    """A table of its own."""
    separates: bool = False
    """Whether it needs the separator that made the stems, so that it is left out where stems are given."""
    check: Callable[[EvaluateSettings], None] | None = None
    """Raises MixstyleError before any work where the task cannot be done."""
    keeps_embeddings: bool = False
    """Whether its section of the page is drawn from embeddings."""
