"""Files that come with mixstyle: the small separator, the encoder, the profiles; found in a checkout and in a wheel."""

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
SEPARATORS_SHA256 = {
    SEPARATOR: "a25d0f45392af73eabaf7f596e52dcb8843acc374bcfd8870a4f229b9645d3b6",
    FIRST_SEPARATOR: "dfd594455f2e918510e08a9228b55c8925123c5b56910d3c060181f143f4fd80",
}
"""Of the files: unlike the encoders, they hold no checksum of their own."""
_INSTALLED = {"Music-Source-Separation-Training": "separators", "configs": "configs", "api": ""}
"""Folders of the checkout, and what they are called inside the package."""


def shipped(path: Path | str) -> Path:
    """Where a shipped file is, by its path in the checkout: here if the command runs in one, else in the package."""
    path = Path(path)
    if path.exists() or path.is_absolute() or path.parts[0] not in _INSTALLED:
        return path
    inside = files("mixstyle").joinpath(_INSTALLED[path.parts[0]], *path.parts[1:])
    installed = Path(str(inside))
    return installed if installed.exists() else path


def check_shipped(path: Path | str) -> None:
    """Raises MixstyleError (damaged-file) where a file is a shipped separator, and its bytes are not those shipped."""
    found = shipped(path)
    for separator, sha256 in SEPARATORS_SHA256.items():
        if not found.is_file() or found.name != separator.name or found.resolve() != shipped(separator).resolve():
            continue
        if sha256_file(found) != sha256:
            raise MixstyleError(
                f"{found}: damaged: its bytes are not those that mixstyle ships; install mixstyle again",
                code="damaged-file",
            )


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
