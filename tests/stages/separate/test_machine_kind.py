"""What of a machine moves last bits: its instruction sets, and what holds torch to fewer of them."""

from pathlib import Path

import pytest
import torch

from mixstyle.stages.separate.machine_kind import machine_kind, other_kind
from mixstyle.stages.separate.provenance import MACHINE

CPU = torch.device("cpu")


def kind(folder: Path, flags: str, vendor: str = "GenuineIntel") -> str:
    path = folder / "cpuinfo"
    core = f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: fpu {flags} sse\n"
    path.write_text(f"{core}\n{core.replace('amx_bf16', '')}")
    return machine_kind(CPU, path)


def test_instruction_sets_and_makers_tell_machines_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    amx = kind(tmp_path, "avx512_bf16 amx_bf16 amx_int8")
    assert amx.split(", ")[0].split()[1:-1] == ["GenuineIntel", "avx512_bf16", "amx_bf16", "amx_int8"]
    assert amx.endswith(f"torch {torch.__version__}")
    assert len({amx, kind(tmp_path, "avx512_bf16"), kind(tmp_path, "avx512_bf16", "AuthenticAMD")}) == 3
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    assert kind(tmp_path, "avx512_bf16 amx_bf16 amx_int8") != amx
    assert machine_kind(CPU, tmp_path / "none").endswith(torch.__version__)


def test_a_folder_without_a_note_is_of_any_kind() -> None:
    assert other_kind({}, CPU) == other_kind({MACHINE: machine_kind(CPU)}, CPU) == ""
    assert other_kind({MACHINE: "another"}, CPU) == machine_kind(CPU)
