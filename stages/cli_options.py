"""What the commands of the command line share: options, and the settings that they make."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from mixstyle.cache.storage.urls import shown
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.common.assets import profile_names
from mixstyle.stages.common.commands import MUSIC, CalledWith, begin, remembered_music
from mixstyle.stages.common.limits import PROCESSES

if TYPE_CHECKING:
    from mixstyle.stages.cluster.ray_pool import RayOptions
    from mixstyle.stages.settings.profile import Settings


T = TypeVar("T")


def profiles(incomplete: str) -> list[str]:
    """What a shell completes --config to: profiles by name, YAML files and folders."""
    folder, slash, _ = incomplete.rpartition("/")
    found = [] if slash else profile_names()
    for path in sorted(Path(folder or (slash or ".")).glob("*")):
        if path.suffix in {".yaml", ".yml"}:
            found.append(f"{folder}{slash}{path.name}")
        elif path.is_dir() and incomplete and not path.name.startswith("."):
            found.append(f"{folder}{slash}{path.name}/")
    return [name for name in found if name.startswith(incomplete)]


Config = Annotated[
    str,
    typer.Option(
        "--config",
        "-c",
        help="A profile in configs/ (demo, cpu, fma, fma-remix) or a path to a YAML file.",
        autocompletion=profiles,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", help="Overrides a setting, as section.name=value; may be repeated."),
]
Rebuild = Annotated[bool, typer.Option("--rebuild", help="Deletes what was made before, and makes it again.")]
RebuildShares = Annotated[
    bool,
    typer.Option(
        "--rebuild",
        help="Deletes what was made before, and makes it again; with --num-shards, only what does not fit.",
    ),
]
RebuildStale = Annotated[
    bool,
    typer.Option(
        "--rebuild-stale", help="Deletes what was made with other settings, and keeps what fits; dvc.yaml uses it."
    ),
]
DataPath = Annotated[
    Path | None,
    typer.Option(help="A folder of music or its URL (s3://...), a .txt list, or a .csv with a column `path`."),
]
Device = Annotated[str | None, typer.Option(help="Where to compute: auto, cpu, cuda or cuda:N.")]
Devices = Annotated[
    str | None,
    typer.Option(
        help="One process on each of several devices: their names, such as cuda:0,cuda:1, or a number N for the "
        "first N devices of the kind that --device names."
    ),
]
ShardIndex = Annotated[int, typer.Option(help="Which share of the shards to work on; the first is 0.")]
NumShards = Annotated[int, typer.Option(help="How many shares there are: one for each process, on any machine.")]
Ray = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="A Ray cluster that does the work: auto, HOST:PORT, or local for this machine only. "
        r"Needs mixstyle\[ray].",
    ),
]
AllowMixed = Annotated[
    bool,
    typer.Option(
        "--allow-mixed",
        help="With --ray: also uses machines of other kinds. Their results differ in the last bits; this is noted.",
    ),
]
Encoder = Annotated[
    Path | None,
    typer.Option(help="A checkpoint or exported encoder, or its URL.", show_default="embed.encoder: the shipped one"),
]
Index = Annotated[
    Path | None,
    typer.Option("--index", help="The folder of the index, or its URL.", show_default="embed.index_dir: index"),
]


def settings_of(config: str, overrides: list[str] | None, *, training: bool = True, **options: Any) -> "Settings":
    """The profile with --set laid over it, and the plain options over that: section__name=value, None for not given.

    training: as `load_settings` has it.
    """
    from mixstyle.stages.settings.profile import load_settings  # not for --help: pydantic takes its time

    given = {name.replace("__", "."): value for name, value in options.items() if value is not None}
    settings = load_settings(config, overrides or [], given, training=training)
    named, own = dict(given), ""
    if MUSIC in given:
        own = shown(load_settings(config, training=False).separate.data_path)  # the profile alone need not be whole
    elif not any(text.partition("=")[0].strip() == MUSIC for text in overrides or []):
        found = remembered_music(settings.separate.stems_dir, settings.separate.data_path)
        if found is not None:
            own, named[MUSIC] = shown(settings.separate.data_path), found
            settings = load_settings(config, overrides or [], named, training=training)
    plainly = {name: _plain(value) for name, value in named.items()}
    begin(CalledWith(config, tuple(overrides or ()), plainly, own), settings)
    return settings


def ray_options(address: str | None, allow_mixed: bool, devices: str | None = None) -> "RayOptions | None":
    """What --ray and --allow-mixed say. Raises MixstyleError (bad-option) where they contradict, and as `check_address`
    does: before anything is written."""
    if address is None:
        if allow_mixed:
            raise MixstyleError("--allow-mixed: can only be used with --ray", code="bad-option")
        return None
    if devices:
        raise MixstyleError(
            "--ray and --devices: give only one of them; a cluster knows its devices", code="bad-option"
        )
    from mixstyle.stages.cluster.address import check_address
    from mixstyle.stages.cluster.ray_pool import RayOptions

    check_address(address)
    return RayOptions(address, allow_mixed)


def made_by(stage: Callable[[bool], T], name: str, rebuild: bool, rebuild_stale: bool) -> T:
    """What a stage makes; with rebuild_stale as with rebuild, where what it made before does not fit.

    stage: is called with `rebuild`. name: of its command.
    """
    try:
        return stage(rebuild)
    except MixstyleError as error:
        own = error.remedy[:1] == (name,) and "--rebuild" in error.remedy
        if not (rebuild_stale and own and error.code == "stale"):
            raise
        from mixstyle.stages.common.progress import remark  # not for --help: rich's bars take their time

        remark(f"{name}: {error.message.removesuffix('; undo the change, or')}; it is made again")
        return stage(True)


def _plain(value: Any) -> Any:
    """An option's value as JSON has it."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return shown(value) if isinstance(value, Path) else value


def several_devices(text: str, device: str) -> list[str]:
    """The devices that --devices names. device: the setting, whose kind a number of devices goes by.

    >>> several_devices("cuda:1, cuda:3", "auto")
    ['cuda:1', 'cuda:3']
    >>> several_devices("2", "cuda")
    ['cuda:0', 'cuda:1']
    >>> several_devices("2", "cpu")
    ['cpu', 'cpu']
    """
    if not text.strip().isdecimal():
        return [name.strip() for name in text.split(",")]
    count = int(text) if len(text) < 100 else PROCESSES + 1
    if not 1 <= count <= PROCESSES:
        raise MixstyleError(
            f"--devices {text:.100}: should be 1 to {PROCESSES}, or names such as cuda:0,cuda:1", code="bad-option"
        )
    if device == "auto":
        from mixstyle.pipeline.core.device import resolve_device

        device = resolve_device(device).type
    return ["cpu"] * count if device == "cpu" else [f"cuda:{place}" for place in range(count)]
