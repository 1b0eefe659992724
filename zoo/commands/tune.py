"""Search hyperparameters with Optuna: the same budget and the same search space for every algorithm, as far as they share it.

  sppo-rl tune --algo sppo --env sppo_rl/MountainCar-v0 --trials 20 --episodes 500
  sppo-rl tune --algo sb3-ppo --env sppo_rl/MountainCar-v0 --trials 20 --episodes 500
  sppo-rl tune --algo sppo --env sppo_rl/MountainCar-v0 --trials 40 --episodes 500 --write

A trial trains from the prior (if there is one) with each of a few seeds, for so many episodes; its value is the success at the end (the
mean return where a task reports no success), sampled actions, mean over the seeds. The first trial is the file's own settings. A trial
whose losses become NaN is pruned. The study is kept in <output>/<env>/<algo>.log: the same command, given again after a kill or with more
--trials, does what is left; a second process on it is refused. --write puts the best settings into the algorithm's file (the package's, or
that of --conf-file), with the study's figures as a comment. The space is in zoo/settings/search.py. The best value of many trials flatters:
compare on other seeds before believing it.
"""

from __future__ import annotations

import argparse
import json
import shlex
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch as th
import yaml

from sppo_rl.atomic import write_atomically
from sppo_rl.callbacks import EvaluationCallback
from sppo_rl.zoo.commands import options
from sppo_rl.zoo.names import LABELS, UsageError, file_name
from sppo_rl.zoo.results import provenance
from sppo_rl.zoo.results.rows import reports_success
from sppo_rl.zoo.running.folders import alone
from sppo_rl.zoo.running.models import build_model
from sppo_rl.zoo.running.runs import RunSpec, learn_the_rest
from sppo_rl.zoo.settings.files import with_entry
from sppo_rl.zoo.settings.hyperparameters import entry_key, file_of, read_entry, read_file
from sppo_rl.zoo.settings.search import (
    PARAMETERS,
    as_hyperparameters,
    space_of,
    starting_point,
    suggest,
    suggest_starting_point,
)

if TYPE_CHECKING:
    import optuna

SETTINGS_BEFORE = "settings_before"
"""Attribute of the trial whose settings are the file's."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Add the options.

    :param parser: of this command
    """
    parser.add_argument("--algo", default="sppo", metavar="NAME", help=f"{options.algorithms_help()} (default sppo)")
    options.add_env(parser)
    parser.add_argument("--trials", type=int, default=20, metavar="N", help="in all, those done before included (default 20)")
    parser.add_argument("--episodes", type=int, required=True, metavar="N", help="length of each training run")
    parser.add_argument("--seeds", type=int, default=2, metavar="N", help="runs of a trial, seeds 0 to N-1 (default 2)")
    parser.add_argument("--eval-episodes", type=int, default=200, metavar="N", help="episodes that judge a run (default 200)")
    options.add_prior_choice(parser)
    options.add_conf_file(parser)
    parser.add_argument("--output", "-o", type=Path, default=Path("tuning"), metavar="DIR", help="default: tuning")
    parser.add_argument("--write", action="store_true", help="put the best settings into the hyperparameter file")


def run(arguments: argparse.Namespace) -> int:
    """
    Tune.

    :param arguments: parsed
    :raises UsageError: if the options make no sense
    :raises ValueError: if every trial failed
    """
    if arguments.trials < 1 or arguments.seeds < 1:
        raise UsageError(f"--trials and --seeds must be at least 1, got {arguments.trials} and {arguments.seeds}.")
    th.set_num_threads(1)
    entry_before = read_entry(arguments.algo, arguments.env, arguments.conf_file)
    specs = [
        RunSpec(
            algo=arguments.algo,
            env_id=arguments.env,
            seed=seed,
            episodes=arguments.episodes,
            prior=arguments.prior,
            entry=entry_before,
            eval_every=arguments.episodes,
            eval_episodes=arguments.eval_episodes,
        ).check()
        for seed in range(arguments.seeds)
    ]
    target = file_of(arguments.algo, arguments.conf_file)
    key = entry_key(read_file(arguments.algo, arguments.conf_file), arguments.env)
    if arguments.write:
        # what cannot be written is said before hours of training
        with_entry(target.read_text(encoding="utf-8"), key, specs[0].hyperparameters().as_dict(), "")
    path = arguments.output / file_name(arguments.env) / f"{arguments.algo}.log"
    study = tune(specs, arguments.trials, path)
    write_atomically(path.with_suffix(".csv"), study.trials_dataframe().to_csv(index=False))
    if not any(trial.value is not None for trial in study.trials):
        raise ValueError("every trial failed; their errors are in " + str(path.with_suffix(".csv")))
    entry, note = best_entry(study, specs[0])
    print(f"\n{note}\n\n{yaml.safe_dump({arguments.env: entry}, sort_keys=False)}")
    if arguments.write:
        write_atomically(target, with_entry(target.read_text(encoding="utf-8"), key, entry, note))
        print(f"Written: {target}")
    return 0


def tune(specs: list[RunSpec], trials: int, path: Path) -> optuna.Study:
    """
    Do what is left of a study.

    :param specs: the runs of a trial, which differ in their seed
    :param trials: in all
    :param path: of its journal
    :return: the study
    :raises UsageError: if the journal is that of a study with another budget, or with other settings that are not searched; or if another
        process is at work on it
    """
    # a second process would take the trial that is going on for one of a process that was killed
    with alone(path.with_suffix(".lock"), f"the study in {path}", "sppo-rl tune", ", or choose another folder with -o"):
        study = _study_in(path, specs)
        done = len(_counted(study))
        print(f"{LABELS[specs[0].algo]} on {specs[0].env_id}: {done} of {trials} trials done before; {path}")
        study.optimize(lambda trial: _do_trial(trial, specs), n_trials=max(trials - done, 0))
        return study


def _study_in(path: Path, specs: list[RunSpec]) -> optuna.Study:
    """The study of a journal, or a new one, ready to go on: the file's own settings come first."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    study = optuna.create_study(storage=storage, study_name="tune", direction="maximize", load_if_exists=True)
    _same_budget(study, specs, path)
    states = optuna.trial.TrialState
    for trial in study.get_trials(states=(states.RUNNING,)):
        # of a process that was killed; its place is free again
        study.tell(trial.number, state=states.FAIL)
    if not _counted(study) and not study.get_trials(states=(states.WAITING,)):
        settings = specs[0].hyperparameters().as_dict()
        study.enqueue_trial(starting_point(specs[0].algo, settings), user_attrs={SETTINGS_BEFORE: True})
    # a sampler that began with the same seed would draw the first trials again
    study.sampler = optuna.samplers.TPESampler(seed=len(study.trials), n_startup_trials=10)
    return study


def _counted(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """The trials that count for the budget: not those that were killed, nor that which is waiting."""
    return [trial for trial in study.trials if trial.state.name in ("COMPLETE", "PRUNED")]


def _do_trial(trial: optuna.Trial, specs: list[RunSpec]) -> float:
    """Draw, train with each seed, and judge."""
    import optuna

    overrides = _draw(trial, specs[0])
    trial.set_user_attr("hyperparameters", overrides)
    rows = []
    for spec in specs:
        try:
            rows.append(_last_evaluation(replace(spec, overrides=overrides)))
        except ValueError as error:
            trial.set_user_attr("error", str(error))
            print(f"trial {trial.number}: pruned: {error}", flush=True)
            raise optuna.TrialPruned(str(error)) from error
    # a seed without success may say nothing of it
    measure = "success" if reports_success(rows) else "return"
    values = [row["mean_return"] if measure == "return" else float(np.nan_to_num(row["success"])) for row in rows]
    seconds = sum(row["seconds"] for row in rows)
    trial.set_user_attr("successes" if measure == "success" else "returns", values)
    trial.set_user_attr("seconds", round(seconds, 2))
    value = sum(values) / len(values)
    print(f"trial {trial.number}: {measure} {value:.3f}, {seconds:.1f} s of training; {overrides or 'defaults'}", flush=True)
    return value


def _draw(trial: optuna.Trial, spec: RunSpec) -> dict[str, Any]:
    settings = spec.hyperparameters().as_dict()
    if trial.user_attrs.get(SETTINGS_BEFORE):
        # as they are: some may lie outside the space
        suggest_starting_point(trial, spec.algo, settings)
        return spec.hyperparameters().kwargs
    return as_hyperparameters(spec.algo, suggest(trial, spec.algo, settings), settings)


def best_trial(study: optuna.Study) -> optuna.trial.FrozenTrial:
    """
    Give the trial with the highest value. Some tasks say nothing of failures: trials that saw no success were judged by the return, and
    stand behind those that saw some.

    :param study: of one algorithm
    :raises ValueError: if no trial was completed
    """
    done = [trial for trial in study.trials if trial.value is not None]
    return max([trial for trial in done if "successes" in trial.user_attrs] or done, key=lambda trial: trial.value or 0.0)


def best_entry(study: optuna.Study, spec: RunSpec) -> tuple[dict[str, Any], str]:
    """
    Give the best trial as an entry of the algorithm's file.

    :param study: with at least one finished trial
    :param spec: one of a trial's runs
    :return: the entry, and a line about the study
    """
    best = best_trial(study)
    entry = {**spec.hyperparameters().as_dict(), **best.user_attrs["hyperparameters"]}
    measure = "return" if "returns" in best.user_attrs else "success"
    seeds = study.user_attrs["budget"]["seeds"]
    states = [trial.state.name for trial in study.trials]
    before = next(
        (trial.value for trial in study.trials if trial.user_attrs.get(SETTINGS_BEFORE) and trial.value is not None), None
    )
    # killed and failed trials have numbers too
    counted = [trial.number for trial in _counted(study)]
    words = ["sppo-rl", "tune", "--algo", spec.algo, "--env", spec.env_id]
    words += ["--trials", str(len(counted)), "--episodes", str(spec.episodes)]
    words += ["--seeds", str(seeds), "--eval-episodes", str(spec.eval_episodes)]
    words += [] if spec.prior is None else ["--from-prior" if spec.prior else "--no-prior"]
    return entry, (
        f"{shlex.join(words)}, {provenance.describe()['date']}: trial {counted.index(best.number)}, {measure} {best.value:.3f}; "
        f"the settings before {'failed' if before is None else f'{before:.3f}'}; {states.count('PRUNED')} pruned"
    )


def _last_evaluation(spec: RunSpec) -> dict[str, float]:
    """Train; the evaluation at the end, which is that of a whole run (evaluations leave a run as it is)."""
    # others would take most of a trial's time and decide nothing
    judge = EvaluationCallback(
        spec.env_id,
        every=None,
        n_episodes=spec.eval_episodes,
        seed=spec.eval_seed,
        stop_after_episodes=spec.episodes,
        greedy=False,
    )
    model, _ = build_model(
        spec.algo, spec.env_id, spec.hyperparameters(), seed=spec.seed, prior=spec.prior, device=spec.device
    )
    assert model.env is not None
    with closing(model.env):
        learn_the_rest(model, spec.total_timesteps, judge, [], log_interval=10)
    return judge.rows[-1]


def _same_budget(study: optuna.Study, specs: list[RunSpec], path: Path) -> None:
    """
    A study has one budget, one space, and one value for each setting that is not searched; budget and values are written down when it
    begins.
    """
    spec = specs[0]
    settings = spec.hyperparameters().as_dict()
    space = space_of(spec.algo, settings)
    without = (*space, "batch_size", "n_timesteps")
    # what other algorithms search is written down where the file lacks it, too: older studies say nothing of it
    elsewhere = {f"{name} in the file": settings.get(name) for name in PARAMETERS if name not in without}
    fixed = elsewhere | {f"{name} in the file": value for name, value in settings.items() if name not in without}
    budget = {
        "episodes": spec.episodes,
        "prior": spec.prior,
        "eval_episodes": spec.eval_episodes,
        "seeds": len(specs),
        **fixed,
    }
    budget = json.loads(json.dumps(budget, default=str))  # as the journal gives it back
    earlier = study.user_attrs.get("budget", budget)
    for key in {**earlier, **budget}:
        unknown = key in elsewhere and key not in earlier
        if earlier.get(key) != budget.get(key) and not unknown:
            raise UsageError(
                f"The study in {path} was made with {key} = {earlier.get(key)}, and now it is {budget.get(key)}. Choose another folder "
                "with -o, or delete it."
            )
    for trial in study.trials:
        for name, drawn in trial.distributions.items():
            if drawn != space.get(name, drawn):
                raise UsageError(
                    f"The study in {path} draws {name} from {_values(drawn)}, and now it is drawn from {_values(space[name])}. Choose "
                    "another folder with -o, or delete it."
                )
    study.set_user_attr("budget", budget)


def _values(of: Any) -> str:
    return ", ".join(map(str, of.choices)) if hasattr(of, "choices") else f"{of.low} to {of.high}"
