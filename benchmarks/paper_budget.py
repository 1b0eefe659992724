"""The paper's own number of episodes on PrecisionCartPole200, with the settings that short runs found: does what was learned stay?

SPPO and PPO as tuned by ``tuned_comparison.py``; SPPO with a learning rate that falls to 0, with normalised advantages, with their mean
alone taken away, with a limit on an update's KL divergence, and with an Adam that remembers the strongest gradients (AMSGrad) or makes less
of weak ones (ε = 1e-3 in place of 1e-5). Seeds that no trial of the tuning saw.

    python benchmarks/paper_budget.py --seeds 3
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from variants import Variants, add_arguments, compare_variants

HERE = Path(__file__).resolve().parent
TASK, EPISODES, EVALUATIONS, EVALUATION_EPISODES, FIRST_SEED = "PrecisionCartPole200", 50_000, 20, 200, 100


def variants() -> Variants:
    """With the settings of the committed study."""
    tuned = json.loads((HERE / "results" / "tuned_comparison" / f"{TASK}.json").read_text(encoding="utf-8"))["tuned"]
    sppo, ppo = tuned["sppo"]["hyperparameters"], tuned["ppo"]["hyperparameters"]
    return {
        "SPPO": ("sppo", sppo),
        "SPPO, learning rate falling to 0": ("sppo", {**sppo, "learning_rate": f"lin_{sppo['learning_rate']}"}),
        "SPPO, normalised": ("sppo", {**sppo, "normalize_advantage": True}),
        "SPPO, centered": ("sppo", {**sppo, "normalize_advantage": "center"}),
        "SPPO, target_kl .02": ("sppo", {**sppo, "target_kl": 0.02}),
        "SPPO, AMSGrad": ("sppo", {**sppo, **_adam(eps=1e-5, amsgrad=True)}),
        "SPPO, Adam's ε .001": ("sppo", {**sppo, **_adam(eps=1e-3)}),
        "PPO (ours)": ("ppo", ppo),
    }


def _adam(**settings: Any) -> dict[str, Any]:
    """Of both optimizers; the policies' own ε is 1e-5."""
    return {"policy_kwargs": {"optimizer_kwargs": {"fused": True, **settings}}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=EPISODES)
    add_arguments(parser, "paper_budget", seeds=3)
    arguments = parser.parse_args()
    compare_variants(
        variants(),
        f"sppo_rl/{TASK}-v0",
        range(FIRST_SEED, FIRST_SEED + arguments.seeds),
        episodes=arguments.episodes,
        eval_every=arguments.episodes // EVALUATIONS,
        eval_episodes=EVALUATION_EPISODES,
        work=arguments.work,
        out=arguments.out,
        jobs=arguments.jobs,
        command=["python", "benchmarks/paper_budget.py", *sys.argv[1:]],
    )


if __name__ == "__main__":
    main()
