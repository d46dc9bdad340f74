"""Five mixing presets that anyone can tell apart, on the whole mix: for asking whether an embedding can, too."""

from collections.abc import Mapping

from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.mixing.chains import MIX_LUFS
from mixstyle.pipeline.mixing.mix_chain import Effect, MixChain


def _preset(**effects: Mapping[str, float]) -> MixChain:
    chain = tuple(Effect(name, parameters) for name, parameters in effects.items())
    return MixChain(tuple(() for _ in STEMS), chain, mix_lufs=MIX_LUFS)


PRESETS: Mapping[str, MixChain] = {
    "telephone": _preset(bandwidth={"highpass_hz": 300.0, "lowpass_hz": 3400.0}),
    "bright": _preset(tilt={"tilt_db": 9.0}),
    "warm": _preset(tilt={"tilt_db": -9.0}, saturation={"drive_db": 9.0}),
    "broadcast": _preset(
        compression={"threshold_db": -18.0, "ratio": 8.0, "attack_ms": 5.0, "release_ms": 80.0},
        limiter={"threshold_db": 0.0, "release_ms": 50.0},
    ),
    "hall": _preset(reverb={"room_size": 0.9, "damping": 0.3, "wet_level": 0.4, "width": 1.0}),
}
"""By name. All end at the same loudness, so that level tells nothing."""
