"""A profile: the settings of all stages, read from a profile's YAML, each value overridable by its name.

A profile is `configs/<name>.yaml` with one section a stage. `load_settings("demo", ["train.batch_size=12"])`
reads it; sections and settings that do not exist, and values of the wrong type or range, are refused by name.
Relative paths are relative to the folder that the command runs in.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.common.assets import shipped
from mixstyle.stages.settings.base import names_a_device
from mixstyle.stages.settings.demo_songs import DemoSongsSettings
from mixstyle.stages.settings.evaluate import EVALUATION_PARTS, EvaluateSettings
from mixstyle.stages.settings.features import FeaturesSettings
from mixstyle.stages.settings.report import ReportSettings
from mixstyle.stages.settings.separate import SeparateSettings
from mixstyle.stages.settings.songs import EmbedSettings
from mixstyle.stages.settings.train import TrainSettings


@dataclass(frozen=True)
class Settings:
    """All sections of a profile."""

    profile: str = ""
    """The profile's name; for people and for dvc.yaml."""
    demo_songs: DemoSongsSettings = field(default_factory=DemoSongsSettings)
    separate: SeparateSettings = field(default_factory=SeparateSettings)
    features: FeaturesSettings = field(default_factory=FeaturesSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    report: ReportSettings = field(default_factory=ReportSettings)
    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)
    embed: EmbedSettings = field(default_factory=EmbedSettings)


def load_settings(
    config: str | Path = "demo", overrides: Sequence[str] = (), values: Mapping[str, Any] | None = None
) -> Settings:
    """Reads a profile (a name in `configs/` or a YAML file) and lays `section.name=value` overrides over it.

    values: more overrides by their name `section.name`, as Python values, laid over the rest.

    Raises MixstyleError for a missing file, and for sections, settings or values that are wrong, by name.
    """
    path = _config_path(config)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise MixstyleError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise MixstyleError(f"{path}: should hold sections ({_names(Settings)}), not a {type(data).__name__}")
    settings = _build(Settings, data, prefix="", where=str(path))
    settings = override(settings, overrides, values or {})
    check(settings)
    return settings


def override(settings: Settings, overrides: Sequence[str], given: Mapping[str, Any]) -> Settings:
    """Returns `settings` with each `section.name=value` replaced (the value is read as YAML), then each of `given`."""
    merged: dict[str, dict[str, Any]] = {}
    for text in overrides:
        name, equals, value = text.partition("=")
        section, dot, key = name.strip().partition(".")
        if not (equals and dot):
            raise MixstyleError(f"--set {text}: write it as section.name=value, such as train.batch_size=12")
        try:
            merged.setdefault(section, {})[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise MixstyleError(f"--set {text}: the value is not valid YAML") from error
    for name, value in given.items():
        section, _, key = name.partition(".")
        merged.setdefault(section, {})[key] = value
    for section, values in merged.items():
        if section not in {f.name for f in fields(Settings)}:
            raise MixstyleError(f"--set {section}: no such section; there are {_names(Settings)}")
        current = getattr(settings, section)
        built = _build(type(current), values, prefix=f"{section}.", where="--set")
        changed = {key: getattr(built, key) for key in values}
        settings = dataclasses.replace(settings, **{section: dataclasses.replace(current, **changed)})
    return settings


def from_plain(data: Mapping[str, Any]) -> Settings:
    """The settings that `plain` was given."""
    settings = _build(Settings, data, prefix="", where="settings")
    check(settings)
    return settings


def plain(settings: Any) -> dict[str, Any]:
    """A settings dataclass as plain JSON and YAML types: paths as text, tuples as lists."""

    def convert(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {f.name: convert(getattr(value, f.name)) for f in fields(value)}
        if isinstance(value, tuple):
            return [convert(item) for item in value]
        return value.as_posix() if isinstance(value, Path) else value

    return convert(settings)


def _config_path(config: str | Path) -> Path:
    path = Path(config)
    if path.suffix in {".yaml", ".yml"}:
        if path.is_file():
            return path
        raise MixstyleError(f"{path}: no such settings file")
    named = shipped(Path("configs") / f"{config}.yaml")
    if named.is_file():
        return named
    known = ", ".join(sorted(p.stem for p in shipped("configs").glob("*.yaml"))) or "none found in configs/"
    raise MixstyleError(f"no profile {str(config)!r} (there are: {known}); give its name or a path to a YAML file")


def _names(cls: type) -> str:
    return ", ".join(f.name for f in fields(cls))


def _build(cls: type, data: Mapping[str, Any], prefix: str, where: str) -> Any:
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, value in data.items():
        if key not in hints:
            raise MixstyleError(f"{where}: no setting {prefix}{key}; there are {_names(cls)}")
        if dataclasses.is_dataclass(hints[key]):
            section = value if value is not None else {}
            if not isinstance(section, dict):
                raise MixstyleError(f"{where}: {prefix}{key} should be a section, not {value!r}")
            values[key] = _build(typing.cast(type, hints[key]), section, f"{prefix}{key}.", where)
        else:
            values[key] = _convert(value, hints[key], f"{where}: {prefix}{key}")
    return cls(**values)


def _convert(value: Any, hint: Any, name: str) -> Any:
    """The value as its field's type; numbers do not pass as text nor the other way round."""
    if get_origin(hint) in (types.UnionType, typing.Union):
        options = get_args(hint)
        if value is None and type(None) in options:
            return None
        return _convert(value, next(o for o in options if o is not type(None)), name)
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise MixstyleError(f"{name}={value!r} should be one of {', '.join(map(str, get_args(hint)))}")
        return value
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise MixstyleError(f"{name}={value!r} should be a list such as [32, 64]")
        return tuple(_convert(item, get_args(hint)[0], name) for item in value)
    if hint is float and isinstance(value, str):
        # YAML 1.1 reads 2e-4 (no dot) as text; people write it so.
        try:
            return float(value)
        except ValueError:
            pass
    good = {
        bool: lambda: isinstance(value, bool),
        int: lambda: isinstance(value, int) and not isinstance(value, bool),
        float: lambda: isinstance(value, int | float) and not isinstance(value, bool),
        str: lambda: isinstance(value, str),
        Path: lambda: isinstance(value, str | Path) and str(value) != "",
    }[hint]()
    if not good:
        kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
        raise MixstyleError(f"{name}={value!r} should be {kinds[hint]}")
    return hint(value)


_POSITIVE = (
    "demo_songs.workers separate.clip_s separate.clips_per_track separate.tracks_per_shard "
    "separate.workers features.batch_clips features.workers train.batch_size "
    "train.num_epochs train.learning_rate train.temperature train.clip_duration_s train.n_fft "
    "train.hop_length train.n_mels train.band_mels train.band_step train.encoder_dim train.film_hidden "
    "train.checkpoint_every train.save_every_steps train.validate_every train.accumulate train.processes "
    "report.batch_clips evaluate.batch_clips evaluate.preset_clips embed.workers"
).split()
_NOT_NEGATIVE = (
    "demo_songs.songs demo_songs.seed separate.seed separate.threads separate.streams separate.batch_chunks "
    "separate.validation_fraction "
    "separate.test_fraction train.seed "
    "train.max_steps train.steps_per_epoch train.weight_decay train.dropout train.aug_gain_range_db "
    "train.workers train.threads train.warmup_steps train.chain_weight train.map_every "
    "train.stems_cache_gb"
).split()


def check(settings: Settings) -> None:
    """Refuses values out of range and settings that contradict each other, naming them."""

    def get(name: str) -> Any:
        section, key = name.split(".")
        return getattr(getattr(settings, section), key)

    def refuse(name: str, why: str) -> None:
        raise MixstyleError(f"{name}={get(name)} {why}")

    for name in _POSITIVE:
        if get(name) <= 0:
            refuse(name, "should be above 0")
    for name in _NOT_NEGATIVE:
        if get(name) < 0:
            refuse(name, "should not be below 0")
    separate, train = settings.separate, settings.train
    if separate.clips_per_track < 2:
        refuse("separate.clips_per_track", "should be 2 or more: an anchor needs another clip of its song")
    if separate.validation_fraction + separate.test_fraction >= 1:
        refuse("separate.validation_fraction", "and separate.test_fraction leave nothing to train on")
    if separate.num_overlap is not None and separate.num_overlap < 1:
        refuse("separate.num_overlap", "should be 1 or more")
    if settings.demo_songs.duration_s < 8:
        refuse("demo_songs.duration_s", "should be 8 or more")
    if train.batch_size < 2:
        refuse("train.batch_size", "should be 2 or more: InfoNCE needs other tracks in the batch")
    if train.clip_duration_s > separate.clip_s:
        refuse("train.clip_duration_s", f"is longer than the cached clips (separate.clip_s={separate.clip_s})")
    for name in ("train.aug_prob", "train.aug_mix_prob"):
        if not 0 <= get(name) <= 1:
            refuse(name, "should lie between 0 and 1")
    if train.batch_size % train.processes:
        refuse("train.batch_size", f"cannot be shared evenly by train.processes={train.processes}")
    if not 0 <= train.dropout < 1:
        refuse("train.dropout", "should lie between 0 and 1")
    if len(train.channels) != 2 or min(train.channels) < 1:
        refuse("train.channels", "should name two numbers of channels, such as [32, 64]")
    if not 1 <= train.band_step <= train.band_mels <= train.n_mels:
        refuse("train.band_step", "should be at most train.band_mels, and that at most train.n_mels")
    if train.hop_length > train.n_fft:
        refuse("train.hop_length", f"is longer than train.n_fft={train.n_fft}: frames would skip samples")
    evaluate = settings.evaluate
    if evaluate.styles < 10 or evaluate.hard_styles < 2:
        refuse("evaluate.styles", "should be 10 or more, and evaluate.hard_styles 2 or more")
    if evaluate.songs < 2 or evaluate.parameter_clips < 10:
        refuse("evaluate.songs", "should be 2 or more, and evaluate.parameter_clips 10 or more")
    wrong = [part for part in evaluate.parts if part not in EVALUATION_PARTS]
    if wrong or not evaluate.parts:
        refuse("evaluate.parts", f"should name some of {', '.join(EVALUATION_PARTS)}")
    if "fingerprint" in evaluate.parts and evaluate.rendered_dir is None:
        refuse("evaluate.rendered_dir", "should be a folder of rendered songs: evaluate.parts has fingerprint")
    if not evaluate.effects or min(evaluate.effects) < 1 or len(set(evaluate.effects)) < len(evaluate.effects):
        refuse("evaluate.effects", "should name numbers of effects from 1 on, each once")
    for section in ("separate", "features", "train", "report", "evaluate", "embed"):
        if not names_a_device(get(f"{section}.device")):
            refuse(f"{section}.device", "should be auto, cpu, cuda or cuda:N")
    for device in separate.devices:
        if not names_a_device(device) or device == "auto":
            refuse("separate.devices", "should name cpu, cuda or cuda:N each")
