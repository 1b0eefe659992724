"""The ``sppo-rl`` command: parses and dispatches; each sub-command is a module with ``add_arguments`` and ``run``."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version

from sppo_rl.zoo.commands.options import import_gym_packages
from sppo_rl.zoo.names import suggestion

COMMANDS = {
    "demo": "watch SPPO learn to balance a pole, beside PPO, and to work sums out (six minutes), and get plots",
    "envs": "list the tasks, or print the card of one",
    "pretrain": "make a prior: expert, demonstrations, behaviour cloning",
    "train": "train one agent",
    "train-agent": "train an agent for the zoo: a small file and its card",
    "pretrain-llm": "make the small language model: imitation of written sums",
    "train-llm": "train a language model on problems with verifiable answers",
    "evaluate": "measure a model or a prior on a control task, or a language model on benchmarks, with intervals",
    "enjoy": "render a trained agent to a video file",
    "compare": "train algorithms x seeds side by side; table, CSV and plot",
    "compare-llm": "train variants of a language run x seeds side by side",
    "tune": "search hyperparameters: the same budget and space for every algorithm",
    "plot": "draw the plot of a comparison again",
    "report": "put the results of comparisons on one page, Markdown and HTML",
}
"""Sub-command → what it does; the module ``sppo_rl.zoo.commands.<name>`` does it (``-`` becomes ``_``)."""

DESCRIPTION = """\
Sequence-level PPO on verifiable tasks: train, compare, look.

  sppo-rl envs                                             which tasks there are
  sppo-rl train --env sppo_rl/Pendulum-v0 --seed 0         train SPPO, from the shipped prior
  sppo-rl evaluate --prior --env sppo_rl/Pendulum-v0       how good is that prior?
  sppo-rl enjoy --model logs/sppo/sppo_rl-Pendulum-v0_1 --env sppo_rl/Pendulum-v0 -o pendulum.mp4
  sppo-rl train-llm --config chain_sum_tiny                a small language model learns to work sums out
  sppo-rl compare --env sppo_rl/MountainCar-v0 --algos sppo ppo sb3-ppo --seeds 5 -o comparison

'sppo-rl COMMAND --help' says more about each.
"""


def build_parser(command: str | None) -> argparse.ArgumentParser:
    """
    Build the parser.

    :param command: the sub-command whose options are wanted; the others are only listed, so that their modules need not be imported
    """
    parser = argparse.ArgumentParser(
        prog="sppo-rl", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"sppo-rl {version('sppo-rl')}")
    parser.add_argument("--traceback", action="store_true", help="show where an error comes from")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, purpose in COMMANDS.items():
        if name != command:
            commands.add_parser(name, help=purpose, add_help=False)
            continue
        module = importlib.import_module(f"sppo_rl.zoo.commands.{name.replace('-', '_')}")
        sub = commands.add_parser(
            name, help=purpose, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(sub)
        sub.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run a command.

    :param argv: its words, without the program's name; ``None`` for those of the process
    :return: exit status: 0 done, 1 failed, 2 not understood, 130 interrupted
    """
    words = list(sys.argv[1:] if argv is None else argv)
    command = next((word for word in words if not word.startswith("-")), None)
    if command is not None and command not in COMMANDS:
        print(
            f"sppo-rl: there is no command {command!r}.{suggestion(command, COMMANDS)} Commands: {', '.join(COMMANDS)}.",
            file=sys.stderr,
        )
        return 2
    try:
        parser = build_parser(command)
    except ModuleNotFoundError as error:
        if "--traceback" in words or not _is_missing(error):
            raise
        print(f"sppo-rl {command}: {_with_extras(error)}", file=sys.stderr)
        return 1
    arguments = parser.parse_args(words)
    if command is None:
        parser.print_help()
        return 0
    try:
        import_gym_packages(arguments)
        status = int(arguments.run(arguments) or 0)
        sys.stdout.flush()
        return status
    except (ValueError, OSError, ImportError) as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            return 1
        if isinstance(error, ImportError) and not _is_missing(error):
            raise
        # what the user asked for cannot be, a run's numbers are not finite, a file cannot be written, or a package is not there: the
        # message says all there is
        if arguments.traceback:
            traceback.print_exc()
        print(f"sppo-rl {command}: {_with_extras(error) if isinstance(error, ImportError) else error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nsppo-rl {command}: interrupted.", file=sys.stderr)
        return 130


def _is_missing(error: ImportError) -> bool:
    """Whether a package is not installed; else the error is one of the code's, here or in a user's environment."""
    if isinstance(error, ModuleNotFoundError):
        return (error.name or "").partition(".")[0] != "sppo_rl"
    # Stable-Baselines3's and our own words for it
    return "not installed" in str(error) or "pip install" in str(error)


def _with_extras(error: ImportError) -> str:
    """What is missing, and where it comes from, unless the message says so itself."""
    if "pip install" in str(error):
        return str(error)
    return (
        f"{str(error).rstrip('.')}. Commands need the extra [zoo], and [control] for control tasks or [llm] for language models: "
        "pip install -e '.[control,llm,zoo]'"
    )


def _nobody_reads() -> bool:
    """Tell whether standard output is a pipe whose other end is closed, as after ``| head``; other pipes lead to processes."""
    try:
        print(flush=True)
    except BrokenPipeError:
        # what is still in the buffer would fail again when the interpreter ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


if __name__ == "__main__":
    sys.exit(main())
