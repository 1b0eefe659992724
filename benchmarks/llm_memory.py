"""Peak memory and seconds of an update: SPPO with a quarter-size critic beside a same-size critic, PPO and GRPO.

    python benchmarks/llm_memory.py --repeats 3

A Qwen2-architecture model of 25 million parameters with random weights answers prompts of mixed lengths; what it answers does not matter,
how long it takes does. Each measurement is a process of its own, so that peaks do not mix; the configurations take turns, so that ratios
survive a machine whose speed drifts. ``memory_mib`` is the growth of the process's largest resident set (VmHWM) from before the model was
built to after two updates; seconds are those of the second update. PPO reads its critic, of the actor's size, before every token.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

CONFIGURATIONS = ("SPPO, quarter-size critic", "SPPO, same-size critic", "PPO, same-size critic", "GRPO")
RESPONSES, PROMPT_TOKENS, RESPONSE_TOKENS, VOCABULARY = 32, 64, 96, 512


def peak() -> float:
    """MiB; VmHWM begins anew with the process, ru_maxrss would be inherited."""
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024


def qwen2(width: int, layers: int) -> Any:
    from transformers import Qwen2Config

    return Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=width, intermediate_size=3 * width, num_hidden_layers=layers,
        num_attention_heads=width // 64, num_key_value_heads=width // 128, max_position_embeddings=512, tie_word_embeddings=True,
    )  # fmt: skip


def environment() -> Any:
    """Prompts of 8 to 64 tokens; an answer's outcome is a coin of its own, so that groups have something to compare."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from sppo_rl.envs.reasoning import MathReasoningEnv, from_pairs

    letters = {"<eos>": 0, **{chr(0x4E00 + k): k + 1 for k in range(VOCABULARY - 1)}}
    tokenizer = Tokenizer(models.WordLevel(letters, unk_token="<eos>"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Split("", "isolated"), decoders.Fuse()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")
    pairs = [("".join(chr(0x4E00 + (7 * k + j) % 500) for j in range(8 + k % 57)), "") for k in range(256)]
    coin = lambda response, gold: float(sum(map(ord, response[:3])) % 2)  # noqa: E731
    return MathReasoningEnv(from_pairs(pairs), fast, PROMPT_TOKENS, RESPONSE_TOKENS, coin)


def measure(name: str, threads: int) -> dict[str, float]:
    """One configuration in this process, two updates."""
    import torch as th

    import sppo_rl
    import sppo_rl.llm

    th.set_num_threads(threads)
    env = environment()
    before = peak()
    same, quarter = qwen2(512, 8), qwen2(256, 8)
    kwargs = {"model": same, "tokens_per_pass": 2048}
    if not name.startswith("GRPO"):
        kwargs["critic"] = quarter if "quarter" in name else same
    algorithm = getattr(sppo_rl, name.split(",")[0])
    options: dict[str, Any] = {"group_size": 8} if name == "GRPO" else {}
    model = algorithm(
        "TransformerPolicy", env, learning_rate=1e-6, n_episodes=RESPONSES, batch_size=RESPONSES // 2, n_epochs=1,
        policy_kwargs=kwargs, seed=0, device="cpu", **options,
    )  # fmt: skip
    model.learn(RESPONSES, log_interval=None)
    model.learn(RESPONSES, log_interval=None)
    values = model.logger.name_to_value
    count = lambda module: 0 if module is None else sum(p.numel() for p in module.parameters())  # noqa: E731
    return {
        "memory_mib": peak() - before,
        "collect_seconds": values["time/collect_seconds"],
        "update_seconds": values["time/update_seconds"],
        "tokens": model.num_tokens,
        "actor_parameters": count(model.policy.model),
        "critic_parameters": count(model.policy.critic),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", choices=CONFIGURATIONS, help="measure this one in this process and print it")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "llm_memory.json")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one, arguments.threads)))
        return
    found: dict[str, list[dict[str, float]]] = {name: [] for name in CONFIGURATIONS}
    for _ in range(arguments.repeats):
        for name in CONFIGURATIONS:
            command = [sys.executable, "-W", "ignore", __file__, "--one", name, "--threads", str(arguments.threads)]
            run = subprocess.run(command, capture_output=True, text=True, check=True)
            found[name].append(json.loads(run.stdout.splitlines()[-1]))
            print(name, found[name][-1], flush=True)
    rows = []
    for name, runs in found.items():
        row: dict[str, Any] = {"configuration": name}
        for key in runs[0]:
            values = sorted(run[key] for run in runs)
            row[key] = round(statistics.median(values), 2)
            if values[0] != values[-1]:
                row[f"{key}_range"] = [round(values[0], 2), round(values[-1], 2)]
        rows.append(row)
    import torch
    import transformers

    import sppo_rl

    result = {
        "command": " ".join(["python", "benchmarks/llm_memory.py", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {platform.system()}",
        "threads": arguments.threads,
        "repeats": arguments.repeats,
        "responses": RESPONSES,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__, "sppo_rl": sppo_rl.__version__},
        "rows": rows,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
