"""Opus in Ogg whose pages are not where their packets say: libsndfile stops at the first one.

A page's granule position is the number of samples at 48 kHz up to its end (RFC 7845, section 4): it grows by what the
page's packets last. Where it does not, libsndfile calls the file malformed and reads no further. Such are files that
were copied out of WebM, whose times are whole milliseconds, with frames of 2.5 ms; and streams that lost packets.
"""

import mmap
from typing import BinaryIO

from mixstyle.cache.music.ogg_pages import LAST, Page, page_at

HEAD = b"OpusHead"
_TAGS = b"OpusTags"
_CONTINUED = 1
_FULL_SEGMENT = 255
_SILK = (480, 960, 1920, 2880)
_HYBRID = (480, 960)
_CELT = (120, 240, 480, 960)


def packet_frames(packet: bytes) -> int:
    """Samples at 48 kHz of a packet, by its first two bytes (RFC 6716, sections 3.1 and 3.2).

    >>> packet_frames(b"\\xfc"), packet_frames(b"\\xe0"), packet_frames(bytes([0xFF, 3]))
    (960, 120, 2880)
    """
    config, count = packet[0] >> 3, packet[0] & 3
    frame = _SILK[config % 4] if config < 12 else _HYBRID[config % 2] if config < 16 else _CELT[config % 4]
    if count < 3:
        return frame * (1 if count == 0 else 2)
    return frame * (packet[1] & 63 if len(packet) > 1 else 0)


def is_uneven_opus(file: BinaryIO, start: int, stop: int) -> bool:
    """Whether the one Ogg stream in bytes `start` to `stop` is Opus, and the granule position of a page between its
    first and its last one does not grow by what its packets last."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        page = page_at(data, start, stop)
        if page is None or data[_body(data, page) : _body(data, page) + len(HEAD)] != HEAD:
            return False
        before, lasts, in_tags = None, 0, True
        while (page := page_at(data, page.end, stop)) is not None and page.end < stop and not page.flags & LAST:
            if in_tags:  # they may go on over several pages, and end with one
                in_tags = _begins_tags(data, page) or page.flags & _CONTINUED != 0
                if in_tags:
                    continue
            lasts += sum(map(packet_frames, _begun_packets(data, page)))
            if page.granule < 0:  # no packet ends on it
                continue
            if before is not None and page.granule - before != lasts - _goes_on(data, page):
                return True
            before, lasts = page.granule, _goes_on(data, page)
    return False


def _body(data: mmap.mmap, page: Page) -> int:
    return page.start + 27 + data[page.start + 26]


def _begins_tags(data: mmap.mmap, page: Page) -> bool:
    return data[_body(data, page) : _body(data, page) + len(_TAGS)] == _TAGS


def _begun_packets(data: mmap.mmap, page: Page) -> list[bytes]:
    """The first bytes of each packet that begins on a page."""
    place, begins, found = _body(data, page), not page.flags & _CONTINUED, []
    for length in data[page.start + 27 : _body(data, page)]:
        if begins and length:
            found.append(data[place : place + min(length, 2)])
        place, begins = place + length, length < _FULL_SEGMENT
    return found


def _goes_on(data: mmap.mmap, page: Page) -> int:
    """Samples of the packet that goes on in the next page, which are not counted in this one's granule position."""
    lengths = data[page.start + 27 : _body(data, page)]
    begun = _begun_packets(data, page)
    return packet_frames(begun[-1]) if lengths and lengths[-1] == _FULL_SEGMENT and begun else 0
