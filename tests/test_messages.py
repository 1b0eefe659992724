"""What the algorithms say when something is wrong: which parameter or tensor, the value seen, and what to do."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.vec_env import SubprocVecEnv

import sppo_rl
from sppo_rl import GRPO, PPO, RLOO, SPPO, ReMax
from sppo_rl.algorithm import SequenceAlgorithm
from sppo_rl.envs import OutcomeWrapper
from sppo_rl.notices import EPISODES_BEFORE_NOTICE, Notices, env_id_of
from sppo_rl.schedules import as_schedule
from tests.helpers import FixedRewardEnv, MatchEnv, SpaceEnv, TraceEnv, dummy


def make(algorithm: type[SequenceAlgorithm] = SPPO, rewards: list[float] | None = None, **kwargs: Any) -> Any:
    env = dummy(lambda: FixedRewardEnv(rewards or [0.0, 1.0]), 2)
    return algorithm("MlpPolicy", env, **{"n_episodes": 8, "seed": 0, **kwargs})


# ---------------------------------------------------------------- parameters


def test_no_environment_is_named() -> None:
    with pytest.raises(ValueError, match=r"SPPO needs an environment or its id, got env=None.*SPPO\.load"):
        SPPO("MlpPolicy", None)


@pytest.mark.parametrize(
    ("parameter", "value", "message"),
    [
        ("n_episodes", 0, r"n_episodes must be at least 1, got 0"),
        ("n_epochs", 0, r"n_epochs must be at least 1, got 0"),
        ("group_size", 0, r"group_size must be at least 1, got 0"),
        ("max_episode_steps", 0, r"max_episode_steps must be at least 1, got 0"),
        ("critic_warmup", -1, r"critic_warmup must be at least 0, got -1"),
        ("max_grad_norm", 0.0, r"max_grad_norm must be positive, got 0"),
        ("target_kl", -0.1, r"target_kl must be positive, got -0.1"),
        ("ent_coef", -0.1, r"ent_coef must be 0 or more and finite, got -0.1"),
        ("ent_coef", float("inf"), r"ent_coef must be 0 or more and finite, got inf"),
        ("clip_range", np.float32(0.0), r"clip_range must be positive, got 0.0"),
        ("stats_window_size", -1, r"stats_window_size must be at least 1, got -1"),
        ("n_episodes", True, r"n_episodes must be a whole number, got True"),
        ("clip_range", -0.2, r"clip_range must be positive, got -0.2"),
        ("batch_size", 0, r"batch_size.*between 1 and n_episodes \(8\), got 0"),
        ("batch_size", 9, r"batch_size.*between 1 and n_episodes \(8\), got 9"),
        ("group_size", 3, r"multiple of group_size, got 8 and 3"),
        ("critic_loss", "mae", r"critic_loss must be 'auto', 'bce' or 'mse', got 'mae'"),
        ("critic_init", "last_batch", r"critic_init must be .* got 'last_batch'"),
        ("loss_aggregation", "token-mean", r"loss_aggregation must be 'decision-mean', .* got 'token-mean'"),
        ("advantage", "raw", r"advantage must be 'residual' or 'standardized', got 'raw'"),
        ("normalize_advantage", "mean", r"normalize_advantage must be False, True or 'center', got 'mean'"),
        ("learning_rate", "fast", r"learning_rate must be .*'lin_3e-4'; got 'fast'"),
        ("critic_learning_rate", "lin_", r"critic_learning_rate must be .*got 'lin_'"),
        ("clip_range", "small", r"clip_range must be .*got 'small'"),
        ("n_episodes", 8.5, r"n_episodes must be a whole number, got 8\.5"),
        ("n_episodes", "8", r"n_episodes must be a whole number, got '8'"),
        ("n_epochs", 1.5, r"n_epochs must be a whole number, got 1\.5"),
        ("batch_size", 2.5, r"batch_size must be a whole number of episodes or None, got 2\.5"),
        ("critic_warmup", None, r"critic_warmup must be a whole number, got None"),
        ("max_grad_norm", None, r"max_grad_norm must be a number, got None"),
        ("ent_coef", "some", r"ent_coef must be a number, got 'some'"),
        ("learning_rate", -1e-3, r"learning_rate must be finite and not negative, got -0\.001"),
        ("learning_rate", math.nan, r"learning_rate must be finite and not negative, got nan"),
        ("learning_rate", "lin_-1e-3", r"learning_rate must be finite and not negative, got 'lin_-1e-3'"),
        ("learning_rate", None, r"learning_rate must be a number.*got None"),
        ("critic_learning_rate", -1.0, r"critic_learning_rate must be finite and not negative, got -1"),
        ("clip_range", "lin_-0.2", r"clip_range must be finite and not negative, got 'lin_-0\.2'"),
        ("critic_init", math.inf, r"critic_init must be a number.*got inf"),
    ],
)
def test_a_parameter_out_of_range_is_named_with_its_value(parameter: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**{parameter: value})


def test_a_probability_to_begin_with_is_one() -> None:
    with pytest.raises(ValueError, match=r"critic_init must lie strictly between 0 and 1 with critic_loss='bce', got 1\.5"):
        make(critic_init=1.5, critic_loss="bce")
    make(critic_init=1.5)  # returns may be anything


@pytest.mark.parametrize(
    ("parameter", "value"), [("gamma", 1.5), ("gamma", math.nan), ("gae_lambda", -0.1), ("gae_lambda", 2.0)]
)
def test_discounts_of_ppo_lie_between_0_and_1(parameter: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{parameter} must lie between 0 and 1, got {value}"):
        make(PPO, **{parameter: value})


@pytest.mark.parametrize(
    ("algorithm", "settings", "message"),
    [
        (SPPO, {"hybrid": "0.5"}, "hybrid must be a number, got '0.5'"),
        (SPPO, {"hybrid": 0.5, "gae_lambda": None}, "gae_lambda must be a number, got None"),
        (PPO, {"gamma": "1"}, "gamma must be a number, got '1'"),
        (RLOO, {"kl_coef": "0.1", "group_size": 4}, "kl_coef must be a number, got '0.1'"),
    ],
)
def test_shares_and_weights_of_estimators_are_numbers(algorithm: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(algorithm, n_episodes=8, **settings)


def test_numbers_of_numpy_are_numbers() -> None:
    model = make(
        n_episodes=np.int64(8), critic_learning_rate=np.float32(1e-3), clip_range=np.float32(0.2), ent_coef=np.float32(0.0)
    )
    model.learn(1)
    assert model.clip_range(1.0) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("role", "space", "message"),
    [
        ("action_space", spaces.Discrete(3, start=5), r"action space is Discrete\(3, start=5\).*from 0.*TransformAction"),
        ("action_space", spaces.MultiDiscrete([2, 3], start=[1, 0]), r"action space is MultiDiscrete.*from 0"),
        ("action_space", spaces.MultiDiscrete([[2, 3], [3, 2]]), r"(?s)action space is MultiDiscrete.*grid"),
        (
            "observation_space",
            spaces.Discrete(5, start=2),
            r"observation space is Discrete\(5, start=2\).*TransformObservation",
        ),
        ("observation_space", spaces.Dict({"a": spaces.Discrete(5, start=2)}), r"observation space's 'a' is Discrete"),
    ],
)
def test_spaces_that_networks_would_misread_are_refused(role: str, space: spaces.Space, message: str) -> None:
    options = {"observation_space": spaces.Box(-1.0, 1.0, (2,)), "action_space": spaces.Discrete(2), role: space}
    with pytest.raises(ValueError, match=message):
        SPPO("MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy", SpaceEnv(**options))


@pytest.mark.parametrize(
    "space",
    [spaces.Tuple((spaces.Discrete(3), spaces.Discrete(2))), spaces.Dict({"a": spaces.Tuple((spaces.Discrete(3),))})],
    ids=["tuple", "tuple in a dictionary"],
)
def test_observations_that_are_no_arrays_are_refused_at_once(space: spaces.Space) -> None:
    with pytest.raises(NotImplementedError, match="Tuple"):
        SPPO("MultiInputPolicy", SpaceEnv(space, spaces.Discrete(2)))


def test_a_standardised_advantage_needs_a_probability() -> None:
    with pytest.raises(ValueError, match=r"standardized.*critic_loss is 'mse'"):
        make(advantage="standardized", critic_loss="mse")
    with pytest.raises(ValueError, match=r"standardized.*outcome of -3"):
        make(rewards=[0.0, -3.0], advantage="standardized").learn(1)


def test_parameters_are_checked_before_an_environment_is_made_from_its_id() -> None:
    with pytest.raises(ValueError, match="n_episodes must be at least 1, got 0"):
        SPPO("MlpPolicy", "sppo_rl/PrecisionCartPole200-v0", n_episodes=0)


@pytest.mark.parametrize("algorithm", [GRPO, RLOO])
def test_group_algorithms_want_groups(algorithm: type[SequenceAlgorithm]) -> None:
    with pytest.raises(ValueError, match=rf"{algorithm.__name__}.*group_size must be at least 2, got 1"):
        make(algorithm, group_size=1)


def test_the_default_groups_divide_the_default_episodes() -> None:
    for algorithm in (SPPO, PPO, GRPO, RLOO, ReMax):
        algorithm("MlpPolicy", "CartPole-v1")


@pytest.mark.parametrize(
    ("text", "start", "middle", "end"), [("lin_3e-4", 3e-4, 1.5e-4, 0.0), ("0.25", 0.25, 0.25, 0.25), ("lin_2", 2.0, 1.0, 0.0)]
)
def test_schedules_from_text(text: str, start: float, middle: float, end: float) -> None:
    schedule = as_schedule("x", text)
    assert [schedule(1.0), schedule(0.5), schedule(0.0)] == pytest.approx([start, middle, end])


def test_schedules_from_numbers_and_functions() -> None:
    assert as_schedule("x", 0.2)(0.7) == 0.2
    assert as_schedule("x", lambda progress: 2.0 * progress)(0.25) == 0.5


# ---------------------------------------------------------------- outcomes and critics


@pytest.mark.parametrize("value", [-1.0, 1.5, 200.0])
@pytest.mark.parametrize("algorithm", [SPPO, PPO])
def test_bce_refuses_returns_that_are_no_probabilities(algorithm: type[SequenceAlgorithm], value: float) -> None:
    with pytest.raises(ValueError, match=rf"bce.*\[0, 1\].*{value:g}\b.*mse"):
        make(algorithm, [0.0, value], critic_loss="bce").learn(1)


@pytest.mark.parametrize(
    "rewards", [[0.1] * 10, [0.3, 0.3, 0.4], [0.0, 1.0], [0.0, 0.0], [1 / 3] * 3, [0.001] * 300, [1 / 7] * 7]
)
def test_bce_takes_every_outcome_in_the_unit_interval(rewards: list[float]) -> None:
    """Rewards that sum to one by way of rounding are no reason to stop, nor for ``auto`` to give up probabilities."""
    make(rewards=rewards, critic_loss="bce").learn(1)
    model = make(rewards=rewards)
    model.learn(1)
    assert model.policy.value_scale.is_probability


@pytest.mark.parametrize("critic_init", [0.0, 1.0, 2.0])
def test_an_impossible_initial_probability_is_refused(critic_init: float) -> None:
    with pytest.raises(ValueError, match=rf"between 0 and 1, got {critic_init:g}"):
        make(critic_init=critic_init).learn(1)


# ---------------------------------------------------------------- NaN


@pytest.mark.parametrize("algorithm", [SPPO, PPO, GRPO, RLOO, ReMax])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_rewards_that_are_not_finite_stop_training_with_their_name(algorithm: type[SequenceAlgorithm], bad: float) -> None:
    with pytest.raises(ValueError, match=rf"rollout/outcome holds \d+ NaN or infinite.*{bad}"):
        make(algorithm, [0.0, bad]).learn(1)


@pytest.mark.parametrize("algorithm", [SPPO, GRPO])
def test_a_broken_actor_is_named(algorithm: type[SequenceAlgorithm]) -> None:
    model = make(algorithm)
    with th.no_grad():
        model.policy.action_net.weight.fill_(math.nan)
    with pytest.raises(ValueError, match="train/old_log_prob holds"):
        model.learn(1)


def test_a_broken_critic_is_named() -> None:
    model = make()
    with th.no_grad():
        model.policy.value_net.weight.fill_(math.nan)
    with pytest.raises(ValueError, match="train/advantages holds"):
        model.learn(1)


@pytest.mark.parametrize(("part", "name"), [("action_net", "policy_gradient_loss"), ("value_net", "critic_loss")])
def test_a_network_that_breaks_during_the_update_is_named(part: str, name: str) -> None:
    model = make()
    train = model.train

    def breaking(batch: Any) -> None:
        with th.no_grad():
            getattr(model.policy, part).bias.fill_(math.nan)
        train(batch)

    model.train = breaking
    with pytest.raises(ValueError, match=f"train/{name} holds"):
        model.learn(1)


@pytest.mark.parametrize(("part", "name"), [("actor", "actor_grad_norm"), ("critic", "critic_grad_norm")])
def test_a_gradient_that_is_not_finite_never_reaches_the_weights(part: str, name: str) -> None:
    model = make()
    # hooks are autograd's
    model.policy.plain_actor = model.policy.plain_critic = lambda: None  # type: ignore[method-assign]
    layer = model.policy.action_net if part == "actor" else model.policy.value_net
    layer.weight.register_hook(lambda grad: grad * math.inf)
    with pytest.raises(ValueError, match=f"train/{name} holds"):
        model.learn(1)
    assert th.isfinite(layer.weight).all()


# ---------------------------------------------------------------- nothing to learn from


def notices(model: Any, updates: int) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(updates):
            model.learn(1, reset_num_timesteps=False)
    return [str(warning.message) for warning in caught if "success" in str(warning.message)]


def test_no_success_is_said_once_and_only_after_a_while() -> None:
    model = make(rewards=[0.0], n_episodes=64)
    needed = math.ceil(EPISODES_BEFORE_NOTICE / 64)
    assert notices(model, needed - 1) == []
    said = notices(model, 1)
    assert len(said) == 1
    assert f"not one success in {64 * needed} episodes" in said[0]
    assert notices(model, 3) == []


def test_one_success_is_enough_to_keep_quiet() -> None:
    class Once(MatchEnv):
        """Pays one single time."""

        paid = False

        def step(self, action: Any) -> Any:
            observation, _, done, truncated, info = super().step(action)
            reward, Once.paid = float(not Once.paid), True
            return observation, reward, done, truncated, info

    model = SPPO("MlpPolicy", dummy(Once, 1), n_episodes=64, n_epochs=1, seed=0)
    assert notices(model, 10) == []


@pytest.mark.parametrize(
    ("shares", "said"), [([0.75, 0.25], True), ([0.25, 0.25], False)], ids=["often before", "seldom before"]
)
def test_a_success_that_is_lost_is_said(shares: list[float], said: bool) -> None:
    """Outcomes by hand, four in an update: some successes, then failures until it is told, once in each row of them."""
    heard = Notices()
    needed = EPISODES_BEFORE_NOTICE // 4
    for _ in range(2):
        for share in shares:
            assert heard.outcomes((th.arange(4) < 4 * share).float(), None) is None
        told = [heard.outcomes(th.zeros(4), None) for _ in range(2 * needed)]
        expected = [f"in the last {EPISODES_BEFORE_NOTICE} episodes, where an update before had 75%"] if said else []
        assert [message.removeprefix("not one success ")[:56] for message in told if message] == expected
        assert [number for number, message in enumerate(told) if message] == [needed - 1][: len(expected)]


def test_a_model_saved_with_other_counters_goes_on() -> None:
    """What an older version pickled has its own attributes and no others."""
    old = Notices.__new__(Notices)
    vars(old).update(_any_success=True, _episodes=64, _told_groups=False, _told_cut=False)
    assert old.outcomes(th.zeros(4), None) is None
    assert old.outcomes(th.ones(4), None) is None


@pytest.mark.parametrize("batched", [True, False], ids=["by id", "made by the user"])
def test_the_notice_names_prior_and_dense_twin(batched: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sppo_rl.notices.EPISODES_BEFORE_NOTICE", 4)
    env_id = "sppo_rl/MountainCar-v0"  # never solved by chance
    env: Any = env_id if batched else gym.make(env_id)
    model = SPPO("MlpPolicy", env, n_episodes=4, n_epochs=1, seed=0)
    said = notices(model, 1)
    assert len(said) == 1
    assert f'sppo_rl.zoo.load_prior("{env_id}")' in said[0]
    assert '"sppo_rl/MountainCarDense-v0"' in said[0]
    assert "sppo_rl/MountainCarDense-v0" in gym.registry


def test_the_notice_promises_no_prior_for_other_environments() -> None:
    said = notices(make(rewards=[0.0], n_episodes=EPISODES_BEFORE_NOTICE), 1)
    assert len(said) == 1
    assert "load_prior" not in said[0]


# ---------------------------------------------------------------- loading


def test_a_file_of_another_algorithm_is_loaded_with_a_warning(tmp_path: Path) -> None:
    class OwnSPPO(SPPO):
        """Of a user."""

    make(GRPO, n_episodes=8, group_size=4).save(tmp_path / "grpo")
    with pytest.warns(UserWarning, match=r"saved by GRPO and is loaded as SPPO, with GRPO's settings. Load it with GRPO.load"):
        model = SPPO.load(tmp_path / "grpo")
    assert model.group_size == 4
    model.save(tmp_path / "once_more")
    make(OwnSPPO).save(tmp_path / "own")
    make(SPPO).save(tmp_path / "sppo")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # its own class, what it is derived from, and what is derived from it
        GRPO.load(tmp_path / "grpo")
        SPPO.load(tmp_path / "once_more")
        SPPO.load(tmp_path / "own")
        OwnSPPO.load(tmp_path / "sppo")


# ---------------------------------------------------------------- the package


def test_unknown_attributes_of_the_package_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'TRPO'"):
        sppo_rl.TRPO  # noqa: B018


def test_an_unknown_policy_name_is_refused() -> None:
    with pytest.raises(ValueError, match="no_such_policy"):
        SPPO("no_such_policy", dummy(TraceEnv, 2))


def test_the_notice_asks_no_process_for_what_cannot_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A spec with a function in it cannot be pickled: the process that is asked for it dies, and training with it."""
    monkeypatch.setattr("sppo_rl.notices.EPISODES_BEFORE_NOTICE", 4)

    def hopeless() -> gym.Env:
        return OutcomeWrapper(gym.make("Acrobot-v1"), success=lambda end: False, horizon=3)

    env = SubprocVecEnv([hopeless] * 2, start_method="fork")
    try:
        said = notices(SPPO("MlpPolicy", env, n_episodes=4, n_epochs=1, seed=0), 1)
        assert len(said) == 1
        assert "not one success" in said[0]
        assert env_id_of(env) == "Acrobot-v1"
    finally:
        env.close()
