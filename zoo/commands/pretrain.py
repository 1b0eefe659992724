"""Make a prior in the paper's three stages: expert, demonstrations, behaviour cloning.

  sppo-rl pretrain --env sppo_rl/Pendulum-v0 --target 0.4 --seed 0 -o my_priors

A scripted expert (for Hopper one trained on the dense reward) plays with noise on its actions; the episodes that pass the task's own
success test are cloned into the actor of an MlpPolicy, until its sampled success rate reaches the target. The checkpoint nearest to the
target is written, with a card of success rates. Same command, same seed: same file, on one machine with the same packages.

Start from it with sppo_rl.zoo.load_prior(env_id, path="my_priors/....npz"); the priors that ship need no path.
"""

from __future__ import annotations

import argparse

from sppo_rl.zoo.commands import options
from sppo_rl.zoo.imitation.priors import RECIPES, make_prior


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Add the options.

    :param parser: of this command
    """
    parser.add_argument("--env", required=True, metavar="ID", help="the task: " + ", ".join(RECIPES))
    parser.add_argument(
        "--target", type=float, metavar="RATE", help="success rate to clone to (default: the task's own, .2 to .4)"
    )
    options.add_seed(parser)
    parser.add_argument("-o", "--output", default="priors", metavar="FOLDER", help="where to write (default ./priors)")
    parser.add_argument(
        "-n", "--episodes", type=int, default=2000, metavar="N", help="episodes for each rate on the card (default 2000)"
    )


def run(arguments: argparse.Namespace) -> int:
    """
    Make a prior.

    :param arguments: parsed
    """
    make_prior(arguments.env, arguments.target, arguments.seed, arguments.output, arguments.episodes)
    return 0
