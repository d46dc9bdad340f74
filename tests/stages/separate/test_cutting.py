"""What the audio of a song has less than its header says costs the clips that touch it, no more."""

import numpy as np
import pytest

from mixstyle.cache.music.clip_positions import CuttingRule
from mixstyle.cache.music.decode_pool import DecodedWindows
from mixstyle.cache.music.reader import WindowAudio
from mixstyle.stages.separate.cutting import ClipRules, CutSong, Windows, cut

RATE = 44_100
CLIP = RATE


def cut_song(frames: int, there: int, whole_if_short: bool = False) -> CutSong:
    """A song of noise that says that it has `frames` and has `there`; windows reach half a second beyond clips."""
    noise = 0.1 * np.random.default_rng(0).standard_normal((2, frames)).astype(np.float32)
    noise[:, there:] = 0

    def read(windows: Windows) -> DecodedWindows:
        found = []
        for start, stop in windows:
            has = min(stop, there) - start
            found.append(WindowAudio(noise[:, start:stop], max(has, 0), "" if has == stop - start else "cut short: x"))
        return DecodedWindows(found, "hash", None, "cut short: x" if there < frames else "")

    rules = ClipRules(
        CuttingRule(CLIP, 3, 0),
        -60.0,
        lambda frames, start, stop: (max(0, start - RATE // 2), min(frames, stop + RATE // 2)),
        least_clips=1 if whole_if_short else 2,
        whole_if_short=whole_if_short,
    )
    return cut(frames, "a", rules, read)


def test_clips_are_lost_where_they_end_beyond_what_is_there() -> None:
    frames = 10 * RATE
    starts = [start for start in cut_song(frames, frames).starts if start is not None]
    assert len(starts) == 3
    for there in range(0, frames + 1, frames // 11):
        found = cut_song(frames, there)
        expected = [slot for slot, start in enumerate(starts) if start + CLIP <= there]
        assert list(found.usable) == expected
        assert found.reason == ("" if len(expected) >= 2 else "cut short: x")
        assert set(found.failed) == set(range(3)) - set(expected)
        assert found.starts == starts, "places should not hang on what is there"


@pytest.mark.parametrize("missing", [1, 10, 5_806])
def test_a_short_song_that_is_taken_whole_ends_where_it_ends(missing: int) -> None:
    frames = round(1.5 * CLIP)
    found = cut_song(frames, frames - missing, whole_if_short=True)
    assert (found.reason, found.note) == ("", "cut short: x")
    assert found.usable[0].clip.shape == (2, frames - missing)


def test_less_than_can_be_measured_is_refused() -> None:
    assert cut_song(round(1.5 * CLIP), round(0.3 * RATE), whole_if_short=True).reason == "cut short: x"
