"""The songs of a store of descriptors, and where a song's values are among theirs."""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixstyle.cache.feature_store.place import features_place
from mixstyle.cache.feature_store.store import FeatureStore
from mixstyle.cache.storage.place import Place
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.descriptors.absent_stems import is_meaningful
from mixstyle.pipeline.descriptors.compute import DESCRIPTORS, DESCRIPTORS_VERSION
from mixstyle.pipeline.descriptors.song_values import song_descriptors
from mixstyle.stages.songs.describe.song import CachedSongs

AGAIN = ("features", "--rebuild")


def cached_songs(where: Path | Place) -> CachedSongs:
    """The songs of a store, in a folder, behind a URL or at a place.

    Raises MixstyleError where there is none ("step-missing"), or where it is damaged, of other descriptors than those
    of this mixstyle ("misfit"), or empty.
    """
    place = features_place(where)
    place.refresh()
    if not place.folder.exists():
        raise MixstyleError(f"{place.name} is not there", code="step-missing", remedy=("features",))
    store = FeatureStore.open(place)
    if store.damaged_shards():
        raise MixstyleError(f"{place.name} is damaged", code="damaged-file", remedy=("features",))
    if store.descriptors_version != DESCRIPTORS_VERSION or store.names != [d.name for d in DESCRIPTORS]:
        raise MixstyleError(f"{place.name} holds other descriptors", code="misfit", remedy=AGAIN)
    values = store.values()
    good = set(np.flatnonzero(np.isfinite(values).all(axis=1)).tolist())
    tracks: dict[str, list[int]] = {}
    for row, track in enumerate(store.track_ids):
        if row in good:
            tracks.setdefault(track, []).append(row)
    if not tracks:
        raise MixstyleError(f"{place.name} has no song yet", code="step-missing", remedy=("features",))
    songs = np.stack([song_descriptors(values[rows]) for rows in tracks.values()])
    separate = store.made_with.get("separate", {})
    return CachedSongs(songs, str(separate.get("separator", "")), separate.get("cutting_version", 1))


def percentiles_among(values: NDArray[np.float32], cached: CachedSongs | None) -> NDArray[np.float64]:
    """[D]: share of the cached songs below each value, in percent; equal ones count half. NaN where there are none."""
    found = np.full(len(values), math.nan)
    if cached is None:
        return found
    for column, value in enumerate(values):
        songs = cached.of(column)
        if len(songs) and is_meaningful(column, values):
            found[column] = 100 * ((songs < value).sum() + 0.5 * (songs == value).sum()) / len(songs)
    return found
