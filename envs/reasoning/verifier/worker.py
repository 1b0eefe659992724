"""The process behind a :class:`~.pool.VerifierPool`: judges one answer at a time, within its own limits of memory and time.

Started by file name, not as a module of ``sppo_rl``, so that a worker needs a tenth of a second and 30 MiB instead of an import of
PyTorch. Requests come pickled (the pool is trusted), replies go back as JSON (what handled a model's answer is not).
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
import resource
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

HEADER = struct.Struct("!I")
PACKAGE = "sppo_answer_verifier"


def load_package(name: str) -> ModuleType:
    """
    Import a module of this folder under a package name of its own, without importing ``sppo_rl``.

    :param name: module name, such as ``"checker"``
    """
    if PACKAGE not in sys.modules:
        package = ModuleType(PACKAGE)
        package.__path__ = [str(Path(__file__).resolve().parent)]
        sys.modules[PACKAGE] = package
    return importlib.import_module(f"{PACKAGE}.{name}")


def limit_memory(mebibytes: int) -> None:
    """
    Cap the address space of this process: beyond it, Python raises ``MemoryError``.

    :param mebibytes: the cap
    """
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    cap = mebibytes << 20
    if hard != resource.RLIM_INFINITY:
        cap = min(cap, hard)
    # a platform without this limit (macOS) refuses it; there the time limit alone protects
    if sys.platform.startswith("linux"):
        resource.setrlimit(resource.RLIMIT_AS, (cap, cap))


def resolve(name: str) -> Callable[..., Any]:
    """
    Find what a job calls.

    :param name: ``"module:function"``; a leading dot means a module of this folder
    """
    module, function = name.split(":")
    found = load_package(module[1:]) if module.startswith(".") else importlib.import_module(module)
    return getattr(found, function)


def serve(requests: BinaryIO, replies: BinaryIO, self_destruct: float) -> None:
    """
    Answer requests until the pool goes away.

    :param requests: length-prefixed pickles of (name for :func:`resolve`, arguments); the function returns a score and a reason
    :param replies: length-prefixed JSON objects; an empty one says that this worker is ready
    :param self_destruct: seconds after which the kernel ends this process, should the pool be gone and a job hang
    """

    def reply(content: dict[str, Any]) -> None:
        encoded = json.dumps(content).encode()
        replies.write(HEADER.pack(len(encoded)) + encoded)
        replies.flush()

    reply({})
    while True:
        header = requests.read(HEADER.size)
        if len(header) < HEADER.size:
            return
        name, arguments = pickle.loads(requests.read(HEADER.unpack(header)[0]))
        signal.setitimer(signal.ITIMER_REAL, self_destruct)
        try:
            score, reason = resolve(name)(*arguments)
            content = {"score": float(score), "reason": reason}
        except MemoryError:
            content = {"score": 0.0, "reason": "memory"}
        except Exception as error:  # a foreign scorer may raise anything on hostile text: the reply says so, nothing is hidden
            content = {"score": 0.0, "reason": "scorer_error", "error": f"{type(error).__name__}: {error}"[:500]}
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        reply(content)


def main() -> None:
    """Run as ``python worker.py MEBIBYTES SELF_DESTRUCT_SECONDS [MODULE …]``; the modules are imported before the worker is ready."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    limit_memory(int(sys.argv[1]))
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    # whatever a scorer prints must not be taken for a reply
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    load_package("checker")
    for module in sys.argv[3:]:
        importlib.import_module(module)
    serve(requests, replies, float(sys.argv[2]))


if __name__ == "__main__":
    main()
