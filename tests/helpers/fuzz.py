"""Damage for fuzz tests, drawn by hypothesis: bytes changed, cut, doubled and overwritten; and what a case may cost.

In the suite the cases are the same in every run. By hand, `MIXSTYLE_FUZZ_CASES=5000 pytest tests/cache -k fuzz` draws
so many other ones for each test, and prints what repeats one that fails.
"""

import faulthandler
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from mixstyle.pipeline.core.errors import MixstyleError

CASES = int(os.environ.get("MIXSTYLE_FUZZ_CASES", "0"))
LONGEST_CPU_S = 5.0
"""Of one case, which takes milliseconds: the processor's time, since other processes may hold up a machine's clock."""
HANG_S = 300.0
"""After it the process ends with a traceback: a loop in C that never returns raises nothing."""
NUMBERS = [b"\0" * 4, b"\xff" * 4, b"\xff\xff\xff\x7f", b"\x7f\xff\xff\xff", b"\1\0\0\0", b"\0\0\0\1", b"\0\0\0\x80"]

Edit = tuple[str, int, int, bytes]


def fuzzed(cases: int) -> Any:
    """Settings of a fuzz test with so many cases in the suite."""
    return settings(
        max_examples=CASES or cases,
        derandomize=not CASES,
        database=None,
        deadline=None,  # measured by `case`, in the processor's time
        print_blob=True,
        # files are written again for each case
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def edits(most: int = 4) -> st.SearchStrategy[list[Edit]]:
    """What is done to a file: (what, place, number, bytes). Half of the places lie among the first 256 bytes."""
    place = st.one_of(st.integers(0, 255), st.integers(0, 1 << 30))
    one = st.one_of(
        st.tuples(st.just("flip"), place, st.integers(0, 7), st.just(b"")),
        st.tuples(st.just("write"), place, st.just(0), st.one_of(st.binary(min_size=1, max_size=8), numbers())),
        st.tuples(st.just("insert"), place, st.just(0), st.binary(min_size=1, max_size=64)),
        st.tuples(st.just("delete"), place, st.integers(1, 4096), st.just(b"")),
        st.tuples(st.just("double"), place, st.integers(1, 4096), st.just(b"")),
        st.tuples(st.just("cut"), place, st.just(0), st.just(b"")),
    )
    return st.lists(one, min_size=1, max_size=most)


def numbers() -> st.SearchStrategy[bytes]:
    """Four bytes that a header's length, rate or count may be, and should not."""
    return st.sampled_from(NUMBERS)


def damaged(data: bytes, done: list[Edit]) -> bytes:
    """The bytes after the edits, one after the other; places go round at the end."""
    for what, place, number, given in done:
        at = place % max(1, len(data))
        if what == "flip" and data:
            data = data[:at] + bytes([data[at] ^ 1 << number]) + data[at + 1 :]
        elif what == "write":
            data = data[:at] + given + data[at + len(given) :]
        elif what == "insert":
            data = data[:at] + given + data[at:]
        elif what == "delete":
            data = data[:at] + data[at + number :]
        elif what == "double":
            data = data[: at + number] + data[at:]
        elif what == "cut":
            data = data[:at]
    return data


def drawn(seed: int) -> list[Edit]:
    """Edits by a seed, for those who want many at little cost."""
    rng = random.Random(seed)
    kinds = ["flip", "write", "insert", "delete", "double", "cut"]
    place = rng.randrange(256) if rng.random() < 0.5 else rng.randrange(1 << 30)
    return [(rng.choice(kinds), place, rng.randrange(8), rng.choice([*NUMBERS, rng.randbytes(8)]))]


@contextmanager
def case() -> Iterator[None]:
    """One case: what it raises may be a MixstyleError of one line; it is to end soon."""
    begun = time.process_time()
    faulthandler.dump_traceback_later(HANG_S, exit=True, file=sys.__stderr__ or sys.stderr)
    told = ""
    try:
        yield
    except MixstyleError as error:
        told = str(error)
    finally:
        faulthandler.cancel_dump_traceback_later()
    assert "\n" not in told
    assert len(told) < 10_000
    assert time.process_time() - begun < LONGEST_CPU_S


def resident_bytes() -> int:
    """Memory of this process that is in use now."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 (no path of ours)
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def values() -> st.SearchStrategy[Any]:
    """What may stand in JSON or YAML, of any type: odd numbers, long texts, nested lists."""
    plain = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-2, 3),
        st.sampled_from([10**30, -(10**30), 2**63, 1e308, -0.0, float("nan"), float("inf"), "", "auto", "x" * 5_000]),
        st.floats(),
        st.text(max_size=12),
    )
    return st.recursive(
        plain,
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
        max_leaves=6,
    )


def places(value: Any, trail: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to all values within a value of JSON."""
    yield trail
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*trail, key))


def changed(value: Any, place: int, to: Any, away: bool) -> Any:
    """A value of JSON with one value within it set to another, or taken away."""
    ways = list(places(value))
    way = ways[place % len(ways)]

    def at(inner: Any, rest: tuple[Any, ...]) -> Any:
        if not rest:
            return to
        copy: Any = dict(inner) if isinstance(inner, dict) else list(inner)
        if len(rest) == 1 and away:
            del copy[rest[0]]
        else:
            copy[rest[0]] = at(inner[rest[0]], rest[1:])
        return copy

    return at(value, way)


def grown_bytes(work: Callable[[int], None], warm: int, cases: int) -> int:
    """How much more memory is in use after `cases` cases, numbered, than after the first `warm` of them."""
    for number in range(warm):
        work(number)
    before = resident_bytes()
    for number in range(warm, cases):
        work(number)
    return resident_bytes() - before
