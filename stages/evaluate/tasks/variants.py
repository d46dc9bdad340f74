"""In which two ways the same questions are asked: through a mix, as people have music, and of stems as processed."""

from dataclasses import dataclass
from typing import Literal

Way = Literal["as-is", "through-mix", "as-processed"]
"""What is between a part's stems and their embedding: nothing was done to them; they were processed, summed and
separated again; they were processed."""


@dataclass(frozen=True)
class Variant:
    """name, key: what the names and keys of its tasks begin with. words: for titles. told: what is done to the clips.
    way: what is between processed stems and their embedding.
    """

    name: str
    key: str
    words: str
    told: str
    way: Way


THROUGH_MIX = Variant(
    "",
    "",
    "through the mix",
    "The processed stems are summed and separated again, as all music of users is.",
    "through-mix",
)
WHOLE_SONGS = Variant(
    "songs-",
    "songs_",
    "whole songs through the mix",
    "Stems have one gain for all stretches of a song. The processed stems are summed and separated again, and a song's "
    "embedding is the mean of its stretches', as `mixstyle index` and `mixstyle embed` make it.",
    "through-mix",
)
AS_PROCESSED = Variant(
    "stems-",
    "stems_",
    "stems as processed",
    "A diagnostic: the stems are embedded as they were processed, without a mix in between. No user has such stems, "
    "and music as people have it is harder.",
    "as-processed",
)
TRUE_STEMS = Variant(
    "true-",
    "true_",
    "true stems as processed",
    "A diagnostic: the stems that songs were rendered from, processed and embedded without a mix in between and "
    "without a separator. No user has such stems.",
    "as-processed",
)
