"""Put the results of comparisons on one page, Markdown and HTML.

  sppo-rl report comparison -o report
  sppo-rl report benchmarks/results/control_comparison/* -o report --title "Six control tasks"

Each FOLDER is what 'sppo-rl compare' wrote: results.csv, and beside it, where they are there, references.csv (prior and untrained),
summary.csv (failed runs) and provenance.json (the exact commands). The page shows learning curves over episodes, environment steps and
seconds; interquartile means, performance profiles and probabilities of improvement with stratified bootstrap intervals (rliable);
and the table of each task. A task that reports no success is shown by its mean return, and left out of what goes over all tasks.
report.md has its plots beside it; report.html holds all in one file; summary.csv has the figures of the tasks' tables. Folders may
share a task: the seeds of several machines ('compare --first-seed') count together.
"""

from __future__ import annotations

import argparse
import base64
import html
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sppo_rl.atomic import write_atomically
from sppo_rl.zoo.names import LABELS, UsageError
from sppo_rl.zoo.results import control_table, provenance
from sppo_rl.zoo.results.aggregates import (
    METRICS,
    Estimate,
    interquartile_means,
    performance_profiles,
    probabilities_of_improvement,
    score_matrices,
)
from sppo_rl.zoo.results.plots import plot_comparison
from sppo_rl.zoo.results.report_plots import plot_intervals, plot_profiles
from sppo_rl.zoo.results.rows import (
    Row,
    folder_of,
    read_failures,
    read_references,
    read_results,
    reports_success,
    summarize,
    summary_csv,
)
from sppo_rl.zoo.results.tables import markdown_table

CURVE_AXES = ("episodes", "timesteps", "seconds")
STYLE = """\
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; } th, td { padding: .2rem .7rem; border-bottom: 1px solid #ddd; text-align: left; }
img { max-width: 100%; } code, pre { background: #f5f5f5; } pre { padding: .6rem; white-space: pre-wrap; }
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Add the options.

    :param parser: of this command
    """
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="of a comparison, or its results.csv")
    parser.add_argument("--output", "-o", type=Path, default=Path("report"), metavar="DIR", help="default: report")
    parser.add_argument("--title", default="Comparison", help="of the page")
    parser.add_argument(
        "--reference", metavar="ALGO", help="whose probability of improvement is shown (default: sppo, or the first of all)"
    )


def run(arguments: argparse.Namespace) -> int:
    """
    Write the page.

    :param arguments: parsed
    """
    write_report(arguments.folders, arguments.output, arguments.title, arguments.reference)
    print(f"Written: {arguments.output / 'report.md'} and {arguments.output / 'report.html'}")
    return 0


def write_report(folders: Sequence[Path], output: Path, title: str, reference: str | None = None) -> None:
    """
    Write ``report.md`` with its plots, ``report.html`` and ``summary.csv``.

    :param folders: of comparisons, or their results.csv; no two may hold the same run
    :param output: folder, made if it does not exist
    :param title: of the page
    :param reference: algorithm whose probability of improvement is shown
    :raises UsageError: if there are no results, a run is there twice, the reference took no part, or the output is a comparison's own
        folder
    """
    for folder in folders:
        if output.resolve() == folder_of(folder).resolve():
            raise UsageError(
                f"{output} holds the comparison itself, whose summary.csv the report's would replace. Choose another folder with -o."
            )
    rows = _rows(folders)
    if reference is not None and all(row["algo"] != reference for row in rows):
        raise UsageError(f"{reference!r} took no part: {', '.join(dict.fromkeys(row['algo'] for row in rows))} did.")
    references = {env: of for folder in folders for env, of in read_references(folder).items()}
    failed: Counter[tuple[str, str]] = Counter()
    for folder in folders:
        failed.update(read_failures(folder))
    summaries = summarize(rows, failed)
    output.mkdir(parents=True, exist_ok=True)
    for x in CURVE_AXES:
        plot_comparison(rows, output / f"curves_{x}.png", x, references)
    parts = [
        f"# {title}",
        _over_all_tasks(rows, output, reference),
        "## Learning curves",
        "Mean over seeds of sampled success, 95 % bootstrap bands."
        + (" Tasks that report no success: mean return." if _without_success(rows) else ""),
        *(f"![success against {x}](curves_{x}.png)" for x in CURVE_AXES),
        "## Task by task",
        _by_task(rows),
        control_table.markdown(summaries, references),
        "## How it was made",
        _commands(folders),
    ]
    text = "\n\n".join(part.strip() for part in parts if part) + "\n"
    write_atomically(output / "report.md", text)
    write_atomically(output / "report.html", to_html(text, title, output))
    write_atomically(output / "summary.csv", summary_csv(summaries))


def _rows(folders: Sequence[Path]) -> list[Row]:
    rows: list[Row] = []
    owner: dict[tuple[str, str, int], Path] = {}
    for folder in folders:
        new = read_results(folder)
        for env, algo, seed in dict.fromkeys((row["env"], row["algo"], row["seed"]) for row in new):
            if (env, algo, seed) in owner:
                raise UsageError(
                    f"{algo} on {env} with seed {seed} is in {owner[env, algo, seed]} and in {folder}. Give one of the two."
                )
            owner[env, algo, seed] = folder
        rows += new
    if not rows:
        raise UsageError(f"There are no finished runs in {', '.join(map(str, folders))}.")
    return rows


def _over_all_tasks(rows: Sequence[Row], output: Path, reference: str | None) -> str:
    """Interquartile means, profiles and probabilities of improvement of the algorithms that ran on every task."""
    silent = _without_success(rows)
    # returns of different tasks have no common scale
    tasks = [task for task in dict.fromkeys(row["env"] for row in rows) if task not in silent]
    if not tasks:
        return (
            "## Over all tasks\n\nNo task reports success, and returns have no common scale: nothing is averaged over tasks."
        )
    scores = {metric: score_matrices(rows, metric, tasks) for metric in METRICS}
    algos = list(scores["success"])
    if not algos:
        return "## Over all tasks\n\nNo algorithm ran on every task, so nothing is averaged over tasks."
    absent = [algo for algo in dict.fromkeys(row["algo"] for row in rows) if algo not in algos]
    estimates = {metric: interquartile_means(matrices) for metric, matrices in scores.items()}
    plot_intervals(estimates, output / "interquartile_means.png")
    thresholds = np.linspace(0.0, 1.0, 101)
    plot_profiles(performance_profiles(scores["success"], thresholds), thresholds, output / "profiles.png")
    runs = ", ".join(f"{LABELS.get(algo, algo)} {len(scores['success'][algo])}" for algo in algos)
    parts = [
        "## Over all tasks",
        f"{len(tasks)} task{'s' if len(tasks) > 1 else ''}; runs of each: {runs}. Brackets: 95 % stratified bootstrap intervals (rliable)."
        + (f" Not on every task, so left out here: {', '.join(LABELS.get(algo, algo) for algo in absent)}." if absent else "")
        + (f" These tasks report no success and are left out, too: {', '.join(silent)}." if silent else ""),
        "Interquartile mean: the mean of the middle half of all runs.",
        _table(["algorithm", *METRICS.values()], {algo: [estimates[metric][algo] for metric in METRICS] for algo in algos}),
        "![interquartile means](interquartile_means.png)",
        "Performance profile: the fraction of runs above each level of final success.",
        "![performance profiles](profiles.png)",
    ]
    reference = reference or ("sppo" if "sppo" in algos else algos[0])
    if reference in algos and len(algos) > 1:
        improvement = {
            metric: probabilities_of_improvement(matrices, reference)
            for metric, matrices in scores.items()
            if not any(np.isnan(matrix).any() for matrix in matrices.values())
        }
        name = LABELS.get(reference, reference)
        parts += [
            f"Probability that a run of {name} beats one of another algorithm, on a task taken at random (.5: neither is better).",
            _table(
                [f"{name} against", *(METRICS[metric] for metric in improvement)],
                {algo: [improvement[metric][algo] for metric in improvement] for algo in algos if algo != reference},
            ),
        ]
    return "\n\n".join(parts)


def _without_success(rows: Sequence[Row]) -> list[str]:
    """Tasks that do not say whether an episode succeeded."""
    tasks = dict.fromkeys(row["env"] for row in rows)
    return [task for task in tasks if not reports_success(row for row in rows if row["env"] == task)]


def _by_task(rows: Sequence[Row]) -> str:
    """Interquartile means of final success, a column for each task."""
    tasks = list(dict.fromkeys(row["env"] for row in rows))
    columns = [interquartile_means(score_matrices(rows, "success", [task])) for task in tasks]
    algos = dict.fromkeys(row["algo"] for row in rows)
    silent = _without_success(rows)
    headings = ["algorithm", *(f"{task} (return)" if task in silent else task for task in tasks)]
    table = _table(headings, {algo: [column.get(algo) for column in columns] for algo in algos})
    return f"Interquartile mean of final success, sampled, over seeds.\n\n{table}"


def _table(headings: Sequence[str], lines: Mapping[str, Sequence[Estimate | None]]) -> str:
    return markdown_table(headings, [[LABELS.get(algo, algo), *map(_cell, cells)] for algo, cells in lines.items()])


def _cell(estimate: Estimate | None) -> str:
    if estimate is None or np.isnan(estimate.value):
        return "–"
    interval = "" if np.isnan(estimate.low) else f" [{estimate.low:.3f}, {estimate.high:.3f}]"
    return f"{estimate.value:.3f}{interval}"


def _commands(folders: Sequence[Path]) -> str:
    parts = []
    for folder in folders:
        folder = folder_of(folder)
        entries = provenance.read(folder)
        if not entries:
            parts.append(f"`{folder}`: the command was not recorded.")
        for entry in entries:
            versions = ", ".join(f"{name} {number}" for name, number in entry["versions"].items() if number)
            code = f"commit {entry['commit']}, " if entry["commit"] else ""
            parts.append(f"`{folder}`, {entry['date']}, {code}{entry['machine']}; {versions}\n\n    {entry['command']}")
    return "\n\n".join(parts)


def to_html(text: str, title: str, folder: Path) -> str:
    """
    Turn a page into one self-contained HTML file.

    :param text: Markdown
    :param title: of the window
    :param folder: where the images are that the page names; they go into the file
    """
    import markdown

    body = markdown.markdown(text, extensions=["tables"])

    def embed(match: re.Match[str]) -> str:
        content = base64.b64encode((folder / match[1]).read_bytes()).decode("ascii")
        return f'src="data:image/png;base64,{content}"'

    body = re.sub(r'src="([^":]+\.png)"', embed, body)
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'
