"""Files that come with mixstyle: the small separator, the encoder, the profiles; found in a checkout and in a wheel."""

import hashlib
from importlib.resources import files
from pathlib import Path

from mixstyle.cache.storage.atomic import sha256_file
from mixstyle.pipeline.core.errors import MixstyleError

SEPARATOR_CONFIG = Path("Music-Source-Separation-Training/configs/scnet_tiny.yaml")
SEPARATOR = Path("Music-Source-Separation-Training/scnet_tiny_2.safetensors")
"""The small separator."""
FIRST_SEPARATOR = Path("Music-Source-Separation-Training/scnet_tiny.safetensors")
"""The small separator of mixstyle 0.1, for encoders that were trained on its stems."""
ENCODER = Path("api/encoder.safetensors")
FIRST_ENCODER = Path("api/encoder_1.safetensors")
"""The encoder of mixstyle 0.1, which was trained on stems of `FIRST_SEPARATOR`."""
SHIPPED_SHA256 = {
    SEPARATOR: "a25d0f45392af73eabaf7f596e52dcb8843acc374bcfd8870a4f229b9645d3b6",
    FIRST_SEPARATOR: "dfd594455f2e918510e08a9228b55c8925123c5b56910d3c060181f143f4fd80",
    SEPARATOR_CONFIG: "66891bf05f70cf18683395a984336c44e9635fe077403085ef2ce6d7a9f0baef",
}
"""Of the files (of the YAML: as it is with line ends of one byte). Unlike the encoders, they hold no checksum of their
own."""
_INSTALLED = {"Music-Source-Separation-Training": "separators", "configs": "configs", "api": ""}
"""Folders of the checkout, and what they are called inside the package."""


def shipped(path: Path | str) -> Path:
    """Where a shipped file is, by its path in the checkout: here if the command runs in one, else in the package."""
    path = Path(path)
    if path.exists() or path.is_absolute() or path.parts[0] not in _INSTALLED:
        return path
    installed = _installed(path)
    return installed if installed.exists() else path


def _installed(path: Path) -> Path:
    """Where a file of the checkout is inside the package."""
    return Path(str(files("mixstyle").joinpath(_INSTALLED[path.parts[0]], *path.parts[1:])))


def is_shipped(path: Path | str) -> bool:
    """Whether a file is one of a shipped separator, in the folder that it was shipped in, or in a copy of that folder
    by its name. Another file of such a name is a user's own."""
    return _shipped_as(path) is not None


def check_shipped(path: Path | str) -> None:
    """Raises MixstyleError (damaged-file) where `is_shipped`, and the file's bytes are not those shipped."""
    found, original = shipped(path), _shipped_as(path)
    if original is None or _sha256_of(found) == SHIPPED_SHA256[original]:
        return
    mine = "; for a separator of your own, copy the file to another folder" if found.suffix == ".yaml" else ""
    raise MixstyleError(
        f"{found}: damaged: its bytes are not those that mixstyle ships; install mixstyle again{mine}",
        code="damaged-file",
    )


def _shipped_as(path: Path | str) -> Path | None:
    """The path in the checkout of the file that is shipped under this one."""
    found = shipped(path)
    if not found.is_file():
        return None
    place = found.resolve()
    for original in SHIPPED_SHA256:
        is_here = place.parts[-len(original.parts) :] == original.parts
        if is_here or (place.name == original.name and place == _installed(original).resolve()):
            return original
    return None


def _sha256_of(path: Path) -> str:
    if path.suffix != ".yaml":
        return sha256_file(path)
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def profile_names() -> list[str]:
    """The profiles that --config knows by name, sorted."""
    return sorted(path.stem for path in shipped("configs").glob("*.yaml"))


def shipped_encoder() -> Path:
    """The encoder. Raises MixstyleError where this installation has none."""
    path = Path(str(files("mixstyle").joinpath(ENCODER.name)))
    if not path.is_file():
        raise MixstyleError(
            "this installation of mixstyle has no encoder; give one of your checkpoints", code="not-found"
        )
    return path
