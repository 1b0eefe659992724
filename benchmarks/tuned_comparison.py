"""Every algorithm tuned alike on one control task, then compared on seeds that no trial has seen.

Each gets the same number of trials of the same length in the search space of ``sppo-rl tune``, which is the same for what the algorithms
share; the first trial is its starting point in ``hyperparams/``. The settings with the highest mean success at a trial's end are then
trained with five other seeds. Beside them, on the same seeds, runs each algorithm from its starting point (not with --only-tuned). What
was done before is kept in ``--work``; all trials go into ``trials.csv``, which sensitivity.py reads. The settings found are those of the
package's own files (``sppo-rl tune --write``).

    python benchmarks/tuned_comparison.py --trials 20 --tune-episodes 2000 --episodes 3000 --seeds 5
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch as th
from sensitivity import TRIALS, write_trials

from sppo_rl.atomic import write_atomically
from sppo_rl.zoo.commands.tune import best_trial, tune
from sppo_rl.zoo.names import ALGORITHMS
from sppo_rl.zoo.parallel.comparison import compare
from sppo_rl.zoo.results import provenance
from sppo_rl.zoo.running.runs import RunSpec
from sppo_rl.zoo.settings.hyperparameters import read_entry

TUNING_SEEDS = 2
FIRST_SEED = 100
"""Of the comparison: a trial's runs have seeds 0 and 1."""
HERE = Path(__file__).resolve().parent
STARTING_POINTS = HERE / "hyperparams"


def best_settings(algo: str, env_id: str, episodes: int, eval_episodes: int, trials: int, folder: Path) -> dict[str, Any]:
    """Do what is left of an algorithm's study; its best trial."""
    th.set_num_threads(1)
    specs = [
        RunSpec(
            algo,
            env_id,
            seed=seed,
            episodes=episodes,
            entry=read_entry(algo, env_id, STARTING_POINTS),
            eval_every=episodes,
            eval_episodes=eval_episodes,
        ).check()
        for seed in range(TUNING_SEEDS)
    ]
    study = tune(specs, trials, folder / f"{algo}.log")
    done = [trial.value for trial in study.trials if trial.value is not None]
    # a killed one was enqueued again
    before = next((t.value for t in study.trials if t.user_attrs.get("settings_before") and t.value is not None), None)
    return {
        "trials": len(done),
        "success_of_the_file": before,
        "success_of_the_best": best_trial(study).value,
        "trials_above_the_file": sum(before is None or value > before for value in done),
        "hyperparameters": best_trial(study).user_attrs["hyperparameters"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="sppo_rl/PrecisionCartPole200-v0", metavar="ID")
    parser.add_argument("--algos", nargs="+", default=list(ALGORITHMS), choices=list(ALGORITHMS), metavar="NAME")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--tune-episodes", type=int, default=2000, help="of each run of a trial")
    parser.add_argument("--episodes", type=int, default=3000, help="of each run of the comparison")
    parser.add_argument("--eval-episodes", type=int, default=200, help="of an evaluation, sampled and greedy each")
    parser.add_argument(
        "--evaluations", type=int, default=10, help="of each run of the comparison, beside that of its beginning"
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--only-tuned", action="store_true", help="without the runs from the starting points: where the comparison has them"
    )
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("runs/tuned_comparison"))
    parser.add_argument("--out", type=Path, default=HERE / "results" / "tuned_comparison")
    arguments = parser.parse_args()
    task = arguments.env.removeprefix("sppo_rl/").removesuffix("-v0")
    search = partial(
        best_settings,
        env_id=arguments.env,
        episodes=arguments.tune_episodes,
        eval_episodes=arguments.eval_episodes,
        trials=arguments.trials,
        folder=arguments.work / task / "studies",
    )
    with ProcessPoolExecutor(arguments.jobs) as pool:
        found = dict(zip(arguments.algos, pool.map(search, arguments.algos), strict=True))
    arguments.out.mkdir(parents=True, exist_ok=True)
    made = provenance.describe(["python", "benchmarks/tuned_comparison.py", *sys.argv[1:]])
    write_atomically(
        arguments.out / f"{task}.json",
        json.dumps({**made, "env": arguments.env, "tuned": found}, indent=1) + "\n",
    )
    write_trials(arguments.work / task / "studies", arguments.algos, arguments.out / task / TRIALS)
    failed = 0
    for kind in ("tuned",) if arguments.only_tuned else ("tuned", "as_in_the_file"):
        specs = [
            RunSpec(
                algo,
                arguments.env,
                seed=FIRST_SEED + number,
                episodes=arguments.episodes,
                overrides=found[algo]["hyperparameters"] if kind == "tuned" else {},
                entry=read_entry(algo, arguments.env, STARTING_POINTS),
                eval_every=arguments.episodes // arguments.evaluations,
                eval_episodes=arguments.eval_episodes,
            ).check()
            for number in range(arguments.seeds)
            for algo in arguments.algos
        ]
        folder = arguments.work / task / kind
        failed += compare(specs, folder, arguments.jobs)
        target = arguments.out / task / kind
        target.mkdir(parents=True, exist_ok=True)
        for name in ("results.csv", "summary.csv", "references.csv", "table.md", "plot.png"):
            shutil.copy(folder / name, target / name)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
