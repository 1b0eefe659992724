"""Videos of an agent: a frame for each state, an end in any case, and what to do where nothing can be drawn."""

from __future__ import annotations

import re
from types import SimpleNamespace

import gymnasium as gym
import imageio.v2 as imageio
import numpy as np
import pytest

from sppo_rl import SPPO
from sppo_rl.zoo.cli import main
from sppo_rl.zoo.commands import enjoy
from sppo_rl.zoo.names import UsageError

CARTPOLE = "sppo_rl/PrecisionCartPole200-v0"


def test_enjoy_writes_a_video_with_a_frame_for_each_state(tmp_path, capsys):
    output = tmp_path / "video.mp4"
    assert main(["enjoy", "--prior", "--env", CARTPOLE, "-o", str(output), "--episodes", "1", "--greedy"]) == 0
    steps = int(re.search(r"episode 1: (\d+) steps", capsys.readouterr().out).group(1))
    with imageio.get_reader(output) as video:
        assert video.count_frames() == steps + 1


def test_enjoy_ends_where_the_environment_never_does(monkeypatch):
    class Endless(gym.Env):
        observation_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
        action_space = gym.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            return np.zeros(1, np.float32), {}

        def step(self, action):
            return np.zeros(1, np.float32), 1.0, False, False, {}

    frames = []
    monkeypatch.setattr(enjoy, "frame", lambda env: None)
    video = SimpleNamespace(append_data=frames.append)
    model = SPPO("MlpPolicy", Endless(), n_episodes=1, max_episode_steps=30)
    steps, total, _, over = enjoy.play(model, Endless(), 0, False, video)
    assert (steps, total, over, len(frames)) == (30, 30.0, False, 31)


def test_enjoy_says_what_to_do_where_nothing_can_be_drawn(monkeypatch):
    class NoScreen(gym.Env):
        def reset(self, *, seed=None, options=None):
            return 0, {}

        def render(self):
            raise AttributeError("'NoneType' object has no attribute 'glGetError'")

    monkeypatch.setattr(gym, "make", lambda *args, **kwargs: NoScreen())
    with pytest.raises(UsageError, match="MUJOCO_GL=egl"):
        enjoy.make_rendered("sppo_rl/Hopper-v0")
