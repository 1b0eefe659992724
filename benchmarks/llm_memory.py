"""Peak memory and seconds of an update: SPPO with a smaller critic beside a same-size critic, PPO and GRPO.

    python benchmarks/llm_memory.py
    python benchmarks/llm_memory.py --device cuda

On a CPU a Qwen2-architecture model of 25 million parameters, with a critic of a quarter of that or of the same size; on a GPU networks of
the shapes of Qwen2.5-1.5B and Qwen2.5-0.5B, in bfloat16. Weights are random: what the model answers does not matter, how long it takes
does. Each measurement is a process of its own, so that peaks do not mix; the configurations take turns, so that ratios survive a machine
whose speed drifts. Of two updates the second one's seconds count. ``memory_mib`` is the growth of the process's largest resident set
(VmHWM) from before the model was built; on a GPU it is the largest sum of PyTorch's allocations. ``update_memory_mib`` (GPU) leaves
generation out, whose cache is the same for all. PPO reads its critic, of the actor's size, before every token.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

CONFIGURATIONS = ("SPPO, small critic", "SPPO, same-size critic", "PPO, same-size critic", "GRPO")
LETTERS, PROMPT_TOKENS = 512, 64


class Scale(NamedTuple):
    """What is measured on a kind of device."""

    vocabulary: int
    actor: dict[str, int]
    small_critic: dict[str, int]
    responses: int
    response_tokens: int
    policy_kwargs: dict[str, Any]


def shape(width: int, inner: int, layers: int, heads: int, key_value_heads: int) -> dict[str, int]:
    """Of a network of Qwen2's architecture."""
    return {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_value_heads,
    }


SCALES = {
    "cpu": Scale(
        vocabulary=LETTERS,
        actor=shape(512, 1536, 8, 8, 4),
        small_critic=shape(256, 768, 8, 4, 2),
        responses=32,
        response_tokens=96,
        policy_kwargs={"tokens_per_pass": 2048},
    ),
    "cuda": Scale(
        vocabulary=151_936,
        actor=shape(1536, 8960, 28, 12, 2),
        small_critic=shape(896, 4864, 24, 14, 2),
        responses=64,
        response_tokens=512,
        policy_kwargs={"tokens_per_pass": 8192, "dtype": "bfloat16", "gradient_checkpointing": True},
    ),
}


def peak() -> float:
    """MiB; VmHWM begins anew with the process, ru_maxrss would be inherited."""
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024


def qwen2(of: dict[str, int], vocabulary: int) -> Any:
    from transformers import Qwen2Config

    return Qwen2Config(vocab_size=vocabulary, max_position_embeddings=1024, tie_word_embeddings=True, **of)


def environment(scale: Scale) -> Any:
    """Prompts of 8 to 64 tokens; an answer's outcome is a coin of its own, so that groups have something to compare."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from sppo_rl.envs.reasoning import MathReasoningEnv, from_pairs

    letters = {
        "<eos>": 0,
        **{chr(0x4E00 + k): k + 1 for k in range(scale.vocabulary - 1 if scale.vocabulary < 20_000 else 20_000)},
    }
    tokenizer = Tokenizer(models.WordLevel(letters, unk_token="<eos>"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Split("", "isolated"), decoders.Fuse()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")
    pairs = [("".join(chr(0x4E00 + (7 * k + j) % 500) for j in range(8 + k % 57)), "") for k in range(256)]
    coin = lambda response, gold: float(sum(map(ord, response[:3])) % 2)  # noqa: E731
    return MathReasoningEnv(from_pairs(pairs), fast, PROMPT_TOKENS, scale.response_tokens, coin)


def measure(name: str, threads: int, device: str) -> dict[str, float]:
    """One configuration in this process, two updates."""
    import torch as th

    import sppo_rl
    import sppo_rl.llm

    scale = SCALES[device]
    th.set_num_threads(threads)
    env = environment(scale)
    before = peak()
    actor, small = qwen2(scale.actor, scale.vocabulary), qwen2(scale.small_critic, scale.vocabulary)
    kwargs: dict[str, Any] = {"model": actor, **scale.policy_kwargs}
    if name != "GRPO":
        kwargs["critic"] = small if "small" in name else actor
    algorithm = getattr(sppo_rl, name.split(",")[0])
    options: dict[str, Any] = {"group_size": 8} if name == "GRPO" else {}
    model = algorithm(
        "TransformerPolicy", env, learning_rate=1e-6, n_episodes=scale.responses, batch_size=scale.responses // 2, n_epochs=1,
        policy_kwargs=kwargs, seed=0, device=device, **options,
    )  # fmt: skip
    model.learn(scale.responses, log_interval=None)
    found: dict[str, float] = {}
    if device == "cuda":
        found["memory_mib"] = th.cuda.max_memory_allocated() / 2**20
        train = model.train

        def train_from_zero(batch: Any) -> Any:
            th.cuda.reset_peak_memory_stats()
            return train(batch)

        model.train = train_from_zero
        model.learn(scale.responses, log_interval=None)
        found["update_memory_mib"] = th.cuda.max_memory_allocated() / 2**20
    else:
        model.learn(scale.responses, log_interval=None)
        found["memory_mib"] = peak() - before
    values = model.logger.name_to_value
    count = lambda module: 0 if module is None else sum(p.numel() for p in module.parameters())  # noqa: E731
    return {
        **found,
        "collect_seconds": values["time/collect_seconds"],
        "update_seconds": values["time/update_seconds"],
        "tokens": model.num_tokens,
        "actor_parameters": count(model.policy.model),
        "critic_parameters": count(model.policy.critic),
    }


def summarize(found: dict[str, list[dict[str, float]]]) -> list[dict[str, Any]]:
    """Medians over the repetitions, with the range where they differ."""
    rows = []
    for name, runs in found.items():
        row: dict[str, Any] = {"configuration": name}
        for key in runs[0]:
            values = sorted(run[key] for run in runs)
            row[key] = round(statistics.median(values), 2)
            if values[0] != values[-1]:
                row[f"{key}_range"] = [round(values[0], 2), round(values[-1], 2)]
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=list(SCALES), default="cpu")
    parser.add_argument("--one", choices=CONFIGURATIONS, help="measure this one in this process and print it")
    parser.add_argument("--out", type=Path, help="default: llm_memory.json or llm_memory_cuda.json among the results")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one, arguments.threads, arguments.device)))
        return
    import torch

    from sppo_rl.atomic import write_atomically
    from sppo_rl.zoo.results import provenance

    words = ["python", "benchmarks/llm_memory.py", *sys.argv[1:]]
    scale = SCALES[arguments.device]
    on_gpu = arguments.device == "cuda"
    out = arguments.out or Path(__file__).parent / "results" / ("llm_memory_cuda.json" if on_gpu else "llm_memory.json")
    found: dict[str, list[dict[str, float]]] = {name: [] for name in CONFIGURATIONS}
    for repeat in range(arguments.repeats):
        for name in CONFIGURATIONS:
            own = ["--one", name, "--threads", str(arguments.threads), "--device", arguments.device]
            run = subprocess.run(
                [sys.executable, "-W", "ignore", __file__, *own], stdout=subprocess.PIPE, text=True, check=True
            )
            found[name].append(json.loads(run.stdout.splitlines()[-1]))
            print(name, found[name][-1], flush=True)
        result = {
            **provenance.describe(words, ("transformers",), torch.cuda.get_device_name() if on_gpu else None),
            "threads": arguments.threads,
            "repeats": repeat + 1,
            "responses": scale.responses,
            "response_tokens": scale.response_tokens,
            "policy_kwargs": scale.policy_kwargs,
            "rows": summarize(found),
        }
        write_atomically(out, json.dumps(result, indent=1) + "\n")
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
