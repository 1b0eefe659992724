"""What every test shares: one thread, so that results and timings do not depend on the machine's cores; and the wheel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch as th

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    th.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _one_log_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Stable-Baselines3 makes a folder in the system's temporary one for every ``learn()`` unless told where."""
    os.environ.setdefault("SB3_LOGDIR", str(tmp_path_factory.mktemp("logs")))


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    # built from a copy of what git knows or would take: setuptools leaves a build folder behind
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in listed:
        if (REPOSITORY / name).is_file():
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((REPOSITORY / name).read_bytes())
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder),
        str(source),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))
