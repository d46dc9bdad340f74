"""An index of songs: their embeddings and descriptors, and a search structure over them. Format version 2.

A folder with `settings.json` (what the embeddings were made with, `mixstyle.cache.storage.provenance`), parts
`songs-<8 digits>.parquet`, and `nearest.faiss`. A part has a row a song: `path` (relative to the music folder, `/`
between folders; bytes, since a name may be no UTF-8), `bytes` and `modified_ns` of the file when it was read,
`duration_s`, `embedding` (list of E float32, of unit length), `descriptors` (list of D float32, the song's
own), `reason` (why it has no embedding; empty where it has one), and of the whole song `loudness_lufs`,
`loudness_range_lu` and `true_peak_dbtp` (null where they were not measured; parts of version 1 lack them). Every number
in it is finite: a song of which one is not is a song without an embedding, also where an older version wrote it. Of
several rows of a path that of the highest part counts. The metadata of a part have `mixstyle_index`, the version, and
`mixstyle_sha256`, a hash of its rows; its pages have checksums. Both are checked when it is read, and earlier parts
have neither. `mixstyle_made_with`, which came later, is the fingerprint of the provenance that the rows were made
under: by it a `settings.json` that was lost is written again. The search structure (`nearest.py`) is over the songs
that have an embedding, in the order of their paths.
"""

import hashlib
import itertools
import math
import os
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mixstyle.cache.song_index.nearest import EXACT_BELOW, Nearest, is_whole, load_nearest
from mixstyle.cache.storage.atomic import atomic_write
from mixstyle.cache.storage.place import Place
from mixstyle.pipeline.core.errors import MixstyleError, one_line
from mixstyle.pipeline.core.text import as_utf8

Number = TypeVar("Number", np.float32, np.int32)

VERSION = 2
_AGAIN = ("verify", "--repair")
_SHA256 = "mixstyle_sha256"
_MADE_WITH = "mixstyle_made_with"
_FIELDS = ("path", "bytes", "modified_ns", "duration_s", "embedding", "descriptors", "reason")
_LOUDNESS = ("loudness_lufs", "loudness_range_lu", "true_peak_dbtp")
_FIELDS_OF = {"1": _FIELDS, "2": (*_FIELDS, *_LOUDNESS)}


@dataclass(frozen=True, repr=False)
class IndexedSong:
    """A row. embedding [E] and descriptors [D] are empty where `reason` tells why there are none."""

    path: str
    bytes: int
    modified_ns: int
    duration_s: float
    embedding: NDArray[np.float32]
    descriptors: NDArray[np.float32]
    reason: str = ""
    loudness_lufs: float = math.nan
    loudness_range_lu: float = math.nan
    true_peak_dbtp: float = math.nan

    def __repr__(self) -> str:
        return f"IndexedSong({self.path!r}, {self.reason or f'{self.duration_s:.1f} s'})"


def share_farther(pair_cosines: NDArray[np.float32], cosine: float) -> float:
    """The share of pairs of songs that are farther apart than two songs of this cosine; equal ones count half.

    pair_cosines: ascending, as `SongIndex.pair_cosines` gives them. NaN where there are none.

    >>> share_farther(np.array([0.1, 0.7, 0.8, 0.9], np.float32), 0.85)
    0.75
    """
    if not len(pair_cosines):
        return math.nan
    places = [int(np.searchsorted(pair_cosines, np.float32(cosine), side)) for side in ("left", "right")]
    return sum(places) / 2 / len(pair_cosines)


class SongIndex:
    """The songs in an index, by path; `add` and `keep` change it on the disk.

    drop: called with the error of a part that is damaged, which is then removed: its songs are to be embedded again.
    Without it such a part is raised as MixstyleError ("damaged-file"). place: where parts are kept, if not in the
    folder alone. exact_below: from so many songs on, the search is approximate. made_with: the fingerprint of what rows
    that are added follow from; empty where that is not known.
    """

    def __init__(
        self,
        folder: Path,
        drop: Callable[[MixstyleError], None] | None = None,
        place: Place | None = None,
        *,
        exact_below: int = EXACT_BELOW,
        made_with: str = "",
    ) -> None:
        self.folder, self._exact_below, self._made_with = folder, exact_below, made_with
        self._place = place or Place(folder)
        self._songs: dict[str, IndexedSong] = {}
        self._parts: list[Path] = []
        for part in sorted(folder.glob("songs-*.parquet")):
            try:
                self._songs.update((song.path, song) for song in read_part(part))
            except MixstyleError as error:
                if drop is None or error.code != "damaged-file":
                    raise
                drop(error)
                self._place.take_away(part.name)
            else:
                self._parts.append(part)
        self._nearest: Nearest | None = None
        self._usable: list[IndexedSong] | None = None

    def __len__(self) -> int:
        return len(self._songs)

    def __contains__(self, path: str) -> bool:
        return path in self._songs

    def __getitem__(self, path: str) -> IndexedSong:
        return self._songs[path]

    @property
    def usable(self) -> list[IndexedSong]:
        """Songs with an embedding, in the order of their paths."""
        if self._usable is None:
            self._usable = [self._songs[path] for path in sorted(self._songs) if not self._songs[path].reason]
        return self._usable

    @property
    def failed(self) -> list[IndexedSong]:
        """Songs that could not be read, in the order of their paths."""
        return [self._songs[path] for path in sorted(self._songs) if self._songs[path].reason]

    def add(self, songs: Sequence[IndexedSong]) -> None:
        """Writes songs as a new part."""
        if not songs:
            return
        songs = [_checked(song) for song in songs]
        self._parts.append(self._write(songs))
        self._songs.update((song.path, song) for song in songs)
        self._nearest = self._usable = None

    def keep(self, paths: Iterable[str]) -> None:
        """Forgets songs that are not among `paths`, and merges the parts into one."""
        kept = {path: song for path in sorted(set(paths)) if (song := self._songs.get(path))}
        if len(self._parts) <= 1 and kept.keys() == self._songs.keys():
            return
        merged = self._write(list(kept.values()))
        # Stopped half way, this leaves older rows that the merged part outranks, and songs that the next run forgets.
        self._place.take_away(*(part.name for part in self._parts))
        self._parts, self._songs, self._nearest, self._usable = [merged], kept, None, None

    def embeddings(self) -> NDArray[np.float32]:
        """[songs, E] of `usable`."""
        return np.stack([song.embedding for song in self.usable])

    def descriptors(self) -> NDArray[np.float32]:
        """[songs, D] of `usable`."""
        return np.stack([song.descriptors for song in self.usable])

    def search(self, embedding: NDArray[np.float32], k: int) -> list[tuple[IndexedSong, float]]:
        """The k nearest songs to an embedding [E] and their cosines, nearest first."""
        songs = self.usable
        if not songs:
            return []
        self._nearest = self._nearest or self._load_nearest()
        if embedding.shape != (self._nearest.dimensions,):
            raise MixstyleError(
                f"{self.folder}: holds embeddings of {self._nearest.dimensions} dimensions, not "
                f"{list(embedding.shape)}",
                code="misfit",
            )
        return [(songs[place], cosine) for place, cosine in self._nearest.search(embedding, min(k, len(songs)))]

    def pair_cosines(self, most: int = 1000) -> NDArray[np.float32]:
        """Cosines of all pairs of songs, ascending [pairs]; of so many songs at most, spread evenly over the index."""
        count = len(self.usable)
        if count < 2:
            return np.empty(0, np.float32)
        places = np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))
        songs = np.stack([self.usable[place].embedding for place in places])
        return np.sort((songs @ songs.T)[np.triu_indices(len(songs), 1)])

    def write_nearest(self) -> float:
        """Makes the search structure of the songs that are there, unless it is; the share of the ten nearest songs that
        it finds. Raises MixstyleError (cannot-write)."""
        if not self.usable:
            return 1.0
        self._nearest = self._load_nearest(must_keep=True)
        return 1.0 if self._nearest.recall is None else self._nearest.recall

    def nearest_is_whole(self) -> bool:
        """Whether the search structure on the disk holds the embeddings of the index."""
        return not self.usable or is_whole(self.folder, *self._searched(), exact_below=self._exact_below)

    def _load_nearest(self, must_keep: bool = False) -> Nearest:
        """must_keep: raises MixstyleError where one that had to be made cannot be written. A search needs it no longer
        than it runs."""
        return load_nearest(self.folder, *self._searched(), exact_below=self._exact_below, must_keep=must_keep)

    def _searched(self) -> tuple[list[str], list[NDArray[np.float32]]]:
        """Paths and embeddings of what the search structure is over."""
        return [song.path for song in self.usable], [song.embedding for song in self.usable]

    def _write(self, songs: Sequence[IndexedSong]) -> Path:
        """Writes a part that outranks all others."""
        number = int(self._parts[-1].stem.removeprefix("songs-")) + 1 if self._parts else 0
        path = self.folder / f"songs-{number:08d}.parquet"
        columns: Mapping[str, Any] = {
            name: [getattr(song, name) for song in songs] for name in _FIELDS_OF[str(VERSION)]
        }
        vector = pa.list_(pa.float32())
        table = pa.table(
            {
                "path": pa.array([os.fsencode(path) for path in columns["path"]], pa.binary()),
                "bytes": pa.array(columns["bytes"], pa.int64()),
                "modified_ns": pa.array(columns["modified_ns"], pa.int64()),
                "duration_s": pa.array(columns["duration_s"], pa.float64()),
                "embedding": pa.array(columns["embedding"], vector),
                "descriptors": pa.array(columns["descriptors"], vector),
                "reason": pa.array([as_utf8(reason) for reason in columns["reason"]], pa.string()),
                **{
                    name: pa.array([None if math.isnan(value) else value for value in columns[name]], pa.float64())
                    for name in _LOUDNESS
                },
            }
        ).replace_schema_metadata(
            {"mixstyle_index": str(VERSION), _SHA256: _digest(songs)}
            | ({_MADE_WITH: self._made_with} if self._made_with else {})
        )
        with self._place.turn():
            with atomic_write(path) as temporary:
                pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
                if pq.read_metadata(temporary).num_rows != len(songs):
                    raise MixstyleError(f"{path}: could not be read back; is the disk full?", code="cannot-write")
            self._place.keep(path.name)
        return path


def all_made_with(folder: Path, fingerprint: str) -> bool:
    """Whether there are parts, and all of them can be read and were written under this fingerprint."""
    try:
        found = {_made_with(part) for part in folder.glob("songs-*.parquet")}
    except (pa.ArrowException, OSError, ValueError, MemoryError):
        return False
    return found == {fingerprint}


def _made_with(part: Path) -> str:
    """The fingerprint in a part's metadata; empty where there is none."""
    return (pq.read_schema(part).metadata or {}).get(_MADE_WITH.encode(), b"").decode(errors="replace")


def _checked(song: IndexedSong) -> IndexedSong:
    """The song, or what is known of it but its vectors where a number is not finite."""
    loudness = (song.loudness_lufs, song.loudness_range_lu, song.true_peak_dbtp)
    finite = np.isfinite(song.embedding).all() and np.isfinite(song.descriptors).all()
    if finite and not any(map(math.isinf, loudness)):
        return song
    nothing = np.empty(0, np.float32)
    reason = song.reason or "not finite: its embedding or descriptors hold NaN or infinite values"
    return IndexedSong(song.path, song.bytes, song.modified_ns, song.duration_s, nothing, nothing, reason)


def _digest(songs: Sequence[IndexedSong]) -> str:
    """64 hex digits of the SHA-256 of rows, in their order."""
    digest = hashlib.sha256()
    for song in songs:
        for text in (os.fsencode(song.path), as_utf8(song.reason).encode()):
            digest.update(struct.pack("<q", len(text)) + text)
        loudness = (value if math.isfinite(value := getattr(song, name)) else math.nan for name in _LOUDNESS)
        digest.update(struct.pack("<qqdddd", song.bytes, song.modified_ns, song.duration_s, *loudness))
        for vector in (song.embedding, song.descriptors):
            digest.update(struct.pack("<q", len(vector)) + np.asarray(vector, "<f4").tobytes())
    return digest.hexdigest()


def read_part(path: Path) -> list[IndexedSong]:
    """The rows of one part. Raises MixstyleError, naming it, for one that is damaged or of an unknown version."""
    try:
        # not `read_table`: that goes through pyarrow's datasets, which load pandas where it is installed
        # a buffer of a megabyte, since a part of 100,000 songs would else lie in memory twice
        with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False, buffer_size=1 << 20) as file:
            table = file.read()
        names = set(table.column_names)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise MixstyleError(
            f"{path}: cannot be read ({one_line(error)})", code="damaged-file", remedy=_AGAIN
        ) from error
    version = (table.schema.metadata or {}).get(b"mixstyle_index", b"none").decode(errors="replace")
    if names != set(_FIELDS_OF.get(version, ())):
        raise MixstyleError(
            f"{path}: version {version} of the format; this mixstyle reads version {VERSION}", code="unknown-version"
        )
    columns = {name: table.column(name) for name in _FIELDS_OF[version]}
    vectors = {name: _vectors(columns[name]) for name in ("embedding", "descriptors")}
    plain = {name: columns[name].to_pylist() for name in _FIELDS_OF[version] if name not in vectors}
    for name in _LOUDNESS:
        if name in plain:
            plain[name] = [math.nan if value is None else value for value in plain[name]]
    outside = next((name for name in map(os.fsdecode, plain["path"]) if not _is_inside(name)), None)
    if outside is not None:
        raise MixstyleError(
            f"{path}: names {outside!r}, which is outside of the music folder",
            code="damaged-file",
            remedy=_AGAIN,
        )
    songs = [
        IndexedSong(
            os.fsdecode(plain["path"][i]),
            plain["bytes"][i],
            plain["modified_ns"][i],
            plain["duration_s"][i],
            vectors["embedding"][i],
            vectors["descriptors"][i],
            plain["reason"][i],
            *(plain[name][i] if name in plain else math.nan for name in _LOUDNESS),
        )
        for i in range(table.num_rows)
    ]
    stored = (table.schema.metadata or {}).get(_SHA256.encode())
    if stored is not None and stored.decode(errors="replace") != _digest(songs):
        raise MixstyleError(f"{path}: damaged: it does not hold what was written", code="damaged-file", remedy=_AGAIN)
    pa.default_memory_pool().release_unused()
    return [_checked(song) for song in songs]


def _vectors(column: pa.ChunkedArray) -> list[NDArray[np.float32]]:
    """The lists of a column, each a view of the numbers of all of them: an index has a hundred million."""
    found: list[NDArray[np.float32]] = []
    for chunk in column.chunks:
        numbers, ends = _numbers(chunk.values, np.float32), _numbers(chunk.offsets, np.int32)
        found += [numbers[start:stop] for start, stop in itertools.pairwise(ends)]
    return found


def _numbers(array: pa.Array, kind: type[Number]) -> NDArray[Number]:
    """The numbers of an array, where possible as they are: pyarrow's own `to_numpy` loads pandas, if it is there."""
    data = array.buffers()[-1]
    if not len(array) or data is None or array.null_count or array.type != pa.from_numpy_dtype(kind):
        return array.to_numpy(zero_copy_only=False).astype(kind, copy=False)
    return np.frombuffer(data, kind, len(array), array.offset * np.dtype(kind).itemsize)


def _is_inside(name: str) -> bool:
    """Whether a stored path stays below the folder that it is relative to."""
    if name.strip("./") and name[0] != "/" and ".." not in name:
        return True  # nearly all of them, and parsing takes long
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts
