"""Why PPO + BCE ends above SPPO once both are tuned on a task, and what mends SPPO there.

From the settings that ``tuned_comparison.py`` found for PPO + BCE one thing is changed at a time until SPPO is left; then SPPO gets a share
of the step-wise signal back (``hybrid``), with and without λ, with those settings and with its own. Last, what may steady it without a
value of single states: normalised advantages, the other form of its advantage, a limit on the update's KL divergence, a falling learning
rate. Seeds that no trial of the tuning saw; what was done before is kept in ``--work``.

    python benchmarks/step_signal.py --episodes 3000 --seeds 5
    python benchmarks/step_signal.py --env sppo_rl/Pendulum-v0 --episodes 600 --seeds 5
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from variants import Variants, add_arguments, compare_variants

HERE = Path(__file__).resolve().parent
TUNED = HERE / "results" / "tuned_comparison"
FIRST_SEED, EVALUATION_EPISODES = 100, 200
"""As in tuned_comparison.py."""


def variants(task: str) -> Variants:
    """On a task that has been tuned."""
    tuned = json.loads((TUNED / f"{task}.json").read_text(encoding="utf-8"))["tuned"]
    ppo, sppo = tuned["ppo-bce"]["hyperparameters"], tuned["sppo"]["hyperparameters"]
    shared = {name: value for name, value in ppo.items() if name not in ("gae_lambda", "normalize_advantage")}
    # a hybrid mixes residual advantages alone
    residual = {**sppo, "advantage": "residual"}
    other = "residual" if sppo.get("advantage") == "standardized" else "standardized"
    return {
        "PPO + BCE": ("ppo-bce", ppo),
        "λ = 1": ("ppo-bce", {**ppo, "gae_lambda": 1.0}),
        "λ = 1, not normalised": ("ppo-bce", {**ppo, "gae_lambda": 1.0, "normalize_advantage": False}),
        "not normalised": ("ppo-bce", {**ppo, "normalize_advantage": False}),
        "SPPO, the same settings": ("sppo", shared),
        "SPPO, the same settings, normalised": ("sppo", {**shared, "normalize_advantage": True}),
        "SPPO, the same settings, standardized": ("sppo", {**shared, "advantage": "standardized"}),
        "SPPO, the same settings, hybrid .5": ("sppo", {**shared, "hybrid": 0.5}),
        "SPPO, the same settings, hybrid .5, λ = .95": ("sppo", {**shared, "hybrid": 0.5, "gae_lambda": 0.95}),
        "SPPO, its own settings": ("sppo", sppo),
        "SPPO, its own settings, hybrid .5": ("sppo", {**residual, "hybrid": 0.5}),
        "SPPO, its own settings, hybrid .5, λ = .95": ("sppo", {**residual, "hybrid": 0.5, "gae_lambda": 0.95}),
        "SPPO, its own settings, hybrid 1, λ = .95": ("sppo", {**residual, "hybrid": 1.0, "gae_lambda": 0.95}),
        "SPPO, its own settings, residual and normalised": ("sppo", {**residual, "normalize_advantage": True}),
        f"SPPO, its own settings, {other}": ("sppo", {**sppo, "advantage": other}),
        "SPPO, its own settings, target_kl .01": ("sppo", {**sppo, "target_kl": 0.01}),
        "SPPO, its own settings, learning rate falling to 0": (
            "sppo",
            {**sppo, "learning_rate": f"lin_{sppo['learning_rate']}"},
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="sppo_rl/PrecisionCartPole200-v0", metavar="ID", help="a task that has been tuned")
    parser.add_argument("--episodes", type=int, default=3000)
    add_arguments(parser, "step_signal", seeds=5)
    arguments = parser.parse_args()
    words = ["python", "benchmarks/step_signal.py", *sys.argv[1:]]
    task = arguments.env.removeprefix("sppo_rl/").removesuffix("-v0")
    compare_variants(
        variants(task),
        arguments.env,
        range(FIRST_SEED, FIRST_SEED + arguments.seeds),
        episodes=arguments.episodes,
        eval_every=arguments.episodes // 10,
        eval_episodes=EVALUATION_EPISODES,
        work=arguments.work / task,
        out=arguments.out / task,
        jobs=arguments.jobs,
        command=words,
    )


if __name__ == "__main__":
    main()
