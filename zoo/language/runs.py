"""One language run: from its configuration to a folder with evaluations, exact checkpoints and the exported policy and critic."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from stable_baselines3.common.callbacks import BaseCallback
from transformers import AutoConfig, PreTrainedConfig

from sppo_rl import __version__
from sppo_rl.algorithm import SequenceAlgorithm
from sppo_rl.checkpoint import CheckpointCallback
from sppo_rl.envs.reasoning import MathReasoningEnv, MathReasoningVecEnv
from sppo_rl.envs.reasoning.bandit import ReasoningTask
from sppo_rl.envs.reasoning.encoding import load_tokenizer
from sppo_rl.zoo.language.check import check
from sppo_rl.zoo.language.config import LanguageConfig, config_of, problems_of
from sppo_rl.zoo.language.evaluation import ResponseEvaluation, as_results, table
from sppo_rl.zoo.language.models import model_source, shipped_priors
from sppo_rl.zoo.language.reward import load_reward
from sppo_rl.zoo.names import UsageError, algorithm_class, suggestion
from sppo_rl.zoo.reading import read_yaml
from sppo_rl.zoo.results.plots import plot_comparison
from sppo_rl.zoo.results.rows import write_atomically
from sppo_rl.zoo.running.quiet import no_advice_on_learning_rates, no_transformers_bars
from sppo_rl.zoo.running.runs import CHECKPOINTS, CHECKPOINTS_IN_A_RUN, CONFIG, EVALUATIONS, learn_the_rest, load_run

DONE = "table.md"
"""Written last."""


def build(config: LanguageConfig, seed: int, env: MathReasoningEnv, **kwargs: Any) -> SequenceAlgorithm:
    """
    Build the algorithm of a run.

    :param config: checked
    :param seed: of the run
    :param env: to train on
    :param kwargs: further parameters of the constructor (``device``, ``verbose``, ``tensorboard_log``)
    :raises UsageError: if the critic or the weights cannot be read
    """
    settings = config.constructor_kwargs()
    model, critic = model_source(config.model), config.critic
    if isinstance(critic, dict):
        critic = smaller_config(model, critic)
    elif critic is not None:
        critic = model_source(critic)
    settings["policy_kwargs"] = {**settings["policy_kwargs"], "model": model, "critic": critic}
    cls = algorithm_class(config.algo)
    assert issubclass(cls, SequenceAlgorithm)
    with ExitStack() as quietly:
        if config.model in shipped_priors():
            quietly.enter_context(no_advice_on_learning_rates())
        if Path(model).is_dir() and not (isinstance(critic, str) and not Path(critic).is_dir()):
            # nothing is fetched: that would deserve a bar
            quietly.enter_context(no_transformers_bars())
        try:
            return cls("TransformerPolicy", env, seed=seed, **settings, **kwargs)
        except OSError as error:
            raise UsageError(f"The critic {critic!r} or the weights of {model!r} cannot be read: {error}") from error


def smaller_config(model: str, changes: Mapping[str, Any]) -> PreTrainedConfig:
    """
    Describe a network like a model's, but of another size.

    :param model: local folder or hub name
    :param changes: settings of its configuration that differ, such as ``hidden_size``
    :raises UsageError: if the configuration has no such setting
    """
    config = AutoConfig.from_pretrained(model)
    known = config.to_dict()
    for name in changes:
        # transformers would keep it as an attribute that nothing reads
        if name not in known:
            raise UsageError(f"critic has no setting {name!r}.{suggestion(name, known)} It has: {', '.join(sorted(known))}.")
    # some architectures list the kind of each layer, which would contradict another number of layers
    settings = {key: value for key, value in known.items() if key != "layer_types"}
    return type(config).from_dict({**settings, **changes})


def make_envs(config: LanguageConfig) -> tuple[MathReasoningEnv, MathReasoningVecEnv]:
    """
    Make the environment of the training problems, and the one of the held-out problems, with a copy for each.

    :param config: checked
    :raises UsageError: if the model's tokenizer or the problems cannot be read
    """
    source = model_source(config.model)
    try:
        tokenizer = load_tokenizer(source)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"The model {config.model!r} cannot be read. It must be a shipped prior ({', '.join(shipped_priors())}), a local folder or a "
            f"name on the hub: {error}"
        ) from error
    problems, reward = problems_of(config.problems), None
    if config.reward is not None:
        reward = load_reward(config.reward)
        # a problem's own scorer would come first
        problems = [replace(problem, scorer=None) for problem in problems]
    env = MathReasoningEnv(problems, tokenizer, config.max_prompt_tokens, config.max_new_tokens, reward)
    held_out = problems_of(config.evaluation.problems)[: config.evaluation.count]
    task = ReasoningTask(held_out, tokenizer, config.max_prompt_tokens, config.max_new_tokens)
    # those that do not fit are left out, so each of the others is posed once
    return env, MathReasoningVecEnv.of_task(task, len(task.problems), shuffle=False)


def run(
    config: LanguageConfig,
    seed: int,
    folder: Path,
    callbacks: Sequence[BaseCallback] = (),
    resume: bool = False,
    tensorboard: bool = False,
    verbose: int = 0,
    device: str = "auto",
    announce: Callable[[str], None] = lambda message: None,
) -> tuple[SequenceAlgorithm, ResponseEvaluation]:
    """
    Train, evaluate at fixed checkpoints, export policy and critic, and draw the curve.

    :param config: what to do
    :param seed: of everything random
    :param folder: of this run; made if it does not exist
    :param callbacks: further callbacks; those with an attribute ``evaluation`` are given the evaluation callback
    :param resume: go on from the newest exact checkpoint in the folder, if there is one
    :param tensorboard: write TensorBoard logs into the folder
    :param verbose: of the algorithm
    :param device: as in SB3
    :param announce: told where the run starts from
    :return: the trained model, and the callback with its evaluations
    :raises UsageError: if the configuration does not hold together
    """
    check(config)
    env, held_out = make_envs(config)
    try:
        model = load_run(config.algo, folder, env, device, tensorboard, verbose) if resume else None
        if model is not None:
            announce(f"Resumed at {model.num_timesteps:,} responses.")
        else:
            log = str(folder) if tensorboard else None
            model = build(config, seed, env, device=device, verbose=verbose, tensorboard_log=log)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / EVALUATIONS).unlink(missing_ok=True)
            write_config(config, seed, folder)
            announce(f"Starts from {config.model}.")
        evaluation = _learn(model, config, held_out, folder, callbacks)
    finally:
        env.close()
        held_out.close()
    export(model, folder)
    report(config, seed, evaluation, held_out.num_envs, folder)
    return model, evaluation


def _learn(
    model: SequenceAlgorithm,
    config: LanguageConfig,
    held_out: MathReasoningVecEnv,
    folder: Path,
    callbacks: Sequence[BaseCallback],
) -> ResponseEvaluation:
    """Everything between building and exporting."""
    evaluation = ResponseEvaluation(
        held_out, every=config.evaluation.every, n_episodes=held_out.num_envs, csv_path=folder / EVALUATIONS
    )
    updates = max(config.responses // model.n_episodes, 1)
    checkpoints = CheckpointCallback(folder / CHECKPOINTS, every_updates=max(updates // CHECKPOINTS_IN_A_RUN, 1))
    learn_the_rest(model, config.responses, evaluation, [checkpoints, *callbacks], log_interval=1)
    return evaluation


def export(model: SequenceAlgorithm, folder: Path) -> None:
    """
    Write ``policy`` and, where there is one that predicts probabilities, ``critic`` as Hugging Face folders.

    :param model: with a ``TransformerPolicy``
    :param folder: of the run
    """
    policy: Any = model.policy
    # PPO's squared-error critic predicts normalised returns, which no such folder can say
    with no_transformers_bars():
        policy.export(folder, with_critic=policy.critic is not None and policy.value_scale.is_probability)


def report(config: LanguageConfig, seed: int, evaluation: ResponseEvaluation, problems: int, folder: Path) -> None:
    """
    Write the table and the plots of a run.

    :param config: of the run
    :param seed: of the run
    :param evaluation: with its rows
    :param problems: in an evaluation
    :param folder: of the run
    """
    rows = as_results(evaluation.rows, config.model, config.algo, seed)
    for x in ("tokens", "seconds"):
        plot_comparison(rows, folder / f"plot_{x}.png", x)
    write_atomically(folder / DONE, table({(config.algo, seed): rows}, problems))


def write_config(config: LanguageConfig, seed: int, folder: Path) -> None:
    """
    Write down what a run is: enough to repeat or resume it.

    :param config: of the run
    :param seed: of the run
    :param folder: of the run
    """
    # only what this run's algorithm reads
    own = replace(config, hyperparameters=config.constructor_kwargs(), algorithms={})
    settings = {**own.as_dict(), "seed": seed, "sppo_rl": __version__}
    write_atomically(folder / CONFIG, yaml.safe_dump(settings, sort_keys=False))


def read_config(folder: Path) -> tuple[LanguageConfig, int]:
    """
    Read what a run is.

    :param folder: of the run
    :return: configuration and seed
    :raises UsageError: if it is not the folder of a language run
    """
    path = folder / CONFIG
    settings = read_yaml(path) if path.is_file() else None
    if not isinstance(settings, dict) or not {"responses", "seed"} <= set(settings):
        raise UsageError(f"{folder} is not the folder of a language run: it has no {CONFIG} with responses and seed in it.")
    own = {key: value for key, value in settings.items() if key not in ("seed", "sppo_rl")}
    return config_of(own, where=str(path)), int(settings["seed"])
