"""The tables of a control comparison: what each algorithm reached on each task, and what it spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sppo_rl.zoo.names import LABELS
from sppo_rl.zoo.results.rows import Reference, Summary
from sppo_rl.zoo.results.tables import markdown_table


def markdown(summaries: Sequence[Summary], references: Mapping[str, Reference] | None = None) -> str:
    """
    Format summaries as Markdown, one table for each environment.

    :param summaries: of a comparison
    :param references: environment id → success of prior and untrained networks
    """
    parts = []
    returns = [summary.env for summary in summaries if summary.measure == "return"]
    for env in dict.fromkeys(summary.env for summary in summaries):
        parts.append(f"### {env}\n")
        measure = "return" if env in returns else "success"
        known = (references or {}).get(env, {})
        lines = [f"{name}: {describe_rates(of)} ({of['episodes']:.0f} episodes)" for name, of in known.items()]
        if lines:
            parts.append(f"{measure.capitalize()} without this training: " + "; ".join(lines) + ".\n")
        final, area = f"final {measure} ± std [95 %]", "area under curve [95 %]"
        headings = ["algorithm", "seeds", final, "greedy", area, "episodes", "steps", "seconds"]
        parts.append(markdown_table(headings, [_cells(summary) for summary in summaries if summary.env == env]) + "\n")
    parts.append(
        "Final success: sampled actions, last evaluation, mean over seeds. Intervals: percentile bootstrap over seeds. Area under the "
        "curve: mean success over the episodes of the shortest run. Seconds: training without evaluation, one process on its share of "
        "the cores."
        + (f" Where a task reports no success ({', '.join(dict.fromkeys(returns))}) it is the mean return." if returns else "")
    )
    return "\n".join(parts) + "\n"


def describe_rates(row: Mapping[str, float]) -> str:
    """
    Put what was measured with sampled and with greedy actions into words.

    :param row: with ``success`` and ``greedy_success``, NaN where the task reports none and the mean returns speak
    """
    if np.isnan(row["success"]):
        return f"{row.get('mean_return', np.nan):.2f} sampled, {row.get('greedy_mean_return', np.nan):.2f} greedy"
    return f"{row['success']:.3f} sampled, {row['greedy_success']:.3f} greedy"


def _cells(summary: Summary) -> list[str]:
    label = LABELS.get(summary.algo, summary.algo)
    seeds = str(summary.seeds) + (f" ({summary.failed} failed)" if summary.failed else "")
    if summary.seeds == 0:
        return [label, seeds, *["–"] * 6]
    # rates are thousandths of 1; a return may have any size
    digits = ".3f" if summary.measure == "success" else ",.2f"
    spread = area = ""
    if summary.seeds > 1:
        spread = f" ± {summary.success_std:{digits}} [{summary.success_low:{digits}}, {summary.success_high:{digits}}]"
        area = f" [{summary.area_low:{digits}}, {summary.area_high:{digits}}]"
    greedy = "–" if np.isnan(summary.greedy_success) else f"{summary.greedy_success:{digits}}"
    reached = [f"{summary.success:{digits}}{spread}", greedy, f"{summary.area:{digits}}{area}"]
    return [label, seeds, *reached, f"{summary.episodes:,.0f}", f"{summary.timesteps:,.0f}", f"{summary.seconds:.1f}"]
