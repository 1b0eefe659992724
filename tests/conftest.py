"""What every test shares: one thread, so that results and timings do not depend on the machine's cores."""

from __future__ import annotations

import pytest
import torch as th


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    th.set_num_threads(1)
