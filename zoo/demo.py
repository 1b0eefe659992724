"""Watch SPPO learn Precision CartPole from the shipped prior, beside PPO: Stable-Baselines3's, and the one of this package.

  sppo-rl demo

The pole has to stand within half a degree at the end of 200 steps, and that is the only reward. Takes two to four minutes on two
cores, and leaves plot.png, table.md, summary.csv and results.csv in the folder demo/.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

from rich.console import Console

from sppo_rl.zoo.compare import compare
from sppo_rl.zoo.names import LABELS
from sppo_rl.zoo.plots import plot_comparison
from sppo_rl.zoo.results import Summary, read_references, read_results, summarize
from sppo_rl.zoo.runs import RunSpec

ENV = "sppo_rl/PrecisionCartPole200-v0"
ALGORITHMS = ("sppo", "ppo", "sb3-ppo")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Add the options.

    :param parser: of this command
    """
    parser.add_argument("--episodes", type=int, default=3200, metavar="N", help="length of a run (default 3200)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="default 3")
    parser.add_argument("--jobs", "-j", type=int, default=2, metavar="N", help="processes at a time (default 2)")
    parser.add_argument(
        "--output", "-o", type=Path, default=Path("demo"), metavar="DIR", help="written anew each time (default: demo)"
    )


def run(arguments: argparse.Namespace) -> int:
    """
    Train, compare, say what came of it.

    :param arguments: parsed
    """
    console = Console()
    console.print(
        f"{ENV}: keep the pole up for 200 steps, and within half a degree of upright at the last. Reward: 1 for that, else 0.\n"
        f"{', '.join(LABELS[algo] for algo in ALGORITHMS)} start from the same prior, cloned from a scripted expert.\n",
        highlight=False,
        soft_wrap=True,
    )
    started = time.monotonic()
    shutil.rmtree(arguments.output / "runs", ignore_errors=True)
    specs = [
        RunSpec(algo, ENV, seed, episodes=arguments.episodes, prior=True).check()
        for seed in range(arguments.seeds)
        for algo in ALGORITHMS
    ]
    failed = compare(specs, arguments.output, arguments.jobs, console=console)
    rows = read_results(arguments.output)
    references = read_references(arguments.output)
    plot_comparison(rows, arguments.output / "plot_seconds.png", "seconds", references)
    console.print(
        f"\n{what_was_learned(summarize(rows), references[ENV]['prior']['success'])}", highlight=False, soft_wrap=True
    )
    console.print(
        f"Plots: {arguments.output / 'plot.png'} and {arguments.output / 'plot_seconds.png'}; table: {arguments.output / 'table.md'}. "
        f"All of it took {time.monotonic() - started:.0f} s.",
        highlight=False,
        soft_wrap=True,
    )
    return 1 if failed else 0


def what_was_learned(summaries: list[Summary], prior: float) -> str:
    """
    Say in plain numbers what each algorithm reached.

    :param summaries: of the demo's runs
    :param prior: success rate of the prior
    """
    lines = [f"The prior succeeds in {prior:.0%} of episodes. After training, with sampled actions, mean over seeds:"]
    for summary in summaries:
        rate = summary.timesteps / summary.seconds / 1000
        lines.append(
            f"  {LABELS[summary.algo]:<10} {summary.success:6.1%} after {summary.episodes:,.0f} episodes in {summary.seconds:.0f} s "
            f"of training ({rate:.0f},000 steps a second)"
        )
    return "\n".join(lines)
