"""What a right and a wrong response earn, against the chance p of success: SPPO's two advantages and GRPO's (the paper's Fig. 2).

    python benchmarks/advantage_scaling.py --groups 20000

Outcomes are drawn with probability p in groups of 8 and go through the package's own estimators; SPPO's critic is taken to be right,
V = p. Beside the sampled means stand exact ones: GRPO's are sums over how many of a group succeed, and ``limit`` is what they tend to for
large groups, ``(R - p) / sqrt(p (1 - p))``. In a bandit the expected gradient is ``A(right) - A(wrong)`` times that of p: this difference
is the weight that an estimator gives to prompts of a difficulty, 1 for SPPO's residual. The script fails where a sampled mean is further
than five standard errors from the exact one.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from matplotlib.figure import Figure

from sppo_rl.advantages import group_normalized, residual, standardized
from sppo_rl.atomic import write_atomically
from sppo_rl.zoo.results import provenance

CHANCES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
FORMS = ("residual", "standardized", "grpo")
STANDARD_ERRORS = 5.0
EPS = 1e-4
"""In the denominators of the two estimators that divide."""


def exact(form: str, p: float, size: int) -> tuple[float, float]:
    """Expected advantage of a right and of a wrong response."""
    if form == "residual":
        return 1.0 - p, -p
    if form == "standardized":
        scale = math.sqrt(p * (1.0 - p) + EPS)
        return (1.0 - p) / scale, -p / scale
    right = wrong = 0.0
    for others in range(size):
        chance = math.comb(size - 1, others) * p**others * (1.0 - p) ** (size - 1 - others)
        right += chance * (1.0 - (others + 1) / size) / (_deviation(others + 1, size) + EPS)
        wrong -= chance * (others / size) / (_deviation(others, size) + EPS)
    return right, wrong


def _deviation(successes: int, size: int) -> float:
    """Unbiased standard deviation of a group with so many successes."""
    return math.sqrt(successes * (size - successes) / (size * (size - 1)))


def sampled(form: str, outcome: np.ndarray, p: float) -> dict[str, tuple[float, float]]:
    """Mean advantage of right and of wrong responses, each with its standard error; groups are drawn, not responses."""
    groups, size = outcome.shape
    flat = th.as_tensor(outcome.ravel())
    if form == "grpo":
        advantages = group_normalized(flat, th.arange(groups).repeat_interleave(size), EPS)
    else:
        values = th.full_like(flat, p)
        advantages = residual(flat, values) if form == "residual" else standardized(flat, values, EPS)
    earned = advantages.reshape(groups, size).numpy()
    found = {}
    for name, chosen in (("right", outcome == 1.0), ("wrong", outcome == 0.0)):
        count = chosen.sum(axis=1)
        mean = float((earned * chosen).sum() / count.sum())
        # a ratio of sums over groups: its error by the delta method
        misses = (earned * chosen).sum(axis=1) - mean * count
        found[name] = (mean, float(math.sqrt(groups * misses.var()) / count.sum()))
    return found


def measure(p: float, groups: int, size: int, rng: np.random.Generator) -> dict[str, Any]:
    """One row of the table."""
    outcome = (rng.random((groups, size)) < p).astype(np.float64)
    row: dict[str, Any] = {"p": p, "limit": [(1.0 - p) / math.sqrt(p * (1.0 - p)), -p / math.sqrt(p * (1.0 - p))]}
    for form in FORMS:
        means = sampled(form, outcome, p)
        right, wrong = exact(form, p, size)
        row[form] = {
            "exact": [right, wrong],
            "sampled": [means["right"][0], means["wrong"][0]],
            "standard_error": [means["right"][1], means["wrong"][1]],
            "gradient_weight": right - wrong,
        }
    same = outcome.sum(axis=1) % size == 0
    silent = p**size + (1.0 - p) ** size
    row["grpo"] |= {
        "share_of_limit": row["grpo"]["exact"][0] / row["limit"][0],
        "groups_without_signal": {"exact": silent, "sampled": float(same.mean())},
    }
    return row


def disagreements(row: dict[str, Any], groups: int) -> list[str]:
    """Where sampled and exact figures of a row are too far apart."""
    found = []
    for form in FORMS:
        of = row[form]
        for name, truth, mean, error in zip(("right", "wrong"), of["exact"], of["sampled"], of["standard_error"], strict=True):
            # float32 has 1e-7; a mean that does not vary has no error of sampling
            if abs(mean - truth) > STANDARD_ERRORS * error + 1e-5:
                found.append(f"p = {row['p']}, {form}, {name}: {mean:.5f} sampled, {truth:.5f} exact, error {error:.5f}")
    silent = row["grpo"]["groups_without_signal"]
    error = math.sqrt(silent["exact"] * (1.0 - silent["exact"]) / groups)
    if abs(silent["sampled"] - silent["exact"]) > STANDARD_ERRORS * error + 1.0 / groups:
        found.append(f"p = {row['p']}, groups without signal: {silent['sampled']:.5f} sampled, {silent['exact']:.5f} exact")
    return found


def plot(rows: list[dict[str, Any]], size: int, path: Path) -> None:
    """Advantages, and the weights that follow from them."""
    figure = Figure(figsize=(10.0, 3.8), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    grid = np.linspace(0.01, 0.99, 197)
    names = {"residual": "SPPO, R − V", "standardized": "SPPO, standardised", "grpo": f"GRPO, groups of {size}"}
    chances = [row["p"] for row in rows]
    for colour, form in enumerate(FORMS):
        curve = np.array([exact(form, p, size) for p in grid])
        for k in (0, 1):
            left.plot(grid, curve[:, k], color=f"C{colour}", label=None if k else names[form])
            left.plot(chances, [row[form]["sampled"][k] for row in rows], "o", color=f"C{colour}", markersize=3.5)
        right.plot(grid, curve[:, 0] - curve[:, 1], color=f"C{colour}", label=names[form])
    left.plot(grid, np.sqrt((1 - grid) / grid), ":", color="0.4", label="(R − p) / √(p(1 − p))")
    left.plot(grid, -np.sqrt(grid / (1 - grid)), ":", color="0.4")
    left.set(xlabel="chance of success p", ylabel="advantage: right above, wrong below 0", ylim=(-5, 5))
    right.set(xlabel="chance of success p", ylabel="weight of ∇p in the gradient", ylim=(0, 6))
    for panel in (left, right):
        panel.grid(alpha=0.25)
        panel.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=20_000, help="drawn at each p")
    parser.add_argument("--size", type=int, default=8, help="of a group")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "advantage_scaling.json")
    arguments = parser.parse_args()
    if arguments.groups < 2 or arguments.size < 2:
        parser.error(f"--groups and --size must be at least 2, got {arguments.groups} and {arguments.size}.")
    rng = np.random.default_rng(arguments.seed)
    rows = [measure(p, arguments.groups, arguments.size, rng) for p in CHANCES]
    rows = json.loads(json.dumps(rows), parse_float=lambda text: round(float(text), 6))
    wrong = [line for row in rows for line in disagreements(row, arguments.groups)]
    for row in rows:
        of = row["grpo"]
        print(
            f"p {row['p']:.2f}   right: residual {row['residual']['sampled'][0]:.3f}, "
            f"standardised {row['standardized']['sampled'][0]:.3f}, GRPO {of['sampled'][0]:.3f}, which is {of['share_of_limit']:.2f} of "
            f"the limit {row['limit'][0]:.3f}; groups without signal {of['groups_without_signal']['sampled']:.3f}"
        )
    if wrong:
        raise SystemExit("Sampled and exact advantages disagree:\n" + "\n".join(wrong))
    settings = {"groups": arguments.groups, "size": arguments.size, "seed": arguments.seed}
    made = provenance.describe(["python", "benchmarks/advantage_scaling.py", *sys.argv[1:]])
    result = {**made, **settings, "agree_within_standard_errors": STANDARD_ERRORS, "rows": rows}
    write_atomically(arguments.out, json.dumps(result, indent=1) + "\n")
    plot(rows, arguments.size, arguments.out.with_suffix(".png"))
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
