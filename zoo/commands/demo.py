"""Watch SPPO learn twice: to keep a pole upright, beside PPO, and to work sums out in writing.

  sppo-rl demo
  sppo-rl demo --only language

First Precision CartPole, from the shipped prior: SPPO beside Stable-Baselines3's PPO and the one of this package. The pole has to stand
within half a degree at the end of 200 steps, and that is the only reward. Then a language model of a third of a million weights, which
mostly blurts out wrong sums and learns, from right and wrong alone, to write down the steps first. Each takes two to four minutes on
two cores. Left in the folder demo/: plot.png, table.md, summary.csv and results.csv; in demo/language/ plots, table.md, evaluations.csv
and the trained model. The next demo deletes these runs; where anything else lies in their place, it is refused.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from sppo_rl.atomic import write_atomically
from sppo_rl.zoo.commands.options import check_counts
from sppo_rl.zoo.names import LABELS, UsageError, file_name
from sppo_rl.zoo.parallel.comparison import compare
from sppo_rl.zoo.results.plots import plot_comparison
from sppo_rl.zoo.results.provenance import PROVENANCE
from sppo_rl.zoo.results.rows import Summary, read_references, read_results, summarize
from sppo_rl.zoo.running.runs import RunSpec

ENV = "sppo_rl/PrecisionCartPole200-v0"
ALGORITHMS = ("sppo", "ppo", "sb3-ppo")
PARTS = {"control": f"runs/{file_name(ENV)}", "language": "language"}
"""What the demo consists of → folder that each begins anew."""
MARKER = "demo.txt"
"""Says that a folder is a demo's, so that the next one may delete it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Add the options.

    :param parser: of this command
    """
    parser.add_argument("--only", choices=PARTS, help="one of the two parts (default: both)")
    parser.add_argument(
        "--episodes", type=int, default=3200, metavar="N", help="length of a run of the control part (default 3200)"
    )
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="of the control part (default 3)")
    parser.add_argument(
        "--jobs", "-j", type=int, default=2, metavar="N", help="processes at a time in the control part (default 2)"
    )
    parser.add_argument("--responses", type=int, default=8192, metavar="N", help="length of the language part (default 8192)")
    parser.add_argument(
        "--output", "-o", type=Path, default=Path("demo"), metavar="DIR", help="begun anew each time (default: demo)"
    )


def run(arguments: argparse.Namespace) -> int:
    """
    Train, compare, say what came of it.

    :param arguments: parsed
    :raises UsageError: if the options make no sense, the language part is asked for alone and cannot run, or the folder holds what no
        demo has left
    """
    check_counts(arguments)
    specs = [
        RunSpec(algo, ENV, seed, episodes=arguments.episodes, prior=True).check()
        for seed in range(arguments.seeds)
        for algo in ALGORITHMS
    ]
    if arguments.responses < 1:
        raise UsageError(f"--responses must be at least 1, got {arguments.responses}.")
    missing = [name for name in ("transformers", "reasoning_gym") if importlib.util.find_spec(name) is None]
    needs = f"The language part needs {' and '.join(missing)}: pip install 'sppo-rl[llm]'."
    if missing and arguments.only == "language":
        raise UsageError(needs)
    parts = [part for part in PARTS if arguments.only in (None, part) and not (missing and part == "language")]
    strange = [str(path) for part in parts for path in _of_others(arguments.output, part)]
    if strange:
        more = f" and {len(strange) - 3} more" if len(strange) > 3 else ""
        raise UsageError(
            f"{arguments.output} holds what no demo has left: {', '.join(strange[:3])}{more}. A demo begins its folder anew. Choose "
            "another with -o, or move that away."
        )
    console = Console()
    started = time.monotonic()
    failed = 0
    if "control" in parts:
        failed = control(specs, arguments.output, arguments.jobs, console)
    if arguments.only != "control" and missing:
        console.print(f"\n{needs}", highlight=False, markup=False, soft_wrap=True)
    elif "language" in parts:
        # transformers takes seconds to import
        from sppo_rl.zoo.commands.demo_language import language

        if arguments.only is None:
            console.print()
        language(_begin_anew(arguments.output / PARTS["language"]), arguments.responses, console)
    console.print(f"All of it took {time.monotonic() - started:.0f} s.", highlight=False, soft_wrap=True)
    return 1 if failed else 0


def _of_others(output: Path, part: str) -> list[Path]:
    """What lies where a part of the demo writes and was not left by one."""
    folder = output / PARTS[part]
    strange = [folder] if folder.exists() and not (folder / MARKER).is_file() else []
    if part == "control":
        # a comparison would take the runs of both, and writes over results.csv as the demo does
        strange += sorted(path for path in folder.parent.glob("*") if path != folder and not path.name.startswith("."))
        strange += [path for path in [output / PROVENANCE] if path.exists()]
    return strange


def _begin_anew(folder: Path) -> Path:
    """Delete what the demo before has left, and mark the folder."""
    if folder.exists():
        shutil.rmtree(folder)
    write_atomically(folder / MARKER, "Left by 'sppo-rl demo', which deletes this folder when it is run again.\n")
    return folder


def control(specs: Sequence[RunSpec], folder: Path, jobs: int, console: Console) -> int:
    """
    Train SPPO and two PPOs on Precision CartPole.

    :param specs: of the runs
    :param folder: of the demo
    :param jobs: processes at a time
    :param console: shows the progress
    :return: number of runs that failed
    """
    console.print(
        f"{ENV}: keep the pole up for 200 steps, and within half a degree of upright at the last. Reward: 1 for that, else 0.\n"
        f"{', '.join(LABELS[algo] for algo in ALGORITHMS)} start from the same prior, cloned from a scripted expert.\n",
        highlight=False,
        soft_wrap=True,
    )
    _begin_anew(folder / PARTS["control"])
    failed = compare(specs, folder, jobs, console=console)
    rows = read_results(folder)
    references = read_references(folder)
    plot_comparison(rows, folder / "plot_seconds.png", "seconds", references)
    console.print(
        f"\n{what_was_learned(summarize(rows), references[ENV]['prior']['success'])}", highlight=False, soft_wrap=True
    )
    console.print(
        f"Plots: {folder / 'plot.png'} and {folder / 'plot_seconds.png'}; table: {folder / 'table.md'}.",
        highlight=False,
        soft_wrap=True,
    )
    return failed


def what_was_learned(summaries: list[Summary], prior: float) -> str:
    """
    Say in plain numbers what each algorithm reached.

    :param summaries: of the demo's runs
    :param prior: success rate of the prior
    """
    lines = [f"The prior succeeds in {prior:.0%} of episodes. After training, with sampled actions, mean over seeds:"]
    for summary in summaries:
        # two digits: no more of them would be the same in the next demo
        rate = float(f"{summary.timesteps / summary.seconds:.2g}")
        lines.append(
            f"  {LABELS[summary.algo]:<10} {summary.success:6.1%} after {summary.episodes:,.0f} episodes in {summary.seconds:.0f} s "
            f"of training ({rate:,.0f} steps a second)"
        )
    return "\n".join(lines)
