"""SCNet and its chunked inference against outputs of the published implementation."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from helpers.paths import DATA, ROOT
from helpers.small_separator import CHUNK, write_separator
from safetensors.torch import load_file, save_file

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.separation.architectures.scnet_network import SCNet, SCNetConfig
from mixstyle.pipeline.separation.chunks import ChunkGrid, ClipRequest
from mixstyle.pipeline.separation.separator import Separator, load_separator
from mixstyle.pipeline.separation.separator_checkpoint import digest, read_separator_config, read_state_dict
from mixstyle.stages.settings.profile import load_settings

EVERY = 23
"""Of the reference outputs every 23rd sample is kept."""
CHECKPOINTS = {"scnet_masked_a": "scnet_masked_a.ckpt", "scnet_plain_b": "scnet_plain_b.safetensors"}
REFERENCE = {
    name: {k: v for part in sorted(DATA.glob(f"{name}*.npz")) for k, v in np.load(part).items()} for name in CHECKPOINTS
}
CASES = [
    (name, key.removesuffix("_demix")) for name in CHECKPOINTS for key in REFERENCE[name] if key.endswith("_demix")
]


def load(name: str, num_overlap: int | None = None, **changes: object) -> Separator:
    return load_separator(DATA / f"{name}.yaml", DATA / CHECKPOINTS[name], num_overlap=num_overlap, **changes)  # type: ignore[arg-type]


def edited(tmp_path: Path, name: str, **sections: dict[str, object]) -> Path:
    """The reference YAML with some settings changed."""
    text = (DATA / f"{name}.yaml").read_text().replace("!!python/tuple", "")
    data = yaml.safe_load(text)
    for section, values in sections.items():
        data[section].update(values)
    path = tmp_path / "separator.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_forward_equals_the_published_network(name: str) -> None:
    separator, reference = load(name), REFERENCE[name]
    mixture = next(v for k, v in reference.items() if k.startswith("whole") and k.endswith("mixture"))
    with torch.inference_mode():
        ours = separator.network(torch.from_numpy(mixture[None, :, :44100]))[0, ..., ::EVERY]
    # 1e-5 of full scale, -100 dBFS: rounding of float32 through the network's depth
    np.testing.assert_allclose(ours.numpy(), reference["forward"], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "case"), CASES)
def test_chunked_separation_equals_the_published_inference(name: str, case: str, tmp_path: Path) -> None:
    config = edited(tmp_path, name, inference={"normalize": case.startswith("normalize")})
    separator = load_separator(config, DATA / CHECKPOINTS[name], num_overlap=int(case[-1]))
    mixture = torch.from_numpy(REFERENCE[name][f"{case}_mixture"])
    ours = separator.separate([mixture])[0]
    theirs = dict(zip(separator.file.instruments, REFERENCE[name][f"{case}_demix"], strict=True))
    for stem, estimate in zip(STEMS, ours, strict=True):
        # 1e-4 of full scale, -80 dBFS, below the step of 12 bits
        np.testing.assert_allclose(estimate[:, ::EVERY].numpy(), theirs[stem], atol=1e-4, rtol=0)


def test_every_case_is_run() -> None:
    assert {case for _, case in CASES} >= {"short_4", "exact_chunk_2", "overlap1", "normalize_4", "whole_4", "whole_2"}


@pytest.mark.parametrize(("name", "entry"), json.loads((DATA / "state_dict_shapes.json").read_text()).items())
def test_names_and_shapes_are_those_of_public_checkpoints(name: str, entry: dict[str, dict]) -> None:
    with torch.device("meta"):
        network = SCNet(SCNetConfig.from_mapping(entry["model"]), "masked" if "masked" in name else "plain")
    assert {k: list(v.shape) for k, v in network.state_dict().items()} == entry["state_dict"]


def test_the_yaml_of_the_fma_profile_builds_the_public_masked_network() -> None:
    """Its names and shapes are those of the public checkpoint; the rest is what MSST's own YAML says."""
    entry = json.loads((DATA / "state_dict_shapes.json").read_text())["scnet_masked_xl_ihf"]
    file = read_separator_config(ROOT / load_settings("fma").separate.separator_config)
    assert file.model == SCNetConfig.from_mapping(entry["model"])
    assert (file.chunk, file.num_overlap, file.normalize) == (11 * 44_100, 4, False)
    assert file.instruments == ("drums", "bass", "other", "vocals")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Separator]:
    """Loads a network of random weights for chunks of 16,384 frames: how chunks are cut and put together is the same
    for every network, and this one takes a tenth of the reference's time."""
    folder = tmp_path_factory.mktemp("small")

    def load_small(normalize: bool = False, **options: Any) -> Separator:
        config, checkpoint = write_separator(folder / f"normalize {normalize}", normalize=normalize)
        return load_separator(config, checkpoint, **options)

    return load_small


def noise(frames: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(2, frames, generator=torch.Generator().manual_seed(seed)) * 0.1


@pytest.mark.parametrize("batch_chunks", [1, 3])
def test_mixtures_of_several_lengths_do_not_mix(small: Callable[..., Separator], batch_chunks: int) -> None:
    alone, together = small(), small(batch_chunks=batch_chunks)
    mixtures = [noise(n, n) for n in (22_000, 3_000, CHUNK)]
    for mixture, stems in zip(mixtures, together.separate(mixtures), strict=True):
        # -100 dBFS: batches only change the order in which float32 sums are taken
        torch.testing.assert_close(stems, alone.separate([mixture])[0], atol=1e-5, rtol=0)
        assert stems.abs().max() > 0.01


@pytest.mark.parametrize(
    ("num_overlap", "frames", "normalize"),
    [  # of a chunk of 16,384: little more than one, more than one and a half, and almost three
        *((1, 18_600, False), (1, 48_301, True), (2, 26_001, False), (4, 18_600, True), (4, 48_301, False)),
    ],
)
def test_a_clip_equals_the_same_seconds_of_the_whole_track(
    small: Callable[..., Separator], num_overlap: int, frames: int, normalize: bool
) -> None:
    separator = small(normalize, num_overlap=num_overlap)
    track = noise(frames)
    whole = separator.separate([track])[0]
    assert whole.abs().max() > 0.01
    for start, stop in [(0, 7_400), (frames // 3, frames // 3 + CHUNK // 2), (frames - 7_400, frames)]:
        first, last = separator.clip_span(frames, start, stop)
        clip = separator.separate_clips([ClipRequest(frames, start, stop, first, track[:, first:last])])[0]
        # the same chunks of samples below 0.1: 0 with AVX-512 and AVX2; -120 dBFS for other orders of float32 sums
        torch.testing.assert_close(clip, whole[..., start:stop], atol=1e-6, rtol=0)


def test_a_clip_of_a_long_track_needs_few_chunks() -> None:
    grid = ChunkGrid(44_100, 4, 240 * 44_100)
    # 10 s and one second of chunk, in quarter seconds
    assert len(grid.touching(100 * 44_100, 110 * 44_100)) <= 44
    first, last = grid.span(100 * 44_100, 110 * 44_100)
    assert 10 * 44_100 < last - first <= 12 * 44_100


@pytest.mark.parametrize("wrapper", [None, "state", "state_dict", "model_state_dict"])
@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_checkpoints_bare_and_wrapped(tmp_path: Path, wrapper: str | None, suffix: str) -> None:
    state = read_state_dict(DATA / "scnet_masked_a.ckpt")
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({wrapper: state, "epoch": 3} if wrapper else state, path)
    assert digest(read_state_dict(path)) == digest(state)
    assert load_separator(DATA / "scnet_masked_a.yaml", path).network.form == "masked"


def test_fingerprint_tells_weights_and_settings_apart(tmp_path: Path) -> None:
    state = load_file(DATA / "scnet_plain_b.safetensors")
    same, other = tmp_path / "same.ckpt", tmp_path / "other.safetensors"
    torch.save(state, same)
    save_file({k: v + (1e-6 if k.endswith("globalconv.bias") else 0) for k, v in state.items()}, other)
    config = DATA / "scnet_plain_b.yaml"
    mine, four, equal = load("scnet_plain_b"), load("scnet_plain_b", num_overlap=4), load_separator(config, same)
    assert equal.fingerprint == mine.fingerprint
    assert load_separator(config, other).fingerprint != mine.fingerprint
    assert four.fingerprint != mine.fingerprint
    assert four.fingerprint_at(mine.file.num_overlap) == mine.fingerprint
    assert mine.fingerprint_at(4) == four.fingerprint
    assert (equal.name, mine.name) == ("same", "scnet_plain_b")


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this must not run",)


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "evil.ckpt"
    torch.save({"state_dict": Evil()}, path)
    with pytest.raises(MixstyleError) as error:
        read_state_dict(path)
    assert error.value.code == "damaged-file"
    assert "evil.ckpt" in str(error.value)
    assert "\n" not in str(error.value)
    assert "must not run" not in capsys.readouterr().out


def test_an_unsafe_yaml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.yaml"
    path.write_text("model: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(MixstyleError) as caught:
        read_separator_config(path)
    assert caught.value.code == "damaged-file"
    assert "evil.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("sections", "named"),
    [
        ({"training": {"instruments": ["drums", "bass", "other", "piano"]}}, "piano"),
        ({"model": {"sources": ["vocals", "instrumental"]}}, "instrumental"),
        ({"training": {"target_instrument": "vocals"}}, "target_instrument"),
        ({"model": {"colour": 1}}, "model.colour"),
        ({"model": {"num_dplayer": 3}}, "num_dplayer"),
        ({"audio": {"sample_rate": 48000}}, "48000"),
        ({"audio": {"chunk_size": 0}}, "chunk_size"),
        ({"inference": {"num_overlap": 0}}, "num_overlap"),
    ],
)
def test_separators_of_other_kinds_are_refused_by_name(
    tmp_path: Path, sections: dict[str, dict[str, object]], named: str
) -> None:
    path = edited(tmp_path, "scnet_masked_a", **sections)
    with pytest.raises(MixstyleError) as caught:
        read_separator_config(path)
    assert caught.value.code in ("bad-setting", "unknown-setting")
    assert str(path) in str(caught.value)
    assert named in str(caught.value)


def test_files_that_do_not_fit_or_are_not_there(tmp_path: Path) -> None:
    other = edited(tmp_path, "scnet_masked_a", model={"dims": [4, 8, 16, 64]})
    with pytest.raises(MixstyleError) as caught:
        load_separator(other, DATA / "scnet_masked_a.ckpt")
    assert caught.value.code == "misfit"
    with pytest.raises(MixstyleError) as caught:
        load_separator(DATA / "scnet_masked_a.yaml", tmp_path / "nowhere.ckpt")
    assert caught.value.code == "not-found"
    assert "nowhere.ckpt" in str(caught.value)
    damaged = tmp_path / "damaged.ckpt"
    damaged.write_bytes((DATA / "scnet_masked_a.ckpt").read_bytes()[:100_000])
    with pytest.raises(MixstyleError) as caught:
        load_separator(DATA / "scnet_masked_a.yaml", damaged)
    assert caught.value.code == "damaged-file"
    assert "damaged.ckpt" in str(caught.value)


def test_bad_audio_is_refused() -> None:
    separator = load("scnet_masked_a")
    for audio, named in [(torch.zeros(1, 9000), "[1, 9000]"), (torch.full((2, 9000), torch.nan), "NaN")]:
        with pytest.raises(MixstyleError) as caught:
            separator.separate([audio])
        assert caught.value.code == "bad-audio"
        assert named in str(caught.value)


def test_silence_stays_silent_under_normalisation(tmp_path: Path) -> None:
    config = edited(tmp_path, "scnet_masked_a", inference={"normalize": True})
    stems = load_separator(config, DATA / "scnet_masked_a.ckpt").separate([torch.zeros(2, 60_000)])[0]
    assert stems.abs().max() < 1e-6  # -120 dBFS; a mask on nothing gives 0


def test_bf16_is_close_to_fp32() -> None:
    mixture = noise(22_050)  # on processors without bf16 a second of chunk takes seconds
    exact = load("scnet_masked_a", num_overlap=1).separate([mixture])[0]
    half = load("scnet_masked_a", num_overlap=1, precision="bf16").separate([mixture])[0]
    error_db = 10 * torch.log10((exact - half).square().mean() / exact.square().mean())
    assert -80 < error_db < -35  # other numbers than fp32, near them
