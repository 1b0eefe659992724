"""Cells of ``quick.py``: language runs and the answer verifier. Each takes the committed file and a folder to work in."""

from __future__ import annotations

import functools
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from agreement import AbsentError, Check, fast, near, one_more_run, read_json, same, standard_error

from sppo_rl.cores import torch_threads
from sppo_rl.envs.reasoning import check as verify
from sppo_rl.zoo.results.rows import read_results, runs_of

HERE = Path(__file__).resolve().parent


def llm_throughput(results: Path, work: Path) -> Iterator[Check]:
    """Two repetitions of one update."""
    import llm_throughput as script

    committed = read_json(results)
    with torch_threads(committed["threads"]):
        tokenizer = script.make_tokenizer()
        ours = script.Ours(script.make_model(tokenizer), tokenizer)
        theirs = script.Theirs(script.make_model(tokenizer), tokenizer, str(work / "trl"))
        for side in (ours, theirs):
            side.run(1)
        ratios = [ours.run(1).rate / theirs.run(1).rate for _ in range(2)]
    yield fast("speed beside TRL", committed["ratio_median"], statistics.median(ratios))


def llm_memory(results: Path, work: Path) -> Iterator[Check]:
    """The configurations with the least and the most memory, once each; their ratio within a fifth."""
    committed = read_json(results)
    rows = sorted(committed["rows"], key=lambda row: row["memory_mib"])
    found = []
    for row in (rows[0], rows[-1]):
        words = [sys.executable, "-W", "ignore", str(HERE / "llm_memory.py"), "--one", row["configuration"]]
        run = subprocess.run([*words, "--threads", str(committed["threads"])], capture_output=True, text=True, check=True)
        found.append(json.loads(run.stdout.splitlines()[-1])["memory_mib"])
    ratio = rows[0]["memory_mib"] / rows[-1]["memory_mib"]
    what = f"memory, {rows[0]['configuration']} over {rows[-1]['configuration']}"
    yield Check(what, ratio, 0.8 * ratio, 1.2 * ratio, found[0] / found[1])


@functools.cache
def language_runs(work: Path) -> dict[tuple[str, int], Path]:
    """SPPO and PPO on the tiny task, seed 0, the committed budget, side by side on two cores."""
    from trained import train

    return train(["sppo", "ppo"], [0], work / "language", jobs=2)


def language_comparison(results: Path, work: Path) -> Iterator[Check]:
    """Final pass@1 of SPPO and PPO, seed 0, in every study that runs them as equal_responses does."""
    from trained import STUDY

    from sppo_rl.callbacks import read_evaluations
    from sppo_rl.zoo.language.study import load_study
    from sppo_rl.zoo.running.folders import EVALUATIONS

    ours = load_study(STUDY).variants
    for file in sorted(results.glob("*/results.csv")):
        study = HERE / "language" / f"{file.parent.name}.yml"
        theirs = load_study(study).variants if study.is_file() else {}
        for (_, algo), seeds in runs_of(read_results(file)).items():
            if algo not in ("sppo", "ppo") or theirs.get(algo) != ours[algo]:
                continue
            finals = [rows[-1]["success"] for rows in seeds.values()]
            outcomes = ours[algo].evaluation.count or 512
            found = read_evaluations(language_runs(work)[algo, 0] / EVALUATIONS)[-1]["success"]
            yield one_more_run(f"{file.parent.name}, {algo}, final pass@1", finals, found, outcomes)


def calibration(results: Path, work: Path) -> Iterator[Check]:
    """One run, a quarter of the responses to each prompt; correlations as shares of their ceilings, which fall with the responses."""
    import calibration as script
    from trained import held_out

    from sppo_rl.zoo.language.runs import read_config

    committed = read_json(results)
    folder = language_runs(work)["sppo", 0]
    config, _ = read_config(folder)
    task = held_out(config, committed["prompts"])
    found = script.measure(folder, task, committed["k"] // 4, work / "calibration")
    task.close()
    over_seeds = committed["after_over_seeds"]
    yield same("responses of training", committed["responses_of_training"], config.responses)
    for name in ("pearson", "spearman"):
        mean, spread = over_seeds[name]["mean"], over_seeds[name]["std"] or 0.0
        ceiling = found[f"ceiling_{name}"]
        error = standard_error(found[f"{name}_interval"])
        of_ceiling = over_seeds[f"ceiling_{name}"]["mean"]
        yield near(
            f"{name} of V, share of its ceiling",
            mean / of_ceiling,
            found[name] / ceiling,
            spread / of_ceiling,
            error / ceiling,
        )


def tail_effect(results: Path, work: Path) -> Iterator[Check]:
    """PPO, one run, half of the responses to each prompt: the end of the chains."""
    import tail_effect as script
    from trained import held_out

    from sppo_rl.zoo.language.runs import read_config

    committed = read_json(results)
    folder = language_runs(work)["ppo", 0]
    config, _ = read_config(folder)
    task = held_out(config, committed["prompts"])
    found = script.measure(folder, task, committed["k"] // 2)["positions"][-1]
    task.close()
    before = committed["over_seeds"]["PPO"][-1]
    for name in ("auc", "gap"):
        spread = before[name]["std"] or 0.0
        yield near(
            f"PPO, {name} at the end", before[name]["mean"], found[name], spread, standard_error(found[f"{name}_interval"])
        )


def verifier(results: Path, work: Path) -> Iterator[Check]:
    """The corpus, in this process."""
    sys.path.insert(0, str(HERE / "verifier"))
    import run as script

    committed = read_json(results)["corpus"]["sppo_rl"]
    found = script.measure(lambda response, gold: verify(response, gold).score)
    for name in ("true_positive_rate", "false_positive_rate"):
        yield same(name.replace("_", " "), committed[name], found[name])


def verifier_blind(results: Path, work: Path) -> Iterator[Check]:
    """The second corpus, in this process: what was committed is a first look, so the verifier may have become better."""
    sys.path.insert(0, str(HERE / "verifier"))
    import blind_run as script

    committed = read_json(results)["sppo_rl"]

    def score(response: str, gold: str) -> tuple[float, str]:
        verdict = verify(response, gold)
        return verdict.score, verdict.reason

    found = script.measure(score)
    right, wrong = (committed[name]["accepted"] for name in ("true_positives", "false_positives"))
    yield Check("right answers accepted", right, right, committed["true_positives"]["of"], found["true_positives"]["accepted"])
    yield Check("wrong answers accepted", wrong, 0, wrong, found["false_positives"]["accepted"])


def real_benchmarks(results: Path, work: Path) -> Iterator[Check]:
    """The gold answers against themselves, where the benchmark files are at hand."""
    if not os.environ.get("SPPO_DATA"):
        raise AbsentError("SPPO_DATA names no folder with the benchmark files")
    import real_benchmarks as script

    found = script.check_golds()
    for name, committed in read_json(results)["gold_answers"].items():
        yield same(f"{name}, gold answers accepted", committed["accepted"], found[name]["accepted"])
