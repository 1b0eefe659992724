"""Values as rl_zoo3's files and its command line have them: read into plain data, made into what constructors take."""

from __future__ import annotations

import json

import gymnasium as gym
import pytest
import torch as th
import yaml
from torch import nn

from sppo_rl import SPPO
from sppo_rl.zoo.cli import main
from sppo_rl.zoo.names import UsageError
from sppo_rl.zoo.running.models import build_model
from sppo_rl.zoo.settings.hyperparameters import load_hyperparameters, parse_overrides
from sppo_rl.zoo.settings.values import constructor_values, literal, plain_values

# as a file of rl_zoo3's writes them
FILE = """
CartPole-v1:
  n_timesteps: !!float 2e3
  n_envs: "2"
  policy: 'MlpPolicy'
  learning_rate: lin_1e-3
  ent_coef: 1e-4
  clip_range: lin_0.2
  n_epochs: 4.0
  target_kl: 'None'
  policy_kwargs: "dict(net_arch=dict(pi=[16], vf=[8]), activation_fn=nn.ReLU, ortho_init=False)"
"""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1e3", 1000.0),
        ("lin_3e-4", "lin_3e-4"),
        ("dict(net_arch=[dict(pi=[8], vf=(4,))], a=true)", {"net_arch": [{"pi": [8], "vf": (4,)}], "a": True}),
        (
            "dict(activation_fn=nn.ReLU, optimizer_class=th.optim.SGD)",
            {"activation_fn": "nn.ReLU", "optimizer_class": "th.optim.SGD"},
        ),
        ("{'activation_fn': nn.Tanh}", {"activation_fn": "nn.Tanh"}),
        ("dict(a=f(1))", {"a": "f(1)"}),
        ("dict(net_arch=[32)", "dict(net_arch=[32)"),
        ("__import__('os').getcwd()", "__import__('os').getcwd()"),
    ],
)
def test_text_is_read_and_never_executed(text, value):
    assert literal(text) == value


@pytest.mark.parametrize("algo", ["sppo", "sb3-ppo"])
def test_a_file_of_rl_zoo3s_shape_makes_a_model_that_trains(algo):
    chosen = load_hyperparameters(algo, "CartPole-v1", None, yaml.safe_load(FILE)["CartPole-v1"])
    # plain, so that a run can write it down
    assert json.loads(json.dumps(chosen.as_dict())) == yaml.safe_load(yaml.safe_dump(chosen.as_dict())) == chosen.as_dict()
    assert (chosen.n_timesteps, chosen.n_envs, chosen.kwargs["n_epochs"]) == (2000, 2, 4)
    assert all(type(number) is int for number in (chosen.n_timesteps, chosen.n_envs, chosen.kwargs["n_epochs"]))
    small = {"n_steps": 8, "batch_size": 16} if algo == "sb3-ppo" else {"n_episodes": 2}
    chosen = load_hyperparameters(algo, "CartPole-v1", small, chosen.as_dict())
    model, _ = build_model(algo, "CartPole-v1", chosen, prior=False)
    assert (model.ent_coef, model.target_kl) == (1e-4, None)
    assert [model.lr_schedule(progress) for progress in (1.0, 0.5, 0.0)] == [1e-3, 5e-4, 0.0]
    assert [model.clip_range(progress) for progress in (1.0, 0.5)] == [0.2, 0.1]
    assert type(model.policy.mlp_extractor.policy_net[1]) is nn.ReLU
    assert model.policy.mlp_extractor.policy_net[0].out_features == 16
    model.learn(16)


def test_a_schedule_from_the_command_line_reaches_stable_baselines_from_a_prior_too():
    overrides = parse_overrides(["learning_rate=lin_3e-4", "n_steps=8", "batch_size=8", "n_envs=1"])
    env_id = "sppo_rl/PrecisionCartPole200-v0"
    model, from_prior = build_model("sb3-ppo", env_id, load_hyperparameters("sb3-ppo", env_id, overrides))
    assert from_prior
    assert model.lr_schedule(0.5) == 1.5e-4


def test_values_that_fit_stay_as_they_are():
    settings = {
        "learning_rate": 1,
        "critic_init": "first_batch",
        "clip_range": "0.3",
        "batch_size": None,
        "policy": "CnnPolicy",
    }
    assert plain_values("sppo", settings) == {**settings, "clip_range": 0.3}
    assert plain_values("sppo", {"critic_init": "0.25"}) == {"critic_init": 0.25}
    # YAML has no tuples
    assert plain_values("sppo", {"policy_kwargs": {"net_arch": (8, 8)}}) == {"policy_kwargs": {"net_arch": [8, 8]}}
    made = constructor_values(
        "sppo", {"policy_kwargs": {"optimizer_class": "th.optim.SGD", "optimizer_kwargs": {"nesterov": False}}}
    )
    assert made["policy_kwargs"]["optimizer_class"] is th.optim.SGD


@pytest.mark.parametrize(
    ("algo", "key", "value", "message"),
    [
        ("sppo", "learning_rate", "fast", "learning_rate must be a number or a schedule such as 'lin_3e-4', got 'fast'"),
        ("sb3-ppo", "clip_range", "lin_much", "clip_range must be a number or a schedule"),
        ("sppo", "ent_coef", "lin_1e-3", "ent_coef must be a number, got 'lin_1e-3'"),
        ("sb3-ppo", "n_epochs", 2.5, "n_epochs must be a whole number, got 2.5"),
        ("sppo", "n_timesteps", "long", "n_timesteps must be a whole number, got 'long'"),
        ("sppo", "policy_kwargs", "dict(net_arch=[32)", "policy_kwargs must be a mapping or null"),
        ("sppo", "policy_kwargs", "dict(activation_fn=nn.Relu)", "no class nn.Relu for activation_fn. Did you mean 'ReLU'"),
        ("sppo", "policy_kwargs", {"activation_fn": "relu"}, "activation_fn must name a class of PyTorch, such as nn.ReLU"),
    ],
)
def test_what_cannot_be_is_said_before_training(algo, key, value, message):
    with pytest.raises(UsageError, match=message):
        load_hyperparameters(algo, "CartPole-v1", None, {key: value})


def test_the_examples_of_the_help_train(tmp_path, capsys):
    words = ["train", "--algo", "sb3-ppo", "--env", "CartPole-v1", "--timesteps", "64", "--eval-episodes", "1"]
    changes = ["learning_rate=lin_3e-4", "n_epochs=8", "policy_kwargs=dict(net_arch=[32])", "n_steps=64", "batch_size=64"]
    assert main([*words, "--hyperparams", *changes, "--log-folder", str(tmp_path)]) == 0
    assert "Done" in capsys.readouterr().out
    assert main([*words, "--hyperparams", "ent_coef=much"]) == 1
    assert "ent_coef must be a number, got 'much'" in capsys.readouterr().err


def test_a_loaded_model_takes_schedules_as_text(tmp_path):
    SPPO("MlpPolicy", "CartPole-v1", n_episodes=2).save(tmp_path / "x")
    changed = {"learning_rate": "lin_3e-4", "clip_range": "lin_0.4", "critic_learning_rate": "lin_1e-2"}
    model = SPPO.load(tmp_path / "x", env=gym.make("CartPole-v1"), **changed)
    assert [model.lr_schedule(0.5), model.clip_range(0.5), model.critic_lr_schedule(0.5)] == [1.5e-4, 0.2, 5e-3]
    model.save(tmp_path / "y")
    assert SPPO.load(tmp_path / "y").lr_schedule(0.5) == 1.5e-4
