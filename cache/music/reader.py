"""Reads music: what a file says of itself, and windows of it at 44.1 kHz in stereo.

Everything is decoded by libsndfile (soundfile), which seeks sample-exactly. Frames that come back are compared with
those asked for: a file that holds less than its header says is refused as truncated, the whole of it, since the
places of its clips were derived from that header. An Ogg or WAV file that was cut tells its new length instead of the
old one, and is taken as the shorter track that it now is.
"""

import errno
import functools
import math
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE

AUDIO_SUFFIXES = frozenset(
    ".mp3 .mp2 .flac .ogg .oga .opus .wav .wave .w64 .rf64 .aif .aiff .aifc .au .snd .caf "
    # libsndfile does not read these: they are taken up so that they are told as failures, not passed over
    ".m4a .mp4 .aac .alac .wma .wv .ape .mpc".split()
)
"""Endings, in lower case, of the files that count as music."""

# Kaiser-windowed sinc, the parameters that torchaudio's documentation names "kaiser_best": stop band below -120 dB.
LOWPASS_WIDTH = 64
ROLLOFF = 0.9475937167399596
BETA = 14.769656459379492
LARGEST_KERNEL = 10_000_000
"""Numbers in torchaudio's table of filters; rates that would need more take the same filter another way."""

RATES_HZ = (1_000, 768_000)
LONGEST_S = 24 * 3600.0
BLOCK_FRAMES = 1 << 18
"""Of a track that is read from end to end: 6 s."""

# ITU-R BS.775: centre and surrounds at -3 dB, low-frequency effects left out. Rows: left, right; columns in the order
# that libsndfile hands out (WAVEFORMATEX): L R C LFE and then the surrounds.
_H = math.sqrt(0.5)
DOWNMIX: dict[int, tuple[tuple[float, ...], tuple[float, ...]]] = {
    3: ((1, 0, _H), (0, 1, _H)),
    4: ((1, 0, _H, 0), (0, 1, 0, _H)),
    5: ((1, 0, _H, _H, 0), (0, 1, _H, 0, _H)),
    6: ((1, 0, _H, 0, _H, 0), (0, 1, _H, 0, 0, _H)),
    7: ((1, 0, _H, 0, _H * _H, _H, 0), (0, 1, _H, 0, _H * _H, 0, _H)),
    8: ((1, 0, _H, 0, _H, 0, _H, 0), (0, 1, _H, 0, 0, _H, 0, _H)),
}


class UnreadableMusic(MixstyleError):  # noqa: N818 (says what the file is)
    """A file that cannot be used (bad-audio); the text is the reason: its kind, a colon and the detail."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, code="bad-audio")

    @property
    def kind(self) -> str:
        """What failures are counted by, such as "too short"."""
        return self.message.partition(":")[0]


@dataclass(frozen=True, slots=True)
class MusicInfo:
    """What a file's header says. rate: Hz. frames: at that rate. licence: its licence or copyright tag, or empty."""

    rate: int
    channels: int
    frames: int
    format: str
    licence: str = ""

    @property
    def duration_s(self) -> float:
        return self.frames / self.rate


def probe(path: Path | str) -> MusicInfo:
    """Reads a file's header. Raises UnreadableMusic for files that are missing, empty, locked away or no music."""
    with _opened(Path(path)) as file:
        return _info(file)


def frames_at_44100(info: MusicInfo) -> int:
    """Frames of the whole track once it is at 44.1 kHz."""
    return -(-info.frames * SAMPLE_RATE // info.rate)


def read_window(path: Path | str, start: int, stop: int) -> np.ndarray:
    """Frames start to stop (half-open, at 44.1 kHz) of a track: [2, stop - start] float32.

    Only what is needed is decoded. The result equals the same window of the whole track's resampling. Mono goes to
    both channels; 3 to 8 channels are mixed down by ITU-R BS.775. Raises UnreadableMusic with the reason, and
    ValueError for a window outside the track.
    """
    return read_windows(path, [(start, stop)])[0]


def read_windows(path: Path | str, windows: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """Several windows of one track, opened once; see `read_window`."""
    with _opened(Path(path)) as file:
        info = _info(file)
        return [_read(file, info, start, stop) for start, stop in windows]


def read_blocks(path: Path | str, frames: int = BLOCK_FRAMES) -> Iterator[np.ndarray]:
    """All of a track at 44.1 kHz, block by block: [2, frames] float32 each, the last one shorter; see `read_window`."""
    with _opened(Path(path)) as file:
        info = _info(file)
        whole = frames_at_44100(info)
        for start in range(0, whole, frames):
            yield _read(file, info, start, min(start + frames, whole))


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


def _opened(path: Path) -> soundfile.SoundFile:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableMusic("not a file: a folder, a pipe or a device")
        if status.st_size == 0:
            raise UnreadableMusic("empty file: 0 bytes")
        os.close(os.open(path, os.O_RDONLY))  # tells a denied permission, which libsndfile takes for a wrong format
    except OSError as error:
        raise UnreadableMusic(_refusal(error, path)) from error
    try:
        return soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, RuntimeError, ValueError, TypeError) as error:
        raise UnreadableMusic("not music: in no format that libsndfile reads") from error


def _refusal(error: OSError, path: Path) -> str:
    kinds = {
        errno.ENOENT: "broken link: what it points to is gone" if path.is_symlink() else "no such file: it is gone",
        errno.ELOOP: "broken link: it goes round in a circle",
        errno.EACCES: "permission denied: this user may not read it",
        errno.EPERM: "permission denied: this user may not read it",
    }
    return kinds.get(error.errno or 0, f"cannot be read: {error.strerror}")


def _info(file: soundfile.SoundFile) -> MusicInfo:
    if not RATES_HZ[0] <= file.samplerate <= RATES_HZ[1]:
        raise UnreadableMusic(f"unusable rate: its header says {file.samplerate} Hz")
    if file.frames <= 0:
        raise UnreadableMusic("no audio: its header says 0 samples")
    if file.frames / file.samplerate > LONGEST_S:
        raise UnreadableMusic("unknown length: its header gives none, or more than a day")
    if file.channels > max(DOWNMIX):
        raise UnreadableMusic(f"too many channels: {file.channels}, and at most 8 can be mixed down")
    tags = file.copy_metadata()
    licence = tags.get("license") or tags.get("copyright") or ""
    return MusicInfo(file.samplerate, file.channels, file.frames, f"{file.format} {file.subtype}", licence)


def _read(file: soundfile.SoundFile, info: MusicInfo, start: int, stop: int) -> np.ndarray:
    if not 0 <= start < stop <= frames_at_44100(info):
        raise ValueError(f"window {start} to {stop} does not lie within {frames_at_44100(info)} frames")
    if info.rate == SAMPLE_RATE:
        return np.ascontiguousarray(stereo(_decode(file, info, start, stop)))
    old, new, width = _ratio(info.rate)
    # Output block j (`new` frames) is made of input frames j * old - width to (j + 1) * old + width. Cut at a multiple
    # of `old`, the window's resampling has the same phases as the whole track's.
    lead = -(-width // old) * old
    first = max(0, start // new * old - lead)
    last = min(info.frames, ((stop - 1) // new + 1) * old + width)
    converted = resample_to_44100(stereo(_decode(file, info, first, last)), info.rate)
    offset = first // old * new
    return np.ascontiguousarray(converted[:, start - offset : stop - offset])


def _decode(file: soundfile.SoundFile, info: MusicInfo, first: int, last: int) -> np.ndarray:
    """Frames first to last of the file itself: [C, last - first] float32."""
    try:
        file.seek(first)
        audio = file.read(last - first, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise UnreadableMusic(
            f"damaged or cut short: decoding fails between {first / info.rate:.1f} s and {last / info.rate:.1f} s"
        ) from error
    if len(audio) != last - first:
        raise UnreadableMusic(f"cut short: it holds less than the {info.duration_s:.1f} s that its header says")
    if not np.isfinite(audio).all():
        raise UnreadableMusic("not finite: it holds NaN or infinite samples")
    return audio.T


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
