"""Environment steps per second of whole ``learn()`` calls: SPPO beside Stable-Baselines3's PPO, in one process, interleaved.

Both start from the shipped prior, with the same 64 x 64 networks, the same number of copies, epochs and minibatches, and the same
number of threads. SPPO collects whole episodes from the batched form of a task, SB3 steps a DummyVecEnv. Each repetition times one
after the other, so that the ratio survives a machine whose speed drifts; the order alternates. Both get as many cores as threads.

    python benchmarks/control_throughput.py

It also sets each phase of SPPO against its floor: stepping the environment with constant actions and nothing else, and the matrix
products of the network and nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from stable_baselines3 import PPO as SB3PPO
from stable_baselines3.common.env_util import make_vec_env

import sppo_rl
import sppo_rl.zoo
from sppo_rl.atomic import write_atomically
from sppo_rl.vec_env import make_batched
from sppo_rl.zoo.results import provenance
from sppo_rl.zoo.shipped.prior import copy_prior_into

TASKS = {
    "sppo_rl/PrecisionCartPole200-v0": (64, 200),
    "sppo_rl/MountainCar-v0": (8, 1000),
    "sppo_rl/Pendulum-v0": (16, 1000),
    "sppo_rl/LunarLander-v0": (16, 1000),
    "sppo_rl/Hopper-v0": (8, 1000),
}
"""Id → the paper's trajectories in one update, horizon."""
SCHEDULES = {"1x4": (1, 4), "4x10": (4, 10)}
"""Name → minibatches, epochs."""


def make_sppo(env_id: str, copies: int, minibatches: int, epochs: int) -> sppo_rl.SPPO:
    model = sppo_rl.SPPO(
        "MlpPolicy", env_id, n_episodes=copies, batch_size=copies // minibatches, n_epochs=epochs, seed=0, device="cpu"
    )
    model.learn(1, log_interval=None)  # warm up
    return model


def make_sb3(env_id: str, copies: int, horizon: int, minibatches: int, epochs: int) -> SB3PPO:
    env = make_vec_env(env_id, copies, seed=0)
    model = SB3PPO(
        "MlpPolicy", env, n_steps=horizon, batch_size=copies * horizon // minibatches, n_epochs=epochs, gamma=1.0, gae_lambda=1.0,
        learning_rate=1e-3, seed=0, device="cpu",
    )  # fmt: skip
    model.learn(1)
    return model


def rate(model: Any, env_id: str, steps: int) -> float:
    """Environment steps per second of one ``learn()`` call from the prior."""
    copy_prior_into(model.policy, env_id)
    started = time.perf_counter()
    model.learn(steps, log_interval=None)
    return float(model.num_timesteps / (time.perf_counter() - started))


def phases(model: sppo_rl.SPPO, env_id: str, copies: int, epochs: int) -> dict[str, float]:
    """Seconds for each 1000 environment steps: collection, update, and the floors of both."""
    copy_prior_into(model.policy, env_id)  # type: ignore[arg-type] # an MlpPolicy is both
    seconds = {"collect": 0.0, "update": 0.0}
    steps = 0
    for _ in range(5):
        model.learn(1, log_interval=None)
        steps += model.num_timesteps
        for phase in seconds:
            seconds[phase] += model.logger.name_to_value[f"time/{phase}_seconds"]
    env = make_batched(env_id, copies)
    everyone = np.arange(copies)
    actions = np.stack([np.zeros(env.action_space.shape or (), env.action_space.dtype)] * copies)
    stepped, floor = 0, 0.0
    while floor < 1.0:
        env.reset_subset(everyone, list(range(copies)))
        running = everyone
        started = time.perf_counter()
        while running.size:
            dones = env.step_subset(running, actions[: running.size])[2]
            stepped += running.size
            running = running[~dones]
        floor += time.perf_counter() - started
    env.close()
    return {
        **{phase: 1000.0 * value / steps for phase, value in seconds.items()},
        "collect_floor": 1000.0 * floor / stepped,
        "update_floor": 1000.0 * product_seconds(model) * epochs,
    }


def product_seconds(model: sppo_rl.SPPO, rows: int = 2048) -> float:
    """Seconds a row for the matrix products of one forward and backward pass of the actor."""
    assert isinstance(model.policy, th.nn.Module)
    plain = model.policy.plain_actor()
    assert plain is not None
    shapes = [(layer.in_features, layer.out_features) for layer in plain.network.linears]
    buffers = [(th.randn(rows, i), th.randn(rows, o), th.randn(i, o)) for i, o in shapes]
    best = float("inf")
    for _ in range(50):
        started = time.perf_counter()
        for level, (x, y, weight) in enumerate(buffers):
            th.mm(x, weight, out=y)
            th.mm(x.t(), y, out=weight)
            if level:
                th.mm(y, weight.t(), out=x)
        best = min(best, time.perf_counter() - started)
    return best / rows


def peak_memory() -> float:
    """MiB that one update of 64 episodes of 1000 steps adds to a process that has everything imported."""
    # VmHWM begins anew with the process; ru_maxrss would be inherited from this one
    script = (
        "import sppo_rl.zoo\n"
        "def peak():\n"
        "    return next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM')) / 1024\n"
        "model = sppo_rl.zoo.load_prior('sppo_rl/PrecisionCartPole-v0', n_episodes=64)\n"
        "before = peak()\n"
        "model.learn(1, log_interval=None)\n"
        "print(peak() - before)\n"
    )
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True)
    return float(run.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--schedules", nargs="+", default=list(SCHEDULES), choices=list(SCHEDULES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5, help="aimed at for each timed call")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "control_throughput.json")
    arguments = parser.parse_args()
    th.set_num_threads(arguments.threads)
    if hasattr(os, "sched_setaffinity"):
        # the batched forms of LunarLander and Hopper would step their copies on all cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    rows = []
    for env_id in arguments.tasks:
        copies, horizon = TASKS[env_id]
        for name in arguments.schedules:
            minibatches, epochs = SCHEDULES[name]
            ours = make_sppo(env_id, copies, minibatches, epochs)
            theirs = make_sb3(env_id, copies, horizon, minibatches, epochs)
            budgets = [int(rate(model, env_id, copies * horizon) * arguments.seconds) for model in (ours, theirs)]
            pairs = []
            for repeat in range(arguments.repeats):
                order = (0, 1) if repeat % 2 == 0 else (1, 0)
                speeds = [0.0, 0.0]
                for which in order:
                    speeds[which] = rate((ours, theirs)[which], env_id, budgets[which])
                pairs.append(speeds)
            ratios = sorted(mine / other for mine, other in pairs)
            row = {
                "env": env_id,
                "minibatches_x_epochs": name,
                "sppo_steps_per_second": round(statistics.median(pair[0] for pair in pairs)),
                "sb3_ppo_steps_per_second": round(statistics.median(pair[1] for pair in pairs)),
                "ratio_median": round(statistics.median(ratios), 2),
                "ratio_min": round(ratios[0], 2),
                "ratio_max": round(ratios[-1], 2),
                "ms_per_1000_steps": {
                    key: round(1e3 * value, 2) for key, value in phases(ours, env_id, copies, epochs).items()
                },
            }
            print(json.dumps(row), flush=True)
            rows.append(row)
            assert ours.env is not None
            ours.env.close()
    result = {
        **provenance.describe(["python", "benchmarks/control_throughput.py", *sys.argv[1:]]),
        "threads": arguments.threads,
        "repeats": arguments.repeats,
        "peak_memory_of_a_64x1000_update_mib": round(peak_memory(), 1),
        "process_peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "rows": rows,
    }
    write_atomically(arguments.out, json.dumps(result, indent=1) + "\n")
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
