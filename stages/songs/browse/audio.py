"""What `mixstyle browse` plays: one clip of a song, as its mixture and as its stems, in WAV."""

import io
import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
import soundfile

from mixstyle.cache.music.decode_pool import Decoder
from mixstyle.cache.music.reader import UnreadableMusic
from mixstyle.cache.song_index import SongIndex
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.stages.songs.clips import CutSong, stems_of
from mixstyle.stages.songs.embedder import Embedder

PARTS = ("mix", *STEMS)
KEPT_SONGS = 16
"""Songs whose clips stay in memory, 9 MB each."""


class Player:
    """Clips of an index's songs, by their number in it; any number of threads may ask."""

    def __init__(self, songs: SongIndex, root: Path, embedder: Embedder) -> None:
        self._paths = [root / song.path for song in songs.usable]
        self._embedder = embedder
        self._decoder = Decoder()
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, dict[str, bytes]] = OrderedDict()

    def part(self, song: int, part: str) -> bytes:
        """A WAV file of a part of `PARTS`. Raises KeyError for what the index has not, MixstyleError for a song that
        cannot be read any more."""
        if part not in PARTS or not 0 <= song < len(self._paths):
            raise KeyError(f"{song}/{part}")
        with self._lock:
            if song not in self._kept:
                self._kept[song] = self._made(self._paths[song])
                while len(self._kept) > KEPT_SONGS:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(song)
            return self._kept[song][part]

    def close(self) -> None:
        """Ends the process that decodes."""
        self._decoder.close()

    def _made(self, path: Path) -> dict[str, bytes]:
        try:
            cut = self._embedder.cut(path, self._decoder)
        except UnreadableMusic as error:
            raise MixstyleError(f"{path.name}: {error}") from error
        # The clip in the middle: songs begin and end with less than they have.
        request = cut.requests[len(cut.requests) // 2]
        stems = stems_of(CutSong(cut.name, cut.duration_s, (request,), cut.given), self._embedder.separator).stems[0]
        return {name: _wav(audio.numpy()) for name, audio in zip(PARTS, (request.clip, *stems), strict=True)}


def _wav(audio: np.ndarray) -> bytes:
    """[2, T] as a WAV file of 16 bits; what is above full scale is clipped, as everywhere."""
    file = io.BytesIO()
    soundfile.write(file, np.clip(audio.T, -1, 1), SAMPLE_RATE, subtype="PCM_16", format="WAV")
    return file.getvalue()
