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
from mixstyle.pipeline.separation.kernels.lstm import NAME, PROCESSOR
from mixstyle.pipeline.separation.separator import Separator, load_separator
from mixstyle.stages.common.notes import begin_notes
from mixstyle.stages.separate import lstm_kernels
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


def test_what_suits_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    fit = cpuinfo(tmp_path, " ".join(PROCESSOR))
    assert lstm_kernels.suits(fit)
    for limit, suits in (("AVX512_CORE_BF16", False), ("AVX512_CORE_AMX", True), ("DEFAULT", True), ("avx2", False)):
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
        assert lstm_kernels.suits(fit) == suits, limit
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    assert not lstm_kernels.suits(tmp_path / "none")
    assert not lstm_kernels.suits(cpuinfo(tmp_path, " ".join(flag for flag in PROCESSOR if flag != "amx_bf16")))
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert not lstm_kernels.suits(cpuinfo(tmp_path, " ".join(PROCESSOR)))


def test_without_a_compiler_it_says_so_once_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lstm_kernels, "suits", lambda _: True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # nothing that was built before
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    begin_notes()
    lstm_kernels._kernel.cache_clear()
    try:
        assert lstm_kernels.lstm_kernel() is None
        assert lstm_kernels.lstm_kernel() is None
    finally:
        lstm_kernels._kernel.cache_clear()
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
        patch.setattr(lstm_kernels, "lstm_kernel", lambda: None)
        separate(settings)
    assert "lstm_kernel" not in stored(settings), "as in folders from before there was a kernel"
    separator = loaded(settings)
    assert choose_streams(settings.separate, separator, CPU).lstm_kernel == ""
    assert separator.lstm_kernel == ""
    assert separate(settings).shards_made == 0


def test_a_folder_of_the_kernel_stays_so(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    if lstm_kernels.lstm_kernel() is None:
        pytest.skip("no processor with AMX, or no C compiler")
    assert separate(settings).shards_made == 1
    assert stored(settings)["lstm_kernel"] == NAME
    separator, plain = loaded(settings), loaded(settings, "fp32")
    assert choose_streams(settings.separate, separator, CPU).lstm_kernel == separator.lstm_kernel == NAME
    # as `status` looks at it, with a separator that is only compared
    assert choose_streams(settings.separate, plain, CPU, measure=False).lstm_kernel == NAME
    assert plain.lstm_kernel == ""
    here = {"machine": machine_kind(CPU, lstm_kernel=NAME)}
    assert not other_kind(here, CPU, separator.lstm_kernel)

    monkeypatch.setattr(lstm_kernels, "lstm_kernel", lambda: None)  # a machine that has no compiler
    assert choose_streams(settings.separate, separator, CPU).lstm_kernel == NAME, "what is there still fits"
    assert separator.lstm_kernel == ""
    assert other_kind(here, CPU, separator.lstm_kernel), "shards that are made here tell so"
    assert separate(settings).shards_made == 0


def test_single_precision_has_no_kernel(settings: Settings) -> None:
    chosen = replace(settings.separate, precision="fp32")
    separator = loaded(settings, "fp32")
    assert choose_streams(chosen, separator, CPU).lstm_kernel == separator.lstm_kernel == ""
