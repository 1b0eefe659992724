"""What lies behind differences that the comparison of seven algorithms shows, one study each.

``hopper_other_seeds``: is GRPO's lead over SPPO on Hopper there with five other seeds? ``hopper_baseline``: what of GRPO's baseline, given
to SPPO, makes up for it? The baseline is the mean outcome of this very update, where SPPO's critic has to learn it with the actor's small
learning rate; and GRPO divides by the standard deviation too, which with one group to an update is how PPO normalises its advantages.

``lunar_lander_loss``: SPPO is ahead of PPO on LunarLander, untuned, and so is PPO + BCE. Is it the critic's loss, in SPPO as well? With
seeds that the comparison has not seen.

Episodes, evaluation episodes and starting points are those of ``control_comparison.sh``; evaluated at the beginning and the end alone.

    python benchmarks/causes.py
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

from variants import Variants, compare_variants

EVALUATION_EPISODES = 100


class Study(NamedTuple):
    """What is trained where, with which seeds."""

    task: str
    episodes: int
    variants: Variants
    seeds: range


STUDIES = {
    "hopper_other_seeds": Study("Hopper", 600, {"SPPO": ("sppo", {}), "GRPO": ("grpo", {})}, range(5, 10)),
    "hopper_baseline": Study(
        "Hopper",
        600,
        {
            "SPPO, critic ten times as fast": ("sppo", {"critic_learning_rate": 0.003}),
            "SPPO, normalised": ("sppo", {"normalize_advantage": True}),
        },
        range(5),
    ),
    "lunar_lander_loss": Study(
        "LunarLander",
        1504,
        {
            "SPPO": ("sppo", {}),
            "SPPO, squared error": ("sppo", {"critic_loss": "mse"}),
        },
        range(10, 15),
    ),
}
"""The comparison itself has seeds 0 to 9."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "studies", nargs="*", default=list(STUDIES), metavar="STUDY", help=f"of {', '.join(STUDIES)}; all by default"
    )
    parser.add_argument("--seeds", type=int, help="how many of each study's; all by default")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("runs/causes"))
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "results" / "causes")
    arguments = parser.parse_args()
    unknown = set(arguments.studies) - set(STUDIES)
    if unknown:
        parser.error(f"no study {', '.join(sorted(unknown))}; there are {', '.join(STUDIES)}")
    words = ["python", "benchmarks/causes.py", *sys.argv[1:]]
    for name in arguments.studies:
        study = STUDIES[name]
        compare_variants(
            study.variants,
            f"sppo_rl/{study.task}-v0",
            study.seeds[: arguments.seeds],
            study.episodes,
            study.episodes,
            EVALUATION_EPISODES,
            arguments.work / name,
            arguments.out / name,
            arguments.jobs,
            words,
        )


if __name__ == "__main__":
    main()
