"""What a song's own descriptors are, and its loudness, over its clips: one rule wherever a song is asked.

A stem's loudness is that of the clips in which it plays, by the gates of BS.1770-4 over clips. So a singer who sings
in a third of the clips is there, and as loud as where she sings. All other descriptors are medians of the clips.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.descriptors.bands_and_floors import RATIO_LIMIT_DB
from mixstyle.pipeline.descriptors.k_weighting import LOUDNESS_FLOOR_LUFS
from mixstyle.pipeline.descriptors.table import COLUMN, SONG_VALUES_VERSION

RELATIVE_GATE_LU = -10.0
"""Of BS.1770-4: what is this far below the mean of the rest, or further, does not count."""

_STEM = np.array([COLUMN[f"{stem}_loudness_lufs"] for stem in STEMS])
_RELATIVE = np.array([COLUMN[f"{stem}_relative_loudness_lu"] for stem in STEMS])


def loudness_of_clips(lufs: ArrayLike) -> NDArray[np.float64]:
    """The loudness of songs [...] in LUFS from those of their clips [n, ...], which are equally long.

    The mean power of the clips above both gates of BS.1770-4; the floor where none is above the first.

    >>> loudness_of_clips([-20.0, -20.0, -70.0]).item()
    -20.0
    """
    lufs = np.asarray(lufs, np.float64)
    heard = lufs > LOUDNESS_FLOOR_LUFS
    loud = heard & (lufs > _mean(lufs, heard) + RELATIVE_GATE_LU)
    return np.where(heard.any(0), _mean(lufs, loud), LOUDNESS_FLOOR_LUFS)


def song_descriptors(clips: ArrayLike, version: int = SONG_VALUES_VERSION) -> NDArray[np.float32]:
    """A song's own descriptors [D], of its clips' [n, D]. version: of the rule, as `SONG_VALUES_VERSION` has it.

    A loudness against the mix is that of the stem less that of the mix, both over their clips; within
    `RATIO_LIMIT_DB`, and at its lower end for a stem that is silent in every clip. A song of one clip has its values.
    """
    clips = np.asarray(clips)
    values = np.median(clips, axis=0).astype(np.float32)
    if version == 1 or len(clips) == 1:
        return values
    of_clips = clips[:, _STEM].astype(np.float64)
    loudest = of_clips.argmax(1)[:, None]
    mixes = np.take_along_axis(of_clips - clips[:, _RELATIVE], loudest, 1)[:, 0]
    mixes[of_clips.max(1) <= LOUDNESS_FLOOR_LUFS] = LOUDNESS_FLOOR_LUFS
    stems = loudness_of_clips(of_clips)
    relative = np.clip(stems - loudness_of_clips(mixes), -RATIO_LIMIT_DB, RATIO_LIMIT_DB)
    values[_STEM] = stems
    values[_RELATIVE] = np.where(stems > LOUDNESS_FLOOR_LUFS, relative, -RATIO_LIMIT_DB)
    return values


def _mean(lufs: NDArray[np.float64], chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Of the powers of those that are chosen, along the first axis; the floor where none is."""
    power = np.where(chosen, 10 ** (lufs / 10), 0.0).sum(0) / np.maximum(chosen.sum(0), 1)
    return np.maximum(10 * np.log10(np.maximum(power, 1e-30)), LOUDNESS_FLOOR_LUFS)
