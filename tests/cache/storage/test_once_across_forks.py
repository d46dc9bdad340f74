"""One of several forked processes does what the others leave."""

import os

from mixstyle.cache.storage.once_across_forks import Once


def forked(once: Once) -> int:
    """A process that ends with status 1 where it was the first; its number."""
    pid = os.fork()
    if not pid:
        os._exit(int(once.take()))
    return pid


def test_one_of_many_forked_processes_is_the_first() -> None:
    for _ in range(5):
        once = Once()
        ends = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in [forked(once) for _ in range(8)]]
        assert sorted(ends) == [0] * 7 + [1]
        assert not once.take()


def test_the_process_that_made_it_may_be_the_first() -> None:
    once = Once()
    assert once.take()
    assert os.waitstatus_to_exitcode(os.waitpid(forked(once), 0)[1]) == 0
    assert Once().take(), "another one is for something else"
