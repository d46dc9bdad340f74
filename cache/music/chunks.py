"""Chunks of audio files (WAV, AIFF, CAF): a name, a length, and that many bytes."""

import struct
from typing import BinaryIO


def is_chunk(file: BinaryIO, place: int, stop: int, head: struct.Struct) -> bool:
    """Whether a chunk begins at `place` that has a name of ASCII and fits into the file, whose bytes end at `stop`.

    head: the format of a name of 4 bytes and a length.
    """
    file.seek(place)
    data = file.read(head.size)
    if len(data) < head.size:
        return False
    name, length = head.unpack(data)
    return name.isascii() and name.decode().isprintable() and 0 <= length <= stop - place - head.size
