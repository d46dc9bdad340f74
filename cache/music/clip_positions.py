"""Where the clips of a track are: one rule for every command. All lengths are frames at 44.1 kHz.

Version 2: clips are spread evenly over the middle 80% of the track, each moved a little by a seed (a step that is
exactly even would meet a song that repeats itself always in the same bar). Intros and fade-outs are left out unless
the track is too short to do without them. The rule needs the duration alone: a song has the same clips under any name,
and nearly the same in another format, which may be some frames longer.

Version 1 is what folders were begun with before: the first clip begins with the track, the last ends with it, and the
others are seeded by the track's path. It stays, so that such folders are finished as they were begun.
"""

import hashlib
import os
import random
from dataclasses import dataclass

CUTTING_VERSION = 2
CUTTING_VERSIONS = (1, 2)
JITTER = 0.5
"""Of the room that a clip has between its neighbours, the part that it is moved about in."""


def clip_starts(frames: int, clip_frames: int, clips: int, seed: int) -> list[int | None]:
    """First frames of a track's clips, in the order of time; None at the end for those without room.

    As many clips as fit, n = min(clips, frames // clip_frames), each in the middle of its own n-th of the middle 80% of
    the track, moved by up to a quarter of the room left in it. Where the middle does not hold them, they are in the
    least span around the track's centre that does. So clips never overlap, and with w the n-th's width, neighbours
    start between (w + clip_frames) / 2 and (3 w - clip_frames) / 2 frames apart, give or take a frame of rounding.

    >>> clip_starts(1_000, 40, 4, seed=0)
    [171, 354, 595, 786]
    >>> clip_starts(100, 40, 4, seed=0)
    [10, 50, None, None]
    """
    fit = min(clips, frames // clip_frames)
    if fit < 1:
        return [None] * clips
    first, last = -(-frames // 10), 9 * frames // 10
    if last - first < fit * clip_frames:
        first = (frames - fit * clip_frames) // 2
        last = first + fit * clip_frames
    width = (last - first) / fit
    room = width - clip_frames
    draw = _generator(f"{seed}|cutting 2|".encode())
    moved = [room * (0.5 + JITTER * (draw.random() - 0.5)) for _ in range(fit)]
    starts: list[int | None] = [first + int(place * width + moved[place]) for place in range(fit)]
    return starts + [None] * (clips - fit)


def clip_starts_1(frames: int, clip_frames: int, clips: int, seed: int, path: str) -> list[int | None]:
    """Version 1: the track's first and last clip, and others seeded by its path; they never overlap.

    >>> clip_starts_1(100, 40, 4, 0, "a.mp3")
    [0, 60, None, None]
    """
    fit = min(clips, frames // clip_frames)
    starts: list[int | None] = []
    if fit == 1:
        starts = [0]
    elif fit >= 2:
        draw = _generator(f"{seed}|clips|".encode() + os.fsencode(path))
        free = frames - fit * clip_frames
        gaps = sorted(int(draw.random() * (free + 1)) for _ in range(fit - 2))
        starts = [0, *(gap + (i + 1) * clip_frames for i, gap in enumerate(gaps)), frames - clip_frames]
    return starts + [None] * (clips - fit)


@dataclass(frozen=True)
class CuttingRule:
    """How tracks are cut. version: one of CUTTING_VERSIONS; ValueError for others."""

    clip_frames: int
    clips: int
    seed: int
    version: int = CUTTING_VERSION

    def __post_init__(self) -> None:
        if self.version not in CUTTING_VERSIONS:
            raise ValueError(f"version={self.version} should be one of {CUTTING_VERSIONS}")

    def starts(self, frames: int, path: str) -> list[int | None]:
        """First frames of the clips of a track. path: its name, which version 1 alone asks for."""
        if self.version == 1:
            return clip_starts_1(frames, self.clip_frames, self.clips, self.seed, path)
        return clip_starts(frames, self.clip_frames, self.clips, self.seed)


def _generator(key: bytes) -> random.Random:
    # random.Random.random() is the same in every version of Python; other draws are not promised to be
    return random.Random(int.from_bytes(hashlib.sha256(key).digest()[:8], "big"))
