"""Pages of an Ogg file (RFC 3533), and whether one recording follows another in it (a chain).

A page: `OggS`, 0, flags, granule position (8 bytes), serial number of its stream (4), its number in the stream (4),
checksum (4), the number of segments, their lengths, and the segments: at most 65,307 bytes in all. A stream begins with
a page that is flagged as its first; a stream that begins after others have gone on is the next link of a chain.

To look at every page would be to read the whole file. In a file of one stream, all pages have one serial number, and
their numbers and granule positions grow from its beginning to its end. So some pages are enough: those at the
beginning, two at each of some places further on, and the last two. Where another link begins, its pages have another
serial number, or are numbered from 0 again. From one place to the next, the distance from the beginning grows by a
quarter. A link of the same serial number that begins between two places is missed only if it has more pages in this
fifth of the bytes than there are before it, and if these pages also hold more samples. Where the bytes for each number
are too many beside the pages that are there, all pages are looked at, as wherever else anything is not as in a file of
one stream.
"""

import mmap
import struct
from typing import BinaryIO, NamedTuple

FIRST, LAST = 2, 4
"""Flags: the first and the last page of a stream."""
MAGIC = b"OggS"
_HEAD = struct.Struct("<4sBBqIIIB")
_LONGEST_BYTES = _HEAD.size + 255 + 255 * 255
_BEGINNING_BYTES = 65_536
"""All pages up to here are looked at."""
_BEGINNING_PAGES = 16
_FURTHER = 1.25
"""From one place to the next, from the beginning of the file."""
_UNEVEN = 1.5
"""How many times the bytes of the larger of two pages there may be for each page before them."""


class Page(NamedTuple):
    """start, end: its bytes in the file. number: in its stream."""

    start: int
    end: int
    flags: int
    granule: int
    serial: int
    number: int


def page_at(data: mmap.mmap, place: int, stop: int) -> Page | None:
    """The page that begins at a place; None where none does, or where it goes beyond `stop`."""
    body = place + _HEAD.size
    if body > stop:
        return None
    magic, version, flags, granule, serial, number, _, count = _HEAD.unpack_from(data, place)
    if magic != MAGIC or version != 0 or body + count > stop:
        return None
    end = body + count + sum(data[body : body + count])
    return Page(place, end, flags, granule, serial, number) if end <= stop else None


def is_chained_ogg(file: BinaryIO, start: int, stop: int) -> bool:
    """Whether one recording follows another in the Ogg in bytes `start` to `stop`: a first page after other pages."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        _advise(data, "MADV_RANDOM")  # else the system reads the whole file ahead
        if _is_surely_one_stream(data, start, stop):
            return False
        _advise(data, "MADV_SEQUENTIAL")
        return _has_a_later_beginning(data, start, stop)


def _advise(data: mmap.mmap, how: str) -> None:
    """Tells the system how the file is read, where it takes that."""
    if hasattr(mmap, how):
        data.madvise(getattr(mmap, how))


def _has_a_later_beginning(data: mmap.mmap, start: int, stop: int) -> bool:
    place, begun = start, False
    while 0 <= place < stop:
        page = page_at(data, place, stop)
        if page is not None:
            is_first = bool(page.flags & FIRST)
            if is_first and begun:
                return True
            begun = begun or not is_first
        place = page.end if page is not None else data.find(MAGIC, place + 1, stop)
    return False


def _is_surely_one_stream(data: mmap.mmap, start: int, stop: int) -> bool:
    """Whether the pages at some places tell that the file is no chain."""
    page, ending = page_at(data, start, stop), _last_pair(data, start, stop)
    if page is None or ending is None or page.number != 0:
        return False
    serial, number, (end, _) = page.serial, 0, ending
    while page.start < end.start and (page.end - start < _BEGINNING_BYTES or number < _BEGINNING_PAGES):
        page = page_at(data, page.end, stop)
        number += 1
        if page is None or page.serial != serial or page.number != number or page.flags & FIRST:
            return False
    while page.start < end.start:
        place = start + round((page.end - start) * _FURTHER)
        pair = _pair_from(data, place, stop) if place < end.start else ending
        if pair is None or not _goes_on(page, *pair):
            return False
        page = pair[0]
    return _are_neighbours(*ending)


def _goes_on(before: Page, page: Page, following: Page) -> bool:
    """Whether a page and the next may belong to the stream of one before, with as many between as the numbers say."""
    if page.serial != before.serial or page.number <= before.number or page.flags & FIRST:
        return False
    if 0 <= page.granule < before.granule:  # -1: no packet ends on the page
        return False
    mean_bytes = (page.end - before.end) / (page.number - before.number)
    return mean_bytes <= _UNEVEN * max(page.end - page.start, following.end - following.start)


def _are_neighbours(page: Page, following: Page) -> bool:
    return following.serial == page.serial and following.number == page.number + 1 and not following.flags & FIRST


def _pair_from(data: mmap.mmap, place: int, stop: int) -> tuple[Page, Page] | None:
    """The first page at a place or behind it, and the next of its stream. `OggS` alone may be anywhere in a page."""
    farthest = min(stop, place + 2 * _LONGEST_BYTES)
    while (place := data.find(MAGIC, place, farthest)) >= 0:
        page = page_at(data, place, stop)
        if page is not None and (following := page_at(data, page.end, stop)) is not None:
            return (page, following) if _are_neighbours(page, following) else None
        place += 1
    return None


def _last_pair(data: mmap.mmap, start: int, stop: int) -> tuple[Page, Page] | None:
    """The last page, and the one that ends where it begins."""
    place, last = stop, None
    while (place := data.rfind(MAGIC, max(start, stop - 3 * _LONGEST_BYTES), place)) >= 0:
        page = page_at(data, place, stop)
        if page is not None and last is None:
            last = page
        elif page is not None and last is not None and page.end == last.start:
            return page, last
    return None
