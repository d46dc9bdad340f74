"""`mixstyle evaluate`: runs that are complete, seeded, go on, take what older versions left, and are refused."""

import dataclasses
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.evaluation import evaluation_of, trained_on_songs
from helpers.numbers import numbers
from helpers.small_cache import make_cache
from helpers.training import CLIP_S

from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.cache.storage.atomic import read_json
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.evaluate.models import SHIPPED, EncoderRow, rows_of
from mixstyle.stages.evaluate.stage import apart_from_albums, evaluate, held_out
from mixstyle.stages.evaluate.tasks import task as task_module
from mixstyle.stages.evaluate.tasks.registry import TASKS
from mixstyle.stages.evaluate.tasks.task import some_of
from mixstyle.stages.evaluate.tasks.variants import AS_PROCESSED, THROUGH_MIX
from mixstyle.stages.presentation.estimates import evidence_note
from mixstyle.stages.settings.evaluate import NEED_RENDERED
from mixstyle.stages.settings.profile import Settings

MODEL = "helpers.evaluation:Levels"
ROWS = ["best_model", SHIPPED, "untrained", "raw descriptors", "MFCC statistics"]
"""Without whitened descriptors: there are too few training songs."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return trained_on_songs(tmp_path_factory.mktemp("evaluated"))


def songs_of(settings: Settings) -> list:
    return held_out(StemCache(settings.separate.stems_dir))


def test_a_run_is_complete_seeded_and_goes_on(
    trained: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = evaluation_of(trained, tmp_path / "a", models=(MODEL,), effects=(3,))
    metrics = evaluate(first)
    out, errors = capsys.readouterr()
    for name in (*ROWS, "levels", "chance"):
        assert name in out
        assert name == "chance" or 0 <= metrics["same_chain"]["3"][name]["r1"] <= 1
    assert evidence_note(4) in out
    assert sum(line.startswith("evaluate: ") for line in out.splitlines()) == 2, "the note, and what is written"
    assert "evaluate: 4 held-out songs" in errors
    written = tmp_path / "a" / "metrics.json"
    assert read_json(written) == metrics
    whole = written.read_bytes()
    written.write_bytes(whole.replace(b'"songs"', b'"song5"', 1))  # four bits: JSON still
    with pytest.raises(MixstyleError) as caught:
        read_json(written)
    assert caught.value.code == "damaged-file"
    banks = tmp_path / "a" / "banks"
    assert sorted(path.name.rpartition("-")[0] for path in banks.iterdir() if path.is_dir()) == [
        "content_hard",
        "same_chain_3",
    ]
    monkeypatch.setattr(task_module, "apply_mix_chain", None)  # of what is kept nothing is rendered
    assert evaluate(first) == metrics
    with pytest.raises(MixstyleError) as caught:
        evaluate(evaluation_of(trained, tmp_path / "a", models=(MODEL,), effects=(3,), chains=11))
    assert caught.value.code == "stale"
    assert "chains: 10 -> 11" in str(caught.value)


@pytest.mark.slow
def test_a_bank_serves_any_number_of_runs_and_encoders(trained: Settings, tmp_path: Path) -> None:
    first = evaluation_of(trained, tmp_path / "a", models=(MODEL,))
    metrics, banks = evaluate(first), tmp_path / "a" / "banks"
    made = {path: path.stat().st_mtime_ns for path in banks.rglob("*.tar")}
    again = evaluation_of(trained, tmp_path / "b", models=(MODEL,), bank_dir=banks)
    assert evaluate(dataclasses.replace(again, evaluate=dataclasses.replace(again.evaluate, workers=2))) == metrics
    assert {path: path.stat().st_mtime_ns for path in banks.rglob("*.tar")} == made, "a bank serves any number of runs"
    # stopped half way: what is done is not done again
    (tmp_path / "b" / "same_chain_3.npz").unlink()
    kept = (tmp_path / "b" / "same_chain_1.npz").stat().st_mtime_ns
    assert evaluate(again) == metrics
    assert (tmp_path / "b" / "same_chain_1.npz").stat().st_mtime_ns == kept
    # the same tasks of another encoder in its place are done again
    shutil.copytree(first.train.checkpoint_dir, tmp_path / "ckpt")
    moved = dataclasses.replace(first, train=dataclasses.replace(first.train, checkpoint_dir=tmp_path / "ckpt"))
    content = torch.load(tmp_path / "ckpt" / "best_model.pt", weights_only=True)
    content["encoder"]["projection.weight"] *= -torch.randn(content["encoder"]["projection.weight"].shape).sign()
    torch.save(content, tmp_path / "ckpt" / "best_model.pt")
    assert evaluate(moved)["same_chain"] != metrics["same_chain"], "of the banks that are there"


def test_a_row_that_is_missing_is_added_to_what_was_embedded(trained: Settings, tmp_path: Path) -> None:
    """Folders of versions that had no row for the shipped encoder keep what they hold."""
    asked = evaluation_of(trained, tmp_path, tasks=("songs",))
    metrics = evaluate(asked)
    path = tmp_path / "song_retrieval.npz"
    with np.load(path) as stored:
        kept = {name: stored[name] for name in stored.files if name != SHIPPED}
    marked = {**kept, "best_model": -kept["best_model"]}  # all cosines stay: only the file tells
    np.savez(path, allow_pickle=False, **marked)
    assert evaluate(asked) == metrics
    with np.load(path) as stored:
        np.testing.assert_array_equal(stored["best_model"], marked["best_model"])
        assert SHIPPED in stored.files


def test_a_missing_checkpoint_is_named(trained: Settings, tmp_path: Path) -> None:
    with pytest.raises(MixstyleError) as caught:
        evaluate(evaluation_of(trained, tmp_path, checkpoints=(tmp_path / "none.pt",)))
    assert (caught.value.code, caught.value.remedy) == ("not-found", ())
    assert str(tmp_path / "none.pt") in str(caught.value)
    # one that training makes is made by training
    emptied = dataclasses.replace(trained.train, checkpoint_dir=tmp_path / "checkpoints")
    with pytest.raises(MixstyleError) as caught:
        evaluate(evaluation_of(dataclasses.replace(trained, train=emptied), tmp_path))
    assert (caught.value.code, caught.value.remedy) == ("step-missing", ("train",))


def test_more_effects_than_there_are_are_refused(trained: Settings, tmp_path: Path) -> None:
    with pytest.raises(MixstyleError) as caught:
        evaluate(evaluation_of(trained, tmp_path, effects=(99,)))
    assert caught.value.code == "bad-setting"
    assert "evaluate.effects" in str(caught.value)


def test_one_held_out_song_is_not_enough(tmp_path: Path) -> None:
    make_cache(tmp_path / "stems", tracks=4, clips=2, clip_s=CLIP_S, validation=1, per_shard=4)
    with pytest.raises(MixstyleError) as caught:
        held_out(StemCache(tmp_path / "stems"))
    assert caught.value.code == "no-music"


def test_songs_that_an_encoder_was_trained_on_are_left_out(trained: Settings) -> None:
    cache = StemCache(trained.separate.stems_dir)
    best = trained.train.checkpoint_dir / "best_model.pt"
    rows = rows_of([best], (), torch.device("cpu"))
    assert {track.track_id for track in held_out(cache, rows)} == {track.track_id for track in songs_of(trained)}
    # the same music, split in another way: what was trained on before is asked for now
    first = rows[0]
    assert isinstance(first, EncoderRow)
    turned = dataclasses.replace(first, trained_on=tuple(int(track.track_id, 16) for track in songs_of(trained)[:2]))
    assert [track.track_id for track in held_out(cache, [turned])] == [t.track_id for t in songs_of(trained)[2:]]


def test_albums_that_were_trained_on_are_left_out_where_enough_is_left(
    trained: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_cache(tmp_path / "stems", tracks=14, clips=1, clip_s=0.1, validation=12, per_shard=14)
    cache = StemCache(tmp_path / "stems")
    paths = ["a/0", "b/0", "a/1", "a/2", *(f"c/{i}" for i in range(10))]
    cache.tracks = [dataclasses.replace(t, path=path) for t, path in zip(cache.tracks, paths, strict=True)]
    (row,) = rows_of([trained.train.checkpoint_dir / "best_model.pt"], (), torch.device("cpu"))[:1]
    assert isinstance(row, EncoderRow)
    knows_a = dataclasses.replace(row, trained_on=(int(cache.tracks[0].track_id, 16),))
    songs = held_out(cache, [knows_a])
    found, count = apart_from_albums(cache, songs, [knows_a], "auto")
    assert ([song.path for song in found], count) == (paths[4:], 0)
    knows_c = dataclasses.replace(row, trained_on=(int(cache.tracks[4].track_id, 16),))
    songs = held_out(cache, [knows_c])
    found, count = apart_from_albums(cache, songs, [knows_c], "auto")
    assert found == songs
    assert count == 9, "too few songs are of other albums: all stay, and it is told"
    assert numbers(capsys.readouterr().err) == [2, 9, 11], "2 are left out; then 9 of 11 stay"


@pytest.mark.slow
def test_every_task_is_on_one_page(trained: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    separate = trained.separate
    # for time's sake without those that are others in another variant, and those that have tests of their own
    left_out = (
        *NEED_RENDERED,
        "songs-same-chain",
        "unseen-effects",
        "published-protocol",
        "mix-published-protocol",
        "stems-presets",
        "stems-parameters",
    )
    names = [name for name in TASKS if name not in left_out]
    asked = evaluation_of(trained, tmp_path / "out", tasks=tuple(names), effects=(2,))
    metrics = evaluate(asked)
    kinds = ("content_hard", "leakage", "presets", "parameters", "stems_content_hard", "stems_leakage")
    for key in (*kinds, "song_retrieval", "robustness", "real_mixes"):
        assert list(metrics[key]) == ROWS
    for key in ("same_chain", "stems_same_chain"):
        assert [list(entries) for entries in metrics[key].values()] == [ROWS]
    page = (tmp_path / "out" / "evaluation.html").read_text()
    assert page.count("<img") == 7
    heads = re.findall("<h2>(.*?)</h2>", page)
    assert len(heads) == len(set(heads)) == len(names), "each task has its own"
    by_way = [sum(head.endswith(f"({variant.words})") for head in heads) for variant in (THROUGH_MIX, AS_PROCESSED)]
    assert by_way == [4, 2]
    assert evidence_note(4) in page
    for figure in ("same_chain", "stems_same_chain", "map", "confusion", "parameters", "robustness"):
        assert (tmp_path / "out" / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
    # what was left out may be asked later, of the same folder
    few = dataclasses.replace(asked, evaluate=dataclasses.replace(asked.evaluate, tasks=("songs", "robustness")))
    assert list(evaluate(few)["song_retrieval"]) == ROWS
    asked_of_stems = dataclasses.replace(asked.evaluate, tasks=("songs", "robustness", "real-mixes"))
    given = dataclasses.replace(few, evaluate=asked_of_stems, separate=dataclasses.replace(separate, input="stems"))
    capsys.readouterr()
    of_stems = evaluate(given)
    assert (metrics["stems_given"], of_stems["stems_given"], "robustness" in of_stems) == (False, True, False)
    heads = re.findall("<h2>(.*?)</h2>", (tmp_path / "out" / "evaluation.html").read_text())
    assert heads == ["Given stems as they are", "Song retrieval (given stems as they are)"]
    (why,) = (line for line in capsys.readouterr().err.splitlines() if "separate.input" in line)
    assert "robustness" in why


def test_at_most_so_many_songs_are_drawn(trained: Settings) -> None:
    songs = songs_of(trained)
    some = some_of(songs, 2, 3)
    assert len(some) == 2
    assert [track for track in songs if track in some] == some
    assert some_of(songs, 99, 3) == songs
