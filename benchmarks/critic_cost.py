"""What a critic on every state costs: the time of SPPO's ``learn()`` over that of PPO in the same engine, interleaved.

Same prior, episodes, minibatches and epochs. Between the two stands nothing but the critic, which reads one observation of an episode or
all of them, and PPO's recursion over the steps.

    python benchmarks/critic_cost.py --repeats 5
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from pathlib import Path

import torch as th
from control_throughput import SCHEDULES, TASKS, rate

import sppo_rl
from sppo_rl.atomic import write_atomically
from sppo_rl.zoo.results import provenance


def ratios(env_id: str, minibatches: int, epochs: int, seconds: float, repeats: int) -> list[float]:
    """
    Time both in turn, ``repeats`` times.

    :param env_id: of a control task
    :param minibatches: of an update
    :param epochs: of an update
    :param seconds: aimed at for each timed call
    :param repeats: pairs
    :return: PPO's steps per second over SPPO's, which is SPPO's time over PPO's; increasing
    """
    copies, horizon = TASKS[env_id]
    models = [
        cls("MlpPolicy", env_id, n_episodes=copies, batch_size=copies // minibatches, n_epochs=epochs, seed=0, device="cpu")
        for cls in (sppo_rl.SPPO, sppo_rl.PPO)
    ]
    budgets = [int(rate(model, env_id, copies * horizon) * seconds) for model in models]
    pairs = []
    for repeat in range(repeats):
        speeds = [0.0, 0.0]
        for which in (0, 1) if repeat % 2 == 0 else (1, 0):
            speeds[which] = rate(models[which], env_id, budgets[which])
        pairs.append(speeds[1] / speeds[0])
    for model in models:
        assert model.env is not None
        model.env.close()
    return sorted(pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="aimed at for each timed call")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "critic_cost.json")
    arguments = parser.parse_args()
    th.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    rows = []
    for env_id in arguments.tasks:
        for name, (minibatches, epochs) in SCHEDULES.items():
            found = ratios(env_id, minibatches, epochs, arguments.seconds, arguments.repeats)
            rows.append(
                {
                    "env": env_id,
                    "minibatches_x_epochs": name,
                    "sppo_time_over_ppo_time": round(statistics.median(found), 2),
                    "min": round(found[0], 2),
                    "max": round(found[-1], 2),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    made = provenance.describe(["python", "benchmarks/critic_cost.py", *sys.argv[1:]])
    write_atomically(arguments.out, json.dumps({**made, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
