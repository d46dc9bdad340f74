"""Versions for `mixstyle doctor`, and the optional parts that are missing. Packages are asked for, not imported."""

import importlib.util
import platform
import re
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from mixstyle.cache.music import ffmpeg
from mixstyle.stages.doctor.findings import Failure, Problem, Section, facts_of, tried

ASKED = (
    *("mixstyle", "torch", "torchaudio", "numpy", "scipy", "webdataset", "zarr", "numcodecs", "pedalboard"),
    *("soundfile", "safetensors", "pydantic", "pyarrow", "faiss-cpu", "fsspec", "typer", "rich", "dvc"),
)
"""Packages whose versions a bug report needs; mixstyle needs all of them."""
OPTIONAL = {
    "s3fs": ("s3fs", "music and stems behind s3://"),
    "ray": ("ray>=2.49", "--ray: several machines"),
    "demucs": ("demucs>=4.1,<5", "HTDemucs separators"),
    "pandas": ("pandas", "FeatureStore.to_dataframe"),
    "multiafx": ("multiafx==0.1.1", "the evaluation's task unseen-effects"),
}
"""Packages that are needed for one thing only: what to install where no extra names it, and what it is for."""


def versions_section() -> Section:
    """Versions of Python and of the packages that mixstyle needs."""
    facts = {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        **facts_of({name: lambda name=name: metadata.version(name) for name in ASKED}),
        "libsndfile": tried(_libsndfile),
        "ffmpeg": tried(ffmpeg_version),
    }
    missing = [name for name in ASKED[1:] if isinstance(facts[name], Failure)]
    problems = [Problem(f"{name} is not installed", installing(requirement(name))) for name in missing]
    return Section("versions", facts, (*problems, *pair_problems(facts["torch"], facts["torchaudio"])))


def pair_problems(torch: object, torchaudio: object) -> tuple[Problem, ...]:
    """What to say of two versions that do not belong together: torchaudio works with the torch of its number.

    It may be older in the third part, but not newer: torchaudio 2.11.1 fails at import under torch 2.11.0.
    """
    if not isinstance(torch, str) or not isinstance(torchaudio, str):
        return ()
    (number, _, build), (other, _, other_build) = torch.partition("+"), torchaudio.partition("+")
    parts, other_parts = _numbers(number), _numbers(other)
    fits = parts[:2] == other_parts[:2] and other_parts <= parts
    if fits and (build == other_build or not (build and other_build)):
        return ()
    remedy = installing(requirement("torch"), requirement("torchaudio"), again=True)
    return (Problem(f"torch {torch} and torchaudio {torchaudio} do not match", remedy),)


def _numbers(version: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", version)]


def optional_section() -> Section:
    """Which optional parts are there, and how to get the others."""
    facts: dict[str, str] = {}
    commands: list[str] = []
    for name, (_, purpose) in OPTIONAL.items():
        found = tried(lambda name=name: metadata.version(name))
        facts[name] = f"missing ({purpose})" if isinstance(found, Failure) else found
        if isinstance(found, Failure):
            commands.append(f"{purpose} needs {name}: {installing(requirement(name))}")
    facts["ffmpeg"] = "there" if ffmpeg.installed() else "missing (music that libsndfile does not read: M4A, WMA, ...)"
    if not ffmpeg.installed():
        commands.append(f"music in other formats needs ffmpeg: {_installing_ffmpeg()}")
    return Section("optional parts", facts | ({"to_get_them": commands} if commands else {}))


def requirement(name: str) -> str:
    """A package with the versions that mixstyle asks for, as pip reads it: `torch==2.11.*`."""
    told = tried(lambda: metadata.requires("mixstyle") or [])
    for line in [] if isinstance(told, Failure) else told:
        wanted = line.partition(";")[0].strip()
        if re.split(r"[^\w.-]", wanted, maxsplit=1)[0].lower() == name:
            return wanted
    return OPTIONAL[name][0] if name in OPTIONAL else name


def installing(*wanted: str, again: bool = False) -> str:
    """The command that installs packages into the Python that runs now. again: also where they are there."""
    python, words = shlex.quote(sys.executable), shlex.join(wanted)
    if importlib.util.find_spec("pip") is not None:
        return f"{python} -m pip install {'--force-reinstall ' if again else ''}{words}"
    return f"uv pip install --python {python} {'--reinstall ' if again else ''}{words}"


def _installing_ffmpeg() -> str:
    if platform.system() == "Darwin":
        return "brew install ffmpeg"
    return (
        "sudo apt-get install ffmpeg" if Path("/etc/debian_version").exists() else "conda install -c conda-forge ffmpeg"
    )


def _libsndfile() -> str:
    import soundfile

    return soundfile.__libsndfile_version__


def ffmpeg_version() -> str | None:
    """The version of the machine's ffmpeg; None where there is none."""
    program = ffmpeg.installed()
    if program is None:
        return None
    told = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=20, check=True).stdout
    return told.removeprefix("ffmpeg version ").split()[0]
