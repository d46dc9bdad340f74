"""AU files whose samples go on to the end: a length of 0, as libsndfile leaves it where the writer died.

Sun's format: `.snd`, where the samples begin (from the beginning of the file), their bytes, and the format of the
samples, each 4 bytes, big-endian. A length of 0xFFFFFFFF stands for one that is not known; libsndfile reads such files
to their end.
"""

import struct
from typing import BinaryIO

_HEAD = struct.Struct(">4sII")
_UNKNOWN = 0xFFFFFFFF


def au_header(file: BinaryIO, start: int, stop: int) -> tuple[bytes, int] | None:
    """What comes before the samples, with a length that is not known, and where they begin; None where it is told.

    start, stop: the file's bytes.
    """
    file.seek(start)
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    magic, offset, length = _HEAD.unpack(head)
    begin = start + offset
    if length > 0 or not _HEAD.size < offset < stop - start:
        return None
    return _HEAD.pack(magic, offset, _UNKNOWN) + file.read(offset - _HEAD.size), begin
