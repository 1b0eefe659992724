"""Options that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

from sppo_rl.cores import usable_cores
from sppo_rl.zoo.names import ALGORITHMS, UsageError, check_seed, with_module


def add_env(parser: argparse.ArgumentParser, several: bool = False, required: bool = True) -> None:
    """
    Add ``--env``.

    :param parser: of a command
    :param several: accept more than one id
    :param required: whether the command can do nothing without
    """
    parser.add_argument(
        "--env",
        required=required,
        metavar="ID",
        nargs="+" if several else None,
        help="environment id; 'sppo-rl envs' lists them. One of your own: MODULE:ID",
    )
    add_gym_packages(parser)


def add_gym_packages(parser: argparse.ArgumentParser) -> None:
    """
    Add ``--gym-packages``.

    :param parser: of a command with ``--env``
    """
    parser.add_argument(
        "--gym-packages",
        nargs="+",
        default=[],
        metavar="MODULE",
        help="modules that register environments of your own, imported first; --env MODULE:ID does the same",
    )


def import_gym_packages(arguments: argparse.Namespace) -> None:
    """
    Import what ``--gym-packages`` names; ids in ``--env`` that come from there are given their module.

    :param arguments: parsed, of any command
    :raises UsageError: if a module cannot be imported
    """
    packages = getattr(arguments, "gym_packages", [])
    if packages and arguments.env is not None:
        several = isinstance(arguments.env, list)
        ids = [with_module(env_id, packages) for env_id in (arguments.env if several else [arguments.env])]
        arguments.env = ids if several else ids[0]


def add_prior_choice(parser: argparse.ArgumentParser) -> None:
    """
    Add ``--from-prior`` and ``--no-prior``.

    :param parser: of a command
    """
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--from-prior",
        dest="prior",
        action="store_true",
        default=None,
        help="start from the shipped prior, or fail without one",
    )
    choice.add_argument(
        "--no-prior",
        dest="prior",
        action="store_false",
        help="start from random weights (default: the prior, if there is one)",
    )


def add_seed(parser: argparse.ArgumentParser, of: str = "everything random") -> None:
    """
    Add ``--seed``.

    :param parser: of a command
    :param of: what is drawn with it
    """
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help=f"of {of} (default 0)")


def _seed(text: str) -> int:
    try:
        return check_seed(int(text))
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


# what argparse calls it where the text is no number
_seed.__name__ = "int"


def add_model(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """
    Add ``--model``, ``--prior`` or ``--agent``, and ``--algo``.

    :param parser: of a command
    :param required: whether the command can do nothing without
    """
    which = parser.add_mutually_exclusive_group(required=required)
    which.add_argument(
        "--model", metavar="PATH", help="a .zip file, the folder of a run (its best model), or a prior's or agent's .npz"
    )
    which.add_argument("--prior", action="store_true", help="the shipped prior of the environment")
    which.add_argument("--agent", action="store_true", help="the shipped trained agent of the environment")
    parser.add_argument(
        "--algo", metavar="NAME", help="which algorithm saved the model; found in the run's config.yml, or in the file"
    )


def add_language_evaluation(parser: argparse.ArgumentParser) -> None:
    """
    Add the options for evaluating a language model.

    :param parser: of a command with ``--model`` and ``--seed``
    """
    group = parser.add_argument_group("language models")
    group.add_argument(
        "--benchmarks",
        nargs="+",
        metavar="NAME",
        help="aime24, aime25, amc23, math500, minerva, or a .jsonl, .json or .parquet file with problems and answers",
    )
    group.add_argument("-k", "--samples", type=int, default=16, metavar="K", help="responses to every problem (default 16)")
    group.add_argument("--temperature", type=float, default=0.6, help="default 0.6")
    group.add_argument("--greedy", action="store_true", help="the most likely tokens; needs -k 1")
    group.add_argument("--max-new-tokens", type=int, default=8192, metavar="N", help="longest response (default 8192)")
    group.add_argument("--max-prompt-tokens", type=int, default=2048, metavar="N", help="longest prompt (default 2048)")
    group.add_argument("--limit", type=int, metavar="N", help="only the first N problems of each benchmark")
    group.add_argument(
        "--instruction", metavar="TEXT", help="added behind each problem (default: asks for a \\boxed{} answer)"
    )
    group.add_argument("--generator", choices=["transformers", "vllm"], default="transformers", help="default transformers")
    group.add_argument(
        "--batch-size", type=int, metavar="N", help="responses side by side (default 64 with transformers, 512 with vllm)"
    )
    group.add_argument("--device", default="auto", help="default: a GPU if there is one")
    group.add_argument("--dtype", choices=["auto", "float32", "bfloat16"], default="auto", help="default: bfloat16 on a GPU")
    group.add_argument("--output", type=Path, metavar="DIR", help="completions and summary (default evaluations/MODEL)")
    group.add_argument(
        "--calibration",
        nargs="?",
        const="",
        metavar="CRITIC",
        help="also hold a critic's predictions against avg@k: its folder; left out, the one that policy.export put beside the policy",
    )
    group.add_argument(
        "--check-golds", action="store_true", help="judge each gold answer against itself, list the malformed ones, and stop"
    )


def add_hyperparameters(parser: argparse.ArgumentParser) -> None:
    """
    Add ``--hyperparams``.

    :param parser: of a command
    """
    parser.add_argument(
        "--hyperparams",
        "-params",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="change hyperparameters, such as learning_rate=lin_3e-4 n_epochs=8 policy_kwargs='dict(net_arch=[32])'",
    )


def add_conf_file(parser: argparse.ArgumentParser) -> None:
    """
    Add ``--conf-file``.

    :param parser: of a command
    """
    parser.add_argument(
        "--conf-file",
        "-conf",
        type=Path,
        metavar="PATH",
        help="hyperparameters from this YAML file (environment id: settings), or from <algo>.yml in this folder; default: the package's",
    )


def add_evaluation(parser: argparse.ArgumentParser, n_episodes: int) -> None:
    """
    Add options for the evaluations during training.

    :param parser: of a command
    :param n_episodes: default
    """
    parser.add_argument(
        "--eval-every",
        type=int,
        metavar="N",
        help="time steps (with --episodes: episodes) between evaluations; default: 1/20 of all",
    )
    parser.add_argument(
        "--eval-episodes",
        type=int,
        default=n_episodes,
        metavar="N",
        help=f"episodes in an evaluation, sampled and greedy each (default {n_episodes})",
    )


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """
    Add ``--jobs``.

    :param parser: of a command that does several things side by side
    """
    parser.add_argument(
        "--jobs", "-j", type=int, default=usable_cores(), metavar="N", help="processes at a time (default: one for each core)"
    )


def algorithms_help() -> str:
    """What ``--algo`` accepts."""
    return ", ".join(ALGORITHMS)


def check_counts(arguments: argparse.Namespace) -> None:
    """
    Check what several commands count.

    :param arguments: with ``seeds`` and ``jobs``
    :raises UsageError: if one is less than 1
    """
    if arguments.seeds < 1 or arguments.jobs < 1:
        raise UsageError(f"--seeds and --jobs must be at least 1, got {arguments.seeds} and {arguments.jobs}.")
