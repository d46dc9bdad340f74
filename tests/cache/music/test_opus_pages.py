"""Opus in which a page is not where its packets say."""

import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.odd_audio import noise, with_checksum, write_ffmpeg

from mixstyle.cache.music.opus_pages import is_uneven_opus, packet_frames
from mixstyle.cache.music.reader import decoded_length, probe, read_what_is_there, read_window

FFMPEG = shutil.which("ffmpeg")
RATE = 48_000
SECONDS = 8


def pages(ogg: bytes) -> list[bytearray]:
    found, place = [], 0
    while place < len(ogg):
        count = ogg[place + 26]
        end = place + 27 + count + sum(ogg[place + 27 : place + 27 + count])
        found.append(bytearray(ogg[place:end]))
        place = end
    return found


def granule(page: bytearray) -> int:
    return struct.unpack_from("<q", page, 6)[0]


def shifted(ogg: bytes, number: int, more: int) -> bytes:
    """The Ogg with the granule position of one page moved."""
    found = pages(ogg)
    struct.pack_into("<q", found[number], 6, granule(found[number]) + more)
    found[number] = bytearray(with_checksum(found[number]))
    return b"".join(found)


@pytest.fixture(scope="module")
def opus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("opus") / "even.opus"
    soundfile.write(path, noise(SECONDS * RATE), RATE, format="OGG", subtype="OPUS")
    return path


def uneven(path: Path) -> bool:
    with path.open("rb") as file:
        return is_uneven_opus(file, 0, path.stat().st_size)


@pytest.mark.parametrize("config", range(32))
@pytest.mark.parametrize(("code", "frames"), [(0, 1), (1, 2), (2, 2), (3, 5)])
def test_a_packet_lasts_what_its_first_bytes_say(config: int, code: int, frames: int) -> None:
    """RFC 6716, table 2: sizes of frames in ms."""
    sizes_ms = [10, 20, 40, 60] * 3 + [10, 20] * 2 + [2.5, 5, 10, 20] * 4
    assert packet_frames(bytes([config << 3 | code, 5])) == sizes_ms[config] * 48 * frames


def test_an_even_stream_is_told_as_such(opus: Path, tmp_path: Path) -> None:
    assert not uneven(opus)
    vorbis = tmp_path / "a.ogg"
    soundfile.write(vorbis, noise(RATE), RATE, format="OGG", subtype="VORBIS")
    assert not uneven(vorbis)
    last = len(pages(opus.read_bytes())) - 1
    for more in (-500, 1_500):  # the end is cut, or said to be later: the last page may
        (tmp_path / "last.opus").write_bytes(shifted(opus.read_bytes(), last, more))
        assert not uneven(tmp_path / "last.opus")
    for cut in (100, 5_000, 20_000):
        (tmp_path / "cut.opus").write_bytes(opus.read_bytes()[:-cut])
        assert not uneven(tmp_path / "cut.opus")


@pytest.mark.parametrize("more", [-2_000, -24, 24, 2_000])
def test_exactly_what_libsndfile_stops_in_is_uneven(opus: Path, tmp_path: Path, more: int) -> None:
    path = tmp_path / "uneven.opus"
    path.write_bytes(shifted(opus.read_bytes(), 5, more))
    assert uneven(path)
    with pytest.raises(soundfile.LibsndfileError):
        soundfile.read(path)
    assert len(soundfile.read(opus)[0]) == SECONDS * RATE


@pytest.mark.parametrize("program", ["gives", "fails", "none"])
def test_ffmpeg_decodes_it_where_it_can_and_else_it_is_used_up_to_there(
    opus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    path, programs = tmp_path / "uneven.opus", tmp_path / "bin"
    path.write_bytes(shifted(opus.read_bytes(), 5, 24))
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    audio = noise(SECONDS * RATE, seed=3)
    soundfile.write(tmp_path / "decoded.au", audio, RATE, subtype="FLOAT", endian="BIG")
    if program != "none":
        write_ffmpeg(programs, tmp_path / ("decoded.au" if program == "gives" else "nothing.au"))
    whole = (0, SECONDS * 44_100)
    (window,) = read_what_is_there(path, [whole])
    if program == "gives":
        assert (probe(path).format, window.there, window.reason) == ("ffmpeg opus", whole[1], "")
        assert decoded_length(path).lacks == ""
    else:
        assert window.reason.partition(":")[0] == "damaged or cut short"
        assert 2 * 44_100 < window.there < 6 * 44_100  # pages are of a second; the first two hold no sound


@pytest.mark.skipif(FFMPEG is None, reason="no ffmpeg on this machine")
@pytest.mark.parametrize("frame_ms", ["2.5", "5", "20"])
def test_opus_out_of_webm_is_decoded_to_its_end(opus: Path, tmp_path: Path, frame_ms: str) -> None:
    webm, copied = tmp_path / "a.webm", tmp_path / "a.opus"
    run = f"'{FFMPEG}' -v error -i"
    assert os.system(f"{run} '{opus}' -c:a libopus -frame_duration {frame_ms} '{webm}'") == 0
    assert os.system(f"{run} '{webm}' -c copy '{copied}'") == 0
    assert uneven(copied) == (frame_ms == "2.5")
    length = decoded_length(copied)
    assert (abs(length.frames - SECONDS * RATE) < 2_048, length.lacks) == (True, "")
    late = read_window(copied, 7 * 44_100, 7 * 44_100 + 22_050)
    assert float(np.abs(late).max()) > 0.05
