"""Make the small language models that 'sppo-rl train-llm --config chain_sum_tiny' and chain_sum_long start from, by imitation.

  sppo-rl pretrain-llm --target 0.15 --seed 0 -o my_priors
  sppo-rl pretrain-llm --prior chain_sum_long -o my_priors

Most demonstrations give the answer directly, which so small a model cannot learn; the others work it out. The model ends up sampling
both ways and is seldom right, and reinforcement learning can find out which way pays. Training stops once its sampled success rate on
held-out problems reaches the target. Written: a Hugging Face folder, and a card of measured rates beside it. Same command, same seed:
same weights, on one machine with the same packages. Takes three to six minutes of one core.

chain_sum_long goes on from the shipped chain_sum_tiny and writes every chain out four times: as hard, and four times as long.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sppo_rl.cores import torch_threads
from sppo_rl.zoo.commands import options
from sppo_rl.zoo.names import UsageError, suggestion
from sppo_rl.zoo.results import provenance
from sppo_rl.zoo.running.quiet import no_transformers_bars

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sppo_rl.envs.reasoning.bandit import ReasoningTask
    from sppo_rl.zoo.language.prior import Recipe, Stage
    from sppo_rl.zoo.language.prior_card import LanguagePriorCard

CARD_SEED = 3
"""Of the problems on the card: none of them has chosen the weights."""
SELECTION_SEED = 4


def pretrain(
    target: float = 0.15,
    seed: int = 0,
    output: str | Path = "priors",
    problems: int = 2000,
    report: Callable[[str], None] = print,
    recipe: Recipe | None = None,
    prior: str = "chain_sum_tiny",
) -> LanguagePriorCard:
    """
    Make the prior and its card.

    :param target: success rate aimed at, responses sampled
    :param seed: of everything random
    :param output: folder to write ``chain_sum_tiny/``, ``.json`` and ``.md`` to, or by what name the prior has
    :param problems: held-out problems on which the rates of the card are measured
    :param report: is told how it goes
    :param recipe: another way to make it
    :param prior: name of what to make
    :return: the card
    :raises UsageError: if a number is out of its range, or there is no such prior
    """
    from sppo_rl.envs.reasoning.bandit import ReasoningTask
    from sppo_rl.zoo.language import prior as llm_prior
    from sppo_rl.zoo.language.chains import MAX_PROMPT_TOKENS, chain_problems

    if not 0.0 < target <= 1.0:
        raise UsageError(f"The target is a success rate between 0 and 1, got {target}.")
    if problems < 1:
        raise UsageError(f"The card needs at least one problem, got {problems}.")
    known = llm_prior.RECIPES
    if prior not in known:
        raise UsageError(f"There is no recipe of a prior {prior!r}.{suggestion(prior, known)} Known: {', '.join(known)}.")
    recipe = recipe or known[prior]
    named = [] if prior == llm_prior.NAME else ["--prior", prior]
    # the order of sums, and so the weights, would depend on the number of threads
    with torch_threads(1):
        training = chain_problems(recipe.problems, seed=seed)
        selection = chain_problems(recipe.selection_problems, seed=SELECTION_SEED, held_out=True)
        model, stage = llm_prior.imitate(
            target, training, selection, recipe, seed,
            report=lambda stage: report(f"{stage.step:>6} steps   loss {stage.loss:.3f}   pass@1 {stage.sampled.rate:.3f}"),
        )  # fmt: skip
        if stage.sampled.rate < target:
            report(
                f"the target {target:g} was not reached; the nearest was {stage.sampled.rate:.3f}, after {stage.step} steps"
            )
        folder = Path(output) / prior
        tokenizer = llm_prior.make_tokenizer()
        with no_transformers_bars():
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        report(f"wrote {folder}; measuring it on {problems:,} problems, sampled and greedy")
        held_out = chain_problems(problems, seed=CARD_SEED, held_out=True)
        task = ReasoningTask(held_out, tokenizer, MAX_PROMPT_TOKENS, recipe.max_new_tokens)
        command = shlex.join(
            ["sppo-rl", "pretrain-llm", *named, "--target", f"{target:g}", "--seed", str(seed), "-o", str(output)]
        )
        card = _card(model, stage, recipe, task, target, command)
        task.close()
    card.write(folder)
    report(f"pass@1 {card.sampled.rate:.3f} sampled, {card.greedy.rate:.3f} greedy")
    return card


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Add the options.

    :param parser: of this command
    """
    parser.add_argument("--prior", default="chain_sum_tiny", metavar="NAME", help="chain_sum_tiny (default) or chain_sum_long")
    parser.add_argument("--target", type=float, default=0.15, metavar="RATE", help="pass@1 to stop at (default 0.15)")
    options.add_seed(parser)
    parser.add_argument("-o", "--output", default="priors", metavar="FOLDER", help="where to write (default ./priors)")
    parser.add_argument(
        "-n",
        "--problems",
        type=int,
        default=2000,
        metavar="N",
        help="held-out problems for the rates on the card (default 2000)",
    )


def run(arguments: argparse.Namespace) -> int:
    """
    Make the prior.

    :param arguments: parsed
    """
    pretrain(arguments.target, arguments.seed, arguments.output, arguments.problems, prior=arguments.prior)
    return 0


def _card(
    model: PreTrainedModel, stage: Stage, recipe: Recipe, task: ReasoningTask, target: float, command: str
) -> LanguagePriorCard:
    """Measure the model on the problems of the task."""
    from sppo_rl.zoo.language import prior as llm_prior
    from sppo_rl.zoo.language.chains import DIGITS, TERMS
    from sppo_rl.zoo.language.prior_card import LanguagePriorCard

    config = model.config
    times = "" if recipe.passes == 1 else f", {recipe.passes} times"
    start = f"From {recipe.start}: " if recipe.start else ""
    return LanguagePriorCard(
        task=f"reasoning_gym chain_sum, {TERMS[0]} to {TERMS[1]} terms of {DIGITS[0]} or {DIGITS[1]} digits",
        command=command,
        date=provenance.today(),
        network=(
            f"Qwen2, width {config.hidden_size}, {config.num_hidden_layers} layers, {config.num_attention_heads} heads, "
            f"{config.vocab_size} tokens (characters)"
        ),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        demonstrations=(
            f"{recipe.problems:,} problems, drawn with replacement; {recipe.direct:.0%} answered directly, the others by chains "
            f"(sums written out digit by digit{times}), all of them right"
        ),
        imitation=(
            f"{start}AdamW {recipe.learning_rate:g}, {stage.step:,} steps of at most {recipe.tokens_per_step:,} tokens, last step's "
            f"loss {stage.loss:.3f} nats a token"
        ),
        target=target,
        sampled=llm_prior.measure(model, task, seed=CARD_SEED),
        greedy=llm_prior.measure(model, task, seed=CARD_SEED, greedy=True),
        seed=CARD_SEED,
        versions=provenance.versions(("torch", "transformers", "reasoning-gym")),
    )
