"""One training run: from its settings to a folder with evaluations, checkpoints and models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch as th
import yaml
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import get_device

from sppo_rl import __version__
from sppo_rl.algorithm import SequenceAlgorithm
from sppo_rl.atomic import write_atomically
from sppo_rl.callbacks import EvaluationCallback, save_atomically
from sppo_rl.checkpoint import CheckpointCallback, load_checkpoint
from sppo_rl.collection import LONGEST_EPISODE
from sppo_rl.envs.registration import list_envs
from sppo_rl.zoo.names import LABELS, UsageError, algorithm_class, check_env_id, check_seed, is_ours, plain_id
from sppo_rl.zoo.reading import read_yaml
from sppo_rl.zoo.running.callback import RunCallback
from sppo_rl.zoo.running.folders import BEST_MODEL, CHECKPOINTS, CONFIG, EVALUATIONS, LAST_MODEL
from sppo_rl.zoo.running.models import build_model, make_training_env
from sppo_rl.zoo.settings.hyperparameters import Hyperparameters, load_hyperparameters, update_size

CHECKPOINTS_IN_A_RUN = 50
"""An exact checkpoint is written this often in a run, roughly."""


@dataclass(frozen=True)
class RunSpec:
    """
    What a run depends on; equal specifications give equal weights.

    :param algo: name on the command line
    :param env_id: a Gymnasium id
    :param seed: of everything random
    :param timesteps: length of the run in environment steps, or
    :param episodes: its length in episodes; with neither the algorithm's file decides
    :param prior: start from the shipped prior; ``None``: if there is one
    :param overrides: hyperparameters that differ from the file
    :param entry: the file's settings for the environment, if it is not the package's own file
    :param eval_every: distance between evaluations, in the unit of the run's length; ``None`` for a twentieth of it
    :param eval_episodes: episodes in an evaluation, sampled and greedy each
    :param eval_seed: of the evaluations' initial states
    :param device: as in SB3
    """

    algo: str
    env_id: str
    seed: int = 0
    timesteps: int | None = None
    episodes: int | None = None
    prior: bool | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    entry: dict[str, Any] | None = None
    eval_every: int | None = None
    eval_episodes: int = 100
    eval_seed: int = 0
    device: str = "cpu"

    def check(self) -> RunSpec:
        """
        Check the names and numbers.

        :raises UsageError: at the first that cannot be
        """
        algorithm_class(self.algo)
        check_env_id(self.env_id)
        check_seed(self.seed)
        if self.timesteps is not None and self.episodes is not None:
            raise UsageError("Give the length of a run in time steps or in episodes, not both.")
        for name in ("timesteps", "episodes", "eval_every", "eval_episodes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, got {value}.")
        try:
            get_device(self.device)
        except RuntimeError as error:
            raise UsageError(f"device must be cpu, cuda, auto or what PyTorch calls one, got {self.device!r}.") from error
        kwargs = self.hyperparameters().kwargs
        schedules = [f"{key}={value}" for key, value in kwargs.items() if isinstance(value, str) and value.startswith("lin_")]
        if schedules and self.episodes is not None and not is_ours(self.algo):
            raise UsageError(
                f"{LABELS[self.algo]}'s schedules follow time steps, and how many {self.episodes} episodes will take is not known before: "
                f"{schedules[0]} would hardly change. Give a constant, or the length of the run in time steps (--timesteps)."
            )
        return self

    def hyperparameters(self) -> Hyperparameters:
        """The file's settings and the overrides."""
        return load_hyperparameters(self.algo, self.env_id, self.overrides, self.entry)

    @property
    def unit(self) -> str:
        """What the run's length is counted in."""
        return "timesteps" if self.episodes is None else "episodes"

    @property
    def length(self) -> int:
        """The run's length in its unit."""
        return self.episodes or self.timesteps or self.hyperparameters().n_timesteps

    @property
    def total_timesteps(self) -> int:
        """What ``learn()`` is given: for a budget of episodes, the most steps they can take."""
        return self.length if self.episodes is None else self.episodes * self.horizon

    @property
    def horizon(self) -> int:
        """The longest an episode can last."""
        return horizon(self.env_id, self.hyperparameters().kwargs.get("max_episode_steps", LONGEST_EPISODE))


def horizon(env_id: str, without_limit: int = LONGEST_EPISODE) -> int:
    """
    Give the longest an episode can last.

    :param env_id: a Gymnasium id
    :param without_limit: where the environment states no limit
    """
    ours = {env.id: env.horizon for env in list_envs()}
    env_id = plain_id(env_id)
    return ours.get(env_id) or gym.spec(env_id).max_episode_steps or without_limit


def run(
    spec: RunSpec,
    folder: Path,
    callbacks: Sequence[BaseCallback] = (),
    resume: bool = False,
    tensorboard: bool = False,
    verbose: int = 0,
    announce: Callable[[str], None] = lambda message: None,
) -> tuple[BaseAlgorithm, EvaluationCallback]:
    """
    Train, evaluate at fixed checkpoints, and save the best and the last model.

    :param spec: what to do
    :param folder: of this run; made if it does not exist
    :param callbacks: further callbacks; each ``RunCallback`` is given the evaluation callback
    :param resume: go on from the newest exact checkpoint in the folder, if there is one; SB3's PPO has none and starts anew
    :param tensorboard: write TensorBoard logs into the folder
    :param verbose: of the algorithm
    :param announce: told where the run starts from
    :return: the trained model, its environment closed, and the callback with its evaluations
    :raises ValueError: if the losses become NaN or infinite
    """
    hyperparameters = spec.hyperparameters()
    model: BaseAlgorithm | None = None
    if resume and is_ours(spec.algo):
        env = make_training_env(spec.algo, spec.env_id, hyperparameters, spec.seed)
        model = load_run(spec.algo, folder, env, spec.device, tensorboard, verbose)
        if model is None:
            env.close()
    if model is not None:
        announce(f"Resumed at {model.num_timesteps:,} steps.")
    else:
        model, from_prior = build_model(
            spec.algo,
            spec.env_id,
            hyperparameters,
            seed=spec.seed,
            prior=spec.prior,
            device=spec.device,
            verbose=verbose,
            tensorboard_log=str(folder) if tensorboard else None,
        )
        # only now: a run that cannot be built leaves no folder behind
        folder.mkdir(parents=True, exist_ok=True)
        (folder / EVALUATIONS).unlink(missing_ok=True)
        write_config(spec, folder, hyperparameters, from_prior)
        announce("Starts from the shipped prior." if from_prior else "Starts from random weights.")
    evaluation = EvaluationCallback(
        spec.env_id,
        every=spec.eval_every or max(spec.length // 20, 1),
        unit=spec.unit,  # type: ignore[arg-type]
        n_episodes=spec.eval_episodes,
        seed=spec.eval_seed,
        csv_path=folder / EVALUATIONS,
        best_model_path=folder / BEST_MODEL,
        stop_after_episodes=spec.episodes,
    )
    checkpoints: list[BaseCallback] = []
    if is_ours(spec.algo):
        steps_in_update = update_size(spec.algo, hyperparameters.kwargs) * spec.horizon
        updates = max(spec.total_timesteps // steps_in_update, 1)
        checkpoints = [CheckpointCallback(folder / CHECKPOINTS, every_updates=max(updates // CHECKPOINTS_IN_A_RUN, 1))]
    assert model.env is not None
    # some tasks have worker processes
    with closing(model.env):
        learn_the_rest(model, spec.total_timesteps, evaluation, [*checkpoints, *callbacks], log_interval=10)
        save_atomically(model, folder / LAST_MODEL)
    return model, evaluation


def load_run(algo: str, folder: Path, env: GymEnv, device: str, tensorboard: bool, verbose: int) -> SequenceAlgorithm | None:
    """
    Load the newest exact checkpoint of a run, of either kind.

    :param algo: name on the command line
    :param folder: of the run
    :param env: made as it was for the run that was killed
    :param device: as in SB3
    :param tensorboard: write TensorBoard logs into the folder
    :param verbose: of the algorithm
    :return: the model, or ``None`` if there is no checkpoint
    """
    cls: Any = algorithm_class(algo)
    model: SequenceAlgorithm | None = load_checkpoint(cls, folder / CHECKPOINTS, env=env, device=device)
    if model is not None:
        model.verbose = verbose
        # what was saved may be relative to another working folder
        model.tensorboard_log = str(folder) if tensorboard else None
    return model


def learn_the_rest(
    model: BaseAlgorithm,
    total_timesteps: int,
    evaluation: EvaluationCallback,
    callbacks: Sequence[BaseCallback],
    log_interval: int,
) -> None:
    """
    Train a run of either kind to its end. One that was killed after its last checkpoint has been trained and evaluated: of it the
    evaluations are read.

    :param model: new, or from a checkpoint
    :param total_timesteps: length of the whole run
    :param evaluation: has the rows of the whole run afterwards
    :param callbacks: further callbacks; each ``RunCallback`` is given the evaluation callback
    :param log_interval: updates between two dumps of the log
    """
    for callback in callbacks:
        if isinstance(callback, RunCallback):
            callback.evaluation = evaluation
    evaluation.init_callback(model)
    budget = evaluation.stop_after_episodes
    if model.num_timesteps >= total_timesteps or (budget is not None and evaluation.episodes >= budget):
        rows = evaluation.read_rows()
        # learn() would evaluate once more
        if rows and rows[-1]["timesteps"] == model.num_timesteps:
            evaluation.rows = rows
            return
    _take_first_step()
    model.learn(
        total_timesteps - model.num_timesteps,
        callback=[evaluation, *callbacks],
        tb_log_name="tensorboard",
        reset_num_timesteps=model.num_timesteps == 0,
        log_interval=log_interval,
    )


def _take_first_step() -> None:
    """PyTorch imports its compiler at the first optimizer step of a process; those seconds are not this run's training."""
    parameter = th.zeros(1, requires_grad=True)
    parameter.grad = th.zeros(1)
    th.optim.Adam([parameter]).step()


def write_config(spec: RunSpec, folder: Path, hyperparameters: Hyperparameters, from_prior: bool) -> None:
    """
    Write down what a run is: enough to repeat or resume it.

    :param spec: the run
    :param folder: of the run
    :param hyperparameters: all that are not the constructor's defaults
    :param from_prior: whether it started from a prior
    """
    config = {
        **asdict(spec),
        "prior": from_prior,
        "hyperparameters": hyperparameters.as_dict(),
        "sppo_rl": __version__,
    }
    write_atomically(folder / CONFIG, yaml.safe_dump(config, sort_keys=False))


def read_config(folder: Path) -> RunSpec:
    """
    Read what a run is. Its hyperparameters are those it was begun with, whatever the package's files say by now.

    :param folder: of the run
    :raises UsageError: if it is not the folder of a run, or that of a language run
    """
    path = folder / CONFIG
    if not path.is_file():
        raise UsageError(f"{folder} is not the folder of a run: it has no {CONFIG}.")
    config = read_yaml(path)
    keys = list(config) if isinstance(config, dict) else []
    if "responses" in keys:
        raise UsageError(f"{folder} is the folder of a language run. Go on with it by: sppo-rl train-llm --resume {folder}")
    if not {"algo", "env_id", "hyperparameters"} <= set(keys) or not isinstance(config["hyperparameters"], dict):
        raise UsageError(
            f"{path} does not say what the run is: it must have algo, env_id and hyperparameters (a mapping), and has "
            f"{', '.join(map(str, keys)) or 'no keys'}. Begin a run of its own."
        )
    fields = {name: config[name] for name in RunSpec.__dataclass_fields__ if name in config}
    return RunSpec(**{**fields, "entry": config["hyperparameters"]})
