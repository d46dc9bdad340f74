"""Ctrl-C and SIGTERM that wait for the end of a step."""

import signal

import pytest
from helpers.typed import INT, TERM, signals_as_in_a_shell

from mixstyle.stages.common.stopping import StoppingAfterStep, Terminated


@pytest.mark.parametrize("number", [INT, TERM])
def test_the_first_signal_waits_and_a_second_of_its_kind_ends_at_once(number: int) -> None:
    told: list[bool] = []
    with signals_as_in_a_shell():
        signal.signal(TERM, _terminate)  # as a command has it
        before = signal.getsignal(number)
        stopping = StoppingAfterStep(lambda: told.append(True))
        with pytest.raises(KeyboardInterrupt) as caught:
            _asked_twice(stopping, number)
        assert isinstance(caught.value, Terminated) == (number == TERM)
        assert signal.getsignal(number) is before
    assert told == [True]


def test_where_another_process_was_asked_the_run_ends_too() -> None:
    with signals_as_in_a_shell(), pytest.raises(KeyboardInterrupt), StoppingAfterStep(lambda: None) as stopping:
        stopping.stop()


def _asked_twice(stopping: StoppingAfterStep, number: int) -> None:
    with stopping:
        assert stopping.asked == 0
        signal.raise_signal(number)
        assert stopping.asked == number
        signal.raise_signal(TERM if number == INT else INT)  # of the parent, after that of a terminal
        assert stopping.asked == number
        signal.raise_signal(number)
        pytest.fail("the second one should end the step")


def _terminate(number: int, frame: object) -> None:
    raise Terminated
