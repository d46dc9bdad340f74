"""Where clips are cut: inside the song, apart, evenly, by the duration alone; older folders as they were begun."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from mixstyle.cache.music.clip_positions import CUTTING_VERSION, CuttingRule, clip_starts, clip_starts_1


def cases(count: int) -> Iterator[tuple[int, int, int, int]]:
    """Durations, clip lengths, numbers of clips and seeds, short songs and long ones alike."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        clip = int(rng.integers(1, 1_000))
        yield int(rng.integers(0, 30 * clip)), clip, int(rng.integers(1, 9)), int(rng.integers(0, 50))


def test_clips_lie_within_the_song_apart_and_as_many_as_fit() -> None:
    for frames, clip, wanted, seed in cases(3_000):
        starts = clip_starts(frames, clip, wanted, seed)
        fit = min(wanted, frames // clip)
        there = [start for start in starts if start is not None]
        assert starts == [*there, *[None] * (wanted - fit)]
        assert len(there) == fit
        assert all(0 <= start <= frames - clip for start in there)
        assert all(later - earlier >= clip for earlier, later in itertools.pairwise(there))
        assert clip_starts(frames, clip, wanted, seed) == starts


def test_clips_keep_to_the_middle_unless_they_do_not_fit_there() -> None:
    whole, short = 0, 0
    for frames, clip, wanted, seed in cases(3_000):
        there = [start for start in clip_starts(frames, clip, wanted, seed) if start is not None]
        if not there:
            continue
        # whole frames, so the middle is counted in tenths
        if 10 * len(there) * clip <= 8 * frames - 20:
            assert 10 * there[0] >= frames
            assert 10 * (there[-1] + clip) <= 9 * frames
            whole += 1
        elif 10 * len(there) * clip > 8 * frames:
            # as much of the song as is needed, around its centre, without a gap
            assert there == [there[0] + place * clip for place in range(len(there))]
            assert abs(2 * there[0] + len(there) * clip - frames) <= 1
            short += 1
    assert min(whole, short) > 300, "both kinds of songs should have been tried"


def test_clips_are_spread_evenly() -> None:
    for frames, clip, wanted, seed in cases(3_000):
        there = [start for start in clip_starts(frames, clip, wanted, seed) if start is not None]
        if len(there) < 1 or 10 * len(there) * clip > 8 * frames - 20:
            continue
        # each n-th of the middle holds one clip, which is moved by a quarter of its room at most to either side; the
        # middle loses up to 2 frames to whole numbers, and starts are rounded down
        width = 0.8 * frames / len(there)
        steps = np.diff(there)
        assert (steps >= (width + clip) / 2 - 3).all()
        assert (steps <= (3 * width - clip) / 2 + 3).all()
        middles = np.array(there) + clip / 2
        even = 0.1 * frames + (np.arange(len(there)) + 0.5) * width
        assert (np.abs(middles - even) <= (width - clip) / 4 + 4).all()


def test_the_seed_moves_them_and_a_few_frames_more_do_not() -> None:
    four_minutes, clip = 10_584_000, 441_000
    firsts = {clip_starts(four_minutes, clip, 4, seed)[0] for seed in range(100)}
    assert len(firsts) == 100
    # An encoder's padding of 1,105 frames: each clip moves by no more than that
    padded = zip(clip_starts(four_minutes, clip, 4, 0), clip_starts(four_minutes + 1_105, clip, 4, 0), strict=True)
    assert all(abs(after - before) <= 1_105 for before, after in padded if before is not None and after is not None)


def test_the_fixed_points_of_all_caches() -> None:
    # if these change, every cache there is gets stale without its fingerprint saying so
    assert clip_starts(10_584_000, 441_000, 4, 0) == FIXED
    assert clip_starts_1(10_584_000, 441_000, 4, 0, "000/000002.mp3") == [0, 6_450_428, 8_529_050, 10_143_000]


FIXED = [1_804_205, 3_750_494, 6_287_086, 8_315_461]


def test_version_1_is_kept_for_what_was_begun_with_it() -> None:
    for frames, clip, wanted, seed in cases(500):
        starts = CuttingRule(clip, wanted, seed, version=1).starts(frames, "a.mp3")
        assert starts == clip_starts_1(frames, clip, wanted, seed, "a.mp3")
        there = [start for start in starts if start is not None]
        assert len(there) == min(wanted, frames // clip)
        assert all(later - earlier >= clip for earlier, later in itertools.pairwise(there))
        if len(there) >= 2:
            assert (there[0], there[-1]) == (0, frames - clip)
    middles = np.array([clip_starts_1(1_000, 100, 3, 0, f"{i}.mp3")[1] for i in range(2_000)], dtype=float)
    # uniform over 100 to 800: mean 450 and deviation 700 / sqrt(12), whose error over 2,000 draws is 4.5
    assert abs(middles.mean() - 450) < 4 * 4.5
    assert abs(middles.std() - 700 / 12**0.5) < 10


def test_the_versions_differ_and_no_other_is_known() -> None:
    rule = CuttingRule(441_000, 4, 0)
    assert rule.version == CUTTING_VERSION == 2
    assert rule.starts(10_584_000, "a.mp3") == rule.starts(10_584_000, "another.mp3") == FIXED
    old = CuttingRule(441_000, 4, 0, version=1)
    assert old.starts(10_584_000, "a.mp3") != old.starts(10_584_000, "another.mp3")
    with pytest.raises(ValueError, match="version"):
        CuttingRule(441_000, 4, 0, version=3)
