"""Versions of all that effect chains consist of, for code that stores what they made. Without torch: what compares them
needs none."""

from collections.abc import Mapping

DRAW_VERSION = 1
"""Counts up when equal settings and songs give another grid."""
STEM_LOUDNESS_VERSION = 2
"""Counts up when other stems are brought to a loudness, or in another way. 2: those that are present by the rule of
`absent_stems`, 30 LU below the mix; 1: those less than 30 LU below the loudest."""


def chain_versions(effects: Mapping[str, int], stem_loudness: int = STEM_LOUDNESS_VERSION) -> dict[str, int]:
    """The versions of all that effect chains consist of, from those of the effects."""
    return {**effects, "stem_loudness": stem_loudness}
