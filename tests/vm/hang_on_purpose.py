"""Not collected: a test that never ends, for the test of what is said about such a one."""

import time


def test_that_never_ends() -> None:
    while True:
        time.sleep(1)
