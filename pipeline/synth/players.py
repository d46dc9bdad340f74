"""The players: drums, bass and chord instruments turn a section of the song's structure into notes."""

from dataclasses import dataclass

import numpy as np

from mixstyle.pipeline.synth.music_theory import Chord, Clock, Note, voice_chord

DRUM_PITCHES = {
    "kick": 36, "snare": 38, "rim": 37, "clap": 39, "hat": 42, "pedal": 44, "open": 46, "crash_hat": 49,
    "ride": 51, "tom_lo": 43, "tom_mid": 47, "tom_hi": 50, "tamb": 54, "cowbell": 56, "shaker": 70,
    "conga_hi": 63, "conga_lo": 64, "claves": 75, "crash": 49,
}  # fmt: skip
"""General MIDI percussion keys of the rows that the drum tables use."""
_LIGHT_ROWS = ("hat", "ride", "shaker", "tamb", "pedal", "rim", "claves", "conga_hi", "conga_lo", "kick")
# What replaces the second half of the last bar of a section.
_FILLS = (
    {"snare": "9.7.9797", "kick": "........"},
    {"tom_hi": "97......", "tom_mid": "..97....", "tom_lo": "....9797", "kick": "9......."},
    {"snare": "....9999", "kick": "9.9....."},
    {"snare": "....9.79", "tom_lo": ".....9.9", "kick": "9...9..."},
    {"tom_hi": "9.......", "tom_lo": "..9.7.99", "kick": "9...9..."},
)


@dataclass(frozen=True)
class Bar:
    """One bar of the structure as the players see it."""

    first_step: int
    chord: Chord
    next_chord: Chord
    energy: float
    """0..1: how hard it is played."""


class Player:
    """Timing and touch shared by all players: the clock, the seeded jitter and the velocities."""

    def __init__(self, clock: Clock, tonic: int, rng: np.random.Generator, jitter_s: float) -> None:
        self.clock = clock
        self.tonic = tonic
        self.rng = rng
        self.jitter_s = jitter_s

    def note(self, step: float, length: float, pitch: int, velocity: float, late_s: float = 0.0) -> Note:
        """A note from `step` for `length` steps, with this player's small errors of time and touch."""
        start_s = max(0.0, self.clock.time_s(step) + late_s + float(self.rng.normal(0, self.jitter_s)))
        end_s = max(start_s + 0.03, self.clock.time_s(step + length) - 0.004)
        played = velocity + float(self.rng.normal(0, 4))
        return Note(start_s, end_s, pitch, int(np.clip(played, 12, 127)))


def held_steps(row: str, position: int) -> int:
    """How long the hit at `position` of a groove row lasts: itself and the `-` after it."""
    length = 1
    while position + length < len(row) and row[position + length] == "-":
        length += 1
    return length


def _hit_velocity(digit: str, energy: float) -> float:
    return 18 + 11.0 * int(digit) * (0.75 + 0.25 * energy)


def drum_bar(player: Player, bar: Bar, beat: dict[str, str], manner: str, fill: int | None, crash: bool) -> list[Note]:
    """One bar of drums: `manner` is `full` or `light` (hats and percussion, soft kick)."""
    notes = []
    pattern: dict[str, str] = beat
    if fill is not None and player.clock.steps_per_bar == 16:
        pattern = {name: row[:8] + "." * 8 for name, row in beat.items()}
        for name, row in _FILLS[fill % len(_FILLS)].items():
            kept = pattern.get(name, "." * 16)
            pattern[name] = kept[:8] + row
    for name, row in pattern.items():
        if manner == "light" and name not in _LIGHT_ROWS:
            continue
        for position, digit in enumerate(row):
            if digit == "." or (int(digit) <= 3 and player.rng.random() < 0.3):
                continue
            velocity = _hit_velocity(digit, bar.energy) * (0.75 if manner == "light" else 1.0)
            notes.append(player.note(bar.first_step + position, 1, DRUM_PITCHES[name], velocity))
    if crash:
        notes.append(player.note(bar.first_step, 8, DRUM_PITCHES["crash"], 95 + 20 * bar.energy))
    return notes


def bass_bar(player: Player, bar: Bar, row: str, lowest: int) -> list[Note]:
    """One bar of bass in the octave above MIDI pitch `lowest`."""
    notes = []
    root = lowest + (player.tonic + bar.chord.root - lowest) % 12
    following = lowest + (player.tonic + bar.next_chord.root - lowest) % 12
    degrees = {"R": 0, "3": bar.chord.third(), "5": 7, "7": bar.chord.seventh(), "8": 12}
    for position, mark in enumerate(row):
        if mark in ".-":
            continue
        if mark == "a":
            pitch = following + (-1 if following > root or player.rng.random() < 0.5 else 2)
        else:
            pitch = root + degrees[mark]
            if pitch > lowest + 19:
                pitch -= 12
        velocity = 86 + 24 * bar.energy + (8 if position % 8 == 0 else 0)
        length = held_steps(row, position)
        notes.append(player.note(bar.first_step + position, length * 0.95, pitch, velocity))
    return notes


def comp_bar(player: Player, bar: Bar, row: str, centre: int, manner: str) -> list[Note]:
    """One bar of chords in rhythm: `comp` and `stab` together, `strum` string by string, `power` fifths."""
    notes = []
    if manner == "power":
        root = centre - 6 + (player.tonic + bar.chord.root - centre + 6) % 12
        voicing: tuple[int, ...] = (root, root + 7, root + 12)
    else:
        voicing = voice_chord(bar.chord, player.tonic, centre)
    if manner == "strum":
        voicing = (*voicing, voicing[0] + 12)
    for position, mark in enumerate(row):
        if mark not in "xo":
            continue
        length = held_steps(row, position) * (0.6 if manner == "stab" else 0.96)
        velocity = (58 if mark == "o" else 78) + 26 * bar.energy
        ordered = voicing if position % 4 == 0 or manner != "strum" else voicing[::-1]
        stagger_s = 0.014 if manner == "strum" else 0.0
        for index, pitch in enumerate(ordered):
            notes.append(player.note(bar.first_step + position, length, pitch, velocity, index * stagger_s))
    return notes


def pad_bar(player: Player, bar: Bar, centre: int) -> list[Note]:
    """One bar of a held chord."""
    steps = player.clock.steps_per_bar
    voicing = voice_chord(bar.chord, player.tonic, centre)
    return [player.note(bar.first_step, steps * 1.02, pitch, 64 + 30 * bar.energy) for pitch in voicing]


def arp_bar(player: Player, bar: Bar, row: str, centre: int, shape: int) -> list[Note]:
    """One bar of a broken chord; `shape` 0 rises, 1 falls, 2 goes up and down, 3 leaps over the top."""
    voicing = voice_chord(bar.chord, player.tonic, centre)
    voicing = (*voicing, voicing[0] + 12)
    orders = (voicing, voicing[::-1], (*voicing, *voicing[-2:0:-1]), (voicing[0], *voicing[2:], voicing[1]))
    order = orders[shape % len(orders)]
    notes = []
    hits = [position for position, mark in enumerate(row) if mark in "xo"]
    for index, position in enumerate(hits):
        velocity = (60 if row[position] == "o" else 76) + 26 * bar.energy
        length = held_steps(row, position) * 1.4
        notes.append(player.note(bar.first_step + position, length, order[index % len(order)], velocity))
    return notes


def draw_riff(rng: np.random.Generator, steps: int) -> tuple[tuple[int, int, int], ...]:
    """A one-bar figure of (step, length, degree of the minor pentatonic above the chord's root)."""
    notes = []
    position = 0
    while position < steps:
        length = int(rng.choice([1, 2, 2, 3, 4]))
        if rng.random() < 0.72:
            notes.append((position, length, int(rng.integers(0, 6))))
        position += length
    return tuple(notes) or ((0, 4, 0),)


def riff_bar(player: Player, bar: Bar, riff: tuple[tuple[int, int, int], ...], centre: int) -> list[Note]:
    """One bar of a riff: single notes that follow the chord's root."""
    ladder = (0, bar.chord.third(), 5, 7, bar.chord.seventh(), 12)
    root = centre - 6 + (player.tonic + bar.chord.root - centre + 6) % 12
    return [
        player.note(bar.first_step + start, length * 0.9, root + ladder[degree], 74 + 26 * bar.energy)
        for start, length, degree in riff
    ]
