"""The processor's cores that this process may use, and the threads that PyTorch spreads its work over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch as th


def usable_cores() -> int:
    """Count the cores that this process may use: in a container or under ``taskset`` fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """
    Let PyTorch use so many threads in a ``with`` block.

    Sums are split among threads, and rounding follows: with one thread a result does not depend on the number of cores.

    :param count: threads
    """
    before = th.get_num_threads()
    th.set_num_threads(count)
    try:
        yield
    finally:
        th.set_num_threads(before)
