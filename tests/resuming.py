"""Training runs of many kinds, in processes that kill themselves at a chosen point."""

from __future__ import annotations

import os
import pickle
import random
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from torch import nn

from sppo_rl import GRPO, PPO, SPPO, ReMax
from sppo_rl.algorithm import SequenceAlgorithm
from sppo_rl.checkpoint import CheckpointCallback, load_checkpoint
from sppo_rl.vec_env import make_batched
from tests.helpers import SpaceEnv, TraceBatch, TraceEnv, dummy

# ---------------------------------------------------------------- the runs


class CursorBatch(TraceBatch):
    """Outcomes depend on how many episodes were ever started: a state that no seed rebuilds, as a prompt cursor is."""

    def __init__(self, num_envs: int):
        super().__init__(num_envs)
        self.cursor = 0

    def reset_subset(self, indices: np.ndarray, seeds: Sequence[int | None]) -> np.ndarray:
        observations = super().reset_subset(indices, seeds)
        for row, copy in enumerate(indices):
            self.cursor += 1
            self.copies[copy].draw = observations[row, 0] = (self.cursor * 0.37) % 1.0
        return observations

    def get_state(self) -> int:
        return self.cursor

    def set_state(self, state: int) -> None:
        self.cursor = state


class DropoutExtractor(FlattenExtractor):
    """Draws from PyTorch's generator in every training pass."""

    def __init__(self, observation_space: gym.Space):
        super().__init__(observation_space)
        self.dropout = nn.Dropout(0.3)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.dropout(super().forward(observations))


class OldStyleEnv(TraceEnv):
    """Draws from the generators that the whole process shares, as older environments do."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.draw = (random.random() + np.random.random()) / 2.0  # noqa: NPY002 - the global one is meant
        return self._observe(), {}


def cart_poles() -> VecEnv:
    return make_batched("sppo_rl/PrecisionCartPole200-v0", 2)


def normalized() -> VecEnv:
    return VecNormalize(dummy(partial(gym.make, "CartPole-v1"), 3))


def pendulums() -> VecEnv:
    return dummy(partial(gym.make, "Pendulum-v1", max_episode_steps=30), 2)


def binary() -> VecEnv:
    return dummy(partial(SpaceEnv, spaces.Box(-1.0, 1.0, (3,), np.float32), spaces.MultiBinary(2), length=8), 2)


class Run(NamedTuple):
    algorithm: type[SequenceAlgorithm]
    make_env: Callable[[], VecEnv]
    total_timesteps: int
    every_updates: int
    kwargs: dict[str, Any]


SCHEDULES = {"learning_rate": "lin_3e-3", "critic_learning_rate": "lin_1e-2", "clip_range": "lin_0.3"}
RUNS = {
    "minibatches": Run(SPPO, cart_poles, 300, 2, {"n_episodes": 2, "batch_size": 1, "ent_coef": 0.01, **SCHEDULES}),
    "normalized": Run(SPPO, normalized, 400, 1, {"n_episodes": 4, "batch_size": 2, "learning_rate": "lin_3e-3"}),
    "ppo": Run(PPO, normalized, 700, 2, {"n_episodes": 5, "gae_lambda": 0.9, "target_kl": 0.02}),
    "gsde": Run(SPPO, pendulums, 300, 1, {"n_episodes": 3, "use_sde": True, "sde_sample_freq": 7}),
    "groups": Run(GRPO, cart_poles, 250, 1, {"n_episodes": 2, "group_size": 2}),
    "greedy": Run(ReMax, normalized, 600, 2, {"n_episodes": 4, "batch_size": 3}),
    "cursor": Run(SPPO, partial(CursorBatch, 4), 120, 1, {"n_episodes": 4, "critic_init": "first_batch"}),
    "torch": Run(SPPO, binary, 160, 2, {"n_episodes": 4, "policy_kwargs": {"features_extractor_class": DropoutExtractor}}),
    "global": Run(SPPO, partial(dummy, OldStyleEnv, 2), 150, 2, {"n_episodes": 4}),
    "big": Run(SPPO, cart_poles, 300, 1, {"n_episodes": 2, "n_epochs": 1, "policy_kwargs": {"net_arch": [512, 512]}}),
}


def make_model(name: str) -> SequenceAlgorithm:
    run = RUNS[name]
    return run.algorithm("MlpPolicy", run.make_env(), seed=3, device="cpu", **run.kwargs)


def everything(model: SequenceAlgorithm) -> dict[str, Any]:
    """All that decides how a run goes on."""
    assert model.env is not None
    normalize = model.get_vec_normalize_env()
    return {
        "policy": model.policy.state_dict(),
        "optimizer": model.policy.optimizer.state_dict(),
        "critic_optimizer": model.policy.critic_optimizer.state_dict(),
        "rng": model._rng.bit_generator.state,
        "torch": th.get_rng_state(),
        "numpy": np.random.get_state(),  # noqa: NPY002 - the global one is meant
        "timesteps": model.num_timesteps,
        "episodes": model._episode_num,
        "updates": model._n_updates,
        "normalize": None if normalize is None else (vars(normalize.obs_rms), vars(normalize.ret_rms)),
        "environment": model.env.unwrapped.get_state() if hasattr(model.env.unwrapped, "get_state") else None,
    }


def assert_identical(one: Any, other: Any, where: str = "") -> None:
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_identical(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            assert_identical(left, right, f"{where}/{index}")
    elif isinstance(one, th.Tensor | np.ndarray):
        assert np.array_equal(np.asarray(one), np.asarray(other)), where
    else:
        assert one == other, where


# ---------------------------------------------------------------- processes that are killed


class Suicide:
    """Profile function: SIGKILL before the n-th event, of all events or of the calls of one built-in function."""

    def __init__(self, at: int | None = None, function: str | None = None):
        self.at, self.function = at, function
        self.count = 0

    def __call__(self, frame: Any, event: str, argument: Any) -> None:
        if self.function is None or (event == "c_call" and argument.__qualname__ == self.function):
            self.count += 1
            if self.count == self.at:
                os.kill(os.getpid(), signal.SIGKILL)


def train(name: str, folder: Path, suicide: Suicide | None = None) -> None:
    """What a user's script does: go on from the folder's checkpoint, or begin; writes what it ended with to ``result.pkl``."""
    warnings.filterwarnings("error", message=".* is damaged")  # a kill must never leave a torn checkpoint
    run = RUNS[name]
    model = load_checkpoint(run.algorithm, folder, run.make_env(), device="cpu")
    with open(folder / "begun.txt", "a") as log:
        log.write(f"{0 if model is None else model.num_timesteps}\n")
    sys.setprofile(suicide)
    if model is None:
        model = make_model(name)
    model.learn(
        run.total_timesteps - model.num_timesteps,
        callback=CheckpointCallback(folder, run.every_updates),
        reset_num_timesteps=False,
    )
    sys.setprofile(None)
    (folder / "result.pkl").write_bytes(pickle.dumps((everything(model), 0 if suicide is None else suicide.count)))


def serve(connection: Connection) -> None:
    """Fork for each job: this process has imported everything, and has never trained (CUDA and threads do not survive a fork)."""
    th.set_num_threads(1)
    parameter = nn.Parameter(th.zeros(1))
    parameter.grad = th.zeros(1)
    th.optim.Adam([parameter]).step()  # imports what PyTorch leaves for the first step
    for job in iter(connection.recv, None):
        pid = os.fork()
        if pid == 0:
            try:
                job()
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        connection.send(pid)
        connection.send(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


class Processes:
    """Starts training runs in processes of their own, and remembers how the undisturbed ones ended."""

    def __init__(self, connection: Connection, folder: Path):
        self.connection, self.folder = connection, folder
        self.references: dict[str, tuple[dict[str, Any], int]] = {}

    def train(self, name: str, folder: Path, suicide: Suicide | None = None, kill_after: float | None = None) -> int:
        """Exit status of one process; minus the signal's number if it was killed."""
        folder.mkdir(exist_ok=True)
        self.connection.send(partial(train, name, folder, suicide))
        pid = self.connection.recv()
        if kill_after is not None and not self.connection.poll(kill_after):
            os.kill(pid, signal.SIGKILL)
        status: int = self.connection.recv()
        return status

    def reference(self, name: str) -> tuple[dict[str, Any], int]:
        """What the undisturbed run ends with, and how many events it has."""
        if name not in self.references:
            folder = self.folder / name
            assert self.train(name, folder, Suicide()) == 0
            self.references[name] = pickle.loads((folder / "result.pkl").read_bytes())
        return self.references[name]


def begun(folder: Path) -> list[int]:
    """Timesteps at which each of a folder's processes began."""
    return [int(line) for line in (folder / "begun.txt").read_text().split()]


def result(folder: Path) -> dict[str, Any]:
    outcome: dict[str, Any] = pickle.loads((folder / "result.pkl").read_bytes())[0]
    return outcome
