"""Plots of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from sppo_rl.zoo.names import LABELS, UsageError
from sppo_rl.zoo.results.rows import Reference, Row, bootstrap_interval, column_of, curves, runs_of

AXES = {
    "episodes": "episodes",
    "timesteps": "environment steps",
    "tokens": "tokens of responses",
    "prompts": "prompts",
    "seconds": "seconds of training (without evaluation)",
}
"""What the x axis may show → its label."""
COLOURS = {name: f"C{number}" for number, name in enumerate(LABELS)}
REFERENCE_STYLES = {"prior": ("0.35", "--"), "untrained": ("0.65", ":")}


def plot_comparison(
    rows: Sequence[Row], path: Path, x: str = "episodes", references: Mapping[str, Reference] | None = None, y: str = "success"
) -> Path:
    """
    Draw mean success over seeds with 95 % bootstrap bands, one panel for each environment; mean returns where a task reports no success.

    :param rows: of the long file
    :param path: of the image; its ending chooses the format, and without one it is PNG
    :param x: ``"episodes"``, ``"timesteps"``, ``"seconds"`` or, in language runs, ``"tokens"`` and ``"prompts"``
    :param references: environment id → success of prior and untrained networks, drawn as dashed lines
    :param y: ``"success"`` or ``"greedy_success"``
    :return: where the image is, with its ending
    :raises UsageError: if there is nothing to draw, ``x`` is unknown, or the results do not have it
    """
    if x not in AXES:
        raise UsageError(f"The x axis shows {', '.join(AXES)}, not {x!r}.")
    runs = runs_of(rows)
    if not runs:
        raise UsageError("There are no finished runs to draw.")
    if any(x not in row for row in rows):
        raise UsageError(f"These results have no column {x!r}.")
    envs = list(dict.fromkeys(env for env, _ in runs))
    columns = min(3, len(envs))
    lines = -(-len(envs) // columns)
    figure = Figure(figsize=(5.2 * columns, 3.8 * lines), dpi=130, layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).flatten()
    for panel, env in zip(panels, envs, strict=False):
        shown = column_of([row for row in rows if row["env"] == env], y)
        for (of, algo), seeds in runs.items():
            if of != env:
                continue
            grid, values = curves(seeds, x, shown)
            colour = COLOURS.get(algo)
            count = f"{len(seeds)} seed" + ("s" if len(seeds) > 1 else "")
            (line,) = panel.plot(grid, values.mean(axis=0), color=colour, label=f"{LABELS.get(algo, algo)} ({count})")
            low, high = bootstrap_interval(values)
            if not np.isnan(low).all():
                panel.fill_between(grid, low, high, color=line.get_color(), alpha=0.18, linewidth=0)
        for name, of_name in (references or {}).get(env, {}).items():
            colour, style = REFERENCE_STYLES[name]
            level = of_name.get(shown, float("nan"))
            if not np.isnan(level):
                panel.axhline(level, color=colour, linestyle=style, linewidth=1.2, label=f"{name} {level:.2f}")
        panel.set(title=env, xlabel=AXES[x], ylabel=shown.replace("_", " ") + (" rate" if shown == y else ""), xlim=(0, None))
        if shown == y:
            panel.set_ylim(-0.03, 1.03)
        panel.grid(alpha=0.25)
        panel.legend(fontsize=8, loc="best")
    for panel in panels[len(envs) :]:
        panel.set_visible(False)
    # as matplotlib would do without saying so
    path = path if path.suffix else path.with_suffix(".png")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Figure draws without pyplot, so no screen and no global state is needed
    with matplotlib.rc_context({"svg.hashsalt": "sppo"}):
        figure.savefig(path)
    return path
