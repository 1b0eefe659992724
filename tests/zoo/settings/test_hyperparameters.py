"""The YAML files fit the constructors and the paper; names that do not exist are answered with those that do."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sppo_rl.envs.control.catalog import TASKS
from sppo_rl.zoo.names import ALGORITHMS, UsageError, check_env_id, file_name, is_ours, suggestion
from sppo_rl.zoo.running.models import build_model
from sppo_rl.zoo.settings.hyperparameters import (
    check_keys,
    load_hyperparameters,
    parameters_of,
    parse_overrides,
    read_entry,
    read_file,
)
from sppo_rl.zoo.shipped.prior import load_prior

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
OUTCOME_IDS = [task.outcome_id for task in TASKS]
# the paper's trajectories per update
EPISODES = {
    "sppo_rl/PrecisionCartPole-v0": 64,
    "sppo_rl/PrecisionCartPole200-v0": 64,
    "sppo_rl/MountainCar-v0": 8,
    "sppo_rl/Hopper-v0": 8,
    "sppo_rl/LunarLander-v0": 16,
    "sppo_rl/Pendulum-v0": 16,
}


@pytest.mark.parametrize("folder", [None, BENCHMARKS / "hyperparams"], ids=["package", "benchmarks"])
@pytest.mark.parametrize("algo", ALGORITHMS)
def test_every_file_has_every_task_and_only_known_keys(algo, folder):
    table = read_file(algo, folder)
    assert set(table) == set(OUTCOME_IDS)
    for env_id, settings in table.items():
        assert isinstance(settings["n_timesteps"], int)
        assert settings["policy"] == "MlpPolicy"
        check_keys(algo, settings)
        numbers = {key: value for key, value in settings.items() if "learning_rate" in key or key in ("gamma", "gae_lambda")}
        # YAML 1.1 reads 1e-3 as a string
        assert all(isinstance(value, float) for value in numbers.values()), (env_id, numbers)


@pytest.mark.parametrize("algo", [name for name in ALGORITHMS if is_ours(name)])
def test_episodes_in_an_update_are_the_papers(algo):
    assert {env_id: settings["n_episodes"] for env_id, settings in read_file(algo).items()} == EPISODES


def test_stable_baselines_gets_the_same_schedule():
    ours, theirs = (read_file(algo, BENCHMARKS / "hyperparams") for algo in ("ppo", "sb3-ppo"))
    horizons = {task.outcome_id: task.horizon for task in TASKS}
    for env_id, settings in theirs.items():
        assert settings["n_envs"] == ours[env_id]["n_episodes"]
        assert settings["n_steps"] == horizons[env_id]
        assert settings["batch_size"] == settings["n_envs"] * settings["n_steps"]
        for key in ("n_timesteps", "n_epochs", "learning_rate", "gamma", "gae_lambda"):
            assert settings[key] == ours[env_id][key], (env_id, key)


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_models_are_built_with_what_the_file_says(algo):
    env_id = "sppo_rl/MountainCar-v0"
    hyperparameters = load_hyperparameters(algo, env_id)
    model, from_prior = build_model(algo, env_id, hyperparameters, seed=3, prior=False)
    assert not from_prior
    assert type(model) is ALGORITHMS[algo]
    assert model.seed == 3
    assert model.get_env().num_envs == 8
    for key, value in hyperparameters.kwargs.items():
        if isinstance(value, (int, str)):
            assert getattr(model, key) == value
    assert model.lr_schedule(1.0) == read_file(algo)[env_id]["learning_rate"]


def test_the_bce_ablation_uses_bce_on_an_environment_in_no_file_too():
    assert load_hyperparameters("ppo-bce", "CartPole-v1").kwargs == {"critic_loss": "bce"}
    assert load_hyperparameters("ppo-bce", "sppo_rl/Pendulum-v0").kwargs["critic_loss"] == "bce"
    assert "critic_loss" not in load_hyperparameters("ppo", "sppo_rl/Pendulum-v0").kwargs


def test_overrides_win_and_keys_of_the_run_are_kept_apart():
    chosen = load_hyperparameters("sppo", "sppo_rl/Hopper-v0", {"n_epochs": 9, "n_timesteps": 5})
    assert chosen.n_timesteps == 5
    assert chosen.kwargs["n_epochs"] == 9
    assert chosen.kwargs["n_episodes"] == 8
    assert "n_timesteps" not in chosen.kwargs
    assert chosen.has_entry
    assert not load_hyperparameters("sppo", "CartPole-v1").has_entry
    assert chosen.as_dict() == {**read_file("sppo")["sppo_rl/Hopper-v0"], "n_epochs": 9, "n_timesteps": 5}


def test_an_entry_takes_the_place_of_the_files():
    chosen = load_hyperparameters("sppo", "sppo_rl/PrecisionCartPole200-v0", {"n_epochs": 9}, {"n_episodes": 12})
    assert chosen.as_dict() == {"n_timesteps": 1_000_000, "policy": "MlpPolicy", "n_episodes": 12, "n_epochs": 9}
    assert load_hyperparameters("ppo-bce", "CartPole-v1", entry={}).kwargs == {"critic_loss": "bce"}


@pytest.mark.parametrize("key", ["n_timesteps", "n_envs"])
def test_counts_below_one_are_named_with_where_they_stand(key):
    with pytest.raises(UsageError, match=f"{key} must be at least 1, got 0 in --hyperparams"):
        load_hyperparameters("sb3-ppo", "CartPole-v1", {key: 0}, {key: 5})
    with pytest.raises(
        UsageError, match=f"{key} must be at least 1, got -3 in the hyperparameter file's entry for CartPole-v1"
    ):
        load_hyperparameters("sb3-ppo", "CartPole-v1", {"n_steps": 8}, {key: -3, "batch_size": 8})


@pytest.mark.parametrize("prior", [False, True])
def test_what_an_entry_leaves_out_is_the_constructors_default(prior):
    env_id = "sppo_rl/PrecisionCartPole200-v0"
    assert {"batch_size", "clip_range"} <= set(read_file("sppo")[env_id])
    model, from_prior = build_model("sppo", env_id, load_hyperparameters("sppo", env_id, entry={"n_episodes": 8}), prior=prior)
    assert from_prior == prior
    assert (model.n_episodes, model.batch_size, model.n_epochs, model.clip_range(1.0)) == (8, None, 4, 0.2)


def test_an_update_of_another_size_keeps_its_minibatches():
    entry = {"n_episodes": 64, "batch_size": 16}
    assert load_hyperparameters("sppo", "CartPole-v1", {"n_episodes": 8}, entry).kwargs == {"n_episodes": 8, "batch_size": 2}
    assert load_hyperparameters("sppo", "CartPole-v1", {"n_episodes": 2}, entry).kwargs == {"n_episodes": 2, "batch_size": 1}
    own = {"n_episodes": 8, "batch_size": 8}
    assert load_hyperparameters("sppo", "CartPole-v1", own, entry).kwargs == own
    assert load_hyperparameters("sppo", "CartPole-v1", {"n_epochs": 2}, entry).kwargs == {**entry, "n_epochs": 2}
    of_sb3 = {"n_envs": 4, "n_steps": 100, "batch_size": 200}
    assert load_hyperparameters("sb3-ppo", "CartPole-v1", {"n_steps": 50}, of_sb3).kwargs["batch_size"] == 100
    model = load_prior("sppo_rl/PrecisionCartPole200-v0", n_episodes=8)
    assert (model.n_episodes, model.batch_size) == (8, read_file("sppo")["sppo_rl/PrecisionCartPole200-v0"]["batch_size"] // 8)


def test_settings_come_from_a_file_of_ones_own_or_a_folder_of_such_files(tmp_path):
    (tmp_path / "sppo.yml").write_text("a/A-v0: {n_episodes: 3}\n")
    for conf_file in (tmp_path, tmp_path / "sppo.yml"):
        assert read_entry("sppo", "a/A-v0", conf_file) == {"n_episodes": 3}
    assert read_entry("sppo", "a/A-v0", None) is None
    with pytest.raises(UsageError, match=r"no hyperparameter file .*grpo\.yml"):
        read_entry("grpo", "a/A-v0", tmp_path)
    with pytest.raises(UsageError, match=r"sppo\.yml has no entry for a/B-v0. It has: a/A-v0"):
        read_entry("sppo", "a/B-v0", tmp_path)
    (tmp_path / "sppo.yml").write_text("n_episodes: 3\n")
    with pytest.raises(UsageError, match="must map environment ids to settings"):
        read_entry("sppo", "a/A-v0", tmp_path)
    (tmp_path / "sppo.yml").write_text("a: [")
    with pytest.raises(UsageError, match=r"sppo\.yml is no valid YAML"):
        read_entry("sppo", "a/A-v0", tmp_path)


def test_parameters_are_collected_through_keyword_arguments_passed_on():
    assert {"gamma", "n_episodes", "clip_range_vf"} <= set(parameters_of(ALGORITHMS["ppo"]))
    assert "clip_range_vf" not in parameters_of(ALGORITHMS["sppo"])
    assert "n_steps" not in parameters_of(ALGORITHMS["ppo"])
    assert "seed" not in parameters_of(ALGORITHMS["sb3-ppo"])


@pytest.mark.parametrize(
    ("algo", "key", "message"),
    [
        ("sppo", "learning_rat", "Did you mean 'learning_rate'"),
        ("sb3-ppo", "n_episodes", "sb3-ppo has no hyperparameter 'n_episodes'"),
        ("grpo", "seed", "option of its own"),
    ],
)
def test_an_unknown_key_is_named_with_what_was_meant(algo, key, message):
    with pytest.raises(UsageError, match=message):
        load_hyperparameters(algo, "sppo_rl/Hopper-v0", {key: 1})


def test_key_value_pairs():
    pairs = [
        "learning_rate=lin_3e-4",
        "n_epochs:8",
        "policy_kwargs=dict(net_arch=dict(pi=[8], vf=[4]))",
        "target_kl=None",
        "ent_coef=1e-2",
    ]
    assert parse_overrides(pairs) == {
        "learning_rate": "lin_3e-4",
        "n_epochs": 8,
        "policy_kwargs": {"net_arch": {"pi": [8], "vf": [4]}},
        "target_kl": None,
        "ent_coef": 0.01,
    }
    # a value may hold the other separator
    assert parse_overrides(["a=null", "b=true", "c=false", "d=None"]) == {"a": None, "b": True, "c": False, "d": None}
    assert parse_overrides(["a=b:c", "d:e=f"]) == {"a": "b:c", "d": "e=f"}
    with pytest.raises(UsageError, match="got 'n_epochs'"):
        parse_overrides(["n_epochs"])


def test_values_are_never_executed():
    assert parse_overrides(["a=__import__('os').getcwd()"]) == {"a": "__import__('os').getcwd()"}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("Pendulm-v0", "sppo_rl/Pendulum-v0"),
        ("sppo_rl/hopper-v0", "sppo_rl/Hopper-v0"),
        ("mountaincar", "sppo_rl/MountainCar-v0"),
    ],
)
def test_a_wrong_id_says_what_exists_and_what_was_meant(typed, meant):
    with pytest.raises(UsageError, match=f"Did you mean '{meant}'") as error:
        check_env_id(typed)
    assert all(env_id in str(error.value) for env_id in OUTCOME_IDS)


def test_no_suggestion_where_nothing_is_near():
    assert suggestion("zzzz", ["sppo", "ppo"]) == ""


def test_ids_are_turned_into_file_names():
    assert file_name("sppo_rl/Hopper-v0") == "sppo_rl-Hopper-v0"


def test_files_are_plain_yaml_as_rl_zoo3_reads_it():
    # rl_zoo3 looks up hyperparams_dict[env_id] after yaml.safe_load of the whole file
    from importlib.resources import files

    for algo in ALGORITHMS:
        content = yaml.safe_load(files("sppo_rl.zoo").joinpath("hyperparams", f"{algo}.yml").read_text())
        assert all(isinstance(content[env_id], dict) for env_id in OUTCOME_IDS)
