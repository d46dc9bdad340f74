"""What a task of the evaluation is made of: clips to embed, figures measured on them, tables, a section of the page."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixstyle.cache.stem_store.stem_cache import CachedClip, CachedTrack, StemCache
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.mixing.mix_chain import MixChain
from mixstyle.stages.presentation.html import Section
from mixstyle.stages.settings.evaluate import EvaluateSettings

Audio = NDArray[np.float32]
Embeddings = NDArray[np.float32]
"""[clips, E], of one row, in the order of a part's items."""
Separate = Callable[[Sequence[Audio]], list[Audio]]
"""Mixtures [2, T] to stems [4, 2, T] each; together, since they share the separator's batches."""
Items = tuple[tuple[CachedClip | Audio, MixChain], ...]
"""Stems, of the cache or [4, 2, T], and what is done to them."""
NOTHING = MixChain(tuple(() for _ in STEMS))
Metrics = Mapping[str, Any]
"""What metrics.json holds: figures by their key, then by row."""


@dataclass(frozen=True)
class Part:
    """Clips to embed; the embeddings are kept in the file `name`.npz, and the name begins with the task's key.

    songs: each clip's, as a number. make: the clips, which may take long: only when needed.
    """

    name: str
    songs: tuple[int, ...]
    make: Callable[[], Items]

    def __len__(self) -> int:
        return len(self.songs)

    @cached_property
    def items(self) -> Items:
        return self.make()


@dataclass(frozen=True)
class Context:
    """What tasks render from. songs: the held-out ones. separate: makes what separates a mixture, once it is needed."""

    options: EvaluateSettings
    cache: StemCache
    songs: Sequence[CachedTrack]
    separate: Callable[[], Separate]


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
    are made anew. key: the figures' first key in metrics.json. parts: the clips. measure: a row's figures from its
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
    """Whether it needs a separator."""
    keeps_embeddings: bool = False
    """Whether its section of the page is drawn from embeddings."""
