"""A part of a file with other bytes before it, read as if it were a file of its own."""

import io
import os
from typing import BinaryIO


class FileView(io.RawIOBase):
    """`head`, then bytes start to stop of `file`, then `zeros` zero bytes; for reading alone. Closes `file` with it."""

    def __init__(self, file: BinaryIO, head: bytes, start: int, stop: int, zeros: int = 0) -> None:
        self._file, self._head, self._start = file, head, start
        self._filled = len(head) + max(0, stop - start)
        self._size = self._filled + zeros
        self._place = 0

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
