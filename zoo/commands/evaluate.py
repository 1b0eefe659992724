"""Measure how often a model succeeds, with 95 % intervals.

  sppo-rl evaluate --model logs/sppo/sppo_rl-Pendulum-v0_1 --env sppo_rl/Pendulum-v0
  sppo-rl evaluate --prior --env sppo_rl/Pendulum-v0 -n 2000
  sppo-rl evaluate --agent --env sppo_rl/Pendulum-v0
  sppo-rl evaluate --model agents/sppo_rl-Pendulum-v0.npz --env sppo_rl/Pendulum-v0
  sppo-rl evaluate --model run --benchmarks aime24 amc23 math500 -k 16

A control task (--env): exactly n episodes, sampled and greedy, each from a seed of its own; equal --seed means equal initial states
for every model. A language model (--benchmarks): avg@k, pass@k and maj@k, every problem exactly k times; completions are kept as JSONL,
and the same command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import check_for_correct_spaces

from sppo_rl.evaluation import Evaluation, evaluate, make_evaluation_env
from sppo_rl.zoo.commands import options
from sppo_rl.zoo.names import UsageError, check_env_id
from sppo_rl.zoo.running.models import load_model
from sppo_rl.zoo.shipped.agent import load_agent
from sppo_rl.zoo.shipped.prior import load_prior


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Add the options.

    :param parser: of this command
    """
    options.add_env(parser, required=False)
    options.add_model(parser, required=False)
    parser.add_argument("-n", "--episodes", type=int, default=2000, metavar="N", help="episodes each way (default 2000)")
    options.add_seed(parser, of="initial states and sampled actions")
    options.add_language_evaluation(parser)


def run(arguments: argparse.Namespace) -> int:
    """
    Evaluate.

    :param arguments: parsed
    :raises UsageError: if the options make no sense
    """
    if (arguments.env is None) == (arguments.benchmarks is None):
        raise UsageError("Say what to evaluate on: a control task with --env, or a language model with --benchmarks.")
    if arguments.benchmarks is not None:
        try:
            from sppo_rl.zoo.commands import evaluate_llm
        except ImportError as error:
            raise UsageError(f"Language models need pip install 'sppo-rl[llm]' ({error}).") from error
        return evaluate_llm.run(arguments)
    if arguments.model is None and not arguments.prior and not arguments.agent:
        raise UsageError("Say what to evaluate: --model PATH, --prior, or --agent.")
    th.set_num_threads(1)
    check_env_id(arguments.env)
    if arguments.episodes < 1:
        raise UsageError(f"--episodes must be at least 1, got {arguments.episodes}.")
    model = chosen_model(arguments)
    print(f"{arguments.env}, {arguments.episodes} episodes from seed {arguments.seed}")
    for name, deterministic in (("sampled", False), ("greedy", True)):
        print(f"{name:>8}: {describe(evaluate(model, arguments.env, arguments.episodes, deterministic, arguments.seed))}")
    return 0


def chosen_model(arguments: argparse.Namespace) -> BaseAlgorithm:
    """
    Load the model that ``--model``, ``--prior``, ``--agent`` and ``--algo`` choose.

    :param arguments: parsed
    :raises UsageError: if there is none, or it was trained on other spaces
    """
    weights = Path(arguments.model) if arguments.model and Path(arguments.model).suffix == ".npz" else None
    if arguments.prior or arguments.agent or weights:
        if arguments.algo is not None:
            raise UsageError(
                "--algo belongs to a --model that was saved by a run; priors and agents say by themselves what they are."
            )
        try:
            shipped: BaseAlgorithm = (
                load_prior(arguments.env, path=weights) if not arguments.agent else load_agent(arguments.env)
            )
        except FileNotFoundError as error:
            raise UsageError(str(error)) from error
        return shipped
    model = load_model(arguments.model, arguments.algo)
    check_spaces(model, arguments.env)
    return model


def check_spaces(model: BaseAlgorithm, env_id: str) -> None:
    """
    Check that a model fits an environment.

    :param model: any
    :param env_id: a Gymnasium id
    :raises UsageError: if it was trained on other spaces; says on which
    """
    venv = make_evaluation_env(model, env_id, 1)
    try:
        check_for_correct_spaces(venv, model.observation_space, model.action_space)
    except ValueError as error:
        raise UsageError(
            f"The model does not fit {env_id}: it was trained on observations {model.observation_space} and actions "
            f"{model.action_space}, and these are {venv.observation_space} and {venv.action_space}. Name the environment of its training."
        ) from error
    finally:
        venv.close()


def describe(result: Evaluation) -> str:
    """
    Put an evaluation into words.

    :param result: an evaluation
    """
    episodes = f"return {result.mean_return:.2f}, length {result.mean_length:.0f}"
    if result.successes is None:
        return episodes + " (this environment reports no success)"
    low, high = result.success_interval()
    return f"success {result.success_rate:.3f} [{low:.3f}, {high:.3f}], {episodes}"
