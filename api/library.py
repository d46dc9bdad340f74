"""Songs in Python: described, compared, and looked up in an index, as the commands of these names do.

All take music as `Embedder.embed` does: a file, a folder of stems, an array or tensor with `sample_rate`, or stems by
name. model: what `mixstyle.load` gives; None loads the shipped encoder and separator, once.
"""

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixstyle.cache.song_index.index import IndexedSong, share_farther
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.core.text import counted
from mixstyle.stages.songs.compare.comparison import Comparison, comparison
from mixstyle.stages.songs.describe.cached import cached_songs, percentiles_among
from mixstyle.stages.songs.describe.song import DescribedSong
from mixstyle.stages.songs.embed.embedder import EmbeddedSong, Embedder, Music, load
from mixstyle.stages.songs.index.stage import opened_index
from mixstyle.stages.songs.search.by_stem import check_stem
from mixstyle.stages.songs.search.matches import Match, matches
from mixstyle.stages.songs.search.stage import check_k


def describe_song(
    music: Music,
    model: Embedder | None = None,
    *,
    features: str | Path | None = None,
    sample_rate: int = SAMPLE_RATE,
) -> DescribedSong:
    """A song's own descriptors, by its clips, and its loudness, as `mixstyle describe` has them.

    features: the store that `mixstyle features` filled, such as `cache/features.zarr`: percentiles are among its songs,
    as those that the command prints; NaN without it. Raises MixstyleError for music that cannot be used, and for a
    store that is not there, damaged, empty or of other descriptors.
    """
    cached = cached_songs(Path(features)) if features is not None else None
    song = (model or _shipped()).song(music, sample_rate=sample_rate, measure=True)
    if song.loudness is None:
        raise ValueError("a song to describe should be measured")
    return DescribedSong(
        song.name,
        song.duration_s,
        len(song.starts_s),
        song.clip_s,
        song.values,
        percentiles_among(song.values, cached),
        song.given,
        song.loudness,
    )


def compare(
    first: Music, second: Music, model: Embedder | None = None, *, sample_rate: int = SAMPLE_RATE
) -> Comparison:
    """How two songs' mixes differ. sample_rate: of both, where they are arrays. Raises MixstyleError for music that
    cannot be used."""
    embedder = model or _shipped()
    one = embedder.song(first, "first", sample_rate=sample_rate, measure=True)
    other = embedder.song(second, "second", sample_rate=sample_rate, measure=True)
    return comparison(embedder, one, other)


class Index:
    """The songs of a folder that `mixstyle index` filled.

    Raises MixstyleError where there is no index, or where the model's encoder, separator or cut is another than that of
    the index: cosines between their embeddings would mean nothing.
    """

    def __init__(self, folder: str | Path, model: Embedder | None = None) -> None:
        self.model = model or _shipped()
        self._index, self.music_folder = opened_index(Path(folder), self.model)

    def __len__(self) -> int:
        return len(self._index.usable)

    def __repr__(self) -> str:
        return f"Index({str(self._index.folder)!r}, {counted(len(self), 'song')} of {str(self.music_folder)!r})"

    @property
    def songs(self) -> list[IndexedSong]:
        """The songs that have an embedding, in the order of their paths."""
        return self._index.usable

    @property
    def embeddings(self) -> NDArray[np.float32]:
        """[N, E], of `songs`."""
        return self._index.embeddings()

    def search(
        self, music: Music | EmbeddedSong, k: int = 10, *, stem: str = "", sample_rate: int = SAMPLE_RATE
    ) -> list[Match]:
        """The k songs that are mixed most like a piece of music, nearest first, each with cosine and reasons.

        music: what `model.song` gave, too. stem: ranks by that stem's descriptors, and scores are distances. A
        file that the index holds is left out of its own result. Raises MixstyleError for music that cannot be used.
        """
        check_k(k)
        if stem:
            check_stem(stem)
        query = music if isinstance(music, EmbeddedSong) else self.model.song(music, sample_rate=sample_rate)
        own = Path(music).resolve() if isinstance(music, str | Path) else None
        return matches(self._index, query, k, without=own, root=self.music_folder, stem=stem)

    def closer_than(self, cosine: float) -> float:
        """The share of the index's pairs of songs that are farther apart than two songs of this cosine."""
        return share_farther(self._index.pair_cosines(), cosine)


def search(
    music: Music,
    index: Index | str | Path = "index",
    k: int = 10,
    model: Embedder | None = None,
    *,
    stem: str = "",
    sample_rate: int = SAMPLE_RATE,
) -> list[Match]:
    """The k songs of an index that are mixed most like a piece of music; see `Index.search`."""
    if isinstance(index, Index):
        if model is not None and model is not index.model:
            raise MixstyleError("search: an open index has its own model; give only one of the two", code="bad-option")
        return index.search(music, k, stem=stem, sample_rate=sample_rate)
    return Index(index, model).search(music, k, stem=stem, sample_rate=sample_rate)


@cache
def _shipped() -> Embedder:
    return load()
