"""Draw the plot of a comparison again, from its results.csv.

sppo-rl plot comparison --x seconds
sppo-rl plot comparison --x timesteps --y greedy_success -o steps.pdf
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sppo_rl.zoo.results.plots import AXES, plot_comparison
from sppo_rl.zoo.results.rows import folder_of, read_references, read_results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Add the options.

    :param parser: of this command
    """
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="of a comparison, or its results.csv")
    parser.add_argument("--x", default="episodes", choices=tuple(AXES), help="x axis (default episodes)")
    parser.add_argument("--y", default="success", choices=("success", "greedy_success"), help="y axis (default success)")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="image, or a folder for it (default: plot_<x>.png in the results' folder)",
    )


def run(arguments: argparse.Namespace) -> int:
    """
    Draw.

    :param arguments: parsed
    """
    rows = read_results(arguments.folder)
    output = arguments.output or folder_of(arguments.folder)
    if output.is_dir():
        output /= f"plot_{arguments.x}.png"
    print(f"Written: {plot_comparison(rows, output, arguments.x, read_references(arguments.folder), arguments.y)}")
    return 0
