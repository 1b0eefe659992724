"""Train algorithms x seeds on one or more tasks, in parallel over the cores, and draw up the results.

  sppo-rl compare --env sppo_rl/PrecisionCartPole200-v0 --algos sppo ppo sb3-ppo --seeds 5 --episodes 8000 -o cartpole
  sppo-rl compare --env sppo_rl/Hopper-v0 --algos sppo --seeds 3 --hyperparams sppo.advantage=standardized -o hopper

Every run is a process of its own, and its results are kept: the same command, given again after a kill, does what is left (exactly as
it would have been: this package's algorithms go on from a checkpoint, SB3's PPO starts its run anew). More seeds or algorithms may be
asked of the same folder later; its results are those of all its runs of the same length and evaluations. All evaluations are on the same
initial states. Written to the folder: results.csv (every evaluation), summary.csv and table.md (final success with bootstrap intervals
over seeds, area under the curve, seconds), plot.png, references.csv (prior and untrained), provenance.json (commands, commit, machine,
date). 'sppo-rl report' makes a page of one or more such folders.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sppo_rl.zoo.commands import options
from sppo_rl.zoo.names import UsageError, algorithm_class, check_env_id
from sppo_rl.zoo.parallel.comparison import compare, jobs_of
from sppo_rl.zoo.parallel.jobs import check_all
from sppo_rl.zoo.running.runs import RunSpec
from sppo_rl.zoo.settings.hyperparameters import parse_overrides, read_entry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Add the options.

    :param parser: of this command
    """
    options.add_env(parser, several=True)
    parser.add_argument(
        "--algos",
        nargs="+",
        default=["sppo", "ppo", "sb3-ppo"],
        metavar="NAME",
        help=f"of {options.algorithms_help()} (default: sppo ppo sb3-ppo)",
    )
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="number of seeds (default 5)")
    parser.add_argument(
        "--first-seed",
        type=int,
        default=0,
        metavar="N",
        help="count from this one on, to share seeds among machines (default 0)",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--episodes", type=int, metavar="N", help="length of a run in episodes")
    length.add_argument("--timesteps", type=int, metavar="N", help="length in environment steps (default: the YAML files')")
    options.add_prior_choice(parser)
    options.add_hyperparameters(parser)
    options.add_conf_file(parser)
    options.add_evaluation(parser, n_episodes=200)
    options.add_jobs(parser)
    parser.add_argument("--output", "-o", type=Path, default=Path("comparison"), metavar="DIR", help="default: comparison")
    parser.add_argument("--x", default="episodes", choices=("episodes", "timesteps", "seconds"), help="x axis of the plot")


def run(arguments: argparse.Namespace) -> int:
    """
    Compare.

    :param arguments: parsed
    :raises UsageError: if the options make no sense
    """
    options.check_counts(arguments)
    if arguments.first_seed < 0:
        raise UsageError(f"--first-seed must be at least 0, got {arguments.first_seed}.")
    # each once, however often it is named
    algos, envs = dict.fromkeys(arguments.algos), dict.fromkeys(arguments.env)
    overrides = overrides_by_algorithm(list(algos), parse_overrides(arguments.hyperparams))
    specs = [
        RunSpec(
            algo=algo,
            env_id=check_env_id(env_id),
            seed=seed,
            timesteps=arguments.timesteps,
            episodes=arguments.episodes,
            prior=arguments.prior,
            overrides=overrides[algo],
            entry=read_entry(algo, env_id, arguments.conf_file),
            eval_every=arguments.eval_every,
            eval_episodes=arguments.eval_episodes,
        ).check()
        for env_id in envs
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds)
        for algo in algos
    ]
    check_all([job for of in jobs_of(specs, arguments.output) for job in of])
    return 1 if compare(specs, arguments.output, arguments.jobs, arguments.x, record=True) else 0


def overrides_by_algorithm(algos: Sequence[str], overrides: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """
    Sort out for which algorithm an override is meant: ``sppo.n_epochs`` for one, ``n_epochs`` for all.

    :param algos: names on the command line
    :param overrides: as typed
    :raises UsageError: if one names an algorithm that takes no part
    """
    sorted_out: dict[str, dict[str, Any]] = {}
    for algo in algos:
        algorithm_class(algo)
        sorted_out[algo] = {key: value for key, value in overrides.items() if "." not in key}
    for key, value in overrides.items():
        algo, dot, name = key.partition(".")
        if dot and algo not in sorted_out:
            raise UsageError(f"{key!r} is meant for {algo!r}, which takes no part: {', '.join(algos)} do.")
        if dot:
            sorted_out[algo][name] = value
    return sorted_out
