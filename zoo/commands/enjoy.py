"""Render a trained agent to a video file.

  sppo-rl enjoy --model logs/sppo/sppo_rl-MountainCar-v0_1 --env sppo_rl/MountainCar-v0 -o car.mp4
  sppo-rl enjoy --agent --env sppo_rl/Pendulum-v0 -o pendulum.mp4
  sppo-rl enjoy --prior --env sppo_rl/LunarLander-v0 -o lander.gif --episodes 5 --greedy

The file's ending chooses its format: .mp4, .gif, .mkv, .avi, .mov or .webm.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import imageio.v2 as imageio
import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm

from sppo_rl.collection import LONGEST_EPISODE
from sppo_rl.evaluation import evaluation_seeds
from sppo_rl.zoo.commands import options
from sppo_rl.zoo.commands.evaluate import chosen_model
from sppo_rl.zoo.names import UsageError, check_env_id

FORMATS = (".mp4", ".gif", ".mkv", ".avi", ".mov", ".webm")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Add the options.

    :param parser: of this command
    """
    options.add_env(parser)
    options.add_model(parser)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the video, such as video.mp4")
    parser.add_argument("--episodes", type=int, default=3, metavar="N", help="default 3")
    options.add_seed(parser, of="initial states and sampled actions")
    parser.add_argument("--greedy", action="store_true", help="the most likely actions instead of samples")


def run(arguments: argparse.Namespace) -> int:
    """
    Render.

    :param arguments: parsed
    :raises UsageError: if the options make no sense
    """
    th.set_num_threads(1)
    check_env_id(arguments.env)
    if arguments.episodes < 1:
        raise UsageError(f"--episodes must be at least 1, got {arguments.episodes}.")
    if arguments.output.suffix not in FORMATS:
        raise UsageError(
            f"The file's ending chooses the video's format ({', '.join(FORMATS)}); got {arguments.output.name!r}."
        )
    choose_renderer()
    model = chosen_model(arguments)
    env = make_rendered(arguments.env)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    fps = env.metadata.get("render_fps", 30)
    th.manual_seed(arguments.seed)
    with imageio.get_writer(arguments.output, **writer_options(arguments.output, fps)) as video:
        for number, seed in enumerate(evaluation_seeds(arguments.episodes, arguments.seed), start=1):
            steps, total, info, over = play(model, env, int(seed), arguments.greedy, video)
            verdict = "" if "is_success" not in info else ", success" if info["is_success"] else ", no success"
            cut = "" if over else ", cut short: the environment sets no end"
            print(f"episode {number}: {steps} steps, return {total:.2f}{verdict}{cut}")
    env.close()
    print(f"Written: {arguments.output}")
    return 0


def play(model: BaseAlgorithm, env: gym.Env, seed: int, greedy: bool, video: Any) -> tuple[int, float, dict[str, Any], bool]:
    """
    Play one episode and film it; like an evaluation, no longer than the model's ``max_episode_steps``.

    :param model: chooses actions
    :param env: with ``render_mode="rgb_array"``
    :param seed: of the initial state
    :param greedy: the most likely actions instead of samples
    :param video: imageio writer
    :return: number of steps, return, last info, whether the episode ended
    """
    observation, info = env.reset(seed=seed)
    video.append_data(frame(env))
    steps, total, over = 0, 0.0, False
    normalizer = model.get_vec_normalize_env()
    while not over and steps < getattr(model, "max_episode_steps", LONGEST_EPISODE):
        seen = observation if normalizer is None else normalizer.normalize_obs(observation)
        action, _ = model.predict(seen, deterministic=greedy)
        observation, reward, terminated, truncated, info = env.step(action)
        video.append_data(frame(env))
        steps, total, over = steps + 1, total + float(reward), terminated or truncated
    return steps, total, info, over


def frame(env: gym.Env) -> np.ndarray:
    """
    Render one frame with even sides, which video codecs ask for.

    :param env: with ``render_mode="rgb_array"``
    :return: (height, width, 3) uint8
    """
    image = np.asarray(env.render(), dtype=np.uint8)
    return image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]


def writer_options(path: Path, fps: float) -> dict[str, Any]:
    """
    Options for imageio's writer.

    :param path: of the video
    :param fps: frames per second
    """
    if path.suffix == ".gif":
        return {"duration": 1000 / fps, "loop": 0}
    return {"fps": fps, "macro_block_size": 2}


def choose_renderer() -> None:
    """Without a screen MuJoCo must be told, before it is imported, to draw off-screen; SDL complains otherwise."""
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        if "mujoco" not in sys.modules:
            os.environ.setdefault("MUJOCO_GL", "egl")
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")


def make_rendered(env_id: str) -> gym.Env:
    """
    Make an environment that renders to arrays, and render once.

    :param env_id: a Gymnasium id
    :raises UsageError: if this machine cannot; says what to do
    """
    try:
        env = gym.make(env_id, render_mode="rgb_array")
        env.reset(seed=0)
        frame(env)
        return env
    except Exception as error:
        if not isinstance(error, _rendering_errors()):
            raise
        raise UsageError(
            f"{env_id} cannot be rendered here ({type(error).__name__}: {error}). MuJoCo tasks need OpenGL: on a machine without a screen "
            "install EGL (Debian: apt install libegl1) and set MUJOCO_GL=egl, or OSMesa (apt install libosmesa6) and set "
            "MUJOCO_GL=osmesa. Other tasks need pygame (pip install 'sppo-rl[control]')."
        ) from error


def _rendering_errors() -> tuple[type[Exception], ...]:
    """What missing graphics libraries raise; MuJoCo's own error exists only where it has been imported."""
    errors: list[type[Exception]] = [ImportError, AttributeError, RuntimeError, OSError, gym.error.Error]
    if "mujoco" in sys.modules and hasattr(sys.modules["mujoco"], "FatalError"):
        errors.append(sys.modules["mujoco"].FatalError)
    return tuple(errors)
