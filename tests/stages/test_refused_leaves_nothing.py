"""Commands that are refused, early or late: no folder, lock or file is left where there was none."""

import shlex
from pathlib import Path

import pytest
import yaml
from helpers.mixed_cache import CLIP_S, make_stems
from helpers.small_encoder import write_encoder
from helpers.small_separator import song, write_separator
from soundfile import write as write_audio
from typer.testing import CliRunner

from mixstyle.cache.match_chain import MatchChain, write_chain
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.matching.desk import Strip
from mixstyle.stages.cli import app
from mixstyle.stages.features.stage import features
from mixstyle.stages.settings.profile import load_settings

pytestmark = pytest.mark.usefixtures("one_thread")

TRACKS = 6
SHORT = {
    "OUT": "new/out",
    "PAIR": "separate.separator_checkpoint",
    "MADE": "--set separate.stems_dir=made",
    "OWN": """--set 'evaluate.checkpoints=["encoder.safetensors"]'""",
}
REFUSED = {
    "separate, no table of artists": ("not-found", "separate --set separate.tracks_csv=none.csv"),
    "separate, a table of artists that is none": ("bad-list", "separate --set separate.tracks_csv=bad.csv"),
    "separate, no separator": ("not-found", "separate --set PAIR=none.ckpt"),
    "separate, a damaged separator": ("damaged-file", "separate --set PAIR=bad.ckpt"),
    "separate, clips that are too short": ("bad-setting", "separate --set separate.clip_s=0.1"),
    "separate, no cluster": ("not-found", "separate --ray 127.0.0.1:1"),
    "separate, no address of a cluster": ("bad-option", "separate --ray here"),
    "separate, a cluster and devices": ("bad-option", "separate --ray local --devices 2"),
    "remix, no cluster": ("not-found", "remix MADE --ray ray://127.0.0.1:1"),
    "features, no cluster": ("not-found", "features --set separate.stems_dir=made --ray 127.0.0.1:1"),
    "remix, too few songs": ("misfit", "remix MADE --set remix.contents=50"),
    "remix, no separator": ("not-found", "remix MADE --set PAIR=none.ckpt"),
    "remix, a damaged separator": ("damaged-file", "remix MADE --set PAIR=bad.ckpt"),
    "remix, no second separator": (
        "not-found",
        """remix MADE --set 'remix.separators=[["separator/separator.yaml", "none.ckpt"]]'""",
    ),
    "remix, more effects than there are": ("bad-setting", "remix MADE --set 'remix.effects=[1,99]'"),
    "features, no stems": ("step-missing", "features"),
    "train, too few songs": ("bad-setting", "train MADE --set train.batch_size=1000"),
    "train, a damaged start": ("damaged-file", "train MADE --set train.start_from=bad.pt"),
    "train, a start of other sizes": (
        "bad-setting",
        "train MADE --set train.start_from=encoder.safetensors --set train.batch_size=2",
    ),
    "train, clips that are too long": ("bad-setting", "train MADE --set train.clip_duration_s=60"),
    "report, no checkpoint": ("step-missing", "report MADE"),
    "report, a damaged checkpoint": ("damaged-file", "report MADE --set report.checkpoint=bad.pt"),
    "report, too few songs": (
        "bad-setting",
        "report MADE --set report.checkpoint=encoder.safetensors --set report.split=test",
    ),
    "evaluate, no checkpoint": ("step-missing", "evaluate MADE"),
    "evaluate, a damaged checkpoint": ("damaged-file", """evaluate MADE --set 'evaluate.checkpoints=["bad.pt"]'"""),
    "evaluate, more effects than there are": ("bad-setting", "evaluate MADE OWN --set 'evaluate.effects=[99]'"),
    "evaluate, no separator": ("not-found", "evaluate MADE OWN --set PAIR=none.ckpt"),
    "evaluate, a damaged separator": ("damaged-file", "evaluate MADE OWN --set PAIR=bad.ckpt"),
    "evaluate, no training songs": ("step-missing", "evaluate MADE OWN --set evaluate.training_stems_dir=none"),
    "evaluate-match, songs that are too short": ("bad-audio", "evaluate-match true OUT --clip-s 60 --no-separate"),
    "evaluate-match, no separator": ("not-found", "evaluate-match true OUT --set PAIR=none.ckpt"),
    "evaluate-musdb, no checkpoint": ("not-found", "evaluate-musdb true OUT --checkpoint none.pt"),
    "evaluate-musdb, a damaged checkpoint": ("damaged-file", "evaluate-musdb true OUT --checkpoint bad.pt"),
    "export": ("damaged-file", "export OUT/e.safetensors --checkpoint bad.pt"),
    "export, no card": ("not-found", "export OUT/e.safetensors --checkpoint encoder.safetensors --card no.md"),
    "fetch-separator": ("remote", "fetch-separator http://127.0.0.1:9/x.ckpt -o OUT/x.ckpt"),
    "index, no encoder": ("not-found", "index music --index OUT --encoder none.pt"),
    "index, a damaged encoder": ("damaged-file", "index music --index OUT --encoder bad.pt"),
    "index, no cluster": ("not-found", "index music --index OUT --ray 127.0.0.1:1"),
    "search, no index": ("step-missing", "search song.wav --index OUT --json OUT/s.json --csv OUT/s.csv"),
    "browse, no index": ("step-missing", "browse --index OUT"),
    "browse, a damaged encoder": ("step-missing", "browse --index OUT --encoder bad.pt"),
    "embed": ("no-music", "embed bad.wav -o OUT/e.parquet"),
    "embed, a damaged encoder": ("damaged-file", "embed song.wav -o OUT/e.parquet --encoder bad.pt"),
    "compare": ("no-music", "compare song.wav bad.wav --png OUT/c.png --csv OUT/c.csv"),
    "describe": ("no-music", "describe bad.wav --png OUT/d.png --csv OUT/d.csv --html OUT/d.html"),
    "describe, several": ("no-music", "describe bad.wav bad.wav --png OUT --html OUT"),
    "describe, no separator": ("not-found", "describe song.wav --png OUT/d.png --set PAIR=none.ckpt"),
    "stems": ("no-music", "stems bad.wav -o OUT"),
    "stems, several": ("no-music", "stems bad.wav bad.wav -o OUT"),
    "match": ("no-music", "match bad.wav -r song.wav -o OUT/m.wav --chain OUT/c.json --write-stems OUT/s"),
    "match, a bad reference": ("no-music", "match song.wav -r bad.wav -o OUT/m.wav --ab OUT/ab"),
    "match, a search with a damaged encoder": (
        "damaged-file",
        "match song.wav -r song.wav -o OUT/m.wav --search --set embed.encoder=bad.pt",
    ),
    "apply": ("no-music", "apply chain.json bad.wav -o OUT/a.wav"),
    "apply, several": ("no-music", "apply chain.json bad.wav bad.wav -o OUT"),
    "apply, a bad chain": ("damaged-file", "apply bad.json song.wav -o OUT/a.wav"),
    "apply, no separator": ("not-found", "apply chain.json song.wav -o OUT/a.wav --set PAIR=none.ckpt"),
}
"""By name: the code of the error, and the command, with the words of `SHORT` in it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Songs, stems with their descriptors, small networks, and files of each kind that are damaged."""
    folder = tmp_path_factory.mktemp("refused")
    (folder / "music").mkdir()
    for name in ("song.wav", "music/song.wav"):
        write_audio(folder / name, song(0, 2.0), 44_100)
    for name in ("one", "two"):
        (folder / "true" / name).mkdir(parents=True)
        for seed, stem in enumerate(STEMS):
            write_audio(folder / "true" / name / f"{stem}.wav", song(seed, 2.0), 44_100)
    for name in ("bad.wav", "bad.pt", "bad.ckpt", "bad.json"):
        (folder / name).write_bytes(b"of no kind at all")
    (folder / "bad.csv").write_text("a,b\n1,2\n")
    write_chain(folder / "chain.json", MatchChain((Strip(),) * 4, 0.0, -14.0))
    write_separator(folder / "separator", num_overlap=1)
    write_encoder(folder / "encoder.safetensors")
    make_stems(folder / "made", TRACKS, clips=2)
    cpu = {"device": "cpu"}
    pair = {
        "separator_config": "separator/separator.yaml",
        "separator_checkpoint": "separator/separator.safetensors",
    }
    sections = {
        "separate": {"data_path": "music", "stems_dir": "new/stems", "clip_s": CLIP_S, "threads": 1, **cpu, **pair},
        "remix": {"remix_dir": "new/remix", "blocks": 2, "contents": 2, "clip_s": CLIP_S, "threads": 1, **cpu},
        "features": {"features_path": "made.zarr", "batch_clips": 3, **cpu},
        "train": {"checkpoint_dir": "new/checkpoints", "log_dir": "new/logs", "clip_duration_s": CLIP_S, **cpu},
        "report": {"report_dir": "new/report", **cpu},
        "evaluate": {"evaluate_dir": "new/evaluation", "bank_dir": "new/banks", "clip_s": 0.5, **cpu},
        "embed": {"index_dir": "new/index", "encoder": "encoder.safetensors", **cpu},
    }
    (folder / "p.yaml").write_text(yaml.safe_dump(sections))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        features(load_settings("p.yaml", ["separate.stems_dir=made", "remix.blocks=0"]))
    return folder


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    monkeypatch.chdir(folder)
    code, typed = REFUSED[case]
    for word, means in SHORT.items():
        typed = typed.replace(word, means)
    words = shlex.split(typed)
    before = sorted(folder.rglob("*"))
    result = CliRunner().invoke(app, [*words, *([] if words[0] == "fetch-separator" else ["--config", "p.yaml"])])
    left = sorted({*folder.rglob("*")} - {*before})
    for path in reversed(left):  # the other cases begin without it
        path.rmdir() if path.is_dir() else path.unlink()
    assert isinstance(result.exception, MixstyleError), result.exception
    assert (result.exception.code, [path.name for path in left]) == (code, [])
