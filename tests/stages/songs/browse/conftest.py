"""An index of six songs and its server, for the tests of the page."""

from collections.abc import Iterator

import pytest
from helpers.small_encoder import embedding_profile
from helpers.small_separator import write_songs

from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.songs.browse.server import Server
from mixstyle.stages.songs.index import index

SONGS = 6


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("browse")
    chosen = embedding_profile(folder, write_songs(folder / "music", SONGS))
    (folder / "music" / "secret.txt").write_text("not for the page")
    index(chosen, folder / "music")
    return chosen


@pytest.fixture(scope="module")
def server(settings: Settings) -> Iterator[Server]:
    with Server(settings, port=0) as running:
        yield running
