"""What a part of benchmarks/gpu.py is given: turns, seconds with all that the GPU still had to do, and figures.

All ways of a part take turns after a round that warms up (on a GPU the first pass loads kernels); medians of the rounds
count, and are written after each round. Where another round would not fit, there is none.
"""

import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from mixstyle.pipeline.core.device import resolve_device
from mixstyle.pipeline.core.errors import MixstyleError

BEGUN = time.monotonic()
ROOT = Path(__file__).parent.parent

FAILURES = (MixstyleError, RuntimeError, MemoryError, ValueError, TypeError, AttributeError, OSError)
"""Of a way; the others go on."""


class Run:
    """What a part is given, and where it writes."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        self.part, self.rounds = request["part"], request["rounds"]
        self.device = str(resolve_device(request["device"]))  # with its number
        self.quick, self.music = request["quick"], Path(request["music"]) if request["music"] else None
        self.on_gpu = self.device.startswith("cuda")
        self.reduced = ["bf16", "fp16"] if self.on_gpu else []  # CPUs without such instructions take minutes for them
        self._figures, self._limit_s = Path(request["figures"]), request["limit_s"]

    @property
    def left_s(self) -> float:
        """Seconds until the part is ended."""
        return self._limit_s - (time.monotonic() - BEGUN)

    def tell(self, name: str, value: float | str, unit: str = "") -> None:
        """Writes a figure; a later one of that name takes its place."""
        with self._figures.open("a") as file:
            file.write(json.dumps({"name": name, "value": value, "unit": unit}) + "\n")

    def in_turns(
        self, ways: Mapping[str, Callable[[], float]], told: Callable[[dict[str, float]], None]
    ) -> dict[str, float]:
        """Medians of the seconds that each way finds. A way that fails is told, and left out from then on.

        told: is given the medians after each round, and after each way of the round that warms up, whose figures hold
        where no other round fits.
        """
        medians: dict[str, float] = {}
        left, found = dict(ways), {name: list[float]() for name in ways}
        for turn in range(self.rounds + 1):
            start = time.monotonic()
            for name, way in list(left.items()):
                try:
                    seconds = way()
                except FAILURES as error:
                    del left[name]
                    self.tell(name, f"failed: {str(error).splitlines()[0][:150] if str(error) else type(error)}")
                    continue
                found[name] = [*found[name], seconds] if turn > 1 else [seconds]
                if turn == 0:  # it takes long, and may be ended
                    told({name: statistics.median(values) for name, values in found.items() if values})
            medians = {name: statistics.median(values) for name, values in found.items() if values}
            told(medians)
            self.tell("rounds that count", turn)
            if self.left_s < 1.2 * (time.monotonic() - start):
                break
        return medians

    def timed(self, work: Callable[[], object], times: int = 1) -> Callable[[], float]:
        """Gives seconds of a call, with all that it left to the GPU."""

        def seconds() -> float:
            if self.on_gpu:
                torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(times):
                work()
            if self.on_gpu:
                torch.cuda.synchronize()
            return (time.perf_counter() - start) / times

        return seconds
