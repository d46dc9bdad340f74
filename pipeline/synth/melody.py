"""Melodies and syllables: phrases with motifs that come back, rests to breathe, words that repeat.

A section's tune is made of two-bar phrases from two motifs (A A' B A'). A motif is a rhythm in
sixteenths and a contour in scale steps; each time it is placed over the chords of its bars, and notes
on strong beats and long notes move to the nearest chord tone, which is how a tune stays in the harmony
although it repeats.
"""

from dataclasses import dataclass, replace

import numpy as np

from mixstyle.pipeline.synth.music_theory import Chord, Clock, Note, SungNote, nearest_pitch

VOICE_CENTRES = {"baritone": 52, "tenor": 58, "alto": 62, "mezzo": 66, "soprano": 70}
"""MIDI pitch about which each kind of voice sings."""

ONSETS = ("", "m", "n", "l", "r", "w", "y", "s", "sh", "f", "h", "t", "k", "p", "d", "b", "g", "v", "z", "ch")
_ONSET_WEIGHTS = np.array([5, 3, 3, 4, 2, 3, 2, 4, 1.5, 2, 3, 4, 3, 2, 4, 3, 2, 1.5, 1, 1])
_CODAS = ("", "n", "m", "s", "t", "l", "ng", "z")
_CODA_WEIGHTS = np.array([10, 3, 1.5, 1.5, 2, 2, 1.5, 1])
_VOWELS = ("a", "ae", "e", "i", "ih", "o", "u", "uh", "oo", "er")
_VOWEL_WEIGHTS = np.array([3, 2, 2.5, 3, 2, 2.5, 1.5, 2.5, 2.5, 1])


@dataclass(frozen=True)
class Motif:
    """Two bars of tune: (start step, length in steps, scale step of the contour) for each note."""

    notes: tuple[tuple[int, int, int], ...]
    syllables: tuple[tuple[str, str, str], ...]


def _pick(rng: np.random.Generator, values: tuple[str, ...], weights: np.ndarray) -> str:
    return values[int(rng.choice(len(values), p=weights / weights.sum()))]


def draw_motif(rng: np.random.Generator, steps: int, density: float, step_s: float, rap: bool) -> Motif:
    """Draws a motif of `steps` sixteenths; `density` 0..1 makes it busier, `rap` syllabic."""
    shortest = max(1, int(np.ceil((0.10 if rap else 0.15) / step_s)))
    lengths = np.array([1, 2, 3, 4, 6, 8])
    weights = np.array([0.5 * density, 1.6, 1.0, 1.4 - 0.6 * density, 0.9 - 0.8 * density, 0.5 - 0.5 * density])
    weights = np.clip(np.where(lengths >= shortest, weights, 0.0), 0.0, None)
    if rap:
        weights = np.array([2.0, 3.0, 0.8, 0.3, 0.0, 0.0]) * (lengths >= shortest)
    weights = weights + 1e-9
    position = int(rng.choice([0, 0, 0, 2, 2, 4]))
    last = int(steps * rng.uniform(0.72, 0.94))
    contour = int(rng.integers(-2, 3))
    notes: list[tuple[int, int, int]] = []
    while position < last:
        length = int(rng.choice(lengths, p=weights / weights.sum()))
        if position + length >= last:
            length = max(shortest, min(steps - position - 1, length + int(rng.integers(0, 5))))
        notes.append((position, length, contour))
        position += length
        if rng.random() < 0.08:
            position += 2
        leap = rng.random() < 0.14
        move = int(rng.choice([-4, -3, 3, 4] if leap else [-2, -1, -1, 0, 0, 1, 1, 2]))
        contour = int(np.clip(contour + move - round(contour / 5), -6, 6))
    syllables = tuple(
        (_pick(rng, ONSETS, _ONSET_WEIGHTS), _pick(rng, _VOWELS, _VOWEL_WEIGHTS), _pick(rng, _CODAS, _CODA_WEIGHTS))
        for _ in notes
    )
    return Motif(tuple(notes), syllables)


def vary_motif(rng: np.random.Generator, motif: Motif) -> Motif:
    """A second hearing of a motif: the same rhythm, its ending turned up or down, other words."""
    turn = int(rng.choice([-2, -1, 1, 2]))
    keep = len(motif.notes) * 2 // 3
    notes = tuple(
        (start, length, contour + (turn if index >= keep else 0))
        for index, (start, length, contour) in enumerate(motif.notes)
    )
    words = tuple(motif.syllables[index] for index in rng.permutation(len(motif.syllables)))
    return Motif(notes, words if rng.random() < 0.6 else motif.syllables)


@dataclass(frozen=True)
class TuneFrame:
    """Where a tune lives: key, scale, chords by bar, and the register."""

    clock: Clock
    tonic: int
    scale: tuple[int, ...]
    chord_of_bar: tuple[Chord, ...]
    """One chord a bar, from bar 0 of the song on."""
    centre: int
    reach: int = 9
    """Semitones above and below the centre that the tune may go."""

    def pitch(self, degree: int, step: int, strong: bool) -> int:
        """MIDI pitch of a scale step of the contour at a step of the song."""
        octave, index = divmod(degree, len(self.scale))
        anchor = nearest_pitch(self.centre, (self.tonic,))
        pitch = anchor + 12 * octave + self.scale[index]
        chord = self.chord_of_bar[min(step // self.clock.steps_per_bar, len(self.chord_of_bar) - 1)]
        classes = chord.pitch_classes(self.tonic)
        clash = any((pitch - pc) % 12 in (1, 11) for pc in classes) and pitch % 12 not in classes
        if strong or clash:
            pitch = nearest_pitch(pitch + 0.1, classes)
        while pitch > self.centre + self.reach:
            pitch -= 12
        while pitch < self.centre - self.reach:
            pitch += 12
        return pitch


def sing_motif(
    motif: Motif, frame: TuneFrame, first_step: int, lift: int, loudness: float, rng: np.random.Generator, rap: bool
) -> list[SungNote]:
    """Places a motif from step `first_step` on, `lift` scale steps up; `loudness` is a MIDI velocity."""
    sung: list[SungNote] = []
    clock = frame.clock
    lateness_s = float(rng.normal(0.008, 0.008))
    for index, ((start, length, contour), word) in enumerate(zip(motif.notes, motif.syllables, strict=True)):
        step = first_step + start
        strong = (step % 4 == 0 and length >= 2) or length >= 4
        if rap:
            pitch = frame.centre - 3 + round(contour * 0.7) - (2 if index == len(motif.notes) - 1 else 0)
        else:
            pitch = frame.pitch(contour + lift, step, strong)
        start_s = max(0.0, clock.time_s(step) + lateness_s + float(rng.normal(0, 0.006)))
        end_s = clock.time_s(step + length) - (0.01 if index + 1 < len(motif.notes) else 0.0)
        if sung and start_s < sung[-1].start_s + 0.06:
            continue
        velocity = int(np.clip(loudness + (8 if step % 8 == 0 else 0) + rng.normal(0, 5), 40, 127))
        first = not sung or start_s - sung[-1].end_s > 0.18
        sung.append(SungNote(start_s, max(end_s, start_s + 0.07), pitch, velocity, *word, first, rap))
    return sung


def harmonise(notes: list[SungNote], frame: TuneFrame, degrees: int) -> list[SungNote]:
    """A second voice `degrees` scale steps away (2: a third above), on chord tones where it would clash."""
    classes = tuple((frame.tonic + offset) % 12 for offset in frame.scale)
    second = []
    for note in notes:
        step = int(note.start_s / frame.clock.step_s + 0.5)
        target = note.pitch + (3.5 if degrees > 0 else -3.5) * abs(degrees) / 2
        pitch = nearest_pitch(target, classes)
        chord = frame.chord_of_bar[min(step // frame.clock.steps_per_bar, len(frame.chord_of_bar) - 1)]
        if any((pitch - pc) % 12 in (1, 11) for pc in chord.pitch_classes(frame.tonic)):
            pitch = nearest_pitch(target, chord.pitch_classes(frame.tonic))
        second.append(replace(note, pitch=pitch, velocity=note.velocity - 8))
    return second


def play_motif(motif: Motif, frame: TuneFrame, first_step: int, lift: int, loudness: float) -> list[Note]:
    """The same motif for an instrument: solos, and answers in the singer's rests."""
    notes = []
    for start, length, contour in motif.notes:
        step = first_step + start
        pitch = frame.pitch(contour + lift, step, (step % 4 == 0 and length >= 2) or length >= 4)
        start_s, end_s = frame.clock.time_s(step), frame.clock.time_s(step + length)
        notes.append(Note(start_s, start_s + 0.94 * (end_s - start_s), pitch, int(np.clip(loudness, 30, 127))))
    return notes
