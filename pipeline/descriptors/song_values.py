"""What a song's own descriptors are, and its loudness, over its clips: one rule wherever a song is asked.

A stem's values are those of the clips in which it plays, by the gates of BS.1770-4 over clips. So a singer who sings
in a third of the clips is there, and as loud, as wide and as bright as where she sings.
"""

import itertools

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.descriptors.bands_and_floors import RATIO_LIMIT_DB
from mixstyle.pipeline.descriptors.k_weighting import LOUDNESS_FLOOR_LUFS
from mixstyle.pipeline.descriptors.table import COLUMN, DESCRIPTORS, SONG_VALUES_VERSION

RELATIVE_GATE_LU = -10.0
"""Of BS.1770-4: what is this far below the mean of the rest, or further, does not count."""

_STEM = np.array([COLUMN[f"{stem}_loudness_lufs"] for stem in STEMS])
_RELATIVE = np.array([COLUMN[f"{stem}_relative_loudness_lu"] for stem in STEMS])
_OWN = np.array([STEMS.index(descriptor.stem) for descriptor in DESCRIPTORS])
_OTHER = np.array([STEMS.index(descriptor.other_stem or descriptor.stem) for descriptor in DESCRIPTORS])


def loudness_of_clips(lufs: ArrayLike) -> NDArray[np.float64]:
    """The loudness of songs [...] in LUFS from those of their clips [n, ...], which are equally long.

    The mean power of the clips above both gates of BS.1770-4; the floor where none is above the first.

    >>> loudness_of_clips([-20.0, -20.0, -70.0]).item()
    -20.0
    """
    lufs = np.asarray(lufs, np.float64)
    playing = clips_above_gates(lufs)
    return np.where(playing.any(0), _mean(lufs, playing), LOUDNESS_FLOOR_LUFS)


def clips_above_gates(lufs: ArrayLike) -> NDArray[np.bool_]:
    """In which clips songs, or stems, play [n, ...]: those of their loudnesses [n, ...] in LUFS above both gates.

    >>> clips_above_gates([-20.0, -25.0, -40.0, -70.0]).tolist()
    [True, True, False, False]
    """
    lufs = np.asarray(lufs, np.float64)
    heard = lufs > LOUDNESS_FLOOR_LUFS
    return heard & (lufs > _mean(lufs, heard) + RELATIVE_GATE_LU)


def song_descriptors(clips: ArrayLike, version: int = SONG_VALUES_VERSION) -> NDArray[np.float32]:
    """A song's own descriptors [D], of its clips' [n, D]. version: of the rule, as `SONG_VALUES_VERSION` has it.

    A loudness against the mix is that of the stem less that of the mix, both over their clips; within
    `RATIO_LIMIT_DB`, and at its lower end for a stem that is silent in every clip. All other descriptors are medians of
    the clips in which the stem plays. What is about two stems is the median of the clips in which both play, where
    there are some. For a stem that is silent in every clip it is the median of all. A song of one clip has its values.
    """
    clips = np.asarray(clips)
    if version == 1 or len(clips) == 1:
        return np.median(clips, axis=0).astype(np.float32)
    of_clips = clips[:, _STEM].astype(np.float64)
    values = _medians(clips, clips_above_gates(of_clips) if version > 2 else np.ones_like(of_clips, bool))
    loudest = of_clips.argmax(1)[:, None]
    mixes = np.take_along_axis(of_clips - clips[:, _RELATIVE], loudest, 1)[:, 0]
    mixes[of_clips.max(1) <= LOUDNESS_FLOOR_LUFS] = LOUDNESS_FLOOR_LUFS
    stems = loudness_of_clips(of_clips)
    relative = np.clip(stems - loudness_of_clips(mixes), -RATIO_LIMIT_DB, RATIO_LIMIT_DB)
    values[_STEM] = stems
    values[_RELATIVE] = np.where(stems > LOUDNESS_FLOOR_LUFS, relative, -RATIO_LIMIT_DB)
    return values


def _medians(clips: NDArray[np.float32], playing: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Medians [D] of clips [n, D], each of the clips in which its stem, or both, play [n, 4]."""
    values = np.empty(clips.shape[1], np.float32)
    for own, other in itertools.product(range(len(STEMS)), repeat=2):
        both, alone = playing[:, own] & playing[:, other], playing[:, own]
        chosen = next((rows for rows in (both, alone) if rows.any()), np.full(len(clips), fill_value=True))
        columns = (own == _OWN) & (other == _OTHER)
        values[columns] = np.median(clips[chosen][:, columns], axis=0)
    return values


def _mean(lufs: NDArray[np.float64], chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Of the powers of those that are chosen, along the first axis; the floor where none is."""
    power = np.where(chosen, 10 ** (lufs / 10), 0.0).sum(0) / np.maximum(chosen.sum(0), 1)
    return np.maximum(10 * np.log10(np.maximum(power, 1e-30)), LOUDNESS_FLOOR_LUFS)
