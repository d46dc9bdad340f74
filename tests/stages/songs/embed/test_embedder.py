"""Music to embeddings: the same whatever it comes as, that of the parts it is made of, and refused by name."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import soundfile
import torch
from helpers.desk_songs import stems_of, through
from helpers.small_encoder import DIMENSIONS, SONG_S, embedding_profile
from helpers.small_separator import CLIP, CLIP_S, RATE, song, write_songs
from torch.nn import functional as F

import mixstyle
from mixstyle.cache.models.exports import load_encoder
from mixstyle.cache.music.clip_positions import clip_starts
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.descriptors.compute import DESCRIPTORS, describe
from mixstyle.pipeline.matching.desk import Strip
from mixstyle.pipeline.separation.separator import Separator
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.songs.embed.embedder import Embedder
from mixstyle.stages.songs.embed.stage import embed, embedder_of


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("embedder")
    return embedding_profile(folder, write_songs(folder / "music", 3, seconds=SONG_S))


@pytest.fixture(scope="module")
def embedder(settings: Settings) -> Embedder:
    return embedder_of(settings)


def test_a_song_is_the_mean_of_its_clips_on_the_sphere(settings: Settings, embedder: Embedder) -> None:
    path = settings.separate.data_path / "song 2.flac"
    audio = torch.from_numpy(soundfile.read(path, dtype="float32")[0].T.copy())
    # Separated as a whole, then cut: another way through the separator than by clips.
    stems = embedder.separator.separate([audio])[0]
    starts = [s for s in clip_starts(audio.shape[1], CLIP, 3, 0) if s is not None]
    cut = torch.stack([stems[..., start : start + CLIP] for start in starts])
    loaded = load_encoder(settings.embed.encoder or "")
    with torch.inference_mode():
        each = torch.cat([loaded.encoder(loaded.mel(clip[None]), describe(clip[None])) for clip in cut])
    expected = F.normalize(F.normalize(each, dim=-1).mean(0), dim=-1)
    found = embedder.song(path)
    # float32 through a network, in batches of other sizes
    torch.testing.assert_close(found.embedding, expected, rtol=0, atol=2e-5)
    assert found.clips.shape == (3, DIMENSIONS)
    assert found.descriptors.shape == (3, len(DESCRIPTORS))
    assert found.starts_s == pytest.approx([start / RATE for start in starts])
    assert found.duration_s == pytest.approx(SONG_S)


def test_one_gives_a_vector_and_several_a_matrix(settings: Settings, embedder: Embedder) -> None:
    paths = sorted(settings.separate.data_path.glob("*.flac"))[:2]
    one = embedder.embed(str(paths[0]))
    assert one.shape == (DIMENSIONS,)
    assert one.norm().item() == pytest.approx(1, abs=1e-6)  # 32 float32 squares, 2^-24 each
    both = embedder.embed(paths)
    assert torch.equal(both[0], one)
    mixtures = torch.stack([torch.from_numpy(song(seed, 0.7).T.copy()) for seed in (5, 6)])
    assert embedder.embed(mixtures).shape == (2, DIMENSIONS)
    torch.testing.assert_close(embedder.embed(mixtures)[0], embedder.song(mixtures[0], "NaN").embedding)
    assert embedder.embed([]).shape == (0, DIMENSIONS)


def test_the_number_of_threads_changes_no_bit(settings: Settings, embedder: Embedder) -> None:
    """Songs at the end of a queue have more threads than those before them."""
    paths = sorted(settings.separate.data_path.glob("*.flac"))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append([embedder.song(path) for path in paths])
    finally:
        torch.set_num_threads(before)
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            assert torch.equal(one.clips, other.clips)
            assert torch.equal(one.descriptors, other.descriptors)


def test_a_song_alone_has_the_embedding_that_it_has_among_others(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Songs of several lengths share the batches of the network, the last of which is not full."""
    mixtures = [torch.from_numpy(song(20 + i, seconds).T.copy()) for i, seconds in enumerate((3.0, 0.7, 2.2))]
    whole, sizes = Separator.run_network, []

    def counted(self: Separator, batch: torch.Tensor) -> torch.Tensor:
        sizes.append(len(batch))
        return whole(self, batch)

    monkeypatch.setattr(Separator, "run_network", counted)
    files = (settings.separate.separator_config, settings.separate.separator_checkpoint)
    with mixstyle.load(settings.embed.encoder, separator=files, device="cpu", clip_s=CLIP_S, clips_per_track=2) as one:
        one.reader.options = dataclasses.replace(one.options, batch_chunks=5, threads=1)
        together = one.embed(mixtures)
        assert max(sizes) == 5
        chunks = sum(sizes)
        alone = torch.stack([one.embed(mixture) for mixture in mixtures])
    assert sum(sizes) == 2 * chunks
    # fp32: sums of a few hundred terms in another order, 1e-7 of each, through a network
    torch.testing.assert_close(alone, together, rtol=0, atol=2e-5)


def test_stems_are_taken_as_they_are(tmp_path: Path, embedder: Embedder) -> None:
    stems = {name: torch.from_numpy(song(i, 0.8).T.copy()) for i, name in enumerate(STEMS)}
    (tmp_path / "a song").mkdir()
    for name, audio in stems.items():
        soundfile.write(tmp_path / "a song" / f"{name}.wav", audio.T.numpy(), RATE, subtype="FLOAT")
    from_folder, given = embedder.embed(tmp_path / "a song"), embedder.embed(stems)
    assert torch.equal(from_folder, given)
    swapped = embedder.embed({**stems, "vocals": stems["drums"], "drums": stems["vocals"]})
    assert not torch.allclose(swapped, given, atol=1e-3), "which stem is which should matter"


@pytest.mark.parametrize(
    ("music", "code", "named"),
    [
        (torch.zeros(2, RATE), "no-music", "silent"),
        (torch.zeros(3, RATE), "bad-audio", f"[3, {RATE}]"),
        (torch.full((2, RATE), torch.nan), "bad-audio", "NaN"),
        (torch.ones(2, 100), "no-music", "too short"),
        ({"vocals": torch.zeros(2, RATE)}, "bad-audio", "vocals"),
        ({name: torch.zeros(2, 9 + 5_000 * i) for i, name in enumerate(STEMS)}, "bad-audio", "(2, 5009)"),
        (np.zeros((RATE, 3)), "bad-audio", f"[{RATE}, 3]"),
        (np.zeros((2, 2)), "no-music", "too short"),
        (np.zeros(RATE, complex), "bad-audio", "complex128"),
        (np.array(["a", "b"]), "bad-audio", "<U1"),
        (np.array(0.5), "bad-audio", "[]"),
        ([0.1, 0.2], "bad-audio", "float"),
        (7, "bad-audio", "int"),
        ("/nowhere/x.wav", "not-found", "/nowhere/x.wav"),
    ],
)
def test_what_cannot_be_embedded_is_told(embedder: Embedder, music: object, code: str, named: str) -> None:
    with pytest.raises(MixstyleError) as caught:
        embedder.embed(music)  # type: ignore[arg-type]
    assert (caught.value.code, named in str(caught.value)) == (code, True), str(caught.value)


def test_files_hold_what_the_embedder_gives(
    settings: Settings, embedder: Embedder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = sorted(settings.separate.data_path.glob("*.flac"))
    expected = embedder.embed(paths).numpy()
    assert embed(settings, [settings.separate.data_path], tmp_path / "a.parquet") == 3  # a folder stands for its files
    frame = pandas.read_parquet(tmp_path / "a.parquet")
    assert list(frame["path"]) == [str(path) for path in paths]
    np.testing.assert_array_equal(np.stack(frame["embedding"].tolist()), expected)
    assert [d.name for d in DESCRIPTORS] == list(frame.columns[3:])
    embed(settings, paths[:2], tmp_path / "a.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), expected[:2])
    assert (tmp_path / "a.paths.txt").read_text().splitlines() == [str(path) for path in paths[:2]]
    # one that cannot be read is told by name, and the others are written all the same
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF no music")
    with pytest.raises(MixstyleError) as caught:
        embed(settings, [paths[0], broken, paths[1]], tmp_path / "b.npy")
    assert (caught.value.code, "broken.wav" in str(caught.value)) == ("no-music", True)
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), expected[:2])
    assert broken.name in capsys.readouterr().err, "at the time when it is met, beside the error at the end"
    with pytest.raises(MixstyleError) as caught:
        embed(settings, paths, tmp_path / "a.txt")
    assert (caught.value.code, "a.txt" in str(caught.value)) == ("bad-option", True)
    embed(settings, paths[:2], tmp_path / "a.csv")
    table = pandas.read_csv(tmp_path / "a.csv")
    assert list(table["path"]) == [str(path) for path in paths[:2]]
    # six digits of numbers below 1: half a unit in the last
    np.testing.assert_allclose(table[[f"e{i}" for i in range(DIMENSIONS)]], expected[:2], atol=5.1e-7)
    assert [d.name for d in DESCRIPTORS] == list(table.columns[2 + DIMENSIONS :])
    embed(settings, paths[:2], tmp_path / "a.json")
    stored = json.loads((tmp_path / "a.json").read_text())["songs"]
    np.testing.assert_allclose([one["embedding"] for one in stored], expected[:2], atol=5.1e-7)  # six digits too
    assert stored[1]["descriptors"] == table[[d.name for d in DESCRIPTORS]].iloc[1].to_dict()


def test_load_takes_files_or_a_loaded_separator(settings: Settings, embedder: Embedder) -> None:
    files = (settings.separate.separator_config, settings.separate.separator_checkpoint)
    path = settings.separate.data_path / "song 0.flac"
    expected = embedder.embed(path)
    for separator in (files, embedder.separator):
        checkpoint = settings.embed.encoder
        loaded = mixstyle.load(checkpoint, separator=separator, device="cpu", clip_s=CLIP_S, clips_per_track=3)
        with loaded:
            assert torch.equal(loaded.embed(path), expected)
            assert loaded.fingerprint == embedder.fingerprint
    with pytest.raises(MixstyleError) as caught:
        mixstyle.load("nothing.pt")
    assert (caught.value.code, "nothing.pt" in str(caught.value)) == ("not-found", True)
    stems_only = dataclasses.replace(settings, separate=dataclasses.replace(settings.separate, input="stems"))
    with pytest.raises(MixstyleError) as caught:
        embedder_of(stems_only)
    assert (caught.value.code, "separate.input=stems" in str(caught.value)) == ("bad-setting", True)
    name, _, value = str(caught.value).partition("--set separate.")[2].partition("=")
    embedder_of(dataclasses.replace(settings, separate=dataclasses.replace(stems_only.separate, **{name: value})))


@pytest.mark.parametrize(
    "wrong", [{"clip_s": 0}, {"clip_s": -1.0}, {"clip_s": float("nan")}, {"clip_s": "ten"}, {"clips_per_track": 0}]
)
def test_load_refuses_wrong_values_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(MixstyleError) as caught:
        mixstyle.load(**wrong)
    assert caught.value.code == "bad-setting"
    assert f"separate.{next(iter(wrong))}=" in str(caught.value)


def test_arrays_are_taken_as_librosa_and_soundfile_give_them(embedder: Embedder) -> None:
    """One song in every layout and type: whole numbers of 16 bits are exact in float32."""
    whole = (song(5, 0.7) * 20_000).round().astype(np.int16)  # [T, 2], as soundfile reads it with dtype="int16"
    expected = embedder.embed(torch.from_numpy((whole.T / 32_768).astype(np.float32)))
    layouts = [whole, whole.T, whole / 32_768, whole.astype(np.int32) << 16, whole.astype(np.int64) << 48]
    layouts += [(whole.T / 32_768).astype(np.float32), (whole.astype(np.int32) + 32_768).astype(np.uint16)]
    layouts += [torch.from_numpy(whole), np.asfortranarray(whole)[::1]]
    for place, audio in enumerate(layouts):
        assert torch.equal(embedder.embed(audio), expected), place
    several = embedder.embed([whole, whole.T])
    torch.testing.assert_close(several, expected.expand(2, -1), rtol=0, atol=2e-5)  # batches of other sizes
    torch.testing.assert_close(embedder.embed(np.stack([whole.T] * 2)), several)


def test_one_channel_stands_for_both(embedder: Embedder) -> None:
    mono = song(6, 0.7, channels=1)
    expected = embedder.embed(torch.from_numpy(np.repeat(mono, 2, axis=1).T.copy()))
    for audio in (mono[:, 0], mono, mono.T, torch.from_numpy(mono[:, 0])):
        assert torch.equal(embedder.embed(audio), expected)


def test_a_sample_rate_is_converted_as_a_file_of_it_is(embedder: Embedder, tmp_path: Path) -> None:
    audio = song(7, 0.7, rate=48_000)
    soundfile.write(tmp_path / "48k.wav", audio, 48_000, subtype="FLOAT")
    expected = embedder.embed(tmp_path / "48k.wav")
    found = embedder.embed(audio, sample_rate=48_000)
    # a file is resampled window by window, an array as a whole; float32 through a network
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)
    assert not torch.allclose(embedder.embed(audio), expected, atol=1e-3), "the rate should matter"
    for rate in (0, -44_100, 44_100.0, "44100", 10**9, True):
        with pytest.raises(MixstyleError) as caught:
            embedder.embed(audio, sample_rate=rate)  # type: ignore[arg-type]
        assert (caught.value.code, "sample_rate" in str(caught.value)) == ("bad-option", True)


def test_a_song_is_matched_in_python(embedder: Embedder, tmp_path: Path) -> None:
    stems = stems_of(seconds=2.0)
    mine, reference = (dict(zip(STEMS, audio, strict=True)) for audio in (stems, through(stems)))
    matched = embedder.match(mine, [reference, reference], keep=["vocals"])
    assert matched.chain.strips[0] == Strip()
    assert matched.chain.strips[1].gain_db > 1  # dB; bass is 5 dB up against vocals, its shelf among them
    assert matched.write(tmp_path / "m.flac").after.true_peak_dbtp <= -1
    assert soundfile.info(tmp_path / "m.flac").frames >= stems.shape[-1]
    assert embedder.match(mine, mine).chain.strips == (Strip(),) * 4
    for changes in ({"amount": -1.0}, {"keep": ["guitar"]}):
        with pytest.raises(MixstyleError) as caught:
            embedder.match(mine, reference, **changes)  # pyright: ignore[reportArgumentType]
        assert caught.value.code == "bad-option"
    with pytest.raises(MixstyleError) as caught:
        embedder.match(mine, [])
    assert caught.value.code == "bad-option"
