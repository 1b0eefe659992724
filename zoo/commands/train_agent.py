"""Train an agent for the zoo: its actor's weights in a small file, with a card of 2,000 episodes each way.

  sppo-rl train-agent --env sppo_rl/Pendulum-v0 --episodes 3008 --seed 0 -o agents

Training is that of 'sppo-rl train'; the last policy is kept, so that no evaluation has chosen it. The same command and seed give the same
file. Agents that ship are loaded by sppo_rl.zoo.load_agent(ID), and shown by 'sppo-rl enjoy --agent --env ID -o video.mp4'.
"""

from __future__ import annotations

import argparse
import shlex
import tempfile
from pathlib import Path

import numpy as np
import torch as th

from sppo_rl.evaluation import evaluate
from sppo_rl.zoo.commands import options
from sppo_rl.zoo.names import LABELS, UsageError, file_name, is_ours
from sppo_rl.zoo.results import provenance
from sppo_rl.zoo.running.callback import RunCallback
from sppo_rl.zoo.running.progress import RunProgress
from sppo_rl.zoo.running.runs import RunSpec, read_config
from sppo_rl.zoo.running.runs import run as train_run
from sppo_rl.zoo.settings.hyperparameters import parse_overrides, read_entry
from sppo_rl.zoo.shipped.agent import AgentCard
from sppo_rl.zoo.shipped.card import CARD_SEED
from sppo_rl.zoo.shipped.prior import actor_weights, write_weights
from sppo_rl.zoo.shipped.prior_card import SuccessRate

CARD_EPISODES = 2000
"""For each rate on the card, unless asked for otherwise."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Add the options.

    :param parser: of this command
    """
    parser.add_argument("--algo", default="sppo", metavar="NAME", help="of this package's algorithms (default sppo)")
    parser.add_argument("--env", required=True, metavar="ID", help="environment id; 'sppo-rl envs' lists them")
    parser.add_argument("--episodes", type=int, required=True, metavar="N", help="length of training in episodes")
    options.add_seed(parser)
    options.add_prior_choice(parser)
    options.add_hyperparameters(parser)
    options.add_conf_file(parser)
    parser.add_argument(
        "-n",
        "--card-episodes",
        type=int,
        default=CARD_EPISODES,
        metavar="N",
        help="episodes for each rate on the card (default 2000)",
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("agents"), metavar="FOLDER", help="default: ./agents")


class _SuccessNeeded(RunCallback):
    """Ends a run at its first evaluation, which comes before training, where the task reports no success."""

    def _on_rollout_start(self) -> None:
        if np.isnan(self.evaluation.rows[0]["success"]):
            raise UsageError(
                f"{self.evaluation.env} reported no success (info['is_success'] at the end) in {2 * self.evaluation.n_episodes} episodes "
                "before training, so its agent could have no card. Let it report failures too (False), or train with 'sppo-rl train'."
            )

    def _on_step(self) -> bool:
        return True


def run(arguments: argparse.Namespace) -> int:
    """
    Train an agent and write it with its card.

    :param arguments: parsed
    :raises UsageError: if the options make no sense
    """
    if not is_ours(arguments.algo):
        raise UsageError(f"An agent of the zoo is trained by this package's algorithms, not {arguments.algo!r}.")
    if arguments.card_episodes < 1:
        raise UsageError(f"--card-episodes must be at least 1, got {arguments.card_episodes}.")
    if arguments.output.exists() and not arguments.output.is_dir():
        raise UsageError(f"Agents are written to a folder, and {arguments.output} is a file. Choose another with -o.")
    # sums are split among threads, and rounding follows
    th.set_num_threads(1)
    spec = RunSpec(
        algo=arguments.algo,
        env_id=arguments.env,
        seed=arguments.seed,
        episodes=arguments.episodes,
        overrides=parse_overrides(arguments.hyperparams),
        prior=arguments.prior,
        entry=read_entry(arguments.algo, arguments.env, arguments.conf_file),
        # nothing depends on what evaluations would find
        eval_every=arguments.episodes,
        eval_episodes=20,
    ).check()
    print(f"{LABELS[spec.algo]} on {spec.env_id}, seed {spec.seed}, {spec.length:,} episodes")
    with tempfile.TemporaryDirectory() as folder:
        callbacks = [_SuccessNeeded(), RunProgress(spec.length, spec.unit)]
        model, evaluation = train_run(spec, Path(folder), callbacks, announce=print)
        from_prior = bool(read_config(Path(folder)).prior)

    def rate(deterministic: bool) -> SuccessRate:
        found = evaluate(model, spec.env_id, arguments.card_episodes, deterministic, CARD_SEED).successes
        # that the task reports success has been seen before training: some say nothing of a failure
        return SuccessRate(0 if found is None else int(found.sum()), arguments.card_episodes, CARD_SEED)

    last = evaluation.rows[-1]
    card = AgentCard(
        env_id=spec.env_id,
        command=_command(spec, arguments),
        date=provenance.today(),
        algo=spec.algo,
        hyperparameters=spec.hyperparameters().kwargs,
        from_prior=from_prior,
        episodes=int(last["episodes"]),
        timesteps=int(last["timesteps"]),
        seconds=round(float(last["seconds"]), 1),
        sampled=rate(deterministic=False),
        greedy=rate(deterministic=True),
        versions=provenance.versions(("torch", "numpy", "gymnasium")),
    )
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / f"{file_name(spec.env_id)}.npz"
    write_weights(path, actor_weights(model.policy))  # type: ignore[arg-type]
    card.write(path)
    print(f"wrote {path}: sampled {card.sampled}, greedy {card.greedy}")
    return 0


def _command(spec: RunSpec, arguments: argparse.Namespace) -> str:
    """What makes the same file again."""
    words = ["sppo-rl", "train-agent", "--algo", spec.algo, "--env", spec.env_id, "--episodes", str(spec.episodes)]
    words += [] if arguments.prior is None else ["--from-prior" if arguments.prior else "--no-prior"]
    words += ["--seed", str(spec.seed), *(["--hyperparams", *arguments.hyperparams] if arguments.hyperparams else [])]
    words += ["--conf-file", str(arguments.conf_file)] if arguments.conf_file else []
    words += ["-n", str(arguments.card_episodes)] if arguments.card_episodes != CARD_EPISODES else []
    return shlex.join([*words, "-o", str(arguments.output)])
