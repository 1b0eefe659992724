"""What a folder's results are made of when a comparison is asked for in parts, and what its failed runs say."""

from __future__ import annotations

import json

import gymnasium as gym
import numpy as np
import pytest

from sppo_rl.callbacks import EvaluationCallback
from sppo_rl.zoo import compare as command
from sppo_rl.zoo.cli import main
from sppo_rl.zoo.results import read_references, read_results
from sppo_rl.zoo.worker import RESULT, measure

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

    monkeypatch.setattr(command, "do_all", do_all)
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
