"""
Copies of LunarLander that are stepped together; also the program that a worker process of the batched form runs.

As a program it reads commands from standard input and answers on standard output until its input ends, which it
does when the parent closes it or dies. It imports gymnasium only, and never the parent's ``__main__``: it starts
fast, and scripts need no ``if __name__ == "__main__"``. Numbers travel as raw arrays:

========  ============================================  =====================================================
command   arguments                                     answer
========  ============================================  =====================================================
``b"r"``  n: int64; copies: n int64; seeds: n int64,    observations: (n, 8) float32
          where -1 means None
``b"s"``  n: int64; copies: n int64; actions: n int64   observations: (n, 8) float32; rewards: n float32;
                                                        terminated: n bool; crashed: n bool
========  ============================================  =====================================================

The program's one argument is the number of copies.
"""

from __future__ import annotations

import math
import os
import signal
import sys
from typing import Any, BinaryIO

import numpy as np
from gymnasium.envs.box2d.lunar_lander import (
    FPS,
    LEG_DOWN,
    MAIN_ENGINE_POWER,
    MAIN_ENGINE_Y_LOCATION,
    SCALE,
    SIDE_ENGINE_AWAY,
    SIDE_ENGINE_HEIGHT,
    SIDE_ENGINE_POWER,
    VIEWPORT_H,
    VIEWPORT_W,
    LunarLander,
)

OBSERVATION_SIZE = 8
_HALF_WIDTH = VIEWPORT_W / SCALE / 2
_HALF_HEIGHT = VIEWPORT_H / SCALE / 2
_ACTIONS = {0, 1, 2, 3}


class LeanLander(LunarLander):
    """
    Gymnasium's LunarLander (discrete, no wind, not rendered) with a step that costs about 60 % as much.

    Terrain, bodies and physics are gymnasium's; only the Python around Box2D's own step is written anew: the same expressions on
    plain numbers, the two random numbers drawn at once, no checks and no array. The results are the same to the last bit.
    """

    def advance(self, action: int) -> tuple[list[float], float, bool]:
        """
        Take one step.

        :param action: 0 to 3
        :return: observation (8 numbers), reward, whether the episode is over
        """
        lander: Any = self.lander
        angle = lander.angle
        sin, cos = math.sin(angle), math.cos(angle)
        first, second = self.np_random.random(2).tolist()
        dispersion = (-1.0 + 2.0 * first) / SCALE, (-1.0 + 2.0 * second) / SCALE
        fuel = 0.0
        if action == 2:
            along = MAIN_ENGINE_Y_LOCATION / SCALE + 2 * dispersion[0]
            x, y = sin * along + -cos * dispersion[1], -cos * along - sin * dispersion[1]
            position = lander.position
            impulse = (-x * MAIN_ENGINE_POWER, -y * MAIN_ENGINE_POWER)
            lander.ApplyLinearImpulse(impulse, (position[0] + x, position[1] + y), True)
            fuel = 0.30
        elif action != 0:
            across = 3 * dispersion[1] + (action - 2) * SIDE_ENGINE_AWAY / SCALE
            x, y = sin * dispersion[0] + -cos * across, -cos * dispersion[0] - sin * across
            position = lander.position
            # 17 is gymnasium's.
            point = (position[0] + x - sin * 17 / SCALE, position[1] + y + cos * SIDE_ENGINE_HEIGHT / SCALE)
            lander.ApplyLinearImpulse((-x * SIDE_ENGINE_POWER, -y * SIDE_ENGINE_POWER), point, True)
            fuel = 0.03
        self.world.Step(1.0 / FPS, 6 * 30, 2 * 30)

        x, y = lander.position
        speed_x, speed_y = lander.linearVelocity
        left, right = self.legs
        state = [
            (x - _HALF_WIDTH) / _HALF_WIDTH,
            (y - (self.helipad_y + LEG_DOWN / SCALE)) / _HALF_HEIGHT,
            speed_x * _HALF_WIDTH / FPS,
            speed_y * _HALF_HEIGHT / FPS,
            lander.angle,
            20.0 * lander.angularVelocity / FPS,
            1.0 if left.ground_contact else 0.0,
            1.0 if right.ground_contact else 0.0,
        ]
        shaping = (
            -100 * math.sqrt(state[0] * state[0] + state[1] * state[1])
            - 100 * math.sqrt(state[2] * state[2] + state[3] * state[3])
            - 100 * abs(state[4])
            + 10 * state[6]
            + 10 * state[7]
        )
        reward = 0.0 if self.prev_shaping is None else shaping - self.prev_shaping
        self.prev_shaping = shaping
        reward -= fuel
        if not lander.awake:
            return state, 100.0, True
        if self.game_over or abs(state[0]) >= 1.0:
            return state, -100.0, True
        return state, reward, False

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """
        Take one step in Gymnasium's form; gymnasium's ``reset`` calls it.

        :param action: 0 to 3
        """
        state, reward, terminated = self.advance(action)
        return np.array(state, dtype=np.float32), reward, terminated, False, {}


class LanderCopies:
    """
    Some copies of LunarLander in this process.

    :param n: number of copies
    """

    def __init__(self, n: int):
        self._envs = [LeanLander() for _ in range(n)]

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
        :raises ValueError: if an action is not one of the four
        :return: observations (n, 8) float32; gymnasium's rewards (n,) float32; whether gymnasium ended the episode, (n,) bool;
            whether the lander crashed, (n,) bool
        """
        choices = actions.tolist()
        if not _ACTIONS.issuperset(choices):
            raise ValueError(f"LunarLander's actions are 0, 1, 2 and 3, got {sorted(set(choices) - _ACTIONS)}.")
        envs = [self._envs[i] for i in copies.tolist()]
        steps = [env.advance(action) for env, action in zip(envs, choices, strict=True)]
        observations, rewards, terminated = zip(*steps, strict=True)
        return (
            np.array(observations, dtype=np.float32),
            np.array(rewards, dtype=np.float32),
            np.array(terminated, dtype=bool),
            np.array([env.game_over for env in envs], dtype=bool),
        )


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
