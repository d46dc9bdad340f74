"""A chain that was changed by hand is read, or refused in words that name what is wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mixstyle.cache.match_chain import MatchChain, read_chain, write_chain
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.matching.desk import Filter, Strip

BASS = Strip((Filter("bell", 120.0, 1.5),), gain_db=2.0)


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    write_chain(tmp_path / "chain.json", MatchChain((Strip(), BASS, Strip(), Strip()), 1.0, -14.0))
    return tmp_path / "chain.json"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda d: d.pop("level_db"), "level_db"),
        (lambda d: d.pop("stems"), "stems"),
        (lambda d: d.update(notes=5), "notes"),
        (lambda d: d.update(level_db="loud"), "level_db"),
        (lambda d: d["stems"].update(bass=[1]), "bass"),
        (lambda d: d["stems"]["bass"].pop("gain_db"), "bass: gain_db"),
        (lambda d: d["stems"]["bass"].update(gain_db=99), "bass: gain_db"),
        (lambda d: d["stems"]["bass"].update(gain_db=True), "bass: gain_db"),
        (lambda d: d["stems"]["bass"].update(fader=1), "bass: there is no fader"),
        (lambda d: d["stems"]["bass"]["equaliser"][0].pop("gain_db"), "bass: gain_db"),
        (lambda d: d["stems"]["bass"]["equaliser"][0].update(slope=3), "bass: there is no slope"),
        (lambda d: d["stems"]["bass"]["equaliser"][0].update(frequency_hz="120"), "bass: frequency_hz"),
    ],
)
def test_what_is_wrong_is_named(chain: Path, change: Callable[[dict[str, Any]], object], named: str) -> None:
    data = json.loads(chain.read_text())
    del data["content_sha256"]
    change(data)
    chain.write_text(json.dumps(data))
    with pytest.raises(MixstyleError) as error:
        read_chain(chain)
    assert error.value.code == "wrong-file"
    assert named in error.value.message
    assert "__init__" not in error.value.message
    assert "\n" not in error.value.message


def test_a_change_by_hand_counts_once_the_checksum_is_gone(chain: Path) -> None:
    changed = json.loads(chain.read_text())
    changed["stems"]["bass"]["gain_db"] = -3
    chain.write_text(json.dumps(changed))
    with pytest.raises(MixstyleError, match="content_sha256") as error:
        read_chain(chain)
    assert error.value.code == "damaged-file"
    del changed["content_sha256"]
    chain.write_text(json.dumps(changed))
    assert read_chain(chain).strips[1].gain_db == -3
