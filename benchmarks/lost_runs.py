"""Some of SPPO's runs on MountainCar lose the prior's success in the first hundred episodes and never find it again: what keeps them?

The starting point there begins with a critic that says .5 where a fifth of the episodes succeed, so that an update of eight failures pushes
away, with −.5 each, whatever was done. Tried: a critic that begins at the first update's success rate, normalised advantages (an update's
mean is taken away, so that it cannot push everything away), and both. Task, starting points, episodes and evaluations are those of
``control_comparison.sh``; seeds 0 to 19, of which that has the first ten.

    python benchmarks/lost_runs.py
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from variants import Variants, compare_variants

ENV, EPISODES, EVALUATIONS, EVALUATION_EPISODES = "sppo_rl/MountainCar-v0", 1000, 10, 100
NORMALISED, FIRST_BATCH = {"normalize_advantage": True}, {"critic_init": "first_batch"}
VARIANTS: Variants = {
    "SPPO": ("sppo", {}),
    "SPPO, critic from the first batch": ("sppo", FIRST_BATCH),
    "SPPO, normalised": ("sppo", NORMALISED),
    "SPPO, both": ("sppo", {**NORMALISED, **FIRST_BATCH}),
    "PPO (ours)": ("ppo", {}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="how many of them")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("runs/lost_runs"))
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "results" / "lost_runs")
    arguments = parser.parse_args()
    words = ["python", "benchmarks/lost_runs.py", *sys.argv[1:]]
    every = EPISODES // EVALUATIONS
    compare_variants(
        VARIANTS,
        ENV,
        range(arguments.seeds),
        EPISODES,
        every,
        EVALUATION_EPISODES,
        arguments.work,
        arguments.out,
        arguments.jobs,
        words,
    )


if __name__ == "__main__":
    main()
