"""Cores and threads: what a process may use counts, and what it used before comes back."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch as th

from sppo_rl.cores import torch_threads


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not pin processes to cores")
def test_a_pinned_process_starts_no_more_workers_than_it_has_cores() -> None:
    script = (
        "import os; os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])\n"
        "from sppo_rl.cores import usable_cores\n"
        "from sppo_rl.envs.control.batch import worker_count\n"
        "from sppo_rl.envs.reasoning import VerifierPool\n"
        "print(usable_cores(), worker_count(None, 8), VerifierPool().num_workers)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["1", "1", "1"]


def count_inside(threads: int) -> None:
    with torch_threads(threads):
        assert th.get_num_threads() == threads
        raise KeyboardInterrupt


def test_threads_come_back_whatever_happens() -> None:
    before = th.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        count_inside(before + 1)
    assert th.get_num_threads() == before
