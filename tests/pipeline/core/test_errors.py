"""An error keeps its code, wherever it goes."""

import pickle

import pytest

from mixstyle.cache.music.reader import UnreadableMusic
from mixstyle.pipeline.core.errors import MixstyleError


@pytest.mark.parametrize(
    "error",
    [
        MixstyleError("a.pt: no such checkpoint", code="step-missing", remedy=("train", "--config", "a b.yaml")),
        MixstyleError("a.pt: damaged", code="damaged-file"),
        UnreadableMusic("too short: 0.5 s"),
    ],
)
def test_it_goes_through_pickle_as_it_is(error: MixstyleError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert (again.message, again.code, again.remedy) == (error.message, error.code, error.remedy)


def test_a_code_cannot_be_forgotten() -> None:
    with pytest.raises(TypeError, match="code"):
        MixstyleError("a.pt: damaged")  # pyright: ignore[reportCallIssue]
    assert UnreadableMusic("too short: 0.5 s").kind == "too short"
    assert UnreadableMusic("too short: 0.5 s").code == "bad-audio"
