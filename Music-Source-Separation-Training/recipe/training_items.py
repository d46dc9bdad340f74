"""What the small separator is trained on: crops of rendered songs, of real music that a teacher heard, and of both.

All drawing takes a generator that is seeded by the run's seed and the step, so that a run that goes on draws what it
would have drawn. Audio is float32 at 44.1 kHz.
"""

import itertools
import math
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pedalboard
import soundfile
import torch
from scipy.signal import resample_poly
from torch import Tensor

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS

QUIET_DB = -15.0
"""A teacher's vocals below this, against the mixture's RMS over an item, are its leakage: the item counts as unsung."""
VALIDATION_SHARE = 12
"""One in so many of the taught tracks (by a hash of their names) is kept for validation."""


@dataclass(frozen=True)
class Song:
    """A folder with stems, all of `frames` samples: the four of STEMS, or a teacher's vocals and accompaniment."""

    paths: tuple[Path, ...]
    frames: int

    def read(self, stem: int, start: int, frames: int) -> np.ndarray:
        """Stem `stem` of `paths` as [2, frames]."""
        audio, _ = soundfile.read(self.paths[stem], frames, start, dtype="float32", always_2d=True)
        return audio.T if audio.shape[1] == 2 else audio.T.repeat(2, axis=0)


def find_songs(folder: Path, least_frames: int, stems: tuple[str, ...] = STEMS) -> list[Song]:
    """Folders below `folder` that hold all stems at 44.1 kHz and at least that long, sorted by name."""
    songs = []
    for first in sorted([*folder.rglob("vocals.flac"), *folder.rglob("vocals.wav")]):
        paths = tuple(first.with_stem(stem) for stem in stems)
        if first.parent.name.startswith(".") or not all(path.is_file() for path in paths):
            continue
        infos = [soundfile.info(str(path)) for path in paths]
        if {info.samplerate for info in infos} == {SAMPLE_RATE} and min(info.frames for info in infos) >= least_frames:
            songs.append(Song(paths, min(info.frames for info in infos)))
    if not songs:
        raise MixstyleError(
            f"{folder}: no folder with {', '.join(stems)} at 44.1 kHz; see the top of train.py", code="no-music"
        )
    return songs


def find_taught(folder: Path, least_frames: int) -> tuple[list[Song], list[Song]]:
    """What `teacher.py` wrote below `folder`: excerpts to train on and, of other tracks, to validate on."""
    kept: tuple[list[Song], list[Song]] = ([], [])
    for song in find_songs(folder, least_frames, ("vocals", "accompaniment")):
        track = song.paths[0].parent.relative_to(folder).as_posix().rpartition("@")[0]
        kept[zlib.crc32(track.encode()) % VALIDATION_SHARE == 0].append(song)
    return kept


@dataclass(frozen=True)
class Corpus:
    """What items are drawn from."""

    rendered: list[Song]
    """True stems."""
    taught: list[Song]
    """A teacher's two stems of real music; may be empty."""
    shares: tuple[float, float] = (0.6, 0.15)
    """Shares of the items that are rendered and that are taught; the rest are rendered singers over real music."""


@dataclass(frozen=True)
class Item:
    """A training item."""

    stems: np.ndarray
    """[4, 2, T] in the order of STEMS; of real music `other` holds the accompaniment, bass and drums nothing."""
    known: bool
    """Whether all four stems are known, not only vocals and accompaniment."""


def colour(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A stem [2, T] through a channel strip drawn at random, at the level that it had: tone, dynamics, drive, room."""
    effects: list[pedalboard.Plugin] = [
        pedalboard.LowShelfFilter(float(rng.uniform(100, 300)), float(rng.uniform(-6, 6))),
        pedalboard.PeakFilter(float(np.exp(rng.uniform(5.5, 8.7))), float(rng.uniform(-8, 8)), 0.8),
        pedalboard.HighShelfFilter(float(rng.uniform(3000, 8000)), float(rng.uniform(-8, 6))),
    ]
    if rng.random() < 0.4:
        effects.append(pedalboard.Compressor(float(rng.uniform(-36, -14)), float(rng.uniform(2, 8)), 3.0, 120.0))
    if rng.random() < 0.15:
        effects.append(pedalboard.Distortion(float(rng.uniform(3, 15))))
    if rng.random() < 0.15:
        effects.append(pedalboard.LowpassFilter(float(np.exp(rng.uniform(8.0, 9.5)))))
    if rng.random() < 0.3:
        wet = float(rng.uniform(0.05, 0.4))
        effects.append(pedalboard.Reverb(float(rng.uniform(0.2, 0.9)), 0.5, wet, (1 - wet) / 2, width=1.0))
    before = float(np.square(audio).mean())
    out = pedalboard.Chain(effects)(np.ascontiguousarray(audio), SAMPLE_RATE)
    after = float(np.square(out).mean())
    return out * np.float32(math.sqrt(before / after)) if before > 1e-9 and after > 1e-12 else audio


def draw_crop(song: Song, stem: int, start_share: float, frames: int, speed: Fraction) -> np.ndarray:
    """`frames` of a stem [2, frames] from `start_share` (0 to 1) of where a crop may start, played at `speed`."""
    wanted = min(song.frames, math.ceil(frames * speed))
    audio = song.read(stem, int(start_share * (song.frames - wanted)), wanted)
    if speed != 1:
        audio = resample_poly(audio, speed.denominator, speed.numerator, axis=-1).astype(np.float32)
    return np.pad(audio, ((0, 0), (0, max(0, frames - audio.shape[1]))))[:, :frames]


def draw_rendered(songs: list[Song], rng: np.random.Generator, frames: int, unsung: float) -> np.ndarray:
    """Stems [4, 2, frames]: half are crops of one song, half stems of different songs.

    Each stem gets a gain within 6 dB, a random polarity and order of channels, and one in 16 is left out, as in the
    public recipes (Uhlich et al. 2017; Defossez et al. 2019); vocals are left out with the chance `unsung`. A third is
    played faster or slower (by a semitone or two), and half of the stems go through `colour`.
    """
    one = rng.random() < 0.5
    speeds = (Fraction(17, 18), Fraction(18, 17), Fraction(8, 9), Fraction(9, 8))
    speed = speeds[rng.integers(len(speeds))] if rng.random() < 1 / 3 else Fraction(1)
    song, start = songs[rng.integers(len(songs))], rng.random()
    stems = np.zeros((len(STEMS), 2, frames), np.float32)
    for i, stem in enumerate(STEMS):
        if not one:
            song, start = songs[rng.integers(len(songs))], rng.random()
        if rng.random() < (unsung if stem == "vocals" else 1 / 16):
            continue
        audio = draw_crop(song, i, start, frames, speed)[:: rng.choice([-1, 1])]
        if rng.random() < 0.5:
            audio = colour(audio, rng)
        gain_db = rng.uniform(-6, 6) if not one else rng.uniform(-3, 3)
        stems[i] = audio * (rng.choice([-1, 1]) * 10 ** (gain_db / 20))
    return stems


def level_db(audio: np.ndarray, mixture: np.ndarray) -> float:
    """RMS against the mixture's, in dB."""
    return 10 * math.log10((float(np.square(audio).mean()) + 1e-12) / (float(np.square(mixture).mean()) + 1e-10))


def draw_taught(songs: list[Song], rng: np.random.Generator, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Vocals and accompaniment [2, frames] of real music; where the teacher hears next to nothing, no vocals."""
    song, start = songs[rng.integers(len(songs))], rng.random()
    order = rng.choice([-1, 1])
    vocals, rest = (draw_crop(song, i, start, frames, Fraction(1))[::order] for i in range(2))
    if level_db(vocals, vocals + rest) < QUIET_DB:
        return np.zeros_like(vocals), vocals + rest
    return vocals, rest


def draw_item(corpus: Corpus, rng: np.random.Generator, frames: int) -> Item:
    """One item: rendered songs, real music as the teacher hears it, or a rendered singer with a real accompaniment.

    In the corpus's shares; without taught music all are rendered. Half of the real accompaniments under a rendered
    singer also get rendered drums, bass or instruments, which are then a part of them.
    """
    kind = rng.random() if corpus.taught else -1.0
    gain = np.float32(10 ** (rng.uniform(-8, 4) / 20))
    if kind < corpus.shares[0]:
        return Item(draw_rendered(corpus.rendered, rng, frames, 0.25) * gain, True)
    stems = np.zeros((len(STEMS), 2, frames), np.float32)
    vocals, rest = draw_taught(corpus.taught, rng, frames)
    if kind < sum(corpus.shares):
        stems[0], stems[3] = vocals, rest
        return Item(stems * gain, False)
    rendered = draw_rendered(corpus.rendered, rng, frames, 0.1)
    if rng.random() < 0.5:
        added = rendered[rng.integers(1, len(STEMS))]
        rest = rest + to_level(added, rest, rng.uniform(-12, 0))
    stems[0], stems[3] = to_level(rendered[0], rest, rng.uniform(-12, 4)), rest
    return Item(stems * gain, False)


def to_level(audio: np.ndarray, other: np.ndarray, wanted_db: float) -> np.ndarray:
    """Scales audio to an RMS of `wanted_db` against another's; by at most 20 dB, so that silence stays silence."""
    gain_db = min(20.0, wanted_db - level_db(audio, other))
    return audio * np.float32(10 ** (gain_db / 20))


def batches(corpus: Corpus, seed: int, first: int, size: int, frames: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Stems [B, 4, 2, frames] and which items know all four [B], from step `first` on, read ahead by a thread."""

    def make(step: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng([seed, step])
        items = [draw_item(corpus, rng, frames) for _ in range(size)]
        stems = torch.from_numpy(np.stack([item.stems for item in items]))
        return stems, torch.tensor([item.known for item in items])

    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(make, first + i) for i in range(3)]
        for step in itertools.count(first + 3):
            yield waiting.pop(0).result()
            waiting.append(pool.submit(make, step))
