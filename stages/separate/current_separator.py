"""The separator of the settings, and how chunks would go through it now, for `status` to compare with stored stems.

Files of a separator are hashed, and loaded only where nobody has loaded these before; torch, which takes longer to
import than all else that `status` does, is imported only then, or where a GPU has to be asked for.
"""

import dataclasses
from typing import TYPE_CHECKING

from mixstyle.cache.models.model_facts import ModelFiles
from mixstyle.cache.models.separator_records import SeparatorRecord
from mixstyle.pipeline.separation.versions import INFERENCE_VERSION
from mixstyle.stages.common.assets import shipped
from mixstyle.stages.separate.provenance import Streams, known_streams, settings_of_folder
from mixstyle.stages.settings.separate import SeparateSettings

if TYPE_CHECKING:
    from mixstyle.pipeline.separation.separator import Separator


def separator_now(chosen: SeparateSettings) -> SeparatorRecord | None:
    """What the separator of the settings is known by; None where stems are given (`separate.input=stems`).

    Raises MixstyleError as `configured_separator` does.
    """
    if chosen.input == "stems":
        return None
    files = (shipped(chosen.separator_config), shipped(chosen.separator_checkpoint))
    models = ModelFiles.of("separator", files, num_overlap=chosen.num_overlap, inference_version=INFERENCE_VERSION)
    known = models.facts() if models is not None else None
    if known is None:
        known = SeparatorRecord.of(_loaded(chosen)).to_json()
        if models is not None:
            models.keep(known)
    return dataclasses.replace(SeparatorRecord.from_json(known), name=files[1].stem)


def device_type_of(chosen: SeparateSettings) -> str:
    """The kind of device that the settings name: cpu or cuda. Raises MixstyleError as `device_of` does."""
    if set(chosen.devices or (chosen.device,)) == {"cpu"}:
        return "cpu"
    from mixstyle.stages.separate.tuned_streams import device_of

    return device_of(chosen).type


def streams_now(chosen: SeparateSettings, separator: SeparatorRecord | None, device: str) -> Streams:
    """How chunks would go through the separator, as far as bytes depend on it (streams is 1). device: its type.

    Nothing is measured.
    """
    if separator is None:
        return Streams(1, 1, 1)
    stored = settings_of_folder(chosen, separator.fingerprint, device)
    threads, batch = known_streams(chosen, stored, device)
    if stored and threads and batch:
        return Streams(1, threads, batch, stored.get("lstm_kernel", ""))
    import torch

    from mixstyle.stages.separate.tuned_streams import choose_streams

    found = choose_streams(chosen, _loaded(chosen), torch.device(device), measure=False)
    return dataclasses.replace(found, streams=1)


def _loaded(chosen: SeparateSettings) -> "Separator":
    """The separator on the CPU: its fingerprint depends on neither device nor precision, and a GPU stays untouched."""
    import torch

    from mixstyle.stages.common.separators import configured_separator

    plain = dataclasses.replace(chosen, precision="fp32")
    separator = configured_separator(plain, torch.device("cpu"), to_separate=False)
    if separator is None:
        raise ValueError("a separator is only of mixtures")
    return separator
