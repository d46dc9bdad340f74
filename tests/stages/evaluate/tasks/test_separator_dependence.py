"""Dependence on the separator: true and separated stems are asked alike, and folders that hold no songs are named."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.small_cache import stems_of

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.stages.evaluate.tasks.separator_dependence import separator_dependence, separator_dependence_of


def test_true_and_separated_stems_are_asked_alike(tmp_path: Path) -> None:
    for song in range(3):
        folder = tmp_path / "stems" / f"song {song}"
        folder.mkdir(parents=True)
        for stem, audio in zip(STEMS, stems_of(song, 2.0), strict=True):
            soundfile.write(folder / f"{stem}.wav", audio.T, SAMPLE_RATE, subtype="FLOAT")
    seen: list[np.ndarray] = []

    def separate(mixtures: Sequence[np.ndarray]) -> list[np.ndarray]:
        seen.extend(mixtures)
        return [np.stack([mix / 4] * 4) for mix in mixtures]

    part = separator_dependence(tmp_path, lambda: separate, 1.0, 2, 12, 0)
    assert not seen, "nothing is separated before it is needed"
    assert len(part) == 48
    items = part.items
    assert len(seen) == 3
    for place in range(12):
        alike = [items[place + offset] for offset in (0, 12, 24, 36)]
        assert len({str(item.steps) for item in alike}) == 1
        query, pool, own = (item.source for item in alike[:3])
        assert part.songs[place] == part.songs[24 + place] != part.songs[12 + place]
        assert isinstance(query, np.ndarray)
        assert isinstance(own, np.ndarray)
        assert isinstance(pool, np.ndarray)
        np.testing.assert_allclose(own.sum(0), query.sum(0), atol=1e-5)  # float32 sums of four quarters
        assert not np.array_equal(query, pool)
    x = np.tile(np.eye(12, dtype=np.float32), (4, 1))
    found = separator_dependence_of(x, part, "x")
    assert found["true"]["r1"] == found["true_to_separated"]["r1"] == found["same_mix_cosine"] == 1
    with pytest.raises(MixstyleError) as caught:
        separator_dependence(tmp_path / "stems", lambda: separate, 1.0, 2, 12, 0)
    assert caught.value.code == "no-music"
    assert str(tmp_path / "stems") in str(caught.value)
