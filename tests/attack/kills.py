"""Work that is killed at a random moment."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
import traceback
from collections.abc import Callable


def killed(work: Callable[[], object], delay_s: float) -> bool:
    """Run the work in a forked child, and kill the child by SIGKILL after the delay.

    Returns:
        Whether the child was killed before the work had ended.

    Raises:
        AssertionError: The work raised; the child's traceback stands on standard error.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:  # noqa: BLE001 - whatever it is, the child must not go on as its parent
            traceback.print_exc()
        finally:
            os._exit(status)
    until_s = time.monotonic() + delay_s
    while (left_s := until_s - time.monotonic()) > 0:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        time.sleep(min(left_s, 0.001))
    else:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, f"the work ended by signal {os.WTERMSIG(status)}"
        return True
    assert os.WEXITSTATUS(status) == 0, "the work raised an error; its traceback stands above"
    return False


def duration_s(work: Callable[[], object]) -> float:
    """Return the seconds that the work takes in a forked child: what to draw the delays of kills from."""
    began_s = time.monotonic()
    assert not killed(work, 600.0), "the work did not end in 600 s"
    return time.monotonic() - began_s


def random_delay_s(rng: random.Random, whole_s: float) -> float:
    """Return a moment within the work, or shortly after its end."""
    return rng.uniform(0.0, 1.1 * whole_s)
