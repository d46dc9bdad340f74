"""What a match is worth: pairs are drawn the same again, and strips that are known are undone."""

import json
from pathlib import Path

import pytest
import soundfile
from helpers.desk_songs import RATE, stems_of, through

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.matching.distance import mrstft
from mixstyle.stages.evaluate.match_pairs import AS_IS, LOUDNESS, TRUE_STEMS, Pair, distances, draw_pair, evaluate_match
from mixstyle.stages.settings.profile import load_settings


def test_a_match_undoes_most_of_known_strips() -> None:
    stems = stems_of()
    found = distances(Pair(0, stems, through(stems)), None)
    assert set(found) == {AS_IS, LOUDNESS, TRUE_STEMS}
    assert found[AS_IS] == mrstft(stems.sum(0), through(stems).sum(0))
    assert found[TRUE_STEMS] < 0.5 * found[AS_IS]
    same = distances(Pair(0, stems, stems), None)
    assert max(same.values()) < 1e-3


def test_the_same_pairs_are_measured_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(2):
        (tmp_path / "songs" / f"song {seed}").mkdir(parents=True)
        for stem, audio in zip(STEMS, stems_of(seed, 2.0).numpy(), strict=True):
            soundfile.write(tmp_path / "songs" / f"song {seed}" / f"{stem}.flac", audio.T, RATE)
    settings, songs = load_settings("demo"), tmp_path / "songs"
    made = evaluate_match(songs, tmp_path / "out", settings, pairs=3, effects=1, separate=False, clip_s=1.0)
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == made
    assert "no evidence" in capsys.readouterr().out
    pair = draw_pair(songs, ["song 0", "song 1"], settings.evaluate.seed, 1, 1, RATE)
    assert pair.song == 1
    expected = mrstft(pair.mine.sum(0), pair.wanted.sum(0))
    assert made["mrstft"][AS_IS]["pairs"][1] == pytest.approx(expected, abs=1e-5)
    for folder, pairs, code in ((tmp_path / "none", 3, "not-found"), (songs, 0, "bad-option")):
        with pytest.raises(MixstyleError) as caught:
            evaluate_match(folder, tmp_path / "out", settings, pairs=pairs, separate=False)
        assert caught.value.code == code
