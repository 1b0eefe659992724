"""What a token-level critic makes of right and wrong chains to the same prompt, beside SPPO's constant advantage (Fig. 1 and 9).

    python benchmarks/tail_effect.py --seeds 0 1 2 --critic-only 25600

On the tiny language task. Runs are those of language_comparison.sh, trained where they are not there (SPPO 2.5 minutes, PPO 4 of one
core each); each is measured on 16 responses to each of 200 held-out prompts, and what was measured is kept in runs/tail_effect. Prompts to
which some chains are right and some wrong count, each the same: over all prompts a critic that only knows the easy ones looks informed.
The advantage is ``R - V(s_t)`` before PPO's normalisation (gamma = lambda = 1); SPPO's is ``R - V(s)``.

Since a chain can be written in one way only, the first wrong character of a wrong chain is known. ``at_the_error`` is V around it, as
differences from V before that character: they tell whether the critic sees the mistake when it is made or the answer when it is given.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from matplotlib.figure import Figure
from trained import (
    RESULTS,
    add_arguments,
    after_training,
    held_out,
    kept,
    prompt_values,
    token_values,
    train,
    write_result,
)

from sppo_rl.envs.reasoning.bandit import ReasoningTask
from sppo_rl.llm.loading import fingerprint
from sppo_rl.llm.policy import TransformerPolicy
from sppo_rl.llm.tail import tail_effect
from sppo_rl.zoo.language import runs as language_runs
from sppo_rl.zoo.language.chains import chain, is_chain
from sppo_rl.zoo.names import LABELS
from sppo_rl.zoo.results import provenance

BATCH = 256
POSITIONS = 11
OFFSETS = (-20, -10, -5, -2, 0, 1, 2, 5, 10, 20)
"""Characters from the first wrong one: at 0 V has read all before it, at 1 it has read the wrong one."""
CURVES = ("value_right", "value_wrong", "advantage_right", "advantage_wrong", "gap")
RESAMPLES = 2000


def respond(
    policy: TransformerPolicy, task: ReasoningTask, k: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Which prompt (M,), token ids (M, K), outcome (M,) and text of k responses to each prompt."""
    prompts = np.repeat(np.arange(len(task.problems)), k)
    sample = policy.make_sampler(np.random.default_rng(seed))
    actions, outcome, texts = [], [], []
    for first in range(0, len(prompts), BATCH):
        rows = prompts[first : first + BATCH].tolist()
        drawn = sample(task.observe(rows), np.arange(len(rows)))
        assert not isinstance(drawn, np.ndarray)
        scores, infos = task.judge(rows, drawn.actions)
        actions.append(drawn.actions)
        outcome.append(scores)
        texts += [info["text"] for info in infos]
    policy.sampling_ended()
    return prompts, np.concatenate(actions), np.concatenate(outcome), texts


def curves(values: list[np.ndarray], right: np.ndarray, prompts: np.ndarray) -> list[dict[str, Any]]:
    """Means over mixed prompts at each relative position, with bootstrap intervals over prompts of the gap."""
    points = tail_effect(values, right, prompts, POSITIONS)
    mixed = [
        rows
        for prompt in np.unique(prompts)
        for rows in [np.flatnonzero(prompts == prompt)]
        if 0 < right[rows].sum() < len(rows)
    ]
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(mixed), size=(RESAMPLES, len(mixed)))
    found = []
    for point in points:
        now = np.array([row[round(point.position * (len(row) - 1))] for row in values])
        of_right = np.array([now[rows][right[rows]].mean() for rows in mixed])
        of_wrong = np.array([now[rows][~right[rows]].mean() for rows in mixed])
        gaps = of_right - of_wrong
        found.append(
            {
                "position": round(point.position, 3),
                "value_right": float(of_right.mean()),
                "value_wrong": float(of_wrong.mean()),
                "advantage_right": float(np.mean([np.abs(1.0 - now[rows][right[rows]]).mean() for rows in mixed])),
                "advantage_wrong": float(np.mean([np.abs(now[rows][~right[rows]]).mean() for rows in mixed])),
                "gap": float(gaps.mean()),
                "gap_interval": [float(quantile) for quantile in np.quantile(gaps[drawn].mean(axis=1), [0.025, 0.975])],
                "auc": point.auc.value,
                "auc_interval": [point.auc.low, point.auc.high],
                "pooled_auc": point.pooled_auc,
            }
        )
    return found


def around_the_error(values: list[np.ndarray], texts: list[str], expressions: list[str]) -> dict[str, Any]:
    """V around the first wrong character of wrong chains."""
    # a chain that stops early, with nothing wrong before, goes wrong where it stops
    places = [
        next((place for place, (a, b) in enumerate(zip(text, chain(expression), strict=False)) if a != b), len(text))
        for text, expression in zip(texts, expressions, strict=True)
    ]
    rows = [(row, place) for row, place in zip(values, places, strict=True) if place < len(row)]
    points = []
    for offset in OFFSETS:
        inside = [row[place + offset] - row[place] for row, place in rows if 0 <= place + offset < len(row)]
        points.append({"offset": offset, "chains": len(inside), "difference": float(np.mean(inside)) if inside else None})
    return {
        "wrong_chains": len(rows),
        "value_before": float(np.mean([row[place] for row, place in rows])),
        "difference_at_the_end": float(np.mean([row[-1] - row[place] for row, place in rows])),
        "relative_place": float(np.mean([place / max(len(row) - 1, 1) for row, place in rows])),
        "offsets": points,
    }


def measure(folder: Path, task: ReasoningTask, k: int, critic_only: int = 0, work: Path | None = None) -> dict[str, Any]:
    """All figures of one run."""
    policy = after_training(folder, critic_only, work)
    config, _ = language_runs.read_config(folder)
    prompts, actions, outcome, texts = respond(policy, task, k, seed=0)
    if config.algo == "sppo":
        of_prompts = prompt_values(policy, task)
        lengths = [len(task.response_ids(action)) for action in actions]
        values = [np.full(length, of_prompts[prompt]) for length, prompt in zip(lengths, prompts, strict=True)]
    else:
        values = token_values(policy, task, prompts, actions)
    right = outcome == 1.0
    chains = np.flatnonzero([is_chain(text) and len(row) > 0 for text, row in zip(texts, values, strict=True)])
    within = [values[row] for row in chains]
    in_mixed = {
        p for p in np.unique(prompts[chains]) if 0 < right[chains][prompts[chains] == p].sum() < (prompts[chains] == p).sum()
    }
    wrong = [row for row in chains if not right[row] and prompts[row] in in_mixed]
    expressions = [str(task.problems[prompts[row]].messages[-1]["content"]) for row in wrong]
    return {
        "accuracy": float(right.mean()),
        "share_of_chains": len(chains) / len(texts),
        "mixed_prompts": len(in_mixed),
        "chains": {"right": int(right[chains].sum()), "wrong": int((~right[chains]).sum())},
        "positions": curves(within, right[chains], prompts[chains]),
        "at_the_error": around_the_error([values[row] for row in wrong], [texts[row] for row in wrong], expressions),
    }


def over_seeds(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and standard deviation over seeds at each position."""
    found = []
    for points in zip(*(row["positions"] for row in rows), strict=True):
        of: dict[str, Any] = {"position": points[0]["position"]}
        for name in (*CURVES, "auc", "pooled_auc"):
            values = [point[name] for point in points]
            of[name] = {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1)) if len(values) > 1 else None}
        found.append(of)
    return found


def name_of(row: dict[str, Any]) -> str:
    """Such as ``PPO, critic on 12,800 more``."""
    return LABELS[row["algo"]] + (f", critic on {row['critic_only']:,} more" if row["critic_only"] else "")


def plot(summary: dict[str, list[dict[str, Any]]], kinds: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """V and the advantage along the chain, and V around the first wrong character."""
    figure = Figure(figsize=(13.0, 3.8), dpi=110, layout="constrained")
    panels = figure.subplots(1, 3)
    for number, (kind, points) in enumerate(summary.items()):
        x = [point["position"] for point in points]
        for panel, name in zip(panels, ("value", "advantage"), strict=False):
            for which, style in (("right", "-"), ("wrong", "--")):
                y = [point[f"{name}_{which}"]["mean"] for point in points]
                panel.plot(x, y, style, color=f"C{number}", label=f"{kind}: {which}")
        of_kind = [row["at_the_error"]["offsets"] for row in kinds[kind]]
        y = [
            float(np.mean([at["difference"] for at in of if at["difference"] is not None]))
            for of in zip(*of_kind, strict=True)
        ]
        panels[2].plot(OFFSETS, y, "o-", color=f"C{number}", markersize=3.5, label=kind)
    panels[0].set(xlabel="relative position in the chain", ylabel="V, mean over mixed prompts", ylim=(0, 1))
    panels[1].set(xlabel="relative position in the chain", ylabel="|advantage|", ylim=(0, 1))
    panels[2].set(xlabel="characters from the first wrong one", ylabel="V − V before it, wrong chains")
    for panel in panels:
        panel.grid(alpha=0.25)
        panel.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def line(row: dict[str, Any]) -> str:
    """For people."""
    start, middle, end = (row["positions"][k] for k in (0, POSITIONS // 2, POSITIONS - 1))
    error = row["at_the_error"]
    after = next(point["difference"] for point in error["offsets"] if point["offset"] == 5)
    return (
        f"{name_of(row)}, seed {row['seed']}: {row['mixed_prompts']} mixed prompts; AUC {start['auc']:.2f} at the start, "
        f"{middle['auc']:.2f} in the middle, {end['auc']:.2f} at the end; |A| of right chains {start['advantage_right']:.2f}, "
        f"{middle['advantage_right']:.2f}, {end['advantage_right']:.2f}, of wrong ones {start['advantage_wrong']:.2f}, "
        f"{middle['advantage_wrong']:.2f}, {end['advantage_wrong']:.2f}; V {after:+.2f} five characters after the first wrong one, "
        f"{error['difference_at_the_end']:+.2f} at the end"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, seeds=3)
    parser.add_argument("--algos", nargs="+", default=["sppo", "ppo"], choices=["sppo", "ppo", "ppo-bce"])
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--k", type=int, default=16, help="responses to each prompt")
    parser.add_argument(
        "--critic-only",
        type=int,
        default=0,
        metavar="N",
        help="also measure PPO's critic of the first seed after N more responses on which it alone is trained (1,000 take 15 s)",
    )
    parser.add_argument("--work", type=Path, default=Path("runs/tail_effect"), metavar="DIR", help="keeps what was measured")
    parser.add_argument("--out", type=Path, default=RESULTS / "tail_effect.json")
    arguments = parser.parse_args()
    th.set_num_threads(1)
    folders = train(arguments.algos, arguments.seeds, arguments.runs, arguments.responses, arguments.jobs)
    config, _ = language_runs.read_config(next(iter(folders.values())))
    task = held_out(config, arguments.prompts)
    rows = []
    for further in dict.fromkeys((0, arguments.critic_only)):
        for (algo, seed), folder in folders.items():
            if further and (algo == "sppo" or seed != arguments.seeds[0]):
                continue
            settings = {"model": fingerprint(after_training(folder).model), "prompts": arguments.prompts, "k": arguments.k}
            path = arguments.work / f"{algo}_{config.responses}+{further}_seed_{seed}.json"
            measured = kept(path, settings, partial(measure, folder, task, arguments.k, further, arguments.work))
            rows.append({"algo": algo, "seed": seed, "critic_only": further, **measured})
            print(line(rows[-1]), flush=True)
    task.close()
    kinds: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        kinds.setdefault(name_of(row), []).append(row)
    summary = {name: over_seeds(of) for name, of in kinds.items()}
    result = {
        **provenance.describe(["python", "benchmarks/tail_effect.py", *sys.argv[1:]]),
        "responses_of_training": config.responses,
        "prompts": len(task.problems),
        "k": arguments.k,
        "over_seeds": summary,
        "rows": rows,
    }
    write_result(arguments.out, result)
    plot(summary, kinds, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
