"""The small language models' priors: their tokenizer, their architecture, and how they learn to imitate written sums.

On disk they are plain Hugging Face folders, so ``AutoModelForCausalLM`` reads them. The tokenizer has a token for each character.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch as th
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config

from sppo_rl.envs.reasoning import Problem
from sppo_rl.envs.reasoning.bandit import ReasoningTask
from sppo_rl.llm.generation import Sampling
from sppo_rl.llm.generation.transformers_backend import TransformersGenerator
from sppo_rl.llm.models import output_layer
from sppo_rl.zoo.language.chains import (
    CHARACTERS,
    LONG_MAX_NEW_TOKENS,
    LONG_PASSES,
    MAX_NEW_TOKENS,
    MAX_PROMPT_TOKENS,
    demonstrate,
    is_chain,
)
from sppo_rl.zoo.language.models import PRIORS

NAME, LONG_NAME = "chain_sum_tiny", "chain_sum_long"
"""Of the shipped priors, their folders, and the configurations that train them."""
SHIPPED = PRIORS / NAME
# named as in Qwen2: AutoTokenizer, which takes the architecture's own class whatever the folder says, would add what it misses
PAD, EOS = "<|endoftext|>", "<|im_end|>"
WARMUP_STEPS = 50
POOL = 2048
"""Demonstrations from which batches of similar length are made."""


@dataclass(frozen=True)
class Recipe:
    """
    How the prior is made.

    :param problems: different problems among the demonstrations
    :param direct: share of direct answers among the demonstrations, the others being chains
    :param learning_rate: of AdamW; after a short warm-up it falls linearly to a tenth at ``max_steps``
    :param tokens_per_step: tokens in a gradient step, prompts and padding included
    :param max_steps: gradient steps at most
    :param steps_between: gradient steps between two measurements
    :param selection_problems: held-out problems in each of these measurements
    :param start: name of a shipped prior to go on from; ``None`` for random weights
    :param passes: how often a chain is written out
    :param max_new_tokens: longest response
    """

    problems: int = 30_000
    direct: float = 0.6
    learning_rate: float = 3e-3
    tokens_per_step: int = 2048
    max_steps: int = 3600
    steps_between: int = 150
    selection_problems: int = 256
    start: str | None = None
    passes: int = 1
    max_new_tokens: int = MAX_NEW_TOKENS


RECIPES = {
    NAME: Recipe(),
    LONG_NAME: Recipe(
        learning_rate=2e-3, tokens_per_step=4096, max_steps=1400, steps_between=100, start=NAME, passes=LONG_PASSES,
        max_new_tokens=LONG_MAX_NEW_TOKENS,
    ),
}  # fmt: skip
"""Name → how what ships under it is made. The long one knows the short chains and learns to write them out again."""


@dataclass(frozen=True)
class Measurement:
    """
    Responses to n problems, judged.

    :param successes: right ones
    :param responses: n
    :param chains: how many worked something out before the box
    :param chain_successes: right ones among these
    :param tokens: of all responses together, end-of-sequence tokens included
    """

    successes: int
    responses: int
    chains: int
    chain_successes: int
    tokens: int

    @property
    def rate(self) -> float:
        """Share of right responses."""
        return self.successes / self.responses


@dataclass(frozen=True)
class Stage:
    """
    A measurement while the prior learns.

    :param step: gradient steps so far
    :param loss: of the last step, nats for each token of the responses
    :param sampled: on held-out problems
    """

    step: int
    loss: float
    sampled: Measurement


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Make the tokenizer: padding (0), end of sequence (1), a token for each of :data:`~sppo_rl.zoo.language.chains.CHARACTERS`."""
    vocabulary = {PAD: 0, EOS: 1, **{character: number + 2 for number, character in enumerate(CHARACTERS)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=PAD))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Split("", "isolated"), decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS, pad_token=PAD)


def make_config(max_new_tokens: int = MAX_NEW_TOKENS) -> Qwen2Config:
    """
    Make the architecture: Qwen2's, width 96, three layers, about 340,000 parameters, and rotations fit for a few hundred places.

    :param max_new_tokens: longest response, which the positions have to hold behind a prompt
    """
    positions = 1 << (MAX_PROMPT_TOKENS + max_new_tokens).bit_length()
    return Qwen2Config(
        vocab_size=len(CHARACTERS) + 2, hidden_size=96, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=positions, tie_word_embeddings=True, initializer_range=0.05,
        rope_parameters={"rope_type": "default", "rope_theta": 1000.0}, pad_token_id=0, bos_token_id=None, eos_token_id=1,
    )  # fmt: skip


def imitate(
    target: float,
    training: Sequence[Problem],
    held_out: Sequence[Problem],
    recipe: Recipe,
    seed: int = 0,
    report: Callable[[Stage], None] = lambda stage: None,
) -> tuple[Any, Stage]:
    """
    Learn from demonstrations until the sampled success rate on held-out problems reaches a target.

    :param target: success rate
    :param training: problems to demonstrate on
    :param held_out: problems to measure on
    :param recipe: see there
    :param seed: of weights, demonstrations and samples
    :param report: told of each measurement
    :return: the causal language model of the measurement nearest to the target, and that measurement
    """
    th.manual_seed(seed)
    rng = np.random.default_rng(seed)
    tokenizer = make_tokenizer()
    model = AutoModelForCausalLM.from_config(make_config(recipe.max_new_tokens), dtype=th.float32)
    if recipe.start is not None:
        model.load_state_dict(AutoModelForCausalLM.from_pretrained(PRIORS / recipe.start, dtype=th.float32).state_dict())
    task = ReasoningTask(held_out, tokenizer, MAX_PROMPT_TOKENS, recipe.max_new_tokens)
    optimizer = th.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=0.01, betas=(0.9, 0.95))
    best: tuple[Stage, dict[str, th.Tensor]] | None = None
    batches = demonstration_batches(training, tokenizer, recipe, rng)
    for step in range(1, recipe.max_steps + 1):
        rate = recipe.learning_rate * min(1.0, step / WARMUP_STEPS) * (1.0 - 0.9 * step / recipe.max_steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = response_loss(model, *next(batches))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % recipe.steps_between and step < recipe.max_steps:
            continue
        stage = Stage(step, loss.item(), measure(model, task, seed=seed))
        report(stage)
        if best is None or abs(stage.sampled.rate - target) < abs(best[0].sampled.rate - target):
            best = stage, {name: value.clone() for name, value in model.state_dict().items()}
        if stage.sampled.rate >= target:
            break
    task.close()
    assert best is not None
    model.load_state_dict(best[1])
    return model, best[0]


def demonstration_batches(
    problems: Sequence[Problem], tokenizer: Any, recipe: Recipe, rng: np.random.Generator
) -> Iterator[tuple[th.Tensor, th.Tensor]]:
    """
    Make batches of demonstrations without end, each of sequences of similar length.

    :param problems: to demonstrate on; drawn anew for each pool of demonstrations
    :param tokenizer: of the model
    :param recipe: its ``direct``, ``passes`` and ``tokens_per_step``
    :param rng: draws problems, ways of answering, and the order of batches
    :return: ids (n, T) int64, padded on the right with 0, and the number of prompt tokens in each row (n,) int64
    """
    while True:
        pool = []
        for number in rng.integers(len(problems), size=POOL):
            problem = problems[number]
            response = demonstrate(problem, rng, recipe.direct, recipe.passes)
            pool.append((tokenizer.encode(problem.prompt), [*tokenizer.encode(response), tokenizer.eos_token_id]))
        pool.sort(key=lambda pair: len(pair[0]) + len(pair[1]))
        batches: list[list[tuple[list[int], list[int]]]] = []
        batch: list[tuple[list[int], list[int]]] = []
        for prompt, answer in pool:
            if batch and (len(batch) + 1) * (len(prompt) + len(answer)) > recipe.tokens_per_step:
                batches.append(batch)
                batch = []
            batch.append((prompt, answer))
        for number in rng.permutation(len(batches)):
            rows = [th.tensor(prompt + response) for prompt, response in batches[number]]
            lengths = th.tensor([len(prompt) for prompt, _ in batches[number]])
            yield nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths


def response_loss(model: Any, ids: th.Tensor, prompt_len: th.Tensor) -> th.Tensor:
    """
    Compute the mean negative log-likelihood of the responses' tokens.

    :param model: causal
    :param ids: (n, T) int64: prompt, response, padding (0)
    :param prompt_len: (n,) int64
    :return: () nats
    """
    hidden = model.base_model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    place = th.arange(1, ids.shape[1])
    counted = (place >= prompt_len.unsqueeze(1)) & (ids[:, 1:] != 0)
    return nn.functional.cross_entropy(output_layer(model)(hidden[counted]), ids[:, 1:][counted])


def respond(model: Any, task: ReasoningTask, seed: int = 0, greedy: bool = False) -> list[dict[str, Any]]:
    """
    Answer every problem of a task once and have it judged by the problem's verifier.

    :param model: causal
    :param task: problems with their prompts encoded
    :param seed: of the samples
    :param greedy: the most likely tokens instead of samples
    :return: for each problem what :class:`~sppo_rl.envs.reasoning.MathReasoningEnv` puts into ``info``
    """
    generator = TransformersGenerator(model, responses_per_pass=256)
    generator.sync_weights([], 0)
    sampling = Sampling(task.max_new_tokens, task.eos, task.vocab_size, 1.0, seed, greedy)
    responses = generator.generate([np.asarray(ids) for ids in task.encoded], sampling, 0)
    actions = np.full((len(responses), task.max_new_tokens), task.vocab_size)
    for row, response in enumerate(responses):
        actions[row, : len(response.token_ids)] = response.token_ids
    return task.judge(range(len(responses)), actions)[1]


def measure(model: Any, task: ReasoningTask, seed: int = 0, greedy: bool = False) -> Measurement:
    """
    Answer every problem of a task once and count.

    :param model: causal
    :param task: problems with their prompts encoded
    :param seed: of the samples
    :param greedy: the most likely tokens instead of samples
    """
    infos = respond(model, task, seed, greedy)
    chains = [info for info in infos if is_chain(info["text"])]
    return Measurement(
        successes=sum(info["is_success"] for info in infos),
        responses=len(infos),
        chains=len(chains),
        chain_successes=sum(info["is_success"] for info in chains),
        tokens=sum(info["response_tokens"] for info in infos),
    )
