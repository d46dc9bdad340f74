"""`mixstyle index` and `mixstyle search`: which songs of a folder are mixed like this one, and why."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from mixstyle.cache.music.listing import list_tracks
from mixstyle.cache.music.reader import UnreadableMusic
from mixstyle.cache.song_index import NEAREST, SETTINGS, STATE, IndexedSong, SongIndex
from mixstyle.cache.storage.locks import locked
from mixstyle.cache.storage.provenance import Provenance, guard, read_provenance
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.descriptors.compute import DESCRIPTORS, DESCRIPTORS_VERSION
from mixstyle.pipeline.descriptors.presence import is_meaningful
from mixstyle.stages.common.progress import progress, say
from mixstyle.stages.presentation.descriptor_names import in_sentence, shown, shown_unit
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.songs.embed import embedded_songs, embedder_of
from mixstyle.stages.songs.embedder import EmbeddedSong, Embedder

KEEP_S = 60.0
"""Songs are written down this often: what a killed run loses."""
REASONS = 3
"""Descriptors that tell why, on either side."""
NOTHING = np.empty(0, np.float32)


@dataclass(frozen=True)
class Difference:
    """One descriptor of two songs. share: of the index's songs, how many are nearer to the first in it."""

    column: int
    query: float
    found: float
    share: float

    def __str__(self) -> str:
        d = DESCRIPTORS[self.column]
        name = f"{d.stem} {in_sentence(d.title)}"
        return f"{name} {shown(self.column, self.query, self.found)} {shown_unit(d.unit)}".rstrip()


@dataclass(frozen=True)
class Match:
    """A song found. score: cosine. alike and apart: the descriptors that are closest, and those that differ most."""

    song: IndexedSong
    score: float
    alike: tuple[Difference, ...]
    apart: tuple[Difference, ...]


def index(settings: Settings, folder: Path, rebuild: bool = False) -> SongIndex:
    """Embeds a folder's songs into the index: those that are new or have changed; songs that are gone are forgotten.

    Raises MixstyleError where there is no music, and where the index holds songs of another folder or was made with
    another encoder or separator.
    """
    if not folder.is_dir():
        raise MixstyleError(f"{folder}: no such folder", code="not-found")
    place = settings.embed.index_dir
    root = folder.resolve()
    files = _files(root)
    with locked(place, "mixstyle index"), embedder_of(settings) as embedder:
        outputs = [*place.glob("songs-*.parquet"), place / NEAREST, place / STATE]
        again = ("index", str(folder), "--rebuild")
        guard(place / SETTINGS, _provenance(embedder, root), rebuild=rebuild, remove=outputs, remedy=again)
        songs = SongIndex(place)
        wanted = [path for path, stat in files.items() if not _is_kept(songs, path, stat)]
        say(f"index: {len(files)} songs in {folder}, {len(wanted)} of them new or changed")
        _add(songs, embedder, root, wanted, files, settings.embed.workers)
        songs.keep(files)
        songs.write_nearest()
    for song in songs.failed:
        say(f"index: left out {song.path}: {song.reason}")
    say(f"index: {len(songs.usable)} songs in {place}")
    return songs


def open_index(settings: Settings, embedder: Embedder | None = None) -> tuple[SongIndex, Path]:
    """The index and its music folder. Raises MixstyleError where there is none, or the embedder did not make it."""
    place = settings.embed.index_dir
    if not (place / SETTINGS).is_file():
        music = settings.separate.data_path
        first = ("index", str(music)) if music.is_dir() else ("index", "--help")
        raise MixstyleError(f"{place}: no index there", code="step-missing", remedy=first)
    root = Path(read_provenance(place / SETTINGS).flat["music"])
    if embedder is not None:
        again = ("index", str(root), "--rebuild")
        guard(place / SETTINGS, _provenance(embedder, root), rebuild=False, remedy=again)
    songs = SongIndex(place)
    if not songs.usable:
        raise MixstyleError(f"{place}: holds no songs", code="no-music", remedy=("index", str(root)))
    return songs, root


def search(settings: Settings, song: Path, k: int = 10) -> list[Match]:
    """The k songs of the index that are mixed most like a song, nearest first; prints them as a table.

    The song itself, where the index holds it, is left out. Raises MixstyleError for a song that cannot be read.
    """
    if k < 1:
        raise MixstyleError(f"-k {k}: should be 1 or more")
    with embedder_of(settings) as embedder:
        songs, root = open_index(settings, embedder)
        query = embedder.song(song)
    found = matches(songs, query, k, without=song.resolve(), root=root)
    _print(song, found, len(songs.usable))
    return found


def matches(songs: SongIndex, query: EmbeddedSong, k: int, without: Path, root: Path) -> list[Match]:
    """The k nearest songs, with reasons."""
    everyone = songs.descriptors()
    nearest = songs.search(query.embedding.numpy(), k + 1)
    kept = [(song, score) for song, score in nearest if root / song.path != without][:k]
    return [Match(song, score, *reasons(query.values, song.descriptors, everyone)) for song, score in kept]


def reasons(
    query: NDArray[np.float32], found: NDArray[np.float32], everyone: NDArray[np.float32]
) -> tuple[tuple[Difference, ...], tuple[Difference, ...]]:
    """In which descriptors two songs [D] are closest and in which they differ most, by the songs [N, D] around them.

    A descriptor counts by the share of all songs that are nearer to the query in it, so that being alike in something
    that all songs share tells nothing; equal shares go by the distance in spreads. Of stems that one of the two has
    not, loudness alone counts.
    """
    distance = np.abs(everyone - query)
    own = np.abs(found - query)
    share = (distance < own).mean(0) + 0.5 * (distance == own).mean(0)
    low, high = np.percentile(everyone, [25, 75], axis=0)
    spreads = own / np.maximum(high - low, 1e-6)
    columns = [column for column in range(len(DESCRIPTORS)) if is_meaningful(column, query, found)]
    order = sorted(columns, key=lambda column: (share[column], spreads[column]))

    def told(chosen: list[int]) -> tuple[Difference, ...]:
        return tuple(Difference(c, float(query[c]), float(found[c]), float(share[c])) for c in chosen)

    return told(order[:REASONS]), told(order[: -REASONS - 1 : -1])


def _files(root: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of each music file below a folder, by its path within it."""
    try:
        listing = list_tracks(root, "mixtures")
    except MixstyleError as error:
        raise MixstyleError(str(error).replace("separate.data_path=", "")) from error
    found = {}
    for path in sorted(listing.sizes):
        try:
            stat = (root / path).stat()
        except OSError:  # a link to nothing, or just removed: told like any song that cannot be read
            found[path] = -1, 0
        else:
            found[path] = stat.st_size, stat.st_mtime_ns
    return found


def _provenance(embedder: Embedder, root: Path) -> Provenance:
    """What the rows follow from, whichever songs they are of."""
    made_from = {name: embedder.fingerprint[name] for name in ("encoder", "separator")}
    cut = {name: value for name, value in embedder.fingerprint.items() if name not in made_from}
    versions = {"descriptors_version": DESCRIPTORS_VERSION}
    return Provenance("index", cut, versions, {**made_from, "music": root.as_posix()})


def _is_kept(songs: SongIndex, path: str, stat: tuple[int, int]) -> bool:
    return path in songs and (songs[path].bytes, songs[path].modified_ns) == stat


def _add(
    songs: SongIndex,
    embedder: Embedder,
    root: Path,
    wanted: list[str],
    files: dict[str, tuple[int, int]],
    workers: int,
) -> None:
    waiting: list[IndexedSong] = []
    written = time.monotonic()
    with progress("index", len(wanted), "songs") as bar:
        try:
            made = embedded_songs(embedder, [root / path for path in wanted], workers)
            for path, found in zip(wanted, made, strict=True):
                waiting.append(_row(path, files[path], found))
                bar.advance()
                if time.monotonic() - written >= KEEP_S:
                    songs.add(waiting)
                    waiting, written = [], time.monotonic()
        finally:
            songs.add(waiting)  # also what Ctrl-C cuts short


def _row(path: str, stat: tuple[int, int], found: EmbeddedSong | UnreadableMusic) -> IndexedSong:
    if isinstance(found, UnreadableMusic):
        return IndexedSong(path, *stat, 0.0, NOTHING, NOTHING, str(found))
    return IndexedSong(path, *stat, found.duration_s, found.embedding.numpy(), found.values)


def _print(query: Path, found: list[Match], songs: int) -> None:
    caption = "values: the query's / the song's"
    table = Table(title=f"mixed like {query.name}, of {songs} songs", title_justify="left", caption=caption, box=None)
    table.add_column("", justify="right")
    table.add_column("cosine", justify="right")
    table.add_column("song", overflow="fold")
    table.add_column("most alike in", overflow="fold")
    table.add_column("most apart in", overflow="fold")
    for rank, match in enumerate(found, 1):
        alike, apart = ("\n".join(map(str, side)) for side in (match.alike, match.apart))
        table.add_row(str(rank), f"{match.score:.3f}", match.song.path, alike, apart)
    Console(width=None if Console().is_terminal else 150).print(table)
