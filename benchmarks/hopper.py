"""GRPO's lead over SPPO on Hopper: is it there with five other seeds, and what of GRPO's baseline, given to SPPO, makes up for it?

GRPO's baseline is the mean outcome of this very update; SPPO's critic has to learn it with the actor's small learning rate. GRPO divides by
the standard deviation too, which with one group to an update is how PPO normalises its advantages. Episodes, evaluation episodes and
starting points are those of ``control_comparison.sh``; evaluated at the beginning and the end alone.

    python benchmarks/hopper.py
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from variants import Variants, compare_variants

ENV, EPISODES, EVALUATION_EPISODES = "sppo_rl/Hopper-v0", 600, 100
STUDIES: dict[str, tuple[Variants, range]] = {
    "other_seeds": ({"SPPO": ("sppo", {}), "GRPO": ("grpo", {})}, range(5, 10)),
    "baseline": (
        {
            "SPPO, critic ten times as fast": ("sppo", {"critic_learning_rate": 0.003}),
            "SPPO, normalised": ("sppo", {"normalize_advantage": True}),
        },
        range(5),
    ),
}
"""Name → variants and seeds; the comparison itself has seeds 0 to 4."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "studies", nargs="*", default=list(STUDIES), metavar="STUDY", help=f"of {', '.join(STUDIES)}; all by default"
    )
    parser.add_argument("--seeds", type=int, default=5, help="how many of them")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("runs/hopper"))
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "results" / "hopper")
    arguments = parser.parse_args()
    unknown = set(arguments.studies) - set(STUDIES)
    if unknown:
        parser.error(f"no study {', '.join(sorted(unknown))}; there are {', '.join(STUDIES)}")
    words = ["python", "benchmarks/hopper.py", *sys.argv[1:]]
    for name in arguments.studies:
        variants, seeds = STUDIES[name]
        work, out = arguments.work / name, arguments.out / name
        compare_variants(
            variants, ENV, seeds[: arguments.seeds], EPISODES, EPISODES, EVALUATION_EPISODES, work, out, arguments.jobs, words
        )


if __name__ == "__main__":
    main()
