"""A store of descriptors keeps what it was begun with: the kernel, or torch's own code."""

from pathlib import Path

import numpy as np
import pytest
from helpers.digests import digest
from helpers.mixed_cache import make_stems, settings_of

from mixstyle.cache.feature_store.store import FeatureStore
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.pipeline.descriptors.kernels.measure import NAME
from mixstyle.stages.common import descriptor_kernel
from mixstyle.stages.common.notes import begin_notes
from mixstyle.stages.features.provenance import KERNEL, stale_reasons
from mixstyle.stages.features.stage import features

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def stems(tmp_path: Path) -> Path:
    """A folder with all stems."""
    if descriptor_kernel.descriptor_kernel() is None:
        pytest.skip("a processor without AVX2, or no C compiler")
    make_stems(tmp_path / "stems")
    return tmp_path


def half_filled(folder: Path) -> None:
    """A store that two of four processes have filled their shares of."""
    for share in (0, 1):
        features(settings_of(folder), shard_index=share, num_shards=4)


def store_of(folder: Path) -> FeatureStore:
    return FeatureStore.open(folder / "features.zarr")


def test_a_store_of_torchs_code_stays_so(stems: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(descriptor_kernel, "descriptor_kernel", lambda: None)
        features(settings_of(stems))
        whole = digest(stems / "features.zarr")
        assert KERNEL not in store_of(stems).made_with, "as in stores from before there was a kernel"
        by_torch = store_of(stems).values()
        (stems / "features.zarr").rename(tmp_path / "whole.zarr")
        half_filled(stems)
    features(settings_of(stems))
    assert digest(stems / "features.zarr") == whole
    assert stale_reasons(store_of(stems), StemCache(stems / "stems")) == []

    (stems / "features.zarr").rename(tmp_path / "again.zarr")
    features(settings_of(stems))
    assert store_of(stems).made_with[KERNEL] == NAME
    by_kernel = store_of(stems).values()
    assert not np.array_equal(by_kernel, by_torch, equal_nan=True), "else the test tells nothing"
    # sums of 44,100 float32 squares in another order move a power by sqrt(44100) 2^-24 = 1.3e-5, a level by 6e-5 dB
    np.testing.assert_allclose(by_kernel, by_torch, rtol=0, atol=1e-4)


def test_a_store_of_the_kernel_goes_on_without_it_and_tells(
    stems: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    half_filled(stems)
    metadata = stems / "features.zarr" / "zarr.json"
    made = metadata.read_bytes()
    monkeypatch.setattr(descriptor_kernel, "descriptor_kernel", lambda: None)
    begin_notes()
    features(settings_of(stems))
    assert NAME in capsys.readouterr().err
    assert metadata.read_bytes() == made
    assert store_of(stems).made_with[KERNEL] == NAME
    assert stale_reasons(store_of(stems), StemCache(stems / "stems")) == []
    assert features(settings_of(stems)).shards_computed == 0
