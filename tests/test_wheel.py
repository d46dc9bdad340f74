"""The wheel as a stranger installs it: what is in it, and its commands from an empty folder in a fresh environment."""

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from helpers.paths import ROOT

from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.synth.song import render_song

pytestmark = pytest.mark.slow
MOST_MB = 25
PACKAGES = {
    "api": "",
    "pipeline": "pipeline",
    "cache": "cache",
    "stages": "stages",
}
"""Folder of the checkout -> package inside mixstyle. Configs and separators hold data alone: recipes stay behind."""
IMPORT_ALL = """
import importlib, pkgutil, mixstyle
names = [found.name for found in pkgutil.walk_packages(mixstyle.__path__, "mixstyle.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(len(names), mixstyle.__file__)
"""


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints; the test fails with all of it where the command does."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def uv() -> str:
    found = shutil.which("uv")
    if found is None:
        pytest.skip("needs uv")
    return found


@pytest.fixture(scope="module")
def wheel(uv: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(uv, "build", "-q", "-o", folder, ROOT, cwd=folder)  # by way of the source distribution: no stale build folder
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def environment(uv: str, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The bin folder of an environment that holds the wheel and what it asks for, and nothing else."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    run(uv, "venv", "-q", "--python", sys.executable, folder, cwd=folder.parent)
    # torch of the machine's own environment: its index (CPU or CUDA) is not the wheel's matter
    run(uv, "pip", "install", "-q", "--python", folder / "bin" / "python", wheel, cwd=folder.parent)
    yield folder / "bin"
    shutil.rmtree(folder)  # gigabytes, which pytest would keep for three runs


def modules() -> set[str]:
    """Every module of the checkout, as a path inside the wheel."""
    return {
        "/".join(part for part in ("mixstyle", inside, path.relative_to(ROOT / folder).as_posix()) if part)
        for folder, inside in PACKAGES.items()
        for path in (ROOT / folder).rglob("*.py")
    }


def test_it_holds_every_module_and_every_shipped_file_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert {name for name in names if name.endswith(".py")} == modules()
    configs = {f"mixstyle/configs/{path.name}" for path in (ROOT / "configs").iterdir()}
    separators = ROOT / "Music-Source-Separation-Training" / "configs"
    configs |= {f"mixstyle/separators/configs/{path.name}" for path in separators.iterdir()}
    shipped = {
        "mixstyle/encoder.safetensors",
        "mixstyle/encoder_1.safetensors",
        "mixstyle/pipeline/descriptors/kernels/measure.c",
        "mixstyle/pipeline/separation/kernels/lstm.c",
        "mixstyle/py.typed",
        "mixstyle/separators/scnet_tiny.safetensors",
        "mixstyle/separators/scnet_tiny_2.json",
        "mixstyle/separators/scnet_tiny_2.safetensors",
    }
    pages = {"mixstyle/stages/presentation/page.css"}
    assets = ROOT / "stages" / "songs" / "browse" / "assets"
    pages |= {f"mixstyle/stages/songs/browse/assets/{path.name}" for path in assets.iterdir()}
    assert {name for name in names if not name.endswith(".py")} == configs | shipped | pages
    assert wheel.stat().st_size < MOST_MB * 1e6


def test_every_module_is_imported_from_an_empty_folder(environment: Path, tmp_path: Path) -> None:
    count, _, where = (
        run(environment / "python", "-c", IMPORT_ALL, cwd=tmp_path).strip().rpartition("\n")[2].partition(" ")
    )
    assert int(count) > 100
    assert where.startswith(str(environment.parent)), "the checkout was imported in its place"
    assert list(tmp_path.iterdir()) == []


def test_a_song_is_described_embedded_indexed_and_found(environment: Path, tmp_path: Path) -> None:
    music = tmp_path / "music"
    music.mkdir()
    for seed in (3, 4):
        mixture = render_song(seed, 24.0).mixture.T
        soundfile.write(music / f"song {seed}.flac", mixture, SAMPLE_RATE, subtype="PCM_16")
    song = Path("music") / "song 3.flac"

    def mixstyle(*arguments: str | Path) -> str:
        return run(environment / "mixstyle", *arguments, cwd=tmp_path)

    assert "vocals" in mixstyle("describe", song)
    mixstyle("embed", song, "-o", "embeddings.npy")
    assert (tmp_path / "embeddings.npy").stat().st_size > 768 * 4
    mixstyle("index", music)
    told = mixstyle("search", song, "-k", "2")
    assert "song 3.flac" in told
    assert "song 4.flac" in told
