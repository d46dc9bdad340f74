"""The settings' index where this machine can read it: its folder, or a copy of what is behind a URL."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from mixstyle.cache.song_index.place import index_place
from mixstyle.cache.storage.place import Place
from mixstyle.stages.settings.profile import Settings


def place_of_index(settings: Settings) -> Place:
    """Where the settings' index is kept. Nothing is looked at yet."""
    return index_place(settings.embed.index_dir, settings.train.stems_cache_dir)


def in_folder(settings: Settings, place: Place) -> Settings:
    """The settings with the folder of a place for their index."""
    if place.folder == settings.embed.index_dir:
        return settings
    return replace(settings, embed=replace(settings.embed, index_dir=place.folder))


@contextmanager
def readable_index(settings: Settings) -> Iterator[Settings]:
    """The settings with a folder in which the index can be read as it is now; errors inside name where it is kept.

    Raises MixstyleError as `RemoteStore` does.
    """
    place = place_of_index(settings)
    place.refresh()
    with place.told():
        yield in_folder(settings, place)
