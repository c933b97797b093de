"""Processes that a killed command leaves behind."""

import os
import time


def no_process_left(group: int) -> bool:
    """Waits up to a minute for a process group to end: workers of a killed command take a moment to notice."""
    for _ in range(6000):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False
