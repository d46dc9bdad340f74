"""How fast what is behind a URL answers, and is written and read; measured with one object that is taken away again."""

import os
import secrets
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from mixstyle.cache.storage.remote_store import RemoteStore
from mixstyle.pipeline.core.errors import MixstyleError

T = TypeVar("T")
SIZES = (64_000, 1_000_000, 4_000_000)
"""Bytes of the object, from the smallest on: a slow store is measured with a smaller one."""
ENOUGH_S = 2.0
"""A size that took longer to write and read is the last."""
ROUND_TRIPS = 5
LIMIT_S = 30.0
"""For all of it."""
_REFUSALS = (PermissionError, NotImplementedError)


@dataclass(frozen=True)
class StoreSpeed:
    """bytes: of the object that was read, the first so many; 0 where there is none. write_mb_per_s: None where nothing
    may be written, or nothing was to be. left_over: the object that could not be taken away; most often empty."""

    bytes: int
    write_mb_per_s: float | None
    read_mb_per_s: float | None
    round_trip_ms: float
    left_over: str = ""


def store_speed(url: str, write: bool, limit_s: float = LIMIT_S) -> StoreSpeed:
    """Measures a store. write: an object may be put below the URL; else one that is there is read.

    Raises MixstyleError ("remote" where it does not answer, or not within `limit_s`; as `RemoteStore` does else).
    """
    name = f".mixstyle-doctor-{secrets.token_hex(4)}"
    left = f"; {url.rstrip('/')}/{name} may be left there" if write else ""
    return _within(limit_s, lambda: _measured(url, name if write else ""), f"{url}: no answer", left)


def _measured(url: str, name: str) -> StoreSpeed:
    store = RemoteStore(url)
    if name:
        try:
            return _written_and_read(store, name)
        except MixstyleError as error:
            if not isinstance(error.__cause__, _REFUSALS):
                raise
    return _read(store)


def _written_and_read(store: RemoteStore, name: str) -> StoreSpeed:
    """The speed of an object that is there for this alone."""
    size, write_s, read_s, trip_s, left_over = 0, 0.0, 0.0, 0.0, ""
    path = store.path(name)
    try:
        for size in SIZES:
            data = os.urandom(size)
            write_s = _seconds(store, lambda data=data: store.fs.pipe_file(path, data), name, "written")
            read_s = _reading_s(store, name, size)
            if write_s + read_s > ENOUGH_S:
                break
        trip_s = _round_trip_s(store, name)
    except MixstyleError as error:
        if not isinstance(error.__cause__, _REFUSALS):
            _taken_away(store, name)
        raise
    if not _taken_away(store, name):
        left_over = f"{store.url}/{name}"
    return StoreSpeed(size, size / write_s / 1e6, size / read_s / 1e6, 1e3 * trip_s, left_over)


def _read(store: RemoteStore) -> StoreSpeed:
    """The speed of the largest object that is there: of the URL itself, where it is one."""
    there = {name: stored.size for name, stored in store.listed(deep=False).items()}
    if not there and (itself := store.stored("")) is not None:
        there = {"": itself.size}
    name = max(there, key=lambda name: there[name], default="")
    largest = there.get(name, 0)
    if not largest:
        return StoreSpeed(0, None, None, 1e3 * _seconds(store, lambda: store.fs.exists(store.path("")), "", "read"))
    size, read_s = 0, 0.0
    for size in (min(size, largest) for size in SIZES):
        read_s = _reading_s(store, name, size)
        if read_s > ENOUGH_S:
            break
    return StoreSpeed(size, None, size / read_s / 1e6, 1e3 * _round_trip_s(store, name))


def _reading_s(store: RemoteStore, name: str, size: int) -> float:
    return _seconds(store, lambda: _whole(store.fs.cat_file(store.path(name), start=0, end=size), size), name, "read")


def _round_trip_s(store: RemoteStore, name: str) -> float:
    """Of a request for one byte; the median."""
    return statistics.median(_reading_s(store, name, 1) for _ in range(ROUND_TRIPS))


def _whole(data: bytes, size: int) -> None:
    if len(data) != size:
        raise EOFError(f"{len(data)} bytes of {size}")


def _seconds(store: RemoteStore, work: Callable[[], object], name: str, done: str) -> float:
    """How long something takes, without what goes wrong before it works."""

    def timed() -> float:
        begin = time.perf_counter()
        work()
        return time.perf_counter() - begin

    return store.tried(timed, f"{store.url}/{name}" if name else store.url, done)


def _taken_away(store: RemoteStore, name: str) -> bool:
    try:
        store.remove([name])
    except MixstyleError:
        return False
    return True


def _within(limit_s: float, work: Callable[[], T], what: str, left: str) -> T:
    """What `work` gives, unless that takes longer. It then goes on in a thread that ends with the process."""
    found: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            found.append(work())
        except BaseException as error:  # noqa: BLE001 (raised in the thread that waits)
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(limit_s)
    if errors:
        raise errors[0]
    if not found:
        raise MixstyleError(f"{what} within {limit_s:.0f} s{left}", code="remote")
    return found[0]
