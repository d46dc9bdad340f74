"""Which separators an encoder has seen: noted with stems, filled in for earlier files, and recognised."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.paths import ROOT
from helpers.small_separator import profile, write_separator, write_songs

from mixstyle.cache.models.separator_records import (
    FIRST_SHIPPED,
    GIVEN_STEMS,
    SeparatorRecord,
    separators_note,
    separators_of_encoder,
    separators_of_stems,
)
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.cache.storage.provenance import Provenance
from mixstyle.pipeline.separation.separator import load_separator
from mixstyle.stages.separate.stage import separate


def test_a_separator_is_recognised_at_any_overlap_and_under_any_name(tmp_path: Path) -> None:
    files, others = write_separator(tmp_path / "a"), write_separator(tmp_path / "b", seed=1)
    mine, other = load_separator(*files), load_separator(*others)
    record = SeparatorRecord.from_json(json.loads(json.dumps(SeparatorRecord.of(mine).to_json())))
    assert record == SeparatorRecord("separator", mine.fingerprint, 2)
    renamed = files[1].rename(tmp_path / "renamed.safetensors")
    same = load_separator(files[0], renamed, num_overlap=4)
    assert same.fingerprint != mine.fingerprint
    assert record.is_of(same)
    assert not record.is_of(other)
    # where the name is all that is known, it decides
    assert SeparatorRecord("separator").is_of(other)
    assert not SeparatorRecord("separator").is_of(same)


def test_stems_say_what_separated_them(tmp_path: Path) -> None:
    settings = profile(tmp_path, write_songs(tmp_path / "music", 2))
    separate(settings)
    cache = StemCache(settings.separate.stems_dir)
    separator = load_separator(settings.separate.separator_config, settings.separate.separator_checkpoint)
    assert separators_of_stems(cache.provenance) == (SeparatorRecord.of(separator),)
    # an earlier folder has no note: the fingerprint is in its provenance, the name comes from the settings
    before = Provenance("separate", cache.provenance.settings, made_from=cache.provenance.made_from)
    assert separators_of_stems(before, "its name") == (SeparatorRecord("its name", separator.fingerprint, 2),)


def test_several_separators_may_have_made_the_stems(tmp_path: Path) -> None:
    both = [load_separator(*write_separator(tmp_path / str(seed), seed)) for seed in (0, 1)]
    stems = Provenance("remix", {}, notes=separators_note(both))
    assert [record.fingerprint for record in separators_of_stems(stems)] == [one.fingerprint for one in both]
    assert all(any(record.is_of(one) for record in separators_of_stems(stems)) for one in both)


@pytest.mark.parametrize(
    ("made_from", "records"),
    [
        ({"separator": "stems"}, (GIVEN_STEMS,)),
        ({"separator": FIRST_SHIPPED.fingerprint}, (SeparatorRecord("scnet_tiny", FIRST_SHIPPED.fingerprint, 1),)),
        (
            {"separator": "f", "separators": ["f", "g"]},
            (SeparatorRecord("of the settings", "f", 1), SeparatorRecord("a separator", "g", 1)),
        ),
        ({}, ()),
    ],
)
def test_provenance_without_a_note(made_from: dict[str, Any], records: tuple[SeparatorRecord, ...]) -> None:
    stems = Provenance("separate", {"num_overlap": 1}, made_from=made_from)
    assert separators_of_stems(stems, "of the settings") == records


@pytest.mark.parametrize(
    ("content", "records"),
    [
        ({"separators": [{"name": "a", "fingerprint": "f", "num_overlap": 2}]}, (SeparatorRecord("a", "f", 2),)),
        ({"separators": []}, ()),
        ({"settings": {"separate": {"separator_checkpoint": "x/scnet_tiny.safetensors"}}}, (FIRST_SHIPPED,)),
        ({"settings": {"separate": {"separator_checkpoint": "x/other.v2.ckpt"}}}, (SeparatorRecord("other.v2"),)),
        ({"settings": {"separate": {"separator_checkpoint": "x/a.ckpt", "input": "stems"}}}, (GIVEN_STEMS,)),
        ({"settings": {}}, ()),
    ],
)
def test_encoders_of_before_have_the_record_of_their_time(
    content: dict[str, Any], records: tuple[SeparatorRecord, ...]
) -> None:
    assert separators_of_encoder(content) == records


def test_the_first_shipped_separator_is_the_one_of_version_0_1() -> None:
    folder = ROOT / "Music-Source-Separation-Training"
    first, second = (
        load_separator(folder / "configs" / "scnet_tiny.yaml", folder / name)
        for name in ("scnet_tiny.safetensors", "scnet_tiny_2.safetensors")
    )
    assert FIRST_SHIPPED.is_of(first)
    assert not FIRST_SHIPPED.is_of(second)
