"""
Copies of LunarLander that are stepped together; also the program that a worker process of the batched form runs.

As a program it reads commands from standard input and answers on standard output until its input ends, which it
does when the parent closes it or dies. It imports gymnasium only, and never the parent's ``__main__``: it starts
fast, and scripts need no ``if __name__ == "__main__"``. Numbers travel as raw arrays:

==========  ==========================================================
===================================================== command     arguments
answer ==========  ==========================================================
===================================================== ``b"r"``    n: int64; copies: n int64; seeds: n int64 (-1
means None)   observations: (n, 8) float32 ``b"s"``    n: int64; copies: n int64; actions: n int64
observations; rewards: n float32; terminated: n bool;
crashed: n bool ==========  ==========================================================
=====================================================

The program's one argument is the number of copies.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import BinaryIO

import numpy as np
from gymnasium.envs.box2d.lunar_lander import LunarLander

OBSERVATION_SIZE = 8


class LanderCopies:
    """
    Some copies of gymnasium's LunarLander in this process.

    :param n: number of copies
    """

    def __init__(self, n: int):
        self._envs = [LunarLander() for _ in range(n)]

    def reset(self, copies: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """
        Reset some copies.

        :param copies: (n,) int
        :param seeds: (n,) int; -1 draws on from the copy's own generator
        :return: (n, 8) float32
        """
        observations = np.empty((len(copies), OBSERVATION_SIZE), dtype=np.float32)
        for row, (i, seed) in enumerate(zip(copies.tolist(), seeds.tolist(), strict=True)):
            observations[row] = self._envs[i].reset(seed=None if seed < 0 else seed)[0]
        return observations

    def step(self, copies: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """
        Step some copies.

        :param copies: (n,) int
        :param actions: (n,) int
        :return: observations (n, 8) float32; gymnasium's rewards (n,) float32; whether gymnasium ended the episode, (n,) bool;
            whether the lander crashed, (n,) bool
        """
        n = len(copies)
        observations = np.empty((n, OBSERVATION_SIZE), dtype=np.float32)
        rewards = np.empty(n, dtype=np.float32)
        terminated = np.empty(n, dtype=bool)
        crashed = np.empty(n, dtype=bool)
        for row, (i, action) in enumerate(zip(copies.tolist(), actions.tolist(), strict=True)):
            env = self._envs[i]
            observations[row], rewards[row], terminated[row], _, _ = env.step(action)
            crashed[row] = env.game_over
        return observations, rewards, terminated, crashed


def serve(copies: LanderCopies, requests: BinaryIO, answers: BinaryIO) -> None:
    """
    Answer commands until there are no more.

    :param copies: the copies to step
    :param requests: where the commands come from
    :param answers: where the answers go
    """

    def read_array(n: int) -> np.ndarray:
        return np.frombuffer(requests.read(8 * n), dtype=np.int64)

    while command := requests.read(1):
        n = int(read_array(1)[0])
        which, arguments = read_array(n), read_array(n)
        if command == b"r":
            answers.write(copies.reset(which, arguments).tobytes())
        else:
            answers.write(b"".join(array.tobytes() for array in copies.step(which, arguments)))
        answers.flush()


def main() -> None:
    """Run a worker process."""
    # An interrupt from the keyboard reaches the whole process group; the parent decides, and its end ends the input here.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Keep the answers' stream to ourselves: whatever a library prints goes to the error stream.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    copies = LanderCopies(int(sys.argv[1]))
    # A parent that is gone reads no answers.
    try:
        serve(copies, sys.stdin.buffer, answers)
    except BrokenPipeError:
        os._exit(0)


if __name__ == "__main__":
    main()
