"""Why GRPO and RLOO end above SPPO on Hopper: what their baseline has that SPPO's has not, given to SPPO one at a time.

Their baseline is the mean outcome of this very update; SPPO's critic has to learn it with the actor's small learning rate. GRPO divides by
the standard deviation too, which with one group to an update is how PPO normalises its advantages. (That their eight episodes share an
initial state is left aside: Hopper's hardly differ.) Seeds, episodes and evaluation episodes are those of ``control_comparison.sh``,
evaluated at the beginning and the end alone.

    python benchmarks/hopper_baseline.py
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from variants import Variants, compare_variants

ENV, EPISODES, EVALUATION_EPISODES = "sppo_rl/Hopper-v0", 600, 100
VARIANTS: Variants = {
    "SPPO, critic ten times as fast": ("sppo", {"critic_learning_rate": 0.003}),
    "SPPO, normalised": ("sppo", {"normalize_advantage": True}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("runs/hopper_baseline"))
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "results" / "hopper_baseline")
    arguments = parser.parse_args()
    words = ["python", "benchmarks/hopper_baseline.py", *sys.argv[1:]]
    work, out, seeds = arguments.work, arguments.out, range(arguments.seeds)
    compare_variants(VARIANTS, ENV, seeds, EPISODES, EPISODES, EVALUATION_EPISODES, work, out, arguments.jobs, words)


if __name__ == "__main__":
    main()
