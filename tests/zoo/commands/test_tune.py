"""Tuning: a study resumes and keeps to its budget, a broken trial is pruned, and what was found goes into the file."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
import yaml

from sppo_rl.evaluation import evaluate
from sppo_rl.zoo.cli import main
from sppo_rl.zoo.commands import tune as command
from sppo_rl.zoo.running import folders
from sppo_rl.zoo.running.runs import RunSpec
from sppo_rl.zoo.running.runs import run as train_run
from sppo_rl.zoo.settings.hyperparameters import check_keys, read_file

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
RESULTS, HYPERPARAMETERS = BENCHMARKS / "results" / "tuned_comparison", BENCHMARKS / "hyperparams"
CARTPOLE = "sppo_rl/PrecisionCartPole200-v0"


def words(tmp_path, trials, *more):
    own = tmp_path / "own.yml"
    if not own.exists():
        tmp_path.mkdir(exist_ok=True)
        own.write_text(f"{CARTPOLE}: {{n_timesteps: 9, n_episodes: 64, learning_rate: 0.002}}\n")
    budget = ("--trials", str(trials), "--episodes", "4", "--seeds", "2", "--eval-episodes", "3", "-o", str(tmp_path))
    return ["tune", "--algo", "sppo", "--env", CARTPOLE, "--conf-file", str(own), *budget, *more]


def trials_of(path):
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    return optuna.load_study(study_name="tune", storage=storage).trials


@pytest.fixture
def scripted(monkeypatch):
    """Runs whose success is made up: .5 and .7 with the file's settings, .1 more in every later trial; the third breaks."""
    seen = []

    def evaluation(spec):
        seen.append(spec)
        if len(seen) == 5:
            raise ValueError("train/policy_gradient_loss is nan")
        return {"success": 0.5 + 0.2 * spec.seed + 0.05 * (len(seen) // 3), "seconds": 1.0}

    monkeypatch.setattr(command, "_last_evaluation", evaluation)
    return seen


def test_a_study_resumes_prunes_what_breaks_and_has_one_budget(tmp_path, scripted, capsys):
    assert main(words(tmp_path, 2)) == 0
    assert [spec.seed for spec in scripted] == [0, 1, 0, 1]
    # the file's settings first
    assert scripted[0].hyperparameters() == replace(scripted[0], overrides={}).hyperparameters()
    assert scripted[2].overrides != scripted[0].overrides
    assert main(words(tmp_path, 4)) == 0
    out = capsys.readouterr().out
    assert "2 of 4 trials done before" in out
    assert "pruned: train/policy_gradient_loss is nan" in out
    # trial 2 broke at its first seed, trial 3 had two
    assert len(scripted) == 4 + 1 + 2
    drawn = [spec.overrides for spec in (scripted[0], scripted[2], scripted[4], scripted[5])]
    assert all(drawn[i] != drawn[j] for i in range(4) for j in range(i)), "a resumed sampler does not repeat itself"
    assert re.search(r"trial 3, success 0\.7\d\d; the settings before 0\.600; 1 pruned", out)
    assert main(words(tmp_path, 4, "--no-prior")) == 1
    assert "was made with prior = None, and now it is False" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("algo", "entry", "inside"),
    [
        # the constructor's own defaults: 10 epochs, 32 minibatches
        (
            "sb3-ppo",
            {},
            {"learning_rate", "clip_range", "ent_coef", "max_grad_norm", "vf_coef", "gae_lambda", "normalize_advantage"},
        ),
        (
            "sppo",
            {"clip_range": 0.25, "learning_rate": "lin_1e-3", "n_episodes": 12, "batch_size": 5},
            {"n_epochs", "ent_coef"},
        ),
    ],
)
def test_a_study_begins_with_settings_outside_its_space_as_they_are(algo, entry, inside, tmp_path, monkeypatch, capsys):
    seen = []

    def evaluation(spec):
        seen.append(spec)
        return {"success": 0.9 if len(seen) == 1 else 0.1, "seconds": 1.0}

    monkeypatch.setattr(command, "_last_evaluation", evaluation)
    own = tmp_path / "own.yml"
    own.write_text(yaml.safe_dump({"CartPole-v1": entry}))
    budget = ["--trials", "2", "--episodes", "4", "--seeds", "1", "-o", str(tmp_path)]
    assert main(["tune", "--algo", algo, "--env", "CartPole-v1", "--conf-file", str(own), *budget]) == 0
    before = RunSpec(algo, "CartPole-v1", entry=entry).hyperparameters()
    assert seen[0].hyperparameters() == before
    path = tmp_path / "CartPole-v1" / f"{algo}.log"
    first, second = trials_of(path)
    # the sampler is told of what lies in the space, and of nothing else
    assert inside <= set(first.params) < set(second.params)
    assert not {"n_minibatches", "learning_rate" if entry else "n_epochs"} & set(first.params)
    assert first.user_attrs["hyperparameters"] == before.kwargs
    # the best is the file's
    printed = capsys.readouterr().out
    assert yaml.safe_load(printed[printed.index("\nCartPole-v1:") :]) == {"CartPole-v1": before.as_dict()}


def test_a_study_keeps_what_is_not_searched(tmp_path, scripted, capsys):
    assert main(words(tmp_path, 1)) == 0
    own = tmp_path / "own.yml"
    text = own.read_text(encoding="utf-8")
    # where a study begins may change: what is searched is drawn anew
    own.write_text(text.replace("learning_rate: 0.002", "learning_rate: 0.004"), encoding="utf-8")
    assert main(words(tmp_path, 2)) == 0
    own.write_text(text.replace("n_episodes: 64", "n_episodes: 32"), encoding="utf-8")
    assert main(words(tmp_path, 2)) == 1
    assert "was made with n_episodes in the file = 64, and now it is 32" in capsys.readouterr().err


def test_what_other_algorithms_search_is_kept_too(tmp_path, scripted, capsys):
    assert main(words(tmp_path, 1)) == 0
    own = tmp_path / "own.yml"
    text = own.read_text(encoding="utf-8")
    mixture = text.replace("learning_rate", "hybrid: 0.5, gae_lambda: 0.95, learning_rate")
    own.write_text(mixture, encoding="utf-8")
    assert main(words(tmp_path, 2)) == 1
    assert "was made with gae_lambda in the file = None, and now it is 0.95" in capsys.readouterr().err
    # a study from before this was written down says nothing of it, and learns it now
    path = tmp_path / "other" / "sppo_rl-PrecisionCartPole200-v0" / "sppo.log"
    assert main(words(tmp_path, 1, "-o", str(tmp_path / "other"))) == 0
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    study = optuna.load_study(study_name="tune", storage=storage)
    budget = study.user_attrs["budget"]
    assert budget.pop("gae_lambda in the file") == 0.95
    assert budget.pop("vf_coef in the file") is None
    study.set_user_attr("budget", budget)
    assert main(words(tmp_path, 2, "-o", str(tmp_path / "other"))) == 0
    own.write_text(mixture.replace("0.95", "1.0"), encoding="utf-8")
    assert main(words(tmp_path, 3, "-o", str(tmp_path / "other"))) == 1
    assert "was made with gae_lambda in the file = 0.95, and now it is 1.0" in capsys.readouterr().err


def test_an_update_that_no_group_divides_is_refused_before_the_first_trial(tmp_path, capsys):
    tmp_path.joinpath("own.yml").write_text(f"{CARTPOLE}: {{n_episodes: 6}}\n")
    assert main([*words(tmp_path, 1), "--algo", "grpo"]) == 1
    assert "n_episodes must be a multiple of group_size, got 6: none of the sizes that are searched (4, 8) divides it" in (
        capsys.readouterr().err
    )


def test_a_study_of_a_wider_space_is_not_continued(tmp_path, monkeypatch, capsys):
    """One that drew what cannot be: Optuna would refuse without saying what it is about."""
    monkeypatch.setattr(command, "_last_evaluation", lambda spec: {"success": 0.5, "seconds": 1.0})
    tmp_path.joinpath("own.yml").write_text(f"{CARTPOLE}: {{n_episodes: 12, group_size: 4}}\n")
    own = [*words(tmp_path, 2), "--algo", "grpo"]
    with monkeypatch.context() as before:
        before.setattr("sppo_rl.zoo.settings.search._group_sizes", lambda algo, settings: (4, 8))
        assert main(own) == 0
    assert main([*own, "--trials", "3"]) == 1
    assert "draws group_size from 4, 8, and now it is drawn from 4. Choose another folder" in capsys.readouterr().err


def test_a_task_without_success_is_tuned_by_its_mean_return(tmp_path, monkeypatch, capsys):
    def evaluation(spec):
        return {"success": float("nan"), "mean_return": 100.0 + 20.0 * spec.seed, "seconds": 1.0}

    monkeypatch.setattr(command, "_last_evaluation", evaluation)
    assert main(words(tmp_path, 2, "--write")) == 0
    out = capsys.readouterr().out
    assert "trial 0: return 110.000" in out
    assert "return 110.000; the settings before 110.000" in " ".join((tmp_path / "own.yml").read_text().split())


def test_a_trial_without_success_stands_behind_those_with_some(tmp_path, monkeypatch, capsys):
    """The task reports success where it is true: returns of 500 are failures."""
    rows = iter([(math.nan, 500.0), (0.25, 600.0), (math.nan, 700.0)])

    def evaluated(spec):
        success, mean_return = next(rows)
        return {"success": success, "mean_return": mean_return, "seconds": 1.0}

    monkeypatch.setattr(command, "_last_evaluation", evaluated)
    assert main(words(tmp_path, 3, "--seeds", "1")) == 0
    assert "trial 1, success 0.250" in " ".join(capsys.readouterr().out.split())


def test_a_killed_trial_is_done_again(tmp_path, scripted, monkeypatch):
    def killed(spec):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_last_evaluation", killed)
    assert main(words(tmp_path, 1)) == 130
    monkeypatch.undo()
    monkeypatch.setattr(command, "_last_evaluation", lambda spec: {"success": 0.5, "seconds": 1.0})
    assert main(words(tmp_path, 1)) == 0
    trials = trials_of(tmp_path / "sppo_rl-PrecisionCartPole200-v0" / "sppo.log")
    assert [trial.state.name for trial in trials] == ["FAIL", "COMPLETE"]
    assert trials[1].params["learning_rate"] == 0.002


AT_WORK = """
import sys, time
from sppo_rl.evaluation import evaluate
from sppo_rl.zoo.cli import main
from sppo_rl.zoo.commands import tune

def evaluation(spec):
    print("at work", flush=True)
    time.sleep(600)

tune._last_evaluation = evaluation
main(sys.argv[1:])
"""


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path, monkeypatch, capsys):
    process = subprocess.Popen([sys.executable, "-c", AT_WORK, *words(tmp_path, 1)], stdout=subprocess.PIPE, text=True)
    try:
        assert any(line == "at work\n" for line in process.stdout)
        monkeypatch.setattr(command, "_last_evaluation", lambda spec: {"success": 0.5, "seconds": 1.0})
        path = tmp_path / "sppo_rl-PrecisionCartPole200-v0" / "sppo.log"
        journal = path.read_bytes()
        assert main(words(tmp_path, 1)) == 1
        message = capsys.readouterr().err
        assert (
            f"Another process is at work on the study in {path}. Wait until it has ended, or choose another folder" in message
        )
        assert path.read_bytes() == journal, "the trial that is going on is not marked"
        assert main(words(tmp_path / "other", 1)) == 0
    finally:
        process.kill()
        process.communicate()
    # not even a kill leaves the lock
    assert main(words(tmp_path, 1)) == 0
    assert [trial.state.name for trial in trials_of(path)] == ["FAIL", "COMPLETE"]


def locks_fail(*given):
    raise OSError(38, "Function not implemented")


@pytest.mark.parametrize("fcntl", [None, SimpleNamespace(flock=locks_fail, LOCK_EX=2, LOCK_NB=4)])
def test_where_there_are_no_locks_a_study_is_made_all_the_same(fcntl, tmp_path, scripted, monkeypatch, capsys):
    monkeypatch.setattr(folders, "fcntl", fcntl)
    assert main(words(tmp_path, 1)) == 0
    assert ("file system without locks" in capsys.readouterr().out) == (fcntl is not None)


def test_real_runs_and_writing_to_the_file(tmp_path):
    entry = "policy: MlpPolicy\n  n_timesteps: 9\n  learning_rate: 0.002"
    text = f"# how it came about\n\n{CARTPOLE}: &defaults\n  {entry}\n\nother: # why\n  <<: *defaults\n"
    own = tmp_path / "own.yml"
    own.write_text(text)
    assert main(words(tmp_path, 2)) == 0
    assert own.read_text() == text
    assert main(words(tmp_path, 2, "--write")) == 0
    result = own.read_text()
    assert "# tuned: sppo-rl tune --algo sppo --env " in result
    assert result.startswith("# how it came about\n")
    assert "other: # why\n" in result
    table = yaml.safe_load(result)
    assert table["other"] == {"policy": "MlpPolicy", "n_timesteps": 9, "learning_rate": 0.002}
    assert {"learning_rate", "policy", "n_timesteps"} <= set(table[CARTPOLE])
    check_keys("sppo", table[CARTPOLE])


ADDED = {("sppo", "PrecisionCartPole200"): {"normalize_advantage": True}}
"""What a study of short runs did not search and long ones need; the file says why."""


@pytest.mark.parametrize("task", [path.stem for path in RESULTS.glob("*.json")])
def test_settings_that_were_found_are_those_of_the_package(task):
    found = json.loads((RESULTS / f"{task}.json").read_text())["tuned"]
    for algo, study in found.items():
        entry = read_file(algo)[f"sppo_rl/{task}-v0"]
        assert {name: entry[name] for name in study["hyperparameters"]} == study["hyperparameters"]
        start = read_file(algo, HYPERPARAMETERS)[f"sppo_rl/{task}-v0"]
        assert {**start, **study["hyperparameters"], **ADDED.get((algo, task), {})} == entry


def test_what_cannot_be_written_is_said_before_the_first_trial(tmp_path, scripted, capsys):
    own = tmp_path / "own.yml"
    own.write_text(f"{{{CARTPOLE}: {{n_episodes: 64}}, B: {{}}}}\n")
    assert main(words(tmp_path, 1, "--write")) == 1
    assert (
        f"The entry of {CARTPOLE} cannot be replaced without changing others. Edit the file by hand."
        in capsys.readouterr().err
    )
    assert scripted == []
    assert main(words(tmp_path, 1)) == 0


@pytest.mark.parametrize("algo", ["sppo", "sb3-ppo"])
def test_a_trial_is_judged_by_the_last_evaluation_of_a_whole_run_and_by_no_other(algo, tmp_path, monkeypatch):
    spec = RunSpec(algo, CARTPOLE, seed=1, episodes=128, eval_every=64, eval_episodes=30)
    _, evaluation = train_run(spec, tmp_path)
    whole = evaluation.rows[-1]
    played = []

    def counted(*args, **kwargs):
        played.append(kwargs)
        return evaluate(*args, **kwargs)

    monkeypatch.setattr("sppo_rl.callbacks.evaluate", counted)
    judged = command._last_evaluation(spec)
    assert (judged["success"], judged["mean_return"]) == (whole["success"], whole["mean_return"])
    assert 0 < judged["success"] < 1
    assert len(played) == 1
