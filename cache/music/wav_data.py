"""Where the samples of a WAV are, also of one whose writer died before it filled in how many they are."""

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

from mixstyle.cache.music.chunks import is_chunk

_CHUNK = struct.Struct("<4sI")
UNKNOWN = 0xFFFFFFFF
"""The length of a chunk that is not known (a pipe's), or that is elsewhere (RF64)."""


@dataclass(frozen=True, slots=True)
class WavData:
    """form: the `fmt ` chunk. start, stop: the samples' bytes. filled_in: whether the header says where they end."""

    form: bytes
    start: int
    stop: int
    filled_in: bool

    @property
    def header(self) -> bytes:
        """Of a RIFF file with this format, whose samples follow up to the end."""
        unknown = UNKNOWN.to_bytes(4, "little")
        form = b"fmt " + len(self.form).to_bytes(4, "little") + self.form + bytes(len(self.form) % 2)
        return b"RIFF" + unknown + b"WAVE" + form + b"data" + unknown


def wav_data(file: BinaryIO, start: int) -> WavData | None:
    """The samples of the RIFF or RF64 file that begins at `start`; None where it has no format or no samples' chunk.

    A length of 0 with something behind that is no other chunk was never filled in: then the samples go on to the end.
    """
    size = file.seek(0, os.SEEK_END)
    place, form = start + 12, b""
    long_length: int | None = None  # of RF64
    while place + 8 <= size:
        file.seek(place)
        name, length = _CHUNK.unpack(file.read(8))
        if name == b"ds64" and length >= 16:
            long_length = struct.unpack("<QQ", file.read(16))[1]
        elif name == b"fmt ":
            form = file.read(min(length, 40))
            if len(form) < 16:
                return None
        elif name == b"data" and form:
            begin = place + 8
            length = long_length if length == UNKNOWN and long_length is not None else length
            filled_in = length > 0 or begin == size or is_chunk(file, begin, size, _CHUNK)
            return WavData(form, begin, min(size, begin + length) if filled_in else size, filled_in)
        place += 8 + length + length % 2
    return None
