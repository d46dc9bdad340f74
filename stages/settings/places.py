"""Where the settings keep shards and descriptors: in folders, or behind URLs with working folders on this machine."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeVar

from mixstyle.cache.feature_store.place import features_place
from mixstyle.cache.stem_store.place import stems_place
from mixstyle.cache.stem_store.remote import RemoteStemCache
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.cache.storage.place import Place
from mixstyle.cache.storage.urls import url_of
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.settings.profile import Settings

T = TypeVar("T")
FOLDERS: dict[str, str] = {"separate": "stems_dir", "remix": "remix_dir"}
"""The setting of each section that names where its shards are."""


def place_of_stage(settings: Settings, stage: Literal["separate", "remix"]) -> Place:
    """Where a stage keeps its shards. Nothing is looked at yet."""
    return stems_place(getattr(getattr(settings, stage), FOLDERS[stage]), settings.train.stems_cache_dir)


def in_working_folder(settings: Settings, stage: Literal["separate", "remix"], place: Place) -> Settings:
    """The settings with the folder in which the place's small files can be read. They are for reading alone."""
    return _with_folder(settings, stage, place.folder)


def reading_settings(settings: Settings, stage: Literal["separate", "remix"], cache: StemCache) -> Settings:
    """The same, of shards that are open."""
    return _with_folder(settings, stage, cache.stems_dir)


def _with_folder(settings: Settings, stage: str, folder: Path) -> Settings:
    section = getattr(settings, stage)
    if getattr(section, FOLDERS[stage]) == folder:
        return settings
    return replace(settings, **{stage: replace(section, **{FOLDERS[stage]: folder})})


def open_shards(settings: Settings, location: Path) -> StemCache:
    """The finished shards of a folder or behind a URL. What is read of those behind URLs is kept as for `train`.

    Raises MixstyleError as `StemCache` and `RemoteStemCache` do.
    """
    url, train = url_of(location), settings.train
    try:
        return RemoteStemCache(url, train.stems_cache_dir, 1e9 * train.stems_cache_gb) if url else StemCache(location)
    except MixstyleError as error:
        if location != settings.remix.remix_dir or error.remedy[:1] != ("separate",):
            raise
        # shards without readable settings do not tell that they are a bank's
        raise MixstyleError(error.message, code=error.code, remedy=("remix", *error.remedy[1:])) from error


def place_of_features(settings: Settings, location: Path) -> Place:
    """Where a descriptor store is kept. Nothing is looked at yet."""
    return features_place(location, settings.train.stems_cache_dir)


class FirstElsewhereError(Exception):
    """Another machine began the same output at the same moment; its settings are in the working folder now."""


def keep_settings(place: Place, name: str, begun: bool) -> None:
    """Keeps the settings that `guard` has made sure of. begun: whether there were any before.

    Raises FirstElsewhereError where another machine was faster with those of a new output.
    """
    if begun:
        place.keep(name)
    elif not place.keep_first(name):
        raise FirstElsewhereError


def begun_once(open_it: Callable[[], T]) -> T:
    """What `open_it` gives; it is called again where another machine was faster with the settings."""
    try:
        return open_it()
    except FirstElsewhereError:
        return open_it()  # they are there now, so that nobody can be first with them again
