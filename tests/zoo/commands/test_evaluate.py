"""``sppo-rl evaluate``, and what it accepts as a model: runs of both zoos, priors, agents."""

from __future__ import annotations

import re

import pytest

from sppo_rl import SPPO
from sppo_rl.zoo.cli import main
from sppo_rl.zoo.running.models import load_model
from sppo_rl.zoo.settings.hyperparameters import read_file
from sppo_rl.zoo.shipped.agent import FOLDER, load_agent

CARTPOLE = "sppo_rl/PrecisionCartPole200-v0"


def test_evaluate_prints_both_success_rates_with_intervals(capsys):
    assert main(["evaluate", "--prior", "--env", CARTPOLE, "-n", "100"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, line in zip(("sampled", "greedy"), lines[1:], strict=True):
        rate, low, high = map(float, re.search(rf"{name}: success ([\d.]+) \[([\d.]+), ([\d.]+)\]", line).groups())
        assert low < rate <= high
        assert rate > 0.05


@pytest.mark.parametrize("command", [["evaluate"], ["enjoy", "-o", "car.mp4"]])
def test_a_model_of_other_spaces_is_refused(command, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    SPPO("MlpPolicy", CARTPOLE, n_episodes=1).save("pole.zip")
    assert main([*command, "--model", "pole.zip", "--env", "sppo_rl/MountainCar-v0"]) == 1
    assert re.search(
        r"does not fit sppo_rl/MountainCar-v0: it was trained on .*\(4,\).* and these are .*\(2,\)", capsys.readouterr().err
    )


def test_an_agents_file_is_a_model(tmp_path, capsys):
    copies = [(FOLDER / f"sppo_rl-PrecisionCartPole200-v0.{ending}") for ending in ("npz", "json")]
    for path in copies:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    own = tmp_path / copies[0].name
    rates = []
    for words in (["--agent"], ["--model", str(own)]):
        assert main(["evaluate", "--env", CARTPOLE, "-n", "50", *words]) == 0
        rates.append(capsys.readouterr().out.splitlines()[1:])
    assert rates[0] == rates[1]
    assert type(load_agent(CARTPOLE, path=own)) is SPPO
    with pytest.raises(FileNotFoundError, match=r"no file .*elsewhere\.npz"):
        load_agent(CARTPOLE, path=tmp_path / "elsewhere.npz")


def test_a_folder_with_one_model_is_that_model(tmp_path):
    """rl_zoo3 names the last model after the environment, and has no best one before its first evaluation."""
    folder = tmp_path / "sppo_rl-PrecisionCartPole200-v0_1"
    SPPO("MlpPolicy", CARTPOLE, n_episodes=3).save(folder / "sppo_rl-PrecisionCartPole200-v0.zip")
    assert load_model(folder).n_episodes == 3
    SPPO("MlpPolicy", CARTPOLE, n_episodes=5).save(folder / "best_model.zip")
    assert load_model(folder).n_episodes == 5


def test_the_last_model_stands_for_a_run_of_rl_zoo3_without_a_best_one(tmp_path, capsys):
    """What ``--save-freq`` writes lies beside it; the folder of its settings is named as it is."""
    for name, n_episodes in (("rl_model_16000_steps", 2), ("sppo_rl-PrecisionCartPole200-v0", 3), ("rl_model_32000_steps", 4)):
        SPPO("MlpPolicy", CARTPOLE, n_episodes=n_episodes).save(tmp_path / f"{name}.zip")
    assert main(["evaluate", "--model", str(tmp_path), "--env", CARTPOLE]) == 1
    assert f"no model at {tmp_path / 'best_model.zip'}" in capsys.readouterr().err
    (tmp_path / "sppo_rl-PrecisionCartPole200-v0").mkdir()
    assert load_model(tmp_path).n_episodes == 3
    SPPO("MlpPolicy", CARTPOLE, n_episodes=5).save(tmp_path / "best_model.zip")
    assert load_model(tmp_path).n_episodes == 5


def test_train_says_what_an_entry_of_ones_own_leaves_out(tmp_path, capsys):
    own = tmp_path / "own.yml"
    own.write_text("sppo_rl/LunarLander-v0: {n_episodes: 2}\n")
    words = [
        "train",
        "--env",
        "sppo_rl/LunarLander-v0",
        "--episodes",
        "2",
        "--eval-episodes",
        "1",
        "-f",
        str(tmp_path / "logs"),
    ]
    assert main([*words, "--conf-file", str(own)]) == 0
    said = next(line for line in capsys.readouterr().out.splitlines() if "leaves out" in line)
    given = read_file("sppo")["sppo_rl/LunarLander-v0"]
    assert f"critic_learning_rate: None ({given['critic_learning_rate']})" in said
    assert "critic_init: None (first_batch)" in said
    assert "n_episodes" not in said
