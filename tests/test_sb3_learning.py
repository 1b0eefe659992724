"""Wherever SB3's PPO stands, SPPO and the baselines can stand: wrappers, callbacks, loggers, parameters, saving and loading."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    ConvertCallback,
    EvalCallback,
    EveryNTimesteps,
    StopTrainingOnMaxEpisodes,
    StopTrainingOnNoModelImprovement,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecMonitor, VecNormalize

from sppo_rl import SPPO
from sppo_rl.algorithm import SequenceAlgorithm
from sppo_rl.callbacks import ProgressBar
from sppo_rl.vec_env import BatchedVecEnv
from tests.helpers import MatchEnv, SpaceEnv, TraceBatch, dummy
from tests.test_sb3_conformance import ALGORITHMS, BOX, SMALL, every_algorithm, parameters


def match(copies: int = 2, steps: int = 2) -> VecEnv:
    return dummy(partial(MatchEnv, steps=steps), copies)


# ---------------------------------------------------------------- wrappers


@every_algorithm
def test_vec_normalize_learns_in_training_and_rests_in_evaluation(make: Callable[..., SequenceAlgorithm]) -> None:
    env = VecNormalize(dummy(partial(gym.make, "CartPole-v1"), 2), norm_reward=True)
    model = make("MlpPolicy", env, policy_kwargs=SMALL, seed=0).learn(50)
    assert model.get_vec_normalize_env() is env
    assert env.obs_rms.count > 50  # type: ignore[union-attr]
    env.training = False
    count = env.obs_rms.count  # type: ignore[union-attr]
    evaluate_policy(model, env, n_eval_episodes=2, warn=False)
    assert env.obs_rms.count == count  # type: ignore[union-attr]


def test_frame_stacks() -> None:
    env = VecFrameStack(match(steps=4), n_stack=3)
    model = SPPO("MlpPolicy", env, n_episodes=4, policy_kwargs=SMALL, seed=0).learn(40)
    assert model.observation_space.shape == (6,)
    assert model.predict(env.reset())[0].shape == (2,)


@every_algorithm
def test_vec_monitor_writes_every_episode(make: Callable[..., SequenceAlgorithm], tmp_path: Path) -> None:
    env = VecMonitor(match(), str(tmp_path / "monitor"))
    model = make("MlpPolicy", env, policy_kwargs=SMALL, seed=0).learn(16)
    with open(tmp_path / "monitor.monitor.csv") as file:
        file.readline()
        lengths = [int(row["l"]) for row in csv.DictReader(file)]
    assert sum(lengths) == model.num_timesteps
    assert set(lengths) == {2}


def test_a_single_environment_is_wrapped_as_sb3_wraps_it() -> None:
    model = SPPO("MlpPolicy", MatchEnv(2), n_episodes=3, policy_kwargs=SMALL, seed=0).learn(1)
    env = model.get_env()
    assert env is not None
    assert env.num_envs == 1
    assert env.env_is_wrapped(Monitor) == [True]
    assert model.ep_info_buffer is not None
    assert [info["l"] for info in model.ep_info_buffer] == [2, 2, 2]


def test_an_id_is_made_in_its_batched_form_where_it_has_one() -> None:
    batched = SPPO("MlpPolicy", "sppo_rl/PrecisionCartPole200-v0", n_episodes=3, seed=0).learn(1)
    assert isinstance(batched.get_env(), BatchedVecEnv)
    assert batched.env is not None
    assert batched.env.num_envs == 3
    assert batched._episode_num == 3
    ordinary = SPPO("MlpPolicy", "CartPole-v1", n_episodes=3)
    assert ordinary.env is not None
    assert ordinary.env.num_envs == 1


# ---------------------------------------------------------------- callbacks


@every_algorithm
def test_callbacks_of_sb3(make: Callable[..., SequenceAlgorithm], tmp_path: Path) -> None:
    class Count(BaseCallback):
        """Counts what it is told."""

        def _init_callback(self) -> None:
            self.starts = self.ends = self.rollouts = self.updates = self.steps = 0

        def _on_training_start(self) -> None:
            self.starts += 1

        def _on_rollout_start(self) -> None:
            self.rollouts += 1

        def _on_step(self) -> bool:
            self.steps += 1
            assert {"infos", "dones", "rewards", "new_obs", "actions", "self"} <= self.locals.keys()
            return True

        def _on_rollout_end(self) -> None:
            self.updates += 1

        def _on_training_end(self) -> None:
            self.ends += 1

    count, timed, called = Count(), Count(), []
    evaluation = EvalCallback(
        match(),
        eval_freq=4,
        n_eval_episodes=2,
        best_model_save_path=str(tmp_path),
        log_path=str(tmp_path),
        warn=False,
        verbose=0,
    )
    model = make("MlpPolicy", match(), policy_kwargs=SMALL, seed=0)
    model.learn(
        40,
        callback=[
            count,
            evaluation,
            CheckpointCallback(8, str(tmp_path / "saved"), name_prefix="model"),
            EveryNTimesteps(10, timed),
            ConvertCallback(lambda local, _: called.append(local["self"].num_timesteps) is None),
        ],
    )
    assert count.starts == count.ends == 1
    assert count.rollouts == count.updates == model._n_updates == -(-40 // (model.num_timesteps // model._n_updates))
    assert count.steps * 2 == model.num_timesteps == called[-1]
    assert timed.steps == model.num_timesteps // 10
    assert len(np.load(tmp_path / "evaluations.npz")["timesteps"]) == count.steps // 4
    assert (tmp_path / "best_model.zip").exists()
    saved = sorted((tmp_path / "saved").glob("model_*_steps.zip"))
    assert len(saved) == count.steps // 8
    loaded = type(model).load(saved[0], env=match())
    assert 0 < loaded.num_timesteps < model.num_timesteps


@every_algorithm
def test_a_function_as_callback_ends_training_with_false(make: Callable[..., SequenceAlgorithm]) -> None:
    model = make("MlpPolicy", match(), policy_kwargs=SMALL, seed=0)
    before = parameters(model)
    model.learn(1000, callback=lambda local, _: local["self"].num_timesteps < 4)
    assert model.num_timesteps == 4
    assert th.equal(before, parameters(model)), "half a collection is not trained on"


def test_callbacks_that_end_training() -> None:
    model = SPPO("MlpPolicy", match(), n_episodes=4, policy_kwargs=SMALL, seed=0)
    model.learn(10_000, callback=StopTrainingOnMaxEpisodes(9))
    # two copies, nine episodes each, as SB3 counts
    assert model._episode_num == 18
    never, always = StopTrainingOnRewardThreshold(2.0), StopTrainingOnRewardThreshold(-1.0)
    for stop, ends in ((never, False), (always, True)):
        evaluation = EvalCallback(match(), callback_on_new_best=stop, eval_freq=2, n_eval_episodes=1, warn=False, verbose=0)
        model.learn(80, callback=evaluation)
        assert (model.num_timesteps < 80) == ends
    patience = StopTrainingOnNoModelImprovement(max_no_improvement_evals=2, min_evals=1)
    evaluation = EvalCallback(match(), callback_after_eval=patience, eval_freq=2, n_eval_episodes=1, warn=False, verbose=0)
    model.learn(400, callback=CallbackList([evaluation]))
    assert model.num_timesteps < 400


# ---------------------------------------------------------------- logs

COMMON = {
    "rollout/ep_rew_mean", "rollout/ep_len_mean", "rollout/success_rate", "rollout/outcome_mean",
    "time/fps", "time/episodes", "time/collect_seconds", "time/update_seconds",
    "train/learning_rate", "train/clip_range", "train/clip_fraction", "train/approx_kl", "train/entropy",
    "train/policy_gradient_loss", "train/actor_grad_norm", "train/advantage_std",
}  # fmt: skip
CRITIC = {"train/critic_loss", "train/critic_grad_norm", "train/value_mean"}
OWN = {
    "SPPO": CRITIC | {"train/brier_score", "train/critic_learning_rate"},
    "PPO": CRITIC | {"train/critic_learning_rate"},
    "GRPO": set(),
    "RLOO": set(),
    "ReMax": {"rollout/greedy_outcome_mean"},
}
NOT_IN_TENSORBOARD = {"time/iterations", "time/time_elapsed", "time/total_timesteps", "train/n_updates"}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_what_is_logged(name: str, tmp_path: Path) -> None:
    model = ALGORITHMS[name]("MlpPolicy", match(), policy_kwargs=SMALL, seed=0)
    model.set_logger(configure(str(tmp_path), ["csv", "json"]))
    model.learn(30)
    with open(tmp_path / "progress.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == model._n_updates
    assert set(rows[0]) >= COMMON | OWN[name] | NOT_IN_TENSORBOARD
    assert int(rows[-1]["time/total_timesteps"]) == model.num_timesteps
    assert int(rows[-1]["time/episodes"]) == model._episode_num
    assert float(rows[-1]["rollout/ep_len_mean"]) == 2.0
    records = [json.loads(line) for line in (tmp_path / "progress.json").read_text().splitlines()]
    assert len(records) == len(rows)
    assert not {key for record in records for key, value in record.items() if value != value}, "NaN in the log"
    if name in ("GRPO", "RLOO", "ReMax"):
        assert not (CRITIC | {"train/critic_learning_rate"}) & set(rows[0])


def test_tensorboard(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    model = SPPO(
        "MlpPolicy", dummy(partial(SpaceEnv, BOX, spaces.Box(-1.0, 1.0, (2,), np.float32)), 2), n_episodes=4, learning_rate=2e-3,
        critic_learning_rate=5e-3, policy_kwargs=SMALL, tensorboard_log=str(tmp_path), seed=0,
    )  # fmt: skip
    model.learn(30, tb_log_name="mine")
    model.learn(30, tb_log_name="mine", reset_num_timesteps=False)
    model.learn(30)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["SPPO_1", "mine_1"]
    log = events.EventAccumulator(str(tmp_path / "mine_1")).Reload()
    tags = set(log.Tags()["scalars"])
    assert tags >= (COMMON | OWN["SPPO"] | {"train/std"}) - {"rollout/success_rate"}
    assert not tags & NOT_IN_TENSORBOARD
    assert log.Scalars("train/learning_rate")[0].value == pytest.approx(2e-3)
    assert log.Scalars("train/critic_learning_rate")[0].value == pytest.approx(5e-3)
    steps = [event.step for event in log.Scalars("train/critic_loss")]
    assert steps == sorted(set(steps)), "the second call goes on counting"
    assert steps[-1] >= 60


# ---------------------------------------------------------------- learn


@every_algorithm
def test_learn_again_counts_on_or_anew(make: Callable[..., SequenceAlgorithm]) -> None:
    model = make("MlpPolicy", match(), policy_kwargs=SMALL, seed=0)
    one_update = model.learn(1).num_timesteps
    model.learn(1, reset_num_timesteps=False)
    assert model.num_timesteps == 2 * one_update
    model.learn(1, reset_num_timesteps=True)
    assert model.num_timesteps == one_update
    assert model._n_updates == 3


def test_learn_has_a_default_length() -> None:
    assert SPPO("MlpPolicy", match(), n_episodes=4, policy_kwargs=SMALL).learn(callback=lambda *_: False).num_timesteps == 2


@every_algorithm
@pytest.mark.filterwarnings("ignore:rich is experimental")
def test_a_progress_bar_counts_every_step_once(
    make: Callable[..., SequenceAlgorithm], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tqdm")
    pytest.importorskip("rich")
    shown: list[int] = []

    class Bar(ProgressBar):
        """Remembers what it showed."""

        def _on_training_end(self) -> None:
            shown.append(self.pbar.n)
            super()._on_training_end()

    monkeypatch.setattr("sppo_rl.episodic.ProgressBar", Bar)
    model = make("MlpPolicy", TraceBatch(4), policy_kwargs=SMALL, seed=0)
    model.learn(30, progress_bar=True)
    model.learn(30, progress_bar=True, reset_num_timesteps=False)
    assert sum(shown) == model.num_timesteps


@every_algorithm
def test_equal_seeds_give_equal_runs(make: Callable[..., SequenceAlgorithm]) -> None:
    """A gym environment, its action noise from the policy, minibatches drawn: all of it from the one seed."""
    runs = [
        make("MlpPolicy", make_vec_env("CartPole-v1", 2, seed=99 * k), batch_size=2, policy_kwargs=SMALL, seed=seed).learn(100)
        for k, seed in enumerate((5, 5, 6))
    ]
    first, second, other = (parameters(model) for model in runs)
    assert th.equal(first, second)
    assert runs[0].num_timesteps == runs[1].num_timesteps
    assert not th.equal(first, other)


# ---------------------------------------------------------------- parameters, environments, files


@every_algorithm
def test_get_and_set_parameters(make: Callable[..., SequenceAlgorithm]) -> None:
    model, other = (make("MlpPolicy", match(), policy_kwargs=SMALL, seed=seed).learn(8) for seed in (0, 1))
    given = model.get_parameters()
    assert set(given) == {"policy", "policy.optimizer", "policy.critic_optimizer"}
    other.set_parameters(given)
    assert th.equal(parameters(model), parameters(other))
    assert str(other.policy.optimizer.state_dict()) == str(model.policy.optimizer.state_dict())
    with pytest.raises(ValueError, match="Names of parameters do not match"):
        other.set_parameters({"policy": given["policy"]})
    other.set_parameters({"policy": given["policy"]}, exact_match=False)
    with pytest.raises(ValueError, match="invalid object name"):
        other.set_parameters({"nothing": {}}, exact_match=False)
    weights = dict(given["policy"])
    weights.pop("action_net.bias")
    with pytest.raises(RuntimeError, match=r"action_net\.bias"):
        other.set_parameters({**given, "policy": weights})
    other.set_parameters({"policy": weights}, exact_match=False)


@every_algorithm
def test_save_and_load(make: Callable[..., SequenceAlgorithm], tmp_path: Path) -> None:
    model = make("MlpPolicy", match(), policy_kwargs=SMALL, learning_rate="lin_1e-3", seed=0).learn(16)
    observations = np.random.default_rng(0).uniform(-1.0, 1.0, (10, 2)).astype(np.float32)
    expected = model.predict(observations, deterministic=True)[0]
    model.save(tmp_path / "model")
    without_env = type(model).load(tmp_path / "model")
    assert without_env.env is None
    assert np.array_equal(without_env.predict(observations, deterministic=True)[0], expected)
    # another number of copies; the counters go on
    loaded = type(model).load(tmp_path / "model", env=match(3))
    assert loaded.n_envs == 3
    assert loaded.num_timesteps == model.num_timesteps
    assert th.equal(parameters(loaded), parameters(model))
    loaded.learn(8, reset_num_timesteps=False)
    assert loaded.num_timesteps >= model.num_timesteps + 8
    changed = type(model).load(
        tmp_path / "model",
        env=match(),
        custom_objects={"learning_rate": 7e-4, "clip_range": 0.1},
        print_system_info=False,
        n_epochs=1,
    )
    assert changed.lr_schedule(0.5) == 7e-4
    assert changed.clip_range(0.5) == 0.1
    assert changed.n_epochs == 1
    with pytest.raises(ValueError, match="Observation spaces do not match"):
        type(model).load(tmp_path / "model", env=dummy(partial(SpaceEnv, BOX, spaces.Discrete(2)), 2))


def test_what_a_file_holds_can_be_chosen(tmp_path: Path) -> None:
    model = SPPO("MlpPolicy", match(), n_episodes=4, policy_kwargs=SMALL, seed=0).learn(8)
    model.save(tmp_path / "model", exclude=["learning_rate"], include=["estimator"])
    data, _, _ = load_from_zip_file(tmp_path / "model")
    assert data is not None
    assert "learning_rate" not in data
    assert data["estimator"] == model.estimator
    assert not {"policy", "env", "device", "_logger"} & data.keys()
    loaded = SPPO.load(tmp_path / "model", env=match(), learning_rate=0.125)
    assert loaded.lr_schedule(1.0) == 0.125
    assert loaded._episode_num == model._episode_num


def test_set_env_takes_fitting_environments_and_no_others() -> None:
    model = SPPO("MlpPolicy", match(3), n_episodes=4, policy_kwargs=SMALL, seed=0).learn(8)
    other = match(3, steps=4)
    model.set_env(other)
    assert model.get_env() is other
    model.learn(1, reset_num_timesteps=False)
    assert model.num_timesteps == 8 + 16
    with pytest.raises(AssertionError, match="number of environments"):
        model.set_env(match(2))
    with pytest.raises(ValueError, match="Action spaces do not match"):
        model.set_env(dummy(partial(MatchEnv, box=True), 3))


@every_algorithm
def test_a_policy_saved_on_its_own(make: Callable[..., SequenceAlgorithm], tmp_path: Path) -> None:
    model = make("MlpPolicy", match(), policy_kwargs=SMALL, seed=0).learn(16)
    model.policy.save(tmp_path / "policy")
    policy = type(model.policy).load(tmp_path / "policy")
    observations = th.randn(6, 2)
    actions = [chooser.predict(observations.numpy(), deterministic=True)[0] for chooser in (policy, model)]
    assert np.array_equal(*actions)
    th.testing.assert_close(policy.predict_values(observations), model.policy.predict_values(observations))
