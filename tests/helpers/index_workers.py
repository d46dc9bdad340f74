"""Processes that fill one index of songs behind a URL, as `index` does on several machines, and what comes of it."""

from pathlib import Path

import numpy as np

from helpers.s3_server import BUCKET
from mixstyle.cache.song_index.index import IndexedSong, SongIndex
from mixstyle.cache.song_index.place import LEFT_OUT, index_place
from mixstyle.cache.storage.atomic import write_json, write_text
from mixstyle.cache.storage.locks import locked
from mixstyle.cache.storage.place import Place
from mixstyle.cache.storage.provenance import SETTINGS
from mixstyle.cache.storage.remote_store import RemoteStore
from mixstyle.pipeline.core.errors import MixstyleError

SONGS, AT_ONCE, DIMENSIONS, DESCRIPTORS, FAILED = 12, 3, 16, 8, 7
"""FAILED: the song that has no embedding."""
NOT_THERE = ("step-missing", "not-found", "remote")
"""Codes of errors that say that something cannot be read (now)."""


def song(number: int) -> IndexedSong:
    rng, name, nothing = np.random.default_rng(number), f"song {number:02d}.flac", np.empty(0, np.float32)
    if number == FAILED:
        return IndexedSong(name, 1000 + number, number, 0.0, nothing, nothing, "unreadable: lost sync")
    vector = rng.standard_normal(DIMENSIONS).astype(np.float32)
    values = rng.standard_normal(DESCRIPTORS).astype(np.float32)
    return IndexedSong(
        name, 1000 + number, number, 3.5 + number, (vector / np.linalg.norm(vector)).astype(np.float32), values
    )


def fill(place: Place) -> int:
    """Adds the songs that are not there, and merges the parts, as `index` does; how many it added."""
    place.refresh()
    place.folder.mkdir(parents=True, exist_ok=True)
    with locked(place.folder, "index"), place.told():
        if not (place.folder / SETTINGS).is_file():
            write_json(place.folder / SETTINGS, {"stage": "index", "songs": SONGS}, checksum=True)
            place.keep_first(SETTINGS)

        def damaged(error: MixstyleError) -> None:
            raise AssertionError(f"taken for damaged: {error}")

        songs = SongIndex(place.folder, damaged, place)
        wanted = [made for made in map(song, range(SONGS)) if made.path not in songs]
        for start in range(0, len(wanted), AT_ONCE):
            songs.add(wanted[start : start + AT_ONCE])
        songs.keep(song(number).path for number in range(SONGS))
        songs.write_nearest()
        with place.turn():
            write_text(place.folder / LEFT_OUT, "".join(f"{one.path},{one.reason}\n" for one in songs.failed))
            place.keep(LEFT_OUT)
    return len(wanted)


class IndexWorkers:
    """What workers and readers of an index do. root: where a folder's index goes."""

    def __init__(self, root: Path) -> None:
        self._local = Place(root)
        fill(self._local)
        self._songs = {made.path: made for made in map(song, range(SONGS))}

    def work(self, url: str, folder: Path) -> int:
        """Adds what is not there."""
        return fill(index_place(url, folder))

    def check_read(self, url: str, folder: Path) -> int:
        """Reads what is there now: each song is as it was made, or an error says that it is not there. How many."""
        place = index_place(url, folder)
        try:
            place.refresh()
            if not (place.folder / SETTINGS).is_file():
                return 0
            found = SongIndex(place.folder)
        except MixstyleError as error:
            if error.code not in NOT_THERE:
                raise AssertionError(f"read as {error.code}: {error}") from error
            return 0
        for one in (*found.usable, *found.failed):
            self._check(one)
        for one, score in found.search(song(0).embedding, 1):
            assert one.path in self._songs
            assert -1.001 <= score <= 1.001  # a cosine, in float32
        return len(found)

    def check_objects(self, name: str, folder: Path) -> int:
        """Holds what is kept in the end against the folder: all songs, none twice, and nothing else."""
        del folder
        store = RemoteStore(f"s3://{BUCKET}/{name}")
        found = {key: store.read(key) for key in store.listed()}
        parts = [key for key in found if key.startswith("songs-")]
        (here,) = self._local.folder.glob("songs-*.parquet")
        assert [found.pop(part) for part in parts] == [here.read_bytes()], parts
        assert found == {key: (self._local.folder / key).read_bytes() for key in (SETTINGS, LEFT_OUT)}
        return 0

    def _check(self, one: IndexedSong) -> None:
        wanted = self._songs[one.path]
        assert (one.bytes, one.duration_s, one.reason) == (wanted.bytes, wanted.duration_s, wanted.reason)
        np.testing.assert_array_equal(one.embedding, wanted.embedding)
        np.testing.assert_array_equal(one.descriptors, wanted.descriptors)
