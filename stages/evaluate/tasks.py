"""What an evaluation renders: clips of held-out songs under effects, all seeded."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pedalboard.io import AudioFile
from scipy.signal import resample_poly

from mixstyle.cache.music.listing import list_tracks
from mixstyle.cache.music.reader import frames_at_44100
from mixstyle.cache.music.stem_folders import probe_stems, read_stem_windows, stem_files
from mixstyle.cache.stem_store.stem_cache import CachedClip, CachedTrack, StemCache
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.mixing.chains import draw_chain
from mixstyle.pipeline.mixing.effects import EFFECTS
from mixstyle.pipeline.mixing.mix_chain import Effect, MixChain
from mixstyle.pipeline.mixing.presets import PRESETS
from mixstyle.pipeline.separation.separator import Separator

NOTHING = MixChain(tuple(() for _ in STEMS))
Audio = NDArray[np.float32]
Separate = Callable[[Audio], Audio]
"""A mixture [2, T] to stems [4, 2, T]."""
SHIFT_S = 0.5
MOST_RENDERED = 24
"""Rendered songs that the separator's fingerprint is taken of; their stems are held in memory."""


Items = tuple[tuple[CachedClip | Audio, MixChain], ...]
"""Stems, of the cache or [4, 2, T], and what is done to them."""


@dataclass(frozen=True)
class Part:
    """Clips to embed. songs: each clip's, as a number. make: the clips, which may take long: only when needed."""

    name: str
    songs: tuple[int, ...]
    make: Callable[[], Items]

    def __len__(self) -> int:
        return len(self.songs)

    @cached_property
    def items(self) -> Items:
        return self.make()


def same_chain(songs: Sequence[CachedTrack], effects: int, styles: int, seed: int) -> Part:
    """Queries, then the pool: style i on clips of two different songs."""
    items: list[list[tuple[CachedClip, MixChain]]] = [[], []]
    places: list[list[int]] = [[], []]
    for i in range(styles):
        rng = np.random.default_rng([seed, 0, effects, i])
        style = draw_chain(rng, effects)
        for side, place in enumerate(rng.choice(len(songs), 2, replace=False)):
            clips = songs[int(place)].clips
            items[side].append((clips[int(rng.integers(len(clips)))], style))
            places[side].append(int(place))
    return Part(f"same_chain_{effects}", tuple(places[0] + places[1]), lambda: tuple(items[0] + items[1]))


def content_hard(songs: Sequence[CachedTrack], styles: int, effects: int, seed: int) -> Part:
    """A grid: each of `styles` styles on a clip of every song, style by style."""
    rng = np.random.default_rng([seed, 1])
    clips = [song.clips[int(rng.integers(len(song.clips)))] for song in songs]
    drawn = [draw_chain(np.random.default_rng([seed, 2, i]), effects) for i in range(styles)]
    items = tuple((clip, style) for style in drawn for clip in clips)
    return Part("content_hard", tuple(range(len(songs))) * styles, lambda: items)


def presets(songs: Sequence[CachedTrack], clips: int, seed: int) -> Part:
    """A grid: each preset on up to `clips` clips of every song, preset by preset."""
    rng = np.random.default_rng([seed, 3])
    chosen = [
        (place, song.clips[int(i)])
        for place, song in enumerate(songs)
        for i in rng.permutation(len(song.clips))[:clips]
    ]
    items = tuple((clip, preset) for preset in PRESETS.values() for _, clip in chosen)
    return Part("presets", tuple(place for place, _ in chosen) * len(PRESETS), lambda: items)


def parameters(songs: Sequence[CachedTrack], clips: int, seed: int) -> Part:
    """For each effect of the registry in turn, `clips` clips with it alone, on the mix, its parameters drawn."""
    items: list[tuple[CachedClip, MixChain]] = []
    places: list[int] = []
    for number, (name, spec) in enumerate(EFFECTS.items()):
        for i in range(clips):
            rng = np.random.default_rng([seed, 4, number, i])
            place = int(rng.integers(len(songs)))
            drawn = Effect(name, {key: parameter.draw(rng) for key, parameter in spec.parameters.items()})
            items.append(
                (songs[place].clips[int(rng.integers(len(songs[place].clips)))], MixChain(NOTHING.stems, (drawn,)))
            )
            places.append(place)
    return Part("parameters", tuple(places), lambda: tuple(items))


def ends(songs: Sequence[CachedTrack]) -> Part:
    """The last clip of every song, then the first of every song, as they are."""
    pairs = [(song.clips[-1], song.clips[0]) for song in songs]
    items = tuple((pair[side], NOTHING) for side in (0, 1) for pair in pairs)
    return Part("song_retrieval", tuple(range(len(songs))) * 2, lambda: items)


def _mp3(kbit_s: int) -> Callable[[Audio], Audio]:
    def through(mix: Audio) -> Audio:
        # A file at full scale would clip: the codec gets the headroom that it needs, and gives it back.
        gain = np.float32(min(1.0, 0.7 / max(float(np.abs(mix).max()), 1e-9)))
        file = io.BytesIO()
        with AudioFile(file, "w", samplerate=SAMPLE_RATE, num_channels=2, format="mp3", quality=str(kbit_s)) as writer:
            writer.write(mix * gain)
        file.seek(0)
        with AudioFile(file) as reader:
            decoded = reader.read(reader.frames)
        return _aligned(decoded, mix * gain) / gain

    return through


def _aligned(decoded: Audio, before: Audio) -> Audio:
    """What a codec made of `before`, without the delay that it added; as long as it was."""
    length = before.shape[1]
    spectrum = np.fft.rfft(decoded.sum(0), 2 * length) * np.conj(np.fft.rfft(before.sum(0), 2 * length))
    delay = int(np.argmax(np.fft.irfft(spectrum)[: length // 2]))
    out = np.zeros_like(before)
    kept = decoded[:, delay : delay + length]
    out[:, : kept.shape[1]] = kept
    return out


def _resampled(mix: Audio) -> Audio:
    up = resample_poly(mix, 160, 147, axis=1)
    return resample_poly(up, 147, 160, axis=1)[:, : mix.shape[1]].astype(np.float32)


CHANGES: Mapping[str, Callable[[Audio], Audio]] = {
    "MP3 at 128 kbit/s": _mp3(128),
    "MP3 at 320 kbit/s": _mp3(320),
    "48 kHz and back": _resampled,
    "+6 dB": lambda mix: mix * np.float32(10 ** (6 / 20)),
    "-6 dB": lambda mix: mix * np.float32(10 ** (-6 / 20)),
    "polarity": lambda mix: -mix,
}
"""What should not move an embedding much, done to a mixture [2, T]."""
LATER = f"{SHIFT_S:g} s later"
OTHER_STYLE = "another style"
ROBUSTNESS = ("as it is", *CHANGES, LATER, OTHER_STYLE)


def robustness(
    cache: StemCache, songs: Sequence[CachedTrack], separate: Callable[[], Separate], seed: int, effects: int
) -> Part:
    """For each of `ROBUSTNESS` in turn a clip of every song: its mixture changed and separated again; at last the
    clip's stems in a style of its own. separate: makes what separates, once it is needed."""
    rng = np.random.default_rng([seed, 5])
    clips = [song.clips[int(rng.integers(len(song.clips)))] for song in songs]

    def make() -> Items:
        apart = separate()
        shift = round(SHIFT_S * SAMPLE_RATE)
        groups: dict[str, list[tuple[Audio, MixChain]]] = {name: [] for name in ROBUSTNESS}
        for place, clip in enumerate(clips):
            whole = cache.read_clip(clip).sum(0)
            mix = whole[:, :-shift]
            own = apart(mix)
            groups["as it is"].append((own, NOTHING))
            for name, change in CHANGES.items():
                groups[name].append((apart(change(mix)), NOTHING))
            groups[LATER].append((apart(whole[:, shift:]), NOTHING))
            groups[OTHER_STYLE].append((own, draw_chain(np.random.default_rng([seed, 6, place]), effects)))
        return tuple(item for group in groups.values() for item in group)

    return Part("robustness", tuple(range(len(songs))) * len(ROBUSTNESS), make)


def separate_with(separator: Separator | None) -> Separate:
    """What separates a clip's mixture. Raises ValueError without a separator."""
    if separator is None:
        raise ValueError("stems that are given have no separator")

    def separate(mix: Audio) -> Audio:
        return separator.separate([torch.from_numpy(np.ascontiguousarray(mix))])[0].numpy()

    return separate


def rendered_songs(folder: Path) -> list[str]:
    """Songs with true stems that `mixstyle demo-songs` rendered, in `folder/stems`. Raises MixstyleError for fewer
    than two."""
    if not (folder / "stems").is_dir():
        raise MixstyleError(f"evaluate.rendered_dir={folder}: has no folder stems; `mixstyle demo-songs` makes one")
    found = sorted(list_tracks(folder / "stems", "stems").sizes)[:MOST_RENDERED]
    if len(found) < 2:
        raise MixstyleError(f"evaluate.rendered_dir={folder}: {len(found)} songs, and 2 are needed")
    return found


def fingerprint(
    folder: Path, separate: Callable[[], Separate], clip_s: float, effects: int, styles: int, seed: int
) -> Part:
    """Style i on clips of two rendered songs, as in `same_chain`: queries and pool of true stems, then both of stems
    that were separated from the same mixtures. Raises MixstyleError as `rendered_songs` does."""
    songs = rendered_songs(folder)
    drawn: list[tuple[MixChain, tuple[int, ...]]] = []
    for i in range(styles):
        rng = np.random.default_rng([seed, 7, i])
        style = draw_chain(rng, effects)
        drawn.append((style, tuple(int(place) for place in rng.choice(len(songs), 2, replace=False))))

    def make() -> Items:
        apart = separate()
        true = [_middle(folder / "stems", song, round(clip_s * SAMPLE_RATE)) for song in songs]
        separated = [apart(stems.sum(0)) for stems in true]
        return tuple((k[pair[side]], style) for k in (true, separated) for side in (0, 1) for style, pair in drawn)

    places = tuple(pair[side] for _ in range(2) for side in (0, 1) for _, pair in drawn)
    return Part("fingerprint", places, make)


def _middle(root: Path, song: str, frames: int) -> Audio:
    """A clip [4, 2, frames] from the middle of a song's stems."""
    files = stem_files(root, song)
    whole = frames_at_44100(probe_stems(files))
    if whole < frames:
        raise MixstyleError(f"{root / song}: is shorter than a clip; render longer songs")
    start = (whole - frames) // 2
    return read_stem_windows(files, [(start, start + frames)])[0]
