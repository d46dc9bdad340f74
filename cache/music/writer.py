"""Writes audio block by block: WAV or FLAC at 44.1 kHz, whole or not at all.

A file is written under a temporary name, read again, compared with what went in, and renamed. Equal samples give equal
bytes. WAV of 4 GB and more is RF64 (EBU Tech 3306), which readers of WAV know.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, cast

import numpy as np
import soundfile
from numpy.typing import NDArray

from mixstyle.cache.music.reader import BLOCK_FRAMES
from mixstyle.cache.storage.atomic import atomic_write
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE

AudioFormat = Literal["wav", "flac"]
Samples = Literal["24", "float"]

FULL_SCALE = 1 << 23
"""Of 24 bits."""
MOST_WAV_BYTES = (1 << 32) - (1 << 16)
"""What WAV's sizes can tell, with room for its headers."""


@dataclass(frozen=True)
class AudioForm:
    """How samples are written. format: `wav` or `flac`. samples: `24` bits, or 32-bit `float`, which WAV alone has.

    Raises MixstyleError (bad-option) for FLAC with float samples.
    """

    format: AudioFormat = "wav"
    samples: Samples = "24"

    def __post_init__(self) -> None:
        if self.format == "flac" and self.samples == "float":
            raise MixstyleError("FLAC holds no float samples; leave out --float, or write WAV", code="bad-option")

    @classmethod
    def of(cls, path: Path, samples: Samples = "24") -> "AudioForm":
        """By a name's ending. Raises MixstyleError (bad-option) for another than .wav and .flac."""
        suffix = path.suffix.lower()
        if suffix not in (".wav", ".flac"):
            raise MixstyleError(f"{path}: should end in .wav or .flac", code="bad-option")
        return cls("flac" if suffix == ".flac" else "wav", samples)

    @property
    def bytes_per_frame(self) -> int:
        return 2 * (4 if self.samples == "float" else 3)


class AudioWriter:
    """Takes stereo blocks. frames: so far. clipped: samples beyond full scale, which 24 bits cut off."""

    def __init__(self, file: soundfile.SoundFile, form: AudioForm) -> None:
        self._file, self._form = file, form
        self.frames = self.clipped = self.crc = 0

    def write(self, block: NDArray[np.floating]) -> None:
        """The next samples [2, n]."""
        samples = _as_stored(block, self._form)
        self.clipped += 0 if self._form.samples == "float" else int(np.count_nonzero(_beyond(block)))
        self.frames += len(samples)
        self.crc = zlib.crc32(samples.tobytes(), self.crc)
        self._file.write(samples)


class _Kept:
    """A file for libsndfile, whose callbacks lose exceptions: what the system refuses first is kept."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self.refused: OSError | None = None
        self.tell, self.read, self.readinto = raw.tell, raw.read, cast(Any, raw).readinto

    def write(self, data: bytes) -> int:
        return self._kept(lambda: self._raw.write(data))

    def seek(self, offset: int, whence: int = 0) -> int:
        """Writes what is buffered first, so that it may be refused too."""
        return self._kept(lambda: self._raw.seek(offset, whence))

    def _kept(self, done: Callable[[], int]) -> int:
        try:
            return done()
        except OSError as error:
            self.refused = self.refused or error
            return 0


@contextmanager
def libsndfile_refusals(raw: IO[bytes]) -> Iterator[_Kept]:
    """A file that libsndfile writes to; raises OSError where the system refused to write, whatever libsndfile says."""
    kept = _Kept(raw)
    try:
        yield kept
    except (AssertionError, RuntimeError) as error:  # soundfile's own check of how much was written, and libsndfile's
        if kept.refused is None:
            raise
        raise kept.refused from error
    if kept.refused is not None:
        raise kept.refused


@contextmanager
def audio_writer(path: Path, frames: int, form: AudioForm) -> Iterator[AudioWriter]:
    """Writes an audio file; at the end it is read again and gets its name.

    frames: about how many there will be. Raises MixstyleError (cannot-write) where the system refuses, and
    (damaged-file) where the file does not hold what was written.
    """
    large = frames * form.bytes_per_frame >= MOST_WAV_BYTES
    container = "FLAC" if form.format == "flac" else "RF64" if large else "WAV"
    subtype = "FLOAT" if form.samples == "float" else "PCM_24"
    with atomic_write(path) as temporary:
        with (
            temporary.open("w+b") as raw,
            libsndfile_refusals(raw) as kept,
            soundfile.SoundFile(cast(Any, kept), "w", SAMPLE_RATE, 2, subtype, format=container) as file,
        ):
            writer = AudioWriter(file, form)
            yield writer
        _without_time(temporary)
        _verify(temporary, path, writer, form)


def _as_stored(block: NDArray[np.floating], form: AudioForm) -> NDArray[np.float32] | NDArray[np.int32]:
    """[n, 2] as the file gets them: float32, or whole numbers in the upper 24 of 32 bits."""
    if form.samples == "float":
        return np.ascontiguousarray(block.T, np.float32)
    scaled = np.rint(np.asarray(block.T, np.float64) * FULL_SCALE)
    return np.ascontiguousarray(np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1).astype(np.int32) << 8)


def _beyond(block: NDArray[np.floating]) -> NDArray[np.bool_]:
    scaled = np.rint(np.asarray(block, np.float64) * FULL_SCALE)
    return (scaled < -FULL_SCALE) | (
        scaled > FULL_SCALE
    )  # 1.0 itself loses one step in 8 million, which is no clipping


def _without_time(path: Path) -> None:
    """Clears the time that libsndfile writes into the PEAK chunk of float files: equal samples give equal bytes."""
    with path.open("r+b") as file:
        head = file.read(1024)
        place = head.find(b"PEAK")
        if head[:4] in (b"RIFF", b"RF64") and 0 <= place < head.find(b"data"):
            file.seek(place + 12)
            file.write(struct.pack("<I", 0))


def _verify(temporary: Path, path: Path, writer: AudioWriter, form: AudioForm) -> None:
    crc = frames = 0
    dtype = "float32" if form.samples == "float" else "int32"
    try:
        with soundfile.SoundFile(temporary) as file:
            while len(block := file.read(BLOCK_FRAMES, dtype=dtype, always_2d=True)):
                crc = zlib.crc32(np.ascontiguousarray(block).tobytes(), crc)
                frames += len(block)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise MixstyleError(f"{path}: cannot be read again after it was written", code="damaged-file") from error
    if (frames, crc) != (writer.frames, writer.crc):
        raise MixstyleError(f"{path}: does not hold what was written; is the disk failing?", code="damaged-file")
