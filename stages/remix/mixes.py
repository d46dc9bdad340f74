"""Mixes to be made for a bank, and how one is made: donors' stems together, a chain on them, and a level."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mixstyle.cache.stem_store.stem_cache import CachedClip, StemCache
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.mixing.mix_chain import MixChain, apply_mix_chain
from mixstyle.pipeline.mixing.mix_grid import NO_CHAIN, group_path


@dataclass(frozen=True, slots=True)
class CachedDonor:
    """Stems from a cached clip, from one of its frames on."""

    clip: CachedClip
    start_frame: int = 0

    @property
    def name(self) -> str:
        return self.clip.clip_id

    @property
    def start_in_song(self) -> int:
        """The frame in the song, at 44.1 kHz."""
        return self.clip.start_frame + self.start_frame

    def read(self, cache: StemCache, frames: int) -> np.ndarray:
        """Stems [4, 2, frames] float32."""
        return cache.read_clip(self.clip, self.start_frame, frames)


@dataclass(frozen=True, slots=True)
class AudioDonor:
    """Stems that a function gives: true stems, or what an effect of another package made.

    name: equal for equal audio, and for no other; a bank is known by it. load: gives float32 [4, 2, T], from T frames
    on; is called in threads, each time the donor is needed.
    """

    name: str
    load: Callable[[], np.ndarray]
    start_frame: int = 0

    @property
    def start_in_song(self) -> int:
        return self.start_frame

    def read(self, cache: StemCache | None, frames: int) -> np.ndarray:
        """Stems [4, 2, frames] float32. Raises ValueError where there are fewer."""
        audio = self.load()[..., self.start_frame : self.start_frame + frames]
        if audio.shape != (len(STEMS), 2, frames):
            raise ValueError(f"{self.name}: stems should be [4, 2, {frames}] or longer, not {list(audio.shape)}")
        return np.ascontiguousarray(audio, np.float32)


Donor = CachedDonor | AudioDonor


@dataclass(frozen=True, slots=True)
class Mix:
    """A clip to be made: stem i comes from donor i, the chain is put on them, and all get a gain.

    content: a number that is equal for equal donors alone. separated: their sum is separated again; else the clip holds
    the stems as they are. Raises ValueError for a number of donors that is not that of the stems.
    """

    donors: tuple[Donor, ...]
    chain: MixChain = NO_CHAIN
    gain_db: float = 0.0
    separated: bool = True
    content: int = 0

    def __post_init__(self) -> None:
        if len(self.donors) != len(STEMS):
            raise ValueError(f"a mix has {len(STEMS)} donors, not {len(self.donors)}")


@dataclass(frozen=True, slots=True)
class Group:
    """A bank's track: mixes, one a slot, that share what was done to them.

    kind, block, place: make its path. separator: which of the bank's separators its mixes go through. notes: more for
    its record.
    """

    kind: str
    block: int
    place: int
    split: str
    mixes: tuple[Mix, ...]
    separator: int = 0
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return group_path(self.kind, self.block, self.place)

    def record(self) -> dict[str, Any]:
        """What the sample's JSON says of how it was made, as plain JSON types; lists have an entry a slot."""
        chains = [mix.chain.to_json() for mix in self.mixes]
        shared = all(chain == chains[0] for chain in chains)
        return {
            **self.notes,
            "kind": self.kind,
            "block": self.block,
            "chain": chains[0] if shared else None,
            **({} if shared else {"chains": chains}),
            "donors": [[donor.name for donor in mix.donors] for mix in self.mixes],
            "start_frames": [[donor.start_frame for donor in mix.donors] for mix in self.mixes],
            "gain_db": [mix.gain_db for mix in self.mixes],
            "content": [mix.content for mix in self.mixes],
            "separated": [mix.separated for mix in self.mixes],
            "separators": self.separator,
        }


def groups_digest(groups: Sequence[Group]) -> str:
    """16 hex digits of all that groups say."""
    digest = hashlib.sha256()
    for group in groups:
        entry = [group.path, group.split, group.record()]
        digest.update(json.dumps(entry, sort_keys=True, allow_nan=False).encode() + b"\n")
    return digest.hexdigest()[:16]


def donors_together(mix: Mix, cache: StemCache, frames: int) -> np.ndarray:
    """The content of a mix, [4, 2, frames] float32: each stem of its donor, as it is."""
    read: dict[int, np.ndarray] = {}
    for donor in mix.donors:
        if id(donor) not in read:
            read[id(donor)] = donor.read(cache, frames)
    return np.stack([read[id(donor)][i] for i, donor in enumerate(mix.donors)])


def processed(content: np.ndarray, mix: Mix) -> np.ndarray:
    """The stems of a mix, [4, 2, T] float32, from its content: the chain, then the gain."""
    if mix.chain == NO_CHAIN and mix.gain_db == 0:
        return content
    stems = content if mix.chain == NO_CHAIN else apply_mix_chain(content, mix.chain)
    return stems * np.float32(10 ** (mix.gain_db / 20))
