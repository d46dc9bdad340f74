"""Files that were cut: what is said of them, and what tells that something is missing behind the end of those that do
not show it by their length.

An Ogg is as long as its last whole page says, a WAV, W64, AIFF, CAF or AU as long as its bytes: cut, they decode
without an error, as a shorter track.

Ogg (RFC 3533): pages of at most 65,307 bytes, the last of which has a flag. A file that ends within a page was cut, and
so was one that goes on with something else where a page should follow, as a download that has its full size from the
beginning, and one whose last page begins a packet that does not end there. Some encoders leave the flag out: of 836
files of Debian's games, one that is whole lacks it. So a file that ends where a page and a packet end, without the
flag, is only suspected: what it sounds like at its end decides.
"""

import mmap
import struct
from dataclasses import dataclass
from typing import BinaryIO

from mixstyle.cache.music.ogg_pages import LAST, MAGIC, page_at

_FULL_SEGMENT = 255
_NOT_KNOWN = 0x7FFF0000
"""Lengths of chunks from here on stand for one that the writer did not know: sox and ffmpeg write several."""
_NOT_KNOWN_LONG = 1 << 62
"""The same of lengths of 8 bytes: ffmpeg writes 2^63 - 1 into a W64."""


def breaks_off(there_s: float) -> str:
    """Of a file whose end is missing, where nobody knows how much."""
    return f"cut short: it breaks off at {there_s:.1f} s"


def ends_early(missing_s: float, told_s: float) -> str:
    """Of a file that lacks `missing_s` of the length that its header tells."""
    return f"cut short: it ends {missing_s:.3g} s before the {told_s:.1f} s that its header says"


def ends_before(place_s: float, told_s: float) -> str:
    """Of a file without anything at a place and behind it."""
    return f"cut short: it ends before {place_s:.1f} s of the {told_s:.1f} s that its header says"


def decoding_fails(place_s: float, told_s: float) -> str:
    """Of a file whose decoder gives up on the way."""
    return f"damaged or cut short: decoding fails at {place_s:.1f} s of {told_s:.1f} s"


@dataclass(frozen=True)
class OggEnd:
    """breaks_off: whether its end is missing. suspected: whether it may be missing, as nothing tells that it is there.
    sure: the share of its length before its last page, which alone may say that there is more than there is: a decoder
    that is sent beyond it believes that."""

    breaks_off: bool
    suspected: bool
    sure: float


def ogg_end(file: BinaryIO, start: int, stop: int) -> OggEnd:
    """How the Ogg in bytes `start` to `stop` ends."""
    breaks_off: bool | None = None
    suspected = False
    serial, granules = -1, []
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        place = stop
        while len(granules) < 2 and (place := data.rfind(MAGIC, start, place)) >= 0:
            page = page_at(data, place, stop)
            if page is None:
                continue
            if breaks_off is None:
                # another stream may follow the last page of one, as a chain of them
                is_last = page.flags & LAST
                breaks_off = page.end < stop and (not is_last or data[page.end : page.end + 4] == MAGIC)
                if not is_last and page.end == stop and data[place + 26]:
                    # a packet goes on where its last segment is full
                    breaks_off = data[place + 26 + data[place + 26]] == _FULL_SEGMENT
                    suspected = not breaks_off
                serial = page.serial
            if page.granule >= 0 and page.serial == serial:  # -1: no packet ends on the page
                granules.append(page.granule)
    sure = granules[1] / granules[0] if len(granules) == 2 and granules[1] < granules[0] else 0.0
    return OggEnd(bool(breaks_off), suspected, sure)


def missing_share(file: BinaryIO, start: int, stop: int) -> float:
    """Bytes of samples that the header of a WAV, RF64, W64, AIFF, CAF or AU tells of and that are not there, by those
    that are; 0 where it tells of no more, or no length.

    start, stop: the file's bytes.
    """
    found = _samples(file, start, stop)
    if found is None:
        return 0.0
    begin, told = found
    there = stop - begin
    return max(0.0, told / there - 1) if there > 0 else 0.0


@dataclass(frozen=True)
class _Chunks:
    """How a container lays out its chunks. head: a chunk's name and length. first: where the first one is. samples: the
    name of that with the samples. even: chunks begin at multiples of it. own: bytes of the head in the length."""

    head: struct.Struct
    first: int
    samples: bytes
    even: int = 2
    own: int = 0


_CONTAINERS = {
    b"RIFF": _Chunks(struct.Struct("<4sI"), 12, b"data"),
    b"RF64": _Chunks(struct.Struct("<4sI"), 12, b"data"),
    b"FORM": _Chunks(struct.Struct(">4sI"), 12, b"SSND"),
    b"caff": _Chunks(struct.Struct(">4sq"), 8, b"data", even=1),
    # Sony Wave64: a GUID of 16 bytes, whose first four are the name
    b"riff": _Chunks(struct.Struct("<4s12xq"), 40, b"data", even=8, own=24),
}


def _samples(file: BinaryIO, start: int, stop: int) -> tuple[int, int] | None:
    """Where the samples begin and how many bytes of them the header tells of; None where it does not tell."""
    file.seek(start)
    head = file.read(12)
    if head[:4] == b".snd" and len(head) == 12:
        offset, length = struct.unpack(">II", head[4:])
        return (start + offset, length) if length < _NOT_KNOWN else None
    kind = _CONTAINERS.get(head[:4])
    if kind is None:
        return None
    place, long_length = start + kind.first, None
    while place + kind.head.size <= stop:
        file.seek(place)
        name, length = kind.head.unpack(file.read(kind.head.size))
        length -= kind.own
        begin = place + kind.head.size
        if name == b"ds64" and length >= 16:
            long_length = struct.unpack("<QQ", file.read(16))[1]
        if name == kind.samples:
            if length == 0xFFFFFFFF and long_length:
                return (begin, long_length) if long_length < _NOT_KNOWN_LONG else None
            return (begin, length) if length < (_NOT_KNOWN if kind.head.size == 8 else _NOT_KNOWN_LONG) else None
        if length < 0:
            return None
        place = begin + length + -length % kind.even
    return None
