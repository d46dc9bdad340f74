"""The order in which a stream of shards gives its tracks: a function of seed, epoch, process and number of processes.

Nothing is read here. In each epoch the shards are shuffled and dealt out to the processes; each process goes through
its shards one after the other, again in another order when it needs more, and draws its tracks from a buffer that is
filled up before every step. No track comes twice before all others of the process have come, but for fewer than a
step needs, which are left out. The numbers of workers and what a disk does have no part in it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class StepDraw:
    """What happens at a step; tracks are by number.

    rounds: how often the process went through its shards before. read: what is read since the step before, in order
    (of a round that ended, tracks that were left over are among them). own: the anchors' tracks. others: tracks for
    positives of other songs, one for each, of the same buffer. held: the buffer afterwards. shard, offset: where
    reading goes on, and how many tracks of that shard were read; shard is -1 where all of the round were.
    """

    rounds: int
    read: tuple[int, ...]
    own: tuple[int, ...]
    others: tuple[int, ...]
    held: tuple[int, ...]
    shard: int
    offset: int


class ShardOrder:
    """See the module.

    shards: numbers of tracks by the shard's number, as they are in it; shards without any are left out. buffer_tracks:
    how many the buffer holds. items: tracks of a step on this process. least: how many the buffer must hold for a
    step, `items` or more. Raises ValueError for a buffer below `least` and where a process could get too few tracks
    (see `fewest_tracks`).
    """

    def __init__(
        self,
        shards: Mapping[int, Sequence[int]],
        *,
        seed: int,
        buffer_tracks: int,
        items: int,
        least: int = 1,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self._shards = {shard: tuple(tracks) for shard, tracks in sorted(shards.items()) if tracks}
        self._least = max(items, least)
        if min(buffer_tracks, fewest_tracks([len(t) for t in self._shards.values()], ranks)) < self._least:
            raise ValueError(f"buffer_tracks={buffer_tracks} or a process' tracks are below {self._least}")
        self._seed, self._buffer, self._items, self._rank, self._ranks = seed, buffer_tracks, items, rank, ranks

    def reads(self, epoch: int) -> Iterator[tuple[int, int, int]]:
        """(round, shard, track) in the order of reading, without an end."""
        numbers = list(self._shards)
        dealt = np.random.default_rng([self._seed, 0, 3, epoch]).permutation(len(numbers))[self._rank :: self._ranks]
        rounds = 0
        while True:
            rng = np.random.default_rng([self._seed, 0, 4, epoch, self._rank, rounds])
            for place in rng.permutation(len(dealt)) if rounds else range(len(dealt)):
                shard = numbers[int(dealt[place])]
                for track in self._shards[shard]:
                    yield rounds, shard, track
            rounds += 1

    def steps(self, epoch: int) -> Iterator[StepDraw]:
        """What happens at each step of an epoch, without an end."""
        reads = self.reads(epoch)
        upcoming, read = next(reads), []
        while True:
            rounds, buffer, read_of = upcoming[0], [], {}
            rng = np.random.default_rng([self._seed, 0, 5, epoch, self._rank, rounds])
            while True:
                while len(buffer) < self._buffer and upcoming[0] == rounds:
                    _, shard, track = upcoming
                    read_of[shard] = read_of.get(shard, 0) + 1
                    buffer.append(track)
                    read.append(track)
                    upcoming = next(reads)
                if len(buffer) < self._least:
                    break  # what is left over is not enough for a step
                own = [self._taken(buffer, rng) for _ in range(self._items)]
                others = self._others(own, buffer, rng)
                shard = upcoming[1] if upcoming[0] == rounds else -1
                yield StepDraw(rounds, tuple(read), tuple(own), others, tuple(buffer), shard, read_of.get(shard, 0))
                read = []

    @staticmethod
    def _taken(buffer: list[int], rng: np.random.Generator) -> int:
        """Takes a track out of the buffer; the last one takes its place."""
        place = int(rng.integers(len(buffer)))
        buffer[place], buffer[-1] = buffer[-1], buffer[place]
        return buffer.pop()

    @staticmethod
    def _others(own: list[int], buffer: list[int], rng: np.random.Generator) -> tuple[int, ...]:
        """For each of `own` another track of those that were in the buffer; none where there was no other."""
        pool = [*own, *buffer]
        if len(pool) < 2:
            return ()
        return tuple(pool[(i + 1 + int(rng.integers(len(pool) - 1))) % len(pool)] for i in range(len(own)))


def fewest_tracks(tracks_of_shards: Sequence[int], ranks: int) -> int:
    """The fewest tracks that a process can get when shards are dealt out to `ranks` processes.

    >>> fewest_tracks([3, 8, 8, 8, 8], 2)
    11
    """
    return sum(sorted(tracks_of_shards)[: len(tracks_of_shards) // ranks])
