"""Trained agents: as good as their cards say, better than the priors they started from, and made again by a command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from sppo_rl import SPPO, zoo
from sppo_rl.envs.registration import list_envs
from sppo_rl.evaluation import evaluate, wilson_interval
from sppo_rl.zoo.cli import main
from sppo_rl.zoo.commands.evaluate import describe
from sppo_rl.zoo.names import file_name
from sppo_rl.zoo.shipped.agent import FOLDER, AgentCard
from sppo_rl.zoo.shipped.prior import FOLDER as PRIORS
from sppo_rl.zoo.shipped.prior import actor_weights, copy_weights, read_weights
from sppo_rl.zoo.shipped.prior_card import PriorCard

IDS = sorted(env.id for env in list_envs() if not env.id.endswith("Dense-v0"))
EPISODES = {"sppo_rl/Hopper-v0": 24, "sppo_rl/LunarLander-v0": 60}
"""Episodes here, where the simulator is slow; 300 elsewhere."""


def test_every_task_has_an_agent() -> None:
    assert zoo.list_agents() == IDS


@pytest.mark.parametrize("env_id", IDS)
def test_an_agent_is_as_good_as_its_card_says_and_better_than_the_prior(env_id: str) -> None:
    """Other episodes than those on the card; the two 99.9 % intervals have to meet."""
    path = FOLDER / f"{file_name(env_id)}.npz"
    card = AgentCard.read(path)
    prior = PriorCard.read(PRIORS / path.name)
    assert path.with_suffix(".md").read_text(encoding="utf-8") == card.markdown()
    assert card.env_id == env_id
    assert card.command.startswith(f"sppo-rl train-agent --algo {card.algo} --env {env_id} ")
    assert card.sampled.interval[0] > prior.sampled.interval[1]
    episodes = EPISODES.get(env_id, 300)
    seen = evaluate(zoo.load_agent(env_id, n_episodes=8, device="cpu"), env_id, episodes, seed=77).successes
    assert seen is not None
    low, high = wilson_interval(int(seen.sum()), episodes, confidence=0.999)
    card_low, card_high = wilson_interval(card.sampled.successes, card.sampled.episodes, confidence=0.999)
    assert low <= card_high
    assert card_low <= high


def test_the_page_of_the_zoo_has_the_cards_rates() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "zoo.md").read_text(encoding="utf-8")
    for env_id in IDS:
        card = AgentCard.read(FOLDER / f"{file_name(env_id)}.npz")
        rates = (str(rate).replace("0.", ".") for rate in (card.sampled, card.greedy))
        assert f"| `{env_id}` | {card.episodes:,} | {' | '.join(rates)} |" in page


def test_there_is_no_agent_of_another_task() -> None:
    with pytest.raises(
        FileNotFoundError, match=r"no trained agent for 'sppo_rl/Pendlum-v0'.*Did you mean 'sppo_rl/Pendulum-v0'"
    ):
        zoo.load_agent("sppo_rl/Pendlum-v0")


def test_the_same_command_makes_the_same_agent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    env_id = "sppo_rl/MountainCar-v0"
    words = ["train-agent", "--env", env_id, "--episodes", "24", "--seed", "3", "-n", "10", "--hyperparams", "n_epochs=2"]
    for name in ("a", "b"):
        assert main([*words, "-o", str(tmp_path / name)]) == 0
    first, again = (tmp_path / name / "sppo_rl-MountainCar-v0.npz" for name in ("a", "b"))
    assert first.read_bytes() == again.read_bytes()
    card = AgentCard.read(first)
    assert (card.algo, card.from_prior, card.episodes) == ("sppo", True, 24)
    assert card.hyperparameters["n_epochs"] == 2
    assert card.sampled.episodes == card.greedy.episodes == 10
    assert "--hyperparams n_epochs=2" in card.command
    assert f"sampled {card.sampled}, greedy {card.greedy}" in capsys.readouterr().out
    # training has moved it away from the prior
    start, end = zoo.prior_weights(env_id), read_weights(first)
    assert start.keys() == end.keys()
    assert any(not np.array_equal(start[key], end[key]) for key in start)


def test_agents_are_shown_by_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    env_id = "sppo_rl/Pendulum-v0"
    assert main(["evaluate", "--agent", "--env", env_id, "-n", "40"]) == 0
    printed = capsys.readouterr().out
    model = zoo.load_agent(env_id)
    assert isinstance(model, SPPO)
    stored = read_weights(FOLDER / f"{file_name(env_id)}.npz")
    loaded = actor_weights(model.policy)  # type: ignore[arg-type]
    assert stored.keys() == loaded.keys()
    for name, array in stored.items():
        np.testing.assert_array_equal(array, loaded[name])
    rate = evaluate(model, env_id, 40, deterministic=True).success_rate
    assert f"greedy: success {rate:.3f}" in printed
    assert main(["evaluate", "--agent", "--env", "CartPole-v1", "-n", "4"]) == 1
    assert "no trained agent for 'CartPole-v1'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        (
            ["policy_kwargs=dict(net_arch=[16], activation_fn=nn.ReLU)"],
            {"policy_kwargs": {"net_arch": [16], "activation_fn": nn.ReLU}},
        ),
        (["use_sde=True", "sde_sample_freq=4"], {"use_sde": True, "sde_sample_freq": 4}),
    ],
)
def test_an_agent_of_another_network_is_that_network_again(
    words: list[str], settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its card says which, by whatever name the file is loaded."""
    env_id = "sppo_rl/PendulumDense-v0"
    assert (
        main(["train-agent", "--env", env_id, "--episodes", "16", "-n", "4", "-o", str(tmp_path), "--hyperparams", *words])
        == 0
    )
    path = tmp_path / f"{file_name(env_id)}.npz"
    expected = SPPO("MlpPolicy", env_id, n_episodes=1, device="cpu", **settings)
    copy_weights(expected.policy, read_weights(path), settings.get("policy_kwargs", {}).get("activation_fn", nn.Tanh))  # type: ignore[arg-type]
    rates = [describe(evaluate(expected, env_id, 20, greedy)) for greedy in (False, True)]
    capsys.readouterr()
    assert main(["evaluate", "--model", str(path), "--env", env_id, "-n", "20"]) == 0
    assert [line.partition(": ")[2] for line in capsys.readouterr().out.splitlines()[1:]] == rates
    for load in (zoo.load_agent, zoo.load_prior):
        model = load(env_id, path=path, n_episodes=1)
        assert [describe(evaluate(model, env_id, 20, greedy)) for greedy in (False, True)] == rates
    if "policy_kwargs" in settings:
        with pytest.raises(ValueError, match=r"have ReLU between them and this policy's Tanh.*nn\.ReLU"):
            zoo.load_agent(env_id, path=path, policy_kwargs={"net_arch": [16]})


def test_others_algorithms_make_no_agents(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train-agent", "--algo", "sb3-ppo", "--env", "sppo_rl/Pendulum-v0", "--episodes", "16"]) == 1
    assert "this package's algorithms" in capsys.readouterr().err
