"""How much better the runs of a study answer the prompts they were trained on than as many others from the same source.

python benchmarks/memorised.py --runs runs/language/finite_prompts --out benchmarks/results/language/finite_prompts/memorised.csv
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch as th

from sppo_rl.atomic import write_atomically
from sppo_rl.envs.reasoning.bandit import ReasoningTask
from sppo_rl.llm.loading import load_policy
from sppo_rl.zoo.language import runs as language_runs
from sppo_rl.zoo.language.config import problems_of
from sppo_rl.zoo.language.prior import measure
from sppo_rl.zoo.names import LABELS
from sppo_rl.zoo.results.rows import to_csv

COLUMNS = ("algo", "seed", "problems", "trained_on", "new")


def compare(folder: Path, samples: int) -> dict[str, str | int | float]:
    """One run: the share of right responses to its own problems, and to those that follow them in the source."""
    config, seed = language_runs.read_config(folder)
    model, tokenizer = load_policy(folder)
    count = config.problems["size"]
    problems = problems_of({**config.problems, "size": 2 * count})
    shares = []
    for of in (problems[:count], problems[count:]):
        task = ReasoningTask(of, tokenizer, config.max_prompt_tokens, config.max_new_tokens)
        shares.append(float(np.mean([measure(model, task, seed=sample).rate for sample in range(samples)])))
        task.close()
    return {
        "algo": config.algo, "seed": seed, "problems": count, "trained_on": round(shares[0], 4), "new": round(shares[1], 4),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, metavar="DIR", help="folder of a language comparison")
    parser.add_argument("--samples", type=int, default=4, help="responses to each problem (default 4)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="CSV")
    arguments = parser.parse_args()
    th.set_num_threads(1)
    folders = sorted(path.parent for path in arguments.runs.glob("runs/*/*/config.yml"))
    if not folders:
        parser.error(f"there are no runs in {arguments.runs}; make them with 'sppo-rl compare-llm -o {arguments.runs}'")
    rows = [compare(folder, arguments.samples) for folder in folders]
    write_atomically(arguments.out, to_csv(COLUMNS, rows))
    for algo in dict.fromkeys(row["algo"] for row in rows):
        means = [np.mean([float(row[name]) for row in rows if row["algo"] == algo]) for name in ("trained_on", "new")]
        print(f"{LABELS[str(algo)]}: {means[0]:.3f} of the problems trained on, {means[1]:.3f} of others")


if __name__ == "__main__":
    main()
