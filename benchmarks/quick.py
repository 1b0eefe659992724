"""Redo one small cell of every committed figure and table, and check that it agrees with what is committed.

    make -C benchmarks quick          (or: python benchmarks/quick.py --only calibration tail_effect)

Under 15 minutes on two cores. What does not depend on chance must come out the same. A figure with chance in it must lie within three
standard errors of the committed one, where the error joins the spread over the committed seeds and the error of the smaller measurement
here. A ratio of speeds must be at least half the committed one: machines differ, and other work disturbs. Results that are not committed
yet are absent and no failure. Exits with 1 if a cell disagrees.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import functools
import io
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch as th

from sppo_rl.envs.reasoning import check as verify
from sppo_rl.zoo.results import read_results, runs_of
from sppo_rl.zoo.runs import RunSpec
from sppo_rl.zoo.runs import run as train_control

HERE = Path(__file__).resolve().parent
STANDARD_ERRORS = 3.0
SLOWEST = 0.5
"""A ratio of speeds may fall to this share of the committed one."""


DISAGREES, BROKEN = "DISAGREES", "BROKEN"


class AbsentError(Exception):
    """What a cell needs is not there; the message says what."""


class Check(NamedTuple):
    """One figure: where the committed results say it lies, and where it was found."""

    what: str
    committed: float
    low: float
    high: float
    found: float

    @property
    def agrees(self) -> bool:
        """Whether it lies there; NaN lies nowhere."""
        return self.low <= self.found <= self.high


def near(what: str, committed: float, found: float, *errors: float) -> Check:
    """A figure with chance in it; its errors are independent standard deviations."""
    room = STANDARD_ERRORS * math.hypot(*errors)
    return Check(what, committed, committed - room, committed + room, found)


def same(what: str, committed: float, found: float, rounding: float = 0.0) -> Check:
    """A figure without chance in it."""
    return Check(what, committed, committed - rounding, committed + rounding, found)


def fast(what: str, committed: float, found: float) -> Check:
    """A ratio of speeds."""
    return Check(what, committed, SLOWEST * committed, math.inf, found)


def standard_error(interval: list[float]) -> float:
    """Of a figure with a 95 % interval."""
    return (interval[1] - interval[0]) / (2.0 * 1.96)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


# ---------------------------------------------------------------- control


def control_run(
    results: Path,
    folder: Path,
    task: str,
    episodes: int,
    overrides: dict[str, Any],
    algo: str = "sppo",
    eval_episodes: int = 100,
) -> Iterator[Check]:
    """One algorithm on one task, the first committed seed, the committed budget."""
    env_id = f"sppo_rl/{task}-v0"
    committed = runs_of(read_results(results))[env_id, algo]
    seed = min(committed)
    spec = RunSpec(
        algo, env_id, seed=seed, episodes=episodes, overrides=overrides, eval_every=episodes // 10, eval_episodes=eval_episodes
    )
    _, evaluation = train_control(spec, folder)
    finals = [rows[-1]["success"] for rows in committed.values()]
    mean, found = statistics.mean(finals), evaluation.rows[-1]
    chance = math.sqrt(mean * (1.0 - mean) / spec.eval_episodes)
    yield same(f"{task}, {algo}, episodes of the run", committed[seed][-1]["episodes"], found["episodes"])
    yield near(f"{task}, {algo}, final success", mean, found["success"], statistics.stdev(finals), chance)


def control_comparison(results: Path, work: Path) -> Iterator[Check]:
    """The smallest task of control_comparison.sh."""
    yield from control_run(results, work / "control", "PrecisionCartPole200", 5000, {})


def critic_init(results: Path, work: Path) -> Iterator[Check]:
    """The smallest task of critic_init.sh."""
    yield from control_run(results, work / "critic_init", "Pendulum", 1000, {"critic_init": None})


def control_rivals(results: Path, work: Path) -> Iterator[Check]:
    """The best and the worst of the other rivals on the task where seeds differ least."""
    for algo in ("ppo-bce", "remax"):
        yield from control_run(results, work / "control_rivals" / algo, "PrecisionCartPole200", 5000, {}, algo)


def tuned_comparison(results: Path, work: Path) -> Iterator[Check]:
    """SPPO with the settings that its committed study found."""
    settings = read_json(results)["tuned"]["sppo"]["hyperparameters"]
    runs = results.parent / results.stem / "tuned" / "results.csv"
    yield from control_run(runs, work / "tuned", results.stem, 3000, settings, eval_episodes=200)


def control_claims(results: Path, work: Path) -> Iterator[Check]:
    """The claims follow from the committed comparison."""
    import control_claims as script

    script.main(["--out", str(work / "control_claims.json")])
    equal = read_json(work / "control_claims.json") == read_json(results)
    yield same("drawn up anew from control_comparison: the same", 1.0, float(equal))


def first_finished_bias(results: Path, work: Path) -> Iterator[Check]:
    """A dozen other batches of the two tasks on which the bias shows."""
    import first_finished_bias as script

    import sppo_rl.zoo

    lines = [line for line in results.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    for row in csv.DictReader(lines):
        if row["env"] not in ("sppo_rl/Hopper-v0", "sppo_rl/LunarLander-v0"):
            continue
        count = script.EPISODES[row["env"]]
        model = sppo_rl.zoo.load_prior(row["env"], n_episodes=count, seed=0, device="cpu")
        for name, first_finished in (("same_finished", False), ("first_finished", True)):
            outcomes = [o for seed in range(1000, 1012) for o in script.successes(model, count, seed, first_finished)]
            mean = float(row[name])
            errors = [math.sqrt(mean * (1.0 - mean) / size) for size in (len(outcomes), int(row["batches"]) * count)]
            yield near(f"{row['env'].removeprefix('sppo_rl/')}, {name}", mean, float(np.mean(outcomes)), *errors)
        if model.env is not None:
            model.env.close()


def control_throughput(results: Path, work: Path) -> Iterator[Check]:
    """One task, one schedule, three repetitions."""
    import control_throughput as script

    committed = read_json(results)
    row = committed["rows"][0]
    env_id, (minibatches, epochs) = row["env"], script.SCHEDULES[row["minibatches_x_epochs"]]
    copies, horizon = script.TASKS[env_id]
    threads = th.get_num_threads()
    th.set_num_threads(committed["threads"])
    ours = script.make_sppo(env_id, copies, minibatches, epochs)
    theirs = script.make_sb3(env_id, copies, horizon, minibatches, epochs)
    budgets = [int(script.rate(model, env_id, copies * horizon) * 1.5) for model in (ours, theirs)]
    ratios = [script.rate(ours, env_id, budgets[0]) / script.rate(theirs, env_id, budgets[1]) for _ in range(3)]
    th.set_num_threads(threads)
    yield fast(f"speed beside SB3, {row['minibatches_x_epochs']}", row["ratio_median"], statistics.median(ratios))


# ---------------------------------------------------------------- language


def llm_throughput(results: Path, work: Path) -> Iterator[Check]:
    """Two repetitions of one update."""
    import llm_throughput as script

    committed = read_json(results)
    threads = th.get_num_threads()
    th.set_num_threads(committed["threads"])
    tokenizer = script.make_tokenizer()
    ours = script.Ours(script.make_model(tokenizer), tokenizer)
    theirs = script.Theirs(script.make_model(tokenizer), tokenizer, str(work / "trl"))
    for side in (ours, theirs):
        side.run(1)
    ratios = [ours.run(1).rate / theirs.run(1).rate for _ in range(2)]
    th.set_num_threads(threads)
    yield fast("speed beside TRL", committed["ratio_median"], statistics.median(ratios))


def llm_memory(results: Path, work: Path) -> Iterator[Check]:
    """The configurations with the least and the most memory, once each; their ratio within a fifth."""
    committed = read_json(results)
    rows = sorted(committed["rows"], key=lambda row: row["memory_mib"])
    found = []
    for row in (rows[0], rows[-1]):
        words = [sys.executable, "-W", "ignore", str(HERE / "llm_memory.py"), "--one", row["configuration"]]
        run = subprocess.run([*words, "--threads", str(committed["threads"])], capture_output=True, text=True, check=True)
        found.append(json.loads(run.stdout.splitlines()[-1])["memory_mib"])
    ratio = rows[0]["memory_mib"] / rows[-1]["memory_mib"]
    what = f"memory, {rows[0]['configuration']} over {rows[-1]['configuration']}"
    yield Check(what, ratio, 0.8 * ratio, 1.2 * ratio, found[0] / found[1])


def advantage_scaling(results: Path, work: Path) -> Iterator[Check]:
    """Two chances of success, a fifth of the groups, drawn anew."""
    import advantage_scaling as script

    committed = read_json(results)
    rng = np.random.default_rng(1)
    for before in committed["rows"]:
        if before["p"] not in (0.05, 0.5):
            continue
        now = script.measure(before["p"], committed["groups"] // 5, committed["size"], rng)
        for form in script.FORMS:
            of, was = now[form], before[form]
            errors = (of["standard_error"][0], was["standard_error"][0], 1e-5)
            yield near(f"{form}, right, p = {before['p']}", was["sampled"][0], of["sampled"][0], *errors)


@functools.cache
def language_runs(work: Path) -> dict[tuple[str, int], Path]:
    """SPPO and PPO on the tiny task, seed 0, the committed budget, side by side on two cores."""
    from trained import train

    return train(["sppo", "ppo"], [0], work / "language", jobs=2)


def language_comparison(results: Path, work: Path) -> Iterator[Check]:
    """Final pass@1 of SPPO and PPO, seed 0, in every study that runs them as equal_responses does."""
    from trained import STUDY

    from sppo_rl.callbacks import read_evaluations
    from sppo_rl.zoo.llm_study import load_study
    from sppo_rl.zoo.runs import EVALUATIONS

    ours = load_study(STUDY).variants
    for file in sorted(results.glob("*/results.csv")):
        study = HERE / "language" / f"{file.parent.name}.yml"
        theirs = load_study(study).variants if study.is_file() else {}
        for (_, algo), seeds in runs_of(read_results(file)).items():
            if algo not in ("sppo", "ppo") or theirs.get(algo) != ours[algo]:
                continue
            finals = [rows[-1]["success"] for rows in seeds.values()]
            mean = statistics.mean(finals)
            chance = math.sqrt(mean * (1.0 - mean) / (ours[algo].evaluation.count or 512))
            spread = statistics.stdev(finals) if len(finals) > 1 else 0.0
            found = read_evaluations(language_runs(work)[algo, 0] / EVALUATIONS)[-1]["success"]
            yield near(f"{file.parent.name}, {algo}, final pass@1", mean, found, spread, chance)


def calibration(results: Path, work: Path) -> Iterator[Check]:
    """One run, a quarter of the responses to each prompt; correlations as shares of their ceilings, which fall with the responses."""
    import calibration as script
    from trained import held_out

    from sppo_rl.zoo import llm_runs

    committed = read_json(results)
    folder = language_runs(work)["sppo", 0]
    config, _ = llm_runs.read_config(folder)
    task = held_out(config, committed["prompts"])
    found = script.measure(folder, task, committed["k"] // 4, work / "calibration")
    task.close()
    over_seeds = committed["after_over_seeds"]
    yield same("responses of training", committed["responses_of_training"], config.responses)
    for name in ("pearson", "spearman"):
        mean, spread = over_seeds[name]["mean"], over_seeds[name]["std"] or 0.0
        ceiling = found[f"ceiling_{name}"]
        error = standard_error(found[f"{name}_interval"])
        of_ceiling = over_seeds[f"ceiling_{name}"]["mean"]
        yield near(
            f"{name} of V, share of its ceiling",
            mean / of_ceiling,
            found[name] / ceiling,
            spread / of_ceiling,
            error / ceiling,
        )


def tail_effect(results: Path, work: Path) -> Iterator[Check]:
    """PPO, one run, half of the responses to each prompt: the end of the chains."""
    import tail_effect as script
    from trained import held_out

    from sppo_rl.zoo import llm_runs

    committed = read_json(results)
    folder = language_runs(work)["ppo", 0]
    config, _ = llm_runs.read_config(folder)
    task = held_out(config, committed["prompts"])
    found = script.measure(folder, task, committed["k"] // 2)["positions"][-1]
    task.close()
    before = committed["over_seeds"]["PPO"][-1]
    for name in ("auc", "gap"):
        spread = before[name]["std"] or 0.0
        yield near(
            f"PPO, {name} at the end", before[name]["mean"], found[name], spread, standard_error(found[f"{name}_interval"])
        )


# ---------------------------------------------------------------- verification


def verifier(results: Path, work: Path) -> Iterator[Check]:
    """The corpus, in this process."""
    sys.path.insert(0, str(HERE / "verifier"))
    import run as script

    committed = read_json(results)["corpus"]["sppo_rl"]
    found = script.measure(lambda response, gold: verify(response, gold).score)
    for name in ("true_positive_rate", "false_positive_rate"):
        yield same(name.replace("_", " "), committed[name], found[name])


def verifier_blind(results: Path, work: Path) -> Iterator[Check]:
    """The second corpus, in this process: what was committed is a first look, so the verifier may have become better."""
    sys.path.insert(0, str(HERE / "verifier"))
    import blind_run as script

    committed = read_json(results)["sppo_rl"]

    def score(response: str, gold: str) -> tuple[float, str]:
        verdict = verify(response, gold)
        return verdict.score, verdict.reason

    found = script.measure(score)
    right, wrong = (committed[name]["accepted"] for name in ("true_positives", "false_positives"))
    yield Check("right answers accepted", right, right, committed["true_positives"]["of"], found["true_positives"]["accepted"])
    yield Check("wrong answers accepted", wrong, 0, wrong, found["false_positives"]["accepted"])


def real_benchmarks(results: Path, work: Path) -> Iterator[Check]:
    """The gold answers against themselves, where the benchmark files are at hand."""
    if not os.environ.get("SPPO_DATA"):
        raise AbsentError("SPPO_DATA names no folder with the benchmark files")
    import real_benchmarks as script

    found = script.check_golds()
    for name, committed in read_json(results)["gold_answers"].items():
        yield same(f"{name}, gold answers accepted", committed["accepted"], found[name]["accepted"])


CELLS: dict[str, tuple[str, Callable[[Path, Path], Iterator[Check]]]] = {
    "control_throughput": ("results/control_throughput.json", control_throughput),
    "llm_throughput": ("results/llm_throughput.json", llm_throughput),
    "llm_memory": ("results/llm_memory.json", llm_memory),
    "control_comparison": ("results/control_comparison/PrecisionCartPole200/results.csv", control_comparison),
    "control_rivals": ("results/control_rivals/PrecisionCartPole200/results.csv", control_rivals),
    "tuned_comparison": ("results/tuned_comparison/PrecisionCartPole200.json", tuned_comparison),
    "critic_init": ("results/critic_init/Pendulum/results.csv", critic_init),
    "control_claims": ("results/control_claims.json", control_claims),
    "first_finished_bias": ("results/first_finished_bias.csv", first_finished_bias),
    "advantage_scaling": ("results/advantage_scaling.json", advantage_scaling),
    "verifier": ("verifier/results.json", verifier),
    "verifier_blind": ("verifier/blind_results.json", verifier_blind),
    "real_benchmarks": ("results/real_benchmarks.json", real_benchmarks),
    "language_comparison": ("results/language", language_comparison),
    "calibration": ("results/calibration.json", calibration),
    "tail_effect": ("results/tail_effect.json", tail_effect),
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
