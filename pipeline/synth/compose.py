"""Composes a demo song from a seed: form, chords, and every player's and singer's notes.

A song is a row of sections (intro, verse, chorus, break, outro). Each section fixes which players
take part and how hard they play, so that instruments enter and leave as in real songs; verse and
chorus have their own chords and their own tune. Everything is drawn from the song's genre
(`genres`) by numpy's PCG64, so a seed always gives the same song.
"""

from dataclasses import dataclass, replace

import numpy as np

from mixstyle.pipeline.synth import melody
from mixstyle.pipeline.synth import players as band
from mixstyle.pipeline.synth.genre_patterns import Genre, Role
from mixstyle.pipeline.synth.genres import GENRES
from mixstyle.pipeline.synth.music_theory import (
    MAJOR_SCALE,
    MINOR_SCALE,
    TONIC_NAMES,
    Chord,
    Clock,
    Note,
    SungNote,
    parse_progression,
)

_FORM = ("intro", "verse", "chorus", "verse", "chorus", "break", "chorus", "outro")
_BASS_LOWEST = 28
"""MIDI pitch E1: the octave of bass roots starts here."""


@dataclass(frozen=True)
class Part:
    """What one instrument plays: its stem, General MIDI program and notes."""

    name: str
    stem: str
    program: int
    notes: tuple[Note, ...]
    is_drums: bool = False
    level_db: float = 0.0
    """Level the arrangement wants against the stem's other parts."""


@dataclass(frozen=True)
class Section:
    """A stretch of bars with one line-up."""

    kind: str
    first_bar: int
    bars: int
    energy: float
    drums: str
    """`full`, `light` or `none`."""
    bass: bool
    sung: bool
    roles: tuple[bool, ...]
    """Which of the song's roles play."""


@dataclass(frozen=True)
class Composition:
    """A song before any sound is made."""

    genre: str
    tempo_bpm: float
    key: str
    voice: str
    is_rap: bool
    parts: tuple[Part, ...]
    lead: tuple[SungNote, ...]
    harmony: tuple[SungNote, ...]
    sections: tuple[Section, ...]


def _plan_sections(rng: np.random.Generator, bars: int, roles: tuple[Role, ...]) -> tuple[Section, ...]:
    """Lays sections over `bars` bars, sometimes starting inside the form so that openings differ."""
    unit = 4 if bars >= 14 else 2
    place = int(rng.choice([0, 0, 0, 1, 1, 2, 4]))
    sections: list[Section] = []
    bar = 0
    while bar < bars:
        kind = _FORM[min(place, len(_FORM) - 1)]
        if kind == "outro" and bars - bar > unit:
            kind = "chorus"
        length = unit * 2 if kind in ("verse", "chorus") and bars >= 18 and rng.random() < 0.7 else unit
        if kind in ("intro", "break"):
            length = int(rng.choice([2, unit]))
        length = min(length, bars - bar)
        sections.append(_line_up(rng, kind, bar, length, roles))
        bar += length
        place += 1
    if not any(section.sung and section.drums == "full" and section.bass for section in sections):
        loudest = max(range(len(sections)), key=lambda index: sections[index].bars)
        sections[loudest] = replace(sections[loudest], sung=True, drums="full", bass=True)
    return tuple(sections)


def _line_up(rng: np.random.Generator, kind: str, bar: int, bars: int, roles: tuple[Role, ...]) -> Section:
    """Who plays in a section: all in a chorus, some in a verse, few in an intro or a breakdown."""
    odds = {
        # kind: full drums, light drums, bass, singing, each role, energy
        "intro": (0.45, 0.25, 0.55, 0.10, 0.60, 0.45),
        "verse": (0.82, 0.12, 0.93, 1.00, 0.65, 0.55),
        "chorus": (0.97, 0.02, 0.99, 1.00, 0.92, 0.95),
        "break": (0.60, 0.20, 0.65, 0.25, 0.60, 0.60),
        "outro": (0.75, 0.15, 0.80, 0.40, 0.75, 0.60),
    }[kind]
    draw = rng.random()
    drums = "full" if draw < odds[0] else ("light" if draw < odds[0] + odds[1] else "none")
    bass = bool(rng.random() < odds[2])
    sung = bool(rng.random() < odds[3])
    playing = [bool(rng.random() < odds[4]) for _ in roles]
    for index, role in enumerate(roles):
        if role.manner == "lead":  # leads solo and answer; behind a singer they would only be in the way
            playing[index] = bool(rng.random() < (0.25 if sung else 0.9))
    chordal = [index for index, role in enumerate(roles) if role.manner not in ("lead", "riff")]
    if not any(playing[index] for index in chordal):
        playing[int(rng.choice(chordal))] = True
    energy = float(np.clip(odds[5] + rng.normal(0, 0.1), 0.1, 1.0))
    return Section(kind, bar, bars, energy, drums, bass, sung, tuple(playing))


class _Songwriter:
    """Holds what is fixed for one song while its players' notes are written."""

    def __init__(self, rng: np.random.Generator, genre: Genre, duration_s: float) -> None:
        self.rng = rng
        self.genre = genre
        tempo_bpm = float(np.round(rng.uniform(*genre.tempo_bpm), 1))
        self.clock = Clock(tempo_bpm, genre.steps_per_bar, genre.swing * rng.uniform(0.6, 1.1), genre.swing_steps)
        self.tonic = int(rng.integers(0, 12))
        self.bars = int(np.ceil(duration_s / self.clock.bar_s))
        self.roles = tuple(role for role in genre.roles if rng.random() < role.chance)
        self.sections = _plan_sections(rng, self.bars, self.roles)
        sevenths = bool(rng.random() < genre.seventh_chance)
        verse = str(rng.choice(genre.progressions))
        self.minor = self._is_minor(verse)
        same_mode = [loop for loop in genre.progressions if self._is_minor(loop) == self.minor]
        loops = [verse, str(rng.choice(same_mode)), str(rng.choice(same_mode))]
        self.loops = {
            kind: parse_progression(loops[which], sevenths)
            for kind, which in (("intro", 0), ("verse", 0), ("chorus", 1), ("break", 2), ("outro", 1))
        }
        self.chords = self._chord_of_bar()

    @staticmethod
    def _is_minor(progression: str) -> bool:
        """Minor where the tonic chord is a minor one."""
        return any(word.rstrip("7") == "i" for word in progression.split())

    def _chord_of_bar(self) -> tuple[Chord, ...]:
        chords = []
        bars_each = 2 if self.clock.bar_s < 1.55 and self.rng.random() < 0.5 else 1
        for section in self.sections:
            loop = self.loops[section.kind]
            chords += [loop[(bar // bars_each) % len(loop)] for bar in range(section.bars)]
        return tuple(chords)

    def _player(self) -> band.Player:
        return band.Player(self.clock, self.tonic, self.rng, self.genre.timing_jitter_s)

    def _bar(self, section: Section, offset: int) -> band.Bar:
        number = section.first_bar + offset
        following = self.chords[min(number + 1, len(self.chords) - 1)]
        return band.Bar(number * self.clock.steps_per_bar, self.chords[number], following, section.energy)

    def _row(self, rows: tuple[str, ...]) -> str:
        """A groove row of the genre, repeated or cut to the bar's length."""
        row = str(self.rng.choice(rows))
        return (row * 2)[: self.clock.steps_per_bar] if len(row) >= 8 else "x" + "-" * (self.clock.steps_per_bar - 1)

    def drums(self) -> Part:
        """The drum part: one beat for the song, a busier one for the chorus in some, fills at the seams."""
        rng, player = self.rng, self._player()
        beats = [self.genre.drums[int(rng.integers(len(self.genre.drums)))] for _ in range(2)]
        if rng.random() < 0.6:
            beats[1] = beats[0]
        fills = bool(rng.random() < 0.85)
        notes: list[Note] = []
        for section in self.sections:
            if section.drums == "none":
                continue
            beat = beats[1] if section.kind == "chorus" else beats[0]
            fill = int(rng.integers(0, 5)) if fills and section.drums == "full" and section.bars >= 2 else None
            for offset in range(section.bars):
                last = offset == section.bars - 1
                crash = offset == 0 and section.drums == "full" and bool(rng.random() < 0.7)
                bar = self._bar(section, offset)
                notes += band.drum_bar(player, bar, beat, section.drums, fill if last else None, crash)
        kit = int(rng.choice(self.genre.drum_kits))
        return Part("drums", "drums", kit, tuple(notes), is_drums=True)

    def bass(self) -> Part:
        """The bass part: one figure for verses, one for choruses, a second one every fourth bar."""
        rng, player = self.rng, self._player()
        rows = {kind: self._row(self.genre.bass) for kind in ("verse", "chorus")}
        turn = self._row(self.genre.bass)
        lowest = _BASS_LOWEST + (12 if rng.random() < 0.12 else 0)
        notes: list[Note] = []
        for section in self.sections:
            for offset in range(section.bars if section.bass else 0):
                row = rows["chorus" if section.kind == "chorus" else "verse"]
                row = turn if offset % 4 == 3 else row
                notes += band.bass_bar(player, self._bar(section, offset), row, lowest)
        return Part("bass", "bass", int(rng.choice(self.genre.bass_programs)), tuple(notes))

    def role(self, index: int) -> Part:
        """The part of one role of the `other` stem."""
        role, rng, player = self.roles[index], self.rng, self._player()
        row, second_row = self._row(role.rows), self._row(role.rows)
        shape = int(rng.integers(0, 4))
        riff = band.draw_riff(rng, self.clock.steps_per_bar)
        motifs = [self._motif(False) for _ in range(2)]
        notes: list[Note] = []
        for section in self.sections:
            if not section.roles[index]:
                continue
            for offset in range(section.bars):
                bar = self._bar(section, offset)
                played = second_row if section.kind == "chorus" else row
                if role.manner == "lead":
                    if offset % 2 == 0:
                        notes += self._play_lead(motifs[offset // 2 % 2], role, bar)
                elif role.manner == "riff":
                    notes += band.riff_bar(player, bar, riff, role.centre)
                elif role.manner == "pad":
                    notes += band.pad_bar(player, bar, role.centre)
                elif role.manner == "arp":
                    notes += band.arp_bar(player, bar, played, role.centre, shape)
                else:
                    notes += band.comp_bar(player, bar, played, role.centre, role.manner)
        program = int(rng.choice(role.programs))
        return Part(f"{role.manner}-{program}", "other", program, tuple(notes), level_db=role.level)

    def _frame(self, centre: int, reach: int = 9) -> melody.TuneFrame:
        scale = MINOR_SCALE if self.minor else MAJOR_SCALE
        return melody.TuneFrame(self.clock, self.tonic, scale, self.chords, centre, reach)

    def _motif(self, rap: bool) -> melody.Motif:
        steps = 2 * self.clock.steps_per_bar
        density = float(np.clip(self.genre.lead_density + self.rng.normal(0, 0.15), 0.05, 1.0))
        return melody.draw_motif(self.rng, steps, density, self.clock.step_s, rap)

    def _play_lead(self, motif: melody.Motif, role: Role, bar: band.Bar) -> list[Note]:
        loudness = 78 + 28 * bar.energy
        return melody.play_motif(motif, self._frame(role.centre, 11), bar.first_step, 0, loudness)

    def sing(self, voice: str) -> tuple[list[SungNote], list[SungNote], bool]:
        """The lead's notes, a harmony for the choruses, and whether the verses are rapped."""
        rng = self.rng
        rap = self.genre.lead_manner == "rap" and bool(rng.random() < 0.75)
        frame = self._frame(melody.VOICE_CENTRES[voice] + int(rng.integers(-2, 3)))
        tunes = {kind: [self._motif(rap and kind == "verse") for _ in range(2)] for kind in ("verse", "chorus")}
        varied = {kind: melody.vary_motif(rng, motifs[0]) for kind, motifs in tunes.items()}
        chorus_lift = int(rng.integers(1, 4))
        harmony_degrees = int(rng.choice([2, -2]))
        lead: list[SungNote] = []
        harmony: list[SungNote] = []
        for section in self.sections:
            kind = "chorus" if section.kind in ("chorus", "outro") else "verse"
            order = (tunes[kind][0], varied[kind], tunes[kind][1], varied[kind])
            for phrase in range(section.bars // 2 if section.sung else 0):
                first_step = (section.first_bar + 2 * phrase) * self.clock.steps_per_bar
                lift = chorus_lift if kind == "chorus" else 0
                loudness = 70 + 40 * section.energy
                is_rap = rap and kind == "verse"
                sung = melody.sing_motif(order[phrase % 4], frame, first_step, lift, loudness, rng, is_rap)
                lead += sung
                if section.kind == "chorus":
                    harmony += melody.harmonise(sung, frame, harmony_degrees)
        return lead, harmony, rap

    def backing(self) -> Part:
        """Oohs or a choir that hold the chords behind the choruses, as part of the vocals."""
        player = self._player()
        notes: list[Note] = []
        for section in self.sections:
            if section.kind == "chorus":
                for offset in range(section.bars):
                    notes += band.pad_bar(player, self._bar(section, offset), 65)
        return Part("backing", "vocals", int(self.rng.choice([52, 53, 54])), tuple(notes), level_db=-9.0)


def compose(seed: np.random.SeedSequence, duration_s: float) -> Composition:
    """Composes a song of `duration_s` seconds; equal seeds give equal songs."""
    rng = np.random.Generator(np.random.PCG64(seed))
    genre = GENRES[int(rng.integers(len(GENRES)))]
    writer = _Songwriter(rng, genre, duration_s)
    voice = str(rng.choice(genre.voices))
    parts = [writer.drums(), writer.bass(), *(writer.role(index) for index in range(len(writer.roles)))]
    lead, harmony, is_rap = writer.sing(voice)
    if rng.random() < 0.3:
        parts.append(writer.backing())
    key = f"{TONIC_NAMES[writer.tonic]} {'minor' if writer.minor else 'major'}"
    parts = [replace(part, notes=_within(part.notes, duration_s)) for part in parts]
    return Composition(
        genre=genre.name,
        tempo_bpm=writer.clock.tempo_bpm,
        key=key,
        voice=voice,
        is_rap=is_rap,
        parts=tuple(part for part in parts if part.notes),
        lead=tuple(note for note in lead if note.start_s < duration_s - 0.2),
        harmony=tuple(note for note in harmony if note.start_s < duration_s - 0.2),
        sections=writer.sections,
    )


def _within(notes: tuple[Note, ...], duration_s: float) -> tuple[Note, ...]:
    """The notes that start inside the song; what rings over its end is cut with the audio."""
    return tuple(note for note in notes if note.start_s < duration_s - 0.05)
