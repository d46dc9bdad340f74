"""Tags around a file's audio: where ID3v2 tags before it end, and where ID3v1 and APE tags after it begin."""

import os
import struct
from typing import BinaryIO

ID3V1_BYTES = 128


def after_id3v2(file: BinaryIO) -> int:
    """The first byte after the ID3v2 tags that a file begins with, at most its length; 0 where it has none.

    A tag has a header of 10 bytes, four of them of 7 bits each, which give its length, and perhaps a footer of 10.
    """
    size = file.seek(0, os.SEEK_END)
    start = 0
    while start < size:
        file.seek(start)
        head = file.read(10)
        if len(head) < 10 or head[:3] != b"ID3":
            break
        length = (head[6] & 127) << 21 | (head[7] & 127) << 14 | (head[8] & 127) << 7 | (head[9] & 127)
        start += 10 + length + (10 if head[5] & 0x10 else 0)
    return min(start, size)


def before_last_tags(file: BinaryIO) -> int:
    """Where the tags at a file's end begin: an ID3v1 of 128 bytes, before it perhaps an APE tag; else its length."""
    stop = file.seek(0, os.SEEK_END)
    file.seek(max(0, stop - ID3V1_BYTES))
    if file.read(3) == b"TAG":
        stop -= ID3V1_BYTES
    file.seek(max(0, stop - 32))
    footer = file.read(32)
    if len(footer) == 32 and footer[:8] == b"APETAGEX":
        length, _, flags = struct.unpack("<III", footer[12:24])
        stop -= length + (32 if flags & 1 << 31 else 0)
    return max(stop, 0)
