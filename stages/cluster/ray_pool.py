"""Ray Core: actors on all machines of a cluster, each with a few parts at a time; those of a lost one are given again.

The driver (the command) hands out numbers of parts and waits. What an actor, a node or the driver held when it died is
made by another, or by the next run: nothing else is lost, since what is done is in the output alone.

The share of a machine that an actor gets is a GPU, or so many CPUs as the network may use threads.
"""

import logging
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from mixstyle.pipeline.core.errors import MixstyleError, one_line
from mixstyle.stages.cluster.actor import Actor, raised
from mixstyle.stages.cluster.address import check_address, not_joined
from mixstyle.stages.cluster.head import Head
from mixstyle.stages.common.notes import note
from mixstyle.stages.common.progress import remark

IN_FLIGHT = 2
"""Parts that an actor has at once: one that it makes, and one that waits, so that it never does."""
MOST_TRIES = 4
"""Deaths of an actor while it made one part: then the part is at fault."""
LOOK_S = 2.0
"""Seconds between looks at the cluster, whose machines come and go."""
AGAIN_S, MOST_ASKED = 5.0, 12
"""A part that another process holds is asked for again after so many seconds, and so often: what holds it may be about
to end, as the actors of a driver that was killed are."""
PATIENCE_S = 30.0
"""Seconds without any actor after which it is told."""
HEAD_S = 30.0
"""Seconds for which the cluster's head may be silent; Ray itself ends a driver after 60."""


@dataclass(frozen=True)
class RayOptions:
    """--ray and --allow-mixed. address: of a cluster (`auto`, `HOST:PORT`, `ray://HOST:PORT`), or `local` for one on
    this machine alone. allow_mixed: takes machines of other kinds too."""

    address: str
    allow_mixed: bool = False


@dataclass(frozen=True)
class Share:
    """What an actor gets of a machine. cpus 0: all those of the smallest machine."""

    gpus: int = 0
    cpus: int = 0

    def of(self, nodes: Sequence[Mapping[str, float]]) -> "Share":
        """With the number of CPUs filled in, given the resources of each machine."""
        if self.gpus or self.cpus:
            return self
        return Share(0, max(1, int(min((node.get("CPU", 0.0) for node in nodes if node.get("CPU")), default=1.0))))

    def actors(self, nodes: Sequence[Mapping[str, float]]) -> int:
        """How many actors the machines have room for.

        >>> Share(cpus=2).actors([{"CPU": 5.0}, {"CPU": 1.0}]), Share(gpus=1).actors([{"GPU": 8.0}, {"CPU": 4.0}])
        (2, 8)
        """
        wanted, name = (self.gpus, "GPU") if self.gpus else (self.cpus, "CPU")
        return sum(int(node.get(name, 0.0) // wanted) for node in nodes)


@dataclass(eq=False)
class _Hands:
    """An actor and what it has. parts: by reference, in the order in which it makes them; the first is under way."""

    handle: Any
    parts: dict[Any, Any] = field(default_factory=dict)


class Pool:
    """Makes parts on a cluster.

    request: gives what `actor.request_of` does, of the share that an actor gets. name: of the command, for messages.
    """

    def __init__(
        self, ray: Any, request: Callable[[Share], Mapping[str, Any]], share: Share, options: RayOptions, name: str
    ) -> None:
        self._ray, self._options, self._name = ray, options, name
        far = options.address.startswith("ray://")  # the head's own address is not for this machine then
        self._head, self._head_lost = Head("" if far else ray.get_runtime_context().gcs_address), False
        self._share = share.of(self._nodes())
        resources = {"num_gpus": self._share.gpus} if self._share.gpus else {"num_cpus": self._share.cpus}
        self._class = ray.remote(Actor).options(scheduling_strategy="SPREAD", max_restarts=0, **resources)
        self._request = dict(request(self._share))
        self._actors: list[_Hands] = []
        self._refused: list[_Hands] = []
        self._failed_to_open = 0
        self._opening: dict[Any, _Hands] = {}
        self._looked = self._met = -float("inf")
        self._capacity = 0

    def made(self, parts: Sequence[Any]) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Each part with its answer, as they come; `{"elsewhere": True}` last, of those that others went on making.

        Raises MixstyleError where an actor does, where every machine is of another kind ("misfit"), and where a part
        took several actors down with it ("worker-died").
        """
        waiting, tries, asked = deque(enumerate(parts)), Counter[int](), Counter[int]()
        later: deque[tuple[float, tuple[int, Any]]] = deque()
        self._met = time.monotonic()
        while waiting or later or any(hands.parts for hands in self._actors):
            while later and later[0][0] <= time.monotonic():
                waiting.append(later.popleft()[1])
            self._grow(len(waiting))
            self._hand_out(waiting)
            ref = self._next_ready()
            if ref is None:
                continue
            if ref in self._opening:
                self._meet(ref, self._opening.pop(ref))
                continue
            hands = next(hands for hands in self._actors if ref in hands.parts)
            answer = self._got(ref)
            if answer is None:
                self._bury(hands, waiting, tries, len(parts))
                continue
            place, part = hands.parts.pop(ref)
            asked[place] += 1
            if "elsewhere" in answer and asked[place] < MOST_ASKED:
                later.append((time.monotonic() + AGAIN_S, (place, part)))
            else:
                yield part, raised(answer)

    def _next_ready(self) -> Any:
        """Something that is ready to be looked at; None where nothing is for a while."""
        pending = [*self._opening, *(ref for hands in self._actors for ref in hands.parts)]
        ready = self._ray.wait(pending, num_returns=1, timeout=LOOK_S)[0] if pending else []
        if ready:
            return ready[0]
        if not pending:
            time.sleep(LOOK_S / 4)
        if not self._actors and time.monotonic() - self._met > PATIENCE_S:
            note(f"{self._name}: the cluster has no machine that is free; waiting for one")
        return None

    def close(self) -> None:
        """Ends all actors; those of a head that is lost end by themselves."""
        for hands in [*self._actors, *self._refused, *self._opening.values()]:
            if not self._head_lost:
                self._ray.kill(hands.handle)
        self._actors, self._refused, self._opening = [], [], {}

    def _got(self, ref: Any) -> dict[str, Any] | None:
        """What a reference stands for; None where what was to make it has died."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(ref)
        except errors.RayTaskError:
            raise
        except errors.RayError:  # of the actor, of its node, or of an object that lay there
            return None

    def _nodes(self) -> list[dict[str, float]]:
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def _grow(self, waiting: int) -> None:
        """Asks for as many actors as the machines have room for, and as there is work for."""
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        if self._is_silent():
            return
        self._capacity = self._share.actors(self._nodes())
        there = len(self._actors) + len(self._opening) + len(self._refused)
        for _ in range(min(self._capacity - there, waiting - len(self._opening))):
            hands = _Hands(self._class.remote(self._request))
            self._opening[hands.handle.open.remote()] = hands

    def _is_silent(self) -> bool:
        """Whether the cluster's head does not answer; raises MixstyleError where it has not for long."""
        silent_s = self._head.silent_s()
        if silent_s > HEAD_S:
            self._head_lost = True
            raise MixstyleError(
                f"{self._name}: the head of the cluster does not answer any more. What was made is kept: start the "
                "cluster again, then run the same command to continue",
                code="worker-died",
            )
        return silent_s > 0

    def _meet(self, ref: Any, hands: _Hands) -> None:
        """An actor that has opened its stage, or could not."""
        answer = self._got(ref)
        if answer is None:
            self._looked = -float("inf")
            self._failed_to_open += 1
            if self._failed_to_open >= MOST_TRIES * max(self._capacity, 1):
                raise MixstyleError(
                    f"{self._name}: {self._failed_to_open} processes of the cluster died before they started; often "
                    "there is not enough memory, or a machine has another Python or mixstyle",
                    code="worker-died",
                )
            return
        kind = raised(answer)["machine"]
        if kind and not self._options.allow_mixed:
            note(
                f"{self._name}: {answer['host']} is a machine of another kind ({kind}) and is not used; --allow-mixed "
                "uses it"
            )
            self._refused.append(hands)  # it keeps its share, so that no other is opened there
            if len(self._refused) >= self._capacity and not self._actors and not self._opening:
                raise MixstyleError(
                    f"{self._name}: no machine of the cluster is of the kind that the output was started on; "
                    "--allow-mixed uses them, and the output notes what they make",
                    code="misfit",
                )
            return
        self._actors.append(hands)
        self._met, self._failed_to_open = time.monotonic(), 0

    def _hand_out(self, waiting: "deque[tuple[int, Any]]") -> None:
        """Gives every actor its parts; evenly, so that the last ones do not wait behind another."""
        for depth in range(IN_FLIGHT):
            for hands in self._actors:
                if waiting and len(hands.parts) <= depth:
                    place, part = waiting.popleft()
                    hands.parts[hands.handle.make.remote(part)] = (place, part)

    def _bury(self, hands: _Hands, waiting: "deque[tuple[int, Any]]", tries: "Counter[int]", of_all: int) -> None:
        """Gives the parts of an actor that died to others."""
        held = list(hands.parts.values())
        hands.parts.clear()
        self._actors.remove(hands)
        self._ray.kill(hands.handle)
        place, part = held[0]
        tries[place] += 1
        if tries[place] >= MOST_TRIES:
            raise MixstyleError(
                f"{self._name}: {tries[place]} processes died while they made part {part!r}; often there is not "
                "enough memory. Run the same command to continue",
                code="worker-died",
            )
        remark(f"{self._name}: a process of the cluster died; the {len(held)} of {of_all} that it held go to others")
        waiting.extendleft(reversed(held))
        self._looked = -float("inf")


@contextmanager
def cluster(options: RayOptions) -> Iterator[Any]:
    """Ray, connected to a cluster until the end of the block.

    Raises MixstyleError as `check_address` does.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # tells nobody
    # under `uv run` Ray would have every worker make an environment of its own of the working folder
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    check_address(options.address)
    import ray

    try:
        ray.init(address=options.address, namespace="mixstyle", log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises that very class where a node does not start in time
        raise not_joined(options.address, one_line(error, 200)) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def made_on(
    options: RayOptions,
    name: str,
    parts: Sequence[Any],
    request: Callable[[str, int], Mapping[str, Any]],
    *,
    on_gpu: bool,
    threads: int,
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Makes parts on a cluster, and yields each with its answer as soon as it is made. Parts that other processes are
    making are left out.

    name: of the command. request: called with an actor's device ("cuda" or "cpu") and its threads; returns what
    `actor.request_of` does. threads: of each actor; 0: as many as the smallest machine has CPUs (without a GPU). Raises
    MixstyleError as `Pool` and `cluster` do.
    """

    def of_share(share: Share) -> Mapping[str, Any]:
        return request("cuda", threads) if on_gpu else request("cpu", share.cpus)

    with cluster(options) as ray:
        pool = Pool(ray, of_share, Share(gpus=1) if on_gpu else Share(cpus=threads), options, name)
        try:
            for part, answer in pool.made(parts):
                if "elsewhere" not in answer:
                    yield part, answer
        finally:
            pool.close()
