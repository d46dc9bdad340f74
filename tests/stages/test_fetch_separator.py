"""A separator from a server on loopback: checked before it has its name, and then the settings that it prints work."""

import hashlib
from collections.abc import Iterator
from inspect import signature
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import pytest
import torch
import yaml
from helpers.file_server import Served, serve
from helpers.small_separator import write_separator
from safetensors.torch import load_file

from mixstyle.cache.storage import download as downloads
from mixstyle.cache.storage.locks import locked
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.separation.separator import load_separator
from mixstyle.stages.common.public_separator import PUBLIC
from mixstyle.stages.fetch_separator import FOLDER, fetch_separator
from mixstyle.stages.settings.profile import load_settings


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(downloads, "WAIT_S", 0.001)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_separator(tmp_path / "published")[0]


@pytest.fixture
def server(config: Path) -> Iterator[Served]:
    with serve(Served((config.parent / "separator.safetensors").read_bytes())) as served:
        yield served


def refused(code: str, *arguments: object) -> str:
    with pytest.raises(MixstyleError) as caught:
        fetch_separator(*arguments)  # type: ignore[arg-type]
    assert caught.value.code == code, str(caught.value)
    return str(caught.value)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock") if folder.exists() else []


def test_it_is_fetched_and_what_is_printed_works(
    server: Served, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sha256 = hashlib.sha256(server.data).hexdigest()
    found = fetch_separator(server.url, sha256.upper(), config=str(config))
    assert found.checkpoint == Path("Music-Source-Separation-Training/model.safetensors")
    assert found.checkpoint.read_bytes() == server.data
    assert (found.sha256, found.size_bytes) == (sha256, len(server.data))
    assert left(found.checkpoint.parent) == ["model.safetensors"]
    told = capsys.readouterr().out
    assert sha256 in told
    assert str(len(server.data)) in told
    lines = told.splitlines()
    first = lines.index("separate:")
    (tmp_path / "profile.yaml").write_text("\n".join(lines[first : first + 3]))
    chosen = load_settings("profile.yaml").separate
    separator = load_separator(chosen.separator_config, chosen.separator_checkpoint)
    assert separator.weights == load_separator(config, config.parent / "separator.safetensors").weights
    # again: nothing is downloaded, all is checked
    assert fetch_separator(server.url, config=str(config)) == found
    assert len(server.asked) == 1
    assert "SHA-256" in refused("misfit", server.url, "0" * 64, None, str(config))
    assert found.checkpoint.read_bytes() == server.data


def test_a_wrong_hash_leaves_nothing(server: Served, config: Path, tmp_path: Path) -> None:
    output = tmp_path / "here" / "s.safetensors"
    told = refused("misfit", server.url, "0" * 64, output, str(config))
    assert hashlib.sha256(server.data).hexdigest() in told
    assert left(output.parent) == []


def test_a_cut_download_is_gone_on_with_and_has_no_name_before(
    server: Served, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "TRIES", 1)
    output = tmp_path / "here" / "s.safetensors"
    server.cuts = [5_000]
    refused("remote", server.url, "", output, str(config))
    assert not output.exists()
    fetch_separator(server.url, output=output, config=str(config))
    assert server.asked[1]["Range"] == "bytes=5000-"
    assert output.read_bytes() == server.data
    assert left(output.parent) == [output.name]


def test_another_network_is_refused_and_not_brought_twice(server: Served, config: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(config.read_text())
    content["model"]["dims"] = [4, 8, 8]
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump(content))
    output = tmp_path / "here" / "s.safetensors"
    told = refused("misfit", server.url, "", output, str(other))
    assert "other.yaml" in told
    assert "partial" not in told.partition(";")[0]
    assert not output.exists()
    assert fetch_separator(server.url, output=output, config=str(config)).checkpoint == output
    assert len(server.asked) == 1


class Code:
    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (Path("was run"),)


@pytest.mark.parametrize(("content", "code"), [(Code(), "damaged-file"), ({"epoch": 3}, "wrong-file"), (b"", "")])
def test_what_is_no_checkpoint_is_refused_and_runs_nothing(
    content: object, code: str, config: Path, tmp_path: Path
) -> None:
    if content == b"":
        (tmp_path / "s.ckpt").write_bytes(b"<html>no such page</html>")
    else:
        torch.save({"state": content}, tmp_path / "s.ckpt")
    output = tmp_path / "here" / "s.ckpt"
    with serve(Served((tmp_path / "s.ckpt").read_bytes())) as served:
        told = refused(code or "damaged-file", served.url, "", output, str(config))
    assert str(output) in told
    assert left(output.parent) == []
    assert not (tmp_path / "was run").exists()


def test_a_pickled_checkpoint_is_taken(config: Path, tmp_path: Path) -> None:
    state = load_file(config.parent / "separator.safetensors")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "s.ckpt")
    with serve(Served((tmp_path / "s.ckpt").read_bytes(), sized=False)) as served:
        found = fetch_separator(served.url, output=tmp_path / "here" / "s.ckpt", config=str(config))
    assert found.checkpoint.read_bytes() == (tmp_path / "s.ckpt").read_bytes()


def test_wrong_options_are_told_before_anything_is_asked_for(server: Served, config: Path, tmp_path: Path) -> None:
    refused("bad-option", "model.ckpt")
    refused("bad-option", server.url, "12")
    refused("bad-option", server.url, "g" * 64)
    refused("bad-option", server.url.replace(".safetensors", ""))
    refused("bad-option", server.url, "", tmp_path / "x.zip", str(config))
    refused("not-found", server.url, "", None, "nowhere.yaml")
    (tmp_path / "profile.yaml").write_text("separate: {clip_s: 2}\n")
    refused("wrong-file", server.url, "", None, "profile.yaml")
    assert server.asked == []
    server.statuses = [404]
    refused("not-found", server.url, "", None, str(config))


def test_the_command_that_notes_tell_fetches_what_the_fma_profile_takes() -> None:
    fma = load_settings("fma").separate
    assert (FOLDER / PurePosixPath(urlsplit(PUBLIC).path).name) == fma.separator_checkpoint
    assert signature(fetch_separator).parameters["config"].default == "fma"


def test_the_yaml_that_a_profile_of_ones_own_names_is_taken(server: Served, config: Path, tmp_path: Path) -> None:
    """Commands that messages tell to run carry the profile."""
    (tmp_path / "my profile.yaml").write_text(f"separate: {{separator_config: {config}}}\n")
    assert fetch_separator(server.url, config=str(tmp_path / "my profile.yaml")).config == config


def test_the_yaml_of_a_profile_is_taken(server: Served) -> None:
    """That of fma, which describes a larger network."""
    assert "config_musdb18_scnet_xl_ihf.yaml" in refused("misfit", server.url)


def test_two_at_once_are_kept_apart(server: Served, config: Path, tmp_path: Path) -> None:
    with locked(tmp_path / "here", "mixstyle fetch-separator"):
        refused("in-use", server.url, "", tmp_path / "here" / "s.safetensors", str(config))
    assert server.asked == []
