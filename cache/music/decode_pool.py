"""Decodes music in worker processes: ahead of what needs it, in order, and surviving a decoder that crashes."""

import contextlib
import io
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, TypeVar, cast

import numpy as np

from mixstyle.cache.music.music_file import Length, MusicInfo, UnreadableMusic
from mixstyle.cache.music.reader import WindowAudio
from mixstyle.cache.music.transient_failures import CRASHED
from mixstyle.pipeline.descriptors.song_loudness import SongLoudness

Item = TypeVar("Item")
Result = TypeVar("Result")

Files = Mapping[str, Path]
"""A track's files: `{"": file}`, or its stems by name."""

TIMEOUT_S = 600.0
"""A decoder that takes longer over one request is stopped."""


@dataclass(frozen=True)
class DecodedWindows:
    """Windows of a track, [2, T] each, or [4, 2, T] of a folder of stems.

    content_hash: of all its audio. loudness: of the whole track (of the sum of its stems), where it was asked for.
    note: what is missing of the track at its end, or empty. length: of the track as it can be decoded; None where it is
    no file.
    """

    windows: list[WindowAudio]
    content_hash: str
    loudness: SongLoudness | None = None
    note: str = ""
    length: Length | None = None


class Decoder:
    """One worker process, started when first needed and again after a crash. For one thread at a time."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self.timeout_s = timeout_s
        self._process: _Process | None = None
        self._closed = False

    def probe(self, files: Files) -> MusicInfo:
        """The header of a track (of its first stem). Raises UnreadableMusic."""
        header, _ = self._call({"files": _text(files), "windows": None})
        return MusicInfo(**header["info"])

    def read(self, files: Files, windows: Sequence[tuple[int, int]], measure: bool = False) -> DecodedWindows:
        """Decodes windows (frames at 44.1 kHz, half-open). measure: the whole track's loudness too.

        Raises UnreadableMusic with the reason; a decoder that crashed is one, after a second try in a new process.
        """
        header, audio = self._call({"files": _text(files), "windows": list(windows), "measure": measure})
        found = header["loudness"]
        decoded = [WindowAudio(*window) for window in zip(audio, header["there"], header["cut"], strict=True)]
        loudness = SongLoudness(**found) if found else None
        return DecodedWindows(decoded, header["content_hash"], loudness, header["note"], Length(**header["length"]))

    @property
    def pid(self) -> int | None:
        """The process's number while there is one."""
        return self._process.pid if self._process else None

    def close(self) -> None:
        """Ends the process for good; a request under way, in another thread, fails."""
        self._closed = True
        if self._process is not None:
            self._process.end()
            self._process = None

    def _call(self, request: dict[str, Any]) -> tuple[dict[str, Any], list[np.ndarray]]:
        line = json.dumps(request).encode() + b"\n"
        try:
            try:
                header, audio = self._exchange(line)
            except _CrashError:  # once more in a fresh process: the machine may have run out of memory for a moment
                header, audio = self._exchange(line)
        except _CrashError as crash:
            raise UnreadableMusic(f"{CRASHED}: {crash}") from crash
        if not header["ok"]:
            raise UnreadableMusic(header["reason"])
        return header, audio

    def _exchange(self, line: bytes) -> tuple[dict[str, Any], list[np.ndarray]]:
        if self._closed:
            raise _CrashError("it was stopped")
        self._process = self._process or _Process()
        try:
            return self._process.exchange(line, self.timeout_s)
        except _CrashError:
            self._process = None
            raise


class DecodePool:
    """Worker processes that decode ahead. A context manager: leaving it ends the processes.

    ahead: results that may wait beyond one a worker, which bounds the memory.
    """

    def __init__(self, workers: int, ahead: int = 2, timeout_s: float = TIMEOUT_S) -> None:
        self.workers, self.ahead = workers, ahead
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="decode")
        self._decoders = [Decoder(timeout_s) for _ in range(workers)]
        self._idle: queue.SimpleQueue[Decoder] = queue.SimpleQueue()
        for decoder in self._decoders:
            self._idle.put(decoder)

    def map(self, function: Callable[[Decoder, Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yields `function(decoder, item)` for each item, in order, working ahead while the caller is busy."""
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(self._threads.submit(self._run, function, item))
                if len(waiting) >= self.workers + self.ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def close(self) -> None:
        """Ends the processes; work under way is lost."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for decoder in self._decoders:
            decoder.close()
        self._threads.shutdown(wait=True)
        for decoder in self._decoders:
            decoder.close()  # one that a thread was just about to start

    def __enter__(self) -> "DecodePool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, function: Callable[[Decoder, Item], Result], item: Item) -> Result:
        decoder = self._idle.get()
        try:
            return function(decoder, item)
        finally:
            self._idle.put(decoder)


class _CrashError(Exception):
    """The process ended, or was ended, over a request; the text says how."""


class _Process:
    def __init__(self) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        # The worker finds its modules where this process found them, and computes with one thread: the others are
        # the network's.
        paths = [path for path in sys.path if path]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "mixstyle.cache.music.decode_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
        )
        requests, replies = self._process.stdin, self._process.stdout
        if requests is None or replies is None:
            raise RuntimeError("a process without pipes")
        self._requests, self._replies = cast(io.BufferedWriter, requests), cast(io.BufferedReader, replies)

    @property
    def pid(self) -> int:
        return self._process.pid

    def exchange(self, line: bytes, timeout_s: float) -> tuple[dict[str, Any], list[np.ndarray]]:
        """Sends a request; returns the reply. Raises _CrashError, and the process is no more."""
        hung = threading.Event()

        def stop() -> None:
            hung.set()
            self._process.kill()

        timer = threading.Timer(timeout_s, stop)
        timer.daemon = True
        timer.start()
        try:
            self._requests.write(line)
            self._requests.flush()
            header = json.loads(self._replies.readline() or _ended())
            return header, [self._array(shape) for shape in header.get("shapes", [])]
        except (BrokenPipeError, EOFError) as error:
            cause = f"no answer in {timeout_s:g} s" if hung.is_set() else self._cause()
            self.end()
            raise _CrashError(cause) from error
        finally:
            timer.cancel()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for file in (self._requests, self._replies, self._errors):
            with contextlib.suppress(BrokenPipeError):
                file.close()

    def _array(self, shape: Sequence[int]) -> np.ndarray:
        array = np.empty(shape, dtype="<f4")
        view = array.data.cast("B")
        filled = 0
        while filled < len(view):
            filled += self._replies.readinto(view[filled:]) or _ended()
        return array

    def _cause(self) -> str:
        """How the process ended: its signal, or the last line it wrote."""
        status = self._process.wait()
        if status < 0:
            return signal.Signals(-status).name
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit status {status}"


def _ended() -> NoReturn:
    raise EOFError


def _text(files: Files) -> dict[str, str]:
    return {stem: os.fspath(file.absolute()) for stem, file in files.items()}
