"""Reading music: windows equal the whole, every reason for a failure is told, and a crash costs one track."""

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.odd_audio import without_data_size
from scipy import signal as dsp

from mixstyle.cache.music.content_hash import audio_bytes, content_hash, duplicates, quick_hash
from mixstyle.cache.music.decode_pool import DecodePool, Decoder
from mixstyle.cache.music.reader import (
    UnreadableMusic,
    frames_at_44100,
    probe,
    read_window,
    read_windows,
    resample_to_44100,
    stereo,
)

RATE = 44_100


def noise(frames: int, channels: int = 2, seed: int = 0) -> np.ndarray:
    """[T, C] float32 at about -20 dBFS."""
    return (0.1 * np.random.default_rng(seed).standard_normal((frames, channels))).astype(np.float32)


def sines(rate: int, seconds: float, frequencies_hz: tuple[float, ...] = (440.0, 3_000.0)) -> np.ndarray:
    """[T, 2]: one sine in each channel."""
    t = np.arange(round(rate * seconds)) / rate
    return np.stack([0.5 * np.sin(2 * np.pi * f * t) for f in frequencies_hz], axis=1).astype(np.float32)


def write(path: Path, audio: np.ndarray, rate: int = RATE, subtype: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio, rate, subtype=subtype)
    return path


def cut_in_half(path: Path) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_a_window_is_those_frames_of_the_file(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a.{suffix}", noise(4 * RATE))
    whole, _ = soundfile.read(path, dtype="float32")
    info = probe(path)
    assert (info.rate, info.channels, info.frames) == (RATE, 2, 4 * RATE)
    for start, stop in ((0, 100), (50_001, 61_234), (4 * RATE - 5_000, 4 * RATE)):
        np.testing.assert_array_equal(read_window(path, start, stop), whole[start:stop].T)


# 48 kHz and 11.025 kHz are in real collections; 22.254 kHz shares hardly a divisor with 44.1 kHz
@pytest.mark.parametrize("rate", [8_000, 11_025, 22_254, 48_000, 96_000])
def test_a_window_equals_the_whole_tracks_resampling(tmp_path: Path, rate: int) -> None:
    path = write(tmp_path / "a.wav", noise(3 * rate + 17), rate, subtype="FLOAT")
    frames = frames_at_44100(probe(path))
    whole = resample_to_44100(soundfile.read(path, dtype="float32")[0].T.copy(), rate)
    assert whole.shape == (2, frames)
    windows = [(0, 999), (44_100, 50_000), (12_345, 99_999), (frames - 30_000, frames), (frames - 1, frames)]
    for (start, stop), window in zip(windows, read_windows(path, windows), strict=True):
        # the same filter on the same samples: only float32 sums in another order may differ
        np.testing.assert_allclose(window, whole[:, start:stop], atol=1e-7, rtol=0)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_254, 48_000])
def test_a_resampled_sine_is_that_sine_at_the_new_rate(rate: int) -> None:
    resampled = resample_to_44100(sines(rate, 0.5).T.copy(), rate)
    expected = sines(RATE, 0.6).T[:, : resampled.shape[1]]
    middle = slice(2_000, -2_000)  # the filter reaches over the ends, where there is silence instead of a sine
    error = np.abs(resampled - expected)[:, middle].max()
    assert error < 0.5 * 10 ** (-80 / 20)  # -80 dB against the sine


def test_resampling_agrees_with_scipys_in_the_pass_band(tmp_path: Path) -> None:
    sos = dsp.butter(12, 15_000, fs=48_000, output="sos")
    audio = dsp.sosfiltfilt(sos, noise(48_000), axis=0).astype(np.float32)
    path = write(tmp_path / "a.wav", audio, 48_000, subtype="FLOAT")
    oracle = dsp.resample_poly(audio.astype(np.float64), 147, 160, axis=0, window=("kaiser", 12.0)).T
    ours = read_window(path, 0, RATE)
    middle = slice(500, -500)
    residual = ours[:, middle] - oracle[:, middle]
    # two different low-pass filters: -60 dB apart below their transition bands
    assert np.std(residual) < 1e-3 * np.std(oracle)


def test_nothing_aliases_when_the_rate_falls() -> None:
    high = sines(96_000, 0.5, (30_000.0, 23_500.0))
    assert np.abs(resample_to_44100(high.T.copy(), 96_000)[:, 2_000:-2_000]).max() < 0.5 * 10 ** (-90 / 20)


def test_mono_goes_to_both_channels_and_surround_is_mixed_down(tmp_path: Path) -> None:
    mono = write(tmp_path / "mono.flac", noise(RATE, 1))
    window = read_window(mono, 0, RATE)
    np.testing.assert_array_equal(window[0], window[1])
    np.testing.assert_array_equal(window[0], soundfile.read(mono, dtype="float32")[0])
    # ITU-R BS.775-3, annex 4, table 2: centre and surrounds at 0.7071; L R C LFE Ls Rs
    audio = np.eye(6, dtype=np.float32)
    np.testing.assert_allclose(stereo(audio), [[1, 0, 0.7071, 0, 0.7071, 0], [0, 1, 0.7071, 0, 0, 0.7071]], atol=1e-4)
    surround = write(tmp_path / "surround.wav", noise(RATE, 6), subtype="FLOAT")
    assert read_window(surround, 0, RATE).shape == (2, RATE)
    many = write(tmp_path / "many.wav", noise(100, 9))
    with pytest.raises(UnreadableMusic) as caught:
        probe(many)
    assert (caught.value.kind, "9" in str(caught.value)) == ("too many channels", True)


def test_the_licence_tag_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    with soundfile.SoundFile(path, "w", RATE, 2) as file:
        file.license = "CC BY-SA 4.0"  # pyright: ignore[reportAttributeAccessIssue]
        file.write(noise(1000))
    assert probe(path).licence == "CC BY-SA 4.0"
    assert probe(write(tmp_path / "b.flac", noise(1000))).licence == ""


def test_every_unreadable_file_has_its_reason(tmp_path: Path) -> None:
    (tmp_path / "text.mp3").write_text("hello " * 1_000)
    (tmp_path / "empty.mp3").touch()
    (tmp_path / "folder.mp3").mkdir()
    (tmp_path / "broken.mp3").symlink_to(tmp_path / "gone")
    (tmp_path / "circle.mp3").symlink_to(tmp_path / "circle.mp3")
    os.mkfifo(tmp_path / "pipe.mp3")  # opening one for reading would wait for ever
    write(tmp_path / "nothing.wav", np.zeros((0, 2), np.float32))
    reasons = {
        "text.mp3": "not music",
        "empty.mp3": "empty file",
        "folder.mp3": "not a file",
        "broken.mp3": "broken link",
        "circle.mp3": "broken link",
        "pipe.mp3": "not a file",
        "none.mp3": "no such file",
        "a\0b.mp3": "no such file",  # a line of a list may hold it
        "\ud800.mp3": "no such file",
        "nothing.wav": "no audio",
    }
    for name, reason in reasons.items():
        with pytest.raises(UnreadableMusic) as error:
            probe(tmp_path / name)
        assert (error.value.kind, error.value.code) == (reason, "bad-audio"), name


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(1000))
    path.chmod(0)
    with pytest.raises(UnreadableMusic) as caught:
        probe(path)
    assert caught.value.kind == "permission denied"


@pytest.mark.parametrize("suffix", ["mp3", "flac"])
def test_a_file_cut_in_half_is_refused_where_it_is_read_beyond_the_cut(tmp_path: Path, suffix: str) -> None:
    path = cut_in_half(write(tmp_path / f"a.{suffix}", noise(20 * RATE)))
    frames = frames_at_44100(probe(path))
    assert frames == 20 * RATE  # its header still says so
    with pytest.raises(UnreadableMusic) as caught:
        read_window(path, frames - RATE, frames)
    assert caught.value.kind in ("cut short", "damaged or cut short")  # by the format: a FLAC decoder notices itself


def test_samples_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    audio = noise(RATE)
    audio[500, 1] = np.nan
    path = write(tmp_path / "a.wav", audio, subtype="FLOAT")
    with pytest.raises(UnreadableMusic) as caught:
        read_window(path, 0, RATE)
    assert caught.value.kind == "not finite"
    assert np.isfinite(read_window(path, 1_000, 2_000)).all()


def test_tags_do_not_count_as_content(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain.mp3", noise(2 * RATE))
    audio = plain.read_bytes()
    id3v2 = b"ID3\x04\0\0" + bytes([0, 0, 2, 1]) + b"t" * 257  # a length of 4 times 7 bits: 2 * 128 + 1
    ape = b"APETAGEX" + (2_000).to_bytes(4, "little") + (100).to_bytes(4, "little") + bytes(4) + bytes(8)
    ape = ape[:12] + (100).to_bytes(4, "little") + (1).to_bytes(4, "little") + bytes(12)
    tagged = tmp_path / "tagged.mp3"
    tagged.write_bytes(id3v2 + audio + b"a" * (100 - 32) + ape + b"TAG" + b"1" * 125)
    assert content_hash(tagged) == content_hash(plain)
    assert quick_hash(tagged, audio_bytes(tagged)) == quick_hash(plain, audio_bytes(plain))
    other = tmp_path / "other.mp3"
    other.write_bytes(audio[:-1] + bytes([audio[-1] ^ 1]))
    assert content_hash(other) != content_hash(plain)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_a_wav_equals_the_flac_made_of_it(tmp_path: Path, subtype: str) -> None:
    steps = np.random.default_rng(0).integers(-(2**31), 2**31, (RATE, 2), dtype=np.int32)
    wav = write(tmp_path / "a.wav", steps, subtype=subtype)
    flac = write(tmp_path / "a.flac", steps, subtype=subtype)
    assert content_hash(wav) == content_hash(flac)
    assert duplicates([wav, flac]) == [[wav, flac]]
    assert content_hash(write(tmp_path / "b.wav", steps, 48_000, subtype=subtype)) != content_hash(wav)
    assert content_hash(write(tmp_path / "b.flac", steps[:, ::-1], subtype=subtype)) != content_hash(flac)


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_wavs_whose_writer_died_are_told_apart_by_their_samples(tmp_path: Path, subtype: str) -> None:
    whole = [write(tmp_path / f"{seed}.wav", noise(RATE, seed=seed), subtype=subtype) for seed in (0, 1)]
    died = [path.with_name(f"died {path.name}") for path in whole]
    for path, other in zip(whole, died, strict=True):
        # without what libsndfile has behind the samples, as a writer that died leaves it
        end = path.read_bytes().index(b"data") + 8 + 2 * RATE * (2 if subtype == "PCM_16" else 4)
        other.write_bytes(without_data_size(path.read_bytes()[:end]))
    assert [probe(path).frames for path in died] == [RATE, RATE]
    assert duplicates(died) == []
    assert [content_hash(path) for path in died] == [content_hash(path) for path in whole]
    assert duplicates([*whole, *died]) == [[whole[0], died[0]], [whole[1], died[1]]]


def test_nothing_is_hashed_as_no_bytes(tmp_path: Path) -> None:
    for name, data in (
        ("a.mp3", b"ID3\x04\0\0\0\0\0\x0a" + b"a" * 10),  # a tag alone
        ("b.mp3", b"ID3\x04\0\0\0\0\0\x0a" + b"b" * 10),
        ("a.wav", without_data_size(write(tmp_path / "x.wav", noise(9)).read_bytes())[:44]),  # a header alone
        ("c.mp3", b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + b"c" * 10),  # a tag that is longer than the file
    ):
        (tmp_path / name).write_bytes(data)
        assert audio_bytes(tmp_path / name).size > 0, name
    assert duplicates(sorted(tmp_path.glob("[abc].*"))) == []


def test_duplicates_are_found_by_content(tmp_path: Path) -> None:
    first = write(tmp_path / "a.wav", noise(3 * RATE))
    copy = tmp_path / "copy.wav"
    copy.write_bytes(first.read_bytes())
    linked = tmp_path / "linked.wav"
    linked.hardlink_to(first)
    other = write(tmp_path / "same_size.wav", noise(3 * RATE, seed=1))
    middle = noise(3 * RATE)  # differs only far from both ends
    middle[66_150] += 0.1
    write(tmp_path / "same_ends.wav", middle)
    paths = [other, copy, tmp_path / "gone.wav", tmp_path / "same_ends.wav", first, linked]
    assert [sorted(group, key=str) for group in duplicates(paths)] == [sorted([copy, first, linked], key=str)]


def test_a_pool_keeps_the_order_and_reads_what_we_read(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}.wav", noise(RATE, seed=i)) for i in range(6)]
    paths.insert(3, tmp_path / "gone.wav")

    def job(decoder: Decoder, path: Path) -> np.ndarray | str:
        try:
            assert decoder.probe({"": path}).frames == RATE
            return decoder.read({"": path}, [(100, 200), (40_000, RATE)]).windows[1].audio
        except UnreadableMusic as error:
            return str(error)

    with DecodePool(2) as pool:
        results = list(pool.map(job, paths))
    for path, result in zip(paths, results, strict=True):
        if path.exists():
            assert isinstance(result, np.ndarray)
            np.testing.assert_array_equal(result, read_window(path, 40_000, RATE))
        else:
            assert str(result).partition(":")[0] == "no such file"


def test_a_decoder_that_crashes_or_hangs_costs_one_track(tmp_path: Path) -> None:
    good = write(tmp_path / "good.wav", noise(RATE))
    endless = write(tmp_path / "endless.au", noise(RATE))
    with endless.open("r+b") as file:
        file.truncate(1 << 38)  # 256 GB of nothing take minutes to hash: time to do something to its reader

    def job(decoder: Decoder, path: Path) -> int:
        return decoder.read({"": path}, [(0, 1_000)]).windows[0].audio.shape[1]

    with DecodePool(1, timeout_s=60) as pool:
        decoder = Decoder(timeout_s=60)
        stop = threading.Event()

        def crash() -> None:
            seen = set()
            while not stop.is_set():
                pid = decoder.pid
                if pid is not None and pid not in seen:
                    time.sleep(0.3)
                    seen.add(pid)
                    os.kill(pid, signal.SIGSEGV)
                time.sleep(0.02)

        killer = threading.Thread(target=crash)
        killer.start()
        with pytest.raises(UnreadableMusic) as caught:
            job(decoder, endless)
        assert (caught.value.kind, "SIGSEGV" in str(caught.value)) == ("the decoder crashed", True)
        stop.set()
        killer.join()
        assert job(decoder, good) == 1_000  # and the next track is read
        decoder.timeout_s = 0.5
        with pytest.raises(UnreadableMusic) as caught:
            job(decoder, endless)
        assert (caught.value.kind, "0.5 s" in str(caught.value)) == ("the decoder crashed", True)
        decoder.close()
        assert list(pool.map(job, [good, good])) == [1_000, 1_000]


def test_a_track_whose_decoder_died_once_is_read_in_the_same_run(tmp_path: Path) -> None:
    path = write(tmp_path / "good.wav", noise(RATE))
    decoder = Decoder(timeout_s=60)
    expected = decoder.read({"": path}, [(0, 1_000)]).windows[0].audio
    assert decoder.pid is not None
    os.kill(decoder.pid, signal.SIGKILL)  # as the system does where memory runs out
    np.testing.assert_array_equal(decoder.read({"": path}, [(0, 1_000)]).windows[0].audio, expected)
    decoder.close()


def test_a_resampled_length_is_exact_however_long_the_audio() -> None:
    # 147 / 160 of this is a whole number and 1/160: in float32, which has steps of 1/16 there, just the whole number
    frames = pow(147, -1, 160) + 160 * 4_100
    assert frames * 147 % 160 == 1
    assert resample_to_44100(np.zeros((1, frames), np.float32), 48_000).shape == (1, frames * 147 // 160 + 1)


def test_leaving_a_pool_does_not_wait_for_its_work(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    endless = write(tmp_path / "endless.au", noise(RATE))
    with endless.open("r+b") as file:
        file.truncate(1 << 38)
    started: list[Decoder] = []
    finished: list[Decoder] = []

    def job(decoder: Decoder, path: Path) -> int:
        started.append(decoder)
        read = len(decoder.read({"": path}, [(0, 1_000)]).windows)
        finished.append(decoder)
        return read

    def run() -> None:
        with DecodePool(2) as pool:
            results = pool.map(job, [endless] * 8)
            threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
            next(results)

    # a test run that a shell put in the background ignores Ctrl-C, and so would this test
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with pytest.raises(KeyboardInterrupt):
        run()
    assert finished == [], "hashing, which takes minutes, was waited for"
    assert len(started) == 2
    assert [decoder.pid for decoder in started] == [None, None]
