"""What lies behind differences that the comparison of seven algorithms shows, one study each.

``hopper_other_seeds``: is GRPO's lead over SPPO on Hopper there with five other seeds? ``hopper_baseline``: what of GRPO's baseline, given
to SPPO, makes up for it? The baseline is the mean outcome of this very update, where SPPO's critic has to learn it with the actor's small
learning rate; and GRPO divides by the standard deviation too, which with one group to an update is how PPO normalises its advantages.

``hopper_cut_episodes``: does Stable-Baselines3's PPO lose half of its runs on Hopper because it cuts episodes? A rollout of 8 copies ends
after 1,000 steps, in the middle of every episode that began behind the first, and what is cut off is replaced by the critic's guess. Two
copies of 4,000 steps are as many steps to an update with a quarter of the cuts.

``lunar_lander_loss``: SPPO is ahead of PPO on LunarLander, untuned, and so is PPO + BCE. Is it the critic's loss, in SPPO as well? With
seeds that the comparison has not seen.

``lunar_lander_longer``: tuning took what was best after 400 episodes there. Is that what twice the comparison's length wants? SPPO
with its starting point and with what was found, seeds that no trial has seen.

Episodes (of the others), evaluation episodes and starting points are those of ``control_comparison.sh``; evaluated at the beginning and
the end alone.

    python benchmarks/causes.py
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from variants import Variants, add_arguments, compare_variants

EVALUATION_EPISODES = 100
RESULTS = Path(__file__).resolve().parent / "results"


class Study(NamedTuple):
    """What is trained where, with which seeds."""

    task: str
    episodes: int
    variants: Variants
    seeds: range


def tuned(algo: str) -> dict[str, Any]:
    """What ``tuned_comparison.py`` found on LunarLander."""
    found = json.loads((RESULTS / "tuned_comparison" / "LunarLander.json").read_text(encoding="utf-8"))
    settings: dict[str, Any] = found["tuned"][algo]["hyperparameters"]
    return settings


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
    "hopper_cut_episodes": Study(
        "Hopper",
        600,
        {"PPO (SB3), 2 copies of 4,000 steps": ("sb3-ppo", {"n_envs": 2, "n_steps": 4000})},
        range(10),
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
    "lunar_lander_longer": Study(
        "LunarLander",
        3008,
        {
            "SPPO": ("sppo", {}),
            "SPPO, tuned": ("sppo", tuned("sppo")),
        },
        range(100, 105),
    ),
}
"""The comparison itself has seeds 0 to 9."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "studies", nargs="*", default=list(STUDIES), metavar="STUDY", help=f"of {', '.join(STUDIES)}; all by default"
    )
    add_arguments(parser, "causes", seeds=None)
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
            episodes=study.episodes,
            eval_every=study.episodes,
            eval_episodes=EVALUATION_EPISODES,
            work=arguments.work / name,
            out=arguments.out / name,
            jobs=arguments.jobs,
            command=words,
        )


if __name__ == "__main__":
    main()
