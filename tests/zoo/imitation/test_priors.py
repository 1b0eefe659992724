"""The three stages end to end, on a budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import sppo_rl.zoo as zoo
from sppo_rl.zoo.cli import main
from sppo_rl.zoo.imitation.priors import RECIPES, make_prior
from sppo_rl.zoo.names import UsageError
from sppo_rl.zoo.shipped.prior import actor_weights, read_weights
from sppo_rl.zoo.shipped.prior_card import PriorCard

CART = "sppo_rl/PrecisionCartPole200-v0"
TINY = replace(RECIPES[CART], attempts=16, steps_between=50, max_steps=500, selection_episodes=32, learning_rate=3e-3)


def make(folder: Path, seed: int = 0, target: float = 0.1) -> tuple[PriorCard, Path, list[str]]:
    lines: list[str] = []
    card = make_prior(CART, target, seed, folder, episodes=50, recipe=TINY, report=lines.append)
    return card, folder / "sppo_rl-PrecisionCartPole200-v0.npz", lines


def test_same_command_and_seed_make_the_same_file(tmp_path: Path) -> None:
    first, path, _ = make(tmp_path / "a")
    again, same_path, _ = make(tmp_path / "b")
    _, other_path, _ = make(tmp_path / "c", seed=1)
    assert path.read_bytes() == same_path.read_bytes()
    assert path.read_bytes() != other_path.read_bytes()
    assert first.sampled == again.sampled
    assert first.greedy == again.greedy
    # what was made is better than nothing, and can be started from
    assert first.sampled.successes > 0
    assert first.untrained.successes <= 1
    assert PriorCard.read(path) == first
    model = zoo.load_prior(CART, path=path, n_episodes=2, device="cpu")
    weights = read_weights(path)
    assert all((array == weights[name]).all() for name, array in actor_weights(model.policy).items())  # type: ignore[arg-type]


def test_a_target_out_of_reach_is_said(tmp_path: Path) -> None:
    lines: list[str] = []
    recipe = replace(TINY, max_steps=50)
    card = make_prior(CART, 1.0, 0, tmp_path, episodes=10, recipe=recipe, report=lines.append)
    assert any("the target 1 was not reached in 50 steps" in line for line in lines)
    assert card.target == 1.0


def test_wrong_arguments_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="between 0 and 1, got 25"):
        make_prior(CART, 25, output=tmp_path)
    with pytest.raises(UsageError, match="at least 10 episodes, got 3"):
        make_prior(CART, 0.2, output=tmp_path, episodes=3)
    assert main(["pretrain", "--env", "sppo_rl/Pendlum-v0", "-o", str(tmp_path)]) == 1
    assert "Did you mean 'sppo_rl/Pendulum-v0'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
