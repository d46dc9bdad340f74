"""How loud a matched song comes out: as loud as it is asked to be, but for two ceilings."""

from dataclasses import dataclass

from mixstyle.pipeline.descriptors.song_loudness import SongLoudness

MOST_LOUDER_LU = 0.5
"""A matched song is no louder than its reference by more than this."""
CEILING_DBTP = -1.0
"""True peak (ITU-R BS.1770-4, annex 2) that no output exceeds: room for lossy codecs (EBU R 128)."""
MARGIN_DB = 0.05
"""For rounding to 24 bits, and for meters whose filters read higher: SciPy's, eight times oversampled, by 0.03 dB."""
NO_GAIN_DB = 1e-6
"""Less than this is what rounding leaves of two equal loudnesses."""


@dataclass(frozen=True)
class OutputGain:
    """gain_db: on the whole song. held_by: what keeps it from being as loud as asked for, or empty."""

    gain_db: float
    held_by: str = ""

    @property
    def factor(self) -> float:
        return 10 ** (self.gain_db / 20)


def output_gain(before: SongLoudness, made: SongLoudness, level_db: float, reference_lufs: float | None) -> OutputGain:
    """The gain that makes a song `level_db` louder than it was before.

    made: its loudness after the strips. reference_lufs: what it may not exceed by more than MOST_LOUDER_LU; None where
    there is none. Nothing limits peaks: where one would be above the ceiling, the whole song is turned down.
    """
    wanted, held_by = before.loudness_lufs + level_db, ""
    if reference_lufs is not None and wanted > reference_lufs + MOST_LOUDER_LU:
        wanted, held_by = reference_lufs + MOST_LOUDER_LU, "the reference's loudness"
    gain_db = wanted - made.loudness_lufs
    room_db = CEILING_DBTP - MARGIN_DB - made.true_peak_dbtp
    if gain_db > room_db:
        gain_db, held_by = room_db, f"the ceiling of {CEILING_DBTP:g} dBTP"
    return OutputGain(0.0 if abs(gain_db) < NO_GAIN_DB else gain_db, held_by)
