"""A music file as one thing to decode: its header, its true length, and its samples as far as they go.

Everything is decoded by libsndfile (soundfile), which seeks sample-exactly. Where it goes wrong about a file, it is
given another view of it: without the tags before it; with a first frame that tells the number of frames of an MP3 that
tells none; with the length of a FLAC that was written to a pipe, or of a WAV whose writer died. Formats that it does
not read go through ffmpeg, where that is installed, and so does Opus in which it would stop half way.
"""

import contextlib
import errno
import math
import mmap
import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import numpy as np
import soundfile

from mixstyle.cache.music import ffmpeg
from mixstyle.cache.music.aiff_data import aiff_header
from mixstyle.cache.music.au_data import au_header
from mixstyle.cache.music.caf_data import caf_header
from mixstyle.cache.music.cut_off import (
    breaks_off,
    decoding_fails,
    ends_before,
    ends_early,
    missing_share,
    ogg_end,
)
from mixstyle.cache.music.file_view import FileView
from mixstyle.cache.music.flac_length import HEAD_BYTES, count_samples, told_samples, with_samples
from mixstyle.cache.music.formats import MPEG_SUFFIXES, VORBIS_TO_WAV
from mixstyle.cache.music.mpeg_frames import count_frames, next_frame
from mixstyle.cache.music.ogg_pages import is_chained_ogg
from mixstyle.cache.music.opus_pages import is_uneven_opus
from mixstyle.cache.music.tags import after_id3v2, before_last_tags
from mixstyle.cache.music.transient_failures import BROKEN_LINK, CANNOT_BE_READ, DENIED, GONE
from mixstyle.cache.music.wav_data import UNKNOWN, wav_data
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.samples import LOUDEST_SAMPLE
from mixstyle.pipeline.core.stems import SAMPLE_RATE

RATES_HZ = (1_000, 768_000)
MOST_ODD_HZ = 100_000
"""Rates above it should divide, with 44.1 kHz, by more than a little, as all that are in use do: the filter between
rates without a common divisor grows with them, at 767,999 Hz to gigabytes."""
LONGEST_S = 24 * 3600.0
MOST_CHANNELS = 8
NOTABLE_S = 0.1
"""What a file lacks at its end is told from here on, but for windows that reach into it: encoders that end every file
some blocks early are many."""
ENDING_S = 0.05
SILENT_DB = -60.0
"""RMS of full scale: below it, a song has ended."""
_MAGIC = (b"fLaC", b"RIFF", b"RF64", b"riff", b"OggS", b"FORM", b".snd", b"caff")
"""How files begin that are no MP3, whatever their names say."""
_MPEG_LEAD_FRAMES = 16 * 1152
"""Decoded before a place in an MP3: its frames take bits from frames before them, up to 511 bytes back."""
_STEP_FRAMES = 4096
"""Where decoding fails on the way, it is done again in steps this long, to find how far it goes."""


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
    """What a file's header says. rate: Hz. frames: at that rate; counted where the header gives no length. licence: its
    licence or copyright tag, or empty."""

    rate: int
    channels: int
    frames: int
    format: str
    licence: str = ""

    @property
    def duration_s(self) -> float:
        return self.frames / self.rate


@dataclass(frozen=True, slots=True)
class Length:
    """Of a file as it can be decoded. frames: at `rate` Hz. lacks: why that is less than it was, or empty."""

    frames: int
    rate: int
    lacks: str = ""

    @property
    def duration_s(self) -> float:
        return self.frames / self.rate


class Sound:
    """A file that is open. A context manager; raises UnreadableMusic for what is missing, locked away or no music."""

    def __init__(self, path: Path) -> None:
        _check(path)
        self._path = path
        self._opened = _opened(path)
        try:
            self.info = _described(self._opened)
        except BaseException:
            self.close()
            raise
        file = self._opened.file
        vorbis = file.format == "OGG" and file.subtype in ("VORBIS", "OPUS")
        self._order = VORBIS_TO_WAV.get(self.info.channels) if vorbis else None
        self._lead = _MPEG_LEAD_FRAMES if file.format == "MP3" else 0

    def decode(self, first: int, last: int) -> tuple[np.ndarray, str]:
        """Frames first to last: [C, n] float32 in WAV's order of channels, and why n is less than asked for, or "".

        Raises UnreadableMusic for samples that are not finite or absurdly large.
        """
        reason = ""
        try:
            audio = self._frames(first, last)
        except (soundfile.LibsndfileError, RuntimeError):
            audio = self._as_far_as_it_goes(first, last)
            place_s = (first + len(audio)) / self.info.rate
            reason = decoding_fails(place_s, self.info.duration_s)
        if len(audio) < last - first:
            reason = reason or self._cut_short(first, len(audio))
        check_samples(audio)
        return (audio if self._order is None else audio[:, self._order]).T, reason

    def length(self) -> "Length":
        """How long it is, and what it lacks at its end. Damage on the way there is not looked for."""
        there = self._frames_there()
        there_s = there / self.info.rate
        missing_s, lacks = self._opened.missing * there_s, ""
        if (self.info.frames - there) / self.info.rate >= NOTABLE_S:
            lacks = self._cut_short(0, there)
        elif self._opened.breaks_off or (self._opened.suspected and self._ends_loud(there)):
            lacks = breaks_off(there_s)
        elif missing_s >= NOTABLE_S:
            lacks = ends_early(missing_s, there_s + missing_s)
        return Length(there, self.info.rate, lacks)

    def close(self) -> None:
        self._opened.close()

    def __enter__(self) -> "Sound":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _frames(self, first: int, last: int) -> np.ndarray:
        lead, file = min(first, self._lead), self._opened.file
        file.seek(first - lead)
        return file.read(last - first + lead, dtype="float32", always_2d=True)[lead:]

    def _frames_there(self) -> int:
        """As many as the header says where the last ones can be decoded, else so many as come when all are."""
        last = self.info.frames
        # a second more: what Opus skips at its beginning is not in its length
        first = last - 1 if self._opened.sure == 1 else max(0, int(self._opened.sure * last) - self.info.rate)
        with contextlib.suppress(soundfile.LibsndfileError, RuntimeError):
            if len(self._frames(first, last)) == last - first:
                return last
        self._reopen()
        there = 0
        with contextlib.suppress(soundfile.LibsndfileError, RuntimeError):
            while there < last and (found := len(self._opened.file.read(min(_STEP_FRAMES, last - there)))):
                there += found
        self._reopen()
        return there

    def _ends_loud(self, there: int) -> bool:
        """Whether there is sound up to its last samples, as no song has that fades out or ends."""
        audio = self.decode(max(0, there - round(ENDING_S * self.info.rate)), there)[0]
        return audio.size > 0 and 10 * math.log10(float(np.mean(np.square(audio))) + 1e-12) > SILENT_DB

    def _as_far_as_it_goes(self, first: int, last: int) -> np.ndarray:
        """Frames from first on until decoding fails; none where it fails at once."""
        parts = [np.empty((0, self.info.channels), np.float32)]
        self._reopen()
        try:
            for start in range(first, last, _STEP_FRAMES):
                parts.append(self._frames(start, min(start + _STEP_FRAMES, last)))
                if len(parts[-1]) < min(_STEP_FRAMES, last - start):
                    break
        except (soundfile.LibsndfileError, RuntimeError):
            self._reopen()
        return np.concatenate(parts)

    def _reopen(self) -> None:
        """A decoder that failed may not find back."""
        self._opened.close()
        self._opened = _opened(self._path)

    def _cut_short(self, first: int, there: int) -> str:
        info = self.info
        if there == 0:
            return ends_before(first / info.rate, info.duration_s)
        return ends_early((info.frames - first - there) / info.rate, info.duration_s)


def check_samples(audio: np.ndarray) -> None:
    """Raises UnreadableMusic for samples that are not finite or beyond `LOUDEST_SAMPLE`."""
    if audio.size == 0:
        return
    low, high = float(audio.min()), float(audio.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UnreadableMusic("not finite: it holds NaN or infinite samples")
    peak = max(-low, high)
    if peak > LOUDEST_SAMPLE:
        raise UnreadableMusic(f"beyond full scale: its samples reach {peak:.3g}, where 1 is full scale")


def _check(path: Path) -> None:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableMusic("not a file: a folder, a pipe or a device")
        if status.st_size == 0:
            raise UnreadableMusic("empty file: 0 bytes")
        os.close(os.open(path, os.O_RDONLY))  # tells a denied permission, which libsndfile takes for a wrong format
    except OSError as error:
        raise UnreadableMusic(_refusal(error, path)) from error
    except ValueError as error:  # a NUL in it, say; a list may hold anything
        raise UnreadableMusic(f"{GONE}: no file can have this name") from error


def _refusal(error: OSError, path: Path) -> str:
    kinds = {
        errno.ENOENT: f"{BROKEN_LINK}: what it points to is gone" if path.is_symlink() else f"{GONE}: it is gone",
        errno.ELOOP: f"{BROKEN_LINK}: it goes round in a circle",
        errno.EACCES: f"{DENIED}: this user may not read it",
        errno.EPERM: f"{DENIED}: this user may not read it",
    }
    return kinds.get(error.errno or 0, f"{CANNOT_BE_READ}: {error.strerror}")


@dataclass(frozen=True)
class _Opened:
    """What decodes a file. counted: its frames, where they were counted and libsndfile's own count is wrong. by: what
    decodes it, where that is not libsndfile. breaks_off: whether its end is missing, nobody knows how much. suspected:
    whether it may be. missing: how much more samples its header tells of than there are, as a share of these. sure: the
    share of its length that can be sought."""

    file: soundfile.SoundFile
    view: FileView | None = None
    counted: int = 0
    by: str = ""
    breaks_off: bool = False
    suspected: bool = False
    missing: float = 0.0
    sure: float = 1.0

    def close(self) -> None:
        self.file.close()
        if self.view is not None:
            self.view.close()


class _ChainedOggError(ValueError):
    """libsndfile gives no length to one, or reads its first recording alone."""


def _opened(path: Path) -> _Opened:
    try:
        return _by_libsndfile(path)
    except (soundfile.LibsndfileError, RuntimeError, ValueError, TypeError) as error:
        chained = isinstance(error, _ChainedOggError)
        why = "chained Ogg: several recordings in one" if chained else "not music: in no format that libsndfile reads"
        try:
            return _by_ffmpeg(path)
        except ffmpeg.NotDecodedError as failure:
            raise UnreadableMusic(f"{why}; {failure}") from error
    except OSError as error:
        raise UnreadableMusic(f"{CANNOT_BE_READ}: {error.strerror or error}") from error


def _by_ffmpeg(path: Path) -> _Opened:
    """Raises NotDecodedError where ffmpeg is not there or reads nothing."""
    try:
        made = ffmpeg.decoded(path)
        view = FileView(os.fdopen(os.dup(made.fileno()), "rb"), b"", 0, os.fstat(made.fileno()).st_size)
        with path.open("rb") as file:  # libsndfile refuses some that are cut
            start, stop = after_id3v2(file), before_last_tags(file)
            missing = missing_share(file, start, stop)
            file.seek(start)
            broken = file.read(4) == b"OggS" and ogg_end(file, start, stop).breaks_off
        by = f"ffmpeg {path.suffix.lower()[1:]}"
        return _Opened(_sound_of(view), view, by=by, breaks_off=broken, missing=missing)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise ffmpeg.NotDecodedError("ffmpeg finds no audio in it") from error
    except OSError as error:
        raise UnreadableMusic(f"{CANNOT_BE_READ}: {error.strerror or error}") from error


def _by_libsndfile(path: Path) -> _Opened:
    with path.open("rb") as file:
        start, stop = after_id3v2(file), before_last_tags(file)
        file.seek(start)
        head = file.read(HEAD_BYTES)
        if head[:4] == b"fLaC" and len(head) == HEAD_BYTES and not told_samples(head):
            samples, ends = count_samples(file, start, stop)
            opened = _seen(path, with_samples(head, samples), start + HEAD_BYTES, stop)
            return replace(opened, breaks_off=not ends)
        wav = wav_data(file, start) if head[:4] in (b"RIFF", b"RF64") else None
        if wav is not None and not wav.filled_in:
            file.seek(start)
            before = file.read(wav.start - 4 - start) + UNKNOWN.to_bytes(4, "little")
            return _seen(path, wav.header if head[:4] == b"RF64" else before, wav.start, wav.stop)
        if head[:4] == b"caff" and (caf := caf_header(file, start, stop)) is not None:
            return _seen(path, caf[0], caf[1], stop)
        if head[:4] == b".snd" and (sun := au_header(file, start, stop)) is not None:
            return _seen(path, sun[0], sun[1], stop)
        if head[:4] == b"FORM" and (aiff := aiff_header(file, start, stop)) is not None:
            return _seen(path, aiff[0], aiff[1], stop)
        if head[:4] == b"OggS" and is_chained_ogg(file, start, stop):
            raise _ChainedOggError
        if head[:4] == b"OggS" and ffmpeg.installed() and is_uneven_opus(file, start, stop):
            with contextlib.suppress(ffmpeg.NotDecodedError):  # libsndfile then reads it up to there
                return _by_ffmpeg(path)
        if head[:4] in _MAGIC:
            opened = _seen(path, b"", start, stop) if start > 0 else _as_it_is(path)
            if head[:4] == b"OggS":
                end = ogg_end(file, start, stop)
                return replace(opened, breaks_off=end.breaks_off, suspected=end.suspected, sure=end.sure)
            return replace(opened, missing=missing_share(file, start, stop))
        if path.suffix.lower() in MPEG_SUFFIXES or head[:1] == b"\xff":
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                counted = count_frames(data, start, stop)
                no_frame = head[:1] != b"\xff" and next_frame(data, start, stop) is None
            if no_frame:
                # without its name, for which libsndfile would look for a frame again: 50 ms of each file of junk
                return _seen(path, b"", start, stop)
            if counted is not None and counted.first.layer == 3:
                return _seen(path, counted.first.xing_frame(counted.frames), counted.start, stop)
            if counted is not None:
                # libsndfile goes by the file's size, so let it be larger than it is
                return _seen(path, b"", counted.start, stop, stop - counted.start, counted.samples)
    return _as_it_is(path)


def _as_it_is(path: Path) -> _Opened:
    # the bytes of its name: soundfile refuses names that are no UTF-8
    return _Opened(soundfile.SoundFile(cast(Any, os.fsencode(path))))


def _seen(path: Path, head: bytes, start: int, stop: int, zeros: int = 0, counted: int = 0) -> _Opened:
    view = FileView(path.open("rb"), head, start, stop, zeros)
    return _Opened(_sound_of(view), view, counted)


def _sound_of(view: FileView) -> soundfile.SoundFile:
    try:
        return soundfile.SoundFile(cast(Any, view))
    except BaseException:
        view.close()
        raise


def _described(opened: _Opened) -> MusicInfo:
    file = opened.file
    frames = min(file.frames, opened.counted) if opened.counted else file.frames
    odd = file.samplerate // math.gcd(file.samplerate, SAMPLE_RATE) > MOST_ODD_HZ
    if odd or not RATES_HZ[0] <= file.samplerate <= RATES_HZ[1]:
        raise UnreadableMusic(f"unusable rate: its header says {file.samplerate} Hz")
    if frames <= 0:
        raise UnreadableMusic("no audio: its header says 0 samples")
    if frames / file.samplerate > LONGEST_S:
        raise UnreadableMusic("unknown length: its header gives none, or more than a day")
    if opened.by and frames / file.samplerate > ffmpeg.LONGEST_S - 1:
        raise UnreadableMusic(f"too long: ffmpeg is asked for {ffmpeg.LONGEST_S / 3600:g} hours at most")
    if file.channels > MOST_CHANNELS:
        raise UnreadableMusic(f"too many channels: {file.channels}, and at most {MOST_CHANNELS} can be mixed down")
    tags = file.copy_metadata()
    licence = tags.get("license") or tags.get("copyright") or ""
    return MusicInfo(file.samplerate, file.channels, frames, opened.by or f"{file.format} {file.subtype}", licence)
