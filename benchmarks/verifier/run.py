"""Measures the verifier on the corpus, the benchmarks' own golds and the hostile inputs, beside math-verify alone.

    python benchmarks/verifier/run.py --out benchmarks/verifier/results.json

``SPPO_DATA`` names the folder with the benchmark files; without it that part is left out.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sppo_rl.envs.reasoning import VerifierPool, check
from sppo_rl.zoo.results import provenance

sys.path.insert(0, str(Path(__file__).parent))
import corpus
import hostile

HANGS_AFTER = 8.0
"""Seconds after which math-verify, which has no limit of its own off the main thread, is stopped on a hostile input."""


def math_verify_alone(response: str, gold: str) -> float:
    """math-verify 0.9 as it is used out of the box: both sides parsed, the gold as LaTeX between dollar signs, time-outs by its signals."""
    import math_verify

    return float(math_verify.verify(math_verify.parse(f"${gold}$"), math_verify.parse(response)))


def measure(score: Callable[[str, str], float]) -> dict[str, Any]:
    """True and false positives on the corpus, and seconds per 1000 answers."""
    cases = corpus.labelled()
    score(*cases[0][1:3])
    counts: Counter[tuple[bool, bool]] = Counter()
    missed: defaultdict[str, int] = defaultdict(int)
    start = time.perf_counter()
    for category, response, gold, right in cases:
        accepted = score(response, gold) == 1.0
        counts[right, accepted] += 1
        if accepted != right:
            missed[category] += 1
    seconds = time.perf_counter() - start
    return {
        "right": counts[True, True] + counts[True, False],
        "wrong": counts[False, True] + counts[False, False],
        "true_positive_rate": round(counts[True, True] / (counts[True, True] + counts[True, False]), 4),
        "false_positive_rate": round(counts[False, True] / (counts[False, True] + counts[False, False]), 4),
        "seconds_per_1000": round(1000 * seconds / len(cases), 3),
        "errors_by_category": dict(sorted(missed.items())),
    }


def measure_pool() -> dict[str, Any]:
    """The same corpus ten times in one batch, through the pool."""
    cases = corpus.labelled() * 10
    with VerifierPool(num_workers=2) as pool:
        pool.check_batch([cases[0][1]], [cases[0][2]])
        start = time.perf_counter()
        verdicts = pool.check_batch([case[1] for case in cases], [case[2] for case in cases])
        seconds = time.perf_counter() - start
    return {
        "workers": 2,
        "seconds_per_1000": round(1000 * seconds / len(cases), 3),
        "agrees_with_labels": round(
            sum((v.score == 1.0) == c[3] for v, c in zip(verdicts, cases, strict=True)) / len(cases), 4
        ),
    }


def hostile_here() -> dict[str, Any]:
    """The verifier on hostile inputs, in this process."""
    slowest, name_of_slowest, scored = 0.0, "", []
    reasons: Counter[str] = Counter()
    for name, response in hostile.responses():
        for gold in ("42", r"\frac{x}{y}+\sqrt{2}", "1,2"):
            start = time.perf_counter()
            verdict = check(response, gold)
            seconds = time.perf_counter() - start
            reasons[verdict.reason] += 1
            if verdict.score:
                scored.append(name)
            if seconds > slowest:
                slowest, name_of_slowest = seconds, name
    return {
        "inputs": len(hostile.responses()),
        "within_5_s": len(hostile.responses()) if slowest < 5.0 else "see slowest",
        "slowest_seconds": round(slowest, 3),
        "slowest": name_of_slowest,
        "scored": scored,
        "reasons": dict(reasons),
    }


def hostile_pool() -> dict[str, Any]:
    """The verifier's workers on hostile inputs: memory of the largest worker."""
    responses = [response for _, response in hostile.responses()]
    with VerifierPool(num_workers=1) as pool:
        start = time.perf_counter()
        pool.check_batch(responses, ["42"] * len(responses))
        seconds = time.perf_counter() - start
        peaks = [_peak_memory(worker.process.pid) for worker in pool._workers]
        return {
            "seconds_for_all": round(seconds, 3),
            "replaced_workers": pool.restarts,
            "worker_peak_mib": max((peak for peak in peaks if peak is not None), default=None),
            "memory_limit_mib": pool.memory_mb,
        }


def _peak_memory(pid: int) -> int | None:
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1024


def _math_verify_child(requests: Any) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    math_verify_alone(r"\boxed{1}", "1")
    while True:
        response, gold = requests.recv()
        try:
            requests.send(("ok", math_verify_alone(response, gold)))
        except BaseException as error:
            requests.send((type(error).__name__, 0.0))


def hostile_math_verify() -> dict[str, Any]:
    """math-verify on hostile inputs, in a process that is stopped after ``HANGS_AFTER`` seconds."""
    context = multiprocessing.get_context("spawn")
    outcomes: Counter[str] = Counter()
    slow: list[str] = []
    child: Any = None
    for name, response in hostile.responses():
        if child is None:
            ours, theirs = context.Pipe()
            child = context.Process(target=_math_verify_child, args=(theirs,), daemon=True)
            child.start()
            theirs.close()
            ours.send((r"\boxed{1}", "1"))
            ours.recv()
        start = time.perf_counter()
        ours.send((response, "42"))
        try:
            outcome = ours.recv()[0] if ours.poll(HANGS_AFTER) else "hung"
        except (EOFError, ConnectionResetError):
            outcome = "died"
        if outcome in ("hung", "died"):
            child.kill()
            child.join()
            child = None
        outcomes[outcome] += 1
        if time.perf_counter() - start > 5.0 or outcome == "died":
            slow.append(name)
    if child is not None:
        child.kill()
    return {"inputs": sum(outcomes.values()), "outcomes": dict(outcomes), "over_5_s_or_died": slow}


def golds() -> dict[str, Any] | None:
    """Every gold answer of the benchmarks, verified against itself in a box."""
    folder = os.environ.get("SPPO_DATA")
    if not folder:
        return None
    result = {}
    for path in sorted(Path(folder).glob("*/*.jsonl")):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        failed = [row for row in rows if not check(f"\\boxed{{{row['answer']}}}", row["answer"]).score]
        result[path.stem] = {
            "golds": len(rows),
            "verified": len(rows) - len(failed),
            "failed": [f"{row['id']}: {row['answer']}" for row in failed],
        }
    return result


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    parser.add_argument("--skip-math-verify", action="store_true", help="measure our verifier alone")
    options = parser.parse_args()
    results: dict[str, Any] = {
        **provenance.describe(["python", "benchmarks/verifier/run.py", *sys.argv[1:]], ("math-verify", "sympy")),
        "corpus": {"sppo_rl": measure(lambda response, gold: check(response, gold).score), "pool": measure_pool()},
        "hostile": {"sppo_rl": hostile_here(), "pool": hostile_pool()},
        "golds": golds(),
    }
    if not options.skip_math_verify:
        name = f"math-verify {version('math-verify')}"
        results["corpus"][name] = measure(math_verify_alone)
        results["hostile"][name] = hostile_math_verify()
    text = json.dumps(results, indent=1, ensure_ascii=False)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
