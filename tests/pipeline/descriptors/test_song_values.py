"""A song's own descriptors: those of the clips in which a stem plays."""

import numpy as np
import pyloudnorm
import pytest

from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.descriptors.absent_stems import ABSENT_LU, has_stem
from mixstyle.pipeline.descriptors.song_values import loudness_of_clips, song_descriptors
from mixstyle.pipeline.descriptors.table import COLUMN, DESCRIPTORS

LOUDNESS = [COLUMN[f"{stem}_loudness_lufs"] for stem in STEMS]
RELATIVE = [COLUMN[f"{stem}_relative_loudness_lu"] for stem in STEMS]


def clips_of(stems: np.ndarray, mixes: np.ndarray) -> np.ndarray:
    """Descriptors [n, D] of clips with those loudnesses: of stems [n, 4] and of mixes [n]. The rest is noise."""
    clips = np.random.default_rng(0).standard_normal((len(stems), len(DESCRIPTORS))).astype(np.float32)
    clips[:, LOUDNESS] = stems
    clips[:, RELATIVE] = np.where(stems > -70, np.clip(stems - mixes[:, None], -60, 60), -60)
    return clips


@pytest.mark.parametrize("levels_db", [(0, 0, 0, 0), (0, -6, -12, -3), (0, -30, -31, -28), (0, -90, -90, -2)], ids=str)
def test_it_is_the_loudness_of_all_clips_in_one(levels_db: tuple[float, ...]) -> None:
    noise = np.random.default_rng(1).standard_normal((len(levels_db), 10 * SAMPLE_RATE)) * 0.05
    clips = noise * 10 ** (np.array(levels_db)[:, None] / 20)
    meter = pyloudnorm.Meter(SAMPLE_RATE)
    own = [max(meter.integrated_loudness(clip), -70.0) for clip in clips]
    # LU: of a loud clip's 100 blocks beside a soft one 3 reach over the edge, with half of its power each: 0.07
    assert loudness_of_clips(own) == pytest.approx(meter.integrated_loudness(clips.ravel()), abs=0.1)


def test_a_stem_in_5_of_12_clips_is_there_and_as_loud_as_where_it_plays() -> None:
    stems = np.full((12, 4), -20.0)
    stems[5:, 0] = -70.0
    mixes = np.full(12, -14.0)
    values = song_descriptors(clips_of(stems, mixes))
    # LU: float32 at 70 holds 4e-6
    np.testing.assert_allclose(values[LOUDNESS], -20, atol=1e-5)
    np.testing.assert_allclose(values[RELATIVE], -6, atol=1e-5)
    assert has_stem(values, "vocals")
    assert not has_stem(song_descriptors(clips_of(stems, mixes), version=1), "vocals")


@pytest.mark.parametrize(("above_lu", "there"), [(-0.1, False), (0.1, True)])
def test_the_threshold_is_that_of_the_whole_song(above_lu: float, there: bool) -> None:
    """Half of the clips are 4 LU softer as a whole, so that mixes have means too."""
    mixes = np.array([-14.0, -14, -18, -18])
    stems = np.stack([mixes + ABSENT_LU + above_lu, mixes - 1, mixes - 9, mixes - 9], 1)
    assert has_stem(song_descriptors(clips_of(stems, mixes)), "vocals") is there


def test_all_else_is_a_median_of_the_clips_in_which_the_stem_plays() -> None:
    """Vocals play in the first 5 of 12 clips and softly, below the gate, in the sixth; the bass in the last 8."""
    stems = np.full((12, 4), -20.0)
    stems[5, 0], stems[6:, 0], stems[:4, 1] = -35.0, -70.0, -70.0
    clips = clips_of(stems, np.full(12, -14.0))
    values = song_descriptors(clips)
    played = {"vocals": slice(0, 5), "bass": slice(4, 12), "drums": slice(0, 12), "other": slice(0, 12)}
    for column, d in enumerate(DESCRIPTORS):
        rows = played[d.stem]
        if {d.stem, d.other_stem} == {"vocals", "bass"}:
            rows = slice(4, 5)
        elif d.other_stem in ("vocals", "bass"):
            rows = played[d.other_stem]
        if not d.without_stem:
            assert values[column] == np.median(clips[rows, column]), d.name


def test_of_two_stems_that_never_play_together_it_is_where_the_one_plays() -> None:
    stems = np.full((4, 4), -20.0)
    stems[:2, 0], stems[2:, 1] = -70.0, -70.0
    clips = clips_of(stems, np.full(4, -14.0))
    column = COLUMN["vocals_masked_by_bass_share"]
    assert song_descriptors(clips)[column] == np.median(clips[2:, column])


def test_of_a_stem_that_never_plays_all_else_is_a_median_of_all_clips() -> None:
    stems = np.full((3, 4), -20.0)
    stems[:, 2] = -70.0
    clips = clips_of(stems, np.full(3, -15.0))
    column = COLUMN["drums_crest_db"]
    assert song_descriptors(clips)[column] == np.median(clips[:, column])


def test_the_rules_of_before() -> None:
    stems = np.full((5, 4), -20.0)
    stems[3:, 0] = -70.0
    clips = clips_of(stems, np.full(5, -14.0))
    rest = np.setdiff1d(np.arange(len(DESCRIPTORS)), LOUDNESS + RELATIVE)
    old, present = song_descriptors(clips, version=2), song_descriptors(clips)
    np.testing.assert_array_equal(old[rest], np.median(clips, 0)[rest])
    np.testing.assert_array_equal(old[LOUDNESS + RELATIVE], present[LOUDNESS + RELATIVE])
    np.testing.assert_array_equal(song_descriptors(clips, version=1), np.median(clips, 0))


def test_a_song_of_one_clip_has_its_values() -> None:
    clips = clips_of(np.array([[-20.0, -70, -35, -21]]), np.array([-15.0]))
    for version in (1, 2, 3):
        np.testing.assert_array_equal(song_descriptors(clips, version=version), clips[0])


def test_a_stem_that_never_plays_is_at_the_floor() -> None:
    stems = np.full((3, 4), -20.0)
    stems[:, 2] = -70.0
    values = song_descriptors(clips_of(stems, np.full(3, -15.0)))
    assert (values[LOUDNESS[2]], values[RELATIVE[2]]) == (-70, -60)
    silent = song_descriptors(clips_of(np.full((3, 4), -70.0), np.full(3, -70.0)))
    assert (silent[LOUDNESS] == -70).all()
    assert (silent[RELATIVE] == -60).all()
