"""CAF files whose samples go on to the end: a length of -1, as writers leave it that write to a pipe, or no samples'
length at all, as libsndfile leaves it where the writer died.

Apple Core Audio Format Specification 1.0: `caff`, version and flags, then chunks of a name of 4 bytes, a length of 8
(signed, big-endian) and that many bytes. Only the data chunk may have -1, and is the last one then. It begins with 4
bytes that count its edits: a length of 0, or of these 4, with something behind that is no other chunk was never filled
in.
"""

import struct
from typing import BinaryIO

from mixstyle.cache.music.chunks import is_chunk

_CHUNK = struct.Struct(">4sq")
_OWN_BYTES = 4
"""Of a data chunk, before its samples."""


def caf_header(file: BinaryIO, start: int, stop: int) -> tuple[bytes, int] | None:
    """What comes before the samples, with their length filled in, and where they begin; None where it is known.

    start, stop: the file's bytes.
    """
    place = start + 8
    while place + _CHUNK.size <= stop:
        file.seek(place)
        name, length = _CHUNK.unpack(file.read(_CHUNK.size))
        begin = place + _CHUNK.size
        never_filled_in = 0 <= length <= _OWN_BYTES < stop - begin and not is_chunk(file, begin + length, stop, _CHUNK)
        if name == b"data" and (length == -1 or never_filled_in):
            file.seek(start)
            return file.read(place - start) + _CHUNK.pack(name, stop - begin), begin
        if length < 0:
            return None
        place = begin + length
    return None
