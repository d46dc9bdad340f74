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
        reader = self._embedder.reader
        try:
            song = reader.decode(self._decoder, path)
        except UnreadableMusic as error:
            raise MixstyleError(f"{path.name}: {error}", code="no-music") from error
        one = song.only(len(song.starts) // 2)  # in the middle: songs begin and end with less than they have
        found = next(reader.separate([one]))
        if isinstance(found, UnreadableMusic):
            raise MixstyleError(f"{path.name}: {found}", code="no-music")
        stems = found.stems[0]
        mix = stems.sum(0) if one.stems else one.requests[0].clip
        return {name: _wav(audio.numpy()) for name, audio in zip(PARTS, (mix, *stems), strict=True)}


def _wav(audio: np.ndarray) -> bytes:
    """[2, T] as a WAV file of 16 bits; what is above full scale is clipped, as everywhere."""
    file = io.BytesIO()
    soundfile.write(file, np.clip(audio.T, -1, 1), SAMPLE_RATE, subtype="PCM_16", format="WAV")
    return file.getvalue()
