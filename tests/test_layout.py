"""Where code stands and who may import whom, and what the repository's files must not hold."""

import ast
import copy
import dataclasses
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from helpers.paths import ROOT
from helpers.source_text import texts_out_of_place, told

FORBIDDEN = {"pipeline": {"cache", "stages"}, "cache": {"stages"}, "stages": set(), "api": set()}


def sources(root: Path = ROOT) -> list[Path]:
    """The modules of the four top packages, in whatever depth."""
    return [
        path for layer in FORBIDDEN for path in sorted((root / layer).rglob("*.py")) if "__pycache__" not in path.parts
    ]


def module_name(path: Path, root: Path = ROOT) -> str:
    """The name that a file is imported by: stages/train/data.py is mixstyle.stages.train.data."""
    parts = list(path.relative_to(root).with_suffix("").parts)
    parts = (["mixstyle"] if parts[0] == "api" else ["mixstyle", parts[0]]) + parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> set[str]:
    """Full names of the modules that a file imports."""
    names = set()
    for node in told(path).imports:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        else:
            base = ("." * node.level) + (node.module or "")
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return names


def breaches(path: Path, layer: str) -> list[str]:
    """What a module imports or names although its layer may not; relative imports, which hide the layer, too.

    api/ is `mixstyle` itself and the modules beside that, so its names are asked for whole.
    """
    forbidden = tuple(f"mixstyle.{other}." for other in FORBIDDEN[layer])
    public = set() if layer == "api" else {module_name(path) for path in (ROOT / "api").rglob("*.py")}
    names = imported(path) | told(path).named
    return sorted(name for name in names if name.startswith(".") or f"{name}.".startswith(forbidden) or name in public)


def cycle_in(graph: dict[str, set[str]]) -> list[str]:
    """The names along one cycle of a graph; empty where there is none."""
    done: set[str] = set()

    def walk(name: str, trail: list[str]) -> list[str]:
        if name in trail:
            return [*trail[trail.index(name) :], name]
        if name not in done:
            for other in sorted(graph[name]):
                if found := walk(other, [*trail, name]):
                    return found
            done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := walk(name, []))), [])


@cache
def module_graph() -> dict[str, set[str]]:
    """Module -> modules that it imports, of ours; a package's own file counts where a name is taken from it."""
    files = {module_name(path): path for path in sources()}
    graph = {name: {other for other in imported(path) if other in files} - {name} for name, path in files.items()}
    # `from a.b import c` names both a.b and a.b.c: where c is a module, a.b itself is only the way there
    for name, path in files.items():
        for node in told(path).imports:
            if isinstance(node, ast.ImportFrom) and all(f"{node.module}.{a.name}" in files for a in node.names):
                graph[name].discard(node.module or "")
    return graph


def loaded_at_start(module: str) -> set[str]:
    """Modules of others that load with one of ours: what it and those it imports name outside of functions."""
    files = {module_name(path): path for path in sources()}
    found, todo, seen = set[str](), [module], set[str]()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        for node in _outside_functions(ast.parse(files[name].read_text())):
            if isinstance(node, ast.Import):
                names = {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names = {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
            else:
                continue
            todo += names & set(files)
            found |= {name for name in names if not name.startswith("mixstyle")}
    return found


def _outside_functions(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        type_checking = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if not isinstance(node, ast.expr | ast.FunctionDef) and not type_checking:
            yield node
            yield from _outside_functions(node)


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_layer_imports_only_what_it_may(path: Path) -> None:
    assert breaches(path, path.relative_to(ROOT).parts[0]) == []


def test_a_forbidden_import_is_seen_three_folders_down(tmp_path: Path) -> None:
    deep = tmp_path / "pipeline" / "a" / "b" / "c" / "deep.py"
    deep.parent.mkdir(parents=True)
    deep.write_text("def later() -> None:\n    from mixstyle.cache.storage.atomic import write_bytes\n")
    assert deep in sources(tmp_path)
    assert "mixstyle.cache.storage.atomic" in breaches(deep, "pipeline")
    deep.write_text("from .. import sibling\n")
    assert breaches(deep, "pipeline")
    for line in ("from mixstyle import load", "import mixstyle", "from mixstyle.library import describe"):
        deep.write_text(f"def later() -> None:\n    {line}\n")
        assert breaches(deep, "stages"), line
        assert breaches(deep, "api") == []
    deep.write_text("import mixstyle.stages.cli\n")
    assert breaches(deep, "stages") == []
    for line in ("import_module('mixstyle.stages.cli')", "run([python, '-m', 'mixstyle.stages'])"):
        deep.write_text(f"def later() -> None:\n    {line}\n")
        assert breaches(deep, "cache"), line
        assert breaches(deep, "stages") == []


def test_modules_do_not_import_one_another_in_a_circle() -> None:
    graph = copy.deepcopy(module_graph())
    assert cycle_in(graph) == []
    graph["mixstyle.pipeline.core.errors"].add("mixstyle.stages.cli")
    assert cycle_in(graph), "a cycle would not be seen"


def test_packages_do_not_import_one_another_in_a_circle() -> None:
    packages = {name: module_name(path.parent / "__init__.py") for path in sources() for name in [module_name(path)]}
    graph: dict[str, set[str]] = {package: set() for package in packages.values()}
    for name, others in module_graph().items():
        graph[packages[name]] |= {packages[other] for other in others} - {packages[name]}
    assert cycle_in(graph) == []


def callers(names: set[str], root: Path = ROOT) -> set[str]:
    """The files that call one of the names."""
    return {path.relative_to(root).as_posix() for path in sources(root) if told(path).calls & names}


def test_clips_become_embeddings_in_one_place() -> None:
    """By name: spectrograms come from what is called `mel`, and no encoder is asked without them. A name that a file
    gives to either is followed."""
    asks = {"pipeline/encoder/embed_clips.py", "stages/train/step.py"}  # training has gradients and autocast
    assert callers({"mel"}) == asks | {"stages/train/mels.py"}  # which keeps them for training
    # it asks a list of encoders, each by that name
    assert callers({"encoder", "untrained"}) == asks
    makes = {"cache/models/checkpoints.py", "stages/train/setup.py"}
    assert callers({"StemMel"}) == makes, "who makes a mel may call it by another name"


def test_commands_embed_with_the_descriptors_code_of_this_machine() -> None:
    """Parts of clips are described while they are embedded: by torch's code unless another is given, which is slower
    by several times."""
    embeds = {"embed_clips", "embed_with_each"}
    for file in sorted(callers(embeds) - {"pipeline/encoder/embed_clips.py"}):
        for call in (node for node in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(node, ast.Call)):
            if isinstance(call.func, ast.Name) and call.func.id in embeds:
                assert "describe" in {keyword.arg for keyword in call.keywords}, f"{file}:{call.lineno}"


def test_clips_are_cut_in_one_place() -> None:
    """The rule is asked through `CuttingRule.starts`: by what cuts songs, by the dry run, which counts chunks, and by
    the task that cuts true stems, which need no separation."""
    assert callers({"clip_starts", "clip_starts_1"}) == {"cache/music/clip_positions.py"}
    task = "stages/evaluate/tasks/rendered_songs.py"
    assert callers({"starts"}) == {"stages/separate/cutting.py", "stages/separate/dry_run.py", task}


def test_clips_become_their_song_in_one_place() -> None:
    """Embeddings by `song_embedding`, descriptors by `song_descriptors`: nobody who describes takes medians itself."""
    assert callers({"song_embedding"}) == {"stages/songs/embed/embedder.py", "stages/evaluate/tasks/metrics.py"}
    describe = callers({"describe"})
    assert "pipeline/matching/mix_search.py" in describe, "nothing was found"
    assert describe & callers({"median", "nanmedian"}) == set()


def test_outputs_tell_what_they_follow_from_in_one_way() -> None:
    """Who stores versions of effects, or names a folder by them, does so by a `Provenance`."""
    assert callers({"effect_versions"}) <= callers({"Provenance"})


def test_commands_load_separators_in_one_place() -> None:
    """There they tell of the small one. `load` of the Python API and the check of a downloaded file are no commands
    that separate."""
    own = {"stages/songs/embed/embedder.py", "stages/fetch_separator.py"}
    assert callers({"load_separator"}) == {"stages/common/separators.py", *own}


@pytest.mark.parametrize(
    "code",
    [
        "def own(loaded, stems, d):\n    return loaded.encoder(loaded.mel(stems), d)\n",
        "def own(loaded, stems, d):\n    m, e = loaded.mel, loaded.encoder\n    return e(m(stems), d)\n",
        "from a import encoder as e\nfrom a import mel as m\ndef own(s, d):\n    f = e\n    return f(m(s), d)\n",
    ],
)
def test_a_second_path_would_be_seen(code: str, tmp_path: Path) -> None:
    path = tmp_path / "stages" / "songs" / "again.py"
    path.parent.mkdir(parents=True)
    path.write_text(code)
    assert callers({"mel"}, tmp_path) == callers({"encoder"}, tmp_path) == {"stages/songs/again.py"}


@pytest.mark.parametrize("name", ["train.stage", "features.stage", "songs.describe.stage", "songs.index.stage"])
def test_commands_load_what_they_need_alone(name: str) -> None:
    """scikit-learn, with pandas and SciPy's statistics, was a third of what each process of `train` loaded."""
    loaded = loaded_at_start(f"mixstyle.stages.{name}")
    assert "torch" in loaded, "nothing was followed"
    slow = ("sklearn", "pandas", "matplotlib", "scipy.stats", "scipy.signal", "torch.utils.tensorboard")
    assert not {module for module in loaded if module.startswith(slow)}


def test_the_command_line_itself_loads_next_to_nothing() -> None:
    """What --help, a shell's completion and every command begin with: typer, and no package that computes."""
    loaded = loaded_at_start("mixstyle.stages.cli")
    assert "typer" in loaded, "nothing was followed"
    slow = ("torch", "numpy", "scipy", "pyarrow", "faiss", "pydantic", "yaml", "rich", "soundfile", "zarr")
    assert not {module for module in loaded if module.startswith(slow)}
    assert not {name for name in loaded_at_start("mixstyle") if name.partition(".")[0] not in {"importlib", "typing"}}


@pytest.mark.parametrize("name", ["status", "doctor.stage"])
def test_looking_begins_without_what_computes(name: str) -> None:
    """Both load more where they find something that only torch can tell of."""
    loaded = loaded_at_start(f"mixstyle.stages.{name}")
    assert loaded, "nothing was followed"
    assert not {module for module in loaded if module.startswith(("torch", "numpy", "scipy", "pyarrow", "faiss"))}


def test_pipeline_holds_no_command_line() -> None:
    for path in (ROOT / "pipeline").rglob("*.py"):
        assert not imported(path) & {"typer", "rich", "argparse", "dvc"}, path.name


FILES = {"open", "read_text", "write_text", "read_bytes", "write_bytes", "mkdir", "unlink", "load", "load_file"}


def test_pipeline_leaves_the_disk_alone_but_for_what_it_says() -> None:
    """The separator's two files (weights by `torch_files`) and the SoundFont; the tuning asks Linux for its memory."""
    own = {"core/torch_files", "separation/separator_checkpoint", "separation/tuning", "synth/renderer"}
    found = {name for name in callers(FILES) if name.startswith("pipeline/")}
    assert found == {f"pipeline/{name}.py" for name in own}


def test_no_docstring_outlives_what_it_described() -> None:
    assert texts_out_of_place(ast.parse('"""m"""\nimport a\n"""gone"""\nx = 1\n"""x"""\n')) == [3]
    assert texts_out_of_place(ast.parse('def f():\n    """f"""\n    if a:\n        """gone"""\n')) == [4]
    assert {path: told(path).lone_texts for path in sources() if told(path).lone_texts} == {}


def test_every_folder_of_code_is_a_package_that_is_installed() -> None:
    folders = {path.parent for path in sources()}
    assert all((folder / "__init__.py").is_file() for folder in folders)
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    listed = tool["setuptools"]["packages"]
    assert len(listed) == len(set(listed))
    assert set(listed) == {module_name(folder / "__init__.py") for folder in folders} | {
        "mixstyle.configs",
        "mixstyle.separators",
    }
    watched = " ".join(entry["file"] for entry in tool["uv"]["cache-keys"])
    assert all(layer in watched for layer in FORBIDDEN), "uv would not see a new module there"


def test_tests_stand_where_their_code_stands() -> None:
    for path in (ROOT / "tests").rglob("test_*.py"):
        parts = path.relative_to(ROOT / "tests").parts[:-1]
        if parts and parts[0] not in {"gpu"}:
            assert (ROOT / Path(*parts)).is_dir(), f"{path}: there is no {'/'.join(parts)} that it tests"
    modules: dict[tuple[str, str], set[Path]] = {}
    for module in sources():
        folder = module.relative_to(ROOT).parent
        modules.setdefault((folder.parts[0], module.stem), set()).add(folder)
    for path in (ROOT / "tests").rglob("test_*.py"):
        folder, name = path.relative_to(ROOT / "tests").parent, path.stem.removeprefix("test_")
        own = modules.get((folder.parts[0], name)) if folder.parts else None
        if own and name != folder.name:  # a package as a whole is tested under its own name
            assert folder in own, f"{path}: {name}.py lies in {', '.join(sorted(map(str, own)))}"


def test_fixtures_for_all_tests_stand_in_one_file() -> None:
    assert list((ROOT / "tests").rglob("conftest.py")) == [ROOT / "tests" / "conftest.py"]


def test_no_source_is_git_ignored() -> None:
    names = "\n".join(str(path.relative_to(ROOT)) for path in [*sources(), *(ROOT / "tests").rglob("*.py")])
    # the rules alone, for whatever git tracks already: --no-index
    found = subprocess.run(
        ["git", "check-ignore", "--no-index", "--stdin"], input=names, cwd=ROOT, capture_output=True, text=True
    )
    assert found.returncode in (0, 1), found.stderr
    ignored = [name for name in found.stdout.split() if "__pycache__" not in name]
    assert ignored == []


def test_what_profiles_make_is_ignored_by_git_and_what_is_shipped_is_not() -> None:
    from mixstyle.stages.common.assets import profile_names
    from mixstyle.stages.settings.profile import SECTIONS, load_settings

    def asked(*words: str, names: str = "") -> list[str]:
        return subprocess.run(["git", *words], input=names, cwd=ROOT, capture_output=True, text=True).stdout.split("\0")

    shipped = [name for name in asked("ls-files", "-z") if name]
    assert len(shipped) > 300
    # the rules alone, for whatever git tracks already: --no-index
    rules = ("check-ignore", "--no-index", "--stdin", "-z")
    assert [name for name in asked(*rules, names="\0".join(shipped)) if name] == []
    assert {"demo", "cpu", "fma"} <= set(profile_names())
    made = set()
    for profile in profile_names():
        settings = load_settings(profile)
        for section in (getattr(settings, name) for name in SECTIONS):
            for field in dataclasses.fields(section):
                value = getattr(section, field.name)
                if isinstance(value, Path) and not (ROOT / value).is_file() and value.suffix != ".csv":
                    made.add(f"{value.as_posix()}/x")  # within it: rules for folders know none that is not there
    assert len(made) > 20
    assert made - set(asked(*rules, names="\0".join(sorted(made)))) == set()


def test_no_default_of_the_settings_lies_inside_a_package() -> None:
    # the layer cache/ is both: its folder is where the outputs of the stages go by default, its packages are below it
    from mixstyle.stages.settings.profile import Settings, plain

    def paths(value: object) -> Iterator[Path]:
        if dataclasses.is_dataclass(value):
            for field in dataclasses.fields(value):
                yield from paths(getattr(value, field.name))
        elif isinstance(value, Path):
            yield value

    assert plain(Settings())
    packages = {path.parent.relative_to(ROOT) for path in sources()} - {Path("cache")}
    found = list(paths(Settings()))
    assert len(found) > 5
    for path in found:
        assert not {path, *path.parents} & packages, f"{path} lies inside a package"
