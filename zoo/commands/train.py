"""Train one agent; the folder of the run holds all that is worth keeping.

  sppo-rl train --env sppo_rl/Pendulum-v0 --seed 0
  sppo-rl train --algo ppo --env sppo_rl/LunarLander-v0 --episodes 8000
  sppo-rl train --env CartPole-v1 --timesteps 200000 --hyperparams n_episodes=32 learning_rate=lin_1e-3
  sppo-rl train --resume logs/sppo/sppo_rl-Pendulum-v0_1

Hyperparameters come from zoo/hyperparams/<algo>.yml, or a file of your own (--conf-file). The run starts from the shipped prior where
there is one. Written to <log folder>/<algo>/<env>_<n>/: config.yml, evaluations.csv (success rate at fixed checkpoints), best_model.zip,
last_model.zip, tensorboard_1/, and checkpoints/, from which --resume goes on exactly where a killed run was.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch as th

from sppo_rl.zoo.commands import options
from sppo_rl.zoo.names import LABELS, UsageError, algorithm_class, check_env_id, file_name, is_ours
from sppo_rl.zoo.running.folders import CONFIG, LAST_MODEL, alone_in_run, new_folder, numbers_of
from sppo_rl.zoo.running.progress import RunProgress, describe_row
from sppo_rl.zoo.running.runs import RunSpec, read_config
from sppo_rl.zoo.running.runs import run as train_run
from sppo_rl.zoo.settings.hyperparameters import left_out, parse_overrides, read_entry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Add the options.

    :param parser: of this command
    """
    parser.add_argument("--algo", default="sppo", metavar="NAME", help=f"{options.algorithms_help()} (default sppo)")
    options.add_env(parser, required=False)
    options.add_seed(parser)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--timesteps", type=int, metavar="N", help="length in environment steps (default: the YAML file's)")
    length.add_argument(
        "--episodes", type=int, metavar="N", help="length in episodes, those that ReMax plays greedily included"
    )
    options.add_prior_choice(parser)
    options.add_hyperparameters(parser)
    options.add_conf_file(parser)
    options.add_evaluation(parser, n_episodes=100)
    parser.add_argument("--log-folder", "-f", type=Path, default=Path("logs"), metavar="DIR", help="default: logs")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="",
        metavar="DIR",
        help="go on with a killed run: its folder, or the newest of --algo and --env. Its config.yml decides about everything else.",
    )
    parser.add_argument("--device", default="cpu", help="cpu (default: small networks are fastest there), cuda, auto")
    parser.add_argument(
        "--threads", type=int, default=1, help="PyTorch's threads (default 1: small networks gain nothing from more)"
    )
    parser.add_argument("--verbose", type=int, default=0, choices=(0, 1, 2), help="1 prints the training log")


def run(arguments: argparse.Namespace) -> int:
    """
    Train.

    :param arguments: parsed
    :raises UsageError: if the options make no sense
    """
    if arguments.threads < 1:
        raise UsageError(f"--threads must be at least 1, got {arguments.threads}.")
    th.set_num_threads(arguments.threads)
    if arguments.resume is not None:
        folder = Path(arguments.resume) if arguments.resume else _newest(arguments)
        spec = read_config(folder).check()
        if (folder / LAST_MODEL).exists():
            raise UsageError(f"The run in {folder} is complete; there is nothing to resume.")
        if not is_ours(spec.algo):
            raise UsageError(f"{LABELS[spec.algo]} has no exact checkpoints: its run cannot be resumed. Start it anew.")
        with alone_in_run(folder, "sppo-rl train --resume"):
            _train(spec, folder, arguments, resume=True)
        return 0
    if arguments.env is None:
        raise UsageError("Name an environment with --env; 'sppo-rl envs' lists them.")
    spec = RunSpec(
        algo=arguments.algo,
        env_id=arguments.env,
        seed=arguments.seed,
        timesteps=arguments.timesteps,
        episodes=arguments.episodes,
        prior=arguments.prior,
        overrides=parse_overrides(arguments.hyperparams),
        entry=read_entry(arguments.algo, arguments.env, arguments.conf_file),
        eval_every=arguments.eval_every,
        eval_episodes=arguments.eval_episodes,
        device=arguments.device,
    ).check()
    with new_folder(arguments.log_folder / spec.algo, file_name(spec.env_id)) as folder, alone_in_run(folder, "sppo-rl train"):
        _train(spec, folder, arguments, resume=False)
    return 0


def _train(spec: RunSpec, folder: Path, arguments: argparse.Namespace, resume: bool) -> None:
    print(f"{LABELS[spec.algo]} on {spec.env_id}, seed {spec.seed}, {spec.length:,} {spec.unit}; folder {folder}")
    if not spec.hyperparameters().has_entry:
        print(f"No entry for {spec.env_id} in zoo/hyperparams/{spec.algo}.yml: using the algorithm's defaults.")
    missing = left_out(spec.algo, spec.env_id, spec.entry) if spec.entry is not None and not resume else {}
    if missing:
        listed = ", ".join(f"{name}: {default} ({shipped})" for name, (default, shipped) in missing.items())
        print(
            f"Your file replaces the package's entry. What it leaves out is the constructor's default (the package's value): {listed}"
        )
    progress = RunProgress(spec.length, spec.unit)
    _, evaluation = train_run(
        spec, folder, [progress], resume=resume, tensorboard=True, verbose=arguments.verbose, announce=print
    )
    print(f"Done: {describe_row(evaluation.rows[-1]).strip()}")
    print(f"Models, evaluations and logs are in {folder}. Look at them with: tensorboard --logdir {folder}")


def _newest(arguments: argparse.Namespace) -> Path:
    """The folder of the newest run of an algorithm on an environment."""
    if arguments.env is None:
        raise UsageError("Say what to resume: --resume FOLDER, or --resume with --algo and --env.")
    algorithm_class(arguments.algo)
    base = arguments.log_folder / arguments.algo
    numbers = sorted(numbers_of(base, file_name(check_env_id(arguments.env))), reverse=True)
    folders: list[Path] = [base / f"{file_name(arguments.env)}_{number}" for number in numbers]
    # one without a configuration was killed before it began
    newest = next((folder for folder in folders if (folder / CONFIG).exists()), None)
    if newest is None:
        raise UsageError(f"There is no run of {arguments.algo} on {arguments.env} in {arguments.log_folder}.")
    return newest
