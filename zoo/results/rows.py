"""Results of a comparison: the long CSV file, and numbers for each algorithm."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from sppo_rl.zoo.names import UsageError

COLUMNS = ("env", "algo", "seed", "episodes", "timesteps", "seconds", "success", "greedy_success")
"""Of the long file: one row for each evaluation of each run."""
RETURNS = {"success": "mean_return", "greedy_success": "greedy_mean_return"}
"""Column → the one that takes its place where a task reports no success; a file from before these were written lacks them."""
RESAMPLES = 10_000
"""Of the bootstrap."""

Row = dict[str, Any]
Reference = Mapping[str, Mapping[str, float]]
"""``"prior"`` and ``"untrained"`` → ``success``, ``greedy_success``, ``episodes`` and, where known, the mean returns."""


def to_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """
    Format rows as CSV.

    :param columns: which, and in which order
    :param rows: their values; NaN becomes an empty cell
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        cells = [row[name] for name in columns]
        writer.writerow(["" if isinstance(cell, float) and np.isnan(cell) else cell for cell in cells])
    return text.getvalue()


def read_results(path: Path) -> list[Row]:
    """
    Read the long file.

    :param path: a file with :data:`COLUMNS` and, perhaps, more (such as those of :data:`RETURNS`), of which those that hold numbers are
        kept; or the folder of a comparison
    :raises UsageError: if it does not exist, lacks a column, or is damaged; says in which line
    """
    path = path / "results.csv" if path.is_dir() else path
    if not path.exists():
        raise UsageError(f"There are no results at {path}. Give the folder that 'sppo-rl compare' wrote, or its results.csv.")
    names, lines = _table(path)
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise UsageError(f"{path} lacks the columns {', '.join(missing)}; a comparison has {', '.join(COLUMNS)}.")
    more = [
        name
        for name in names
        if name not in COLUMNS and (name in RETURNS.values() or all(_is_number(row[name]) for row in lines.values()))
    ]
    rows = []
    for line, row in lines.items():
        try:
            seed, numbers = int(row["seed"]), {name: _number(row[name]) for name in (*COLUMNS[3:], *more)}
        except ValueError as error:
            raise UsageError(f"{path}, line {line}: {error}. Repair the file, or make it again.") from error
        rows.append({"env": row["env"], "algo": row["algo"], "seed": seed, **numbers})
    return rows


def folder_of(path: Path) -> Path:
    """
    Give the folder of a comparison.

    :param path: the folder itself, or its results.csv
    """
    return path.parent if path.is_file() else path


def _table(path: Path) -> tuple[list[str], dict[int, dict[str, str]]]:
    """
    Read a CSV file that was written with :func:`to_csv`.

    :return: names of columns; number of a line → its cells by column
    :raises UsageError: if the file is cut or a line has another number of cells
    """
    text = path.read_text(encoding="utf-8")
    reader = csv.reader(io.StringIO(text))
    names = next(reader, [])
    lines = {}
    for cells in reader:
        if cells and len(cells) != len(names):
            raise UsageError(
                f"{path}, line {reader.line_num}: {len(cells)} cells under {len(names)} columns. The file is damaged: copy it again, or "
                "delete the line."
            )
        if cells:
            lines[reader.line_num] = dict(zip(names, cells, strict=True))
    if text and not text.endswith("\n"):
        # a number may have lost digits, and nothing else would tell
        raise UsageError(
            f"{path}, line {reader.line_num}: the last line does not end, as in a file that was cut. Copy it again; if it is whole, end "
            "it with a line break."
        )
    return names, lines


def _number(cell: str) -> float:
    return float(cell) if cell else float("nan")


def _is_number(cell: str) -> bool:
    try:
        _number(cell)
    except ValueError:
        return False
    return True


def read_references(path: Path) -> dict[str, dict[str, dict[str, float]]]:
    """
    Read what prior and untrained networks reach.

    :param path: the folder of a comparison, or its results.csv
    :return: environment id → ``"prior"`` and ``"untrained"`` → rates, NaN where a task reports no success; nothing if the folder has no
        such file
    """
    path = folder_of(path) / "references.csv"
    references: dict[str, dict[str, dict[str, float]]] = {}
    if path.exists():
        for row in _table(path)[1].values():
            rates = {name: _number(cell) for name, cell in row.items() if name not in ("env", "policy")}
            references.setdefault(row["env"], {})[row["policy"]] = rates
    return references


def read_failures(path: Path) -> dict[tuple[str, str], int]:
    """
    Read how many runs ended with an error.

    :param path: the folder of a comparison, or its results.csv
    :return: (env, algo) → number of runs, where there were any; nothing if the folder has no summary
    """
    path = folder_of(path) / "summary.csv"
    if not path.exists():
        return {}
    return {(row["env"], row["algo"]): int(row["failed"]) for row in _table(path)[1].values() if int(row["failed"])}


def runs_of(rows: Iterable[Row]) -> dict[tuple[str, str], dict[int, list[Row]]]:
    """
    Sort rows into runs. Where a task was seen to report success, no success reported is none: some say nothing of failures.

    :param rows: of the long file
    :return: (env, algo) → seed → its rows in the order of time; environments and algorithms in the order of the file
    """
    rows = list(rows)
    telling = {row["env"] for row in rows if reports_success([row])}
    runs: dict[tuple[str, str], dict[int, list[Row]]] = {}
    for row in rows:
        if row["env"] in telling and not reports_success([row]):
            row = {**row, **dict.fromkeys(RETURNS, 0.0)}
        runs.setdefault((row["env"], row["algo"]), {}).setdefault(row["seed"], []).append(row)
    for seeds in runs.values():
        for run in seeds.values():
            run.sort(key=lambda row: row["timesteps"])
    return runs


def reports_success(rows: Iterable[Row]) -> bool:
    """
    Tell whether a task says if an episode succeeded; where it does not, its runs are judged by the mean return.

    :param rows: of one task
    """
    return any(not np.isnan(row["success"]) for row in rows)


def column_of(rows: Sequence[Row], name: str) -> str:
    """
    Say which column judges a task's runs.

    :param rows: of one task
    :param name: ``"success"`` or ``"greedy_success"``
    :return: the same, or that of the mean return where the task reports no success
    """
    return name if reports_success(rows) or any(RETURNS[name] not in row for row in rows) else RETURNS[name]


def curves(seeds: Mapping[int, list[Row]], x: str, y: str = "success", points: int = 101) -> tuple[np.ndarray, np.ndarray]:
    """
    Put the curves of several runs on one grid, by linear interpolation; it ends where the shortest run ends.

    :param seeds: seed → rows
    :param x: ``"episodes"``, ``"timesteps"`` or ``"seconds"``
    :param y: column
    :param points: of the grid
    :return: grid (points,), values (seeds, points)
    """
    grid = np.linspace(0.0, min(run[-1][x] for run in seeds.values()), points)
    return grid, np.stack([np.interp(grid, [row[x] for row in run], [row[y] for row in run]) for run in seeds.values()])


def bootstrap_interval(values: np.ndarray, confidence: float = 0.95, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """
    Give the percentile bootstrap interval of the mean over runs.

    :param values: (runs, ...)
    :param confidence: its coverage
    :param seed: of the resampling
    :return: lower and upper end, (...); NaN if there is only one run
    """
    count = len(values)
    if count < 2:
        nothing = np.full(values.shape[1:], np.nan)
        return nothing, nothing
    # means of resampled runs are weighted sums; the weights count how often each run was drawn
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1.0 / count), size=RESAMPLES) / count
    means = np.tensordot(drawn, values, axes=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return low, high


def area_under_curve(run: Sequence[Row], end: float, y: str = "success", x: str = "episodes") -> float:
    """
    Average the success rate over the episodes from 0 to ``end`` (trapezoids): 1.0 would be success from the first episode on.

    :param run: rows of one run
    :param end: number of episodes, or of what ``x`` counts
    :param y: column
    :param x: column that counts what was spent
    """
    grid = np.linspace(0.0, end, 1001)
    values = np.interp(grid, [row[x] for row in run], [row[y] for row in run])
    return float(np.trapezoid(values, grid) / end) if end > 0 else float(values[0])


@dataclass(frozen=True)
class Summary:
    """
    What an algorithm reached on an environment; rates are means over seeds. Where the task reports no success they are mean returns.

    :param env: environment id
    :param algo: name on the command line
    :param seeds: runs that were finished
    :param failed: runs that ended with an error
    :param success: at the end of training, sampled
    :param success_std: standard deviation over seeds (n - 1)
    :param success_low: lower end of the 95 % bootstrap interval over seeds
    :param success_high: upper end
    :param greedy_success: at the end of training, most likely actions
    :param area: mean success over all episodes of the run (area under the curve)
    :param area_low: lower end of its interval
    :param area_high: upper end
    :param episodes: played, mean
    :param timesteps: played, mean
    :param seconds: of training without evaluation, mean
    :param measure: what the rates are: ``"success"`` or ``"return"``
    """

    env: str
    algo: str
    seeds: int
    failed: int
    success: float
    success_std: float
    success_low: float
    success_high: float
    greedy_success: float
    area: float
    area_low: float
    area_high: float
    episodes: float
    timesteps: float
    seconds: float
    measure: str = field(default="success", kw_only=True)


def summarize(rows: Sequence[Row], failed: Mapping[tuple[str, str], int] | None = None) -> list[Summary]:
    """
    Summarise the long file.

    :param rows: of the long file
    :param failed: (env, algo) → number of runs that ended with an error
    :return: one for each environment and algorithm
    """
    runs = runs_of(rows)
    failures = dict(failed or {})
    shortest: dict[str, float] = {}
    rows_of: dict[str, list[Row]] = {}
    for (env, _), seeds in runs.items():
        rows_of.setdefault(env, []).extend(row for run in seeds.values() for row in run)
        shortest[env] = min([shortest.get(env, np.inf), *(run[-1]["episodes"] for run in seeds.values())])
    summaries = []
    for env, algo in [*runs, *(key for key in failures if key not in runs)]:
        seeds = runs.get((env, algo), {})
        if not seeds:
            nothing = [float("nan")] * (len(fields(Summary)) - 5)
            summaries.append(Summary(env, algo, 0, failures[env, algo], *nothing))
            continue
        last = [run[-1] for run in seeds.values()]
        y, greedy = (column_of(rows_of[env], name) for name in ("success", "greedy_success"))
        final = np.array([row[y] for row in last])
        areas = np.array([area_under_curve(run, shortest[env], y) for run in seeds.values()])
        low, high = bootstrap_interval(final)
        area_low, area_high = bootstrap_interval(areas)
        means = {name: float(np.mean([row[name] for row in last])) for name in (*COLUMNS[3:6], y, greedy)}
        summaries.append(
            Summary(
                env=env,
                algo=algo,
                seeds=len(seeds),
                failed=failures.get((env, algo), 0),
                success=means[y],
                success_std=float(final.std(ddof=1)) if len(final) > 1 else float("nan"),
                success_low=float(low),
                success_high=float(high),
                greedy_success=means[greedy],
                area=float(areas.mean()),
                area_low=float(area_low),
                area_high=float(area_high),
                episodes=means["episodes"],
                timesteps=means["timesteps"],
                seconds=means["seconds"],
                measure="success" if y == "success" else "return",
            )
        )
    return summaries


def summary_csv(summaries: Sequence[Summary]) -> str:
    """
    Format summaries as CSV.

    :param summaries: of a comparison
    """
    return to_csv([of.name for of in fields(Summary)], [asdict(summary) for summary in summaries])
