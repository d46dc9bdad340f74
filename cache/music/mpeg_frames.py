"""MPEG audio (MP3, MP2, MP1) whose header gives no length, or that of its first part alone: its frames are counted.

Encoders write a first frame that is silent and holds the number of frames (`Xing` for a variable bit rate, `Info` for a
constant one). Without it decoders guess from the first frame's bit rate and the file's size: too much where tags
are around the audio, and anything where the bit rate varies. Files that were joined end to end tell the length of the
first: frames are counted too where the file goes on behind what its header tells of. ISO/IEC 11172-3, 2.4.2.3, and
13818-3 have the frame header; the Xing header is described in
https://www.codeproject.com/Articles/8295/MPEG-Audio-Frame-Header.
"""

import mmap
import struct
from collections.abc import Sequence
from dataclasses import dataclass

# Kilobits a second by the header's index from 1 on; rates in Hz by its index.
_KBITS: dict[tuple[int, int], Sequence[int]] = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
SEARCHED_BYTES = 1 << 16
"""How far the first frame may be behind the tags, and the next one behind damage."""
_SAME = 0xFFFE0C00
"""Bits of a frame's header that all frames of a file share: sync, version, layer and rate."""

_FRAMES_BEYOND = 16
"""So many frames (0.4 s at 44.1 kHz) may follow those that a header tells of: encoders differ by one or two, and cut
the last one off or not."""

Bytes = bytes | mmap.mmap


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """What four bytes say of their frame. bits: all of them. size: of the frame, bytes. samples: of each channel."""

    bits: int
    layer: int
    size: int
    samples: int
    rate_hz: int
    side_bytes: int

    def xing_frame(self, frames: int) -> bytes:
        """A silent frame of layer III like this one that tells the number of frames that follow."""
        for index in range(1, 15):
            # the bit rate and no padding; no CRC
            own = parse_header((self.bits & ~0xF200 | index << 12 | 1 << 16).to_bytes(4, "big"), 0)
            told = bytes(self.side_bytes) + b"Xing" + struct.pack(">II", 1, frames)
            if own is not None and own.size >= 4 + len(told):
                return (own.bits.to_bytes(4, "big") + told).ljust(own.size, b"\0")
        raise ValueError("no bit rate of layer III has room for the header")


@dataclass(frozen=True, slots=True)
class CountedFrames:
    """MPEG audio in a file. start: where its first frame is. frames: how many there are, `first` being one of them."""

    first: FrameHeader
    start: int
    frames: int

    @property
    def samples(self) -> int:
        """Of each channel, all frames together."""
        return self.frames * self.first.samples


def parse_header(data: Bytes, place: int) -> FrameHeader | None:
    """The frame header at a place; None where there is none, or one of free format."""
    if place + 4 > len(data) or data[place] != 0xFF:
        return None
    bits = int.from_bytes(data[place : place + 4], "big")
    version, layer, kbits, rate = bits >> 19 & 3, 4 - (bits >> 17 & 3), bits >> 12 & 15, bits >> 10 & 3
    if bits >> 21 != 0x7FF or version == 1 or layer == 4 or kbits in (0, 15) or rate == 3:
        return None
    first = version == 3
    rate_hz, bits_a_s = _RATES_HZ[version][rate], 1000 * _KBITS[1 if first else 2, layer][kbits - 1]
    padding = bits >> 9 & 1
    if layer == 1:
        size, samples = (12 * bits_a_s // rate_hz + padding) * 4, 384
    else:
        samples = 576 if layer == 3 and not first else 1152
        size = samples // 8 * bits_a_s // rate_hz + padding
    mono = bits >> 6 & 3 == 3
    return FrameHeader(bits, layer, size, samples, rate_hz, (17 if mono else 32) if first else (9 if mono else 17))


def count_frames(data: Bytes, start: int, stop: int) -> CountedFrames | None:
    """Counts the whole frames from `start` to `stop`, over damaged places too.

    None where there is no MPEG audio, and where its first frame tells its length. That is believed, without a look at
    the others, where the file ends where it should by the header.
    """
    place = next_frame(data, start, stop)
    first = None if place is None else parse_header(data, place)
    if place is None or first is None:
        return None
    told = _told_length(data, place, first)
    if told is not None and told.size and stop - place - told.size <= _FRAMES_BEYOND * first.size:
        return None
    if told is not None or data[place + 36 : place + 40] == b"VBRI":  # Fraunhofer's header; silent frames of their own
        place += first.size
    counted = _counted(data, place, stop, first)
    return None if told is not None and counted and counted.frames <= told.frames + _FRAMES_BEYOND else counted


def _counted(data: Bytes, place: int, stop: int, first: FrameHeader) -> CountedFrames | None:
    """The whole frames from `place` on that are like `first`; None where there are none."""
    began, frames = place, 0
    while place + 4 <= stop:
        header = parse_header(data, place)
        if header is None or (header.bits ^ first.bits) & _SAME:
            found = next_frame(data, place + 1, stop, first)
            if found is None:
                break
            place = found
            continue
        if place + header.size > stop:
            break
        frames += 1
        place += header.size
    return CountedFrames(first, began, frames) if frames else None


@dataclass(frozen=True, slots=True)
class _Told:
    """What a first frame tells. frames: that follow it. size: of them and itself, bytes; 0 where it is not known."""

    frames: int
    size: int


def _told_length(data: Bytes, place: int, first: FrameHeader) -> _Told | None:
    """None where the first frame tells no number of frames."""
    tag = place + 4 + first.side_bytes
    name, head = data[tag : tag + 4], data[tag + 4 : tag + 16]
    if first.layer != 3 or name not in (b"Xing", b"Info") or len(head) < 12:
        return None
    flags, frames, size = struct.unpack(">III", head)
    if not flags & 1 or not frames:
        return None
    if not flags & 2:  # of a constant bit rate it follows, but for padding: a byte a frame at most
        size = (frames + 1) * (first.size + 1) if name == b"Info" else 0
    return _Told(frames, size)


def next_frame(data: Bytes, start: int, stop: int, like: FrameHeader | None = None) -> int | None:
    """The next place with a header whose next two frames have headers like it, or the audio's end."""
    place, last = start, min(stop, start + SEARCHED_BYTES)
    while (place := data.find(b"\xff", place, last)) >= 0:
        header = parse_header(data, place)
        if header is not None and (like is None or not (header.bits ^ like.bits) & _SAME):
            following, good = place + header.size, 1
            while good < 3 and following < stop:
                other = parse_header(data, following)
                if other is None or (other.bits ^ header.bits) & _SAME:
                    break
                following, good = following + other.size, good + 1
            if good == 3 or (good > 1 and following >= stop) or (like is not None and following >= stop):
                return place
        place += 1
    return None
