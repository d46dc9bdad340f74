"""What the page plays: songs and the stems of their clips, as WAV files of one rate that its player reads piece by
piece.

A song that is opened is decoded once, as far as it goes, to stereo at 44.1 kHz and 16 bits in a temporary folder. With
that come its waveform and, where the index has not measured it, its loudness. Files of one rate and one layout can be
played sample by sample side by side, and read from any place by ranges. Stems are there for the clips alone: from the
stem cache where it has them, and separated when they are asked for.
"""

import shutil
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from mixstyle.cache.music.decode_pool import Decoder
from mixstyle.cache.music.reader import Blocks, UnreadableMusic
from mixstyle.cache.music.writer import MOST_WAV_BYTES
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.descriptors.song_loudness import SongMeter
from mixstyle.stages.songs.browse.songs import Track
from mixstyle.stages.songs.clips import DecodedSong
from mixstyle.stages.songs.embed.embedder import Embedder

BYTES_PER_FRAME = 4
KEPT_BYTES = 1 << 30
"""Decoded songs that stay on the disk; the last one does whatever its size. 100 minutes of music."""
MOST_BUCKETS = 1600
"""Of a waveform."""
_BUCKET_FRAMES = 1024


@dataclass
class Opened:
    """A decoded song. heard: first and last frame of each clip that is embedded. waveform: the highest level of equal
    parts, 0 to 1 [n]. loudness_lufs: of all of it. files: by part."""

    frames: int
    heard: tuple[tuple[int, int], ...]
    waveform: NDArray[np.float32]
    loudness_lufs: float
    files: dict[str, Path] = field(default_factory=dict)


class Listening:
    """Opened songs in a folder. Any number of threads may ask. embedder: used while `busy` is held."""

    def __init__(self, embedder: Embedder, folder: Path, busy: threading.Lock) -> None:
        self._embedder, self._folder, self._busy = embedder, folder, busy
        self._decoder = Decoder()
        self._lock, self._decoding = threading.Lock(), threading.Lock()
        self._kept: OrderedDict[str, Opened] = OrderedDict()

    def open(self, track: Track) -> Opened:
        """Raises MixstyleError (no-music) for a song that cannot be read any more."""
        if (known := self._known(track)) is not None:
            return known  # one that plays does not wait for another that is decoded
        with self._decoding:
            if (known := self._known(track)) is not None:
                return known
            made = self._made(track)
            with self._lock:
                self._kept[track.key] = made
                self._drop_old()
        return made

    def stems(self, track: Track, clip: int) -> Opened:
        """The song with the files of a clip's stems, `<clip>/<stem>` by name. Raises KeyError for a clip that there is
        not."""
        opened = self.open(track)
        if not 0 <= clip < len(opened.heard):
            raise KeyError(clip)
        if track.stems:
            if not all(path.is_file() for path in track.stems.values()):
                raise MixstyleError("the stems of this match are not kept any more; match again", code="no-music")
        elif f"{clip}/{STEMS[-1]}" not in opened.files:
            with self._busy:
                if f"{clip}/{STEMS[-1]}" not in opened.files:  # another request may have had them made meanwhile
                    self._separate(track, clip, opened)
        return opened

    def file(self, track: Track, part: str) -> Path:
        """The file of a part that was opened before, or is the mix. Raises KeyError."""
        return self.open(track).files[part]

    def forget(self, key: str) -> None:
        """Removes what is kept of a song."""
        with self._lock:
            if self._kept.pop(key, None) is not None:
                shutil.rmtree(self._folder / key, ignore_errors=True)

    def close(self) -> None:
        """Ends the process that decodes."""
        self._decoder.close()

    def _known(self, track: Track) -> Opened | None:
        with self._lock:
            if track.key in self._kept:
                self._kept.move_to_end(track.key)
            return self._kept.get(track.key)

    def _drop_old(self) -> None:
        total = sum(opened.frames * BYTES_PER_FRAME for opened in self._kept.values())
        while total > KEPT_BYTES and len(self._kept) > 1:
            key, opened = self._kept.popitem(last=False)
            total -= opened.frames * BYTES_PER_FRAME
            shutil.rmtree(self._folder / key, ignore_errors=True)

    def _made(self, track: Track) -> Opened:
        folder = self._folder / track.key
        try:
            heard = self._heard(track)
            folder.mkdir(exist_ok=True)
            opened = _decode(track, folder / "mix.wav", heard)
            opened.files.update({f"whole/{stem}": path for stem, path in track.stems.items()})
        except (UnreadableMusic, OSError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise MixstyleError(f"{track.name}: {error}", code="no-music") from error
        return opened

    def _heard(self, track: Track) -> tuple[tuple[int, int], ...]:
        if track.heard_s is not None:
            return tuple((round(a * SAMPLE_RATE), round(b * SAMPLE_RATE)) for a, b in track.heard_s)
        song = self._decoded(track)
        frames = [stems.shape[-1] for stems in song.stems] or [r.stop - r.start for r in song.requests]
        return tuple((start, start + n) for start, n in zip(song.starts, frames, strict=True))

    def _decoded(self, track: Track) -> DecodedSong:
        if not track.path.is_file():
            raise UnreadableMusic("the file is gone")
        return self._embedder.reader.decode(self._decoder, track.path)

    def _separate(self, track: Track, clip: int, opened: Opened) -> None:
        try:
            with self._decoding:
                one = self._decoded(track).only(clip)
            found = next(self._embedder.reader.separate([one]))
        except UnreadableMusic as error:
            found = error
        if isinstance(found, UnreadableMusic):
            raise MixstyleError(f"{track.name}: {found}", code="no-music") from found
        folder = self._folder / track.key
        for stem, audio in zip(STEMS, found.stems[0].numpy(), strict=True):
            path = folder / f"{clip}-{stem}.wav"
            soundfile.write(path, _clipped(audio), SAMPLE_RATE, subtype="PCM_16")
            opened.files[f"{clip}/{stem}"] = path


def _clipped(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """[2, T] as [T, 2]; what is above full scale is clipped."""
    return np.clip(audio.T, -1, 1)


def _decode(track: Track, path: Path, heard: tuple[tuple[int, int], ...]) -> Opened:
    """Writes all of a song to `path` and looks at it."""
    meter = SongMeter(SAMPLE_RATE) if np.isnan(track.loudness_lufs) else None
    peaks, rest, frames = list[NDArray[np.float32]](), np.zeros(0, np.float32), 0
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 2, "PCM_16", format="WAV") as file:
        for block in Blocks(track.path):
            frames += block.shape[1]
            if frames * BYTES_PER_FRAME > MOST_WAV_BYTES:
                raise UnreadableMusic("longer than one WAV file can hold")
            file.write(_clipped(block))
            if meter is not None:
                meter.add(block)
            level = np.concatenate([rest, np.abs(block).max(0)])
            whole = len(level) // _BUCKET_FRAMES * _BUCKET_FRAMES
            peaks.append(level[:whole].reshape(-1, _BUCKET_FRAMES).max(1))
            rest = level[whole:]
    if frames == 0:
        raise UnreadableMusic("it holds no samples")
    if len(rest):
        peaks.append(rest.max(keepdims=True))
    loudness = track.loudness_lufs if meter is None else meter.result().loudness_lufs
    return Opened(frames, heard, waveform_of(np.concatenate(peaks)), loudness, {"mix": path})


def waveform_of(peaks: NDArray[np.float32], most: int = MOST_BUCKETS) -> NDArray[np.float32]:
    """At most so many peaks, each the highest of as many as go into one."""
    size = -(-len(peaks) // most)
    return np.pad(peaks, (0, -len(peaks) % size)).reshape(-1, size).max(1)
