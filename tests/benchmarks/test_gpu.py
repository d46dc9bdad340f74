"""The run of the GPU's figures loses no part's figures to another that fails or hangs, and keeps to its time."""

import json
import math
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from helpers.benchmarks import benchmark

PARTS = """\
import json, os, subprocess, sys, time
words = json.loads(sys.argv[1])
def tell(name, value):
    with open(words["figures"], "a") as file:
        file.write(json.dumps({"name": name, "value": value, "unit": "ms"}) + "\\n")
tell("first", 1.5)
tell("first", 2.5)
if words["part"] == "fails":
    raise RuntimeError("no | such kernel")
if words["part"] == "hangs":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    tell("child", child.pid)
    with open(words["figures"], "a") as file:
        file.write('{"name": "torn')
        file.flush()
        time.sleep(600)
"""


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = benchmark("gpu", monkeypatch)
    parts = tmp_path / "parts.py"
    parts.write_text(PARTS)
    monkeypatch.setattr(module, "PARTS_FILE", parts)
    return module


def rows_of(output: Path) -> list[list[str]]:
    lines = (output / "table.md").read_text().splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def alive(pid: int) -> bool:
    path = Path(f"/proc/{pid}/stat")
    return path.exists() and path.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_part_that_fails_or_hangs_loses_no_figures(gpu: ModuleType, tmp_path: Path) -> None:
    output = tmp_path / "gpu"
    limits_s = {"fails": 60.0, "hangs": 5.0, "well": 60.0}
    ended = gpu.run_parts(limits_s, {}, output, 600.0)
    assert [part.state for part in ended] == ["failed (1)", "stopped after 5 s", "done"]
    assert [row[:3] for row in rows_of(output) if row[1] == "first"] == [[name, "first", "2.5"] for name in limits_s]
    kept = json.loads((output / "figures.json").read_text())
    assert kept["fails"]["told"].endswith("no | such kernel")
    figures = {figure["name"]: figure["value"] for figure in kept["hangs"]["figures"]}
    assert set(figures) == {"first", "child"}, "the torn line is left out"
    for _ in range(50):
        if not alive(figures["child"]):
            break
        time.sleep(0.1)
    assert not alive(figures["child"]), "what a part started is ended with it"


def test_what_does_not_fit_is_left_out(gpu: ModuleType, tmp_path: Path) -> None:
    output = tmp_path / "gpu"
    (output).mkdir()
    (output / "well.jsonl").write_text('{"name": "of an earlier run", "value": 1, "unit": "ms"}\n')
    (ended,) = gpu.run_parts({"well": 60.0}, {}, output, gpu.LEAST_S - 1)
    assert (ended.state.partition(":")[0], ended.seconds) == ("left out", 0.0)
    assert all(row[1] != "of an earlier run" for row in rows_of(output))


def test_a_run_that_failed_says_so(gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "LIMITS_S", {"fails": 60.0})
    with pytest.raises(SystemExit) as ended:
        gpu.main(tmp_path / "gpu", "cpu", None, 600.0, 1, 1.0, None, True)
    assert ended.value.code == 1
    with pytest.raises(SystemExit, match="nosuch"):
        gpu.main(tmp_path / "gpu", "cpu", ["nosuch"], 600.0, 1, 1.0, None, True)


def test_parts_keep_compiled_sources(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    assert "PYTHONDONTWRITEBYTECODE" not in gpu.environment()


def test_every_part_has_a_limit_and_the_limits_a_run(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = benchmark("gpu_parts", monkeypatch).PARTS
    assert set(parts) == set(gpu.LIMITS_S)
    for module, function in parts.values():
        assert callable(getattr(benchmark(module, monkeypatch), function))


def test_turns_leave_out_what_fails_and_stop_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = benchmark("gpu_run", monkeypatch)

    def run(limit_s: float) -> tuple[dict[str, float], dict[str, Any]]:
        figures = tmp_path / f"{limit_s}.jsonl"
        request = {"part": "x", "device": "cpu", "rounds": 3, "quick": True, "music": ""}
        given = module.Run({**request, "figures": str(figures), "limit_s": limit_s})
        seconds = iter([9.0, 1.0, 3.0, 2.0])

        def fails() -> float:
            raise RuntimeError("no memory")

        medians = given.in_turns({"works": lambda: next(seconds), "fails": fails}, lambda _: None)
        return medians, benchmark("gpu", monkeypatch).figures_of(figures)

    medians, figures = run(math.inf)
    assert medians == {"works": 2.0}, "the round that warms up does not count"
    assert "no memory" in figures["fails"]["value"]
    medians, figures = run(0.0)
    assert medians == {"works": 9.0}, "it counts where no other one fits"
    assert figures["rounds that count"]["value"] == 0


@pytest.mark.slow
def test_the_smallest_of_each_part_runs_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = benchmark("gpu", monkeypatch)
    parts = {name: 600.0 for name in gpu.LIMITS_S if name not in ("small", "xl", "tests")}
    request = {"device": "cpu", "rounds": 1, "music": "", "quick": True}
    ended = gpu.run_parts(parts, request, tmp_path, 3600.0)
    assert [(part.part, part.state, part.told) for part in ended] == [(name, "done", "") for name in parts]
    figures = {name: gpu.figures_of(tmp_path / f"{name}.jsonl") for name in parts}
    assert not [f for of in figures.values() for f in of.values() if str(f["value"]).startswith("failed")]
    tiny = {name: figure["value"] for name, figure in figures["tiny"].items()}
    # dB: rounding of float32 through the network's depth
    assert tiny["ours fp32: SI-SDR to plain fp32, least of the stems"] > 100
    ratio = tiny["plain fp32: a chunk"] / tiny["ours fp32: a chunk"]
    assert tiny["ours fp32: against plain fp32"] == pytest.approx(ratio)
    loader = {name: figure["value"] for name, figure in figures["loader"].items()}
    assert loader["a step, fp32, data at hand"] > 0
    assert figures["descriptors"]["device against CPU, torch's code"]["value"] == 0
