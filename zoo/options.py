"""Options that several commands share."""

from __future__ import annotations

import argparse

from sppo_rl.zoo.names import ALGORITHMS


def add_env(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """
    Add ``--env``.

    :param parser: of a command
    :param several: accept more than one id
    """
    parser.add_argument(
        "--env", required=True, metavar="ID", nargs="+" if several else None, help="environment id; 'sppo-rl envs' lists them"
    )


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


def add_model(parser: argparse.ArgumentParser) -> None:
    """
    Add ``--model`` or ``--prior``, and ``--algo``.

    :param parser: of a command
    """
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", metavar="PATH", help="a .zip file, or the folder of a run (its best model)")
    which.add_argument("--prior", action="store_true", help="the shipped prior of the environment")
    parser.add_argument(
        "--algo", metavar="NAME", help="which algorithm saved the model; found in the run's config.yml, or in the file"
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


def algorithms_help() -> str:
    """What ``--algo`` accepts."""
    return ", ".join(ALGORITHMS)
