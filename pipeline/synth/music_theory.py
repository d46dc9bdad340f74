"""Notes, chords and musical time: what composing the demo songs counts in."""

import re
from dataclasses import dataclass

from mixstyle.pipeline.core.errors import MixstyleError

MAJOR_SCALE = (0, 2, 4, 5, 7, 9, 11)
MINOR_SCALE = (0, 2, 3, 5, 7, 8, 10)
TONIC_NAMES = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
_ROMAN = {"i": 0, "ii": 1, "iii": 2, "iv": 3, "v": 4, "vi": 5, "vii": 6}
_NUMERAL = re.compile(r"([b#]?)([ivIV]+)(maj7|7|sus)?")


@dataclass(frozen=True)
class Note:
    """One note for an instrument; times in seconds from the song's start, pitch as a MIDI number."""

    start_s: float
    end_s: float
    pitch: int
    velocity: int


@dataclass(frozen=True)
class SungNote:
    """One sung syllable: `onset` consonant (may be empty), `vowel`, `coda` consonant (may be empty)."""

    start_s: float
    end_s: float
    pitch: int
    velocity: int
    onset: str
    vowel: str
    coda: str = ""
    phrase_start: bool = False
    spoken: bool = False
    """Rapped: the pitch falls within the syllable, as in speech, instead of staying on the note."""


@dataclass(frozen=True)
class Chord:
    """A chord as semitones above the key's tonic: its root and its tones above that root."""

    root: int
    tones: tuple[int, ...]

    def pitch_classes(self, tonic: int) -> tuple[int, ...]:
        """Pitch classes of the tones in the key whose tonic has pitch class `tonic`."""
        return tuple((tonic + self.root + tone) % 12 for tone in self.tones)

    def third(self) -> int:
        """Semitones from the root to the chord's third (or what is in its place)."""
        return self.tones[1]

    def seventh(self) -> int:
        """Semitones from the root to the seventh; a minor one where the chord is a triad."""
        return self.tones[3] if len(self.tones) > 3 else 10


def parse_progression(text: str, with_sevenths: bool = False) -> tuple[Chord, ...]:
    """Reads Roman numerals such as `i bVI V7 Imaj7`, counted from the major scale of the tonic.

    `with_sevenths` turns plain triads into seventh chords: minor seventh on minor chords and on V,
    major seventh on the other major ones. Raises MixstyleError naming a numeral it cannot read.
    """
    chords = []
    for word in text.split():
        match = _NUMERAL.fullmatch(word)
        if match is None or match[2].lower() not in _ROMAN:
            raise MixstyleError(
                f"chord {word!r} in progression {text!r} is not a Roman numeral; write e.g. i bVI V7", code="bad-option"
            )
        accidental = {"b": -1, "#": 1, "": 0}[match[1]]
        root = (MAJOR_SCALE[_ROMAN[match[2].lower()]] + accidental) % 12
        minor = match[2].islower()
        tones: tuple[int, ...] = (0, 5, 7) if match[3] == "sus" else ((0, 3, 7) if minor else (0, 4, 7))
        if match[3] == "maj7":
            tones = (*tones, 11)
        elif match[3] == "7" or (with_sevenths and match[3] is None and (minor or match[2] == "V")):
            tones = (*tones, 10)
        elif with_sevenths and match[3] is None:
            tones = (*tones, 11)
        chords.append(Chord(root, tones))
    return tuple(chords)


def voice_chord(chord: Chord, tonic: int, centre: int) -> tuple[int, ...]:
    """Places every tone of a chord in the octave around MIDI pitch `centre`, lowest first.

    The same centre for a whole song keeps voices close from chord to chord, as a player's hand does.
    """
    low = centre - 6
    return tuple(sorted({low + (pc - low) % 12 for pc in chord.pitch_classes(tonic)}))


def nearest_pitch(pitch: float, pitch_classes: tuple[int, ...]) -> int:
    """The MIDI pitch nearest to `pitch` whose class is among `pitch_classes` (the lower one on a tie)."""
    base = round(pitch)
    distances = ((abs(pitch - candidate), candidate) for candidate in range(base - 7, base + 8))
    return min(pair for pair in distances if pair[1] % 12 in pitch_classes)[1]


@dataclass(frozen=True)
class Clock:
    """Turns sixteenth steps into seconds, with swing.

    `swing` delays every second sixteenth (`swing_steps` 1) or every second eighth (2) by that fraction
    of the step it belongs to: 0.67 of an eighth is a triplet shuffle.
    """

    tempo_bpm: float
    steps_per_bar: int = 16
    swing: float = 0.0
    swing_steps: int = 1

    @property
    def step_s(self) -> float:
        """Length of a sixteenth in seconds."""
        return 60.0 / self.tempo_bpm / 4.0

    @property
    def bar_s(self) -> float:
        """Length of a bar in seconds."""
        return self.step_s * self.steps_per_bar

    def time_s(self, step: float) -> float:
        """Seconds from the song's start to a step (counted through all bars).

        Time is bent piecewise linearly within every pair of steps, so order is always kept.
        """
        pair = 2 * self.swing_steps
        cycle, position = divmod(step, pair)
        middle = self.swing_steps * (1.0 + 0.5 * self.swing)
        if position < self.swing_steps:
            bent = position * middle / self.swing_steps
        else:
            bent = middle + (position - self.swing_steps) * (pair - middle) / self.swing_steps
        return (cycle * pair + bent) * self.step_s
