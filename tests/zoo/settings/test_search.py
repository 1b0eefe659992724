"""The search space: the same for all that algorithms share, as documented, and every point of it makes a model."""

from __future__ import annotations

import optuna
import pytest

from sppo_rl.zoo.names import ALGORITHMS
from sppo_rl.zoo.running.models import build_model
from sppo_rl.zoo.settings.hyperparameters import check_keys, load_hyperparameters, read_file
from sppo_rl.zoo.settings.search import as_hyperparameters, space_of, starting_point, suggest
from tests.pages import DOCS, section, table

CARTPOLE = "sppo_rl/PrecisionCartPole200-v0"
SHARED = {"learning_rate", "n_epochs", "n_minibatches", "clip_range", "ent_coef", "max_grad_norm"}


def distributions(algo):
    study = optuna.create_study()
    trial = study.ask()
    drawn = suggest(trial, algo)
    assert set(drawn) == set(trial.distributions)
    return trial.distributions


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_what_algorithms_share_is_searched_in_the_same_ranges(algo):
    ours, theirs = distributions("sppo"), distributions(algo)
    assert set(theirs) >= SHARED
    assert all(theirs[name] == ours[name] for name in set(ours) & set(theirs))


def test_the_documented_space_is_the_one_that_is_searched():
    shown = [row for row in table(section(DOCS / "zoo.md", "## Tuning")) if row[0].startswith("`")]
    for algo in ALGORITHMS:
        rows = {row[0].split("`")[1]: row[1] for row in shown if row[2] == "all" or algo in row[2].split(", ")}
        space = distributions(algo)
        assert set(rows) == set(space)
        for name, values in space.items():
            if isinstance(values, optuna.distributions.CategoricalDistribution):
                assert rows[name] == ", ".join(map(str, values.choices))
            else:
                assert rows[name] == f"{values.low} to {values.high}" + (", logarithmic" if values.log else "")


@pytest.mark.parametrize("algo", ALGORITHMS)
@pytest.mark.parametrize("env_id", [CARTPOLE, "sppo_rl/MountainCar-v0"])
def test_every_corner_of_the_space_makes_a_model(algo, env_id):
    settings = load_hyperparameters(algo, env_id).as_dict()
    for largest in (False, True):
        corner = {}
        for name, space in distributions(algo).items():
            categorical = isinstance(space, optuna.distributions.CategoricalDistribution)
            corner[name] = space.choices[-1 if largest else 0] if categorical else (space.high if largest else space.low)
        overrides = as_hyperparameters(algo, suggest(optuna.trial.FixedTrial(corner), algo), settings)
        check_keys(algo, overrides)
        model, _ = build_model(algo, env_id, load_hyperparameters(algo, env_id, overrides), prior=False)
        assert model.n_epochs == (8 if largest else 1)
        update = settings["n_episodes"] if algo != "sb3-ppo" else settings["n_envs"] * settings["n_steps"]
        assert model.batch_size == (update // 4 if largest else update)


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_the_first_trial_is_the_files_own_settings(algo):
    for env_id, settings in read_file(algo).items():
        start = starting_point(algo, settings)
        study = optuna.create_study()
        study.enqueue_trial(start)
        drawn = suggest(study.ask(), algo)
        assert drawn == {name: start[name] for name in drawn}
        overrides = as_hyperparameters(algo, drawn, settings)
        file = {**settings, "batch_size": overrides["batch_size"]}
        assert {key: value for key, value in overrides.items() if key in file} == {
            key: file[key] for key in overrides if key in file
        }, env_id
        whole = settings.get("n_episodes") or settings["n_envs"] * settings["n_steps"]
        assert overrides["batch_size"] == settings.get("batch_size", whole)


@pytest.mark.parametrize(
    ("algo", "entry", "expected"),
    [
        ("sppo", {}, {"advantage": ("residual", "standardized")}),
        ("sppo", {"hybrid": 0.5}, {"advantage": None}),
        ("sppo", {"critic_loss": "mse"}, {"advantage": None}),
        ("grpo", {"n_episodes": 16}, {"group_size": (4, 8)}),
        ("grpo", {"n_episodes": 12}, {"group_size": (4,)}),
        ("rloo", {"n_episodes": 12}, {"group_size": (2, 4)}),
        ("grpo", {"n_episodes": 9, "group_size": 3}, {"group_size": None}),
    ],
)
def test_what_the_entry_rules_out_is_not_drawn(algo, entry, expected):
    space = space_of(algo, entry)
    assert {name: space[name].choices if name in space else None for name in expected} == expected
    assert set(space_of(algo)) - set(space) == {name for name, choices in expected.items() if choices is None}
    trial = optuna.create_study().ask()
    overrides = as_hyperparameters(algo, suggest(trial, algo, entry), entry)
    build_model(algo, CARTPOLE, load_hyperparameters(algo, CARTPOLE, overrides, entry), prior=False)
