"""Files whose headers are missing or wrong: they are as long as what can be decoded, and sound as they should."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.odd_audio import (
    RATE,
    id3v2,
    noise,
    with_last_granule,
    without_first_frame,
    without_length,
    without_long_size,
    write_mp3,
)

from mixstyle.cache.music.decode_pool import Decoder
from mixstyle.cache.music.flac_length import count_samples
from mixstyle.cache.music.mpeg_frames import count_frames
from mixstyle.cache.music.reader import (
    Blocks,
    Length,
    UnreadableMusic,
    WindowAudio,
    decoded_length,
    frames_at_44100,
    probe,
    read_what_is_there,
    read_window,
)

SECONDS = 6
LAME_DELAY = 576
"""Samples that the header of LAME has a decoder skip, beyond the 529 that it always does."""


def whole(path: Path) -> WindowAudio:
    return read_what_is_there(path, [(0, frames_at_44100(probe(path)))])[0]


@pytest.mark.parametrize("variable", [False, True])
@pytest.mark.parametrize("tags", [(0, b""), (3_000_000, b"TAG" + b"t" * 125)])
def test_an_mp3_without_a_header_is_as_long_as_its_frames_and_sounds_the_same(
    tmp_path: Path, variable: bool, tags: tuple[int, bytes]
) -> None:
    told = write_mp3(tmp_path / "told.mp3", noise(SECONDS * RATE), variable)
    bare = tmp_path / "bare.mp3"
    before, after = tags
    bare.write_bytes((id3v2(before) if before else b"") + without_first_frame(told.read_bytes()) + after)
    frames = probe(bare).frames
    # an encoder adds its delay and fills the last frame up: three frames at most
    assert SECONDS * RATE <= frames <= SECONDS * RATE + 3 * 1152
    assert whole(bare).there == frames
    for start, stop in ((0, 30_000), (50_000, 61_234), (SECONDS * RATE - 20_000, SECONDS * RATE - 2_000)):
        expected = read_window(told, start, stop)
        found = read_window(bare, start + LAME_DELAY, stop + LAME_DELAY)
        skipped = 1152 if start == 0 else 0  # the first frame without the bits that lay in the header's frame
        # float32 at full scale 1, the same bits decoded
        np.testing.assert_allclose(found[:, skipped:], expected[:, skipped:], atol=1e-6, rtol=0)


@pytest.mark.parametrize("variable", [False, True])
def test_joined_mp3s_are_as_long_as_all_that_can_be_decoded(tmp_path: Path, variable: bool) -> None:
    one = write_mp3(tmp_path / "one.mp3", noise(SECONDS * RATE), variable)
    other = write_mp3(tmp_path / "other.mp3", noise(2 * RATE), variable)
    joined = tmp_path / "joined.mp3"
    joined.write_bytes(one.read_bytes() + id3v2(3_000) + other.read_bytes() + b"TAG" + b"t" * 125)
    frames = probe(joined).frames
    # each encoder adds its delay and fills the last frame up, three frames at most, and the second's header is one
    assert (SECONDS + 2) * RATE <= frames <= (SECONDS + 2) * RATE + 7 * 1152
    found = whole(joined)
    assert (found.there, found.reason) == (frames, "")
    start, stop = 50_000, 61_234
    expected = read_window(one, start, stop)
    # float32 at full scale 1, the same bits decoded
    np.testing.assert_allclose(read_window(joined, start + LAME_DELAY, stop + LAME_DELAY), expected, atol=1e-6, rtol=0)
    expected = read_window(other, RATE // 2, RATE)  # behind it: the end of the file
    end = len(soundfile.read(other)[0])
    tail = read_window(joined, frames - 3 * 1152 - end, frames)
    lags = range(tail.shape[1] - (RATE - RATE // 2) + 1)
    assert min(float(np.abs(tail[:, lag : lag + 100] - expected[:, :100]).max()) for lag in lags) < 1e-6


@pytest.mark.parametrize("variable", [False, True])
def test_a_whole_mp3_is_believed_without_a_look_at_its_frames(tmp_path: Path, variable: bool) -> None:
    data = bytearray(write_mp3(tmp_path / "a.mp3", noise(SECONDS * RATE), variable).read_bytes())
    assert count_frames(bytes(data), 0, len(data)) is None
    place = data.find(b"Xing" if variable else b"Info")
    data[place + 11] -= 40  # frames that it tells of; it ends where its size says
    assert count_frames(bytes(data), 0, len(data)) is None
    data[place + 11] += 40
    longer = bytes(data) + bytes(100_000)  # no frames in them
    assert count_frames(longer, 0, len(longer)) is None


def test_a_window_of_a_variable_bit_rate_is_exact_wherever_it_begins(tmp_path: Path) -> None:
    path = write_mp3(tmp_path / "a.mp3", noise(SECONDS * RATE), variable=True)
    audio = soundfile.read(path, dtype="float32")[0].T
    for start in range(20_000, 220_000, 13_007):
        # -120 dBFS: the same decoder after a seek; one frame further, this noise would be other by 0.1 and more
        np.testing.assert_allclose(read_window(path, start, start + 500), audio[:, start : start + 500], atol=1e-6)


def test_junk_called_mp3_is_not_searched_for_a_frame_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """libsndfile searches 64 KB for one where it is given a name of MPEG audio: 50 ms of each file of a folder."""
    monkeypatch.setattr("mixstyle.cache.music.music_file._as_it_is", lambda path: pytest.fail("opened by its name"))
    junk = np.random.default_rng(3).bytes(100_000)
    for data in (bytes(100_000), b"text " * 20_000, b"a" + junk, id3v2(5_000) + b"a" + junk):
        for suffix in (".mp3", ".mp2", ".MP3"):
            (tmp_path / f"junk{suffix}").write_bytes(data)
            with pytest.raises(UnreadableMusic, match=r"^not music"):
                probe(tmp_path / f"junk{suffix}")
    monkeypatch.undo()
    # what libsndfile alone tells by its beginning stays readable under any name, and so does music behind junk
    told = write_mp3(tmp_path / "told.mp3", noise(SECONDS * RATE), True)
    (tmp_path / "behind.mp3").write_bytes(b"a" * 30_000 + told.read_bytes())
    assert abs(probe(tmp_path / "behind.mp3").frames - probe(told).frames) <= 3 * 1152
    soundfile.write(tmp_path / "voice.voc", noise(RATE), RATE, format="VOC")
    (tmp_path / "voice.voc").rename(tmp_path / "voice.mp3")
    assert probe(tmp_path / "voice.mp3").frames == RATE


def test_an_mp2_which_never_tells_its_length_is_counted(tmp_path: Path) -> None:
    frame = b"\xff\xfd\x90\x04".ljust(144 * 160_000 // RATE, b"\0")  # 160 kbit/s, no bits for any band: silence
    path = tmp_path / "a.mp2"
    path.write_bytes(id3v2(20_000) + 100 * frame + b"TAG" + b"t" * 125)
    assert (probe(path).rate, probe(path).frames) == (RATE, 100 * 1152)
    found = whole(path)
    assert (found.there, found.reason) == (100 * 1152, "")


def test_frames_are_counted_over_damage_and_no_text_is_taken_for_them(tmp_path: Path) -> None:
    data = without_first_frame(write_mp3(tmp_path / "a.mp3", noise(SECONDS * RATE)).read_bytes())
    counted = count_frames(data, 0, len(data))
    assert counted is not None
    assert (counted.start, counted.samples) == (0, counted.frames * 1152)
    size = len(data) / counted.frames
    assert size == pytest.approx(144 * 128_000 / RATE, rel=0.6)  # bytes of a frame, at a bit rate near 128 kbit/s
    damaged = count_frames(data[:10_000] + b"\xff\x00junk" * 500 + data[12_000:], 0, len(data) + 1_000)
    assert damaged is not None
    assert 2_000 // size <= counted.frames - damaged.frames <= 2_000 / size + 3
    assert count_frames(b"these are the lyrics \xff\xfb only\n" * 5_000, 0, 100_000) is None
    assert count_frames(b"\xff\xfb\x90\x00", 0, 4) is None


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_a_flac_of_unknown_length_is_counted(tmp_path: Path, subtype: str) -> None:
    audio = noise(SECONDS * RATE + 123)
    soundfile.write(tmp_path / "told.flac", audio, RATE, subtype=subtype)
    piped = tmp_path / "piped.flac"
    piped.write_bytes(without_length((tmp_path / "told.flac").read_bytes()))
    assert decoded_length(piped) == Length(len(audio), RATE)
    for start, stop in ((0, 10_000), (150_000, 160_000), (len(audio) - 9_000, len(audio))):
        expected = read_window(tmp_path / "told.flac", start, stop)
        np.testing.assert_array_equal(read_window(piped, start, stop), expected)


@pytest.mark.parametrize(("container", "subtype"), [("RF64", "PCM_16"), ("RF64", "FLOAT"), ("CAF", "PCM_24")])
def test_sizes_that_were_never_filled_in_are_those_up_to_the_end(tmp_path: Path, container: str, subtype: str) -> None:
    audio = noise(RATE + 123)
    suffix = container.lower()
    with (tmp_path / f"told.{suffix}").open("wb") as file:
        soundfile.write(file, audio, RATE, format=container, subtype=subtype)
    whole_file = (tmp_path / f"told.{suffix}").read_bytes()
    end = whole_file.index(b"data") + (16 if container == "CAF" else 8)
    end += len(audio) * 2 * {"PCM_16": 2, "PCM_24": 3, "FLOAT": 4}[subtype]
    died = tmp_path / f"died.{suffix}"
    died.write_bytes(without_long_size(whole_file[:end]))  # without what libsndfile has behind the samples
    assert probe(died).frames == len(audio)
    expected = read_window(tmp_path / f"told.{suffix}", 0, len(audio))
    np.testing.assert_array_equal(read_window(died, 0, len(audio)), expected)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("container", ["AU", "CAF", "RF64", "W64", "WAV"])
def test_a_file_is_read_as_libsndfile_leaves_it_when_its_program_dies(
    tmp_path: Path, container: str, subtype: str
) -> None:
    audio = noise(RATE + 123)
    told, died = tmp_path / f"told.{container.lower()}", tmp_path / f"died.{container.lower()}"
    with soundfile.SoundFile(told, "w", RATE, 2, subtype=subtype, format=container) as file:
        file.write(audio)
        file.flush()
        died.write_bytes(told.read_bytes())
    assert died.read_bytes()[:100] != told.read_bytes()[:100] or container == "CAF"  # the sizes, which come last
    assert decoded_length(died) == Length(len(audio), RATE)
    expected = read_window(told, 0, len(audio))
    np.testing.assert_array_equal(read_window(died, 0, len(audio)), expected)
    died.write_bytes(died.read_bytes()[: -len(audio)])
    assert 0 < probe(died).frames < len(audio)
    np.testing.assert_array_equal(read_window(died, 100, 10_000), expected[:, 100:10_000])


@pytest.mark.parametrize(("container", "place"), [("W64", 16), ("RF64", -1)])
def test_a_long_length_that_the_writer_did_not_know_is_none(tmp_path: Path, container: str, place: int) -> None:
    """As ffmpeg writes it into a W64 that goes into a pipe, and leaves it where it is killed."""
    audio, path = noise(RATE + 123), tmp_path / "a.x"
    soundfile.write(path, audio, RATE, format=container)
    data = bytearray(path.read_bytes())
    place = data.index(b"ds64") + 16 if container == "RF64" else data.index(b"data") + place
    data[place : place + 8] = ((1 << 63) - 1).to_bytes(8, "little")
    path.write_bytes(data)
    length = decoded_length(path)
    assert (length.lacks, abs(length.frames - len(audio)) <= 100) == ("", True)  # chunks that libsndfile has behind


@pytest.mark.parametrize("container", ["AU", "CAF"])
def test_a_file_without_samples_has_no_audio(tmp_path: Path, container: str) -> None:
    soundfile.write(tmp_path / "a.x", noise(0), RATE, format=container)
    with pytest.raises(UnreadableMusic) as caught:
        probe(tmp_path / "a.x")
    assert caught.value.kind == "no audio"


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_an_aiff_is_read_as_its_writer_left_it_when_it_died(tmp_path: Path, subtype: str) -> None:
    audio, told, died = noise(RATE + 123), tmp_path / "told.aiff", tmp_path / "died.aiff"
    with soundfile.SoundFile(told, "w", RATE, 2, subtype=subtype, format="AIFF") as file:
        file.write(audio)
        file.flush()
        died.write_bytes(told.read_bytes())
    left, whole_file = died.read_bytes(), told.read_bytes()
    sound = left.index(b"SSND")
    assert left[sound + 4 : sound + 8] == (8).to_bytes(4, "big"), "no length, and samples behind it"
    expected = read_window(told, 0, len(audio))
    frames, zeros = left.index(b"COMM") + 10, bytes(4)
    for name, places in {"as left": (), "zeros": (4, sound + 4), "and no frames": (4, sound + 4, frames)}.items():
        data = bytearray(left)
        for place in places:
            data[place : place + 4] = zeros
        died.write_bytes(data)
        assert probe(died).frames == len(audio), name
        np.testing.assert_array_equal(read_window(died, 0, len(audio)), expected)
    died.write_bytes(left[: len(left) // 2])
    there = (len(left) // 2 - sound - 16) // (2 * {"PCM_16": 2, "PCM_24": 3, "FLOAT": 4}[subtype])
    assert probe(died).frames == there
    empty = tmp_path / "empty.aiff"
    soundfile.write(empty, audio[:0], RATE, subtype=subtype)
    with pytest.raises(UnreadableMusic) as caught:
        probe(empty)
    assert caught.value.kind == "no audio"
    told.write_bytes(whole_file)
    assert probe(told).frames == len(audio)


def test_a_flac_of_unknown_length_that_breaks_off_has_the_frames_that_are_whole(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "told.flac", noise(SECONDS * RATE), RATE)
    data = without_length((tmp_path / "told.flac").read_bytes())
    for part in (0.3, 0.7):
        piped = tmp_path / f"{part}.flac"
        piped.write_bytes(data[: int(part * len(data))])
        with piped.open("rb") as file:
            frames, ends = count_samples(file, 0, piped.stat().st_size)
        assert not ends
        assert probe(piped).frames == frames
        assert frames % 4096 == 0  # libsndfile's blocks
        assert decoded_length(piped) == Length(frames, RATE, f"cut short: it breaks off at {frames / RATE:.1f} s")
        found = whole(piped)
        assert (found.there, found.reason) == (frames, "")
        np.testing.assert_array_equal(found.audio, read_window(tmp_path / "told.flac", 0, frames))


@pytest.mark.parametrize("suffix", ["flac", "wav", "ogg"])
def test_a_large_tag_before_the_audio_is_skipped(tmp_path: Path, suffix: str) -> None:
    plain = tmp_path / f"plain.{suffix}"
    soundfile.write(plain, noise(2 * RATE), RATE)
    tagged = tmp_path / f"tagged.{suffix}"
    tagged.write_bytes(id3v2(5_000_000) + plain.read_bytes())
    assert probe(tagged) == probe(plain)
    np.testing.assert_array_equal(read_window(tagged, 50_000, 2 * RATE), read_window(plain, 50_000, 2 * RATE))


@pytest.mark.parametrize(("subtype", "rate", "more"), [("OPUS", 48_000, 1_500), ("VORBIS", 44_100, 5_806)])
def test_an_ogg_that_is_shorter_than_it_says_is_used_up_to_its_end(
    tmp_path: Path, subtype: str, rate: int, more: int
) -> None:
    plain, path = tmp_path / "plain.ogg", tmp_path / "short.ogg"
    soundfile.write(plain, noise(3 * rate), rate, format="OGG", subtype=subtype)
    path.write_bytes(with_last_granule(plain.read_bytes(), more))
    frames = frames_at_44100(probe(path))
    # what a codec's last block has beyond the end of the music comes out as well
    there = -(-len(soundfile.read(path)[0]) * 44_100 // rate)
    assert 0 < frames - there < 5_806
    end, middle = read_what_is_there(path, [(frames - 20_000, frames), (10_000, 90_000)])
    assert end.there == 20_000 - (frames - there)
    assert end.reason.partition(":")[0] == "cut short"
    assert not end.audio[:, end.there :].any()
    before = frames_at_44100(probe(plain)) - 1_000  # resampling mixes in what comes after
    np.testing.assert_allclose(
        end.audio[:, : before - frames + 20_000], read_window(plain, frames - 20_000, before), atol=1e-6
    )
    assert (middle.there, middle.reason) == (80_000, "")
    np.testing.assert_array_equal(middle.audio, read_window(plain, 10_000, 90_000))
    blocks = Blocks(path)
    assert sum(block.shape[1] for block in blocks) == there
    assert blocks.reason.partition(":")[0] == "cut short"


@pytest.mark.parametrize("suffix", ["mp3", "flac"])
def test_a_file_that_breaks_off_is_used_up_to_there(tmp_path: Path, suffix: str) -> None:
    plain, path = tmp_path / f"plain.{suffix}", tmp_path / f"half.{suffix}"
    soundfile.write(plain, noise(20 * RATE), RATE)
    data = plain.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    found, beyond = read_what_is_there(path, [(0, 20 * RATE), (15 * RATE, 16 * RATE)])
    assert 9 * RATE < found.there < 11 * RATE  # half of the bytes is about half of the seconds
    assert found.reason.partition(":")[0] in ("cut short", "damaged or cut short")
    np.testing.assert_allclose(
        found.audio[:, : found.there - 4_096], read_window(plain, 0, found.there - 4_096), atol=1e-6
    )
    assert beyond.there == 0
    assert not beyond.audio.any()
    assert sum(block.shape[1] for block in Blocks(path)) == pytest.approx(found.there, abs=4_096)  # a block of FLAC


def ogg_pages(data: bytes) -> list[int]:
    """Where the pages of an Ogg begin, and its end (RFC 3533, section 6)."""
    places = [0]
    while places[-1] < len(data):
        body = places[-1] + 27
        segments = data[body : body + data[body - 1]]
        places.append(body + len(segments) + sum(segments))
    return places


@pytest.mark.parametrize(("subtype", "rate"), [("VORBIS", 44_100), ("OPUS", 48_000)])
def test_an_ogg_that_breaks_off_is_told_and_used_up_to_there(
    tmp_path: Path, subtype: str, rate: int, record_property: Callable[[str, object], None]
) -> None:
    plain, path = tmp_path / "plain.ogg", tmp_path / "half.ogg"
    soundfile.write(plain, noise(5 * rate), rate, format="OGG", subtype=subtype)
    data = plain.read_bytes()
    assert decoded_length(plain) == Length(5 * rate, rate)
    pages = ogg_pages(data)
    middle = pages[len(pages) // 2]  # where a page begins
    cuts = {
        "in a page": data[: middle + 900],
        "in a page's head": data[: middle + 20],
        "in a page's mark": data[: middle + 3],
        "zeros where the rest should be": data[:middle].ljust(len(data), b"\0"),
        "within the last page": data[:-1],
        "with a tag before it": id3v2(50_000) + data[: middle + 900],
    }
    for name, cut in cuts.items():
        path.write_bytes(cut)
        length, frames = decoded_length(path), probe(path).frames
        assert length == Length(frames, rate, f"cut short: it breaks off at {frames / rate:.1f} s"), name
        blocks = Blocks(path)
        assert sum(block.shape[1] for block in blocks) == frames_at_44100(length), name
        assert blocks.reason == length.lacks, name
        # a second at least is whole in each: libsndfile's pages of Opus hold a second, those of Vorbis less
        np.testing.assert_allclose(read_window(path, 0, 40_000), read_window(plain, 0, 40_000), atol=1e-6)
    record_property("tried", len(cuts))
    decoder = Decoder()
    decoded = decoder.read({"": path}, [(0, 40_000)])
    decoder.close()
    length = decoded_length(path)
    assert (decoded.note, decoded.length) == (length.lacks, length)
    assert length.lacks


@pytest.mark.parametrize(("subtype", "rate"), [("VORBIS", 44_100), ("OPUS", 48_000)])
@pytest.mark.parametrize("quiet_s", [0, 9])
def test_an_ogg_that_ends_with_a_page_is_cut_short_where_it_has_no_flag_of_its_end_and_sounds_to_the_last(
    tmp_path: Path, subtype: str, rate: int, quiet_s: int
) -> None:
    """Encoders of years ago leave songs that are whole so; these end in silence."""
    path, audio = tmp_path / "a.ogg", noise(12 * rate)
    audio[(12 - quiet_s) * rate :] = 0  # a page has 255 segments at most, and so 6 s of silence in Vorbis
    soundfile.write(path, audio, rate, format="OGG", subtype=subtype)
    data = path.read_bytes()
    last = ogg_pages(data)[-2]
    assert data[last + 5] & 4
    path.write_bytes(data[:last])
    length = decoded_length(path)
    assert 5 * rate < length.frames < 12 * rate
    assert length.lacks == ("" if quiet_s else f"cut short: it breaks off at {length.duration_s:.1f} s")


def test_an_ogg_without_a_flag_of_its_end_is_cut_short_where_a_packet_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.ogg"
    soundfile.write(path, np.zeros((8 * RATE, 2), np.float32), RATE, format="OGG", subtype="VORBIS")
    data = path.read_bytes()
    body = b"\0" * 255
    serial = data[14:18]
    page = b"OggS\0\0" + b"\xff" * 8 + serial + b"\x40\0\0\0" + bytes(4) + b"\x01\xff" + body
    last = ogg_pages(data)[-2]
    path.write_bytes(data[: last + 5] + b"\0" + data[last + 6 :])
    assert decoded_length(path).lacks == ""
    path.write_bytes(data[: last + 5] + b"\0" + data[last + 6 :] + page)
    assert decoded_length(path).lacks.partition(":")[0] == "cut short"


def test_what_follows_the_last_page_of_an_ogg_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "a.ogg"
    soundfile.write(path, noise(3 * RATE), RATE)
    data = path.read_bytes()
    path.write_bytes(data + b"TAG" + b"t" * 125)
    assert decoded_length(path) == Length(3 * RATE, RATE)
    path.write_bytes(data + b"something else")
    assert decoded_length(path) == Length(3 * RATE, RATE)


@pytest.mark.parametrize("container", ["WAV", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC"])
def test_a_file_that_is_shorter_than_its_header_says_has_the_length_of_what_is_there(
    tmp_path: Path, container: str
) -> None:
    audio, path = noise(8 * RATE), tmp_path / f"half.{container.lower()}"
    with path.open("wb") as file:
        soundfile.write(file, audio, RATE, format=container, subtype="PCM_16")
    assert decoded_length(path) == Length(8 * RATE, RATE)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    try:
        length = decoded_length(path)
    except UnreadableMusic:  # libsndfile refuses a CAF that is cut
        assert container == "CAF"
        assert shutil.which("ffmpeg") is None
        return
    there_s = length.frames / RATE
    assert there_s == pytest.approx(4, abs=0.15)  # half of the bytes; a block of FLAC is 93 ms
    assert length.lacks == f"cut short: it ends {8 - there_s:.3g} s before the 8.0 s that its header says"
    blocks = Blocks(path)
    assert sum(block.shape[1] for block in blocks) == length.frames
    assert blocks.reason.partition(":")[0] in ("cut short", "damaged or cut short")


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
def test_a_length_that_its_writer_did_not_know_is_no_length(tmp_path: Path, length: int) -> None:
    path = tmp_path / "piped.wav"
    soundfile.write(path, noise(RATE), RATE, subtype="PCM_16")
    data = path.read_bytes()
    place = data.index(b"data") + 4
    path.write_bytes(data[:place] + length.to_bytes(4, "little") + data[place + 4 :])
    assert decoded_length(path) == Length(RATE, RATE)


# Vorbis I specification, 4.3.9: L C R; L C R Ls Rs; L C R Ls Rs LFE; L C R Ls Rs Cs LFE; L C R Ls Rs Lb Rb LFE
@pytest.mark.parametrize(
    ("names", "subtype"),
    [
        ("L C R", "VORBIS"),
        ("L R Ls Rs", "VORBIS"),
        ("L C R Ls Rs", "VORBIS"),
        ("L C R Ls Rs LFE", "VORBIS"),
        ("L C R Ls Rs LFE", "OPUS"),
        ("L C R Ls Rs Cs LFE", "VORBIS"),
        ("L C R Ls Rs Lb Rb LFE", "VORBIS"),
    ],
)
def test_surround_in_ogg_is_mixed_down_by_its_own_order(tmp_path: Path, names: str, subtype: str) -> None:
    channels = names.split()
    rate = 48_000
    part = rate // 2
    audio = np.zeros((len(channels) * part, len(channels)), np.float32)
    for place in range(len(channels)):  # one after the other, each a low tone, which an LFE channel keeps too
        audio[place * part : (place + 1) * part, place] = 0.4 * np.sin(2 * np.pi * 80 * np.arange(part) / rate)
    path = tmp_path / "a.ogg"
    with soundfile.SoundFile(path, "w", rate, len(channels), format="OGG", subtype=subtype) as file:
        for start in range(0, len(audio), 4_096):  # libsndfile may crash over long blocks of Vorbis
            file.write(audio[start : start + 4_096])
    gains = {"L": (1, 0), "R": (0, 1), "C": (0.7071, 0.7071), "LFE": (0, 0), "Cs": (0.5, 0.5)}
    found = whole(path).audio
    for place, name in enumerate(channels):
        start, stop = (round((place + x) * part * 44_100 / rate) for x in (0.3, 0.7))
        level = np.sqrt(np.mean(found[:, start:stop] ** 2, axis=1)) / (0.4 * np.sqrt(0.5))
        # ITU-R BS.775: surrounds at -3 dB to their side; 0.06: what a codec at its default quality leaves
        expected = gains.get(name, (0.7071, 0) if name[0] == "L" else (0, 0.7071))
        np.testing.assert_allclose(level, expected, atol=0.06, err_msg=name)


@pytest.mark.parametrize("worst", [1e30, np.inf, -np.inf, np.nan, 32_767.0, -101.0])
def test_absurd_samples_are_refused_by_kind(tmp_path: Path, worst: float) -> None:
    audio = noise(RATE)
    audio[5_000, 1] = worst
    soundfile.write(tmp_path / "a.wav", audio, RATE, subtype="FLOAT")
    with pytest.raises(UnreadableMusic) as caught:
        whole(tmp_path / "a.wav")
    assert caught.value.kind == ("beyond full scale" if np.isfinite(worst) else "not finite")
    audio[5_000, 1] = 8.0  # 18 dB above full scale: a mix in floating point may be
    soundfile.write(tmp_path / "b.wav", audio, RATE, subtype="FLOAT")
    assert whole(tmp_path / "b.wav").audio.max() == 8.0
