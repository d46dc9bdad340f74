"""The arrays of a descriptor store on disk: parts are read, and chunks are written and read back.

What zarr raises over damaged files becomes a `MixstyleError` ("damaged-file") that names the store and the command that
makes it whole.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from mixstyle.cache.feature_store.damage import UNREADABLE
from mixstyle.cache.feature_store.layout import Strays, sync
from mixstyle.cache.feature_store.names import BY_SHARD
from mixstyle.cache.storage.place import Place
from mixstyle.pipeline.core.errors import MixstyleError, one_line


class StoreArrays:
    """The arrays of the group in the folder of a place."""

    def __init__(self, place: Place, group: zarr.Group) -> None:
        self.place = place
        self._group = group
        self._opened: dict[str, zarr.Array] = {}
        self._strays = Strays(place.folder)

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The group's."""
        return self._group.attrs

    def __contains__(self, name: str) -> bool:
        return name in self._group

    def shape(self, name: str) -> tuple[int, ...]:
        """The sizes of an array."""
        return self._array(name).shape

    def read(self, name: str, place: slice = slice(None)) -> NDArray[Any]:
        """A part of an array. Raises MixstyleError ("damaged-file") for chunks that are not what was written."""
        array = self._array(name)
        try:
            return np.asarray(array[place])
        except UNREADABLE as error:
            raise self._unread(name, error) from error

    def read_rows(self, name: str, index: NDArray[np.int64]) -> NDArray[Any]:
        """Some rows `[n, D]` of an array `[row, D]`, in their order; only the chunks that hold them are read."""
        array = self._array(name)
        try:
            return np.asarray(array.get_orthogonal_selection((index, slice(None))))
        except UNREADABLE as error:
            raise self._unread(name, error) from error

    def read_each(self, name: str, unreadable: Any) -> list[Any]:
        """The values of an array `[n]`; `unreadable` where a value's chunk is damaged."""
        try:
            return list(self.read(name))
        except MixstyleError:
            found = []
            for place in range(self.shape(name)[0]):
                try:
                    found.append(self.read(name, slice(place, place + 1))[0])
                except MixstyleError:
                    found.append(unreadable)
            return found

    def write_chunk(self, name: str, place: slice, values: NDArray[Any], chunk: int) -> None:
        """Writes one chunk, makes it durable, reads it back and keeps it; sweeps what a killed writer of it left.

        Raises MixstyleError ("cannot-write") where the disk gives back something else.
        """
        folder = self.place.folder / name / "c"
        for stray in self._strays.of(name, chunk):
            stray.unlink(missing_ok=True)
        self._array(name)[place] = values
        for written in (folder / str(chunk) / "0", folder / str(chunk), folder):
            sync(written)
        back = np.asarray(self._array(name)[place])
        if not np.array_equal(back, values, equal_nan=values.dtype.kind == "f"):
            raise MixstyleError(
                f"{self.place.name}: {name} of shard {chunk} reads back with other values; check the disk",
                code="cannot-write",
            )
        file = _chunk_name(name, chunk)
        if (self.place.folder / file).is_file():
            self.place.keep(file)
        else:  # a chunk that holds only the fill value
            self.place.take_away(file)

    def remove_chunk(self, name: str, chunk: int) -> None:
        """Removes a chunk, whole or damaged; readers find the array's fill value."""
        file = _chunk_name(name, chunk)
        self.place.take_away(file)
        sync((self.place.folder / file).parent)

    def _array(self, name: str) -> zarr.Array:
        if name not in self._opened:
            try:
                array = self._group[name]
            except UNREADABLE as error:
                raise damaged_store(self.place.name, f"{name} cannot be read") from error
            if not isinstance(array, zarr.Array):
                raise damaged_store(self.place.name, f"{name} is no array")
            self._opened[name] = array
        return self._opened[name]

    def _unread(self, name: str, error: Exception) -> MixstyleError:
        remedy = ("features",) if name in BY_SHARD else ("features", "--rebuild")
        # Zarr's words about a checksum are two strings of bytes
        why = "not the bytes that were written" if "checksum" in str(error).lower() else one_line(error)
        return damaged_store(self.place.name, f"{name} cannot be read ({why})", remedy)


def _chunk_name(name: str, chunk: int) -> str:
    """The file of a chunk of an array that a shard fills, by its number."""
    return f"{name}/c/{chunk}/0" if name == "descriptors" else f"{name}/c/{chunk}"  # it alone has two dimensions


def damaged_store(name: str, what: str, remedy: Sequence[str] = ("features", "--rebuild")) -> MixstyleError:
    """What to raise over a damaged store."""
    return MixstyleError(f"{name}: damaged: {what}", code="damaged-file", remedy=remedy)
