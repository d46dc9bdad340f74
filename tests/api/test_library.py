"""Songs in Python: the same values as the commands', and as their files."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from helpers.small_encoder import SONG_S, embedding_profile, write_encoder
from helpers.small_separator import CLIP_S, song, write_songs
from typer.testing import CliRunner

import mixstyle
from mixstyle.cache.song_index.index import share_farther
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.descriptors.compute import DESCRIPTORS
from mixstyle.stages.cli import app
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.songs.compare import stage as compare_module
from mixstyle.stages.songs.embed.embedder import Embedder
from mixstyle.stages.songs.embed.stage import embedder_of
from mixstyle.stages.songs.index.stage import index
from mixstyle.stages.songs.search import stage as search_module

SONGS = 5


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("library")
    chosen = embedding_profile(folder, write_songs(folder / "music", SONGS, seconds=SONG_S))
    index(chosen, folder / "music")
    return chosen


@pytest.fixture(scope="module")
def model(settings: Settings) -> Embedder:
    return embedder_of(settings)


@pytest.fixture(scope="module")
def opened(settings: Settings, model: Embedder) -> mixstyle.Index:
    return mixstyle.Index(settings.embed.index_dir, model)


def test_an_index_finds_what_the_command_finds(settings: Settings, opened: mixstyle.Index, tmp_path: Path) -> None:
    path = settings.separate.data_path / "song 2.flac"
    expected = search_module.search(settings, path, 3, tmp_path / "x.json", tmp_path / "x.csv")
    for found in (opened.search(path, 3), mixstyle.search(str(path), opened, 3)):
        assert [(m.song.path, m.alike, m.apart) for m in found] == [(m.song.path, m.alike, m.apart) for m in expected]
    assert len(opened) == SONGS == len(opened.songs) == len(opened.embeddings)
    stored = json.loads((tmp_path / "x.json").read_text())
    assert [row["path"] for row in stored["songs"]] == [match.song.path for match in expected]
    assert stored["songs_in_index"] == SONGS
    table = pandas.read_csv(tmp_path / "x.csv")
    assert list(table["path"]) == [match.song.path for match in expected]
    np.testing.assert_allclose(
        table["cosine"], [match.score for match in expected], rtol=5.1e-6
    )  # six digits, half a unit in the last
    assert str(table["most_alike_in"].iloc[0]).split() == [DESCRIPTORS[one.column].name for one in expected[0].alike]


def test_the_share_of_pairs_that_are_farther_apart(opened: mixstyle.Index, settings: Settings) -> None:
    cosines = sorted(
        float(opened.embeddings[i] @ opened.embeddings[j]) for i in range(SONGS) for j in range(i + 1, SONGS)
    )
    assert len(cosines) == 10
    for place, cosine in enumerate(cosines):
        between = cosine - 1e-7 if not place else (cosine + cosines[place - 1]) / 2
        if between not in cosines:
            assert opened.closer_than(between) == pytest.approx(place / 10)
    assert (opened.closer_than(-2.0), opened.closer_than(2.0)) == (0.0, 1.0)
    assert share_farther(np.array([0.5, 0.5, 0.5, 0.5], np.float32), 0.5) == 0.5
    assert np.isnan(share_farther(np.empty(0, np.float32), 0.5))
    match = opened.search(settings.separate.data_path / "song 0.flac", 1)[0]
    assert match.closer_than == opened.closer_than(match.score)


def test_of_a_large_index_some_songs_stand_for_all(settings: Settings, opened: mixstyle.Index) -> None:
    assert len(opened._index.pair_cosines(most=3)) == 3
    assert set(opened._index.pair_cosines(most=3)) <= set(opened._index.pair_cosines())


def test_two_songs_are_compared_as_the_command_does(settings: Settings, model: Embedder, tmp_path: Path) -> None:
    first, second = (settings.separate.data_path / f"song {i}.flac" for i in (0, 1))
    expected = compare_module.compare(settings, first, second, None, tmp_path / "x.json", tmp_path / "x.csv")
    found = mixstyle.compare(first, second, model)
    np.testing.assert_array_equal(found.values, expected.values)
    assert (found.names, found.cosine, found.loudness) == (expected.names, expected.cosine, expected.loudness)
    assert np.isnan(found.closer_than)
    assert 0 <= expected.closer_than <= 1, "the profile's index is of the same encoder"
    stored = json.loads((tmp_path / "x.json").read_text())
    # six digits: half a unit in the last one is 5e-6 of a number that begins with 1
    assert stored["cosine"] == pytest.approx(expected.cosine, rel=5.1e-6)
    assert stored["distances"]["bass"]["all"] == pytest.approx(expected.distance("bass"), rel=5.1e-6, nan_ok=True)
    rows = list(csv.DictReader((tmp_path / "x.csv").open()))
    assert [row["name"] for row in rows] == [d.name for d in DESCRIPTORS]
    # six digits, as above
    np.testing.assert_allclose([float(row["first"]) for row in rows], expected.values[0], rtol=5.1e-6, atol=0)


def test_a_song_is_described_from_an_array_as_from_its_file(settings: Settings, model: Embedder) -> None:
    path = settings.separate.data_path / "song 3.flac"
    from_file = mixstyle.describe_song(path, model)
    audio = np.round(song(3, SONG_S) * 32_768).clip(-32_768, 32_767).astype(np.int16)
    from_array = mixstyle.describe_song(audio, model, sample_rate=44_100)
    # FLAC holds the same 16 bits: the same samples, in batches of the same sizes
    np.testing.assert_array_equal(from_array.values, from_file.values)
    assert from_file.loudness.loudness_lufs == from_array.loudness.loudness_lufs
    assert (from_file.clips, from_file.clip_s, from_file.given) == (3, CLIP_S, False)
    assert np.isnan(from_file.percentiles).all()


def test_results_are_short_to_look_at(
    settings: Settings, model: Embedder, opened: mixstyle.Index, tmp_path: Path
) -> None:
    path = settings.separate.data_path / "song 3.flac"
    found = [model.song(path), mixstyle.describe_song(path, model), mixstyle.compare(path, path, model), opened]
    found += [opened.songs[0], *opened.search(path, 1)]
    for one in found:
        assert len(repr(one)) < 200, type(one)
        assert "\n" not in repr(one)
        assert "song " in repr(one) or "songs of" in repr(one)
    matched = model.match(path, settings.separate.data_path / "song 2.flac")
    song = mixstyle.render_song(1, duration_s=8.0)
    rest = [matched, matched.chain, matched.write(tmp_path / "out.wav"), song, model, model.separator, model.encoder]
    rest.append(mixstyle.ClipRequest.whole(torch.from_numpy(song.mixture)))
    for one in rest:
        assert len(repr(one)) < 200, type(one)
        assert "\n" not in repr(one)
        assert repr(one).startswith(f"{type(one).__name__}(")


def test_the_command_that_makes_an_index_for_a_model_makes_it(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the model's own encoder, separator and clips: without them, the next index would be refused again."""
    chosen, place = settings.separate, tmp_path / "index"
    shutil.copytree(settings.embed.index_dir, place)
    monkeypatch.chdir(tmp_path)  # nothing of a profile's is here
    model = mixstyle.load(
        write_encoder(tmp_path / "other.safetensors", seed=7),
        separator=(chosen.separator_config, chosen.separator_checkpoint),
        device="cpu",
        clip_s=CLIP_S * 1.5,
        clips_per_track=3,
    )
    with pytest.raises(MixstyleError) as caught:
        mixstyle.Index(place, model)
    assert caught.value.code == "stale"
    result = CliRunner().invoke(app, [*caught.value.remedy, "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert len(mixstyle.Index(place, model)) == SONGS


def test_an_index_of_another_encoder_is_told_in_words(settings: Settings, tmp_path: Path) -> None:
    """The remedy works as printed: `search` has no --rebuild."""
    other = write_encoder(tmp_path / "other.safetensors", seed=7)
    common = ("--config", str(settings.embed.index_dir.parent / "profile.yaml"), "--device", "cpu")
    words = ["search", str(settings.separate.data_path / "song 0.flac"), "--encoder", str(other), *common]
    result = CliRunner().invoke(app, [*words, "--index", str(settings.embed.index_dir)])
    assert isinstance(result.exception, MixstyleError)
    assert result.exception.code == "stale"
    assert not any(len(word) >= 64 and set(word) <= set("0123456789abcdef") for word in str(result.exception).split())
    assert result.exception.remedy[0] == "index"
    with pytest.raises(MixstyleError) as caught:
        mixstyle.Index(tmp_path / "nowhere", embedder_of(settings))
    assert caught.value.code == "step-missing"
