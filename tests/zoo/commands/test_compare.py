"""Comparisons: what a folder's results are made of when it is asked for in parts, what failed runs say, and that a killed one goes on."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time

import gymnasium as gym
import numpy as np
import pytest

from sppo_rl.callbacks import EvaluationCallback, read_evaluations
from sppo_rl.zoo.cli import main
from sppo_rl.zoo.parallel import comparison
from sppo_rl.zoo.parallel.worker import RESULT, ROWS, measure
from sppo_rl.zoo.results.rows import read_references, read_results
from sppo_rl.zoo.running.runs import RunSpec, run

CARTPOLE = "sppo_rl/PrecisionCartPole200-v0"
PENDULUM = "sppo_rl/Pendulum-v0"
CELLS = {"seconds": "1.0", "success": "0.5", "greedy_success": "0.75", "mean_return": "20.0", "greedy_mean_return": "30.0"}


@pytest.fixture
def done(monkeypatch):
    """Jobs are done at once, with made-up evaluations; the list of their folders."""
    folders = []

    def do_all(jobs, processes, console, finished):
        for job in jobs:
            job.prepare()
            if job.result is not None:
                continue
            folders.append(job.folder)
            result = {"status": "done"}
            if job.settings["kind"] != "run":
                result |= {"success": 0.0, "greedy_success": 0.1, "episodes": 500}
            elif job.settings["algo"] == "grpo":
                result = {"status": "failed", "error": "losses are NaN"}
            else:
                lines = [EvaluationCallback.COLUMNS, [CELLS.get(name, "10") for name in EvaluationCallback.COLUMNS]]
                (job.folder / "evaluations.csv").write_text("".join(",".join(line) + "\n" for line in lines))
            (job.folder / RESULT).write_text(json.dumps(result))
            finished(job, "")

    monkeypatch.setattr(comparison, "do_all", do_all)
    return folders


def words(folder, *algos, env=CARTPOLE, seeds=1, episodes=100):
    return [
        *("compare", "--env", env, "--algos", *algos, "--seeds", str(seeds)),
        *("--episodes", str(episodes), "--jobs", "1", "-o", str(folder)),
    ]


def runs(folder):
    return [(row["env"], row["algo"], row["seed"]) for row in read_results(folder)]


def test_results_are_those_of_all_runs_of_the_folder(tmp_path, done, capsys):
    assert main(words(tmp_path, "sppo", "ppo", seeds=2)) == 0
    assert main(words(tmp_path, "sb3-ppo")) == 0
    assert "4 more runs were done before" in capsys.readouterr().out
    expected = [("sb3-ppo", 0), ("sppo", 0), ("ppo", 0), ("sppo", 1), ("ppo", 1)]
    assert runs(tmp_path) == [(CARTPOLE, *run) for run in expected]
    table = (tmp_path / "table.md").read_text()
    assert "| SPPO | 2 |" in table
    assert "| PPO (SB3) | 1 |" in table
    # another task, with references of its own
    assert main(words(tmp_path, "sppo", env=PENDULUM)) == 0
    assert len(runs(tmp_path)) == 6
    assert set(read_references(tmp_path)) == {CARTPOLE, PENDULUM}
    before = len(done)
    assert main(words(tmp_path, "sppo")) == 0
    assert (len(done), len(runs(tmp_path))) == (before, 6)


def test_seeds_may_be_shared_among_machines(tmp_path, done):
    assert main([*words(tmp_path / "here", "sppo", seeds=2), "--first-seed", "3"]) == 0
    assert runs(tmp_path / "here") == [(CARTPOLE, "sppo", 3), (CARTPOLE, "sppo", 4)]


def test_runs_of_another_length_are_left_out_and_named(tmp_path, done, capsys):
    assert main(words(tmp_path, "ppo", episodes=300)) == 0
    assert main(words(tmp_path, "sppo")) == 0
    assert runs(tmp_path) == [(CARTPOLE, "sppo", 0)]
    said = capsys.readouterr().out
    assert f"1 runs in the folder were done with other settings (PPO, {CARTPOLE}, seed 0: episodes = 300)" in said


def test_a_failed_run_says_how_it_is_tried_again(tmp_path, done):
    assert main(words(tmp_path, "grpo")) == 1
    result = tmp_path / "runs" / "sppo_rl-PrecisionCartPole200-v0" / "grpo" / "seed_0" / RESULT
    line = f"- GRPO, {CARTPOLE}, seed 0: losses are NaN (to try it again, delete {result})\n"
    assert line in (tmp_path / "table.md").read_text()
    # it stays in the table when others are asked for, whose status is their own
    assert main(words(tmp_path, "sppo")) == 0
    table = (tmp_path / "table.md").read_text()
    assert line in table
    assert "| GRPO | 0 (1 failed) |" in table
    tried = len(done)
    result.unlink()
    assert main(words(tmp_path, "grpo")) == 1
    assert len(done) == tried + 1


@pytest.mark.parametrize(("kept", "count"), [(0, None), (1, None), (1.5, None), (1, 2), (1.5, 2), (2, 3)])
@pytest.mark.parametrize("asked", ["sppo", "ppo"])
def test_a_finished_run_that_has_lost_evaluations_is_named(asked, kept, count, tmp_path, done, capsys):
    """Whether it is asked for or lies in the folder; runs from before evaluations were counted are known by how the file ends."""
    assert main(words(tmp_path, "sppo")) == 0
    folder = tmp_path / "runs" / "sppo_rl-PrecisionCartPole200-v0" / "sppo" / "seed_0"
    header, line = (folder / "evaluations.csv").read_text().splitlines(keepends=True)
    text = header + 2 * line
    (folder / "evaluations.csv").write_text(text[: int(len(header) + (kept - 1) * len(line))] if kept else "")
    (folder / RESULT).write_text(json.dumps({"status": "done"} | ({} if count is None else {ROWS: count})))
    before = len(done)
    whole = (kept, count) == (2, None)
    assert main(words(tmp_path, asked)) == (0 if whole else 1)
    if not whole:
        said = capsys.readouterr().err
        assert str(folder / "evaluations.csv") in said
        assert f"or delete {folder}, and the same command" in said
        assert len(done) == before


def test_a_second_comparison_in_a_folder_is_refused(tmp_path, done, capsys):
    other = [*("compare-llm", "--config", "chain_sum_tiny", "--algos", "sppo", "-o"), str(tmp_path)]
    with comparison.alone_in(tmp_path):
        for given in (words(tmp_path, "sppo"), other):
            assert main(given) == 1
            assert (
                f"Another process is at work on the comparison in {tmp_path}. Wait until it has ended, or choose another folder with -o."
                in capsys.readouterr().err
            )
        assert [path.name for path in tmp_path.iterdir()] == ["compare.lock"]
    assert main(words(tmp_path, "sppo")) == 0
    assert not (tmp_path / "compare.lock").exists()


def test_what_is_named_twice_is_done_once(tmp_path, done, capsys):
    assert main([*words(tmp_path, "sppo", "ppo", "sppo"), "--env", CARTPOLE, PENDULUM, CARTPOLE]) == 0
    assert "4 runs of" in capsys.readouterr().out
    assert len(done) == len(set(done)) == 4 + 4, "runs and references"
    assert runs(tmp_path) == [(env, algo, 0) for env in (CARTPOLE, PENDULUM) for algo in ("sppo", "ppo")]


def test_two_ids_of_one_folder_are_refused(tmp_path, done, capsys):
    assert main([*words(tmp_path, "sppo"), "--env", CARTPOLE, f"sppo_rl.envs:{CARTPOLE}"]) == 1
    said = capsys.readouterr().err
    assert f"{CARTPOLE}' and " in said
    assert f"sppo_rl.envs:{CARTPOLE}' would work in the same folder" in said
    assert not list(tmp_path.iterdir())


def test_a_refused_comparison_leaves_nothing_behind(tmp_path, done, capsys):
    assert main(words(tmp_path, "sppo")) == 0
    before = sorted(tmp_path.rglob("*")), (tmp_path / "provenance.json").read_text()
    assert main(words(tmp_path, "ppo", "sppo", seeds=2, episodes=300)) == 1
    assert "was made with episodes = 100, and now it is 300" in capsys.readouterr().err
    assert (sorted(tmp_path.rglob("*")), (tmp_path / "provenance.json").read_text()) == before
    assert main(words(tmp_path, "ppo", "sppo", seeds=2)) == 0
    assert len(runs(tmp_path)) == 4


def test_messages_are_no_markup(tmp_path, monkeypatch, capsys):
    def do_all(jobs, processes, console, finished):
        finished(jobs[-1], "exit code 1: cannot open [/usr/lib/x]")

    monkeypatch.setattr(comparison, "do_all", do_all)
    folder = tmp_path / "[b]"
    assert main(words(folder, "sppo")) == 1
    said = capsys.readouterr().out
    assert f"SPPO, {CARTPOLE}, seed 0: exit code 1: cannot open [/usr/lib/x]\n" in said
    assert f"Table, CSV and plot are in {folder}: " in said


class Words(gym.Env):
    observation_space = gym.spaces.Dict(a=gym.spaces.Box(-1.0, 1.0, (2,)), b=gym.spaces.Discrete(3))
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return {"a": np.zeros(2, np.float32), "b": 1}, {}

    def step(self, action):
        return self.reset()[0], 0.5, True, False, {}


def test_untrained_networks_are_measured_on_dictionaries_too(monkeypatch):
    monkeypatch.setitem(gym.registry, "Words-v0", gym.envs.registration.EnvSpec("Words-v0", Words))
    found = measure("Words-v0", "untrained", 10, 0)
    assert (found["mean_return"], found["greedy_mean_return"], found["episodes"]) == (0.5, 0.5, 10)
    assert np.isnan(found["success"])


# ------------------------------------------------------------------ compare

COMPARISON = [
    "compare", "--env", CARTPOLE, "--algos", "sppo", "ppo", "sb3-ppo", "--seeds", "1", "--episodes", "800", "--eval-every", "100",
    "--eval-episodes", "5", "--no-prior", "--jobs", "1", "--hyperparams", "sppo.n_episodes=8", "sb3-ppo.n_envs=4",
    "sb3-ppo.n_steps=100", "sb3-ppo.batch_size=400", "ppo.learning_rate=1e38",
]  # fmt: skip


def without_clock(path):
    return [{**row, "seconds": 0} for row in read_evaluations(path)]


def test_each_algorithm_has_its_own_file_in_a_folder(tmp_path, monkeypatch):
    for algo, n_episodes in (("sppo", 3), ("ppo", 5)):
        (tmp_path / f"{algo}.yml").write_text(f"{CARTPOLE}: {{n_episodes: {n_episodes}}}\n")
    seen = []
    monkeypatch.setattr("sppo_rl.zoo.commands.compare.compare", lambda specs, *more, **options: seen.extend(specs) or 0)
    words = ["compare", "--env", CARTPOLE, "--algos", "sppo", "ppo", "--seeds", "1", "-params", "ppo.n_epochs=2"]
    assert main([*words, "--conf-file", str(tmp_path), "-o", str(tmp_path / "out")]) == 0
    assert [spec.hyperparameters().kwargs for spec in seen] == [{"n_episodes": 3}, {"n_episodes": 5, "n_epochs": 2}]


def test_a_killed_comparison_goes_on_where_it_was_and_gives_the_same_results(tmp_path, capsys):
    folder = tmp_path / "comparison"
    run_folder = folder / "runs" / "sppo_rl-PrecisionCartPole200-v0" / "sppo" / "seed_0"
    process = subprocess.Popen(
        [sys.executable, "-m", "sppo_rl.zoo.cli", *COMPARISON, "-o", str(folder)], stdout=subprocess.DEVNULL
    )
    evaluations = run_folder / "evaluations.csv"
    deadline = time.monotonic() + 120
    while not (
        evaluations.exists() and len(evaluations.read_text().splitlines()) > 3 and list(run_folder.glob("checkpoints/*.zip"))
    ):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.5)
    killed = evaluations.read_text()
    assert not (run_folder / "result.json").exists()
    time.sleep(0.5)
    # the worker ended with its parent
    assert evaluations.read_text() == killed

    # PPO's learning rate makes its run fail, which the status says, and no other run minds
    assert main([*COMPARISON, "-o", str(folder)]) == 1
    assert "1 of 4 jobs done before" in capsys.readouterr().out
    for algo, overrides in (("sppo", {"n_episodes": 8}), ("sb3-ppo", {"n_envs": 4, "n_steps": 100, "batch_size": 400})):
        spec = RunSpec(algo, CARTPOLE, episodes=800, prior=False, overrides=overrides, eval_every=100, eval_episodes=5)
        run(spec, tmp_path / algo)
        ours = folder / "runs" / "sppo_rl-PrecisionCartPole200-v0" / algo / "seed_0" / "evaluations.csv"
        assert without_clock(ours) == without_clock(tmp_path / algo / "evaluations.csv")
    assert json.loads((run_folder / RESULT).read_text()) == {"status": "done", ROWS: 9}
    kept = read_evaluations(evaluations)
    assert kept[1]["seconds"] == float(killed.splitlines()[2].split(",")[2])  # resumed, not repeated
    assert {path.name for path in folder.iterdir()} == {
        "runs",
        "results.csv",
        "summary.csv",
        "references.csv",
        "provenance.json",
        "table.md",
        "plot.png",
    }
    table = (folder / "table.md").read_text()
    assert "| SPPO | 1 | 0." in table
    assert "| PPO (SB3) | 1 | 0." in table
    assert "| PPO | 0 (1 failed) | –" in table
    assert re.search(r"- PPO, .*seed 0: .*(finite|NaN)", table)

    # everything is done: nothing is run again, and other settings are refused
    stamp = evaluations.stat().st_mtime_ns
    assert main([*COMPARISON, "-o", str(folder)]) == 1
    assert "4 of 4 jobs done before" in capsys.readouterr().out
    assert evaluations.stat().st_mtime_ns == stamp
    assert main(["plot", str(folder), "--x", "seconds"]) == 0
    assert (folder / "plot_seconds.png").exists()
    capsys.readouterr()
    for given, written in (
        (tmp_path, "plot_episodes.png"),
        (tmp_path / "outdir", "outdir.png"),
        (tmp_path / "x.svg", "x.svg"),
    ):
        assert main(["plot", str(folder), "-o", str(given)]) == 0
        assert capsys.readouterr().out == f"Written: {tmp_path / written}\n"
        assert (tmp_path / written).is_file()
    changed = ["400" if word == "800" else word for word in COMPARISON]
    assert main([*changed, "-o", str(folder)]) == 1
    assert "was made with episodes = 800, and now it is 400" in capsys.readouterr().err
