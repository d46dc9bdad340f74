"""What holds for all tests: each of pytest's worker processes computes with its share of the cores, long files come
first, and no test module sees what an earlier one, or a user of this machine, measured to be the fastest batch."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mixstyle.stages.settings.profile import Settings
    from mixstyle.stages.songs.browse.server import Server


def _threads_of_a_worker() -> int:
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // workers)


if sys.dont_write_bytecode:
    # Many containers set PYTHONDONTWRITEBYTECODE. Then each process that a test starts would compile torch from its
    # source, which takes 6 s; so bytecode goes to pytest's own folder, for pytest's workers and their processes.
    sys.pycache_prefix = str(Path(__file__).parents[1] / ".pytest_cache" / "bytecode")
    sys.dont_write_bytecode = False
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
    del os.environ["PYTHONDONTWRITEBYTECODE"]

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is imported, here and in the processes that tests start: threads that outnumber the cores wait for
    # each other at every parallel region.
    os.environ.setdefault("OMP_NUM_THREADS", str(_threads_of_a_worker()))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first: whole files go to a worker each, and the last ones should end together.

    pytest-xdist's own order, by the number of a file's tests, is the reverse: whole commands have few tests.
    """

    def place(item: pytest.Item) -> int:
        folder = item.path.relative_to(_TESTS).parts[0] if item.path.is_relative_to(_TESTS) else ""
        return _ORDER.index(folder) if folder in _ORDER else 0

    items.sort(key=place)  # stable: within a folder as collected


_TESTS = Path(__file__).parent
_ORDER = ("stages", "docs", "api", "cache", "pipeline")
"""Folders of tests, from that of the longest files on; what is not in one of these is long too."""


@pytest.fixture(scope="module", autouse=True)
def _tunings_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Other batches move the last bits of stems: a tuning that stays would make tests depend on their order."""
    if "torch" not in sys.modules:  # nothing is separated here, and the import takes seconds
        yield
        return
    from mixstyle.cache.storage import tuning_cache
    from mixstyle.cache.storage.user_cache import user_cache

    own, elsewhere = tmp_path_factory.mktemp("tunings"), tuning_cache.tunings_folder
    models = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning_cache, "tunings_folder", lambda: elsewhere() if os.environ.get("XDG_CACHE_HOME") else own)
        patch.setattr(
            "mixstyle.cache.models.model_facts.user_cache",
            lambda name: user_cache(name) if os.environ.get("XDG_CACHE_HOME") else models,
        )
        yield


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Threads on a busy machine wait for each other longer than they work on tensors as small as the tests'.

    For a whole module: `pytestmark = pytest.mark.usefixtures("one_thread")`.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def page_settings(tmp_path_factory: pytest.TempPathFactory) -> "Settings":
    """An index of six songs, for the tests of the page."""
    from helpers.small_encoder import embedding_profile
    from helpers.small_separator import write_songs

    from mixstyle.stages.songs.index.stage import index

    folder = tmp_path_factory.mktemp("browse")
    chosen = embedding_profile(folder, write_songs(folder / "music", 6))
    (folder / "music" / "secret.txt").write_text("not for the page")
    index(chosen, folder / "music")
    return chosen


@pytest.fixture(scope="module")
def page_server(page_settings: "Settings") -> "Iterator[Server]":
    """The page of that index, served."""
    from mixstyle.stages.songs.browse.server import Server

    with Server(page_settings, port=0) as running:
        yield running
