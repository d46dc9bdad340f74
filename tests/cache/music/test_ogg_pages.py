"""Whether an Ogg holds several recordings, told by some of its pages, against a look at all of them."""

import random
import struct
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import soundfile
from helpers.odd_audio import noise, with_serial

from mixstyle.cache.music.ogg_pages import is_chained_ogg

FIRST, LAST = 2, 4


def page(serial: int, number: int, size: int, flags: int = 0) -> bytes:
    """A page of about `size` bytes (RFC 3533, section 6), without a checksum."""
    full, rest = divmod(max(0, size - 27) * 255 // 256, 255)
    lengths = bytes([255] * min(full, 254) + [rest])
    head = struct.pack("<4sBBqIIIB", b"OggS", 0, flags, number * 1_000, serial, number, 0, len(lengths))
    return head + lengths + bytes(sum(lengths))


def link(serial: int, sizes: list[int]) -> bytes:
    """One recording: its first page is small and flagged, and so is its last."""
    pages = [page(serial, 0, 58, FIRST), *(page(serial, n, size) for n, size in enumerate(sizes, 1))]
    return b"".join([*pages, page(serial, len(pages), 500, LAST)])


def sizes_around(drawn: random.Random, mean: float, pages: int) -> list[int]:
    """As an encoder of a variable rate makes them: half to twice the mean, mostly."""
    return [min(65_000, max(60, round(mean * drawn.lognormvariate(0, 0.3)))) for _ in range(pages)]


def beginnings(data: bytes) -> Iterator[bool]:
    """Of every page in its place, whether it begins a recording. Independent: by the lengths alone."""
    place = 0
    while place + 27 <= len(data) and data[place : place + 4] == b"OggS":
        yield bool(data[place + 5] & FIRST)
        place += 27 + data[place + 26] + sum(data[place + 27 : place + 27 + data[place + 26]])


def is_chain(data: bytes) -> bool:
    found = list(beginnings(data))
    return any(found[found.index(False) :])


def told(path: Path, data: bytes) -> bool:
    path.write_bytes(data)
    with path.open("rb") as file:
        return is_chained_ogg(file, 0, len(data))


@pytest.mark.parametrize("seed", range(40))
def test_a_chain_is_told_whatever_the_numbers_and_sizes(tmp_path: Path, seed: int) -> None:
    """Of 1 to 4 links: of equal serial numbers the pages differ by up to six times, else by any ratio."""
    drawn = random.Random(seed)
    for _ in range(10):
        equal, mean = drawn.random() < 0.7, drawn.choice([300, 1_000, 4_400, 8_500, 30_000])
        numbers = drawn.choice([(7, 7, 7, 7), (7, 8, 7, 8), (7, 7, 8, 7)]) if equal else (1, 2, 3, 4)
        links = []
        for serial in numbers[: drawn.randint(1, 4)]:
            around = mean * drawn.uniform(0.4, 2.4) if equal else drawn.choice([200, 4_400, 50_000])
            pages = round(10 ** drawn.uniform(0, 2.7))
            links.append(link(serial, sizes_around(drawn, around, pages)))
        data = b"".join(links)
        assert told(tmp_path / "a.ogg", data) == is_chain(data) == (len(links) > 1), (seed, len(links), equal)


@pytest.mark.parametrize("format_", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("serials", [(1,), (7, 7), (1, 2), (7, 7, 7), (1, 2, 1), (1, 2, 3)])
def test_chains_of_what_libsndfile_writes(tmp_path: Path, format_: str, serials: tuple[int, ...]) -> None:
    data = b""
    seconds = random.Random(str(serials)).sample([2, 3, 5], len(serials))
    for length, serial in zip(seconds, serials, strict=True):
        soundfile.write(tmp_path / "part.ogg", noise(length * 48_000), 48_000, format="OGG", subtype=format_)
        data += with_serial((tmp_path / "part.ogg").read_bytes(), serial)
    assert len(data) > 65_536 or len(serials) == 1
    assert told(tmp_path / "a.ogg", data) == (len(serials) > 1)


def test_the_link_that_begins_near_the_end_is_told(tmp_path: Path) -> None:
    """Also one of which little is left: its first page, or that and a part of the next."""
    one = link(7, [4_400] * 300)
    for serial, kept in ((7, 84), (8, 84), (7, 2_000), (8, 2_000), (7, 9_000), (8, 9_000)):
        assert told(tmp_path / "a.ogg", one + link(serial, [4_400] * 300)[:kept]), (serial, kept)


def test_a_short_link_before_a_long_one_is_told(tmp_path: Path) -> None:
    for pages in (1, 2, 14, 15, 16, 20, 40):
        assert told(tmp_path / "a.ogg", link(7, [4_400] * pages) + link(7, [4_400] * 1_000)), pages


def test_one_recording_that_was_cut_or_goes_on_as_something_else_is_no_chain(tmp_path: Path) -> None:
    one = link(7, sizes_around(random.Random(0), 4_400, 400))
    junk = random.Random(1).randbytes(200_000)
    for data in (one[:-3_000], one[:1_000_000], one + junk, one[:700_000] + bytes(900_000), one[:58], one[:60]):
        assert not told(tmp_path / "a.ogg", data)
    # what is behind junk is looked for
    assert told(tmp_path / "a.ogg", one + junk + one)


def test_streams_beside_one_another_are_no_chain(tmp_path: Path) -> None:
    """A video, a cover, the skeleton: all first pages stand at the beginning."""
    streams = {1: count(), 2: count(), 3: count()}
    data = b"".join(page(serial, next(number), 80, FIRST) for serial, number in streams.items())
    drawn = random.Random(0)
    for _ in range(300):
        serial = drawn.choice([1, 2, 3])
        data += page(serial, next(streams[serial]), drawn.choice([300, 4_400, 20_000]))
    assert not told(tmp_path / "a.ogg", data)
    assert told(tmp_path / "a.ogg", data + link(1, [4_400] * 30))


def test_pages_that_are_not_numbered_in_order_are_all_looked_at(tmp_path: Path) -> None:
    """As a program writes them that cuts streams, or that numbers none."""
    for step, begin in ((0, 0), (1, 40), (3, 0)):
        pages = [page(7, 0, 58, FIRST), *(page(7, begin + n * step, 4_400) for n in range(1, 300))]
        assert not told(tmp_path / "a.ogg", b"".join(pages))
        pages[200] = page(7, begin + 200 * step, 4_400, FIRST)
        if step == 0:
            assert told(tmp_path / "a.ogg", b"".join(pages))


def test_magic_words_within_pages_are_no_pages(tmp_path: Path) -> None:
    pages = [page(7, 0, 58, FIRST), *(page(7, n, 9_000) for n in range(1, 200))]
    false = page(9, 0, 58, FIRST)
    data = b"".join(one[:300] + false + one[300 + len(false) :] if len(one) > 1_000 else one for one in pages)
    assert len(data) == sum(map(len, pages))
    assert not told(tmp_path / "a.ogg", data)
    assert told(tmp_path / "a.ogg", data + data)


def test_bytes_before_and_behind_are_left_out(tmp_path: Path) -> None:
    one, tags = link(7, [4_400] * 100), b"ID3" + bytes(5_000)
    path = tmp_path / "a.ogg"
    path.write_bytes(tags + one + one)
    with path.open("rb") as file:
        assert is_chained_ogg(file, len(tags), len(tags) + 2 * len(one))
        assert not is_chained_ogg(file, len(tags), len(tags) + len(one))
