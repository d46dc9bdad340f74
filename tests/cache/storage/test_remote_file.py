"""A file behind s3:// on a real server: the copy is the object as it is now, or an error says why there is none."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest
import torch
from helpers.faulty_proxy import Faults, faulty
from helpers.s3_server import BUCKET, objects, reached, refusing, serving
from helpers.small_encoder import write_encoder

import mixstyle
from mixstyle.cache.storage.remote_file import fetched_file
from mixstyle.cache.storage.remote_folder import RemoteFolder, by_url
from mixstyle.pipeline.core.errors import MixstyleError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("s3")) as address:
        yield address


def put(name: str, data: bytes) -> str:
    fsspec.filesystem("s3", skip_instance_cache=True).pipe_file(f"{BUCKET}/{name}", data)
    return f"s3://{BUCKET}/{name}"


def refused(location: str, cache_dir: Path) -> MixstyleError:
    with pytest.raises(MixstyleError) as caught:
        fetched_file(location, cache_dir)
    return caught.value


def test_a_copy_is_of_the_object_as_it_is_now(server: str, tmp_path: Path) -> None:
    url = put("files/encoder.safetensors", b"first")
    copy = fetched_file(url, tmp_path)
    assert (copy.name, copy.read_bytes(), by_url(str(copy))) == ("encoder.safetensors", b"first", url)
    os.utime(copy, (1, 1))
    assert fetched_file(Path(url), tmp_path).stat().st_mtime == 1, "what has not changed is not copied again"
    put("files/encoder.safetensors", b"other")
    assert fetched_file(url, tmp_path).read_bytes() == b"other"
    copy.write_bytes(b"0ther")  # of the same length
    assert fetched_file(url, tmp_path).read_bytes() == b"other"
    assert sorted(path.name for path in copy.parent.iterdir()) == [".encoder.safetensors.known.json", copy.name]


def test_what_lies_beside_it_comes_and_goes_with_it(server: str, tmp_path: Path) -> None:
    url, other = put("beside/best_model.pt", b"weights"), put("beside/loss.csv", b"step\n")
    copy = fetched_file(url, tmp_path, "loss.csv", "none.csv")
    assert (copy.parent / "loss.csv").read_bytes() == b"step\n"
    assert not (copy.parent / "none.csv").exists()
    fsspec.filesystem("s3", skip_instance_cache=True).rm_file(other)
    fetched_file(url, tmp_path, "loss.csv")
    assert not (copy.parent / "loss.csv").exists()


def test_a_file_of_a_kept_folder_has_the_name_that_it_has_there(server: str, tmp_path: Path) -> None:
    url, made = f"s3://{BUCKET}/run", tmp_path / "made"
    folder = RemoteFolder(url, made)
    folder.fetch()
    for name in ("best_model.pt", "latest.pt", "loss.csv"):
        (made / name).write_bytes(f"this is {name}".encode())
    folder.send()
    copy = fetched_file(f"{url}/best_model.pt", tmp_path / "cache", "loss.csv")
    assert copy.read_bytes() == b"this is best_model.pt"
    assert sorted(path.name for path in copy.parent.iterdir()) == ["best_model.pt", "loss.csv"]
    assert refused(f"{url}/final_model.pt", tmp_path / "cache").code == "not-found"
    name = next(name for name in objects("run") if name.startswith("best_model."))
    put(f"run/{name}", b"this is bEst_model.pt")
    error = refused(f"{url}/best_model.pt", tmp_path / "other")
    assert (error.code, f"{url}/best_model.pt" in error.message) == ("damaged-file", True)


def test_what_cannot_be_had_is_refused_by_its_url(server: str, tmp_path: Path) -> None:
    url = put("gone/encoder.safetensors", b"weights")
    fetched_file(url, tmp_path)
    error = refused(f"s3://{BUCKET}/gone/other.safetensors", tmp_path)
    assert (error.code, "gone/other.safetensors" in error.message) == ("not-found", True)
    assert refused("s3://no-such-bucket/encoder.safetensors", tmp_path).code == "not-found"
    assert refused(f"s3://{BUCKET}", tmp_path).code == "bad-setting"
    with refusing() as down, reached(down):
        error = refused(url, tmp_path)  # although there is a copy
    assert (error.code, error.message.startswith(f"{url}: "), "\n" in error.message) == ("remote", True, False)


def test_through_a_faulty_proxy_it_is_whole_or_refused(
    server: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    data = bytes(range(256)) * 4000
    url = put("faulty/encoder.safetensors", data)
    whole, met = 0, 0
    for seed in range(10):
        faults = Faults(seed, 0.4)
        with faulty(server, faults) as proxy, reached(proxy):
            try:
                found = fetched_file(url, tmp_path / str(seed)).read_bytes()
            except MixstyleError as error:
                if error.code != "remote":
                    raise
                continue
            finally:
                met += sum(count for fault, count in faults.met.items() if fault)
            assert found == data
            whole += 1
    record_property("tried", met)
    assert whole >= 5, "each request is tried five times"
    assert met > 10


def test_an_encoder_is_loaded_by_its_url(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    file = write_encoder(tmp_path / "encoder.safetensors")
    url = put("api/encoder.safetensors", file.read_bytes())
    here, there = mixstyle.load_encoder(file), mixstyle.load_encoder(url)
    for name, value in here.encoder.state_dict().items():
        assert torch.equal(there.encoder.state_dict()[name], value), name
    put("api/encoder.safetensors", file.read_bytes()[:-9])
    with pytest.raises(MixstyleError) as caught:
        mixstyle.load(url)
    assert (caught.value.code, url in caught.value.message) == ("damaged-file", True)
