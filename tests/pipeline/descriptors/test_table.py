"""The table of descriptors: what is stored of it stays, and what its fields say agrees with the names."""

import doctest
import hashlib
import json

import pytest

from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.descriptors import table
from mixstyle.pipeline.descriptors.bands_and_floors import OCTAVES_HZ
from mixstyle.pipeline.descriptors.descriptor import group
from mixstyle.pipeline.descriptors.table import COLUMN, DECLARED, DESCRIPTORS, DESCRIPTORS_VERSION, GROUPS, columns


def test_what_stores_keep_of_it_is_as_version_2_began() -> None:
    assert DESCRIPTORS_VERSION == 2
    stored = json.dumps([d.stored() for d in DESCRIPTORS])
    assert hashlib.sha256(stored.encode()).hexdigest()[:16] == "6146aaeaca4d28a2", "count the version up"


def test_names_are_unique_and_in_order() -> None:
    assert GROUPS == ("dynamics", "spectral", "stereo", "masking")
    assert len(COLUMN) == len(DESCRIPTORS) == 128
    assert [d.stem for d in DESCRIPTORS] == [stem for stem in STEMS for _ in range(32)]
    for stem in STEMS:
        assert list(dict.fromkeys(DESCRIPTORS[c].group for c in columns(stem=stem))) == list(GROUPS)


def test_fields_say_what_the_names_say() -> None:
    assert {d.kind for d in DESCRIPTORS if d.without_stem} == {"loudness_lufs", "relative_loudness_lu"}
    for stem in STEMS:
        octaves = [DESCRIPTORS[c] for c in columns(stem=stem) if DESCRIPTORS[c].octave_hz is not None]
        assert tuple(d.octave_hz for d in octaves) == OCTAVES_HZ
        assert all(d.name == f"{stem}_octave_{int((d.octave_hz or 0) + 0.5)}hz_db" for d in octaves)
        masked_by = {d.other_stem: d.kind for d in DESCRIPTORS if d.stem == stem and d.other_stem}
        assert masked_by == {other: f"masked_by_{other}_share" for other in STEMS if other != stem}
        low = [DESCRIPTORS[c].kind for c in columns(stem=stem, region="low")]
        assert low == ["band_low_db", "mid_side_low_db"]
    assert {d.unit for d in DESCRIPTORS if d.digits == 2} == {"1", "dB/octave"}
    assert all(d.digits == 2 for d in DESCRIPTORS if d.unit in ("1", "dB/octave"))


def test_a_group_s_name_and_place_are_its_own() -> None:
    first = DECLARED[0]
    for name, place in ((first.name, 1000), ("another", first.place)):
        with pytest.raises(ValueError, match=name):
            group(name, first.table, place=place)(first.measure)


def test_examples_run() -> None:
    result = doctest.testmod(table)
    assert (result.attempted, result.failed) == (1, 0)
