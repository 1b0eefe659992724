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

from variants import Variants, add_arguments, compare_variants

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
    add_arguments(parser, "lost_runs", seeds=20)
    arguments = parser.parse_args()
    unknown = set(arguments.tasks) - set(TASKS)
    if unknown:
        parser.error(f"no task {', '.join(sorted(unknown))}; there are {', '.join(TASKS)}")
    words = ["python", "benchmarks/lost_runs.py", *sys.argv[1:]]
    for task in arguments.tasks:
        compare_variants(
            variants(task),
            f"sppo_rl/{task}-v0",
            range(arguments.seeds),
            episodes=EPISODES,
            eval_every=EPISODES // EVALUATIONS,
            eval_episodes=EVALUATION_EPISODES,
            work=arguments.work / task,
            out=arguments.out / task,
            jobs=arguments.jobs,
            command=words,
        )


if __name__ == "__main__":
    main()
