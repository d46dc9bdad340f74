"""All figures of docs/gpu.md in one run of ten minutes at most, and their table.

    uv run python benchmarks/gpu.py -o gpu                          # on cuda:0
    uv run python benchmarks/gpu.py -o gpu --only step --only xl
    uv run python benchmarks/gpu.py -o gpu --device cpu --quick     # whether it starts: the smallest of each part

Each part is a process of its own (`benchmarks/gpu_parts.py`) with a time limit of its own. It writes a figure as soon
as it has it, and the table is written again after each part: what fails, hangs or is stopped loses no other part's
figures, and none of its own that it had. Parts come by what they are worth. One that no longer fits is left out, and
the table says so. The exit status is 1 where a part failed.
"""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from mixstyle.cache.storage.atomic import write_text

PARTS_FILE = Path(__file__).with_name("gpu_parts.py")
LIMITS_S = {
    "machine": 60,
    "tiny": 70,
    "step": 80,
    "small": 80,
    "tests": 80,
    "xl": 110,
    "descriptors": 40,
    "loader": 110,
    "graphs": 50,
}
"""Seconds that each part may take, in their order. Together they are more than a run has: few take all of it."""
LEAST_S = 15.0
"""Below this, no part is begun: torch and CUDA alone take so long."""


@dataclass(frozen=True)
class Ended:
    """How a part ended. told: the last line of what it printed, where it failed."""

    part: str
    state: str
    seconds: float
    told: str = ""


def main(
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder for table, figures and logs.")] = Path("gpu"),
    device: str = "cuda",
    only: Annotated[list[str] | None, typer.Option(help=f"{', '.join(LIMITS_S)}; may be repeated.")] = None,
    budget_s: Annotated[float, typer.Option(help="Seconds of the whole run.")] = 570.0,
    rounds: Annotated[int, typer.Option(help="Of each way, in turns, after one that warms up.")] = 3,
    slower: Annotated[float, typer.Option(help="Multiplies the parts' limits, on a slow machine.")] = 1.0,
    music: Annotated[Path | None, typer.Option(help="A file of real music; rendered music unless given.")] = None,
    quick: Annotated[bool, typer.Option(help="The smallest of each part, to see it work.")] = False,
) -> None:
    """Runs the parts and writes OUTPUT/table.md and OUTPUT/figures.json."""
    if unknown := set(only or ()) - set(LIMITS_S):
        raise SystemExit(f"--only {sorted(unknown)[0]}: there are {', '.join(LIMITS_S)}")
    request = {"device": device, "rounds": rounds, "music": str(music.resolve()) if music else "", "quick": quick}
    parts = {name: slower * limit_s for name, limit_s in LIMITS_S.items() if not only or name in only}
    ended = run_parts(parts, request, output, budget_s)
    print((output / "table.md").read_text())
    if any(part.state != "done" for part in ended):
        raise SystemExit(1)


def run_parts(parts: dict[str, float], request: dict[str, Any], output: Path, budget_s: float) -> list[Ended]:
    """Runs parts, by name with their limits in seconds, one after the other; writes the table after each."""
    begun = time.monotonic()
    output.mkdir(parents=True, exist_ok=True)
    ended: list[Ended] = []
    for name, limit_s in parts.items():
        left_s = budget_s - (time.monotonic() - begun)
        if left_s < LEAST_S:
            ended.append(Ended(name, f"left out: {left_s:.0f} s were left", 0.0))
        else:
            ended.append(run_part(name, request, output, min(limit_s, left_s)))
        write_table(output, ended)
        print(f"{name}: {ended[-1].state}, {ended[-1].seconds:.0f} s {ended[-1].told}".rstrip(), flush=True)
    return ended


def run_part(name: str, request: dict[str, Any], output: Path, limit_s: float) -> Ended:
    """Runs a part in a process, which is ended with all that it started when its time is over."""
    figures = output / f"{name}.jsonl"
    figures.unlink(missing_ok=True)
    start = time.monotonic()
    words = json.dumps({**request, "part": name, "figures": str(figures), "limit_s": limit_s})
    with (output / f"{name}.log").open("w+") as log:
        process = subprocess.Popen(
            [sys.executable, str(PARTS_FILE), words],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env=environment(),
        )
        try:
            code = process.wait(limit_s)
            state = "done" if code == 0 else f"failed ({code})"
        except subprocess.TimeoutExpired:
            state = f"stopped after {limit_s:.0f} s"
        finally:
            _end_group(process)
        log.seek(0)
        lines = [line.strip() for line in log if line.strip()]
    told = lines[-1][:200] if lines and state != "done" else ""
    return Ended(name, state, time.monotonic() - start, told)


def environment() -> dict[str, str]:
    """Of a part: waiting threads sleep, as in `mixstyle train`, and compiled sources are kept for the next part."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {"OMP_WAIT_POLICY": "PASSIVE", **kept}


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    """Ends a part and the processes of its session (a loader's workers)."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def figures_of(path: Path) -> dict[str, dict[str, Any]]:
    """A part's figures by their names; a later one takes the place of an earlier one. A torn last line is left out."""
    found: dict[str, dict[str, Any]] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            figure = json.loads(line)
        except json.JSONDecodeError:
            continue
        found[figure["name"]] = figure
    return found


def write_table(output: Path, ended: list[Ended]) -> None:
    """All figures that there are, as Markdown and as JSON."""
    lines = ["| part | what | value | unit |", "|---|---|---|---|"]
    kept: dict[str, Any] = {}
    for part in ended:
        figures = figures_of(output / f"{part.part}.jsonl") if part.seconds else {}
        kept[part.part] = {**asdict(part), "figures": list(figures.values())}
        lines += [f"| {part.part} | {f['name']} | {shown(f['value'])} | {f['unit']} |" for f in figures.values()]
        if part.state != "done":
            told = part.told.replace("|", "/")
            lines.append(f"| {part.part} | **{part.state}** | {told} | |")
    write_text(output / "table.md", "\n".join(lines) + "\n")
    write_text(output / "figures.json", json.dumps(kept, indent=1))


def shown(value: float | str) -> str:
    """Four digits of a number."""
    return value if isinstance(value, str) else f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


if __name__ == "__main__":
    typer.run(main)
