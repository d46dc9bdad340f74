"""`separate` on music in an object store: the same plan and the same clips as of a folder."""

import gzip
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from helpers.faulty_proxy import Faults, faulty
from helpers.s3_server import BUCKET, environment, reached, served
from helpers.small_separator import hashes, profile, write_songs

from mixstyle.cache.music import remote_music
from mixstyle.cache.music.content_hash import content_hash, duplicates
from mixstyle.cache.music.listing import list_tracks, with_spot_checks
from mixstyle.cache.music.remote_music import RemoteFile, on_this_machine
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.cache.storage import remote_store
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.separate.stage import dry_run, separate

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Songs in folders, a copy of one with another name, files that are hidden or no music, and a broken one."""
    folder = write_songs(tmp_path_factory.mktemp("songs") / "music", 4)
    (folder / "an album").mkdir()
    shutil.move(folder / "song 1.flac", folder / "an album" / "song 1.flac")
    shutil.copy(folder / "song 2.flac", folder / "an album" / "copy.flac")
    (folder / ".hidden.flac").write_bytes(b"x")
    (folder / "cover.jpg").write_bytes(b"x")
    (folder / "broken.mp3").write_bytes(bytes(5000))
    return folder


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory, music: Path) -> Iterator[str]:
    """The same files behind s3://, on a server on loopback."""
    with served(tmp_path_factory.mktemp("s3")) as address, reached(address):
        fs = fsspec.filesystem("s3", skip_instance_cache=True)
        for path in music.rglob("*"):
            if path.is_file():
                fs.pipe_file(f"{BUCKET}/music/{path.relative_to(music).as_posix()}", path.read_bytes())
        yield f"s3://{BUCKET}/music"


def without_source(text: bytes) -> dict[str, Any]:
    """A sidecar without what hangs on where the music is: the fingerprint, and the checksum over it."""
    return {k: v for k, v in json.loads(text).items() if k not in ("fingerprint", "content_sha256")}


@pytest.mark.slow
def test_a_bucket_is_listed_and_hashed_as_its_folder(s3: str, music: Path) -> None:
    here, there = list_tracks(music, "mixtures"), list_tracks(Path(s3), "mixtures")
    assert dict(there.sizes) == dict(here.sizes)
    assert len(here.sizes) == 6
    paths = sorted(here.sizes)
    assert with_spot_checks(there, paths, "mixtures").digest == with_spot_checks(here, paths, "mixtures").digest
    files = [RemoteFile(Path(s3) / path) for path in paths]
    assert [content_hash(file) for file in files] == [content_hash(music / path) for path in paths]
    (same,) = duplicates(files)
    assert set(same) == {RemoteFile(Path(s3) / path) for path in ("an album/copy.flac", "song 2.flac")}


@pytest.mark.slow
def test_a_bucket_of_music_gives_the_clips_of_a_folder(s3: str, music: Path, tmp_path: Path) -> None:
    local, remote = profile(tmp_path / "local", music), profile(tmp_path / "remote", Path(s3))
    separate(local)
    separate(remote)
    assert remote.separate.data_path == Path(s3)
    one, other = hashes(local.separate.stems_dir, ("*.tar",)), hashes(remote.separate.stems_dir, ("*.tar",))
    assert len(one) == 3
    assert one == other
    for name, text in hashes(local.separate.stems_dir, ("stems-*.json",)).items():
        assert without_source((remote.separate.stems_dir / name).read_bytes()) == without_source(text)
    plans = [gzip.decompress((s.separate.stems_dir / "plan.jsonl.gz").read_bytes()) for s in (local, remote)]
    assert plans[0].partition(b"\n")[2] == plans[1].partition(b"\n")[2]
    assert json.loads(plans[1].partition(b"\n")[0])["root"] == s3
    assert StemCache(remote.separate.stems_dir).settings["data_path"] == s3
    failures = [(s.separate.stems_dir / "failures.csv").read_bytes() for s in (local, remote)]
    assert failures[0] == failures[1]
    assert b"broken.mp3" in failures[0]
    assert dry_run(remote).tracks == 6


@pytest.mark.slow
def test_a_server_that_does_not_answer_stops_the_run_and_fails_no_track(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_store, "WAIT_S", 0.0)
    with on_this_machine({"": Path(s3) / "nothing.flac"}) as files:  # not there: told by the decoder, as on a disk
        assert not files[""].exists()

    with faulty(os.environ["AWS_ENDPOINT_URL"], Faults(0, 1.0, ["no request"])) as nobody:
        for name, value in environment(nobody).items():
            monkeypatch.setenv(name, value)
        remote_music._store.cache_clear()
        with pytest.raises(MixstyleError) as caught, on_this_machine({"": Path(s3) / "song 0.flac"}):
            pass
        assert (caught.value.code, "song 0.flac" in str(caught.value)) == ("remote", True)
    remote_music._store.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "code"),
    [("s3://mixes/nothing", "no-music"), ("nosuch://music", "bad-setting"), ("s3://mixes/a.csv", "bad-list")],
)
def test_a_url_without_music_is_told_in_a_line(s3: str, path: str, code: str) -> None:
    with pytest.raises(MixstyleError) as caught:
        list_tracks(Path(path), "mixtures")
    assert (caught.value.code, path in str(caught.value), "\n" in str(caught.value)) == (code, True, False)


@pytest.mark.slow
def test_missing_credentials_are_told_in_a_line(s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with pytest.raises(MixstyleError) as caught:
        list_tracks(Path(s3), "mixtures")
    assert (caught.value.code, caught.value.remedy) == ("remote", ("doctor",))
    assert "AWS_ACCESS_KEY_ID" in str(caught.value)
