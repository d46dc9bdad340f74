"""Which code computes the LSTMs: what the processor is fit for, and what the folder was begun with."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from helpers.small_separator import MODEL, profile, write_songs
from safetensors.torch import save_file

from mixstyle.pipeline.separation.architectures.scnet_network import SCNet, SCNetConfig
from mixstyle.pipeline.separation.kernels.lstm import AMX, AVX512, VARIANTS, LstmKernel, Variant
from mixstyle.pipeline.separation.separator import Separator, load_separator
from mixstyle.stages.common.notes import begin_notes
from mixstyle.stages.separate import lstm_kernels, stage
from mixstyle.stages.separate.machine_kind import machine_kind, other_kind
from mixstyle.stages.separate.stage import separate
from mixstyle.stages.separate.tuned_streams import choose_streams
from mixstyle.stages.settings.profile import Settings

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


def cpuinfo(folder: Path, flags: str) -> Path:
    path = folder / "cpuinfo"
    path.write_text(f"processor\t: 0\nflags\t\t: fpu {flags} sse\n\n")
    return path


def test_what_suits_the_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    fit = cpuinfo(tmp_path, " ".join(AMX.processor))

    def suiting() -> list[Variant]:
        return [variant for variant in VARIANTS if lstm_kernels.suits(variant, fit)]

    assert suiting() == [AMX, AVX512]
    for limit, suits in (
        ("AVX512_CORE_BF16", [AVX512]),
        ("AVX512_CORE_FP16", [AVX512]),
        ("AVX512_CORE_AMX", [AMX, AVX512]),
        ("DEFAULT", [AMX, AVX512]),
        ("AVX512_CORE_VNNI", []),
        ("avx2", []),
    ):
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
        assert suiting() == suits, limit
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    assert not lstm_kernels.suits(AVX512, tmp_path / "none")
    fit = cpuinfo(tmp_path, " ".join(AVX512.processor))
    assert suiting() == [AVX512]
    fit = cpuinfo(tmp_path, " ".join(AMX.processor - {"avx512_bf16"}))
    assert suiting() == []
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    fit = cpuinfo(tmp_path, " ".join(AMX.processor))
    assert suiting() == []


def test_a_kernel_is_taken_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fastest, unless a folder names another one: then that, wherever the processor has it."""
    monkeypatch.setattr(lstm_kernels, "suits", lambda *_: True)
    monkeypatch.setattr(lstm_kernels, "_built", built)
    assert chosen() == AMX
    assert chosen(AVX512.name) == AVX512
    assert lstm_kernels.lstm_kernel("amx 0") is None
    monkeypatch.setattr(lstm_kernels, "suits", lambda variant, _: variant == AVX512)
    assert chosen() == AVX512
    assert lstm_kernels.lstm_kernel(AMX.name) is None


def test_the_next_kernel_is_taken_if_the_fastest_cannot_be_built(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lstm_kernels, "suits", lambda *_: True)
    monkeypatch.setattr(lstm_kernels, "_built", lambda variant: "no tiles" if variant == AMX else built(variant))
    begin_notes()
    assert chosen() == AVX512
    assert capsys.readouterr().err == ""
    assert lstm_kernels.lstm_kernel(AMX.name) is None
    assert capsys.readouterr().err.count("no tiles") == 1


@pytest.mark.parametrize(("stored", "asked"), [(None, [None]), (AVX512.name, [AVX512.name]), ("", [])])
def test_a_folder_asks_for_the_kernel_it_was_begun_with(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, stored: str | None, asked: list[str | None]
) -> None:
    names: list[str | None] = []
    monkeypatch.setattr(lstm_kernels, "lstm_kernel", names.append)
    lstm_kernels.set_lstm_kernel(loaded(settings), stored)
    assert names == asked


def built(variant: Variant) -> LstmKernel:
    """A kernel in name only."""
    kernel = object.__new__(LstmKernel)
    kernel.variant = variant
    return kernel


def chosen(name: str | None = None) -> Variant:
    kernel = lstm_kernels.lstm_kernel(name)
    assert kernel is not None
    return kernel.variant


def test_without_a_compiler_it_says_so_once_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lstm_kernels, "suits", lambda *_: True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # nothing that was built before
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    begin_notes()
    lstm_kernels._built.cache_clear()
    try:
        assert lstm_kernels.lstm_kernel() is None
        assert lstm_kernels.lstm_kernel() is None
    finally:
        lstm_kernels._built.cache_clear()
    assert capsys.readouterr().err.count("no C compiler") == 1


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A song and a separator whose LSTMs the kernel takes, in bf16."""
    made = profile(tmp_path, write_songs(tmp_path / "music", 1), precision="bf16", streams=1)
    model = {**MODEL, "dims": [4, 4, 32]}
    config = yaml.safe_load(made.separate.separator_config.read_text())
    made.separate.separator_config.write_text(yaml.safe_dump({**config, "model": model}))
    torch.manual_seed(0)
    save_file(SCNet(SCNetConfig.from_mapping(model)).state_dict(), made.separate.separator_checkpoint)
    return made


def loaded(settings: Settings, precision: str = "bf16") -> Separator:
    chosen = settings.separate
    return load_separator(chosen.separator_config, chosen.separator_checkpoint, CPU, precision)  # type: ignore[arg-type]


def stored(settings: Settings) -> dict[str, object]:
    return json.loads((settings.separate.stems_dir / "settings.json").read_text())["settings"]


def test_a_folder_of_torchs_own_code_stays_so(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(lstm_kernels, "lstm_kernel", lambda *_: None)
        separate(settings)
    assert "lstm_kernel" not in stored(settings), "as in folders from before there was a kernel"
    separator = loaded(settings)
    assert choose_streams(settings.separate, separator, CPU).lstm_kernel == ""
    assert separator.lstm_kernel == ""
    assert separate(settings).shards_made == 0


def test_a_folder_of_the_kernel_stays_so(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = lstm_kernels.lstm_kernel()
    if kernel is None:
        pytest.skip("no processor with bfloat16, or no C compiler")
    name = kernel.variant.name
    assert separate(settings).shards_made == 1
    assert stored(settings)["lstm_kernel"] == name
    separator, plain = loaded(settings), loaded(settings, "fp32")
    assert choose_streams(settings.separate, separator, CPU).lstm_kernel == separator.lstm_kernel == name
    # as `status` looks at it, with a separator that is only compared
    assert choose_streams(settings.separate, plain, CPU, measure=False).lstm_kernel == name
    assert plain.lstm_kernel == ""
    here = {"machine": machine_kind(CPU, lstm_kernel=name)}
    assert not other_kind(here, CPU, separator.lstm_kernel)

    monkeypatch.setattr(lstm_kernels, "lstm_kernel", lambda *_: None)  # a machine that has no compiler
    assert choose_streams(settings.separate, separator, CPU).lstm_kernel == name, "what is there still fits"
    assert separator.lstm_kernel == ""
    assert other_kind(here, CPU, separator.lstm_kernel), "shards that are made here tell so"
    assert separate(settings).shards_made == 0


def test_single_precision_has_no_kernel(settings: Settings) -> None:
    chosen = replace(settings.separate, precision="fp32")
    separator = loaded(settings, "fp32")
    assert choose_streams(chosen, separator, CPU).lstm_kernel == separator.lstm_kernel == ""


@pytest.mark.parametrize(
    ("precision", "has_instructions", "told"), [("fp32", True, 1), ("fp32", False, 0), ("bf16", True, 0)]
)
def test_bf16_is_proposed_where_it_is_faster_and_nothing_is_begun(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    precision: str,
    has_instructions: bool,
    told: int,
) -> None:
    monkeypatch.setattr(stage, "computes_bf16", lambda: has_instructions)
    settings = replace(settings, separate=replace(settings.separate, precision=precision))
    for expected in (told, 0):  # a folder that is begun keeps its precision
        for shard in settings.separate.stems_dir.glob("stems-*"):
            shard.unlink()
        assert separate(settings).shards_made == 1
        captured = capsys.readouterr()
        assert (captured.out + captured.err).count("separate.precision=bf16") == expected
