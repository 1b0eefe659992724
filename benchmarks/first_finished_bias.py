"""What a learner sees that takes the first N episodes to finish, beside what is true.

Copies of an environment restart as soon as their episode ends, and the collector stops when N episodes have ended: short episodes are
over-represented. Where failures end early, successes vanish from the batch. For each task's shipped prior this compares the success rate
of such batches with that of batches in which N episodes are started and the same N are finished.

    python benchmarks/first_finished_bias.py
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from pathlib import Path

import numpy as np
import torch as th

import sppo_rl.zoo
from sppo_rl.algorithm import SequenceAlgorithm
from sppo_rl.intervals import wilson_interval
from sppo_rl.vec_env import BatchedVecEnv

EPISODES = {
    "sppo_rl/PrecisionCartPole200-v0": 64,
    "sppo_rl/PrecisionCartPole-v0": 64,
    "sppo_rl/MountainCar-v0": 8,
    "sppo_rl/Hopper-v0": 8,
    "sppo_rl/LunarLander-v0": 16,
    "sppo_rl/Pendulum-v0": 16,
}
"""Id → the paper's trajectories in one update, which is the number of copies too."""


def successes(model: SequenceAlgorithm, count: int, seed: int, first_finished: bool) -> list[bool]:
    """Outcomes of one batch of ``count`` episodes, collected in one of the two ways."""
    env = model.env
    assert isinstance(env, BatchedVecEnv)
    rng = np.random.default_rng(seed)
    sample = model.policy.make_sampler(rng)
    index = np.arange(count)
    observations = env.reset_subset(index, rng.integers(2**31 - 1, size=count).tolist())
    found: list[bool] = []
    while len(found) < count:
        actions = sample(observations, index)
        assert isinstance(actions, np.ndarray)
        observations, _, dones, infos = env.step_subset(index, model.policy.to_env(actions))
        ended = dones.nonzero()[0]
        found += [bool(infos[k]["is_success"]) for k in ended]
        if not ended.size:
            continue
        if first_finished:
            observations[ended] = env.reset_subset(index[ended], rng.integers(2**31 - 1, size=ended.size).tolist())
        else:
            index, observations = index[~dones], observations[~dones]
    return found[:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(EPISODES), choices=list(EPISODES))
    parser.add_argument("--batches", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "first_finished_bias.csv")
    arguments = parser.parse_args()
    th.set_num_threads(1)
    rows = []
    for env_id in arguments.tasks:
        count = EPISODES[env_id]
        model = sppo_rl.zoo.load_prior(env_id, n_episodes=count, seed=0, device="cpu")
        row: dict[str, object] = {"env": env_id, "episodes_in_a_batch": count, "batches": arguments.batches}
        for name, first_finished in (("same_finished", False), ("first_finished", True)):
            outcomes = [o for seed in range(arguments.batches) for o in successes(model, count, seed, first_finished)]
            low, high = wilson_interval(sum(outcomes), len(outcomes))
            row |= {name: round(float(np.mean(outcomes)), 4), f"{name}_low": round(low, 4), f"{name}_high": round(high, 4)}
        rows.append(row)
        print(row, flush=True)
        if model.env is not None:
            model.env.close()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with arguments.out.open("w", newline="", encoding="utf-8") as file:
        command = " ".join(["python", "benchmarks/first_finished_bias.py", *sys.argv[1:]])
        file.write(f"# {command}, {time.strftime('%Y-%m-%d')}\n")
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
