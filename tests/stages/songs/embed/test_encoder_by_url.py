"""Songs are embedded by an encoder behind s3:// as by the same file, and told where it cannot be had."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from helpers.s3_server import BUCKET, reached, refusing, serving
from helpers.small_encoder import SONG_S, embedding_profile, write_encoder
from helpers.small_separator import write_songs

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.cli_songs import _to_embed
from mixstyle.stages.doctor.models import models_section
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.songs.embed.stage import embed
from mixstyle.stages.songs.index.stage import index
from mixstyle.stages.songs.index.status import index_status
from mixstyle.stages.songs.search.stage import search
from mixstyle.stages.verify import verify

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]
NAME = "models/encoder.safetensors"
URL = f"s3://{BUCKET}/{NAME}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("s3")) as address:
        yield address


def put(data: bytes) -> None:
    fsspec.filesystem("s3", skip_instance_cache=True).pipe_file(f"{BUCKET}/{NAME}", data)


def by_url(local: Settings, folder: Path) -> Settings:
    return dataclasses.replace(
        local,
        embed=dataclasses.replace(local.embed, encoder=Path(URL), index_dir=folder / "index"),
        train=dataclasses.replace(local.train, stems_cache_dir=folder / "cache"),
    )


def test_songs_are_embedded_as_by_the_file(server: str, tmp_path: Path) -> None:
    music = write_songs(tmp_path / "music", 2, seconds=SONG_S)
    local = embedding_profile(tmp_path, music)
    assert local.embed.encoder is not None
    put(local.embed.encoder.read_bytes())
    there = by_url(local, tmp_path / "there")
    embed(local, [music], tmp_path / "here.npy")
    embed(there, [music], tmp_path / "there.npy")
    assert (tmp_path / "there.npy").read_bytes() == (tmp_path / "here.npy").read_bytes()
    index(there, music)
    index(local, music)
    scores = [[match.score for match in search(one, music / "song 0.flac", 1)] for one in (local, there)]
    assert scores[0] == scores[1]
    assert index_status(there).state == "done"
    assert not verify(there).damages
    encoder = models_section(there).facts["encoder"]
    assert encoder["loads"] is True
    assert encoder["fingerprint"] == models_section(local).facts["encoder"]["fingerprint"]

    put(write_encoder(tmp_path / "other.safetensors", seed=1).read_bytes())
    assert index_status(there).state == "stale"
    with pytest.raises(MixstyleError) as caught:
        search(there, music / "song 0.flac", 1)
    assert caught.value.code == "stale"
    put(local.embed.encoder.read_bytes()[:-9])
    assert [str(damage.path) for damage in verify(there).damages] == [str(Path(URL))]
    with pytest.raises(MixstyleError) as caught:
        embed(there, [music], tmp_path / "damaged.npy")
    assert caught.value.code == "damaged-file"
    with refusing() as down, reached(down):
        with pytest.raises(MixstyleError) as caught:
            embed(there, [music], tmp_path / "none.npy")
        assert (caught.value.code, URL in caught.value.message) == ("remote", True)
        assert index_status(there).state == "cannot be read"
        with pytest.raises(MixstyleError) as caught:
            verify(there, repair=True)
        assert caught.value.code == "remote"
    assert not (tmp_path / "none.npy").exists()


def test_the_option_takes_a_url() -> None:
    assert _to_embed("demo", None, Path(URL), None).embed.encoder == Path(URL)
    assert _to_embed("demo", [f"embed.encoder={URL}"], None, None).embed.encoder == Path(URL)
