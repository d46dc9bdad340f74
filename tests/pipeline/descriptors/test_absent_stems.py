"""Which descriptors mean something of songs that lack a stem."""

import numpy as np

from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.descriptors.absent_stems import ABSENT_LU, has_stem, is_meaningful, relative_column
from mixstyle.pipeline.descriptors.table import COLUMN, DESCRIPTORS


def song_without(*absent: str) -> np.ndarray:
    values = np.zeros(len(DESCRIPTORS), np.float32)
    for stem in absent:
        values[relative_column(stem)] = ABSENT_LU
    return values


def test_a_stem_that_is_not_there_masks_nothing() -> None:
    """Every pair of stems, of one song and of two."""
    whole = song_without()
    for stem in STEMS:
        for other in (s for s in STEMS if s != stem):
            column = COLUMN[f"{stem}_masked_by_{other}_share"]
            assert is_meaningful(column, whole)
            for absent in STEMS:
                known = absent not in (stem, other)
                assert is_meaningful(column, song_without(absent)) == known
                assert is_meaningful(column, whole, song_without(absent)) == known


def test_at_the_limit_a_stem_is_absent_and_its_loudness_is_told_all_the_same() -> None:
    song = song_without("bass")
    assert [has_stem(song, stem) for stem in STEMS] == [stem != "bass" for stem in STEMS]
    song[relative_column("bass")] = np.nextafter(np.float32(ABSENT_LU), np.float32(0))
    assert has_stem(song, "bass")
    lacking = song_without("bass")
    assert is_meaningful(relative_column("bass"), lacking)
    assert not is_meaningful(COLUMN["bass_crest_db"], lacking)
