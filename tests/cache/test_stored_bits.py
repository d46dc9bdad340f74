"""One bit of a stored file is flipped: it is told, or changed nothing; nothing else is ever read without a word."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.stored_kinds import KINDS, Stored, mels, nearest, part, sidecar, stems, without_checksums

from mixstyle.cache.song_index.index import SongIndex
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.pipeline.core.errors import MixstyleError

FLIPS = 40
"""A checksum of 32 bits misses one flip in none; without checksums, half of these and more went unnoticed."""


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_a_flipped_bit_is_told_or_changes_nothing(
    make: Callable[[Path], Stored], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    record_property("tried", FLIPS)
    stored = make(tmp_path)
    expected, data = stored.read(), stored.path.read_bytes()
    rng = np.random.default_rng(11)
    told, wrong = 0, []
    for _ in range(FLIPS):
        place, bit = int(rng.integers(len(data))), int(rng.integers(8))
        changed = bytearray(data)
        changed[place] ^= 1 << bit
        stored.path.write_bytes(changed)
        try:
            if stored.read() != expected:
                wrong.append((place, bit))
        except MixstyleError as error:
            told += 1
            if "\n" in str(error):
                wrong.append((place, bit))
    assert wrong == []
    stored.path.write_bytes(data)
    assert stored.read() == expected
    assert told > 0 or make is nearest  # which is made again


def test_a_scale_that_was_changed_in_a_sidecar_is_told(tmp_path: Path) -> None:
    stored = sidecar(tmp_path)
    text = stored.path.read_text()
    assert '"scale":1.0' in text
    stored.path.write_text(text.replace('"scale":1.0', '"scale":3.0', 1))
    with pytest.raises(MixstyleError) as caught:
        stored.read()
    assert (caught.value.code, caught.value.remedy) == ("damaged-file", ("separate",))


def test_stems_without_checksums_are_read_as_before(tmp_path: Path) -> None:
    cache = stems(tmp_path)
    shutil.copytree(tmp_path / "stems", tmp_path / "old")
    for path in (tmp_path / "old").glob("*.json"):
        without_checksums(path)
    old = StemCache(tmp_path / "old")
    assert old.fingerprint == cache.fingerprint
    for ours, theirs in zip(cache.tracks, old.tracks, strict=True):
        assert cache.read_metadata(ours) == old.read_metadata(theirs)
        for mine, other in zip(ours.clips, theirs.clips, strict=True):
            assert other.crc32 is None
            np.testing.assert_array_equal(cache.read_clip(mine), old.read_clip(other))


def test_a_damaged_part_of_an_index_is_dropped_on_request(tmp_path: Path) -> None:
    stored = part(tmp_path)
    stored.path.write_bytes(stored.path.read_bytes()[:-40])
    told: list[str] = []
    assert len(SongIndex(tmp_path, lambda error: told.append(error.code))) == 0
    assert (told, stored.path.exists()) == (["damaged-file"], False)


def test_spectrograms_that_are_gone_are_not_read_as_silence(tmp_path: Path) -> None:
    stored = mels(tmp_path)
    stored.path.unlink()
    with pytest.raises(MixstyleError) as caught:
        stored.read()
    assert caught.value.code == "damaged-file"
