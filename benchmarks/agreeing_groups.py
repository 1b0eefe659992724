"""How many groups of eight responses agree, and teach GRPO nothing, before the runs of the language studies begin.

python benchmarks/agreeing_groups.py --out benchmarks/results/language/hard_problems/agreeing_groups.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch as th

from sppo_rl.atomic import write_atomically
from sppo_rl.envs.reasoning.bandit import ReasoningTask
from sppo_rl.llm.loading import load_policy
from sppo_rl.zoo.language.chains import MAX_NEW_TOKENS, MAX_PROMPT_TOKENS, chain_problems
from sppo_rl.zoo.language.prior import SHIPPED, respond

GROUP, PROBLEMS = 8, 512


def measure(model: Any, tokenizer: Any, min_digits: int) -> dict[str, float | int]:
    """Eight responses to each of 512 training problems."""
    problems = chain_problems(PROBLEMS, seed=1, min_digits=min_digits)
    task = ReasoningTask(problems, tokenizer, MAX_PROMPT_TOKENS, MAX_NEW_TOKENS)
    right = np.array([[info["is_success"] for info in respond(model, task, seed, False)] for seed in range(GROUP)]).sum(axis=0)
    task.close()
    return {
        "min_digits": min_digits,
        "success": round(float(right.mean()) / GROUP, 4),
        "all_fail": round(float((right == 0).mean()), 4),
        "all_succeed": round(float((right == GROUP).mean()), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON")
    arguments = parser.parse_args()
    th.set_num_threads(1)
    model, tokenizer = load_policy(SHIPPED)
    rows = [measure(model, tokenizer, min_digits) for min_digits in (1, 2)]
    write_atomically(arguments.out, json.dumps({"problems": PROBLEMS, "group": GROUP, "rows": rows}, indent=1) + "\n")
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
