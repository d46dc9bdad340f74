"""What comes with mixstyle: found from anywhere, whole, and saying what it is."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.small_separator import song

import mixstyle
from mixstyle.cache.models.exports import load_export
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.common import assets
from mixstyle.stages.common.assets import (
    FIRST_SEPARATOR,
    SEPARATOR,
    SEPARATOR_CONFIG,
    check_shipped,
    is_shipped,
    shipped,
    shipped_encoder,
)
from mixstyle.stages.common.separators import configured_separator
from mixstyle.stages.settings.profile import load_settings
from mixstyle.stages.settings.separate import SeparateSettings


def test_it_is_found_outside_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings("cpu").profile == "cpu"
    with pytest.raises(MixstyleError) as caught:
        load_settings("nosuch")
    assert all(profile in str(caught.value) for profile in ("cpu", "demo", "fma"))
    for path in (SEPARATOR, SEPARATOR_CONFIG):
        assert shipped(path).is_file()
    with mixstyle.load(device="cpu") as model:
        found = model.song(torch.from_numpy(song(1, 4.0).T.copy()))
    assert found.embedding.shape == (768,)
    # 768 float32 squares: each product and sum is off by up to 2^-24 of 1, at random sqrt(768) 2^-24 = 1.7e-6
    assert found.embedding.norm().item() == pytest.approx(1, abs=2e-6)


def refused(load: Callable[[], object], path: Path) -> str:
    with pytest.raises(MixstyleError) as caught:
        load()
    assert str(caught.value).startswith(f"{path}: ")
    return caught.value.code


@pytest.mark.parametrize("separator", [SEPARATOR, FIRST_SEPARATOR])
def test_a_shipped_separator_whose_bytes_have_changed_is_told_as_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, separator: Path
) -> None:
    data = shipped(separator).read_bytes()
    config = shipped(SEPARATOR_CONFIG).resolve()
    check_shipped(separator)
    monkeypatch.chdir(tmp_path)
    separator.parent.mkdir()
    for place in (9, 400, len(data) // 2, len(data) - 1):  # in its header, and in its weights
        separator.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        for path in (separator, tmp_path / separator):
            chosen = SeparateSettings(separator_config=config, separator_checkpoint=path)
            assert is_shipped(path)
            for load in (
                lambda chosen=chosen: configured_separator(chosen, torch.device("cpu")),
                lambda path=path: mixstyle.load(device="cpu", separator=(config, path)),
                lambda path=path: mixstyle.load_separator(config, path),
            ):
                assert refused(load, path) == "damaged-file"
    # a file of the user's own, whatever its name
    mine = tmp_path / "mine" / separator.name
    mine.parent.mkdir()
    mine.write_bytes(b"")
    check_shipped(mine)
    assert not is_shipped(mine)


def test_a_shipped_separator_is_one_where_it_is_installed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {}
    for path in (SEPARATOR, SEPARATOR_CONFIG):
        installed[path] = tmp_path / "mixstyle" / "separators" / Path(*path.parts[1:])
        installed[path].parent.mkdir(parents=True, exist_ok=True)
        installed[path].write_bytes(shipped(path).read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(assets, "files", lambda package: tmp_path / package)
    for path, place in installed.items():
        for name in (path, place):
            assert is_shipped(name)
            check_shipped(name)
        place.write_bytes(place.read_bytes()[:-1])
        for name in (path, place):
            assert refused(lambda name=name: check_shipped(name), place) == "damaged-file"


def test_the_shipped_yaml_is_compared_but_for_its_line_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, weights = shipped(SEPARATOR_CONFIG).read_bytes(), shipped(SEPARATOR).resolve()
    check_shipped(SEPARATOR_CONFIG)
    monkeypatch.chdir(tmp_path)
    SEPARATOR_CONFIG.parent.mkdir(parents=True)
    SEPARATOR_CONFIG.write_bytes(text.replace(b"\n", b"\r\n"))
    check_shipped(SEPARATOR_CONFIG)
    changed = text.replace(b"num_overlap: 2", b"num_overlap: 4")
    assert changed != text
    SEPARATOR_CONFIG.write_bytes(changed)
    chosen = SeparateSettings(separator_config=SEPARATOR_CONFIG, separator_checkpoint=weights)
    for load in (
        lambda: configured_separator(chosen, torch.device("cpu")),
        lambda: mixstyle.load_separator(SEPARATOR_CONFIG, weights),
    ):
        assert refused(load, SEPARATOR_CONFIG) == "damaged-file"
    # a user's own, in a folder of theirs
    (tmp_path / "mine.yaml").write_bytes(changed)
    assert mixstyle.load_separator(tmp_path / "mine.yaml", weights).file.num_overlap == 4


def test_the_encoder_says_what_it_is() -> None:
    path = shipped_encoder()
    assert path.stat().st_size <= 12_000_000
    loaded = load_export(path)
    for title in ("## Training", "## What it reached", "## Data", "## Limits"):
        assert title in loaded.content["card"]
    assert len(loaded.content["trained_on"]) >= 60
    values = [value for section in loaded.settings.values() if isinstance(section, dict) for value in section.values()]
    assert len(values) > 50
    assert not [value for value in values if isinstance(value, str) and value.startswith("/")], "paths of a machine"


def test_its_separator_is_the_shipped_one() -> None:
    model = mixstyle.load(device="cpu")
    card = load_export(shipped_encoder()).content["card"]
    assert f"separator {SEPARATOR.name}" in card
    assert model.separator.description.startswith("SCNet")
