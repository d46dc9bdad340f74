"""Your own songs, dropped into the page: taken into a temporary folder, embedded, and forgotten again."""

import itertools
from collections.abc import Callable
from pathlib import Path, PureWindowsPath
from typing import IO, Any

from mixstyle.cache.music.formats import AUDIO_SUFFIXES_OF, LISTING_VERSION
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.text import printable
from mixstyle.stages.songs.browse.jobs import Job, Jobs
from mixstyle.stages.songs.browse.songs import Library, Track
from mixstyle.stages.songs.embed.embedder import Embedder

SUFFIXES = AUDIO_SUFFIXES_OF[LISTING_VERSION]
LONGEST_NAME = 200
STEPS = {"clips": "it is read, and its clips are separated and embedded"}
_PIECE = 1 << 20


class TooLargeError(MixstyleError):
    """More bytes than are taken."""


class OtherTypeError(MixstyleError):
    """A name that is not of music."""


class Dropped:
    """Takes songs into a folder. most_mb: of one file."""

    def __init__(self, library: Library, embedder: Embedder, folder: Path, most_mb: int) -> None:
        self._library, self._embedder, self._folder, self.most_mb = library, embedder, folder, most_mb
        self._numbers = itertools.count(1)

    def check(self, name: str, size: int) -> str:
        """The name that a file is shown by. Raises TooLargeError and OtherTypeError, before any of it is read."""
        shown = printable(PureWindowsPath(name.strip()).name)[:LONGEST_NAME]
        suffix = _suffix(shown)
        if suffix not in SUFFIXES:
            told = f"{suffix} is no kind of music that is read here" if suffix else "its name has no ending"
            raise OtherTypeError(f"{shown or 'this file'}: {told}; try WAV, FLAC, MP3 or Ogg", code="bad-audio")
        if size > self.most_mb * 1_000_000:
            raise TooLargeError(
                f"{shown}: {size / 1e6:.0f} MB, and up to {self.most_mb} MB are taken (embed.dropped_mb)",
                code="bad-audio",
            )
        return shown

    def save(self, shown: str, stream: IO[bytes], size: int) -> Path:
        """Writes what is sent to a file. Raises MixstyleError where the disk refuses, and what the stream does for less
        than was said. What is not whole is removed."""
        path = self._folder / f"dropped-{next(self._numbers)}{_suffix(shown)}"
        left = size
        try:
            with path.open("xb") as file:
                while left > 0 and (piece := stream.read(min(_PIECE, left))):
                    file.write(piece)
                    left -= len(piece)
        except OSError as error:
            raise MixstyleError(f"{shown}: cannot be kept here: {error.strerror}", code="cannot-write") from error
        finally:
            if left:  # refused, or stopped on its way, which the stream tells
                path.unlink(missing_ok=True)
        return path

    def start(self, jobs: Jobs, shown: str, path: Path) -> Job:
        """A job that embeds the file; its result names the track. The file is removed where it has none.
        Raises MixstyleError as `Jobs.start` does."""
        try:
            return jobs.start(shown, self._work(shown, path), STEPS, lambda: path.unlink(missing_ok=True))
        except MixstyleError:
            path.unlink(missing_ok=True)
            raise

    def _work(self, shown: str, path: Path) -> Callable[[Job], dict[str, Any]]:
        def embed(_: Job) -> dict[str, Any]:
            try:
                song = self._embedder.song(path, measure=True)
            except MixstyleError as error:
                told = error.message.removeprefix(f"{path}: ").removeprefix(f"{path.name}: ")
                raise MixstyleError(f"{shown}: {told}", code=error.code) from error
            heard = tuple((start, start + song.clip_s) for start in song.starts_s)
            lufs = song.loudness.loudness_lufs if song.loudness else float("nan")
            key = path.stem
            self._library.add(
                Track(key, shown, path, song.duration_s, lufs, song.embedding.numpy(), song.values, heard)
            )
            return {"key": key, "note": song.note}

        return embed


def _suffix(name: str) -> str:
    return PureWindowsPath(name).suffix.lower()
