"""Redo one small cell of every committed figure and table, and check that it agrees with what is committed.

    make -C benchmarks quick          (or: python benchmarks/quick.py --only calibration tail_effect)

Under 15 minutes on two cores. What does not depend on chance must come out the same. One more training run must end within the 99 %
prediction interval of the committed ones; another figure with chance in it within three standard errors of the committed one, where the
error joins the spread over the committed seeds and the error of the smaller measurement here. A ratio of speeds must be at least half the
committed one: machines differ, and other work disturbs. Results that are not committed yet are absent and no failure. Exits with 1 if a
cell disagrees.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import quick_control as control
import quick_language as language
from agreement import AbsentError, Check

HERE = Path(__file__).resolve().parent
DISAGREES, BROKEN = "DISAGREES", "BROKEN"


CELLS: dict[str, tuple[str, Callable[[Path, Path], Iterator[Check]]]] = {
    "control_throughput": ("results/control_throughput.json", control.control_throughput),
    "critic_cost": ("results/critic_cost.json", control.critic_cost),
    "llm_throughput": ("results/llm_throughput.json", language.llm_throughput),
    "llm_memory": ("results/llm_memory.json", language.llm_memory),
    "control_comparison": ("results/control_comparison/PrecisionCartPole200/results.csv", control.control_comparison),
    "control_rivals": ("results/control_rivals/PrecisionCartPole200/results.csv", control.control_rivals),
    "control_more_seeds": ("results/control_more_seeds/PrecisionCartPole200/results.csv", control.control_more_seeds),
    "tuned_comparison": ("results/tuned_comparison/PrecisionCartPole200.json", control.tuned_comparison),
    "step_signal": ("results/step_signal/PrecisionCartPole200/results.csv", control.step_signal),
    "paper_budget": ("results/paper_budget/results.csv", control.paper_budget),
    "lost_runs": ("results/lost_runs/Pendulum/results.csv", control.lost_runs),
    "causes": ("results/causes/lunar_lander_longer/results.csv", control.causes),
    "critic_init": ("results/critic_init/Pendulum/results.csv", control.critic_init),
    "control_claims": ("results/control_claims.json", control.control_claims),
    "first_finished_bias": ("results/first_finished_bias.csv", control.first_finished_bias),
    "advantage_scaling": ("results/advantage_scaling.json", control.advantage_scaling),
    "verifier": ("verifier/results.json", language.verifier),
    "verifier_blind": ("verifier/blind_results.json", language.verifier_blind),
    "real_benchmarks": ("results/real_benchmarks.json", language.real_benchmarks),
    "language_comparison": ("results/language", language.language_comparison),
    "calibration": ("results/calibration.json", language.calibration),
    "tail_effect": ("results/tail_effect.json", language.tail_effect),
}
"""Name → committed result, function. Speeds come first, while nothing else runs."""


def lines(name: str, work: Path) -> Iterator[tuple[str, str, str, str]]:
    """One for each figure of a cell: what it is, where it may lie, where it was found, and whether that agrees."""
    place, function = CELLS[name]
    if not (HERE / place).exists():
        yield f"benchmarks/{place} is not there", "", "", "absent"
        return
    try:
        # scripts print what they find, but here the figures are what counts
        with contextlib.redirect_stdout(io.StringIO()):
            checks = list(function(HERE / place, work))
    except AbsentError as error:
        yield str(error), "", "", "absent"
        return
    except Exception as error:
        # one broken cell must not hide the others
        traceback.print_exc()
        yield f"{type(error).__name__}: {error}", "", "", BROKEN
        return
    if not checks:
        yield "no committed row to compare with", "", "", "absent"
    for check in checks:
        allowed = f"{check.low:.4g} to {check.high:.4g}" if check.low < check.high else f"{check.low:.4g}"
        yield check.what, allowed, f"{check.found:.4g}", "agrees" if check.agrees else DISAGREES


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(CELLS), default=list(CELLS), metavar="CELL", help=", ".join(CELLS))
    parser.add_argument(
        "--work", type=Path, default=Path("runs/quick"), metavar="DIR", help="emptied first (default runs/quick)"
    )
    parser.add_argument("--keep", action="store_true", help="go on with what an interrupted call left in the folder")
    arguments = parser.parse_args()
    if not arguments.keep:
        shutil.rmtree(arguments.work, ignore_errors=True)
    arguments.work.mkdir(parents=True, exist_ok=True)
    print(f"{'cell':20} {'figure':58} {'allowed':>20} {'found':>10}  ", flush=True)
    failed = 0
    began = time.perf_counter()
    for name in (name for name in CELLS if name in arguments.only):
        started, title = time.perf_counter(), name
        for what, allowed, found, verdict in lines(name, arguments.work):
            print(f"{title:20} {what:58} {allowed:>20} {found:>10}  {verdict}", flush=True)
            failed += verdict in (DISAGREES, BROKEN)
            title = ""
        print(f"{'':20} {time.perf_counter() - started:.0f} s", flush=True)
    print(f"{'All agree' if not failed else f'{failed} disagree'}; {time.perf_counter() - began:.0f} s.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
