"""The search structure of an index: `nearest.faiss`, and `nearest.json`, which tells what it was made of.

It follows from the embeddings alone, and is made again where it is not of them. With fewer than `EXACT_BELOW` songs it
is exact: inner products with all of them. From there on it is approximate: songs are put into cells (k-means), the
cells nearest to the query are looked through with embeddings of 8 bits a number, and the best of what is found there
are compared by their whole embeddings. How many cells that takes is measured when it is made: as few as find
`WANTED_RECALL` of the ten nearest of songs spread over the index. What they find is stored as `recall`.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from mixstyle.cache.storage.atomic import atomic_write, read_json, sha256_file, write_json
from mixstyle.pipeline.core.errors import MixstyleError

if TYPE_CHECKING:
    import faiss

Floats = NDArray[np.float32]
Vectors = Sequence[Floats]

VERSION, APPROXIMATE_VERSION = 1, 2
"""Of the search structure: the exact one, and the approximate one."""
NEAREST, STATE = "nearest.faiss", "nearest.json"
EXACT_BELOW = 1_000_000
"""Songs. The exact search of so many takes a quarter of a second of one thread, and their embeddings 3 GB."""
WANTED_RECALL = 0.99
RECALL_SONGS, RECALL_NEAREST = 200, 10
"""By how many songs recall is measured, and of how many nearest."""
_CANDIDATES = 20
"""For each song that is asked for, so many are compared by their whole embeddings."""
_MOST = 200
"""Songs: where more are asked for, all embeddings are compared, which is exact."""
_POINTS_A_CELL, _ITERATIONS = 40, 4
"""Of k-means. With fewer, cells are worse and more of them are looked through, which costs less than k-means does."""
_BLOCK = 65_536


@dataclass(frozen=True)
class Nearest:
    """A search structure over embeddings of unit length. embeddings [n, E], recall: where it is approximate; what it
    finds of the ten nearest."""

    index: "faiss.Index"
    embeddings: Floats | None = None
    recall: float | None = None

    @property
    def dimensions(self) -> int:
        """E."""
        return self.index.d

    @property
    def is_exact(self) -> bool:
        """Whether it finds what a product with every embedding finds."""
        return self.embeddings is None

    def search(self, query: Floats, k: int) -> list[tuple[int, float]]:
        """Places of the k nearest songs to an embedding [E], and their cosines, nearest first."""
        query = np.ascontiguousarray(query / max(float(np.linalg.norm(query)), 1e-12), np.float32)
        if self.embeddings is None:
            scores, places = self.index.search(query[None], k)
            return [(int(place), float(score)) for place, score in zip(places[0], scores[0], strict=True)]
        if k > _MOST:
            places = np.arange(len(self.embeddings))
        else:
            places = self.index.search(query[None], min(_CANDIDATES * k, len(self.embeddings)))[1][0]
            places = places[places >= 0]  # the cells that were looked through may hold fewer
        cosines = self.embeddings[places] @ query
        best = np.lexsort((places, -cosines))[:k]
        return [(int(places[place]), float(cosines[place])) for place in best]


def load_nearest(
    folder: Path,
    paths: Sequence[str],
    embeddings: Vectors,
    *,
    exact_below: int = EXACT_BELOW,
    must_keep: bool = False,
) -> Nearest:
    """The search structure of songs: from the folder where it is there, else made, and kept there.

    paths, embeddings [E]: of each song, in order. must_keep: raises MixstyleError or OSError where one that had to
    be made cannot be written.
    """
    state = _state_of(paths, embeddings, exact_below)
    found = _stored(folder, state, embeddings)
    if found is not None:
        return found
    made = _made(embeddings, exact_below)
    try:
        _keep(folder, made, state)
    except (MixstyleError, OSError, RuntimeError):
        if must_keep:
            raise
    return made


def is_whole(folder: Path, paths: Sequence[str], embeddings: Vectors, *, exact_below: int = EXACT_BELOW) -> bool:
    """Whether the search structure on the disk holds these embeddings."""
    if len(embeddings) < exact_below:
        return _read_exact(folder / NEAREST, embeddings) is not None
    return _stored(folder, _state_of(paths, embeddings, exact_below), embeddings) is not None


def _state_of(paths: Sequence[str], embeddings: Vectors, exact_below: int) -> dict[str, Any]:
    digest = hashlib.sha256()
    for path, embedding in zip(paths, embeddings, strict=True):
        digest.update(os.fsencode(path) + b"\0" + embedding.tobytes())
    version = VERSION if len(embeddings) < exact_below else APPROXIMATE_VERSION
    return {"version": version, "songs": len(embeddings), "sha256": digest.hexdigest()}


def _stored(folder: Path, state: dict[str, Any], embeddings: Vectors) -> Nearest | None:
    """The one on the disk; None where there is none of these songs, or one that is damaged."""
    try:
        stored = read_json(folder / STATE)
    except MixstyleError:
        return None
    if not isinstance(stored, dict) or any(stored.get(name) != value for name, value in state.items()):
        return None
    if state["version"] == VERSION:
        return _read_exact(folder / NEAREST, embeddings)
    return _read_approximate(folder / NEAREST, stored, embeddings)


def _read_exact(path: Path, embeddings: Vectors) -> Nearest | None:
    import faiss  # takes a while

    found = _read(path)
    if not isinstance(found, faiss.IndexFlatIP) or not _fits(found, embeddings):
        return None
    same = (np.array_equal(found.reconstruct_n(start, len(block)), block) for start, block in _blocks(embeddings))
    return Nearest(found) if all(same) else None


def _fits(found: "faiss.Index", embeddings: Vectors) -> bool:
    return (found.ntotal, found.d) == (len(embeddings), len(embeddings[0]))


def _blocks(embeddings: Vectors) -> Iterator[tuple[int, Floats]]:
    """Some embeddings at a time, with the place of the first: all at once take the memory of all of them once more."""
    for start in range(0, len(embeddings), _BLOCK):
        yield start, np.stack(embeddings[start : start + _BLOCK])


def _read_approximate(path: Path, stored: dict[str, Any], embeddings: Vectors) -> Nearest | None:
    """It holds 8 bits a number, which cannot be compared with the embeddings: its file is checked by its hash."""
    try:
        same = path.is_file() and sha256_file(path) == stored.get("file_sha256")
    except OSError:
        return None
    found = _read(path) if same else None
    if found is None or not _fits(found, embeddings):
        return None
    return Nearest(found, np.stack(embeddings), float(stored["recall"]))


def _read(path: Path) -> "faiss.Index | None":
    import faiss

    if not path.is_file():
        return None
    try:
        return faiss.read_index(str(path))
    except (RuntimeError, MemoryError):  # torn, or its sizes are damaged
        return None


def _made(vectors: Vectors, exact_below: int) -> Nearest:
    import faiss

    songs, dimensions = len(vectors), len(vectors[0])
    if songs < exact_below:
        flat = faiss.IndexFlatIP(dimensions)
        for _, block in _blocks(vectors):
            flat.add(block)
        return Nearest(flat)
    embeddings = np.stack(vectors)
    cells = 2 ** max(0, min(round(np.log2(2 * songs**0.5)), int(np.log2(max(songs / _POINTS_A_CELL, 1)))))
    made = faiss.index_factory(dimensions, f"IVF{cells},SQ8", faiss.METRIC_INNER_PRODUCT)
    index = cast("faiss.IndexIVFScalarQuantizer", made)
    index.cp.max_points_per_centroid, index.cp.niter = _POINTS_A_CELL, _ITERATIONS
    index.train(embeddings)
    for _, block in _blocks(vectors):
        index.add(block)
    recall, exact = 0.0, _exact_nearest(embeddings)
    for looked_through in (2**power for power in range(20)):
        index.nprobe = min(looked_through, cells)
        recall = _recall(Nearest(index, embeddings, recall), embeddings, exact)
        if recall >= WANTED_RECALL or index.nprobe == cells:
            break
    return Nearest(index, embeddings, recall)


def _recall(nearest: Nearest, embeddings: Floats, exact: dict[int, set[int]]) -> float:
    """The share of the songs' nearest that it finds."""
    found = 0
    for song, others in exact.items():
        places = [place for place, _ in nearest.search(embeddings[song], RECALL_NEAREST + 1) if place != song]
        found += len(others.intersection(places[:RECALL_NEAREST]))
    return found / sum(map(len, exact.values()))


def _exact_nearest(embeddings: Floats) -> dict[int, set[int]]:
    """The ten nearest of songs spread over all of them, by every product."""
    asked = np.unique(np.linspace(0, len(embeddings) - 1, RECALL_SONGS).round().astype(int))
    cosines = embeddings[asked] @ embeddings.T
    cosines[np.arange(len(asked)), asked] = -np.inf
    nearest = np.argpartition(-cosines, RECALL_NEAREST - 1, axis=1)[:, :RECALL_NEAREST]
    return {int(song): set(map(int, places)) for song, places in zip(asked, nearest, strict=True)}


def _keep(folder: Path, made: Nearest, state: dict[str, Any]) -> None:
    """Writes the search structure. By a file of Python's: faiss itself says nothing of a disk that is full."""
    import faiss

    (folder / STATE).unlink(missing_ok=True)
    with atomic_write(folder / NEAREST) as temporary:
        with temporary.open("wb") as file:
            writer = faiss.PyCallbackIOWriter(file.write)  # pyright: ignore[reportAttributeAccessIssue]
            faiss.write_index(made.index, writer)
        more = {} if made.is_exact else {"recall": made.recall, "file_sha256": sha256_file(temporary)}
    write_json(folder / STATE, state | more, checksum=True)
