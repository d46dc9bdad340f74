"""What a genre of the rendered songs is made of: `Genre`, `Role`, and tables of progressions, grooves and instruments.

Grooves are strings of one character a sixteenth, one bar long (12 characters in three-four). In drum
rows a digit is a velocity (9 loudest, 1 a ghost), `.` a rest. In bass rows a letter is a chord degree
(`R` root, `3`, `5`, `7`, `8` octave, `a` a semitone or a scale step leading to the next chord's root),
`-` holds it and `.` is a rest. In comping rows `x` is an accent, `o` a soft hit, `-` holds, `.` rests.
Chords are Roman numerals counted from the major scale of the key's tonic, whatever the mode
(`i bVI bIII bVII` is the usual minor loop), upper case major, lower case minor.
Program numbers are General MIDI's, counted from 0.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Role:
    """One instrument of the `other` stem: what it may be played by and how it plays."""

    manner: str
    """`comp` (rhythm row on the whole chord), `stab` (the same, short), `strum` (string by string), `power`
    (fifths), `pad`, `arp` (broken chords), `riff` (a figure of single notes) or `lead` (a tune)."""
    programs: tuple[int, ...]
    rows: tuple[str, ...] = ("x---------------",)
    centre: int = 62
    """MIDI pitch around which chords are voiced."""
    chance: float = 1.0
    """Probability that the song has this role at all."""
    level: float = 0.0
    """dB against the other roles, before the song's own balance."""


@dataclass(frozen=True)
class Genre:
    """A genre's musical vocabulary; everything is drawn from it by the song's seed."""

    name: str
    tempo_bpm: tuple[int, int]
    progressions: tuple[str, ...]
    drum_kits: tuple[int, ...]
    drums: tuple[dict[str, str], ...]
    bass_programs: tuple[int, ...]
    bass: tuple[str, ...]
    roles: tuple[Role, ...]
    swing: float = 0.0
    """Delay of off-beats, as a fraction of a step; `swing_steps` says of which step."""
    swing_steps: int = 1
    """1: every second sixteenth is late; 2: every second eighth (shuffle)."""
    timing_jitter_s: float = 0.006
    """Standard deviation of the players' timing."""
    steps_per_bar: int = 16
    lead_manner: str = "sung"
    """`sung`, or `rap`: fast syllables with speech-like pitch."""
    lead_density: float = 0.5
    """0: long notes, 1: busy."""
    seventh_chance: float = 0.15
    """Probability that a plain triad is played as a seventh chord."""
    voices: tuple[str, ...] = ("tenor", "alto", "baritone", "mezzo", "soprano")


MAJOR_LOOPS = ("I V vi IV", "vi IV I V", "I vi IV V", "IV I V vi", "I iii IV V", "I IV vi V", "I IV I V")
MINOR_LOOPS = ("i bVI bIII bVII", "i iv bVI V", "i bVII bVI V", "i bVII iv bVI", "i v bVI iv", "i iv v i")
MODAL_LOOPS = ("I bVII IV I", "i IV i IV", "i bII i bVII", "I II IV I", "I bIII IV bVI")
JAZZ_LOOPS = (
    "ii7 V7 Imaj7 vi7",
    "Imaj7 vi7 ii7 V7",
    "iii7 VI7 ii7 V7",
    "i7 iv7 bVII7 bIIImaj7",
    "Imaj7 IVmaj7 iii7 vi7",
)
BLUES = "I7 I7 I7 I7 IV7 IV7 I7 I7 V7 IV7 I7 V7"

ROCK_BEATS = (
    {"kick": "9.....9.9.......", "snare": "....9.......9...", "hat": "7.5.7.5.7.5.7.5."},
    {"kick": "9..9....9.9.....", "snare": "....9.......9..2", "hat": "8.6.8.6.8.6.8.6."},
    {"kick": "9.......9.9...7.", "snare": "....9.......9...", "ride": "7.5.7.5.7.5.7.5."},
    {"kick": "9...9...9...9...", "snare": "....9.......9...", "open": "7...6...7...6..."},
    {"kick": "9.9...9...9...9.", "snare": "....9..2.2..9...", "crash_hat": "9...7...9...7..."},
)
POP_BEATS = (
    {"kick": "9.....8.9.......", "snare": "....8.......8...", "hat": "6.4.6.4.6.4.6.4."},
    {"kick": "9..7..9...7.9...", "clap": "....8.......8...", "hat": "6353635363536353"},
    {
        "kick": "9...9...9...9...",
        "snare": "....8.......8...",
        "open": "..6...6...6...6.",
        "shaker": "4242424242424242",
    },
    {
        "kick": "9.......8.7.....",
        "snare": "....8.......8...",
        "tamb": "..5...5...5...5.",
        "hat": "6.4.6.4.6.4.6.4.",
    },
)
HOUSE_BEATS = (
    {"kick": "9...9...9...9...", "clap": "....8.......8...", "open": "..7...7...7...7.", "hat": "4.244.244.244.24"},
    {
        "kick": "9...9...9...9...",
        "snare": "....7.......7..3",
        "open": "..8...8...8...8.",
        "shaker": "5353535353535353",
    },
    {"kick": "9...9...9..79...", "clap": "....9.......9...", "hat": "..7...7...7...7.", "rim": "...4..4....4.4.."},
    {
        "kick": "9...9...9...9...",
        "hat": "6464646464646464",
        "conga_hi": "..5..5....5..5..",
        "conga_lo": "...4....4......4",
    },
)
HIPHOP_BEATS = (
    {"kick": "9......9..9.....", "snare": "....9.......9...", "hat": "6.4.6.4.6.4.6.44"},
    {"kick": "9..9......9..7..", "snare": "....8.......8...", "hat": "6.5.6.5.6.5.6.5."},
    {"kick": "9.....9....9....", "clap": "........9.......", "hat": "6.6.6.666.6.6.66", "rim": "......3......3.."},
    {
        "kick": "9.........9..9..",
        "snare": "........9.......",
        "hat": "6555655565556666",
        "open": "..............6.",
    },
)
FUNK_BEATS = (
    {"kick": "9..9..7...9..7..", "snare": "....9..3.3..9..2", "hat": "7454745474547454"},
    {
        "kick": "9.9.......99....",
        "snare": "....9..4.4.49..4",
        "hat": "7.5.7.5.7.5.7.5.",
        "open": "..............7.",
    },
    {
        "kick": "9..7....7.9..7..",
        "snare": "..3.9..3.3..9.3.",
        "hat": "7575757575757575",
        "cowbell": "6...6...6...6...",
    },
    {
        "kick": "9.....9...8..9..",
        "snare": "....9.....2.9..3",
        "tamb": "3.6.3.6.3.6.3.6.",
        "hat": "74.474.474.474.4",
    },
)
LATIN_BEATS = (
    {"kick": "8..77..78..77..7", "rim": "6..6..6...6..6..", "hat": "5353535353535353"},
    {"kick": "7..67..67..67..6", "rim": "..6..6..6..6...6", "shaker": "6353635363536353"},
    {
        "kick": "8.......8.......",
        "conga_hi": "..6...66..6...66",
        "conga_lo": "......5.......55",
        "claves": "7..7..7...7.7...",
    },
    {
        "kick": "9...9...9...9...",
        "snare": "...6..6....6..6.",
        "shaker": "5.3.5.3.5.3.5.3.",
        "cowbell": "7...7.5.7...7.5.",
    },
)
BALLAD_BEATS = (
    {"kick": "8.......6.7.....", "snare": "....7.......7...", "hat": "5.3.5.3.5.3.5.3."},
    {"kick": "8.....5.7.......", "rim": "....6.......6...", "hat": "5.3.5.3.5.3.5.3."},
    {"kick": "9.........8.....", "snare": "........8.......", "ride": "5...4...5...4..."},
)
FOLK_BEATS = (
    {"kick": "7.......7.......", "tamb": "....6.......6...", "shaker": "4.3.4.3.4.3.4.3."},
    {"kick": "8...7...8...7...", "snare": "..4...5...4...5.", "hat": "4.3.4.3.4.3.4.3."},
    {"kick": "8.......8.....6.", "snare": "....6.......6..3", "tamb": "..4...4...4...4."},
)
REGGAE_BEATS = (
    {"kick": "........9.......", "rim": "........8.......", "hat": "6.5.6.5.6.5.6.55"},
    {
        "kick": "9.......9.......",
        "snare": "....3...8...3...",
        "hat": "..6...6...6...6.",
        "open": "......4.........",
    },
    {"kick": "9...9...9...9...", "snare": "........8.......", "hat": "6.4.6.4.6.4.6.4."},
)
SOUL_BEATS = (
    {
        "kick": "9.....7.9.7.....",
        "snare": "....8.......8..2",
        "hat": "6.4.6.4.6.4.6.4.",
        "tamb": "....5.......5...",
    },
    {"kick": "8..7....8..7....", "snare": "....7..2....7.2.", "ride": "6.4.6.4.6.4.6.4."},
    {"kick": "9..5...7..8.....", "rim": "....7.......7...", "hat": "6353635363536353"},
)
JAZZ_BEATS = (
    {
        "kick": "4...3...4...3...",
        "pedal": "....6.......6...",
        "ride": "7...7.5.7...7.5.",
        "snare": "......2.......3.",
    },
    {
        "kick": "4.......4.....5.",
        "pedal": "....6.......6...",
        "ride": "7...6.5.7...6.5.",
        "snare": "..2.......2..3..",
    },
)
WALTZ_BEATS = (
    {"kick": "8...........", "snare": "....5...5...", "hat": "5.3.5.3.5.3."},
    {"kick": "8.........5.", "rim": "....6...6...", "ride": "6...5.4.5..."},
    {"kick": "8.....6.....", "snare": "........7...", "hat": "5.4.5.4.5.4."},
)
SYNTH_BEATS = (
    {"kick": "9...9...9...9...", "snare": "....9.......9...", "hat": "5.5.5.5.5.5.5.5."},
    {"kick": "9.....9.9.......", "snare": "....9.......9...", "hat": "6464646464646464"},
    {
        "kick": "9..9..9.9..9..9.",
        "snare": "....9.......9...",
        "open": "..6...6...6...6.",
        "tom_lo": "..............76",
    },
)

BASS_ROOTS = ("R-R-R-R-R-R-R-R-", "R---R---R---R-a-", "R-----R-R-----R-", "R-------5---R-a-", "R---------R-a---")
BASS_POP = ("R--R--R-R--R--5-", "R-----R-5-----a-", "R---..R-8-..5-a-", "R-R-..R-R-R-..a-", "R---------------")
BASS_FUNK = ("R-.R..8..R.R7-a-", "R.R...8-.5.R..7a", "R--8..R.R..87.5a", "R..R.8.7..5.R-aa")
BASS_HOUSE = ("..R-..R-..R-..8-", "R.R8R.R8R.R8R.R8", "..R-R-..R-..R-8.", "R--R--R--R--R-8-")
BASS_HIPHOP = ("R-----..R-----..", "R------R..R-----", "R---------..R-a-", "R-.R-...R-.5-...")
BASS_LATIN = ("R--5R--5R--5R--a", "R-----5-8-----5-", "...5--8-...5--a-", "R--R--5-R--R--5-")
BASS_BALLAD = ("R---------------", "R-------5-------", "R-----5-R-----a-", "R---------R-----")
BASS_REGGAE = ("R--.R-.5..8-..5.", "R---..3-5-..R-..", "..R-R-..5-5-..a-", "R-R-..5-R-..3-5-")
BASS_WALK = ("R---3---5---a---", "R---5---8---a---", "R---7---5---a---", "R---5---3---a---")
BASS_WALTZ = ("R-----------", "R---5---5---", "R-------5-a-", "R---3---5---")
BASS_SYNTH = ("R.R.R.R.R.R.R.R.", "RRRRRRRRRRRRRRRR", "R.RR.RR.R.RR.R8.", "R.8.R.8.R.8.R.8.")

COMP_EIGHTHS = ("x.o.x.o.x.o.x.o.", "x-o-x-o-x-o-x-o-", "x---x-o-..o-x-o-", "x---x---x---x---")
COMP_SYNC = ("x--x--x-..x--x--", "..x-..x-..x-..x-", "x-..x-.x..x-.x..", "x--o--x---o-x---")
COMP_FUNK = ("x.oo.ox..oo.x.o.", "..x.o.x...x.o.xo", "x..x..x.ox..x...", ".ox..ox..ox..ox.")
COMP_SKANK = ("..x...x...x...x.", "..xo..xo..xo..xo", "....x-......x-..")
COMP_LATIN = ("x--x---x-.x--x--", "x-.x-.x-.x-.x-..", "..x-.x..x-.x-.x-", "x--x--x---x-x---")
COMP_FOLK = ("x---x-o-.-o-x-o-", "x---o-x---x-o-x-", "x-o-x-oox-o-x-oo", "x---o---x---o-o-")
COMP_LONG = ("x---------------", "x-------o-------", "x-------x-----o-")
COMP_WALTZ = ("....x---o---", "x---o---o---", "x-..x-..x-o-")
KEYS = (0, 1, 2, 4, 5)
PADS = (48, 49, 50, 51, 88, 89, 90, 92, 94, 95)
LEADS = (80, 81, 82, 84, 87)
