"""Fuzz of what is stored and of settings: damaged in any way, or of odd content with whole checksums, each file is read
or refused in a line."""

import gzip
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from helpers.fuzz import CASES, Edit, case, changed, damaged, drawn, edits, fuzzed, grown_bytes, values
from helpers.paths import ROOT
from helpers.small_separator import write_separator
from helpers.stored_kinds import (
    Stored,
    export,
    manifest,
    mels,
    nearest,
    part,
    settings,
    shard,
    sidecar,
    without_checksums,
)
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from mixstyle.cache.match_chain import MatchChain, read_chain, write_chain
from mixstyle.cache.models.checkpoints import build_encoder, describe_encoder, load_checkpoint, save_checkpoint
from mixstyle.cache.models.exports import load_encoder
from mixstyle.cache.song_index.index import SongIndex
from mixstyle.cache.song_index.nearest import STATE
from mixstyle.cache.storage import tuning_cache
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.matching.desk import Filter, Strip
from mixstyle.pipeline.separation.separator_checkpoint import read_separator_config, read_state_dict
from mixstyle.pipeline.separation.tuning import Tuning
from mixstyle.stages.demo_songs.listing import read_listing
from mixstyle.stages.evaluate.embeddings import missing_rows, read_embeddings
from mixstyle.stages.evaluate.models import MfccRow
from mixstyle.stages.evaluate.tasks.metrics import MFCC
from mixstyle.stages.evaluate.tasks.task import Part
from mixstyle.stages.settings.base import fields_of
from mixstyle.stages.settings.evaluate import EvaluateSettings
from mixstyle.stages.settings.profile import SECTIONS, load_settings

Tried = Callable[[str, object], None]


def without_none(section: Any) -> Any:
    return {key: value for key, value in section.items() if value is not None} if isinstance(section, dict) else section


def profile(folder: Path) -> Stored:
    path = folder / "profile.yaml"
    path.write_bytes((ROOT / "configs" / "demo.yaml").read_bytes())
    return Stored(path, lambda: load_settings(path))


def songs(folder: Path) -> Stored:
    path = folder / "songs.json"
    path.write_text(json.dumps({"format": 1, "settings": {"seed": 1}, "songs": [{"index": 0, "files": {"a": "b"}}]}))
    return Stored(path, lambda: read_listing(folder))


def checkpoint(folder: Path) -> Stored:
    path = folder / "latest.pt"
    loaded = load_encoder(export(folder).path)
    rest = {"settings": {}, "step": 1, "epoch": 1}
    save_checkpoint(path, {**describe_encoder(loaded.encoder, loaded.mel), **rest})
    return Stored(path, lambda: build_encoder(path, load_checkpoint(path), "cpu"))


def separator_yaml(folder: Path) -> Stored:
    path, _ = write_separator(folder)
    return Stored(path, lambda: read_separator_config(path))


def separator_weights(folder: Path) -> Stored:
    _, path = write_separator(folder)
    return Stored(path, lambda: read_state_dict(path))


def separator_pickle(folder: Path) -> Stored:
    path = folder / "separator.ckpt"
    torch.save({"state": {"a.weight": torch.ones(3)}, "best_state": {"b": torch.ones(2)}}, path)
    return Stored(path, lambda: read_state_dict(path))


def chain(folder: Path) -> Stored:
    path = folder / "chain.json"
    strip = Strip((Filter("bell", 1000.0, 3.0, 1.0),), pan_percent=10.0, side_db=(0.0, 1.0, 2.0))
    write_chain(path, MatchChain((strip, Strip(), Strip(), Strip()), 1.5, -14.0, ("a note",), mix=strip))
    return Stored(path, lambda: read_chain(path))


def nearest_state(folder: Path) -> Stored:
    """What the search structure was made of: it is made again from the songs, whatever stands here."""
    expected = nearest(folder).read()

    def read() -> None:
        assert repr(SongIndex(folder).search(SongIndex(folder).usable[2].embedding, 6)) == expected

    return Stored(folder / STATE, read)


def embeddings(folder: Path) -> Stored:
    path = folder / "same_chain_1.npz"
    rows: dict[str, Any] = {MFCC: np.ones((3, 4), np.float32), "whitened": np.zeros((3, 2), np.float32)}
    np.savez(path, **rows)
    return Stored(path, lambda: read_embeddings(path))


BYTES = [
    *(nearest_state, embeddings),
    *(profile, sidecar, settings, manifest, songs, part, nearest, shard, mels),
    *(checkpoint, export, separator_yaml, separator_weights, separator_pickle, chain),
]


@pytest.mark.parametrize("make", BYTES, ids=lambda make: make.__name__)
def test_damaged_bytes_are_read_or_refused_in_a_line(
    make: Callable[[Path], Stored], tmp_path: Path, record_property: Tried
) -> None:
    stored, tried = make(tmp_path), 0
    stored.read()
    whole = stored.path.read_bytes()

    @fuzzed(25)
    @given(edits())
    def one(done: list[Edit]) -> None:
        nonlocal tried
        tried += 1
        stored.path.write_bytes(damaged(whole, done))
        with case():
            stored.read()

    one()
    record_property("tried", tried)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/statm")
def test_damaged_files_leave_no_memory_in_use(tmp_path: Path, record_property: Tried) -> None:
    kinds = [profile, sidecar, settings, manifest, songs, part, shard, checkpoint, export, chain]
    kinds += [separator_yaml, separator_weights, separator_pickle]
    made = []
    for make in kinds:
        folder = tmp_path / make.__name__
        folder.mkdir()
        stored = make(folder)
        stored.read()
        made.append((stored, stored.path.read_bytes()))

    def one(number: int) -> None:
        stored, whole = made[number % len(made)]
        stored.path.write_bytes(damaged(whole, drawn(number)))
        with case():
            stored.read()

    cases = max(900, CASES)
    # 600 cases of files of 1 to 300 kB: what kept one in ten of those of 50 kB and more would be seen
    assert grown_bytes(one, cases // 3, cases) < 10e6
    record_property("tried", cases)


@pytest.mark.parametrize("junk", [b"", b"junk", b"[]", b"\x93NUMPY", b"\xff" * 64], ids=range(5))
def test_junk_in_what_follows_from_the_rest_is_told_or_made_again(tmp_path: Path, junk: bytes) -> None:
    state = nearest_state(tmp_path)
    state.path.write_bytes(junk)
    state.read()
    kept = embeddings(tmp_path)
    options, part, row = EvaluateSettings(evaluate_dir=tmp_path), Part(kept.path.stem, (0, 1, 2), tuple), MfccRow()
    assert missing_rows(options, part, [row]) == []
    kept.path.write_bytes(junk)
    assert missing_rows(options, part, [row]) == [row], "it is embedded again"
    kept.path.write_bytes(junk)
    with pytest.raises(MixstyleError) as caught:
        kept.read()
    assert caught.value.code == "damaged-file"
    np.save(kept.path.with_suffix(".npy"), np.ones(3))
    kept.path.with_suffix(".npy").rename(kept.path)  # an array alone, under the name of several
    with pytest.raises(MixstyleError) as caught:
        kept.read()
    assert caught.value.code == "damaged-file"


@pytest.mark.parametrize("make", [sidecar, settings, songs, chain], ids=lambda make: make.__name__)
def test_json_of_odd_content_is_read_or_refused_in_a_line(
    make: Callable[[Path], Stored], tmp_path: Path, record_property: Tried
) -> None:
    stored, tried = make(tmp_path), 0
    without_checksums(stored.path)
    stored.read()
    whole = json.loads(stored.path.read_text())

    @fuzzed(60)
    @given(st.integers(0, 10_000), values(), st.booleans())
    def one(place: int, value: Any, away: bool) -> None:
        nonlocal tried
        tried += 1
        stored.path.write_text(json.dumps(changed(whole, place, value, away)))
        with case():
            stored.read()

    one()
    record_property("tried", tried)


def test_a_manifest_of_odd_content_is_read_or_refused_in_a_line(tmp_path: Path, record_property: Tried) -> None:
    stored, tried = manifest(tmp_path), 0
    lines = [json.loads(line) for line in gzip.decompress(stored.path.read_bytes()).splitlines()]

    @fuzzed(60)
    @given(st.integers(0, 10_000), values(), st.booleans())
    def one(place: int, value: Any, away: bool) -> None:
        nonlocal tried
        tried += 1
        odd = changed(lines, place, value, away)
        text = "\n".join(map(json.dumps, odd if isinstance(odd, list) else [odd]))
        stored.path.write_bytes(gzip.compress(text.encode(), 1))
        with case():
            stored.read()

    one()
    record_property("tried", tried)


@pytest.mark.parametrize("make", [profile, separator_yaml], ids=lambda make: make.__name__)
def test_yaml_of_odd_content_is_read_or_refused_in_a_line(
    make: Callable[[Path], Stored], tmp_path: Path, record_property: Tried
) -> None:
    stored, tried = make(tmp_path), 0
    if make is profile:
        load = {name: dict.fromkeys(fields_of(cls)) for name, cls in SECTIONS.items()}
    else:
        load = yaml.safe_load(stored.path.read_text())

    @fuzzed(100)
    @given(st.integers(0, 10_000), values(), st.booleans())
    def one(place: int, value: Any, away: bool) -> None:
        nonlocal tried
        tried += 1
        odd = changed(load, place, value, away)
        if make is profile and isinstance(odd, dict):  # the one setting alone: the others are as they are by default
            odd = {name: without_none(part) for name, part in odd.items() if part != load.get(name)}
        stored.path.write_text(yaml.safe_dump(odd, allow_unicode=True), encoding="utf-8")
        with case():
            stored.read()

    one()
    record_property("tried", tried)


def test_a_checkpoint_with_other_instructions_is_read_or_refused_in_a_line(
    tmp_path: Path, record_property: Tried
) -> None:
    """Its checksums are those of the damaged part, so that torch's reader sees it."""
    stored, tried = checkpoint(tmp_path), 0
    with zipfile.ZipFile(stored.path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    (pickled,) = (name for name in parts if name.endswith("data.pkl"))

    @fuzzed(40)
    @given(edits())
    def one(done: list[Edit]) -> None:
        nonlocal tried
        tried += 1
        with zipfile.ZipFile(stored.path, "w") as archive:
            for name, data in parts.items():
                archive.writestr(name, damaged(data, done) if name == pickled else data)
        with case():
            stored.read()

    one()
    record_property("tried", tried)


@pytest.mark.parametrize("read", [load_checkpoint, read_state_dict], ids=lambda read: read.__name__)
def test_a_checkpoint_whose_instructions_break_off_is_refused_in_a_line(
    tmp_path: Path, read: Callable[[Path], object], record_property: Tried
) -> None:
    stored = checkpoint(tmp_path)
    with zipfile.ZipFile(stored.path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    (pickled,) = (name for name in parts if name.endswith("data.pkl"))
    lengths = range(0, 400, 3)
    for length in lengths:
        with zipfile.ZipFile(stored.path, "w") as archive:
            for name, data in parts.items():
                archive.writestr(name, data[:length] if name == pickled else data)
        with pytest.raises(MixstyleError) as caught:
            read(stored.path)
        assert caught.value.code == "damaged-file", length
    record_property("tried", len(lengths))


def test_an_encoder_of_odd_content_is_read_or_refused_in_a_line(tmp_path: Path, record_property: Tried) -> None:
    stored, tried = export(tmp_path), 0
    with safe_open(stored.path, "pt") as file:
        content = json.loads(file.metadata()["mixstyle"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a file, not a dict)
    del content["sha256"]  # as versions before wrote it

    @fuzzed(40)
    @given(st.integers(0, 10_000), values(), st.booleans())
    def one(place: int, value: Any, away: bool) -> None:
        nonlocal tried
        tried += 1
        save_file(tensors, stored.path, {"mixstyle": json.dumps(changed(content, place, value, away))})
        with case():
            stored.read()

    one()
    record_property("tried", tried)


def test_odd_measured_batches_are_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Tried
) -> None:
    monkeypatch.setattr(tuning_cache, "tunings_folder", lambda: tmp_path)
    case_of, tried = {"device": "cpu"}, 0
    kept = tuning_cache.store_tuning(case_of, Tuning(1, 2, {"1x1": 0.5}))
    assert kept is not None
    whole = json.loads(kept.read_text())

    @fuzzed(60)
    @given(st.integers(0, 10_000), values(), st.booleans())
    def one(place: int, value: Any, away: bool) -> None:
        nonlocal tried
        tried += 1
        kept.write_text(json.dumps(changed(whole, place, value, away)))
        with case():
            tuning_cache.load_tuning(case_of)

    one()
    record_property("tried", tried)
