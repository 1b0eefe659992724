"""Reads committed results, and writes their figures as the pages do."""

from __future__ import annotations

import csv
import re
from functools import cache
from typing import Any

import pytest

from sppo_rl.zoo.results.rows import read_results, runs_of, summarize, summary_csv
from tests.pages import REPOSITORY

RESULTS = REPOSITORY / "benchmarks" / "results"
COMPARED = {"SPPO": "sppo", "PPO (ours)": "ppo", "PPO (SB3)": "sb3-ppo", "PPO (Stable-Baselines3)": "sb3-ppo"}
COMPARED |= {"PPO + BCE": "ppo-bce", "GRPO": "grpo", "RLOO": "rloo", "ReMax": "remax"}


def decimals(value: float | str, digits: int = 3) -> str:
    """``.710``: as the pages write a share."""
    text = f"{float(value):.{digits}f}"
    return text.removeprefix("0") if text.startswith("0.") else text


def interval(row: dict[str, str], name: str) -> str:
    return f"[{decimals(row[f'{name}_low'])}, {decimals(row[f'{name}_high'])}]"


def measured(row: dict[str, str]) -> list[str]:
    """Success, greedy success and area under the curve, as the tables of the results page have them."""
    success = f"{decimals(row['success'])} ± {decimals(row['success_std'])} {interval(row, 'success')}"
    return [success, decimals(row["greedy_success"]), f"{decimals(row['area'])} {interval(row, 'area')}"]


def signed(cell: str) -> list[float]:
    """``+.202 [+.006, +.398]``: the numbers of a difference and its interval."""
    return [float(number.replace("−", "-")) for number in re.findall(r"[+−][\d.]+", cell)]


def approximately(row: dict[str, float]) -> Any:
    """The same from control_claims.json, to the digits that the pages have."""
    return pytest.approx([row["difference"], row["low"], row["high"]], abs=6e-4)


def summary(folder: str, task: str) -> dict[str, dict[str, str]]:
    with open(RESULTS / folder / task / "summary.csv") as file:
        return {row["algo"]: row for row in csv.DictReader(file)}


@cache
def compared(task: str, near: float = float("inf")) -> dict[str, dict[str, str]]:
    """Every seed of the untuned comparison, at the end or at the evaluation nearest to so many episodes."""
    folders = [RESULTS / name / task for name in ("control_comparison", "control_rivals", "control_more_seeds")]
    rows = [row for folder in folders for row in read_results(folder)]
    if near < float("inf"):
        runs = [run for seeds in runs_of(rows).values() for run in seeds.values()]
        rows = [min(run, key=lambda row: abs(row["episodes"] - near)) for run in runs]
    return {row["algo"]: row for row in csv.DictReader(summary_csv(summarize(rows)).splitlines())}
