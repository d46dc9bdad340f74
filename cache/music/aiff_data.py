"""AIFF files whose samples go on to the end: a sound chunk that says it is empty, as a writer leaves it that died.

Audio Interchange File Format 1.3: `FORM`, a length, `AIFF` or `AIFC`, then chunks of a name of 4 bytes, a length of 4
(big-endian), that many bytes, and one more where they are odd. `SSND` begins with 8 bytes of its own, an offset and a
block size: a length of 0, or of these 8, with something behind that is no other chunk was never filled in. The lengths
in `FORM` and `COMM` are not needed: libsndfile goes by that of `SSND`.
"""

import struct
from typing import BinaryIO

from mixstyle.cache.music.chunks import is_chunk

_CHUNK = struct.Struct(">4sI")
_OWN_BYTES = 8
"""Of a sound chunk, before its samples."""
_LONGEST = 0xFFFFFFFF


def aiff_header(file: BinaryIO, start: int, stop: int) -> tuple[bytes, int] | None:
    """What comes before the samples, with their length filled in, and where they begin; None where it is known.

    start, stop: the file's bytes.
    """
    place = start + 12
    while place + _CHUNK.size <= stop:
        file.seek(place)
        name, length = _CHUNK.unpack(file.read(_CHUNK.size))
        begin = place + _CHUNK.size + _OWN_BYTES
        if name == b"SSND":
            if length > _OWN_BYTES or begin >= stop or is_chunk(file, begin - _OWN_BYTES + length, stop, _CHUNK):
                return None
            file.seek(start)
            before = file.read(place - start) + _CHUNK.pack(name, min(stop - begin + _OWN_BYTES, _LONGEST))
            file.seek(place + _CHUNK.size)
            return before + file.read(_OWN_BYTES), begin
        place += _CHUNK.size + length + length % 2
    return None
