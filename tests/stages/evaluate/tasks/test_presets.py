"""Presets: told by embeddings that hold them, and not by embeddings of the song alone."""

import numpy as np
from helpers.evaluation import songs_without_audio

from mixstyle.pipeline.mixing.presets import PRESETS
from mixstyle.stages.evaluate.tasks.presets import presets, presets_of
from mixstyle.stages.evaluate.tasks.task import Cut


def test_presets_are_told_apart_by_what_they_do() -> None:
    part = presets(songs_without_audio(), Cut(1000, 400), 2, 0, "presets", "through-mix")
    label = np.repeat(np.arange(len(PRESETS)), len(part) // len(PRESETS))
    assert [item.steps for item in part.items] == [(list(PRESETS.values())[k],) for k in label]
    right = presets_of(np.eye(5, dtype=np.float32)[label], part, "x")
    assert right["nearest_accuracy"] == right["probe_accuracy"] == right["nearest_f1"] == 1
    np.testing.assert_array_equal(right["confusion"], np.eye(5))
    blind = presets_of(np.eye(10, dtype=np.float32)[list(part.songs)], part, "x")
    assert blind["nearest_accuracy"] < 0.5, "what tells the song alone cannot tell the preset"
