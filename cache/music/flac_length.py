"""The length of a FLAC whose header does not tell it, as encoders leave it that write to a pipe (RFC 9639)."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO

HEAD_BYTES = 42
"""`fLaC`, the header of the first metadata block, and STREAMINFO."""
_SEARCHED_BYTES = 1 << 22
"""Of the file's end, where the last frame is looked for. A frame of 65,535 samples in 8 channels may have 2 MB."""


@dataclass(frozen=True, slots=True)
class _Frame:
    """place: in the bytes looked at. first: sample that it begins with. samples: that it holds."""

    place: int
    first: int
    samples: int


def told_samples(head: bytes) -> int:
    """Samples of each channel by STREAMINFO; 0 where that is unknown. head: a FLAC's first HEAD_BYTES."""
    return int.from_bytes(head[21:26], "big") & (1 << 36) - 1


def with_samples(head: bytes, samples: int) -> bytes:
    """The head with another number of samples in it."""
    packed = int.from_bytes(head[21:26], "big") & ~((1 << 36) - 1) | samples
    return head[:21] + packed.to_bytes(5, "big") + head[26:]


def count_samples(file: BinaryIO, start: int, stop: int) -> tuple[int, bool]:
    """Samples of each channel, from the number in the last frame that is whole, and whether the FLAC ends with it.

    (0, False) where none is found. start, stop: where the FLAC is in the file.
    """
    file.seek(start)
    head = file.read(HEAD_BYTES)
    begin = max(start + HEAD_BYTES, stop - _SEARCHED_BYTES)
    file.seek(begin)
    data = file.read(stop - begin)
    end = len(data)
    # A header's own check has 8 bits, and the like of it turns up by chance. A frame is only taken where its 16 bits
    # agree too: it ends with the file, or where another header begins.
    for frame in _headers(data, head):
        ends = _is_whole(data, frame.place, len(data))
        if ends or _is_whole(data, frame.place, end):
            return frame.first + frame.samples, ends
        end = frame.place
    return 0, False


def _headers(data: bytes, head: bytes) -> Iterator[_Frame]:
    """What looks like frames' headers, the last one first."""
    place = len(data)
    while (place := data.rfind(b"\xff", 0, place)) >= 0:
        frame = _header(data, place, head)
        if frame is not None:
            yield frame


def _header(data: bytes, place: int, head: bytes) -> _Frame | None:
    """RFC 9639, section 9.1."""
    at = data[place : place + 16]
    if len(at) < 6 or at[1] & 0xFE != 0xF8 or at[3] & 1:
        return None
    number, size = _coded_number(at[4:])
    code, rate = at[2] >> 4, at[2] & 15
    place_of = 4 + size
    if size == 0 or code == 0 or rate == 15 or at[3] >> 4 > 10:
        return None
    if code in (6, 7):
        samples = int.from_bytes(at[place_of : place_of + code - 5], "big") + 1
        place_of += code - 5
    else:
        samples = 192 if code == 1 else 576 << code - 2 if code < 6 else 256 << code - 8
    place_of += {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if place_of >= len(at) or _crc8(at[:place_of]) != at[place_of]:
        return None
    nominal = int.from_bytes(head[10:12], "big")  # the largest block, which is every block of a fixed size
    return _Frame(place, number if at[1] & 1 else number * nominal, samples)


def _coded_number(data: bytes) -> tuple[int, int]:
    """A frame's or sample's number, coded as UTF-8 codes characters but up to 36 bits; its bytes, 0 for none."""
    first = data[0]
    size = 1 if first < 0x80 else 8 - (first ^ 0xFF).bit_length()
    if first >= 0x80 and not 2 <= size <= 7:
        return 0, 0
    number = first if size == 1 else first & (1 << 7 - size) - 1
    for byte in data[1:size]:
        if byte & 0xC0 != 0x80:
            return 0, 0
        number = number << 6 | byte & 0x3F
    return number, size


def _is_whole(data: bytes, start: int, stop: int) -> bool:
    """Whether bytes start to stop are a frame: it ends with the CRC of the others (section 9.3)."""
    if stop - start < 10:
        return False
    table, crc = _crc16_table(), 0
    for byte in data[start:stop]:
        crc = (crc << 8 ^ table[crc >> 8 ^ byte]) & 0xFFFF
    return crc == 0


def _crc8(data: bytes) -> int:
    """x^8 + x^2 + x + 1."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ (0x07 if crc & 0x80 else 0)) & 0xFF
    return crc


@lru_cache(maxsize=1)
def _crc16_table() -> tuple[int, ...]:
    """x^16 + x^15 + x^2 + 1, by byte."""
    table = []
    for byte in range(256):
        crc = byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ (0x8005 if crc & 0x8000 else 0)) & 0xFFFF
        table.append(crc)
    return tuple(table)
