"""The language part of 'sppo-rl demo': a tiny model learns to work sums out before it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from sppo_rl.cores import torch_threads
from sppo_rl.envs.reasoning import Problem
from sppo_rl.envs.reasoning.bandit import ReasoningTask
from sppo_rl.llm.loading import load_policy
from sppo_rl.zoo.language import runs as language_runs
from sppo_rl.zoo.language.config import LanguageConfig, load_config, problems_of
from sppo_rl.zoo.language.evaluation import describe
from sppo_rl.zoo.language.prior import NAME, SHIPPED, respond
from sppo_rl.zoo.language.prior_card import LanguagePriorCard
from sppo_rl.zoo.running.progress import RunProgress
from sppo_rl.zoo.running.quiet import no_transformers_bars

EVALUATIONS, PROBLEMS = 4, 256
"""How often a run is evaluated after its start, and on how many held-out problems: less than in the configuration, to save time."""
SHOWN = 3
"""Problems whose answers are printed."""


def demo_config(responses: int) -> LanguageConfig:
    """
    Shorten the shipped configuration.

    :param responses: length of the run
    """
    config = load_config(NAME)
    n_episodes = config.hyperparameters["n_episodes"]
    every = max(responses // EVALUATIONS // n_episodes, 1) * n_episodes
    return replace(config, responses=responses, evaluation=replace(config.evaluation, every=every, count=PROBLEMS))


def language(folder: Path, responses: int, console: Console) -> None:
    """
    Train the shipped prior with SPPO and show what it says before and after.

    :param folder: of the run; empty, or made if it does not exist
    :param responses: length of the run
    :param console: to write to
    """

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    config = demo_config(responses)
    card = LanguagePriorCard.read(SHIPPED)
    say(
        f"{card.task}. The language model has {card.parameters:,} weights and a token for each character.\nMost of the demonstrations it "
        "imitated gave the answer at once, which is more than it can learn; the others worked it out.\nReward: 1 for a right answer, "
        "else 0.\n"
    )
    # the model is so small that a second thread would wait for the first
    with torch_threads(1):
        problems = problems_of(config.evaluation.problems)[:SHOWN]
        say("Held-out problems and the most likely answers, before training:")
        say(exchanges(problems, greedy_answers(SHIPPED, problems, config)) + "\n")
        _, evaluation = language_runs.run(
            config,
            0,
            folder,
            [RunProgress(config.responses, "responses", describe)],
            device="cpu",
            announce=lambda message: None,
        )
        say("\nThe same problems after training:")
        say(exchanges(problems, greedy_answers(folder / "policy", problems, config)))
    say(
        f"\n{what_was_learned(evaluation.rows)}\nPlots: {folder / 'plot_tokens.png'} and {folder / 'plot_seconds.png'}; table: "
        f"{folder / language_runs.DONE}; model: {folder / 'policy'}."
    )


def greedy_answers(folder: Path, problems: Sequence[Problem], config: LanguageConfig) -> list[dict[str, Any]]:
    """
    Ask a model for its most likely answers.

    :param folder: a Hugging Face folder
    :param problems: to be answered
    :param config: its limits of prompt and response
    :return: for each what :class:`~sppo_rl.envs.reasoning.MathReasoningEnv` puts into ``info``
    """
    with no_transformers_bars():
        model, tokenizer = load_policy(folder)
    task = ReasoningTask(problems, tokenizer, config.max_prompt_tokens, config.max_new_tokens)
    try:
        return respond(model, task, greedy=True)
    finally:
        task.close()


def exchanges(problems: Sequence[Problem], infos: Sequence[Mapping[str, Any]]) -> str:
    """
    Write problems with their answers, a line each.

    :param problems: with prompts that are text
    :param infos: of :func:`greedy_answers`
    """
    return "\n".join(
        f"  {problem.prompt} {info['text']}   {'right' if info['is_success'] else f'wrong: it is {problem.answer}'}"
        for problem, info in zip(problems, infos, strict=True)
    )


def what_was_learned(rows: Sequence[Mapping[str, float]]) -> str:
    """
    Say in plain numbers what training did.

    :param rows: evaluations of the run
    """
    first, last = rows[0], rows[-1]
    return (
        f"Of {PROBLEMS} held-out problems the model had {first['success']:.0%} right before, sampling its answers, and "
        f"{last['success']:.0%} after {last['episodes']:,} responses\nin {last['seconds']:.0f} s of training; its answers grew from "
        f"{first['mean_length']:.0f} to {last['mean_length']:.0f} characters."
    )
