"""A demo song from a seed: composed, played, sung and mixed, as four true stems."""

from dataclasses import dataclass, replace

import numpy as np

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.synth.compose import Composition, Part, compose
from mixstyle.pipeline.synth.instruments import RENDER_RATE, render_part
from mixstyle.pipeline.synth.song_mix import (
    SongMix,
    active_rms,
    amplify,
    balance,
    draw_mix,
    pan_gains,
    place,
    process_stem,
    to_working_level,
)
from mixstyle.pipeline.synth.voice import draw_voice, sing

MIN_DURATION_S = 8.0
"""Shorter songs have no room for a section."""
_DISTORTED = (29, 30)
"""General MIDI programs of the guitars that are played through an amplifier."""
_FADE_S = 0.4


@dataclass(frozen=True, repr=False)
class Song:
    """A rendered song with its true stems."""

    seed: int
    genre: str
    tempo_bpm: float
    key: str
    stems: np.ndarray
    """float32 [4, 2, T] at 44.1 kHz, in the order of `stems.STEMS`."""
    mix: SongMix

    def __repr__(self) -> str:
        return f"Song(seed {self.seed}, {self.name}, {self.key}, {self.stems.shape[-1] / SAMPLE_RATE:.1f} s)"

    @property
    def name(self) -> str:
        """Genre and tempo, as in `funk-104bpm`."""
        return f"{self.genre}-{round(self.tempo_bpm)}bpm"

    @property
    def mixture(self) -> np.ndarray:
        """The sum of the stems, float32 [2, T]."""
        return self.stems.sum(axis=0)


def _singers(song: Composition, rng: np.random.Generator, duration_s: float) -> np.ndarray:
    """Lead, doubles and harmony, float32 [2, T] at the renderer's rate."""
    lead_voice = draw_voice(rng, song.voice)
    frames = round(duration_s * RENDER_RATE)
    lead = sing(song.lead, lead_voice, duration_s, RENDER_RATE, rng)
    out = np.stack([lead, lead])
    doubled = rng.random() < 0.2
    if song.harmony and rng.random() < 0.45:
        other = replace(draw_voice(rng, song.voice), detune_cents=float(rng.normal(0, 5)), lateness_s=0.012)
        harmony = sing(song.harmony, other, duration_s, RENDER_RATE, rng)
        out += harmony * pan_gains(float(rng.uniform(-0.6, 0.6))) * np.float32(10 ** (rng.uniform(-10, -4) / 20))
    elif doubled:
        twin = replace(lead_voice, detune_cents=float(rng.normal(0, 8)), lateness_s=float(rng.uniform(0.01, 0.03)))
        double = sing(song.lead, twin, duration_s, RENDER_RATE, rng)
        out += double * pan_gains(float(rng.uniform(-0.7, 0.7))) * np.float32(10 ** (rng.uniform(-9, -2) / 20))
    return out[:, :frames]


def _played_stem(parts: list[Part], mix: SongMix, rng: np.random.Generator, duration_s: float) -> np.ndarray:
    """Plays the parts of one stem and adds them up, float32 [2, T] at the renderer's rate."""
    out = np.zeros((2, round(duration_s * RENDER_RATE)), np.float32)
    for index, part in enumerate(parts):
        audio = render_part(part, duration_s)
        if part.stem == "bass":
            audio = np.repeat(audio.mean(axis=0, keepdims=True), 2, axis=0)
        if part.program in _DISTORTED and not part.is_drums:
            audio = amplify(audio, float(rng.uniform(6, 26)), RENDER_RATE)
        if part.stem == "other":
            out += place(audio, mix.placements[index], part.level_db, RENDER_RATE)
        else:
            out += to_working_level(audio, part.level_db, RENDER_RATE)
    return out


def render_song(seed: int, duration_s: float = 48.0) -> Song:
    """Renders the song of a seed; equal seeds and durations give equal bytes on one machine.

    Args:
        seed: any non-negative integer; songs of different seeds differ in content and in mixing.
        duration_s: length in seconds, at least 8.

    Raises MixstyleError for a duration below 8 s or a negative seed.
    """
    if not duration_s >= MIN_DURATION_S or not np.isfinite(duration_s):
        raise MixstyleError(
            f"duration_s is {duration_s:g}: a demo song needs at least {MIN_DURATION_S:g} seconds", code="bad-option"
        )
    if seed < 0:
        raise MixstyleError(f"seed is {seed}: seeds are 0 or larger", code="bad-option")
    content, sound, mixing = np.random.SeedSequence(seed).spawn(3)
    composition = compose(content, duration_s)
    rng = np.random.Generator(np.random.PCG64(sound))
    mix = draw_mix(np.random.Generator(np.random.PCG64(mixing)))
    raw = {}
    for stem in STEMS:
        parts = [part for part in composition.parts if part.stem == stem]
        raw[stem] = _played_stem(parts, mix, rng, duration_s)
    voices = _singers(composition, rng, duration_s)
    lead_rms, backing_rms = active_rms(voices, RENDER_RATE), active_rms(raw["vocals"], RENDER_RATE)
    raw["vocals"] = voices + raw["vocals"] * np.float32(0.35 * lead_rms / max(backing_rms, 1e-9))
    processed = [process_stem(raw[stem], mix.stems[stem], composition.tempo_bpm, RENDER_RATE) for stem in STEMS]
    stems = balance(processed, mix, RENDER_RATE)[..., : round(duration_s * SAMPLE_RATE)]
    fade = round(_FADE_S * SAMPLE_RATE)
    stems[..., -fade:] *= np.linspace(1, 0, fade, dtype=np.float32) ** 2
    return Song(seed, composition.genre, composition.tempo_bpm, composition.key, np.ascontiguousarray(stems), mix)
