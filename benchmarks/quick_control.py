"""Cells of ``quick.py``: control tasks, and what advantages are. Each takes the committed file and a folder to work in."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from agreement import Check, fast, near, one_more_run, read_json, same

from sppo_rl.cores import torch_threads
from sppo_rl.zoo.results.rows import read_results, runs_of
from sppo_rl.zoo.running.runs import RunSpec
from sppo_rl.zoo.running.runs import run as train_control
from sppo_rl.zoo.settings.hyperparameters import read_entry

STARTING_POINTS = Path(__file__).resolve().parent / "hyperparams"


def control_run(
    results: Path,
    folder: Path,
    task: str,
    episodes: int,
    overrides: dict[str, Any],
    algo: str = "sppo",
    eval_episodes: int = 100,
    label: str | None = None,
    eval_every: int | None = None,
) -> Iterator[Check]:
    """
    One algorithm on one task, the first committed seed, so many episodes, against the committed rows there; the label is what those are
    called.
    """
    env_id = f"sppo_rl/{task}-v0"
    committed = runs_of(read_results(results))[env_id, label or algo]
    seed = min(committed)
    spec = RunSpec(
        algo,
        env_id,
        seed=seed,
        episodes=episodes,
        overrides=overrides,
        entry=read_entry(algo, env_id, STARTING_POINTS),
        eval_every=eval_every or episodes // 10,
        eval_episodes=eval_episodes,
    )
    _, evaluation = train_control(spec, folder)
    found = evaluation.rows[-1]
    # where a run of another length has its evaluation, or its last one
    there = {run: next((row for row in rows if row["episodes"] >= episodes), rows[-1]) for run, rows in committed.items()}
    successes = [row["success"] for row in there.values()]
    yield same(f"{task}, {label or algo}, episodes of the run", there[seed]["episodes"], found["episodes"])
    yield one_more_run(f"{task}, {label or algo}, success", successes, found["success"], spec.eval_episodes)


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


def control_more_seeds(results: Path, work: Path) -> Iterator[Check]:
    """Its first seed, on the smallest task."""
    yield from control_run(results, work / "control_more_seeds", "PrecisionCartPole200", 5000, {})


def tuned_comparison(results: Path, work: Path) -> Iterator[Check]:
    """SPPO with the settings that its committed study found."""
    settings = read_json(results)["tuned"]["sppo"]["hyperparameters"]
    runs = results.parent / results.stem / "tuned" / "results.csv"
    yield from control_run(runs, work / "tuned", results.stem, 3000, settings, eval_episodes=200)


def step_signal(results: Path, work: Path) -> Iterator[Check]:
    """The step at which all that is for single steps has been taken away."""
    import step_signal as script

    label = "SPPO, the same settings"
    task = results.parent.name
    algo, settings = script.variants(task)[label]
    yield from control_run(results, work / "step_signal", task, 3000, settings, algo, script.EVALUATION_EPISODES, label)


def paper_budget(results: Path, work: Path) -> Iterator[Check]:
    """The first of its twenty parts, where the learning rate is still what it was."""
    import paper_budget as script

    episodes = script.EPISODES // script.EVALUATIONS
    algo, settings = script.variants()["SPPO"]
    folder, evaluated = work / "paper_budget", script.EVALUATION_EPISODES
    yield from control_run(results, folder, script.TASK, episodes, settings, algo, evaluated, "SPPO", episodes)


def lost_runs(results: Path, work: Path) -> Iterator[Check]:
    """One of the things tried against it, on the quicker task."""
    import lost_runs as script

    task, label = results.parent.name, "SPPO, centered"
    algo, settings = script.variants(task)[label]
    yield from control_run(results, work / "lost_runs", task, script.EPISODES, settings, algo, label=label)


def causes(results: Path, work: Path) -> Iterator[Check]:
    """The longest runs, whose ends lie closest together."""
    import causes as script

    study, label = script.STUDIES[results.parent.name], "SPPO, tuned"
    algo, settings = study.variants[label]
    folder, evaluated, episodes = work / "causes", script.EVALUATION_EPISODES, study.episodes
    yield from control_run(results, folder, study.task, episodes, settings, algo, evaluated, label, episodes)


def control_claims(results: Path, work: Path) -> Iterator[Check]:
    """The claims follow from the committed comparison."""
    import control_claims as script

    script.main(["--out", str(work / "control_claims.json")])
    equal = read_json(work / "control_claims.json") == read_json(results)
    yield same("drawn up anew from the comparisons: the same", 1.0, float(equal))


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
    with torch_threads(committed["threads"]):
        ours = script.make_sppo(env_id, copies, minibatches, epochs)
        theirs = script.make_sb3(env_id, copies, horizon, minibatches, epochs)
        budgets = [int(script.rate(model, env_id, copies * horizon) * 1.5) for model in (ours, theirs)]
        ratios = [script.rate(ours, env_id, budgets[0]) / script.rate(theirs, env_id, budgets[1]) for _ in range(3)]
    yield fast(f"speed beside SB3, {row['minibatches_x_epochs']}", row["ratio_median"], statistics.median(ratios))


def critic_cost(results: Path, work: Path) -> Iterator[Check]:
    """One task, one schedule, three pairs."""
    import critic_cost as script

    row = read_json(results)["rows"][0]
    with torch_threads(1):
        found = statistics.median(script.ratios(row["env"], *script.SCHEDULES[row["minibatches_x_epochs"]], 1.0, 3))
    yield fast(f"speed beside PPO, {row['minibatches_x_epochs']}", 1.0 / row["sppo_time_over_ppo_time"], 1.0 / found)


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
