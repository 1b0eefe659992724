"""Runs of the tiny language task that several figures measure: taken from a comparison's folder, or trained into it.

What these functions look for, and what they train, are the runs of ``benchmarks/language_comparison.sh equal_responses``, in its folder:
figures and comparison share them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from rich.console import Console

from sppo_rl.algorithm import SequenceAlgorithm
from sppo_rl.atomic import write_atomically
from sppo_rl.checkpoint import CheckpointCallback, load_checkpoint
from sppo_rl.envs.reasoning.bandit import ReasoningTask
from sppo_rl.llm.benchmarking import Respond, responder
from sppo_rl.llm.generation import Sampling
from sppo_rl.llm.loading import fingerprint
from sppo_rl.llm.policy import TransformerPolicy
from sppo_rl.llm.tokens import response_mask
from sppo_rl.zoo.language import runs as language_runs
from sppo_rl.zoo.language.config import LanguageConfig, problems_of
from sppo_rl.zoo.language.study import load_study
from sppo_rl.zoo.names import algorithm_class
from sppo_rl.zoo.parallel.jobs import Job, do_all
from sppo_rl.zoo.running.folders import CHECKPOINTS

STUDY = Path(__file__).parent / "language" / "equal_responses.yml"
RESULTS = Path(__file__).parent / "results"


def add_arguments(parser: argparse.ArgumentParser, seeds: int) -> None:
    """Which runs, and where they are."""
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(seeds)), help=f"default: 0 to {seeds - 1}")
    parser.add_argument(
        "--runs",
        type=Path,
        metavar="DIR",
        help="folder of a comparison; runs that it lacks are trained into it (default: runs/language/equal_responses)",
    )
    parser.add_argument(
        "--responses", type=int, help="length of a run, into a folder of its own (default: the study's, 12,800)"
    )
    parser.add_argument("--jobs", "-j", type=int, default=1, help="runs trained at a time (default 1)")


def train(
    algos: Sequence[str], seeds: Sequence[int], folder: Path | None = None, responses: int | None = None, jobs: int = 1
) -> dict[tuple[str, int], Path]:
    """Folders of finished runs by algorithm and seed; trains, or goes on with, those that are not finished."""
    study = load_study(STUDY)
    folder = folder or Path("runs") / "language" / (study.name if responses is None else f"{study.name}_{responses}")
    wanted = {}
    for seed in seeds:
        for algo in algos:
            config = study.variants[algo] if responses is None else replace(study.variants[algo], responses=responses)
            settings = {"kind": "language", "config": config.as_dict(), "seed": seed}
            name = f"{algo}, seed {seed}"
            wanted[algo, seed] = Job(name, folder / "runs" / algo.replace("-", "_") / f"seed_{seed}", settings)
    missing = [job for job in wanted.values() if (job.result or {}).get("status") != "done"]
    broken: list[str] = []

    def finished(job: Job, problem: str) -> None:
        problem = problem or (job.result or {}).get("error", "")
        if problem:
            broken.append(f"{job.name}: {problem}")

    if missing:
        do_all(missing, jobs, Console(stderr=True), finished)
    if broken:
        raise SystemExit("\n".join(broken))
    for (algo, seed), job in wanted.items():
        config, own_seed = language_runs.read_config(job.folder)
        if (config.algo, own_seed) != (algo, seed) or config.responses != job.settings["config"]["responses"]:
            raise SystemExit(
                f"{job.folder} holds a run of {config.algo}, seed {own_seed}, {config.responses:,} responses, but {job.name} with "
                f"{job.settings['config']['responses']:,} is wanted. Name another folder with --runs, or say --responses."
            )
    return {key: job.folder for key, job in wanted.items()}


def before_training(config: LanguageConfig, seed: int) -> TransformerPolicy:
    """The policy that a run starts with."""
    return _policy(language_runs.build(config, seed, _env(config), device="cpu"))


def after_training(folder: Path, critic_only: int = 0, work: Path | None = None) -> TransformerPolicy:
    """
    The policy and the critic that a run ended with, from its last checkpoint (a squared-error critic is nowhere else).

    With ``critic_only`` the critic is then trained on so many more responses of the policy, which stays as it is, with checkpoints in the
    folder ``work``.
    """
    config, _ = language_runs.read_config(folder)
    cls: Any = algorithm_class(config.algo)
    env = _env(config)
    model = load_checkpoint(cls, folder / CHECKPOINTS, env=env, device="cpu")
    if model is None or model.num_timesteps < config.responses:
        raise SystemExit(
            f"{folder} has no checkpoint of its end ({config.responses:,} responses). Delete it to train it anew."
        )
    if critic_only:
        assert work is not None
        # by weights, so that a run that was trained anew is not mistaken for this one
        further = work / f"critic_only_{config.algo}_{fingerprint(_policy(model).model)}"
        end = model.num_timesteps + critic_only
        begun = load_checkpoint(cls, further, env=env, device="cpu")
        model = model if begun is None else begun
        model.critic_warmup = sys.maxsize
        if model.num_timesteps < end:
            model.learn(end - model.num_timesteps, CheckpointCallback(further, every_updates=5), reset_num_timesteps=False)
    return _policy(model)


def _env(config: LanguageConfig) -> Any:
    env, held_out = language_runs.make_envs(config)
    held_out.close()
    return env


def _policy(model: SequenceAlgorithm) -> TransformerPolicy:
    assert isinstance(model.policy, TransformerPolicy)
    return model.policy


def held_out(config: LanguageConfig, count: int) -> ReasoningTask:
    """So many problems that no run trains on."""
    tokenizer = language_runs.load_tokenizer(language_runs.model_source(config.model))
    problems = problems_of({**config.evaluation.problems, "size": count})
    return ReasoningTask(problems, tokenizer, config.max_prompt_tokens, config.max_new_tokens)


def respond_with(policy: TransformerPolicy) -> Respond:
    """Responses of a policy at its training temperature."""
    assert policy.eos_token_id is not None
    policy.generator.sync_weights(policy.model.named_parameters(), policy.weight_version)
    sampling = Sampling(policy.max_new_tokens, policy.eos_token_id, policy.vocabulary, policy.temperature)
    return responder(policy.generator, sampling, policy.weight_version)


@th.no_grad()
def prompt_values(policy: TransformerPolicy, task: ReasoningTask) -> np.ndarray:
    """(P,) V(s) of each prompt."""
    contexts = {name: th.as_tensor(rows) for name, rows in task.observe(range(len(task.problems))).items()}
    return policy.value_scale(policy.context_value_logits(contexts)).double().numpy()


@th.no_grad()
def token_values(policy: TransformerPolicy, task: ReasoningTask, prompts: np.ndarray, actions: np.ndarray) -> list[np.ndarray]:
    """For each of M responses (T,) V before each of its tokens."""
    observations = {name: th.as_tensor(rows) for name, rows in task.observe(prompts.tolist()).items()}
    taken = th.as_tensor(actions)
    found = []
    for rows in policy.chunks(th.arange(len(taken)), observations, taken):
        logits = policy.decision_value_logits({name: values[rows] for name, values in observations.items()}, taken[rows])
        mask = response_mask(taken[rows], policy.vocabulary)
        values = policy.value_scale(logits).double().numpy()
        found += [row[inside] for row, inside in zip(values, mask.numpy(), strict=True)]
    return found


def kept(path: Path, settings: dict[str, Any], measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What was measured before under the same settings, or what is measured now and kept."""
    settings = json.loads(json.dumps(settings))
    if path.exists():
        earlier = json.loads(path.read_text(encoding="utf-8"))
        if earlier["settings"] == settings:
            found: dict[str, Any] = earlier["measured"]
            return found
    measured = measure()
    write_atomically(path, json.dumps({"settings": settings, "measured": measured}))
    return measured


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Write a result file."""
    write_atomically(path, json.dumps(result, indent=1) + "\n")
    print(f"wrote {path}")
