"""Reads music: what a file says of itself, and windows of it at 44.1 kHz in stereo.

Decoding is `mixstyle.cache.music.music_file`'s. A file may hold less than its header says, by some samples or by half:
what is there of a window is told, so that it costs no more than the clips that touch what is missing. Some files that
were cut are as long as what is left of them (`mixstyle.cache.music.cut_off`): they are told too, and used.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mixstyle.cache.music.music_file import Length, MusicInfo, Sound, UnreadableMusic
from mixstyle.pipeline.core.stems import SAMPLE_RATE

__all__ = [
    "Blocks",
    "Length",
    "MusicInfo",
    "UnreadableMusic",
    "WindowAudio",
    "decoded_length",
    "frames_at_44100",
    "probe",
    "read_what_is_there",
    "read_window",
    "read_windows",
    "resample_to_44100",
    "stereo",
]

# Kaiser-windowed sinc, the parameters that torchaudio's documentation names "kaiser_best": stop band below -120 dB.
LOWPASS_WIDTH = 64
ROLLOFF = 0.9475937167399596
BETA = 14.769656459379492
LARGEST_KERNEL = 10_000_000
"""Numbers in torchaudio's table of filters; rates that would need more take the same filter another way."""

BLOCK_FRAMES = 1 << 18
"""Of a track that is read from end to end: 6 s."""

# ITU-R BS.775: centre and surrounds at -3 dB, low-frequency effects left out. Rows: left, right; columns in the order
# of WAV (WAVEFORMATEX): L R C LFE and then the surrounds.
_H = math.sqrt(0.5)
DOWNMIX: dict[int, tuple[tuple[float, ...], tuple[float, ...]]] = {
    3: ((1, 0, _H), (0, 1, _H)),
    4: ((1, 0, _H, 0), (0, 1, 0, _H)),
    5: ((1, 0, _H, _H, 0), (0, 1, _H, 0, _H)),
    6: ((1, 0, _H, 0, _H, 0), (0, 1, _H, 0, 0, _H)),
    7: ((1, 0, _H, 0, _H * _H, _H, 0), (0, 1, _H, 0, _H * _H, 0, _H)),
    8: ((1, 0, _H, 0, _H, 0, _H, 0), (0, 1, _H, 0, 0, _H, 0, _H)),
}


@dataclass(frozen=True, slots=True)
class WindowAudio:
    """A window of a track: audio [2, n] float32 (of stems [4, 2, n]), zeros where there is none.

    there: how many of its frames, from its start, the file has. reason: why that is less than n, or empty.
    """

    audio: np.ndarray
    there: int
    reason: str = ""


def probe(path: Path | str) -> MusicInfo:
    """Reads a file's header. Raises UnreadableMusic for files that are missing, empty, locked away or no music."""
    with Sound(Path(path)) as sound:
        return sound.info


def frames_at_44100(info: MusicInfo | Length) -> int:
    """Frames of the whole track once it is at 44.1 kHz."""
    return -(-info.frames * SAMPLE_RATE // info.rate)


def read_window(path: Path | str, start: int, stop: int) -> np.ndarray:
    """Frames start to stop (half-open, at 44.1 kHz) of a track: [2, stop - start] float32.

    Only what is needed is decoded. The result equals the same window of the whole track's resampling. Mono goes to
    both channels; 3 to 8 channels are mixed down by ITU-R BS.775. Raises UnreadableMusic with the reason, also where
    the file holds less, and ValueError for a window outside the track.
    """
    return read_windows(path, [(start, stop)])[0]


def read_windows(path: Path | str, windows: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """Several windows of one track, opened once; see `read_window`."""
    found = read_what_is_there(path, windows)
    short = next((window for window in found if window.reason), None)
    if short is not None:
        raise UnreadableMusic(short.reason)
    return [window.audio for window in found]


def read_what_is_there(path: Path | str, windows: Sequence[tuple[int, int]]) -> list[WindowAudio]:
    """Several windows of one track that may hold less than its header says; else as `read_window`."""
    with Sound(Path(path)) as sound:
        return [_read(sound, start, stop) for start, stop in windows]


def decoded_length(path: Path | str) -> Length:
    """How long a file is as it can be decoded, and what it lacks. Raises UnreadableMusic as `probe` does."""
    with Sound(Path(path)) as sound:
        return sound.length()


class Blocks:
    """All of a track at 44.1 kHz, block by block, as far as it goes: [2, frames] float32 each, the last one shorter.

    reason: after the last one, why it is less than the header says, or empty. Raises as `read_window` does.
    """

    def __init__(self, path: Path | str, frames: int = BLOCK_FRAMES) -> None:
        self._path, self._frames, self.reason = Path(path), frames, ""

    def __iter__(self) -> Iterator[np.ndarray]:
        with Sound(self._path) as sound:
            whole = frames_at_44100(sound.info)
            for start in range(0, whole, self._frames):
                block = _read(sound, start, min(start + self._frames, whole))
                if block.there:
                    yield block.audio[:, : block.there]
                if block.reason:
                    self.reason = block.reason
                    return
            self.reason = sound.length().lacks


def stereo(audio: np.ndarray) -> np.ndarray:
    """Audio [C, T] of 1 to 8 channels as [2, T]. Raises UnreadableMusic for more channels."""
    channels = audio.shape[0]
    if channels == 1:
        return np.repeat(audio, 2, axis=0)
    if channels == 2:
        return audio
    if channels not in DOWNMIX:
        raise UnreadableMusic(f"too many channels: {channels}, and at most 8 can be mixed down")
    return np.array(DOWNMIX[channels], dtype=np.float32) @ audio


def resample_to_44100(audio: np.ndarray, rate: int) -> np.ndarray:
    """Audio [C, T] float32 at `rate` Hz -> [C, ceil(T * 44100 / rate)] at 44.1 kHz; silence beyond both ends."""
    if rate == SAMPLE_RATE:
        return audio
    # Loaded here, since a process that reads only 44.1 kHz needs neither: seconds of start-up, hundreds of MB.
    old, new, width = _ratio(rate)
    if new * (2 * width + old) <= LARGEST_KERNEL:
        import torch
        from torchaudio.functional import resample

        # torchaudio rounds the length through float32, which may lose the last frame of long audio: a block of silence
        # more, and the exact length is cut here.
        padded = torch.nn.functional.pad(torch.from_numpy(audio), (0, old))
        converted = resample(
            padded, old, new, LOWPASS_WIDTH, ROLLOFF, resampling_method="sinc_interp_kaiser", beta=BETA
        )
        return converted[:, : -(-audio.shape[1] * new // old)].numpy()
    from scipy import signal

    converted = signal.resample_poly(audio, new, old, axis=1, window=_long_filter(old, new))
    return converted.astype(np.float32)


def _read(sound: Sound, start: int, stop: int) -> WindowAudio:
    info = sound.info
    if not 0 <= start < stop <= frames_at_44100(info):
        raise ValueError(f"window {start} to {stop} is not within {frames_at_44100(info)} frames")
    if info.rate == SAMPLE_RATE:
        audio, reason = sound.decode(start, stop)
        return WindowAudio(_filled(stereo(audio), stop - start), audio.shape[1], reason)
    old, new, width = _ratio(info.rate)
    # Output block j (`new` frames) is made of input frames j * old - width to (j + 1) * old + width. Cut at a multiple
    # of `old`, the window's resampling has the same phases as the whole track's.
    lead = -(-width // old) * old
    first = max(0, start // new * old - lead)
    last = min(info.frames, ((stop - 1) // new + 1) * old + width)
    audio, reason = sound.decode(first, last)
    converted = resample_to_44100(_filled(stereo(audio), last - first), info.rate)
    offset = first // old * new
    there = stop - start
    if audio.shape[1] < last - first:  # as at any track's end: silence beyond
        there = min(there, max(0, -(-(first + audio.shape[1]) * new // old) - start))
    window = np.ascontiguousarray(converted[:, start - offset : stop - offset])
    window[:, there:] = 0
    return WindowAudio(window, there, reason if there < stop - start else "")


def _filled(audio: np.ndarray, frames: int) -> np.ndarray:
    """Audio [2, n] with zeros up to so many frames."""
    return np.ascontiguousarray(np.pad(audio, ((0, 0), (0, frames - audio.shape[1]))))


def _ratio(rate: int) -> tuple[int, int, int]:
    """Input and output frames of a block, and the filter's reach to either side in input frames."""
    common = math.gcd(rate, SAMPLE_RATE)
    old, new = rate // common, SAMPLE_RATE // common
    return old, new, math.ceil(LOWPASS_WIDTH * old / (min(old, new) * ROLLOFF))


@functools.lru_cache(maxsize=2)
def _long_filter(old: int, new: int) -> np.ndarray:
    """The same windowed sinc, sampled at the rates' common multiple, for rates with hardly a common divisor."""
    cutoff = min(old, new) * ROLLOFF
    half = math.floor(LOWPASS_WIDTH * old * new / cutoff)
    t = np.arange(-half, half + 1) * (cutoff / (old * new))
    window = np.i0(BETA * np.sqrt(np.maximum(0.0, 1 - (t / LOWPASS_WIDTH) ** 2))) / np.i0(BETA)
    # resample_poly multiplies by `new`
    return np.sinc(t) * window * (cutoff / old / new)
