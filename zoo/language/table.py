"""The table of a language comparison: what each variant reached, what it spent, and when it reached the reference's best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sppo_rl.zoo.names import LABELS
from sppo_rl.zoo.results.rows import COLUMNS as COMPARISON_COLUMNS
from sppo_rl.zoo.results.rows import RESAMPLES, Row, area_under_curve, bootstrap_interval, curves, runs_of
from sppo_rl.zoo.results.tables import markdown_table

COLUMNS = (*COMPARISON_COLUMNS, "mean_length", "prompts", "tokens")
"""Of the long file: those of a control comparison, tokens of a response, and what was spent."""
SPENT = ("tokens", "prompts", "seconds")
"""What time is counted in."""
HEADINGS = (
    "variant", "seeds", "pass@1 before", "after ± std [95 %]", "greedy after", "area under curve [95 %]", "tokens a response", "prompts",
    "responses", "tokens", "seconds",
)  # fmt: skip


def markdown(rows: Sequence[Row], reference: str) -> str:
    """
    Lay out a comparison.

    :param rows: of finished runs
    :param reference: variant whose best the others are timed against; left out while it has no finished run
    """
    variants = {name: seeds for (_, name), seeds in runs_of(rows).items()}
    if not variants:
        return "No run is finished yet.\n"
    end = min(run[-1]["tokens"] for seeds in variants.values() for run in seeds.values())
    lines = [
        markdown_table(HEADINGS, [_cells(name, list(seeds.values()), end) for name, seeds in variants.items()]),
        "",
        "pass@1: one sampled response to each held-out problem; mean over seeds, standard deviation over seeds, percentile bootstrap "
        f"intervals over seeds. Area under the curve: mean pass@1 over the first {end:,.0f} tokens of responses. Seconds: training "
        "without evaluation, one process and one thread, median over seeds.",
    ]
    if reference in variants:
        lines += ["", *_times(variants, reference)]
    return "\n".join(lines) + "\n"


def _cells(name: str, runs: Sequence[list[Row]], end: float) -> list[str]:
    last = [run[-1] for run in runs]
    final = np.array([row["success"] for row in last])
    areas = np.array([area_under_curve(run, end, x="tokens") for run in runs])
    means = {key: float(np.mean([row[key] for row in last])) for key in COLUMNS[3:]}
    # one run that other work disturbed must not speak for the others
    seconds = float(np.median([row["seconds"] for row in last]))
    before = float(np.mean([run[0]["success"] for run in runs]))
    spread = f" ± {final.std(ddof=1):.3f} {_interval(final)}" if len(final) > 1 else ""
    area = f" {_interval(areas)}" if len(final) > 1 else ""
    return [
        *(
            LABELS.get(name, name),
            f"{len(runs)}",
            f"{before:.3f}",
            f"{means['success']:.3f}{spread}",
            f"{means['greedy_success']:.3f}",
        ),
        *(f"{areas.mean():.3f}{area}", f"{means['mean_length']:.0f}"),
        *(f"{means[key]:,.0f}" for key in ("prompts", "timesteps", "tokens")),
        f"{seconds:.0f}",
    ]


def _times(variants: Mapping[str, Mapping[int, list[Row]]], reference: str) -> list[str]:
    """Ratios of the reference's time to its own best over each variant's time to the same level."""
    _, values = curves(dict(variants[reference]), "tokens")
    level = float(values.mean(axis=0).max())
    rows = []
    for name, seeds in variants.items():
        cells, reached = [], 0
        for x in SPENT:
            own = np.array([time_to(run, level, x) for run in seeds.values()])
            its = np.array([time_to(run, level, x) for run in variants[reference].values()])
            reached = int(np.isfinite(own).sum())
            cells.append(_cell(*ratio_of_medians(its, own)))
        rows.append([LABELS.get(name, name), f"{reached} of {len(seeds)} runs", *cells])
    return [
        f"The highest point of {LABELS.get(reference, reference)}'s mean curve, up to the tokens that every run spent, is {level:.3f}. How "
        f"much sooner a variant reached it (above 1: sooner than {LABELS.get(reference, reference)} itself), counted in:",
        "",
        markdown_table(["variant", "reached it", *(f"{name} [95 %]" for name in SPENT)], rows),
        "",
        "Ratios of medians over seeds, runs that never reached it counting as infinitely late; percentile bootstrap intervals over the "
        "seeds of both, which end in 0 where the variant did not reach it and in inf where the reference did not. –: half of the runs or "
        "more never did.",
    ]


def time_to(run: Sequence[Row], level: float, x: str) -> float:
    """
    Find when a run first reached a level, between two evaluations by linear interpolation.

    :param run: rows of one run in the order of time
    :param level: of sampled success
    :param x: column that counts what was spent
    :return: in its unit; infinity if it never did
    """
    for before, after in zip([None, *run], run, strict=False):
        if after["success"] >= level:
            if before is None:
                return float(after[x])
            share = (level - before["success"]) / (after["success"] - before["success"])
            return float(before[x] + share * (after[x] - before[x]))
    return float("inf")


def ratio_of_medians(reference: np.ndarray, own: np.ndarray) -> tuple[float, float, float]:
    """
    Compare two samples of times that may be infinite.

    :param reference: (runs,) times of the reference
    :param own: (runs,)
    :return: median of the reference over that of the other, and the ends of its 95 % percentile bootstrap interval; NaN where a
        median is infinite
    """
    rng = np.random.default_rng(0)
    drawn = [np.median(rng.choice(times, (RESAMPLES, len(times))), axis=1) for times in (reference, own)]
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(np.median(reference) / np.median(own)) if np.isfinite(np.median(own)) else float("nan")
        ratios = drawn[0] / drawn[1]
    # an infinite time of the other makes the ratio 0, of the reference infinity, of both nothing
    low, high = np.quantile(np.nan_to_num(ratios, nan=1.0, posinf=np.inf), [0.025, 0.975], method="nearest")
    return (value if np.isfinite(value) else float("nan")), float(low), float(high)


def _interval(values: np.ndarray) -> str:
    low, high = map(float, bootstrap_interval(values))
    return f"[{low:.3f}, {high:.3f}]"


def _cell(value: float, low: float, high: float) -> str:
    return "–" if np.isnan(value) else f"{value:.2f} [{low:.2f}, {high:.2f}]"
