"""Evaluation is exact in its counts, fair to long episodes, the same for every algorithm, and leaves training alone."""

from __future__ import annotations

from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN, SAC
from stable_baselines3 import PPO as SB3PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize, VecTransposeImage

from sppo_rl import GRPO, SPPO, ReMax
from sppo_rl.callbacks import EvaluationCallback, read_evaluations
from sppo_rl.evaluation import evaluate, evaluation_seeds
from sppo_rl.vec_env import make_batched
from tests.helpers import MatchEnv, SpaceEnv

CARTPOLE = "sppo_rl/PrecisionCartPole200-v0"
PENDULUM = "sppo_rl/Pendulum-v0"


class LongEpisodesSucceed(gym.Env):
    """Its first observation says how long an episode lasts (1 to 40 steps); those longer than 20 succeed."""

    observation_space = spaces.Box(0.0, 40.0, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.length = int(self.np_random.integers(1, 41))
        self.step_count = 0
        return np.array([self.length], np.float32), {}

    def step(self, action):
        self.step_count += 1
        end = self.step_count >= self.length
        success = end and self.length > 20
        info = {"is_success": success} if end else {}
        return np.array([self.length], np.float32), float(success), end, False, info


def lengths_of(seeds):
    env = LongEpisodesSucceed()
    return np.array([env.reset(seed=int(seed))[0][0] for seed in seeds], dtype=np.int64)


def weights(model):
    return th.cat([parameter.detach().flatten() for parameter in model.policy.parameters()])


# ------------------------------------------------------------------ counts


@pytest.mark.parametrize("n_episodes", [1, 7, 8, 30])
@pytest.mark.parametrize("algorithm", [SPPO, SB3PPO])
def test_exactly_n_episodes_each_from_its_own_seed_and_none_favoured(algorithm, n_episodes):
    model = algorithm("MlpPolicy", LongEpisodesSucceed(), seed=0)
    result = evaluate(model, DummyVecEnv([LongEpisodesSucceed] * 4), n_episodes, seed=5)
    expected = lengths_of(evaluation_seeds(n_episodes, 5))
    np.testing.assert_array_equal(result.lengths, expected)
    np.testing.assert_array_equal(result.successes, expected > 20)
    np.testing.assert_array_equal(result.outcomes, (expected > 20).astype(np.float32))
    assert result.success_rate == pytest.approx((expected > 20).mean())


def test_a_longer_evaluation_begins_with_the_seeds_of_a_shorter_one():
    np.testing.assert_array_equal(evaluation_seeds(50, 3)[:20], evaluation_seeds(20, 3))
    assert len(set(evaluation_seeds(1000, 3))) == 1000


@pytest.mark.parametrize("env_id", [CARTPOLE, PENDULUM])
@pytest.mark.parametrize("algorithm", [SPPO, SB3PPO])
def test_a_greedy_evaluation_is_the_same_as_a_plain_loop_over_gym_make(algorithm, env_id):
    model = algorithm("MlpPolicy", env_id, seed=1)
    result = evaluate(model, env_id, 5, deterministic=True, seed=9)
    env = gym.make(env_id)
    for k, seed in enumerate(evaluation_seeds(5, 9)):
        observation, _ = env.reset(seed=int(seed))
        steps, total, over, info = 0, 0.0, False, {}
        while not over:
            action, _ = model.predict(observation, deterministic=True)
            observation, reward, terminated, truncated, info = env.step(action)
            steps, total, over = steps + 1, total + reward, terminated or truncated
        assert result.lengths[k] == steps
        assert result.outcomes[k] == total
        assert result.successes[k] == info["is_success"]


def test_sampled_actions_follow_the_policy_and_the_seed():
    model = SPPO("MlpPolicy", LongEpisodesSucceed(), seed=0)
    with th.no_grad():
        model.policy.action_net.bias.copy_(th.tensor([np.log(3.0), 0.0]))
        model.policy.action_net.weight.zero_()
    seen = []

    class Recording(LongEpisodesSucceed):
        def step(self, action):
            seen.append(int(action))
            return super().step(action)

    evaluate(model, DummyVecEnv([Recording]), 200, seed=1)
    first, seen[:] = list(seen), []
    # some 4,000 actions, a quarter of them the second
    assert np.mean(first) == pytest.approx(0.25, abs=0.03)
    evaluate(model, DummyVecEnv([Recording]), 200, seed=1)
    assert seen == first
    evaluate(model, DummyVecEnv([Recording]), 200, deterministic=True, seed=1)
    assert not any(seen[len(first) :])


def test_a_task_without_a_success_test_has_no_success_rate():
    model = SB3PPO("MlpPolicy", "CartPole-v1", seed=0)
    result = evaluate(model, "CartPole-v1", 10)
    assert result.successes is None
    assert np.isnan(result.success_rate)
    assert np.isnan(result.success_interval()).all()
    assert result.mean_return == result.mean_length == pytest.approx(np.mean(result.lengths))


def test_observations_are_normalised_as_in_training_and_the_statistics_stay():
    dense = "sppo_rl/PendulumDense-v0"
    training = VecNormalize(make_vec_env(dense, 2, seed=0), norm_reward=False)
    model = SPPO("MlpPolicy", training, n_episodes=2, n_epochs=1, seed=0)
    model.learn(2000)
    before = (training.obs_rms.mean.copy(), training.obs_rms.count)
    by_hand = VecNormalize(make_batched(dense, 3), norm_reward=False)
    by_hand.obs_rms = training.obs_rms
    of_its_own = VecNormalize(make_batched(dense, 3), norm_reward=False)
    expected = evaluate(model, by_hand, 3, deterministic=True)
    result = evaluate(model, dense, 3, deterministic=True)
    np.testing.assert_array_equal(result.outcomes, expected.outcomes)
    assert not np.allclose(result.outcomes, evaluate(model, of_its_own, 3, deterministic=True).outcomes)
    assert before[1] == training.obs_rms.count
    np.testing.assert_array_equal(before[0], training.obs_rms.mean)
    assert by_hand.training


def test_zero_episodes_are_refused():
    with pytest.raises(ValueError, match="n_episodes must be at least 1, got 0"):
        evaluate(SPPO("MlpPolicy", CARTPOLE, n_episodes=2), CARTPOLE, 0)


# ------------------------------------------------------------------ callback


def sppo():
    return SPPO("MlpPolicy", CARTPOLE, n_episodes=8, batch_size=4, seed=0)


def sppo_with_noise_matrices():
    return SPPO("MlpPolicy", make_vec_env(PENDULUM, 2, seed=0), n_episodes=2, n_epochs=1, seed=0, use_sde=True)


def sb3_ppo():
    return SB3PPO("MlpPolicy", make_vec_env(CARTPOLE, 4, seed=0), n_steps=64, batch_size=64, n_epochs=2, seed=0)


@pytest.mark.parametrize("make", [sppo, sppo_with_noise_matrices, sb3_ppo])
def test_training_with_and_without_evaluation_gives_the_same_weights(make):
    plain = make().learn(1000)
    watched = make()
    start = weights(watched).clone()
    env = CARTPOLE if make is not sppo_with_noise_matrices else PENDULUM
    watched.learn(1000, callback=EvaluationCallback(env, every=300, n_episodes=3))
    assert th.equal(weights(plain), weights(watched))
    assert not th.equal(start, weights(watched))
    assert plain.num_timesteps == watched.num_timesteps


def dqn():
    return DQN("MlpPolicy", "CartPole-v1", learning_starts=100, seed=0)


@pytest.mark.parametrize(
    ("make", "env_id"),
    [
        (lambda: SB3PPO("MlpPolicy", "CartPole-v1", n_steps=64, batch_size=64, n_epochs=1, seed=0), "CartPole-v1"),
        (lambda: SAC("MlpPolicy", "Pendulum-v1", learning_starts=50, policy_kwargs={"net_arch": [8]}, seed=0), "Pendulum-v1"),
        (dqn, "CartPole-v1"),
    ],
    ids=["PPO", "SAC", "DQN"],
)
def test_algorithms_that_draw_from_global_generators_are_not_disturbed(make, env_id):
    plain, watched = make().learn(300), make()
    watched.learn(300, callback=EvaluationCallback(env_id, every=100, n_episodes=2))
    assert th.equal(weights(plain), weights(watched))


def test_an_exploring_policy_is_evaluated_by_the_seed_alone():
    model = dqn().learn(200)
    lengths = [evaluate(model, "CartPole-v1", 10, seed=seed).lengths.tolist() for seed in (3, np.int64(3), 4)]
    assert lengths[0] == lengths[1] != lengths[2]


def test_an_episode_that_is_cut_is_told():
    model = SPPO("MlpPolicy", "CartPole-v1", n_episodes=1, max_episode_steps=5, seed=0)
    with pytest.warns(UserWarning, match=r"2 of 2 episodes of an evaluation were not over after 5 steps"):
        assert evaluate(model, "CartPole-v1", 2).lengths.tolist() == [5, 5]


@pytest.mark.parametrize("transposed", [False, True])
def test_normalised_images_are_evaluated_as_they_were_trained_on(transposed):
    space = spaces.Box(0, 255, (36, 36, 3), np.uint8)
    venv = DummyVecEnv([lambda: SpaceEnv(space, spaces.Discrete(2), length=3)])
    env = VecNormalize(VecTransposeImage(venv) if transposed else venv)
    model = SPPO("MlpPolicy", env, n_episodes=2, n_epochs=1, seed=0).learn(1)
    found = evaluate(model, SpaceEnv(space, spaces.Discrete(2), length=3), 2)
    assert found.lengths.tolist() == [3, 3]


@pytest.mark.parametrize("make", [sppo, sb3_ppo])
def test_one_row_at_each_checkpoint(make, tmp_path):
    model = make()
    callback = EvaluationCallback(CARTPOLE, every=500, n_episodes=10, csv_path=tmp_path / "evaluations.csv")
    model.learn(1500, callback=callback)
    rows = read_evaluations(tmp_path / "evaluations.csv")
    assert [set(row) for row in rows] == [set(EvaluationCallback.COLUMNS)] * len(rows)
    steps = [row["timesteps"] for row in rows]
    assert steps[0] == 0
    assert steps[-1] == model.num_timesteps
    # one row in each stretch of 500 steps (an update is shorter than that), and the last update
    assert [s // 500 for s in steps[:4]] == [0, 1, 2, 3]
    assert rows[0]["episodes"] == 0
    assert all(a["episodes"] < b["episodes"] and a["seconds"] < b["seconds"] for a, b in pairwise(rows))
    assert evaluate(model, CARTPOLE, 10, deterministic=True).success_rate == rows[-1]["greedy_success"]


def test_the_best_model_is_kept_when_later_ones_are_worse(tmp_path):
    env = DummyVecEnv([lambda: MatchEnv(steps=1)] * 20)
    model = SPPO("MlpPolicy", DummyVecEnv([lambda: MatchEnv(steps=1)]), learning_rate=0.01, seed=0)
    model.learn(300, callback=EvaluationCallback(env, 100, n_episodes=200, best_model_path=tmp_path / "best.zip"))
    good = evaluate(model, env, 200).success_rate
    assert good > 0.8

    class Spoil(BaseCallback):
        def _on_rollout_start(self):
            if self.num_timesteps == 48:
                with th.no_grad():
                    self.model.policy.action_net.weight.mul_(-1.0)

        def _on_step(self):
            return True

    callback = EvaluationCallback(env, 20, n_episodes=200, best_model_path=tmp_path / "best.zip")
    model.learn(60, callback=[callback, Spoil()])
    assert evaluate(model, env, 200).success_rate < 0.5 < callback.rows[0]["success"]
    assert evaluate(SPPO.load(tmp_path / "best.zip"), env, 200).success_rate == max(row["success"] for row in callback.rows)
    assert list(tmp_path.glob("*part*")) == []


def test_an_episode_budget_ends_the_run_at_the_end_of_an_update(tmp_path):
    model = GRPO("MlpPolicy", CARTPOLE, n_episodes=8, group_size=4, seed=0)
    callback = EvaluationCallback(
        CARTPOLE, every=16, unit="episodes", n_episodes=2, csv_path=tmp_path / "e.csv", stop_after_episodes=40
    )
    model.learn(10**6, callback=callback)
    assert model._n_updates == 5
    assert [row["episodes"] for row in read_evaluations(tmp_path / "e.csv")] == [0, 16, 32, 40]


def test_greedy_episodes_of_remax_count_towards_the_budget():
    model = ReMax("MlpPolicy", CARTPOLE, n_episodes=8, seed=0)
    model.learn(10**6, callback=EvaluationCallback(CARTPOLE, 16, "episodes", n_episodes=2, stop_after_episodes=32))
    assert model._n_updates == 2


@pytest.mark.parametrize(("algo", "remaining"), [(GRPO, [0.75, 0.5, 0.25, 0.0]), (ReMax, [0.5, 0.0])])
def test_schedules_follow_a_budget_of_episodes(algo, remaining, tmp_path):
    class Rates(BaseCallback):
        def __init__(self, updates=10):
            super().__init__()
            self.updates, self.seen = updates, []

        def _on_rollout_start(self):
            self.seen.append(self.model.policy.optimizer.param_groups[0]["lr"])

        def _on_step(self):
            return len(self.seen) <= self.updates

    def evaluation():
        return EvaluationCallback(CARTPOLE, 32, "episodes", n_episodes=2, stop_after_episodes=32)

    model = algo("MlpPolicy", CARTPOLE, n_episodes=8, group_size=1 if algo is ReMax else 4, learning_rate="lin_1e-3", seed=0)
    # far more steps than the episodes take
    model.learn(10**6, callback=[evaluation(), rates := Rates()])
    assert rates.seen[1:] == pytest.approx([1e-3 * share for share in remaining])
    # without the budget, and in a model that was saved, time steps count again
    model.save(tmp_path / "model.zip")
    for other in (model, algo.load(tmp_path / "model.zip", env=make_batched(CARTPOLE, 8))):
        other.learn(10**6, callback=(rates := Rates(updates=1)))
        assert rates.seen[1] > 0.99e-3


def test_a_run_that_goes_on_keeps_its_rows_and_repeats_those_after_its_checkpoint(tmp_path):
    def callback():
        return EvaluationCallback(CARTPOLE, 200, n_episodes=2, csv_path=tmp_path / "e.csv")

    model = sppo()
    model.learn(600, callback=callback())
    model.save(tmp_path / "model.zip")
    rows = read_evaluations(tmp_path / "e.csv")
    with open(tmp_path / "e.csv", "a") as file:
        file.write("9999,99999,1.0,0.5,0.5,0.5,1,0.5,1\n888,8888,1.0,0.")  # after the checkpoint, and torn by a kill
    again = SPPO.load(tmp_path / "model.zip", env=make_batched(CARTPOLE, 8))
    again.learn(600, callback=callback(), reset_num_timesteps=False)
    after = read_evaluations(tmp_path / "e.csv")
    assert after[: len(rows)] == rows
    assert len(after) > len(rows)
    assert after[-1]["timesteps"] == again.num_timesteps
    assert after[-1]["episodes"] > rows[-1]["episodes"]
    assert after[-1]["seconds"] > rows[-1]["seconds"]
    assert again.num_timesteps < 99999


@pytest.mark.parametrize(("kwargs", "message"), [({"every": 0}, "every"), ({"every": 5, "unit": "hours"}, "'hours'")])
def test_wrong_checkpoints_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        EvaluationCallback(CARTPOLE, **kwargs)


def test_a_callback_without_a_file_keeps_what_it_saw_when_training_goes_on(tmp_path):
    """The best model must not give way to a worse one because a second ``learn()`` knows nothing of the first."""
    best = tmp_path / "best.zip"
    model = SPPO("MlpPolicy", DummyVecEnv([LongEpisodesSucceed] * 2), n_episodes=4, seed=0)
    callback = EvaluationCallback(LongEpisodesSucceed(), every=10, n_episodes=4, best_model_path=best)
    model.learn(40, callback)
    rows = list(callback.rows)
    callback.rows[-1]["success"] = 2.0  # better than anything can be
    written = best.read_bytes()
    model.learn(40, callback, reset_num_timesteps=False)
    assert callback.rows[: len(rows)] == rows
    assert len(callback.rows) > len(rows)
    assert best.read_bytes() == written
    model.learn(40, callback)
    assert callback.rows[0]["timesteps"] == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"every": 0}, "every must be at least 1, got 0"),
        ({"every": None, "stop_after_episodes": 0}, "stop_after_episodes must be at least 1 or None, got 0"),
        ({"n_episodes": 0}, "n_episodes must be at least 1, got 0"),
        ({"stop_after_episodes": 0}, "stop_after_episodes must be at least 1 or None, got 0"),
        ({"unit": "updates"}, "unit must be 'timesteps' or 'episodes', got 'updates'"),
    ],
)
def test_a_callback_that_cannot_be_is_refused_when_it_is_made(changes, message):
    with pytest.raises(ValueError, match=message):
        EvaluationCallback(CARTPOLE, **{"every": 100, **changes})
