"""By which versions of the rules a folder was begun, which it is then finished by."""

from dataclasses import dataclass
from pathlib import Path

from mixstyle.cache.music.clip_positions import CUTTING_VERSION
from mixstyle.cache.music.formats import LISTING_VERSION
from mixstyle.cache.storage.provenance import SETTINGS, read_provenance
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.descriptors.table import SONG_VALUES_VERSION


@dataclass(frozen=True)
class SongRules:
    """Versions of two rules. cutting: how songs are cut into clips. values: how a song's own descriptors follow from
    those of its clips."""

    cutting: int = CUTTING_VERSION
    values: int = SONG_VALUES_VERSION


PRESENT = SongRules()


def cutting_version_of(stems_dir: Path) -> int:
    """The version of the rule that a folder of stems was begun with; the present one where nothing is there yet."""
    return _version_of(stems_dir, "cutting_version", CUTTING_VERSION, "its tracks were cut")


def listing_version_of(stems_dir: Path) -> int:
    """The version of the rule by which a folder of stems was begun: which files of its music folder are tracks."""
    return _version_of(stems_dir, "listing_version", LISTING_VERSION, "its tracks were listed")


def rules_of_index(index_dir: Path) -> SongRules:
    """The rules that an index was begun by; the present ones where nothing is there yet."""
    done = "the descriptors of its songs were made"
    values = _version_of(index_dir, "song_values_version", SONG_VALUES_VERSION, done)
    return SongRules(cutting_version_of(index_dir), values)


def _version_of(stems_dir: Path, name: str, present: int, done: str) -> int:
    path = stems_dir / SETTINGS
    if not path.exists():
        return present
    try:
        version = read_provenance(path).flat.get(name, 1)
    except MixstyleError:  # told where the settings are compared
        return present
    if version not in range(1, present + 1):
        raise MixstyleError(
            f"{path}: {done} by version {version} of the rule, which this mixstyle does not know",
            code="unknown-version",
        )
    return version
