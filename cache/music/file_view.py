"""Bytes that are read as if they were a file of their own: a part of a file with other bytes before it, say."""

import io
import os
from typing import BinaryIO


class SizedReader(io.RawIOBase):
    """So many bytes, for reading alone, from any place on. Who inherits has `readinto` read at `_place` and move it."""

    def __init__(self, size: int) -> None:
        self._size, self._place = size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = max(0, origin + offset)
        return self._place


class FileView(SizedReader):
    """`head`, then bytes start to stop of `file`, then `zeros` zero bytes; for reading alone. Closes `file` with it."""

    def __init__(self, file: BinaryIO, head: bytes, start: int, stop: int, zeros: int = 0) -> None:
        self._file, self._head, self._start = file, head, start
        self._filled = len(head) + max(0, stop - start)
        super().__init__(self._filled + zeros)

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """As many bytes as there are, up to the buffer's length."""
        target = memoryview(buffer).cast("B")
        done = 0
        while done < len(target) and (part := self._part(len(target) - done)):
            target[done : done + len(part)] = part
            done += len(part)
            self._place += len(part)
        return done

    def close(self) -> None:
        self._file.close()
        super().close()

    def _part(self, limit: int) -> bytes:
        """Bytes from here on, of one of the three parts."""
        if self._place < len(self._head):
            return self._head[self._place : self._place + limit]
        if self._place < self._filled:
            self._file.seek(self._start + self._place - len(self._head))
            found = self._file.read(min(limit, self._filled - self._place))
            return found
        return bytes(max(0, min(limit, self._size - self._place)))
