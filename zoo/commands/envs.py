"""List the tasks, or print the card of one.

sppo-rl envs                                  a table of all ids
sppo-rl envs sppo_rl/PrecisionCartPole-v0     observation, action, horizon, success test, dense reward, untrained success rate
"""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.table import Table

from sppo_rl.envs.control.catalog import TASKS
from sppo_rl.envs.registration import list_envs
from sppo_rl.zoo.names import check_env_id, plain_id


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Add the options.

    :param parser: of this command
    """
    parser.add_argument("id", nargs="?", metavar="ID", help="print the card of this task")


def run(arguments: argparse.Namespace) -> int:
    """
    Print.

    :param arguments: parsed
    """
    if arguments.id is None:
        _print_table()
        return 0
    cards = {env_id: task for task in TASKS for env_id in (task.outcome_id, task.dense_id)}
    task = cards.get(plain_id(check_env_id(arguments.id)))
    if task is None:
        print(f"{arguments.id} is registered with Gymnasium, but not one of this package's tasks: it has no card here.")
        return 0
    print(f"{arguments.id}\n{'=' * len(arguments.id)}\n\n{task.card}\n")
    print(f"Outcome task {task.outcome_id}, dense twin {task.dense_id}.")
    return 0


def _print_table() -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("id", "horizon", "reward", "success", "observation", "action"):
        table.add_column(heading, justify="right" if heading == "horizon" else "left", overflow="fold")
    for env in list_envs():
        table.add_row(env.id, str(env.horizon), env.reward, env.success, env.observation, env.action)
    console = Console()
    # in a pipe or a file nothing is cut or folded
    console.print(table) if console.is_terminal else Console(width=160).print(table)
    print("\nReward 'outcome' is 0 until the end and then 0.0 or 1.0; 'dense' is shaped, for training experts.")
