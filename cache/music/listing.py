"""Which music there is: the tracks of a folder, of a list, or of folders of stems, before any of it is opened."""

import csv
import hashlib
import io
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from mixstyle.cache.music.content_hash import audio_bytes, quick_hash
from mixstyle.cache.music.formats import (
    AUDIO_SUFFIXES_OF,
    LISTING_VERSION,
    SONGS_ALONE,
    STEM_NAMES,
    STEM_SUFFIXES,
)
from mixstyle.cache.music.remote_music import Looking, opened, sizes_below
from mixstyle.cache.music.stems_among_music import SongsAndStems, songs_and_stems
from mixstyle.cache.storage.urls import shown, url_of
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.core.text import as_utf8, printable

_CALLED = {"path": "`path`", "artist": "`artist`"} | dict.fromkeys(("licence", "license"), "`licence` or `license`")
"""The columns of a CSV list that are read, and what messages call them."""
REFUSED_SHOWN = 5
"""Folders that cannot be read, told by name; of more the number is told."""
_TOLD: set[str] = set()
"""Those that this process has told of: a folder is listed several times in a run."""
SETTING = "separate.data_path="
"""What errors put before the path of a listing, where a setting named it."""


@dataclass(frozen=True)
class Listing:
    """Tracks by their path (posix, relative to `root`; a list may also hold absolute ones).

    sizes: bytes of each track's file, or of its stems together; -1 where there is no file. artists, licences: of those
    tracks whose list names them. spot: hashes of a few tracks' ends, which tell that a folder was filled again with
    files of the same names and sizes. version: of the rule which files are music. found: by it, where some of a
    folder's files are stems: these are no tracks.
    """

    root: Path
    sizes: Mapping[str, int]
    artists: Mapping[str, str] = field(default_factory=dict)
    licences: Mapping[str, str] = field(default_factory=dict)
    spot: Mapping[str, str] = field(default_factory=dict)
    version: int = LISTING_VERSION
    found: SongsAndStems | None = None

    @property
    def digest(self) -> str:
        """16 hex digits of all of it."""
        digest = hashlib.sha256()
        for path in sorted(self.sizes):
            told = (self.sizes[path], self.artists.get(path, ""), self.licences.get(path, ""), self.spot.get(path, ""))
            digest.update(os.fsencode(path) + b"\0" + repr(told).encode() + b"\n")
        return digest.hexdigest()[:16]


def list_tracks(
    data_path: Path, kind: Literal["mixtures", "stems"], version: int = LISTING_VERSION, named_by: str = SETTING
) -> Listing:
    """Lists a folder (all below it, links followed, each folder once) or a URL, a .txt list or a .csv list.

    A list's relative paths are relative to its folder. Lines of a .txt that begin with `#` are comments, unless a file
    of that name is there. A CSV has a column `path`, and may have `artist` and `licence`. With kind `stems` a track is
    a folder that holds stems. Of mixtures, the stems that are in a folder of music are no tracks; those of a list are,
    for somebody named them. version: of the rule which files are music. named_by: what errors put before the path.
    Raises MixstyleError where there is nothing to list, neither tracks nor stems.
    """
    if url_of(data_path):
        listing = Listing(data_path, _below_url(data_path, kind, version, named_by), version=version)
    elif data_path.is_dir():
        walk = _Walk(data_path)
        found = _song_folders(walk) if kind == "stems" else _music_files(walk, AUDIO_SUFFIXES_OF[version])
        if why := walk.refused.get(str(data_path)):
            raise MixstyleError(f"{named_by}{data_path}: cannot be read ({why})", code="no-music")
        _tell_refused(walk.refused)
        listing = Listing(data_path, found, version=version)
    elif not data_path.exists():
        raise MixstyleError(f"{named_by}{data_path}: no such folder or list", code="not-found")
    elif data_path.suffix.lower() in (".txt", ".csv"):
        listing = replace(_read_list(data_path, kind, named_by), version=version)
    else:
        raise MixstyleError(f"{named_by}{data_path}: should be a folder, a .txt list or a .csv list", code="bad-list")
    if kind == "mixtures" and version >= SONGS_ALONE and not data_path.is_file():
        found = songs_and_stems(listing.sizes)
        if found.stem_folders:
            return replace(listing, sizes={path: listing.sizes[path] for path in found.songs}, found=found)
    if not listing.sizes:
        looked_for = "folders with stems (vocals, bass, drums, other)" if kind == "stems" else "audio files"
        raise MixstyleError(f"{named_by}{shown(data_path)}: no {looked_for} there", code="no-music")
    return listing


def list_folder(folder: Path, kind: Literal["mixtures", "stems"]) -> Listing:
    """As `list_tracks`, of a folder that somebody named and no setting: the errors name it alone."""
    return list_tracks(folder, kind, named_by="")


def describe_change(before: Listing, now: Listing) -> str:
    """What happened to a folder since, such as `12 files added, 3 removed since the manifest was made`."""
    added = len(now.sizes.keys() - before.sizes.keys())
    removed = len(before.sizes.keys() - now.sizes.keys())
    changed = sum(
        now.sizes[path] != before.sizes[path]
        or now.spot.get(path, before.spot.get(path)) != before.spot.get(path, now.spot.get(path))
        for path in now.sizes.keys() & before.sizes.keys()
    )
    counts = [(added, "added"), (removed, "removed"), (changed, "changed")]
    told = [f"{count} {what}" for count, what in counts if count]
    if not told:
        return "its artists or licences changed since the manifest was made"
    first, *rest = told
    number, word = first.split()
    return ", ".join([f"{number} file{'' if number == '1' else 's'} {word}", *rest]) + " since the manifest was made"


def track_files(root: Path, path: str, kind: Literal["mixtures", "stems"]) -> dict[str, Path]:
    """The files of a track: `{"": file}`, or of a folder of stems those that are there, by stem."""
    if kind == "mixtures":
        return {"": root / path}
    if url_of(root):
        names = sorted(name for name in sizes_below(root / path) if "/" not in name)
    else:
        try:
            names = sorted(os.listdir(root / path))  # noqa: PTH208 (names alone, ten times as fast)
        except (OSError, ValueError):  # a NUL in the path, say
            return {}
    # by suffix wav, flac, mp3: where a stem is there twice, the better one is taken
    found: dict[str, tuple[int, Path]] = {}
    for name in names:
        stem, suffix = os.path.splitext(name.lower())  # noqa: PTH122
        if stem in STEM_NAMES and suffix in STEM_SUFFIXES:
            rank = STEM_SUFFIXES.index(suffix)
            if stem not in found or rank < found[stem][0]:
                found[stem] = (rank, root / path / name)
    return {stem: file for stem, (_, file) in found.items()}


def with_spot_checks(listing: Listing, paths: Iterable[str], kind: Literal["mixtures", "stems"]) -> Listing:
    """The listing with hashes of the ends of those tracks' files."""

    def looked(path: str) -> str:
        told = []
        for file in map(opened, track_files(listing.root, path, kind).values()):
            try:
                told.append(quick_hash(file, audio_bytes(file)) if file.is_file() else "no file")
            except OSError:
                told.append("unreadable")
        return " ".join(told)

    paths = list(paths)
    if not url_of(listing.root):
        return replace(listing, spot=dict(zip(paths, map(looked, paths), strict=True)))
    with Looking() as threads:
        return replace(listing, spot=dict(zip(paths, threads.map(looked, paths), strict=True)))


def _below_url(root: Path, kind: Literal["mixtures", "stems"], version: int, named_by: str) -> dict[str, int]:
    """Tracks below a URL and their bytes, as `_music_files` and `_song_folders` have them."""
    if root.suffix.lower() in (".txt", ".csv"):
        raise MixstyleError(
            f"{named_by}{shown(root)}: a list has to be on this machine; copy it here, or name the music folder",
            code="bad-list",
        )
    sizes: dict[str, int] = {}
    for name, size in sizes_below(root).items():
        folder, _, file = name.rpartition("/")
        stem, suffix = os.path.splitext(file.lower())  # noqa: PTH122
        if kind == "stems" and stem in STEMS and suffix in STEM_SUFFIXES:
            sizes[folder or "."] = sizes.get(folder or ".", 0) + size
        elif kind == "mixtures" and suffix in AUDIO_SUFFIXES_OF[version]:
            sizes[name] = size
    return sizes


class _Walk:
    """Folders below `root` with their entries. Links are followed last, and no folder is entered twice: so loops end,
    and a folder is told by its own path rather than by a link's.

    refused: folders that cannot be read, and why; known when all was walked through.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.refused: dict[str, str] = {}

    def __iter__(self) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
        seen: set[tuple[int, int]] = set()
        folders, links = [str(self.root)], []
        while folders or links:
            folder = folders.pop() if folders else links.pop(0)
            try:
                status = os.stat(folder)  # noqa: PTH116 (text paths: half a million of them)
                identity = (status.st_dev, status.st_ino)
                if identity in seen:
                    continue
                seen.add(identity)
                with os.scandir(folder) as scan:
                    entries = sorted((e for e in scan if not e.name.startswith(".")), key=lambda entry: entry.name)
            except OSError as error:
                self.refused[folder] = error.strerror or str(error)
                continue
            found, linked = [], []
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    found.append(entry.path)
                elif entry.is_symlink() and _is_folder(entry):
                    linked.append(entry.path)
            folders.extend(reversed(found))
            links.extend(linked)
            yield folder, entries


def _tell_refused(refused: Mapping[str, str]) -> None:
    """Says of folders that this user may not read, or that are too deep, that their music is left out; once each."""
    new = {folder: why for folder, why in refused.items() if folder not in _TOLD}
    _TOLD.update(new)
    lines = [f"{folder}: cannot be read ({why}); its music is left out" for folder, why in new.items()]
    if len(lines) > REFUSED_SHOWN:
        lines[REFUSED_SHOWN:] = [f"{len(lines) - REFUSED_SHOWN} more folders cannot be read"]
    for line in lines:
        print(printable(f"mixstyle: warning: {line}"), file=sys.stderr, flush=True)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that goes round in a circle
        return False


def _music_files(walk: _Walk, suffixes: frozenset[str]) -> dict[str, int]:
    sizes = {}
    skip = len(str(walk.root).rstrip(os.sep)) + 1
    for _, entries in walk:
        for entry in entries:
            suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
            if suffix in suffixes and not _is_folder(entry):
                sizes[entry.path[skip:].replace(os.sep, "/")] = _size(entry)
    return sizes


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError:
        return -1


def _song_folders(walk: _Walk) -> dict[str, int]:
    sizes = {}
    skip = len(str(walk.root).rstrip(os.sep)) + 1
    for folder, entries in walk:
        split = [(entry, *os.path.splitext(entry.name.lower())) for entry in entries]  # noqa: PTH122
        stems = [entry for entry, stem, suffix in split if stem in STEMS and suffix in STEM_SUFFIXES]
        if stems:
            sizes[folder[skip:].replace(os.sep, "/") or "."] = sum(_size(entry) for entry in stems)
    return sizes


def _read_list(path: Path, kind: Literal["mixtures", "stems"], named_by: str) -> Listing:
    try:
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise MixstyleError(f"{named_by}{path}: cannot be read ({error.strerror})", code="bad-list") from error
    if path.suffix.lower() == ".csv":
        rows = csv_rows(text, f"{named_by}{path}")
    else:
        rows = [{"path": line} for line in text.split("\n") if not _is_comment(line, path.parent)]
    root = path.parent
    sizes: dict[str, int] = {}
    artists: dict[str, str] = {}
    licences: dict[str, str] = {}
    for row in rows:
        written = (row.get("path") or "").strip()
        if not written:
            continue
        name = Path(_as_file_name(written)).as_posix()
        sizes[name] = _size_of(root, name, kind)
        columns = {column: (row.get(column) or "").strip() for column in _CALLED if column != "path"}
        other_encoding = [value for value in columns.values() if not _is_utf8(value)]
        if not _is_utf8(written) and sizes[name] < 0:  # a file may have such a name
            other_encoding.append(written)
        if other_encoding:
            why = f"cannot be read as UTF-8 text ({as_utf8(other_encoding[0])}); save it as UTF-8"
            raise MixstyleError(f"{named_by}{path}: {why}", code="bad-list")
        for column, target in (("artist", artists), ("licence", licences), ("license", licences)):
            if value := columns[column]:
                target[name] = value
    return Listing(root, sizes, artists, licences)


def _as_file_name(written: str) -> str:
    """The name of a file by the bytes that a list in UTF-8 has, in any locale."""
    return os.fsdecode(written.encode("utf-8", "surrogateescape"))


def _is_utf8(text: str) -> bool:
    """Whether text that was read with `surrogateescape` is all UTF-8."""
    return as_utf8(text) == text


def _size_of(root: Path, name: str, kind: Literal["mixtures", "stems"]) -> int:
    """Bytes of a listed track's files; -1 where they are not there, or cannot be: a name may be too long for a file."""
    try:
        files = [file for file in track_files(root, name, kind).values() if file.is_file()]
        return sum(file.stat().st_size for file in files) if files else -1
    except (OSError, ValueError):
        return -1


def _delimiter(text: str) -> str:
    """What separates the columns of a CSV: where no column is called `path` by commas, but one by semicolons or tabs,
    as spreadsheets of some countries write them, these."""
    first = text.lstrip("\r\n").partition("\n")[0]
    names = {separator: [cell.strip().strip('"') for cell in first.split(separator)] for separator in ",;\t"}
    return next((separator for separator, cells in names.items() if "path" in cells), ",")


def csv_rows(text: str, name: str) -> list[dict[str, str]]:
    """The rows of a CSV with a column `path`; columns may be separated by semicolons or tabs too. name: of the file or
    setting, for messages.

    Raises MixstyleError (bad-list) as `refuse_twice` does, and, naming the line, for quotation marks that are not
    closed and for rows with more cells than there are columns: they would hide other rows, or cut a path at its comma.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    rows: list[dict[str, str]] = []
    begins = 1
    try:
        if "path" not in (reader.fieldnames or []):
            found = ", ".join(reader.fieldnames or []) or "nothing"
            raise MixstyleError(f"{name}: has no column `path`; its first line is: {found:.80}", code="bad-list")
        refuse_twice([_CALLED[column] for column in reader.fieldnames or [] if column in _CALLED], name)
        begins = reader.line_num + 1
        for row in reader:
            if None in row:
                raise MixstyleError(
                    f"{name}: line {begins} has more cells than there are columns; put a path that has a comma "
                    "in quotation marks",
                    code="bad-list",
                )
            if "\n" in (row["path"] or ""):
                raise csv.Error("a path that goes on in the next line")
            rows.append({key: value or "" for key, value in row.items()})
            begins = reader.line_num + 1
    except csv.Error as error:
        raise MixstyleError(
            f"{name}: not valid CSV from line {begins} on ({error}); is a quotation mark not closed? Write one "
            "inside a cell twice",
            code="bad-list",
        ) from error
    return rows


def refuse_twice(columns: Sequence[str], where: str) -> None:
    """Raises MixstyleError (bad-list) for a column that is there twice: nothing says which is meant. columns: those
    that are read, as messages call them. where: the file, for the message."""
    if twice := next((column for column in columns if columns.count(column) > 1), None):
        raise MixstyleError(f"{where}: has several columns {twice}; keep one of them", code="bad-list")


def _is_comment(line: str, root: Path) -> bool:
    """Whether a line of a list is a comment: it begins with `#`, and no file of that name is there."""
    name = line.strip()
    if not name.startswith("#"):
        return False
    try:
        return not (root / _as_file_name(name)).exists()
    except OSError:  # longer than any name
        return True
