"""Kills commands at random, damages what they stored and takes disk, locks and clock from them; compares what they make
in the end with what an unbroken run made.

    uv run python tests/torture/kills.py --folder /tmp/torture --trials 200
    uv run python tests/torture/kills.py --folder /tmp/torture --minutes 60 --soak

Every trial follows from the seed and its number, and writes a line to `FOLDER/journal.jsonl`; broken off, the same
command goes on there, and another one, or other code, is refused. `--soak` also draws the memory of a training that
runs all the while (`FOLDER/memory.csv` and `.png`).
"""

import json
import os
import shutil
import sys
import time
from collections import Counter
from contextlib import closing, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ["OMP_NUM_THREADS"] = "1"  # commands are forked from this process, which must stay without threads
from torture.children import in_child
from torture.commands import BY_NAME, LIMIT_S, STAGES, Run, Stage, import_all, write_inputs
from torture.journal import code_hash
from torture.soak import Memory
from torture.trials import KINDS, trial
from torture.workplace import TIMES, Outcome, Workplace
from torture.writes import Writes

from mixstyle.stages.common.descriptor_kernel import descriptor_kernel

NEEDS = {
    "remix": ("separate",),
    "features": ("separate", "remix"),
    "train": ("features",),
    "evaluate": ("train",),
    "report": ("train",),
    "export": ("train",),
    "index": ("export",),
    "embed": ("export",),
}


def with_needed(names: tuple[str, ...]) -> tuple[Stage, ...]:
    """Stages and those that they read the outputs of, in the order in which they run."""
    wanted = set(names)
    while more := {need for name in wanted for need in NEEDS.get(name, ())} - wanted:
        wanted |= more
    return tuple(stage for stage in STAGES if stage.name in wanted)


def prepared(folder: Path, stages: tuple[Stage, ...], of: dict[str, str]) -> Workplace:
    """Makes what trials are compared with, where it is not there yet. of: what the trials of the folder follow from."""
    unbroken = folder / "unbroken.json"
    if not unbroken.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        work = write_inputs(folder)
        kernel = has_kernel(folder)
        took_s, written = dict[str, float](), dict[str, int]()
        for stage in stages:
            writes = Writes()
            begun = time.monotonic()
            run = Run(work, (stage.name, *stage.words), writes.watch(work), TIMES * LIMIT_S)
            if run.wait() != 0:
                raise SystemExit(f"{stage.name}, unbroken: {run.said()}")
            took_s[stage.name], written[stage.name] = round(time.monotonic() - begun, 2), writes.count
            run.forget()
        work.rename(folder / "reference")
        unbroken.write_text(json.dumps({"of": of, "kernel": kernel, "took_s": took_s, "writes": written}))
    content = json.loads(unbroken.read_text())
    has_kernel(folder, content["kernel"])
    other = [name for name, value in of.items() if content["of"][name] != value]
    if other:
        raise SystemExit(f"{folder}: holds trials of another {' and '.join(other)}; remove it or take another --folder")
    return Workplace(folder, content["took_s"], content["writes"])


def has_kernel(folder: Path, built: bool | None = None) -> bool:
    """Whether runs describe clips with the kernel that is built on this machine: all of them or none.

    A compiler that runs out of its time on a busy machine leaves one run with torch's own code, and the next one with
    the kernel, whose last bits differ. built: what was found earlier.
    """
    os.environ["XDG_CACHE_HOME"] = str(folder / "home")
    if built is None:
        built = in_child(lambda: descriptor_kernel() is not None, folder / "built.json") is True
    if not built:
        os.environ["ATEN_CPU_CAPABILITY"] = "default"  # no run looks for it then
    return built


def written(journal: Path) -> dict[int, Outcome]:
    """The trials of a journal by their numbers; a line that was cut short is left out."""
    lines = journal.read_text().split("\n")[:-1] if journal.is_file() else []
    entries = (json.loads(line) for line in lines if line.endswith("}"))
    return {entry.pop("trial"): Outcome(**{k: v for k, v in entry.items() if k != "took_s"}) for entry in entries}


def _never_hit(kind: str, done: dict[int, Outcome]) -> bool:
    """Whether there were trials of a kind, and none met what it is for."""
    met = [one.met for one in done.values() if one.kind == kind and not one.met.startswith("left out")]
    return bool(met) and all(one == "not hit" for one in met)


def told(done: dict[int, Outcome]) -> str:
    """Counts of trials by kind and stage, and what did not hold."""
    counted = Counter(
        (one.kind, one.stage) for one in done.values() if one.met != "not hit" and not one.met.startswith("left out")
    )
    lines = [f"{sum(n for (of, _), n in counted.items() if of == kind)} {kind}" for kind in KINDS]
    parts = [", ".join(lines)]
    for kind in KINDS:
        of = {stage: n for (name, stage), n in counted.items() if name == kind}
        parts += [f"  {kind}: " + ", ".join(f"{stage} {n}" for stage, n in sorted(of.items()))] if of else []
    failed = {number: one for number, one in done.items() if one.problem}
    parts += [f"{len(failed)} did not hold"]
    parts += [f"  {number}: {one.kind}, {one.stage}, {one.what}: {one.problem}" for number, one in failed.items()]
    return "\n".join(parts)


def main(
    folder: Annotated[Path, typer.Option(help="To work in; broken off, the same goes on there.")],
    trials: Annotated[int, typer.Option(help="In all.")] = 200,
    minutes: Annotated[float, typer.Option(help="Begins no more trials after so many.")] = 1e9,
    seed: Annotated[int, typer.Option(help="Of the trials.")] = 0,
    stages: Annotated[str, typer.Option(help="Commands to break, with commas; all if not given.")] = "",
    kinds: Annotated[str, typer.Option(help="Kinds of trials, with commas; all if not given.")] = "",
    soak: Annotated[bool, typer.Option(help="A training runs beside; its memory is drawn.")] = False,
) -> None:
    """Prints counts, and ends with an error where something did not hold."""
    chosen = tuple(BY_NAME[name] for name in stages.split(",")) if stages else STAGES
    named = tuple(kinds.split(",")) if kinds else tuple(KINDS)
    import_all()
    of = {"seed": str(seed), "stages": stages, "kinds": kinds, "code": code_hash()}
    place = prepared(folder.absolute(), with_needed(tuple(stage.name for stage in chosen)), of)
    journal = place.work.parent / "journal.jsonl"
    done = written(journal)
    memory, begun = Memory(place) if soak else None, time.monotonic()
    with closing(memory) if memory else nullcontext():
        for number in range(10**9 if soak else trials):
            if number in done:
                continue
            start = time.monotonic()
            done[number] = trial(place, chosen, number, seed, named)
            entry = {"trial": number, **asdict(done[number]), "took_s": round(time.monotonic() - start, 1)}
            with journal.open("a") as file:
                file.write(json.dumps(entry) + "\n")
            print(json.dumps(entry), flush=True)
            if memory is not None:
                memory.look()
            if time.monotonic() - begun > 60 * minutes:
                break
    if memory is not None:
        print(memory.told())
    print(told(done))
    unmet = [kind for kind in ("full disk",) if _never_hit(kind, done)]
    if unmet:
        raise SystemExit(f"no trial of {', '.join(unmet)} met what it is for")
    if any(one.problem for one in done.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    typer.run(main)
