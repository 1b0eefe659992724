"""Response tokens per second of whole GRPO updates: this package beside TRL's ``GRPOTrainer``, in one process, interleaved.

Same model (Qwen2 architecture, about 0.9 million weights, random), same prompts, 256 responses in an update, groups of eight, one
optimizer step, float32, generation by the training process itself on both sides (no vLLM), no skipping of zero advantages. Each repetition
times one after the other; the order alternates. TRL's calls begin after its trainer is built; ours after the model is. Tokens count alike
on both sides: those of the responses, end-of-sequence included; their mean length is in the result. Beside wall-clock seconds there is the
ratio in seconds of the processor, which other work on the machine disturbs less.

    python benchmarks/llm_throughput.py

It also sets our phases against their floors: generation against a bare loop over the model's own forward pass with a key-value cache at
full batch, training against the matrix products alone.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch as th
import transformers
import trl
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedTokenizerFast, Qwen2Config

from sppo_rl import GRPO
from sppo_rl.atomic import write_atomically
from sppo_rl.envs.reasoning import MathReasoningEnv, from_pairs
from sppo_rl.zoo.results import provenance

LETTERS = "0123456789+-*/=()abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
RESPONSES, GROUP, BUDGET, PROMPTS = 256, 8, 96, 512


def make_tokenizer() -> Any:
    vocabulary = {"<pad>": 0, "<eos>": 1, **{letter: k + 2 for k, letter in enumerate(LETTERS)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Split("", "isolated"), decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>")


def make_model(tokenizer: Any) -> Any:
    th.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=384, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=256, tie_word_embeddings=True, initializer_range=0.05,
        pad_token_id=0, bos_token_id=None, eos_token_id=1,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config, dtype=th.float32)


def prompts() -> list[str]:
    draw = np.random.default_rng(0)
    return ["+".join(str(number) for number in draw.integers(10, 99, size=draw.integers(3, 6))) + "=" for _ in range(PROMPTS)]


class Timing(NamedTuple):
    """Of some updates."""

    rate: float
    """Response tokens a second."""
    cpu_rate: float
    """Response tokens a second of this process on a processor."""
    length: float
    """Mean length of a response."""


class Clock:
    def __init__(self) -> None:
        gc.collect()  # nobody pays for the other's garbage
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self, tokens: int, updates: int) -> Timing:
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        return Timing(tokens / wall, tokens / cpu, tokens / (updates * RESPONSES))


class Ours:
    """``GRPO.learn()``."""

    def __init__(self, model: Any, tokenizer: Any):
        env = MathReasoningEnv(
            from_pairs([(p, "0") for p in prompts()]), tokenizer, 24, BUDGET, lambda r, gold: float(len(r) % 2)
        )
        self.model = GRPO(
            "TransformerPolicy", env, group_size=GROUP, n_episodes=RESPONSES, n_epochs=1, learning_rate=1e-5, seed=0, device="cpu",
            skip_zero_advantage=False, policy_kwargs={"model": model},
        )  # fmt: skip
        self.phases = {"collect": 0.0, "update": 0.0}

    def run(self, updates: int) -> Timing:
        clock, tokens = Clock(), 0
        for _ in range(updates):
            self.model.learn(1, log_interval=None, reset_num_timesteps=True)
            tokens += self.model.num_tokens
            for phase in self.phases:
                self.phases[phase] += self.model.logger.name_to_value[f"time/{phase}_seconds"]
        return clock.read(tokens, updates)


class Theirs:
    """``trl.GRPOTrainer.train()``."""

    def __init__(self, model: Any, tokenizer: Any, folder: str):
        self.model, self.tokenizer, self.folder = model, tokenizer, folder
        self.tokens = 0

    def reward(self, completions: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        self.tokens += sum(map(len, completion_ids))
        return [float(len(completion) % 2) for completion in completions]

    def run(self, updates: int) -> Timing:
        config = trl.GRPOConfig(
            output_dir=self.folder, per_device_train_batch_size=64, gradient_accumulation_steps=RESPONSES // 64, num_generations=GROUP,
            max_completion_length=BUDGET, temperature=1.0, learning_rate=1e-5, beta=0.0, num_iterations=1, max_steps=updates,
            gradient_checkpointing=False, use_cpu=True, bf16=False, report_to="none", save_strategy="no", logging_strategy="no",
            disable_tqdm=True, seed=0,
        )  # fmt: skip
        trainer = trl.GRPOTrainer(
            model=self.model,
            args=config,
            reward_funcs=self.reward,
            train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in prompts()]),
            processing_class=self.tokenizer,
        )
        self.tokens = 0
        clock = Clock()
        trainer.train()
        return clock.read(self.tokens, updates)


@th.no_grad()
def bare_loop_rate(model: Any, width: int = 16) -> float:
    """Tokens a second of greedy decoding at full batch: forward passes with a cache and nothing else."""
    cache, ids = DynamicCache(config=model.config), th.randint(2, 60, (RESPONSES, width))
    started = time.perf_counter()
    for _ in range(BUDGET):
        ids = (
            model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            .logits[:, -1]
            .argmax(-1, keepdim=True)
        )
    return RESPONSES * BUDGET / (time.perf_counter() - started)


def product_rate(model: Any, rows: int = 4096) -> float:
    """Tokens a second of the matrix products of one forward and one backward pass (three products for each weight matrix)."""
    shapes = [tuple(p.shape) for name, p in model.named_parameters() if p.ndim == 2]
    best = float("inf")
    for _ in range(3):
        seconds = 0.0
        for out, into in shapes:
            x, w, y = th.randn(rows, into), th.randn(out, into), th.randn(rows, out)
            started = time.perf_counter()
            x @ w.T, y.T @ x, y @ w  # only their time counts
            seconds += time.perf_counter() - started
        best = min(best, seconds)
    return rows / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--updates", type=int, default=3, help="in each timed call")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "llm_throughput.json")
    arguments = parser.parse_args()
    th.set_num_threads(arguments.threads)
    transformers.utils.logging.set_verbosity_error()
    tokenizer = make_tokenizer()
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Ours(make_model(tokenizer), tokenizer), Theirs(make_model(tokenizer), tokenizer, folder)
        for side in (ours, theirs):
            side.run(1)  # warm up
        ours.phases = dict.fromkeys(ours.phases, 0.0)
        pairs: list[tuple[Timing, Timing]] = []
        for repeat in range(arguments.repeats):
            if repeat % 2 == 0:
                mine = ours.run(arguments.updates)
                other = theirs.run(arguments.updates)
            else:
                other = theirs.run(arguments.updates)
                mine = ours.run(arguments.updates)
            pairs.append((mine, other))
            print(
                f"ours {mine.rate:,.0f}, TRL {other.rate:,.0f} response tokens a second: {mine.rate / other.rate:.2f} "
                f"(processor time: {mine.cpu_rate / other.cpu_rate:.2f})",
                flush=True,
            )
    ratios = sorted(mine.rate / other.rate for mine, other in pairs)
    cpu_ratios = sorted(mine.cpu_rate / other.cpu_rate for mine, other in pairs)
    total = sum(ours.phases.values())
    actor: Any = ours.model.policy
    result = {
        **provenance.describe(["python", "benchmarks/llm_throughput.py", *sys.argv[1:]], ("transformers", "trl")),
        "threads": arguments.threads,
        "weights": sum(p.numel() for p in actor.model.parameters()),
        "responses_per_update": RESPONSES,
        "longest_response": BUDGET,
        "ours_mean_response": round(statistics.mean(mine.length for mine, _ in pairs), 1),
        "trl_mean_response": round(statistics.mean(other.length for _, other in pairs), 1),
        "ours_tokens_per_second": round(statistics.median(mine.rate for mine, _ in pairs)),
        "trl_tokens_per_second": round(statistics.median(other.rate for _, other in pairs)),
        "ratio_median": round(statistics.median(ratios), 2),
        "ratio_min": round(ratios[0], 2),
        "ratio_max": round(ratios[-1], 2),
        "cpu_ratio_median": round(statistics.median(cpu_ratios), 2),
        "cpu_ratio_min": round(cpu_ratios[0], 2),
        "cpu_ratio_max": round(cpu_ratios[-1], 2),
        "our_share_of_time": {phase: round(seconds / total, 3) for phase, seconds in ours.phases.items()},
        "floor_generation_bare_loop_tokens_per_second": round(bare_loop_rate(actor.model)),
        "floor_training_products_tokens_per_second": round(product_rate(actor.model)),
    }  # fmt: skip
    write_atomically(arguments.out, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
