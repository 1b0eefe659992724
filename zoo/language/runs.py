"""One language run: from its configuration to a folder with evaluations, exact checkpoints and the exported policy and critic."""

from __future__ import annotations

import inspect
import os
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
from sppo_rl.atomic import write_atomically
from sppo_rl.checkpoint import CheckpointCallback
from sppo_rl.envs.reasoning import MathReasoningEnv, MathReasoningVecEnv
from sppo_rl.envs.reasoning.bandit import ReasoningTask
from sppo_rl.envs.reasoning.encoding import load_tokenizer
from sppo_rl.llm import TransformerPolicy
from sppo_rl.llm.options import OPERATIONAL
from sppo_rl.zoo.language.check import check
from sppo_rl.zoo.language.config import LanguageConfig, config_of, problems_of
from sppo_rl.zoo.language.evaluation import ResponseEvaluation, as_results, table
from sppo_rl.zoo.language.models import model_source, shipped_priors
from sppo_rl.zoo.language.reward import load_reward
from sppo_rl.zoo.names import UsageError, algorithm_class, suggestion
from sppo_rl.zoo.reading import read_yaml
from sppo_rl.zoo.results.plots import plot_comparison
from sppo_rl.zoo.running.folders import CHECKPOINTS, CONFIG, EVALUATIONS
from sppo_rl.zoo.running.quiet import no_advice_on_learning_rates, no_transformers_bars
from sppo_rl.zoo.running.runs import CHECKPOINTS_IN_A_RUN, learn_the_rest, load_run

DONE = "table.md"
"""Written last."""
BEGUN = "begun.yml"
"""Beside the checkpoints: what the run was begun with, whatever becomes of its ``config.yml``."""


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
    :param callbacks: further callbacks; each ``RunCallback`` is given the evaluation callback
    :param resume: go on from the newest exact checkpoint in the folder, if there is one: with the settings the run was begun with, of which
        only ``responses`` and those that :data:`~sppo_rl.llm.options.OPERATIONAL` names may have been changed
    :param tensorboard: write TensorBoard logs into the folder
    :param verbose: of the algorithm
    :param device: as in SB3
    :param announce: told where the run starts from
    :return: the trained model, and the callback with its evaluations
    :raises UsageError: if the configuration does not hold together, or the run was begun with another one
    """
    check(config)
    if resume:
        require_unchanged(config, seed, folder)
    env, held_out = make_envs(config)
    try:
        model = load_run(config.algo, folder, env, device, tensorboard, verbose) if resume else None
        if model is not None:
            operate_with(config, model)
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
    text = yaml.safe_dump({**_settings(config, seed), "sppo_rl": __version__}, sort_keys=False)
    (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    write_atomically(folder / CHECKPOINTS / BEGUN, text)
    write_atomically(folder / CONFIG, text)


def _settings(config: LanguageConfig, seed: int) -> dict[str, Any]:
    """All that a run depends on, without what only other algorithms read, as YAML gives it back."""
    own = replace(config, hyperparameters=config.constructor_kwargs(), algorithms={})
    settings: dict[str, Any] = yaml.safe_load(yaml.safe_dump({**own.as_dict(), "seed": seed}, sort_keys=False))
    return settings


def require_unchanged(config: LanguageConfig, seed: int, folder: Path) -> None:
    """
    Refuse to go on with other settings than a run was begun with: most of them are in its checkpoints, so a change would be ignored or,
    worse, obeyed in part.

    :param config: to go on with
    :param seed: to go on with
    :param folder: of the run; without checkpoints it begins anew, and what versions before this check began has nothing to compare with.
        Files and folders that it names may lie elsewhere now
    :raises UsageError: naming what differs
    """
    path = folder / CHECKPOINTS / BEGUN
    if not path.is_file() or not any(path.parent.glob("checkpoint_*.zip")):
        return
    begun = {key: value for key, value in read_yaml(path).items() if key != "sppo_rl"}
    free = ("responses", *(f"hyperparameters.policy_kwargs.{name}" for name in OPERATIONAL))
    differences = _differences(begun, _settings(config, seed))
    refused = [f"{name} was {was} and is {now}" for name, was, now in differences if not name.startswith(free)]
    if refused:
        raise UsageError(
            f"A run keeps its settings, and those of {folder} are not what it was begun with: {'; '.join(refused)}. Put them back ({path} "
            f"has them all), or begin a run of its own. What may be changed is responses and, in policy_kwargs, {', '.join(OPERATIONAL)}."
        )


_NOTHING = object()


def _differences(was: Any, now: Any, name: str = "") -> list[tuple[str, str, str]]:
    """Name, value before and value now of all that differs; mappings are compared key by key."""
    if isinstance(was, dict) and isinstance(now, dict):
        found = []
        for key in dict.fromkeys([*was, *now]):
            inside = was.get(key, _NOTHING), now.get(key, _NOTHING)
            found += _differences(*inside, f"{name}.{key}" if name else str(key))
        return found
    if was == now or _moved(was, now):
        return []
    said_was, said_now = ("not given" if value is _NOTHING else repr(value) for value in (was, now))
    return [(name, said_was, said_now)]


def _moved(was: Any, now: Any) -> bool:
    """Whether two settings name a file or folder of one name, which lies elsewhere now or is reached by another path."""
    both = isinstance(was, str) and isinstance(now, str)
    return both and Path(was).name == Path(now).name and os.path.exists(now)


def operate_with(config: LanguageConfig, model: SequenceAlgorithm) -> None:
    """
    Have a run that goes on do its work as the configuration says by now: with a server at another address, say.

    :param config: to go on with
    :param model: from a checkpoint; changed, if need be
    :raises UsageError: if a value cannot be
    """
    policy: Any = model.policy
    held = dict(model.policy_kwargs or {})
    given = config.constructor_kwargs()["policy_kwargs"]
    parameters = inspect.signature(TransformerPolicy).parameters
    wanted = {name: given.get(name, parameters[name].default) for name in OPERATIONAL}
    changes = {name: value for name, value in wanted.items() if value != held.get(name, parameters[name].default)}
    if changes:
        try:
            policy.change_operation(**changes)
        except (TypeError, ValueError) as error:
            raise UsageError(f"policy_kwargs: {error}") from error
        # the next checkpoint is of the run as it is now
        model.policy_kwargs = {**held, **changes}


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
