"""Some of SPPO's runs on MountainCar and on Pendulum lose what the prior could do and never find it again: what keeps them?

Its advantage is the outcome less the critic's value, and a critic that is wrong about all episodes of an update pushes away (or towards)
everything that was done. Tried against it: advantages whose mean over the update is taken away (``"center"``); those that are scaled as
well, as PPO's are; a critic that begins at the prior's own rate of success instead of what the starting points have (the rate of a lucky or
unlucky first update on Pendulum, .5 on MountainCar), and there the first update's. Episodes and evaluations are those of
``control_comparison.sh``; seeds 0 to 19 (``--seeds``).

    python benchmarks/lost_runs.py
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from variants import Variants, compare_variants

EPISODES, EVALUATIONS, EVALUATION_EPISODES = 1000, 10, 100
TASKS = ("MountainCar", "Pendulum")


def variants(task: str) -> Variants:
    """What is trained on a task."""
    card = Path(__file__).resolve().parent.parent / "zoo" / "priors" / f"sppo_rl-{task}-v0.json"
    sampled = json.loads(card.read_text(encoding="utf-8"))["sampled"]
    first_batch: Variants = {"SPPO, critic from the first batch": ("sppo", {"critic_init": "first_batch"})}
    return {
        "SPPO": ("sppo", {}),
        "SPPO, centered": ("sppo", {"normalize_advantage": "center"}),
        "SPPO, normalised": ("sppo", {"normalize_advantage": True}),
        "SPPO, critic from the prior's success": ("sppo", {"critic_init": sampled["successes"] / sampled["episodes"]}),
        # on Pendulum the starting point has it already
        **(first_batch if task == "MountainCar" else {}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=TASKS, metavar="TASK", help=f"of {', '.join(TASKS)}; all by default")
    parser.add_argument("--seeds", type=int, default=20, help="how many of them")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("runs/lost_runs"))
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "results" / "lost_runs")
    arguments = parser.parse_args()
    unknown = set(arguments.tasks) - set(TASKS)
    if unknown:
        parser.error(f"no task {', '.join(sorted(unknown))}; there are {', '.join(TASKS)}")
    words = ["python", "benchmarks/lost_runs.py", *sys.argv[1:]]
    every, evaluated = EPISODES // EVALUATIONS, EVALUATION_EPISODES
    for task in arguments.tasks:
        work, out, seeds = arguments.work / task, arguments.out / task, range(arguments.seeds)
        compare_variants(
            variants(task), f"sppo_rl/{task}-v0", seeds, EPISODES, every, evaluated, work, out, arguments.jobs, words
        )


if __name__ == "__main__":
    main()
