"""`mixstyle match` and `apply` on true stems: near the reference, no louder; with nothing to do, the mix itself."""

import json
import math
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyloudnorm
import pytest
import soundfile
import torch
from helpers.desk_songs import KNOWN, RATE, stems_of, through
from helpers.numbers import numbers
from helpers.small_encoder import SONG_S
from helpers.small_separator import profile, write_separator, write_songs
from helpers.small_separator import song as noise_and_tone
from scipy import signal
from torch import Tensor

from mixstyle.cache.match_chain import MatchChain, read_chain, write_chain
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.descriptors.song_loudness import SongLoudness
from mixstyle.pipeline.descriptors.song_values import loudness_of_clips
from mixstyle.pipeline.descriptors.table import COLUMN
from mixstyle.pipeline.matching.desk import Filter, Strip
from mixstyle.pipeline.matching.level import output_gain
from mixstyle.pipeline.matching.short_time import short_time_distance, short_time_power
from mixstyle.pipeline.mixing.effects import EFFECTS
from mixstyle.stages.common.progress import Told, watched
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.songs.match.render import RenderedSong
from mixstyle.stages.songs.match.song_match import song_values
from mixstyle.stages.songs.match.stage import MatchOutputs, apply, match
from mixstyle.stages.songs.match.text import last_gain


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("match")
    write_stems(folder / "mine", stems_of())
    write_stems(folder / "reference", 0.7 * through(stems_of()))
    return folder


@pytest.fixture(scope="module")
def settings(folder: Path) -> Settings:
    write_separator(folder / "separator", num_overlap=1)
    return profile(folder, write_songs(folder / "music", 1, seconds=SONG_S))


def write_stems(folder: Path, stems: Tensor) -> Path:
    folder.mkdir()
    for stem, audio in zip(STEMS, stems.numpy(), strict=True):
        soundfile.write(folder / f"{stem}.wav", audio.T, RATE, subtype="FLOAT")
    return folder


def read(path: Path) -> np.ndarray:
    return soundfile.read(path, always_2d=True)[0].T


def lufs(audio: np.ndarray) -> float:
    return pyloudnorm.Meter(RATE).integrated_loudness(audio.T)


def test_a_stem_that_rests_in_half_of_the_clips_is_as_loud_as_where_it_plays() -> None:
    one, two = stems_of(1), stems_of(2)
    two[1] = 0.0
    values = song_values([one, two])
    mix_lufs = loudness_of_clips([lufs(clip.sum(0).double().numpy()) for clip in (one, two)])
    for stem, name in enumerate(STEMS):
        clips = [one, two] if name != "bass" else [one]
        loudness = loudness_of_clips([lufs(clip[stem].double().numpy()) for clip in clips])
        # gates and filters in float32: 0.05 LU, as `describe` promises
        assert values[COLUMN[f"{name}_loudness_lufs"]] == pytest.approx(loudness, abs=0.05)
        # a difference of two
        assert values[COLUMN[f"{name}_relative_loudness_lu"]] == pytest.approx(loudness - mix_lufs, abs=0.1)
    two[1:] = one[1:] = 0.0
    assert song_values([one, two])[COLUMN["bass_relative_loudness_lu"]] == -60


def test_a_match_is_near_and_no_louder(
    settings: Settings, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = MatchOutputs(
        tmp_path / "matched.wav", tmp_path / "chain.json", tmp_path / "m.png", tmp_path / "stems", tmp_path / "ab"
    )
    matched, rendered = match(settings, folder / "mine", [folder / "reference"], outputs)
    reference = sum(read(folder / "reference" / f"{stem}.wav") for stem in STEMS)
    made = read(tmp_path / "matched.wav")
    # LU: two meters of 0.05 each, pyloudnorm here and ours that set the gain
    assert lufs(made) == pytest.approx(lufs(np.asarray(reference)), abs=0.1)
    oversampled = np.abs(signal.resample_poly(made, 8, 1, axis=-1)).max()
    assert 20 * math.log10(oversampled) < -1 + 0.1  # another interpolator: BS.1770's errs by up to 0.1 dB or so
    assert rendered.after.true_peak_dbtp <= -1
    before, after = matched.distances(matched.before), matched.distances(matched.after(rendered.gain.gain_db))
    assert (after[0], after[1]) < (0.4 * before[0], 0.4 * before[1])  # LU, dB
    parts = sum(read(tmp_path / "stems" / f"{name}.wav") for name in (*STEMS, "rest"))
    assert np.abs(parts - made).max() < 4 / 2**23  # six roundings to 24 bits
    pair = [read(tmp_path / "ab" / f"{name}.wav") for name in ("before", "after")]
    assert pair[0].shape == pair[1].shape == made.shape
    # each is brought to one loudness by our meter, and measured by pyloudnorm, which differ by 0.05 LU at most each
    assert lufs(pair[0]) == pytest.approx(lufs(pair[1]), abs=0.1)
    chain = read_chain(tmp_path / "chain.json")
    assert chain.strips == matched.chain.strips
    told = chain.measured["descriptors"]["bass_relative_loudness_lu"]
    assert told["after"] == pytest.approx(told["reference"], abs=0.1)  # LU, two meterings
    assert (tmp_path / "m.png").read_bytes().startswith(b"\x89PNG")
    (told,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("bass: "))
    assert chain.strips[1].gain_db > 0
    assert numbers(told)[0] == round(chain.strips[1].gain_db, 1)  # dB, as it is printed
    bars: list[Told] = []
    with watched(bars.append):
        apply(settings, tmp_path / "chain.json", [folder / "mine"], tmp_path / "again.wav")
    assert {one.what for one in bars} == {"look", "apply: reading", "apply", "apply: writing"}, "and not match"
    assert [one.done for one in bars if one.what == "apply: reading"] == [1.0], "of one song"
    assert (tmp_path / "again.wav").read_bytes() == (tmp_path / "matched.wav").read_bytes()


@pytest.mark.parametrize(("apart_s", "refused"), [(0.05, False), (-0.5, True), (0.5, True)])
def test_stems_of_another_length_are_not_the_songs(
    settings: Settings, folder: Path, tmp_path: Path, apart_s: float, refused: bool
) -> None:
    """A codec's padding of 0.05 s is none, and half a second is."""
    mix = stems_of().sum(0).numpy().T
    frames = len(mix) + round(apart_s * RATE)
    soundfile.write(tmp_path / "mix.wav", np.resize(mix, (frames, 2)), RATE)
    outputs = MatchOutputs(tmp_path / "a.wav")
    with pytest.raises(MixstyleError) if refused else nullcontext() as told:
        match(settings, tmp_path / "mix.wav", [folder / "mine"], outputs, stems=folder / "mine")
    assert (tmp_path / "a.wav").exists() != refused
    assert told is None or told.value.code == "bad-option"


def test_a_short_song_is_told(settings: Settings, tmp_path: Path) -> None:
    """One note for a short song or reference; none where nothing is computed from it."""
    told = {}
    for seconds in (2.0, 9.0):
        write_stems(tmp_path / f"{seconds:g}", stems_of(seconds=seconds))
    for mine, reference, amount in (("2", "9", 1.0), ("9", "2", 1.0), ("9", "9", 1.0), ("9", "2", 0.0)):
        outputs = MatchOutputs(tmp_path / "a.wav")
        matched, _ = match(settings, tmp_path / mine, [tmp_path / reference], outputs, amount=amount)
        told[mine, reference, amount] = sum(note.startswith("2 lasts 2.0 s") for note in matched.chain.notes)
    assert list(told.values()) == [1, 1, 0, 0]


def test_a_song_like_the_reference_is_itself(settings: Settings, folder: Path, tmp_path: Path) -> None:
    matched, rendered = match(settings, folder / "mine", [folder / "mine"], MatchOutputs(tmp_path / "a.wav"))
    assert matched.chain.strips == (Strip(),) * 4
    assert rendered.gain.gain_db == 0
    made = read(tmp_path / "a.wav")
    assert np.abs(made - stems_of().numpy().sum(0)).max() <= 1.1 / 2**23  # rounding of the file, and of float32 sums
    song = settings.separate.data_path / "song 0.flac"  # separated; 16 bits
    matched, _ = match(settings, song, [song], MatchOutputs(tmp_path / "b.wav"))
    assert np.array_equal(read(tmp_path / "b.wav"), read(song))


@pytest.mark.parametrize(("asked", "own_lu"), [({"keep": STEMS}, 0.0), ({"amount": 0.0}, 0.5)])
def test_why_nothing_is_set_on_any_stem_is_told(
    settings: Settings, folder: Path, tmp_path: Path, asked: dict[str, Any], own_lu: float
) -> None:
    """If all stems are kept, the song gets only the reference's loudness. With an amount of 0 it keeps its own, but is
    never more than 0.5 LU louder than the reference."""
    mine, out = folder / "mine", MatchOutputs(tmp_path / "a.wav")
    alike, _ = match(settings, mine, [mine], MatchOutputs(tmp_path / "alike.wav"))
    matched, rendered = match(settings, mine, [folder / "reference"], out, **asked)
    assert (matched.chain.strips, matched.chain.mix.changes) == ((Strip(),) * 4, False)
    told, before = matched.reference_loudness[0].loudness_lufs, rendered.before.loudness_lufs
    assert told + 0.5 < before
    assert rendered.after.loudness_lufs == pytest.approx(told + own_lu, abs=0.1)  # LU
    assert len(matched.chain.notes) == 1
    assert set(matched.chain.notes).isdisjoint(alike.chain.notes), "the song is not like the reference"


def test_a_separated_song_keeps_what_its_stems_do_not_sum_to(settings: Settings, folder: Path, tmp_path: Path) -> None:
    song, strips = settings.separate.data_path / "song 0.flac", (Strip(gain_db=1.0),) * 3 + (Strip(),)
    write_chain(tmp_path / "c.json", MatchChain(strips, 0.0, 0.0))
    match(settings, song, [folder / "reference"], MatchOutputs(tmp_path / "a.flac", stems=tmp_path / "s"), amount=0.0)
    kept = sum(read(tmp_path / "s" / f"{name}.flac") for name in (*STEMS, "rest"))
    assert np.abs(kept - read(tmp_path / "a.flac")).max() < 4 / 2**23
    assert np.abs(read(tmp_path / "s" / "rest.flac")).max() > 0.01  # random weights: much is left


def test_what_stems_leave_is_done_on_the_mix(settings: Settings, folder: Path, tmp_path: Path) -> None:
    song = settings.separate.data_path / "song 0.flac"
    outputs = MatchOutputs(tmp_path / "a.wav", tmp_path / "c.json", stems=tmp_path / "s")
    matched, _ = match(settings, song, [folder / "reference"], outputs)
    assert matched.chain.mix.filters
    assert matched.chain.mix.gain_db == 0
    chain = read_chain(tmp_path / "c.json")
    assert chain.mix == matched.chain.mix
    assert chain.text[-2].startswith("mix: ")
    parts = sum(read(tmp_path / "s" / f"{name}.wav") for name in (*STEMS, "rest"))
    assert np.abs(parts - read(tmp_path / "a.wav")).max() < 4 / 2**23
    apply(settings, tmp_path / "c.json", [song], tmp_path / "b.wav")
    assert (tmp_path / "b.wav").read_bytes() == (tmp_path / "a.wav").read_bytes()
    write_chain(tmp_path / "d.json", replace(chain, strips=(Strip(),) * 4))
    apply(settings, tmp_path / "d.json", [song], tmp_path / "d.wav")  # the mix alone, without a separation
    assert not np.allclose(read(tmp_path / "d.wav")[:, :RATE], read(song)[:, :RATE], atol=1e-3)
    kept, _ = match(settings, song, [folder / "reference"], MatchOutputs(tmp_path / "k.wav"), keep=["vocals"])
    assert kept.chain.mix == Strip()


def test_a_stem_that_one_song_has_not_is_neither_equalised_away_nor_made_up_for(
    settings: Settings, tmp_path: Path
) -> None:
    """Equal stems but for vocals that one of the two has: nothing is set on the mix, which differs greatly."""
    stems = stems_of()
    write_stems(tmp_path / "all", stems)
    stems[0] = 0
    write_stems(tmp_path / "without", stems)
    for song, reference in (("all", "without"), ("without", "all")):
        matched, _ = match(settings, tmp_path / song, [tmp_path / reference], MatchOutputs(tmp_path / "a.wav"))
        assert matched.chain.mix == Strip()
        assert all(not strip.filters for strip in matched.chain.strips)
    only = torch.zeros_like(stems)
    only[0] = stems_of()[0]
    write_stems(tmp_path / "vocals", only)
    matched, _ = match(settings, tmp_path / "vocals", [tmp_path / "without"], MatchOutputs(tmp_path / "a.wav"))
    assert (matched.chain.mix, matched.chain.strips) == (Strip(), (Strip(),) * 4)  # no stem is in both


def test_a_chain_leaves_alone_what_a_song_has_not(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mono = stems_of(1, 2.0).mean(1, keepdim=True).repeat(1, 2, 1)
    mono[0] = 0
    write_stems(tmp_path / "mono", mono)
    write_chain(tmp_path / "chain.json", MatchChain(KNOWN, 0.0, 0.0))
    assert apply(settings, tmp_path / "chain.json", [tmp_path / "mono"], tmp_path / "out") == 1
    made = read(tmp_path / "out" / "mono.wav")
    assert np.array_equal(made[0], made[1])
    told = capsys.readouterr().out
    assert [stem for stem in STEMS if f"{stem}: " in told] == ["vocals"]
    assert "mono" in told


@pytest.mark.parametrize("mono", ["song", "reference"])
def test_pan_and_width_stay_where_a_separated_song_is_mono(settings: Settings, tmp_path: Path, mono: str) -> None:
    """What the separator makes of a mono song is not: the rule goes by the song."""
    for name, other in (("song", 1), ("reference", 2)):
        audio = noise_and_tone(other, SONG_S)
        soundfile.write(tmp_path / f"{name}.wav", audio.mean(1) if name == mono else audio, RATE)
    matched, _ = match(settings, tmp_path / "song.wav", [tmp_path / "reference.wav"], MatchOutputs(tmp_path / "o.wav"))
    assert any("mono" in note for note in matched.chain.notes)
    assert all(strip == strip.without_stereo() for strip in (*matched.chain.strips, matched.chain.mix))


@pytest.mark.slow
def test_effects_that_a_search_finds_are_set_and_applied(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stems = stems_of(seconds=1.2)
    t = np.arange(stems.shape[-1])
    stems[2] *= torch.from_numpy(np.exp(-(t % 7000) / 900).astype(np.float32)) * 4  # beats
    wanted = stems.clone()
    squash = {"threshold_db": -15.0, "ratio": 8.0, "attack_ms": 2.0, "release_ms": 60.0}
    wanted[2] = torch.from_numpy(EFFECTS["compression"].process(stems[2].numpy(), squash, RATE))
    mine, reference = write_stems(tmp_path / "mine", stems), write_stems(tmp_path / "reference", wanted)
    outputs = MatchOutputs(tmp_path / "a.wav", tmp_path / "chain.json", stems=tmp_path / "stems")
    matched, _ = match(settings, mine, [reference], outputs, search=True)
    assert "compression" in [effect.name for effect in matched.chain.strips[2].inserts]
    (told,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("drums: "))
    assert told == f"drums: {matched.chain.strips[2]}"
    distances = matched.chain.made["search"]["distances"]
    assert distances[matched.chain.made["search"]["chosen"]] == min(distances.values())
    # the compressor's attack of 2 ms is within a frame of 46 ms, so that the crest factor may be another one
    goal = short_time_power([wanted[2].numpy()])
    before = short_time_distance(short_time_power([stems[2].numpy()]), goal)
    assert short_time_distance(short_time_power([read(tmp_path / "stems" / "drums.wav")]), goal) < 0.5 * before
    assert read_chain(tmp_path / "chain.json").strips == matched.chain.strips
    apply(settings, tmp_path / "chain.json", [mine], tmp_path / "b.wav")
    assert (tmp_path / "b.wav").read_bytes() == (tmp_path / "a.wav").read_bytes()


def test_what_cannot_be_used_is_told(settings: Settings, folder: Path, tmp_path: Path) -> None:
    mine, reference = folder / "mine", folder / "reference"
    write_stems(tmp_path / "silent", torch.zeros(4, 2, 2 * RATE))
    good = MatchOutputs(tmp_path / "a.wav")
    (tmp_path / "file").write_text("")
    cases: tuple[tuple[Path, Path, MatchOutputs, dict[str, Any], str], ...] = (
        (mine, tmp_path / "silent", good, {}, "no-music"),
        (mine, tmp_path / "none.wav", good, {}, "not-found"),
        (mine, reference, MatchOutputs(tmp_path / "a.mp3"), {}, "bad-option"),
        (mine, reference, MatchOutputs(tmp_path / "file" / "a.wav"), {}, "cannot-write"),
        (mine, reference, MatchOutputs(tmp_path / ("a" * 300 + ".wav")), {}, "cannot-write"),
        (mine, reference, MatchOutputs(mine / "bass.wav"), {}, "bad-option"),
        (mine, reference, good, {"amount": 2.0}, "bad-option"),
        (mine, reference, good, {"keep": ["guitar"]}, "bad-option"),
    )
    for song, other, outputs, changes, code in cases:
        with pytest.raises(MixstyleError) as caught:
            match(settings, song, [other], outputs, **changes)
        assert caught.value.code == code
    assert not list(tmp_path.glob("a*"))


@pytest.mark.parametrize(("songs", "output"), [(2, "out.wav"), (2, "out.mp3"), (1, "out.mp3"), (1, "out.xyz")])
def test_an_output_of_apply_that_is_no_song_is_refused(
    settings: Settings, folder: Path, tmp_path: Path, songs: int, output: str
) -> None:
    write_chain(tmp_path / "chain.json", MatchChain(KNOWN, 0.0, -14.0))
    with pytest.raises(MixstyleError) as caught:
        apply(settings, tmp_path / "chain.json", [folder / "mine", folder / "reference"][:songs], tmp_path / output)
    assert caught.value.code == "bad-option"
    assert not (tmp_path / output).exists()


def test_a_clipped_song_is_told(settings: Settings, folder: Path, tmp_path: Path) -> None:
    clipped = stems_of()
    clipped[3] = 0
    clipped[2] = (20 * clipped[2]).clip(-0.9, 0.9)
    clipped[:2] = 0
    write_stems(tmp_path / "mine", clipped)
    matched, rendered = match(settings, tmp_path / "mine", [folder / "reference"], MatchOutputs(tmp_path / "a.wav"))
    assert any("clipped" in note for note in matched.chain.notes)
    assert [note for note in matched.chain.notes if note.startswith("vocals")]
    assert rendered.after.true_peak_dbtp <= -1


def test_a_chain_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "chain.json"
    chain = MatchChain(KNOWN, 1.5, -14.0, ("a note",), {"amount": 1.0})
    write_chain(path, chain)
    assert read_chain(path) == chain
    text = path.read_text()
    data = {name: value for name, value in json.loads(text).items() if name != "content_sha256"}
    data["stems"]["bass"]["gain_db"] = 5.0
    path.write_text(json.dumps(data))  # by hand, without the checksum
    assert read_chain(path).strips[1].gain_db == 5
    old = {**data, "version": 1, "stems": {stem: dict(strip) for stem, strip in data["stems"].items()}}
    for strip in old["stems"].values():
        del strip["effects"]
    path.write_text(json.dumps(old))
    assert read_chain(path).strips[2] == KNOWN[2]
    for changed, code in (
        (text.replace('"level_db": 1.5', '"level_db": 2.5'), "damaged-file"),
        (json.dumps({**data, "version": 4}), "unknown-version"),
        (json.dumps({**data, "kind": "x"}), "wrong-file"),
        (json.dumps({**data, "level_db": 500}), "wrong-file"),
        (json.dumps({**data, "stems": {}}), "wrong-file"),
        (json.dumps({**data, "mix": {"gain_db": 1.0}}), "wrong-file"),
        ("[1", "damaged-file"),
    ):
        path.write_text(changed)
        with pytest.raises(MixstyleError) as caught:
            read_chain(path)
        assert caught.value.code == code
    with pytest.raises(ValueError):
        Filter("bell", 1000.0, 30.0)


def test_what_holds_the_last_gain_is_told_with_how_far_the_song_is_from_the_reference() -> None:
    before, made = SongLoudness(-12.1, 5.0, -1.0), SongLoudness(-13.2, 5.0, 2.15)
    for reference_lufs, expected_lu in ((-13.6, -2.8), (-20.0, 0.5)):
        level_db = reference_lufs + 2 - before.loudness_lufs  # more than either ceiling leaves
        gain = output_gain(before, made, level_db, reference_lufs)
        after = replace(made, loudness_lufs=made.loudness_lufs + gain.gain_db)
        # LU, as it is printed: to a tenth
        assert after.loudness_lufs - reference_lufs == pytest.approx(expected_lu, abs=0.051)
        told = last_gain(RenderedSong(before, after, gain), reference_lufs)
        assert numbers(told)[:2] == [round(gain.gain_db, 1), abs(expected_lu)]
        mirrored = replace(after, loudness_lufs=2 * reference_lufs - after.loudness_lufs)
        other = last_gain(RenderedSong(before, mirrored, gain), reference_lufs)
        assert numbers(other) == numbers(told)
        assert other != told, "which of both is the louder one"
    free = RenderedSong(before, before, output_gain(before, before, -3.0, -13.6))
    assert numbers(last_gain(free, -13.6)) == [-3.0]
