"""The registered control tasks as Gymnasium environments: registration, cards, checkers, seeds, pickling, rendering."""

from __future__ import annotations

import functools
import pickle
import subprocess
import sys
from collections.abc import Iterator

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv

from sppo_rl.envs import OutcomeWrapper, has_batched_form, list_envs, make_batched, register_envs
from sppo_rl.envs.control import cartpole, mountain_car
from sppo_rl.envs.control.catalog import TASKS, ControlTask

IDS = [summary.id for summary in list_envs()]


@pytest.fixture(params=IDS)
def env(request: pytest.FixtureRequest) -> Iterator[gym.Env]:
    env = gym.make(request.param)
    yield env
    env.close()


def rollout(env: gym.Env, seed: int, steps: int = 60) -> list[np.ndarray]:
    """Observations and rewards of seeded steps with seeded actions; episodes that end are followed by unseeded resets."""
    env.action_space.seed(seed)
    history = [env.reset(seed=seed)[0]]
    for _ in range(steps):
        observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        assert not truncated
        history += [observation, np.array(reward)]
        if terminated:
            history.append(env.reset()[0])
    return history


def assert_same(left: list[np.ndarray], right: list[np.ndarray]) -> None:
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_table_says_what_the_environments_are() -> None:
    for summary in list_envs():
        env = gym.make(summary.id)
        wrapper = env.get_wrapper_attr("horizon")
        assert wrapper == summary.horizon
        assert short(env.observation_space) == summary.observation
        assert short(env.action_space) == summary.action
        assert env.spec is not None
        assert env.spec.id == summary.id
        assert ("Dense" in summary.id) == (summary.reward == "dense")
        batch = make_batched(summary.id, 1)
        assert (batch.observation_space, batch.action_space) == (env.observation_space, env.action_space)
        batch.close()
    assert len(IDS) == len(set(IDS)) == 12


def short(space: spaces.Space) -> str:
    return f"Discrete({space.n})" if isinstance(space, spaces.Discrete) else f"Box{space.shape}"


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_the_card_has_every_field(task: ControlTask) -> None:
    for field in (
        "Observation, ",
        "Action, ",
        "Horizon: ",
        "Success: ",
        "Dense reward: ",
        "Untrained success rate: ",
        "Source: ",
    ):
        assert f"\n{field}" in task.card
    assert f"``{task.outcome_id}``" in task.card


def test_registering_again_changes_nothing() -> None:
    before = {env_id: gym.registry[env_id] for env_id in IDS}
    register_envs()
    assert all(gym.registry[env_id] is spec for env_id, spec in before.items())
    assert all(has_batched_form(env_id) and has_batched_form(f"sppo_rl:{env_id}") for env_id in IDS)
    assert not has_batched_form("CartPole-v1")


def test_importing_sppo_rl_registers_the_ids_and_loads_no_simulator() -> None:
    program = (
        "import sys, sppo_rl, gymnasium as gym\n"
        "assert 'sppo_rl/LunarLanderDense-v0' in gym.registry\n"
        "from sppo_rl.envs import list_envs; list_envs()\n"
        "print([name for name in ('mujoco', 'Box2D', 'pygame', 'gymnasium.envs.mujoco') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.filterwarnings("ignore")
def test_passes_both_env_checkers(env: gym.Env) -> None:
    gymnasium_check_env(env, skip_render_check=True)
    sb3_check_env(env, skip_render_check=True)


def test_a_seed_decides_everything(env: gym.Env) -> None:
    first, again, other = rollout(env, 5), rollout(env, 5), rollout(env, 6)
    assert_same(first, again)
    assert not np.array_equal(first[0], other[0])


def test_pickles(env: gym.Env) -> None:
    assert env.spec is not None
    rollout(env, 1, steps=3)
    assert_same(rollout(env, 5), rollout(pickle.loads(pickle.dumps(env)), 5))


def test_is_an_outcome_task_without_a_time_limit_wrapper(env: gym.Env) -> None:
    chain = []
    while isinstance(env, gym.Wrapper):
        chain.append(type(env))
        env = env.env
    assert not any(issubclass(wrapper, gym.wrappers.TimeLimit) for wrapper in chain)
    assert sum(issubclass(wrapper, OutcomeWrapper) for wrapper in chain) == 1


@pytest.mark.parametrize("env_id", ["sppo_rl/Hopper-v0", "sppo_rl/LunarLander-v0"])
def test_works_in_worker_processes(env_id: str) -> None:
    """The module before the id makes a process that has not imported sppo_rl import it, as Gymnasium provides."""
    workers = SubprocVecEnv([functools.partial(gym.make, f"sppo_rl:{env_id}")])
    workers.seed(3)
    single = gym.make(env_id)
    observations = workers.reset()
    np.testing.assert_array_equal(observations[0], single.reset(seed=3)[0])
    single.action_space.seed(0)
    for _ in range(30):
        action = single.action_space.sample()
        observations, rewards, dones, infos = workers.step(np.array([action]))
        observation, reward, terminated, _, info = single.step(action)
        assert dones[0] == terminated
        assert rewards[0] == np.float32(reward)
        if terminated:
            assert infos[0]["is_success"] == info["is_success"]
            assert infos[0]["TimeLimit.truncated"] is False
            observation, _ = single.reset()
        np.testing.assert_array_equal(observations[0], observation)
    workers.close()


def test_make_vec_env_reports_success_through_monitor() -> None:
    venv = make_vec_env("sppo_rl/PrecisionCartPole200-v0", n_envs=2, seed=0)
    venv.reset()
    ended = []
    for step in range(60):
        _, _, dones, infos = venv.step(np.full(2, step // 3 % 2))
        ended += [info for done, info in zip(dones, infos, strict=True) if done]
    assert ended
    assert all(info["is_success"] is False and info["episode"]["r"] == 0.0 for info in ended)


@pytest.mark.parametrize("name", ["PrecisionCartPole", "MountainCar", "LunarLander", "Pendulum"])
def test_renders(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = gym.make(f"sppo_rl/{name}-v0", render_mode="rgb_array")
    env.reset(seed=0)
    first = env.render()
    env.action_space.seed(0)
    for _ in range(5):
        env.step(env.action_space.sample())
    later = env.render()
    assert isinstance(first, np.ndarray)
    assert first.ndim == 3
    assert not np.array_equal(first, later)
    env.close()


def test_hopper_takes_a_render_mode() -> None:
    # Drawing itself needs OpenGL, which not every machine that runs tests has.
    env = gym.make("sppo_rl/Hopper-v0", render_mode="rgb_array")
    assert env.render_mode == "rgb_array"
    env.reset(seed=0)
    env.close()


def test_the_rewards_of_the_dense_twins() -> None:
    """The two that are not gymnasium's, on steps worked out by hand."""

    def angle(degrees: float) -> np.ndarray:
        return np.array([0, 0, np.deg2rad(degrees), 0])

    assert cartpole.dense_reward(angle(0), 0, angle(0.0), False) == pytest.approx(1.0)
    assert cartpole.dense_reward(angle(0), 0, angle(-0.4), False) == pytest.approx(1.0 - 0.5 * 0.4 / 12)
    assert cartpole.dense_reward(angle(0), 0, angle(6.0), False) == pytest.approx(0.25)
    assert cartpole.dense_reward(angle(0), 0, angle(13.0), True) == 0.0
    floor, flag = np.array([-np.pi / 6, 0.0]), np.array([0.45, 0.0])
    assert mountain_car.dense_reward(floor, None, floor, False) == pytest.approx(-0.001)
    assert mountain_car.dense_reward(floor, None, flag, True) == pytest.approx(1.0 - 0.001 + 1.0)
    # On the floor energy is all kinetic, v²/2; from there to the flag it takes 0.0025 (sin 1.35 + 1) / 3.
    moving = np.array([-np.pi / 6, 0.02])
    climb = 0.0025 / 3 * (np.sin(1.35) + 1)
    assert mountain_car.dense_reward(floor, None, moving, False) == pytest.approx(0.0002 / climb - 0.001)
