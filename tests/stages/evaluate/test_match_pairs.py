"""What a match is worth: pairs are drawn the same again, and strips that are known are undone."""

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyloudnorm
import pytest
import soundfile
import torch
from helpers.desk_songs import RATE, stems_of, through
from helpers.small_separator import write_separator

from mixstyle.cache.storage.atomic import read_json, write_json
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.descriptors.compute import DESCRIPTORS, describe
from mixstyle.pipeline.descriptors.table import COLUMN
from mixstyle.pipeline.matching.desk import Filter, Strip
from mixstyle.pipeline.matching.distance import mrstft
from mixstyle.pipeline.matching.estimate import estimate
from mixstyle.pipeline.matching.metric import DescriptorMetric
from mixstyle.pipeline.matching.on_the_mix import mix_strip
from mixstyle.pipeline.matching.profile import measure_profile
from mixstyle.pipeline.matching.render import SongRunner
from mixstyle.pipeline.mixing.mix_chain import Effect, MixChain, apply_mix_chain
from mixstyle.pipeline.separation.separator import load_separator
from mixstyle.stages.evaluate import match_pairs, match_results
from mixstyle.stages.evaluate.match_pairs import MatchTask, draw_pair, draw_unpaired, evaluate_match
from mixstyle.stages.evaluate.match_rows import (
    AS_IS,
    KNOWN_EFFECTS,
    KNOWN_INSERTS,
    KNOWN_SETTINGS,
    LOUDNESS,
    MATCHERING,
    MIX_ONLY,
    SEPARATED,
    TRUE_STEMS,
    Pair,
    Tools,
    paired,
    rows,
    settings_errors,
    unpaired,
)
from mixstyle.stages.presentation.estimates import evidence_note
from mixstyle.stages.settings.profile import load_settings

TOOLS = Tools(None, False, DescriptorMetric(np.ones(len(DESCRIPTORS))), False, None)


@pytest.fixture
def no_matchering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mixstyle.stages.evaluate.match_rows.has_matchering", lambda: False)
    for module in (match_pairs, match_results):
        monkeypatch.setattr(module, "has_matchering", lambda: False)


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs") / "songs"
    for seed in range(2):
        (folder / f"song {seed}").mkdir(parents=True)
        for stem, audio in zip(STEMS, stems_of(seed, 2.0).numpy(), strict=True):
            soundfile.write(folder / f"song {seed}" / f"{stem}.flac", audio.T, RATE)
    return folder


@pytest.mark.usefixtures("no_matchering")
def test_a_match_undoes_most_of_known_strips() -> None:
    stems = stems_of()
    pair = Pair(0, stems, through(stems))
    found = paired(pair, rows(pair, TOOLS), TOOLS)
    assert set(found) == {AS_IS, LOUDNESS, TRUE_STEMS}
    assert found[AS_IS]["mrstft"] == mrstft(stems.sum(0), through(stems).sum(0))
    for measure in ("mrstft", "descriptors", "balance_lu", "octaves_db"):
        assert found[TRUE_STEMS][measure] < 0.5 * found[AS_IS][measure], measure
    same = paired(Pair(0, stems, stems), rows(Pair(0, stems, stems), TOOLS), TOOLS)
    assert max(same[row]["mrstft"] for row in same) < 1e-3
    other = Pair(0, stems, stems_of(5))
    assert set(unpaired(other, rows(other, TOOLS), TOOLS)[TRUE_STEMS]) == {"descriptors"}


@pytest.mark.usefixtures("no_matchering")
def test_separated_stems_and_what_they_leave(tmp_path: Path) -> None:
    separator = load_separator(*write_separator(tmp_path, num_overlap=1), torch.device("cpu"))
    tools = Tools(separator.separate, False, TOOLS.metric, False, None)
    stems = stems_of(seconds=1.0)
    brighter = through(stems, (Strip((Filter("high shelf", 3000.0, 14.0),)),) * 4)  # beyond the bound of stems
    pair = Pair(0, stems, brighter)
    made = rows(pair, tools)
    meter = pyloudnorm.Meter(RATE)
    matched, wanted = (meter.integrated_loudness(one.T.numpy()) for one in (made[SEPARATED].mix, brighter.sum(0)))
    assert matched == pytest.approx(
        wanted, abs=1e-3
    )  # LU; a gain in float64 on float32 samples, whose noise is at -150 dB
    # what is set follows from the separated stems alone: the same by hand
    mine, theirs = separator.separate([stems.sum(0), brighter.sum(0)])
    strips = estimate(measure_profile([mine]), measure_profile([theirs])).strips
    bus = mix_strip([SongRunner(strips).run(mine.sum(0).numpy(), mine.numpy())[0]], [theirs.sum(0).numpy()])
    assert bus.filters
    expected = SongRunner(strips, mix=bus).run(stems.sum(0).numpy(), mine.numpy())[0]
    factor = np.sqrt((made[SEPARATED].mix.numpy() ** 2).sum() / (expected**2).sum())
    np.testing.assert_allclose(
        made[SEPARATED].mix.numpy(), factor * expected, atol=1e-6
    )  # float32 up to 1.8: 2^-24 of it, in a gain and a product
    found = paired(pair, made, tools)
    assert all(found[row]["descriptors"] > 0 for row in found)  # of every row's mix, separated again
    assert "crest_db" not in found[SEPARATED]
    same = Pair(0, stems, stems)
    assert paired(same, rows(same, tools), tools)[SEPARATED]["mrstft"] < 1e-3


@pytest.mark.usefixtures("no_matchering")
def test_with_a_perfect_separator_settings_of_true_stems_give_the_match_of_true_stems() -> None:
    stems = stems_of(seconds=2.0)
    wanted = through(stems)
    told = {float(one.sum(0).square().sum()): one for one in (stems, wanted)}
    tools = replace(TOOLS, separate=lambda mixes: [told[float(mix.square().sum())] for mix in mixes])
    made = rows(Pair(0, stems, wanted), tools)
    assert torch.equal(made[KNOWN_SETTINGS].mix, made[TRUE_STEMS].mix)
    apart = {row: mrstft(one.mix, wanted.sum(0)) for row, one in made.items()}
    assert apart[KNOWN_SETTINGS] < apart[MIX_ONLY] < apart[AS_IS]
    # one filter on all stems is a filter on the mix
    brighter = through(stems, (Strip((Filter("high shelf", 3000.0, 6.0),)),) * 4)
    told[float(brighter.sum(0).square().sum())] = brighter
    made = rows(Pair(0, stems, brighter), tools)
    apart = {row: mrstft(one.mix, brighter.sum(0)) for row, one in made.items()}
    assert apart[MIX_ONLY] < 0.2 * apart[AS_IS]


@pytest.mark.usefixtures("no_matchering")
def test_rows_that_know_the_effects_add_them_and_nothing_else() -> None:
    stems = stems_of(seconds=2.0)
    saturated = Effect("saturation", {"drive_db": 20.0})
    echo = Effect("delay", {"delay_ms": 150.0, "feedback": 0.3, "echo_gain_db": -6.0})
    for chain, exact, more in (
        ((saturated,), KNOWN_INSERTS, KNOWN_EFFECTS),
        ((echo,), KNOWN_EFFECTS, KNOWN_INSERTS),
    ):
        made_by = MixChain((chain,) * len(STEMS))
        pair = Pair(0, stems, torch.from_numpy(apply_mix_chain(stems.numpy(), made_by)), made_by)
        found = paired(pair, rows(pair, TOOLS), TOOLS)
        # the same samples but for a gain of the loudness, which float32 has within 1e-6
        assert found[exact]["mrstft"] < 1e-3 < found[TRUE_STEMS]["mrstft"]
        # a search may set saturation, and no delay: without the delay the row is that of the closed form
        expected = 0.0 if more == KNOWN_EFFECTS else found[TRUE_STEMS]["mrstft"]
        assert found[more]["mrstft"] == pytest.approx(expected, abs=1e-3)
    known = MixChain(((Effect("gain", {"gain_db": 6.0}), saturated),) * len(STEMS))
    pair = Pair(0, stems, torch.from_numpy(apply_mix_chain(stems.numpy(), known)), known)
    np.testing.assert_array_equal(
        rows(pair, TOOLS)[KNOWN_INSERTS].stems,
        rows(replace(pair, chain=MixChain(((saturated,),) * len(STEMS))), TOOLS)[KNOWN_INSERTS].stems,
    )


def test_errors_of_settings_are_means_over_stems_that_both_have() -> None:
    first = describe(stems_of(seconds=1.0)[None])[0].numpy()
    second = first.copy()
    second[COLUMN["bass_relative_loudness_lu"]] -= 4
    second[COLUMN["drums_octave_1000hz_db"]] += 6
    found = settings_errors(first, second)
    # float32 of up to 64 in size hold 4 LU and 6 dB to 64 * 2^-24 = 4e-6
    assert found["balance_lu"] == pytest.approx(1.0, abs=4e-6)
    assert found["octaves_db"] == pytest.approx(6 / 32, abs=4e-6)  # eight octaves of four stems
    assert found["crest_db"] == found["width_db"] == 0


@pytest.mark.skipif(importlib.util.find_spec("matchering") is None, reason="the package matchering is not installed")
def test_matchering_is_a_row_at_the_references_loudness() -> None:
    stems = stems_of(seconds=4.0)
    pair = Pair(0, stems, through(stems))
    mix = pair.wanted.sum(0)
    found = rows(pair, TOOLS)
    assert found[MATCHERING].mix.shape == mix.shape
    assert mrstft(found[MATCHERING].mix, mix) < mrstft(found[LOUDNESS].mix, mix)


@pytest.mark.usefixtures("no_matchering")
def test_the_same_pairs_are_measured_again(songs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings, task = load_settings("demo"), MatchTask(2, 1, effects=1, separate=False, clip_s=1.0)
    made = evaluate_match(songs, tmp_path, settings, task)
    assert json.loads((tmp_path / "metrics.json").read_text()) == made
    assert made["songs"] == 2
    assert evidence_note(2) in capsys.readouterr().out
    pair = draw_pair(songs, ["song 0", "song 1"], settings.evaluate.seed, 1, 1, RATE)
    assert pair.song == 1
    expected = mrstft(pair.mine.sum(0), pair.wanted.sum(0))
    assert made["paired"][AS_IS]["mrstft"]["pairs"][1] == pytest.approx(expected, abs=5.1e-6)  # kept to 5 decimals
    assert len(made["unpaired"][TRUE_STEMS]["descriptors"]["pairs"]) == 1
    other = draw_unpaired(songs, ["song 0", "song 1"], settings.evaluate.seed, 0, 1, RATE)
    assert not np.allclose(other.mine.sum(0), other.wanted.sum(0), atol=0.1)
    # what was measured is kept: more pairs go on from there, other settings begin again
    kept = read_json(tmp_path / "pairs.json")
    kept["rows"]["paired"]["0"]["values"][AS_IS]["mrstft"] = 77.0
    write_json(tmp_path / "pairs.json", kept, checksum=True)
    again = evaluate_match(songs, tmp_path, settings, MatchTask(2, 0, effects=1, separate=False, clip_s=1.0))
    assert again["paired"][AS_IS]["mrstft"]["pairs"][0] == 77
    again = evaluate_match(songs, tmp_path, settings, MatchTask(1, 0, effects=0, separate=False, clip_s=1.0))
    assert again["paired"][AS_IS]["mrstft"]["pairs"][0] < 10


@pytest.mark.usefixtures("no_matchering")
def test_pairs_before_a_failure_are_kept_and_damaged_ones_measured_anew(
    songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, task = load_settings("demo"), MatchTask(2, 0, effects=1, separate=False, clip_s=1.0)
    measured: list[int] = []

    def measure(pair: Pair, *_: object) -> dict[str, dict[str, float]]:
        measured.append(pair.song)
        if measured == [0, 1]:
            raise KeyboardInterrupt
        return {AS_IS: {"mrstft": 1.0}}

    monkeypatch.setattr(match_pairs, "rows", lambda *_: {})
    monkeypatch.setattr(match_pairs, "paired", measure)
    with pytest.raises(KeyboardInterrupt):
        evaluate_match(songs, tmp_path, settings, task)
    evaluate_match(songs, tmp_path, settings, task)
    assert measured == [0, 1, 1], "the first pair was measured again"
    whole = (tmp_path / "pairs.json").read_text()
    rowless = json.dumps(
        {name: [] if name == "rows" else value for name, value in read_json(tmp_path / "pairs.json").items()}
    )
    for damaged in (b"{", b"", b"[]", b"{}", rowless.encode(), whole.replace("1.0", "1.5").encode()):
        (tmp_path / "pairs.json").write_bytes(damaged)
        del measured[:]
        measured.append(9)  # nothing is interrupted
        evaluate_match(songs, tmp_path, settings, task)
        assert measured == [9, 0, 1]


@pytest.mark.usefixtures("no_matchering")
@pytest.mark.parametrize("change", ["effect", "encoder", "songs", "descriptors", "version 2"])
def test_what_follows_from_something_else_is_measured_anew(
    change: str, songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An effect of another version, say: as a run before that version would have left it."""
    settings, task = load_settings("demo"), MatchTask(1, 0, effects=1, separate=False, clip_s=1.0)
    mine = shutil.copytree(songs, tmp_path / "songs")
    measured: list[int] = []

    def measure(pair: Pair, *_: object) -> dict[str, dict[str, float]]:
        measured.append(pair.song)
        return {AS_IS: {"mrstft": 1.0}}

    monkeypatch.setattr(match_pairs, "rows", lambda *_: {})
    monkeypatch.setattr(match_pairs, "paired", measure)
    for _ in range(2):
        evaluate_match(mine, tmp_path, settings, task)
    assert measured == [0]
    kept = read_json(tmp_path / "pairs.json")
    stored = kept["made_from"]
    if change == "effect":
        stored["made_from"]["effect_versions"]["compression"] -= 1
    elif change == "encoder":
        stored["made_from"]["encoder"] = "0" * 64
    elif change == "descriptors":
        stored["versions"]["descriptors_version"] -= 1
    elif change == "version 2":
        kept = {"version": 2, "made_from": {**task.__dict__, "stems": str(mine), "songs": 2}, "rows": kept["rows"]}
    else:
        soundfile.write(mine / "song 1" / "bass.flac", stems_of(7, 2.5).numpy()[1].T, RATE)
    write_json(tmp_path / "pairs.json", kept, checksum=True)
    for _ in range(2):
        evaluate_match(mine, tmp_path, settings, task)
    assert measured == [0, 0]


def test_what_cannot_be_measured_is_refused(songs: Path, tmp_path: Path) -> None:
    settings = load_settings("demo")
    with pytest.raises(MixstyleError) as caught:
        evaluate_match(tmp_path / "none", tmp_path / "out", settings, MatchTask(3, separate=False))
    assert caught.value.code == "not-found"
    for pairs, others, effects in ((0, 0, 4), (3, -1, 4), (3, 0, 99)):
        with pytest.raises(MixstyleError) as caught:
            MatchTask(pairs, others, effects)
        assert caught.value.code == "bad-option"
    for clip_s in (float("nan"), float("inf"), 0.0, -1.0, 1e23):
        with pytest.raises(MixstyleError) as caught:
            MatchTask(3, clip_s=clip_s)
        assert caught.value.code == "bad-option"
