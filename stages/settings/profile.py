"""A profile: the settings of all stages, read from a YAML file, each value overridable by its name.

A profile is `configs/<name>.yaml` with one section a stage. `load_settings("demo", ["train.batch_size=12"])`
reads it; sections and settings that do not exist, and values of the wrong type or range, are refused by name.
Relative paths are relative to the folder that the command runs in; `~` is the home folder.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import field as dataclass_field
from pathlib import Path
from types import NoneType
from typing import Any

import yaml
from pydantic.dataclasses import dataclass

from mixstyle.pipeline.core.errors import MixstyleError, one_line
from mixstyle.pipeline.core.text import printable
from mixstyle.stages.common.assets import profile_names, shipped
from mixstyle.stages.settings.base import STRICT, fields_of, plain, setting
from mixstyle.stages.settings.demo_songs import DemoSongsSettings
from mixstyle.stages.settings.evaluate import EvaluateSettings
from mixstyle.stages.settings.features import FeaturesSettings
from mixstyle.stages.settings.overrides import read_override, split_override
from mixstyle.stages.settings.refusals import build, shortened, unknown
from mixstyle.stages.settings.remix import RemixSettings
from mixstyle.stages.settings.renamed import name_now, value_now
from mixstyle.stages.settings.report import ReportSettings
from mixstyle.stages.settings.separate import SeparateSettings
from mixstyle.stages.settings.songs import EmbedSettings
from mixstyle.stages.settings.train import TrainSettings

__all__ = ["SECTIONS", "Settings", "from_plain", "load_settings", "plain"]


@dataclass(frozen=True, config=STRICT)
class Settings:
    """All sections of a profile."""

    profile: str = setting("")
    """The profile's name; for people and for dvc.yaml."""
    demo_songs: DemoSongsSettings = dataclass_field(default_factory=DemoSongsSettings)
    """`mixstyle demo-songs`: rendered songs to try everything on."""
    separate: SeparateSettings = dataclass_field(default_factory=SeparateSettings)
    """`mixstyle separate`: music to cached stems."""
    remix: RemixSettings = dataclass_field(default_factory=RemixSettings)
    """`mixstyle remix`: stems remixed and separated again, into a bank of clips."""
    features: FeaturesSettings = dataclass_field(default_factory=FeaturesSettings)
    """`mixstyle features`: descriptors of the cached clips."""
    train: TrainSettings = dataclass_field(default_factory=TrainSettings)
    """`mixstyle train`: the encoder."""
    report: ReportSettings = dataclass_field(default_factory=ReportSettings)
    """`mixstyle report`: one page about a trained encoder."""
    evaluate: EvaluateSettings = dataclass_field(default_factory=EvaluateSettings)
    """`mixstyle evaluate`: what embeddings know."""
    embed: EmbedSettings = dataclass_field(default_factory=EmbedSettings)
    """`mixstyle embed`, `index`, `search`, `compare` and `browse`."""


SECTIONS: dict[str, Any] = {
    name: field.annotation for name, field in fields_of(Settings).items() if field.annotation not in (str, None)
}
"""The class of each section."""
_NAMES = [f"{section}.{key}" for section, cls in SECTIONS.items() for key in fields_of(cls)]


class _EachOnce(yaml.SafeLoader):
    """Refuses a name that is there twice: YAML's reader would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in names:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value} is there twice", key.start_mark)
                names.add(key.value)
        return super().construct_mapping(node, deep)


def load_settings(
    config: str | Path = "demo",
    overrides: Sequence[str] = (),
    values: Mapping[str, Any] | None = None,
    *,
    training: bool = True,
) -> Settings:
    """Reads a profile (a name in `configs/` or a YAML file) and lays `section.name=value` overrides over it.

    values: more overrides by their name `section.name`, as Python values, laid over the rest. training: whether an
    encoder may be trained with them; then lengths of clips in different sections have to go together.

    Raises MixstyleError for a missing file (not-found), and for sections and settings that do not exist
    (unknown-setting) or values that are wrong (bad-setting), by name.
    """
    path = _config_path(config)
    try:
        data = yaml.load(path.read_text(encoding="utf-8-sig"), _EachOnce) or {}
    except (OSError, UnicodeDecodeError) as error:
        raise MixstyleError(
            f"{path}: cannot be read as UTF-8 text ({error}); save it as UTF-8", code="bad-setting"
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise MixstyleError(f"{path}: not valid YAML: {one_line(error, 300)}", code="bad-setting") from error
    given = _Given()
    given.add_sections(data, str(path))
    for text in overrides:
        given.add_override(text)
    for name, value in (values or {}).items():
        given.add(name, value, "command line")
    settings = given.settings()
    if training:
        _compare(settings)
    return settings


def from_plain(data: Mapping[str, Any]) -> Settings:
    """The settings that `plain` was given. Raises MixstyleError as `load_settings` does, but does not compare sections:
    the code that made these settings has done so, where it matters."""
    given = _Given()
    given.add_sections(data, "settings")
    return given.settings()


class _Given:
    """Values by section and name, later ones laid over earlier ones, and where each is from."""

    def __init__(self) -> None:
        self.profile: Any = ""
        self.values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
        self.origins: dict[str, dict[str, str]] = {section: {} for section in SECTIONS}
        self._warned: set[str] = set()

    def add_sections(self, data: Any, where: str) -> None:
        """Everything in a profile's YAML."""
        if not isinstance(data, Mapping):
            raise MixstyleError(
                f"{where}: should hold sections ({', '.join(SECTIONS)}), not a {type(data).__name__}",
                code="bad-setting",
            )
        for section, values in data.items():
            if section == "profile":
                self.profile = values
            elif section not in SECTIONS:
                raise unknown(str(section), ["profile", *SECTIONS], where, "section")
            elif not isinstance(values, Mapping | NoneType):
                raise MixstyleError(
                    f"{where}: {section} should be a section, not {shortened(repr(values))}", code="bad-setting"
                )
            else:
                for key, value in (values or {}).items():
                    self.add(f"{section}.{key}", value, where)

    def add_override(self, text: str) -> None:
        """`section.name=value`, with the value as YAML; that of a path or a text is taken as it is."""
        name, value = split_override(text, _NAMES)
        name = self._known(name, "--set")
        section, _, key = name.partition(".")
        self.add(name, read_override(text, value, fields_of(SECTIONS[section])[key].annotation), "--set")

    def add(self, name: str, value: Any, where: str) -> None:
        """One setting. Raises MixstyleError for a name that there is not."""
        name = self._known(name, where)
        section, _, key = name.partition(".")
        self.values[section][key] = value_now(name, value)
        self.origins[section][key] = where

    def settings(self) -> Settings:
        """All of it, section by section checked."""
        built = {name: build(cls, name, self.values[name], self.origins[name]) for name, cls in SECTIONS.items()}
        if not isinstance(self.profile, str):
            raise MixstyleError(f"profile={shortened(repr(self.profile))} should be text", code="bad-setting")
        return Settings(self.profile, **built)

    def _known(self, name: str, where: str) -> str:
        """The name as it is today, with a warning where it has changed."""
        now = name_now(name)
        if now != name and name not in self._warned:
            self._warned.add(name)
            print(printable(f"mixstyle: warning: {where}: {name} is now called {now}"), file=sys.stderr)
        section = now.partition(".")[0]
        if section not in SECTIONS:
            raise unknown(section, SECTIONS, where, "section")
        if now not in _NAMES:
            raise unknown(now, _NAMES, where)
        return now


def _compare(settings: Settings) -> None:
    """Refuses settings that an encoder cannot be trained with, though each section alone is right."""
    separate, train = settings.separate, settings.train
    if separate.clips_per_track < 2:
        raise MixstyleError(
            f"separate.clips_per_track={separate.clips_per_track} should be 2 or more: an anchor needs another clip "
            "of its song",
            code="bad-setting",
        )
    if train.clip_duration_s > separate.clip_s:
        raise MixstyleError(
            f"train.clip_duration_s={train.clip_duration_s} is longer than the cached clips "
            f"(separate.clip_s={separate.clip_s})",
            code="bad-setting",
        )
    if settings.remix.blocks and settings.remix.clip_s > separate.clip_s:
        raise MixstyleError(
            f"remix.clip_s={settings.remix.clip_s} is longer than the cached clips that it is cut of "
            f"(separate.clip_s={separate.clip_s})",
            code="bad-setting",
        )


def _config_path(config: str | Path) -> Path:
    path = Path(config)
    if path.suffix in {".yaml", ".yml"}:
        if path.is_file():
            return path
        what = "is a folder; give the path of a YAML file" if path.is_dir() else "no such settings file"
        raise MixstyleError(f"{path}: {what}", code="not-found")
    named = shipped(Path("configs") / f"{config}.yaml")
    if named.is_file():
        return named
    if path.is_dir():
        raise MixstyleError(f"{path}: is a folder; give the path of a YAML file in it", code="not-found")
    known = ", ".join(profile_names()) or "none found in configs/"
    raise MixstyleError(
        f"no profile {shortened(repr(str(config)))} (there are: {known}); give its name or a path to a YAML file",
        code="not-found",
    )
