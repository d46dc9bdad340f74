"""The two ways in which training reads stems: `random`, clip by clip, and `stream`, shard by shard."""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import groupby, islice
from typing import Any

import numpy as np

from mixstyle.cache.stem_store.stream import Clips, stream_tracks
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.train.data import Items, Request
from mixstyle.stages.train.shard_order import ShardOrder, StepDraw, fewest_tracks

Position = dict[str, Any]
"""Where a stream is, as a checkpoint keeps it: epoch, steps done in it, round (times that all shards of the process
were read before), shard and offset (where reading goes on: shard -1 where nothing is left of the round, offset in
tracks) and held (ids of the tracks in the buffer, in its order)."""


class RandomReader:
    """Every step draws from all tracks: the order is a permutation an epoch, and any step is found at once.

    Clips are read by the workers, one read or one request each.
    """

    def __init__(self, data: Items) -> None:
        self.data = data
        self._permutation: tuple[tuple[int, int], np.ndarray] | None = None

    def request(self, key: tuple[int, int, int]) -> Request:
        """The request for one item."""
        epoch, step, item = key
        # Steps past an epoch's last start another turn of all tracks.
        turn, place = divmod(step, self.data.steps_per_epoch)
        if self._permutation is None or self._permutation[0] != (epoch, turn):
            rng = np.random.default_rng([self.data.seed, self.data.stream, 0, epoch, turn])
            self._permutation = (epoch, turn), rng.permutation(len(self.data.tracks))
        return Request(key, int(self._permutation[1][place * self.data.batch_size + item]))

    def requests(self, steps: Iterable[tuple[int, int]], items: range) -> Iterator[Request]:
        return (self.request((epoch, step, item)) for epoch, step in steps for item in items)

    def positions(self, epoch: int, steps: int) -> list[Position]:
        """Nothing has to be kept: the step alone says where the reader is."""
        return []


class StreamReader:
    """Shards are read from front to back, and steps draw from a buffer of tracks whose FLAC files are in memory.

    items: which of a batch's this process makes. Raises MixstyleError where buffer, shards and processes do not fit.
    """

    def __init__(self, data: Items, buffer_tracks: int, items: range, rank: int = 0, ranks: int = 1) -> None:
        self.data, self._items = data, items
        shards: dict[int, list[int]] = {}
        for number, track in enumerate(data.tracks):
            shards.setdefault(track.shard, []).append(number)
        _check(data, shards, buffer_tracks, len(items), ranks)
        self._orders = [
            ShardOrder(
                shards,
                seed=data.seed,
                buffer_tracks=buffer_tracks,
                items=len(items),
                least=_needed(data, len(items)),
                rank=each,
                ranks=ranks,
            )
            for each in range(ranks)
        ]
        self._order = self._orders[rank]

    def positions(self, epoch: int, steps: int) -> list[Position]:
        """Where the streams of all processes are after so many steps of an epoch, found without reading anything."""
        draws = [next(islice(order.steps(epoch), steps - 1, None)) for order in self._orders] if steps else []
        return [
            {
                "epoch": epoch,
                "steps": steps,
                "round": draw.rounds,
                "shard": draw.shard,
                "offset": draw.offset,
                "held": [self.data.tracks[number].track_id for number in draw.held],
            }
            for draw in draws
        ]

    def requests(self, steps: Iterable[tuple[int, int]], items: range) -> Iterator[Request]:
        if items != self._items:
            raise ValueError(f"this stream makes items {self._items}, not {items}")
        expected, feed = None, self._feed(0, 0)
        try:
            for epoch, step in steps:
                if expected != (epoch, step):
                    feed.close()
                    feed = self._feed(epoch, step)
                expected = (epoch, step + 1)
                draw, held = next(feed)
                for place, item in enumerate(items):
                    yield self._request((epoch, step, item), draw, place, held)
        finally:
            feed.close()

    def _request(self, key: tuple[int, int, int], draw: StepDraw, place: int, held: dict[int, Clips]) -> Request:
        own = draw.own[place]
        other = draw.others[place] if self.data.recipe.objective.positive_from == "other-song" else None
        bare = Request(key, own, other)
        flacs = {**held[own], **({} if other is None else held[other])}
        return Request(key, own, other, {clip.row: flacs[clip.row] for clip in self.data.chosen_clips(bare)})

    def _feed(self, epoch: int, first: int) -> Generator[tuple[StepDraw, dict[int, Clips]], None, None]:
        """The steps of an epoch from `first` on, each with the clips of all tracks in the buffer, by number.

        Steps before that are passed over by the order alone; what they left in the buffer is read by its place.
        """
        cache, tracks = self.data.cache, self.data.tracks
        order, skipped, kept = self._order.steps(epoch), 0, ()
        for draw in islice(order, first):
            skipped, kept = skipped + len(draw.read), draw.held
        held: dict[int, Clips] = {
            number: {clip.row: cache.read_bytes(clip.shard, clip.offset, clip.size) for clip in tracks[number].clips}
            for number in kept
        }
        reads = islice(self._order.reads(epoch), skipped, None)
        runs = ([tracks[number] for _, _, number in run] for _, run in groupby(reads, lambda read: read[:2]))
        with closing(stream_tracks(cache, runs)) as incoming:
            for draw in order:
                for number in draw.read:
                    held[number] = next(incoming)[1]
                held = {number: held[number] for number in (*draw.own, *draw.held)}
                yield draw, held


def _check(data: Items, shards: Mapping[int, Sequence[int]], buffer_tracks: int, items: int, ranks: int) -> None:
    """Refuses a buffer or shards that cannot fill a batch with distinct tracks."""
    if buffer_tracks < data.batch_size:
        raise MixstyleError(
            f"train.stream_buffer_tracks={buffer_tracks} should be train.batch_size={data.batch_size} or more: a batch "
            "is drawn from the buffer",
            code="bad-setting",
        )
    fewest = fewest_tracks([len(tracks) for tracks in shards.values()], ranks)
    needed = _needed(data, items)
    if fewest < needed:
        raise MixstyleError(
            f"train.reader=stream: {len(shards)} shards shared by {ranks} processes give one of them {fewest} tracks, "
            f"and it needs {needed} for its part of train.batch_size={data.batch_size}; set train.reader=random",
            code="bad-setting",
        )


def _needed(data: Items, items: int) -> int:
    """Tracks that a step needs to draw from on a process that makes so many items."""
    return max(items, 2 if data.recipe.objective.positive_from == "other-song" else 1)
