"""`mixstyle describe`: values are the descriptors', percentiles those of the cached songs, and the page shows both."""

import base64
import csv
import errno
import json
import os
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from helpers.numbers import numbers
from helpers.small_encoder import SONG_S, embedding_profile
from helpers.small_separator import CLIP, CLIP_S, RATE, profile, song, write_separator, write_songs
from scipy.stats import percentileofscore

import mixstyle
from mixstyle.cache.feature_store.store import FeatureStore
from mixstyle.cache.music.clip_positions import clip_starts
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.descriptors.absent_stems import ABSENT_LU, is_loudness, is_meaningful, relative_column
from mixstyle.pipeline.descriptors.compute import DESCRIPTORS, describe
from mixstyle.pipeline.descriptors.song_values import song_descriptors
from mixstyle.pipeline.separation.separator import load_separator
from mixstyle.stages.features.stage import features
from mixstyle.stages.separate.stage import separate
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.songs.describe.png_page import draw, side_share
from mixstyle.stages.songs.describe.song import CachedSongs, DescribedSong
from mixstyle.stages.songs.describe.stage import describe_songs
from mixstyle.stages.songs.describe.text import sentences
from mixstyle.stages.songs.embed.stage import embedder_of

SONGS = 4


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A profile with cached songs and their descriptors."""
    folder = tmp_path_factory.mktemp("describe")
    write_separator(folder / "separator", num_overlap=1)
    chosen = profile(folder, write_songs(folder / "music", SONGS, seconds=SONG_S))
    chosen = replace(chosen, features=replace(chosen.features, features_path=folder / "features.zarr", device="cpu"))
    separate(chosen)
    features(chosen)
    return chosen


@pytest.fixture(scope="module")
def described(settings: Settings) -> DescribedSong:
    return describe_songs(settings, [settings.separate.data_path / "song 3.flac"])[0]


def test_a_cached_song_has_the_values_of_its_clips_in_the_store(settings: Settings, described: DescribedSong) -> None:
    store = FeatureStore.open(settings.features.features_path)
    rows = [i for i, path in enumerate(store.to_dataframe()["path"]) if path == "song 3.flac"]
    assert (described.clips, described.clip_s, len(rows)) == (3, CLIP_S, 3)
    # of the same stored stems, by the same code; in batches of other sizes a level moves by 6e-5 dB
    expected = song_descriptors(store.rows(rows))
    loud = [i for i, d in enumerate(DESCRIPTORS) if d.name.endswith(("loudness_lufs", "correlation", "rms_left_dbfs"))]
    np.testing.assert_allclose(described.values[loud], expected[loud], atol=1e-4, rtol=0)


def test_percentiles_are_among_songs_that_have_the_stem(settings: Settings, described: DescribedSong) -> None:
    frame = FeatureStore.open(settings.features.features_path).to_dataframe()
    names = [d.name for d in DESCRIPTORS]
    songs = np.stack([song_descriptors(clips[names].to_numpy()) for _, clips in frame.groupby("track_id")])
    for column, d in enumerate(DESCRIPTORS):
        there = songs[:, relative_column(d.stem)] > ABSENT_LU
        among = songs[:, column] if is_loudness(column) else songs[there, column]
        expected = percentileofscore(among, described.values[column], kind="mean") if len(among) else np.nan
        assert described.percentiles[column] == pytest.approx(expected, nan_ok=True, abs=1e-9)  # float64


def test_python_gives_the_percentiles_of_the_command(settings: Settings, tmp_path: Path) -> None:
    path, store = tmp_path / "new.flac", settings.features.features_path
    soundfile.write(path, song(77, SONG_S), RATE)
    expected = describe_songs(settings, [path])[0]
    with embedder_of(embedding_profile(store.parent, settings.separate.data_path)) as model:
        found = mixstyle.describe_song(path, model, features=store)
        np.testing.assert_array_equal(found.values, expected.values)
        np.testing.assert_array_equal(found.percentiles, expected.percentiles)
        assert np.isfinite(found.percentiles).any()
        with pytest.raises(MixstyleError) as caught:
            mixstyle.describe_song(path, model, features=store.with_name("none.zarr"))
        assert (caught.value.code, caught.value.remedy) == ("step-missing", ("features",))


def test_files_hold_every_value_and_equal_runs_equal_bytes(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [settings.separate.data_path / f"song {i}.flac" for i in (0, 1)]
    written = []
    for run, pages in (("a", "pages"), ("b", None)):
        out = tmp_path / run
        drawn = out / pages if pages else None
        songs = describe_songs(settings, files, None, out / "x.csv", out / "x.json", drawn, drawn)
        written.append({path.relative_to(out): path.read_bytes() for path in out.rglob("*.*")})
    assert written[1] == {path: written[0][path] for path in written[1]}
    assert {str(path) for path in written[1]} == {"x.csv", "x.json"}
    describe_songs(settings, files[:1], None, None, None, tmp_path / "again.png", tmp_path / "again.html")
    assert [(tmp_path / f"again.{ending}").read_bytes() for ending in ("png", "html")] == [
        written[0][Path(f"pages/song 0.{ending}")] for ending in ("png", "html")
    ]
    pages = {f"pages/song {i}.{ending}" for i in (0, 1) for ending in ("png", "html")}
    assert {str(path) for path in written[0]} == {"x.csv", "x.json", *pages}
    assert (tmp_path / "a" / "pages" / "song 0.png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader((tmp_path / "a" / "x.csv").open()))
    assert [row["name"] for row in rows] == 2 * [d.name for d in DESCRIPTORS]
    content = json.loads((tmp_path / "a" / "x.json").read_text())
    assert (content["version"], content["compared_with_songs"]) == (1, SONGS)
    for song_rows, told, found in zip(
        (rows[: len(rows) // 2], rows[len(rows) // 2 :]), content["songs"], songs, strict=True
    ):
        values = np.array([float(row["value"]) for row in song_rows])
        np.testing.assert_allclose(values, found.values, rtol=1e-5)  # six digits
        assert [d["value"] for d in told["descriptors"]] == values.tolist()
        assert {row["song"] for row in song_rows} == {told["song"]}
    printed = capsys.readouterr().out
    for found in songs:
        mix, *stems = sentences(found, SONGS)
        assert mix.startswith(f"{found.name}: -"), "its loudness"
        assert all(line in printed for line in (mix, *stems))
        assert [SONGS in numbers(line) for line in stems] == [found.has(stem) for stem in STEMS], (
            "percentile of how many"
        )


def write_stems(folder: Path, seconds: float = 3.0, silent: str = "") -> Path:
    folder.mkdir(parents=True)
    for seed, stem in enumerate(STEMS):
        soundfile.write(folder / f"{stem}.wav", song(seed, seconds) * (stem != silent), RATE, subtype="FLOAT")
    return folder


@pytest.mark.parametrize("seconds", [3.0, 0.8])
def test_given_stems_are_described_as_they_are(settings: Settings, tmp_path: Path, seconds: float) -> None:
    folder = write_stems(tmp_path / "A - B", seconds)
    found = describe_songs(settings, [], folder)[0]
    stems = torch.stack([torch.from_numpy(song(seed, seconds).T.copy()) for seed in range(4)])
    frames = stems.shape[-1]
    if seconds < 2 * CLIP_S:  # no room for two clips: described whole
        expected = describe(stems[None], RATE)[0].numpy()
        assert found.clips == 1
    else:
        starts = clip_starts(frames, CLIP, 3, 0)
        clips = [stems[..., start : start + CLIP] for start in starts if start is not None]
        expected = song_descriptors(describe(torch.stack(clips), RATE).numpy())
    assert (found.name, found.given) == ("A - B", True)
    # the same samples by another code: float32 sums in another order move a level by 6e-5 dB
    np.testing.assert_allclose(found.values, expected, atol=1e-4, rtol=0)


def test_separated_clips_are_those_of_the_whole_song(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "new.wav"
    audio = song(77, SONG_S)
    soundfile.write(path, audio, RATE, subtype="FLOAT")
    found = describe_songs(settings, [path])[0]
    separator = load_separator(settings.separate.separator_config, settings.separate.separator_checkpoint)
    whole = separator.separate([torch.from_numpy(audio.T.copy())])[0]
    starts = [start for start in clip_starts(len(audio), CLIP, 3, 0) if start is not None]
    rows = describe(torch.stack([whole[..., start : start + CLIP] for start in starts]), RATE).numpy()
    # 6e-5 dB as above, once for each clip of two whose mean a median may be
    np.testing.assert_allclose(found.values, song_descriptors(rows), atol=2e-4, rtol=0)


def test_a_stem_that_is_not_there_is_said_to_be(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = describe_songs(settings, [], write_stems(tmp_path / "song", silent="vocals"))[0]
    assert not found.has("vocals")
    assert found.has("bass")
    lines = capsys.readouterr().out.splitlines()
    told = {stem: next(line for line in lines if line.startswith(f"{stem}: ")) for stem in ("vocals", "bass")}
    assert {stem: -ABSENT_LU in numbers(line) for stem, line in told.items()} == {"vocals": True, "bass": False}
    head = next(line for line in lines if "unit" in line)
    assert ("vocals (" in head, "bass (" in head) == (True, False)
    silent = [i for i, d in enumerate(DESCRIPTORS) if d.stem == "vocals" and not is_loudness(i)]
    assert np.isnan(found.percentiles[silent]).all()
    figure = draw(found, None)
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert texts.count("absent") == 3  # loudness, masking, its curve


def test_the_page_shows_the_song_over_the_cached_ones(described: DescribedSong) -> None:
    rng = np.random.default_rng(0)
    cached = CachedSongs((described.values + rng.normal(0, 1, (50, len(DESCRIPTORS)))).astype(np.float32), "")
    figure = draw(described, cached)
    titles = [axes.get_title() or axes.get_title("left") for axes in figure.axes]
    assert titles == ["How loud is each stem?", "How wide is it?", "Which stem masks which?", *STEMS]
    loudness, width, masking, *curves = figure.axes
    for row, stem in enumerate(STEMS):
        if not described.has(stem):
            continue
        value = described.values[relative_column(stem)]
        dots = [line for line in loudness.lines if line.get_marker() == "o" and np.asarray(line.get_ydata())[0] == row]
        assert [np.asarray(line.get_xdata())[0] for line in dots] == [pytest.approx(value)]
        curve = next(line for line in curves[row].lines if line.get_marker() == "o")
        columns = [i for i, d in enumerate(DESCRIPTORS) if d.name.startswith(f"{stem}_octave")]
        drawn = np.asarray(curve.get_ydata())
        np.testing.assert_allclose(drawn, np.clip(described.values[columns], -55, 0))
        assert curves[row].get_ylim()[1] > max(drawn), "no point lies on the edge or beyond"
    assert curves[0].get_ylim()[1] > 0, "dB of an octave that has all of the stem"
    assert any(numbers(text.get_text())[-2:] == [described.clips, CLIP_S] for text in figure.texts), "what it is of"
    # the bands are the cached songs' 10th to 90th percentile
    edges = np.percentile(cached.values[:, relative_column("vocals")], [10, 90])
    bar = loudness.patches[0].get_window_extent().transformed(loudness.transData.inverted())
    np.testing.assert_allclose(
        [bar.x0, bar.x1], np.clip(edges, -30, 3), atol=1e-5
    )  # LU; float64, but of float32 values
    assert len(masking.images) == 1
    assert "%" in width.get_ylabel()
    np.testing.assert_allclose(
        side_share(np.array([60.0, 0.0, -60.0])), [0, 50, 100], atol=1.01e-4
    )  # %: 60 dB leave 1e-6 of the power


def test_without_a_store_there_are_no_percentiles_and_it_says_why(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = replace(settings, features=replace(settings.features, features_path=tmp_path / "none.zarr"))
    found = describe_songs(bare, [], write_stems(tmp_path / "song"), png_path=tmp_path / "x.png")[0]
    assert np.isnan(found.percentiles).all()
    printed = capsys.readouterr().err
    (why,) = (line for line in printed.splitlines() if "none.zarr" in line)
    assert "mixstyle features" in why
    assert (tmp_path / "x.png").exists()
    nothing = replace(bare.separate, stems_dir=tmp_path / "no stems", data_path=tmp_path / "no music")
    describe_songs(replace(bare, separate=nothing), [], tmp_path / "song")
    commands = capsys.readouterr().err.partition("run: ")[2].splitlines()[0].split(" && ")
    assert [shlex.split(command)[1:4] for command in commands] == [["separate", "--data-path", "FOLDER"], ["features"]]
    music = write_songs(tmp_path / "music", 1, seconds=0.5)
    begun = replace(bare, separate=replace(bare.separate, stems_dir=tmp_path / "no stems", data_path=music))
    describe_songs(begun, [], tmp_path / "song")
    assert "mixstyle separate" in capsys.readouterr().err, "which comes before features"
    describe_songs(bare, [], tmp_path / "song", html_path=tmp_path / "x.html")
    text = (tmp_path / "x.html").read_text()
    assert base64.b64encode((tmp_path / "x.png").read_bytes()).decode() in text
    cells = re.findall(r'<td class="number">(-?[\d.]+)</td>', text)
    shown_values = [float(cell) for cell in cells]
    told = [c for c in range(len(DESCRIPTORS)) if is_meaningful(c, found.values)]
    # every value that means something once, with its digits: sorted, since the page goes by kind and the song by stem
    assert sorted(shown_values) == sorted(float(f"{found.values[c]:.{DESCRIPTORS[c].digits}f}") for c in told)


def test_what_cannot_be_described_is_told_in_a_line(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "text.mp3").write_text("no music")
    soundfile.write(tmp_path / "short.wav", song(0, 0.3), RATE)
    soundfile.write(tmp_path / "silent.wav", np.zeros((3 * RATE, 2)), RATE)
    folder = write_stems(tmp_path / "stems")
    (folder / "bass.wav").unlink()
    music = settings.separate.data_path / "song 0.flac"
    for songs, stems, code, named in (
        ([], None, "bad-option", "--stems"),
        ([tmp_path / "gone.wav"], None, "not-found", "gone.wav"),
        ([tmp_path / "text.mp3"], None, "no-music", "text.mp3"),
        ([tmp_path / "short.wav"], None, "no-music", "short.wav: too short"),
        ([tmp_path / "silent.wav"], None, "no-music", "silent.wav: silent"),
        ([], folder, "no-music", "stems: missing stem: bass"),
        ([], tmp_path / "nowhere", "not-found", "nowhere"),
        ([music, music], folder, "bad-option", "--stems"),
    ):
        with pytest.raises(MixstyleError) as caught:
            describe_songs(settings, songs, stems)
        assert (caught.value.code, named in str(caught.value)) == (code, True), str(caught.value)


def test_a_page_links_to_the_pages_of_its_profile_that_are_there(settings: Settings, tmp_path: Path) -> None:
    report, pages = tmp_path / "a report", tmp_path / "pages"
    placed = replace(settings, report=replace(settings.report, report_dir=report))
    placed = replace(placed, evaluate=replace(settings.evaluate, evaluate_dir=tmp_path / "none"))
    report.mkdir()
    (report / "report.html").write_text("")
    pages.mkdir()
    describe_songs(placed, [], write_stems(tmp_path / "song"), html_path=pages / "x.html")
    links = re.findall('<a [^>]*href="([^"]*)"', (pages / "x.html").read_text())
    assert [(pages / link).resolve() for link in links] == [(report / "report.html").resolve()]


def test_a_song_that_cannot_be_read_costs_the_others_nothing(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.mp3").write_text("no music")
    files = [settings.separate.data_path / "song 0.flac", tmp_path / "text.mp3", write_stems(tmp_path / "a song")]
    with pytest.raises(MixstyleError) as caught:
        describe_songs(settings, files, csv_path=tmp_path / "x.csv", png_path=tmp_path / "pages")
    assert (caught.value.code, "text.mp3" in str(caught.value)) == ("no-music", True)
    rows = list(csv.DictReader((tmp_path / "x.csv").open()))
    assert [row["song"] for row in rows[:: len(DESCRIPTORS)]] == ["song 0.flac", "a song"]
    assert sorted(path.name for path in (tmp_path / "pages").iterdir()) == ["a song.png", "song 0.png"]
    told = capsys.readouterr()
    assert "text.mp3" in told.err
    assert "text.mp3" not in told.out
    assert "a song: " in told.out


def test_a_folder_of_music_stands_for_its_files(settings: Settings, tmp_path: Path) -> None:
    folder = write_songs(tmp_path / "music", 2, seconds=SONG_S)
    alone = [describe_songs(settings, [folder / f"song {i}.flac"])[0] for i in (0, 1)]
    together = describe_songs(settings, [folder])
    assert [song.name for song in together] == ["song 0.flac", "song 1.flac"]
    # chunks of several songs share batches, whose sums float32 rounds in another order
    # float32 sums of the separator in batches of other sizes: 1e-5 of full scale is 1e-4 of stems at -20 dBFS, 1e-3 dB
    np.testing.assert_allclose([s.values for s in together], [s.values for s in alone], atol=1e-3, rtol=0)
    with pytest.raises(MixstyleError) as caught:
        describe_songs(settings, [tmp_path / "music", tmp_path / "separate"])
    assert caught.value.code == "not-found"
    (tmp_path / "empty").mkdir()
    with pytest.raises(MixstyleError) as caught:
        describe_songs(settings, [tmp_path / "empty"])
    assert caught.value.code == "no-music"


def test_a_song_that_is_not_there_is_told_first(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = replace(settings, features=replace(settings.features, features_path=tmp_path / "none.zarr"))
    with pytest.raises(MixstyleError):
        describe_songs(bare, [tmp_path / "nosuch.wav"])
    assert "".join(capsys.readouterr()) == ""


def test_one_output_that_fails_at_the_end_costs_the_others_nothing(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    replace_file = Path.replace

    def full_for_tables(self: Path, target: Path) -> Path:
        """The system's answer where the disk fills up between the look at it and the writing."""
        if target.suffix == ".csv":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
        return replace_file(self, target)

    monkeypatch.setattr(Path, "replace", full_for_tables)
    table = tmp_path / "x.csv"
    with pytest.raises(MixstyleError) as caught:
        describe_songs(settings, [write_stems(tmp_path / "song")], csv_path=table, json_path=tmp_path / "x.json")
    assert caught.value.code == "cannot-write"
    assert json.loads((tmp_path / "x.json").read_text())["songs"][0]["song"] == "song"
