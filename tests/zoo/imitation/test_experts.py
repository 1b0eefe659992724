"""Experts solve their tasks, and only what passes a task's own test becomes a demonstration."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from sppo_rl.episodes import EpisodeArrays
from sppo_rl.zoo.imitation import experts
from sppo_rl.zoo.imitation.demonstrations import Expert, demonstrate, keep_successes
from sppo_rl.zoo.imitation.priors import RECIPES

SCRIPTED = [(env_id, recipe.expert) for env_id, recipe in RECIPES.items() if recipe.expert is not None]


@pytest.mark.parametrize(("env_id", "expert"), SCRIPTED, ids=lambda value: value if isinstance(value, str) else "")
def test_scripts_succeed(env_id: str, expert: Expert) -> None:
    # measured: 1.000 of 500 (the lander: .985 of 200)
    played = demonstrate(env_id, expert, 50, noise=0.0, seed=3)
    assert played.attempts == 50
    assert played.successes >= 47


@pytest.mark.parametrize(("env_id", "expert"), SCRIPTED, ids=lambda value: value if isinstance(value, str) else "")
def test_scripts_keep_to_the_action_space_and_to_rows(env_id: str, expert: Expert) -> None:
    env = gym.make(env_id)
    env.observation_space.seed(0)
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(32, *env.observation_space.shape)).astype(np.float32)  # type: ignore[misc]
    actions = expert(observations)
    for k in range(32):
        assert env.action_space.contains(actions[k]), actions[k]
        # an action depends on its own observation alone
        np.testing.assert_array_equal(expert(observations[k : k + 1])[0], actions[k])
    env.close()


def test_gymnasium_agrees_that_the_script_succeeds() -> None:
    """The batched tasks judge the scripts above; here gymnasium's own loop does."""
    for env_id in ("sppo_rl/MountainCar-v0", "sppo_rl/PrecisionCartPole200-v0"):
        env = gym.make(env_id)
        expert = RECIPES[env_id].expert
        assert expert is not None
        observation, info = env.reset(seed=5)
        over = False
        while not over:
            observation, reward, over, _, info = env.step(expert(observation[None])[0])
        assert info["is_success"]
        assert reward == 1.0


def test_only_successful_episodes_are_kept() -> None:
    outcome = np.array([0.0, 1.0, 0.0, 1.0], dtype=np.float32)
    sequence = np.array([0, 0, 1, 1, 1, 2, 3])
    episodes = EpisodeArrays(
        observations=np.arange(7, dtype=np.float32)[:, None],
        actions=10 * np.arange(7),
        rewards=np.array([0, 0, 0, 0, 1, 0, 1], dtype=np.float32),
        sequence=sequence,
        outcome=outcome,
    )
    kept = keep_successes(episodes)
    np.testing.assert_array_equal(kept.observations[:, 0], [2, 3, 4, 6])
    np.testing.assert_array_equal(kept.actions, [20, 30, 40, 60])
    np.testing.assert_array_equal(kept.episode, [0, 0, 0, 1])
    assert (kept.successes, kept.attempts) == (2, 4)


def test_every_demonstration_passes_the_test_at_its_end() -> None:
    """CartPole's test can be read off the last observation; with half the actions at random most episodes fail it."""
    played = demonstrate("sppo_rl/PrecisionCartPole200-v0", experts.cartpole, 64, noise=0.3, seed=0)
    assert 0 < played.successes < 64
    lengths = np.bincount(played.episode)
    assert len(lengths) == played.successes
    assert (lengths == 200).all()
    before_last = played.observations[np.cumsum(lengths) - 1].astype(np.float64)
    # θ one step on: Euler's step takes the velocity from before it
    assert (np.abs(before_last[:, 2] + 0.02 * before_last[:, 3]) <= np.deg2rad(0.5) + 1e-6).all()


def test_noise_is_recorded_as_it_was_drawn() -> None:
    clean = demonstrate("sppo_rl/MountainCar-v0", experts.mountain_car, 8, noise=0.0, seed=0)
    noisy = demonstrate("sppo_rl/MountainCar-v0", experts.mountain_car, 8, noise=0.5, seed=0)
    assert set(np.unique(clean.actions)) == {-1.0, 1.0}
    difference = noisy.actions - experts.mountain_car(noisy.observations)
    assert difference.std() == pytest.approx(0.5, rel=0.1)
    assert np.abs(noisy.actions).max() > 1.0, "a Gaussian is cut at the bounds: its likelihood would be wrong"
    random = demonstrate("sppo_rl/PrecisionCartPole200-v0", experts.cartpole, 16, noise=0.2, seed=0)
    changed = (random.actions != experts.cartpole(random.observations)).mean()
    assert changed == pytest.approx(0.1, abs=0.03), "half of the uniform draws pick the expert's own action"


def test_demonstrations_depend_on_the_seed_alone() -> None:
    first, again, other = (demonstrate("sppo_rl/Pendulum-v0", experts.pendulum, 4, 0.5, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.observations, again.observations)
    np.testing.assert_array_equal(first.actions, again.actions)
    assert not np.array_equal(first.actions, other.actions)


@pytest.mark.parametrize(
    ("env_id", "attempts", "noise", "message"),
    [
        ("sppo_rl/MountainCar-v0", 0, 0.0, "attempts must be at least 1"),
        ("sppo_rl/MountainCar-v0", 2, -0.5, "noise must be"),
        ("sppo_rl/PrecisionCartPole200-v0", 2, 1.5, "noise must be"),
    ],
)
def test_wrong_numbers_are_named(env_id: str, attempts: int, noise: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        demonstrate(env_id, RECIPES[env_id].expert, attempts, noise)  # type: ignore[arg-type]


def test_training_an_expert_teaches_the_dense_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Hopper it takes minutes; CartPole's dense reward is learned from in seconds by the same code. Untrained: .000."""
    monkeypatch.setattr(experts, "STEPS_BETWEEN_CHECKS", 8_000)
    lines: list[str] = []
    expert = experts.train_expert("sppo_rl/PrecisionCartPole200-v0", noise=0.0, success=0.4, seed=0, report=lines.append)
    assert demonstrate("sppo_rl/PrecisionCartPole200-v0", expert, 100, seed=9).successes >= 20
    assert "steps of dense reward" in lines[0]
    assert lines[-1].split(" at ")[1] >= "0.40", "training ended before the wanted rate"


def test_an_expert_that_does_not_learn_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experts, "MAX_EXPERT_STEPS", 1)
    monkeypatch.setattr(experts, "STEPS_BETWEEN_CHECKS", 1)
    with pytest.raises(ValueError, match=r"reached a success rate of 0\.\d\d .* not 1\.1"):
        experts.train_expert("sppo_rl/PrecisionCartPole200-v0", noise=0.0, success=1.1, seed=0, report=lambda line: None)
