"""Measures the verifier on the second corpus, ``blind_corpus.py``, with math-verify beside it; every miss is listed.

python benchmarks/verifier/blind_run.py --out benchmarks/verifier/blind_results.json
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sppo_rl.envs.reasoning import check
from sppo_rl.evaluation import wilson_interval

sys.path.insert(0, str(Path(__file__).parent))
import blind_corpus
from run import math_verify_alone

HERE = Path(__file__).resolve().parent


def measure(score: Callable[[str, str], tuple[float, str]]) -> dict[str, Any]:
    """
    Rates, seconds and misses over the corpus.

    :param score: takes a response and a gold; gives the score and the reason for it.
    """
    cases = blind_corpus.labelled()
    score(*cases[0][1:3])
    start = time.perf_counter()
    verdicts = [score(response, gold) for _, response, gold, _ in cases]
    seconds = time.perf_counter() - start
    accepted: dict[bool, list[bool]] = {True: [], False: []}
    categories: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    misses = []
    for (category, response, gold, right), (value, reason) in zip(cases, verdicts, strict=True):
        accepted[right].append(value == 1.0)
        categories[category][0 if right else 2] += value == 1.0
        categories[category][1 if right else 3] += 1
        if (value == 1.0) != right:
            misses.append({"category": category, "gold": gold, "response": response, "right": right, "reason": reason})
    result: dict[str, Any] = {}
    for name, label in (("true_positives", True), ("false_positives", False)):
        hits, total = sum(accepted[label]), len(accepted[label])
        interval = [round(end, 4) for end in wilson_interval(hits, total)]
        result[name] = {"accepted": hits, "of": total, "rate": round(hits / total, 4), "wilson_95": interval}
    result["seconds_per_1000"] = round(1000 * seconds / len(cases), 3)
    columns = ("right_accepted", "right", "wrong_accepted", "wrong")
    result["categories"] = {name: dict(zip(columns, counts, strict=True)) for name, counts in sorted(categories.items())}
    result["misses"] = misses
    return result


def main() -> None:
    """Measure, print the rates, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    parser.add_argument("--skip-math-verify", action="store_true", help="measure our verifier alone")
    options = parser.parse_args()
    commit = subprocess.run(["git", "-C", HERE, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    frozen = b"".join((HERE / name).read_bytes() for name in ("blind_corpus.py", "blind_answers.txt"))
    results: dict[str, Any] = {
        "command": "python benchmarks/verifier/blind_run.py" + (f" --out {options.out}" if options.out else ""),
        "commit": commit.stdout.strip(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "load_average": round(os.getloadavg()[0], 1),
        "corpus_sha256": hashlib.sha256(frozen).hexdigest(),
    }

    def ours(response: str, gold: str) -> tuple[float, str]:
        verdict = check(response, gold)
        return verdict.score, verdict.reason

    results["sppo_rl"] = measure(ours)
    if not options.skip_math_verify:
        name = f"math-verify {version('math-verify')}"
        results[name] = measure(lambda response, gold: (math_verify_alone(response, gold), ""))
        del results[name]["misses"]
    for name in [name for name in results if isinstance(results[name], dict)]:
        print(
            name,
            *(f"{key} {results[name][key]}" for key in ("true_positives", "false_positives", "seconds_per_1000")),
            sep="\n  ",
        )
    if options.out:
        options.out.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
