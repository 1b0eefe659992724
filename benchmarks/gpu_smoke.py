"""The language half on a GPU: does training work there as on a CPU, and how fast is it?

    python benchmarks/gpu_smoke.py

The shipped prior learns to work sums out (``chain_sum_tiny``, half its length, seed 0) three times: on a CPU in float32, and on the GPU
in float32 and in bfloat16. Each run is a process of its own and tells pass@1 on 256 held-out problems before and after, seconds, tokens
a second, and the largest memory. Then a network of the shape of Qwen2.5-1.5B (random weights, bfloat16) generates and is updated, at
several numbers of responses side by side. It fails unless both runs on the GPU learn what the run on the CPU does, within .1.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

RUNS = {"cpu float32": ("cpu", "float32"), "gpu float32": ("cuda", "float32"), "gpu bfloat16": ("cuda", "bfloat16")}
WIDTHS = (64, 256)
TOLERANCE = 0.1


def learn(name: str, responses: int) -> dict[str, Any]:
    """Train the shipped prior in this process."""
    import torch as th

    from sppo_rl.zoo.language import runs as language_runs
    from sppo_rl.zoo.language.config import load_config, merge

    device, dtype = RUNS[name]
    config = load_config("chain_sum_tiny")
    config = replace(
        config,
        responses=responses,
        evaluation=replace(config.evaluation, every=responses, count=256),
        hyperparameters=merge(config.hyperparameters, {"policy_kwargs": {"dtype": dtype}}),
    )
    th.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        model, evaluation = language_runs.run(config, 0, Path(folder), device=device)
    first, last = evaluation.rows[0], evaluation.rows[-1]
    return {
        "run": name,
        "responses": responses,
        "pass_at_1_before": round(first["success"], 3),
        "pass_at_1_after": round(last["success"], 3),
        "greedy_after": round(last["greedy_success"], 3),
        "seconds": round(last["seconds"], 1),
        "tokens_per_second": round(model.num_tokens / last["seconds"]),
        "memory_mib": round(th.cuda.max_memory_allocated() / 2**20) if device == "cuda" else None,
    }


def large(responses: int) -> dict[str, Any]:
    """One update of a large network after one that warms up, in this process."""
    import torch as th
    from llm_memory import SCALES, environment, qwen2

    import sppo_rl

    scale = SCALES["cuda"]._replace(response_tokens=256)
    kwargs = {
        "model": qwen2(scale.actor, scale.vocabulary), "critic": qwen2(scale.small_critic, scale.vocabulary), **scale.policy_kwargs,
    }  # fmt: skip
    model = sppo_rl.SPPO(
        "TransformerPolicy", environment(scale), learning_rate=1e-6, n_episodes=responses, batch_size=responses, n_epochs=1,
        policy_kwargs=kwargs, seed=0, device="cuda",
    )  # fmt: skip
    model.learn(responses, log_interval=None)
    before = model.num_tokens
    model.learn(responses, log_interval=None, reset_num_timesteps=False)
    seen, tokens = model.logger.name_to_value, model.num_tokens - before
    return {
        "responses": responses,
        "tokens": tokens,
        "generated_tokens_per_second": round(tokens / seen["time/collect_seconds"]),
        "trained_tokens_per_second": round(tokens / seen["time/update_seconds"]),
        "memory_mib": round(th.cuda.max_memory_allocated() / 2**20),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--responses", type=int, default=6_400, help="length of the small runs")
    parser.add_argument("--one", choices=RUNS, help="do this small run in this process and print it")
    parser.add_argument(
        "--large", type=int, metavar="RESPONSES", help="measure the large network in this process and print it"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "gpu_smoke.json")
    arguments = parser.parse_args()
    if arguments.one or arguments.large:
        print(json.dumps(learn(arguments.one, arguments.responses) if arguments.one else large(arguments.large)))
        return 0
    import torch

    from sppo_rl.atomic import write_atomically
    from sppo_rl.zoo.results import provenance

    if not torch.cuda.is_available():
        print("There is no GPU here: torch.cuda.is_available() is False.", file=sys.stderr)
        return 2

    def here(*options: str) -> dict[str, Any]:
        command = [sys.executable, "-W", "ignore", __file__, *options]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
        print(found, flush=True)
        return found

    small = [here("--one", name, "--responses", str(arguments.responses)) for name in RUNS]
    result = {
        **provenance.describe(
            ["python", "benchmarks/gpu_smoke.py", *sys.argv[1:]], ("transformers",), torch.cuda.get_device_name()
        ),
        "small": small,
        "large": [here("--large", str(width)) for width in WIDTHS],
    }
    write_atomically(arguments.out, json.dumps(result, indent=1) + "\n")
    print(f"wrote {arguments.out}")
    reached = [run["pass_at_1_after"] for run in small]
    return int(min(reached[1:]) < reached[0] - TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
