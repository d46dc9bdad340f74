"""Descriptors in words."""

from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.descriptors.table import COLUMN, DESCRIPTORS, GROUPS
from mixstyle.stages.presentation.descriptor_names import KINDS, in_sentence, shown, shown_unit


def test_every_column_is_of_one_kind() -> None:
    assert list(KINDS) == list(GROUPS)
    found = sorted(column for kinds in KINDS.values() for kind in kinds for column in kind.columns.values())
    assert found == list(range(len(DESCRIPTORS)))
    for kinds in KINDS.values():
        for kind in kinds:
            for stem, column in kind.columns.items():
                assert (DESCRIPTORS[column].stem, DESCRIPTORS[column].title) == (stem, kind.title)
    others = [(kind.descriptor.other_stem, set(kind.columns)) for kind in KINDS["masking"]]
    masked_by = {other: stems for other, stems in others if other}
    assert masked_by == {stem: set(STEMS) - {stem} for stem in STEMS}


def test_values_are_written_with_their_digits() -> None:
    assert shown(COLUMN["drums_crest_db"], 1.234, -5) == "1.2 / -5.0"
    assert shown(COLUMN["drums_correlation"], 1.234) == "1.23"
    assert shown(COLUMN["drums_crest_db"], -0.04, -0.06) == "0.0 / -0.1"  # no -0.0
    assert shown(COLUMN["bass_tilt_db_per_octave"], -3.0103) == "-3.01"
    assert (shown_unit("1"), shown_unit("dB")) == ("", "dB")
    assert (in_sentence("RMS, left"), in_sentence("Mid/side ratio, low")) == ("RMS, left", "mid/side ratio, low")
