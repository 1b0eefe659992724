"""Train a language model; the folder of the run holds all that is worth keeping.

  sppo-rl train-llm --config zoo/hyperparams/llm/chain_sum_tiny.yml
  sppo-rl train-llm --config chain_sum_tiny --algo grpo --seed 1 --hyperparams n_episodes=2048 responses=40960
  sppo-rl train-llm --config deepseek_r1_distill_qwen_1.5b --check
  sppo-rl train-llm --resume logs/llm/sppo_chain_sum_tiny_1

A configuration says model, critic, problems, evaluation and hyperparameters; one that ships is found by its name. Written to
<log folder>/<algo>_<config>_<n>/: config.yml, evaluations.csv (pass@1 on held-out problems), table.md, plots of pass@1 against tokens
and seconds, policy/ and critic/ (Hugging Face folders), tensorboard_1/, and checkpoints/, from which --resume goes on exactly.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch as th

from sppo_rl.zoo.commands import options
from sppo_rl.zoo.language.check import check
from sppo_rl.zoo.language.config import LanguageConfig, change, config_stem, load_config, shipped
from sppo_rl.zoo.language.memory import memory
from sppo_rl.zoo.names import ALGORITHMS, LABELS, UsageError, is_ours
from sppo_rl.zoo.running.folders import alone_in_run, new_folder
from sppo_rl.zoo.settings.hyperparameters import parse_overrides, update_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Add the options.

    :param parser: of this command
    """
    parser.add_argument("--config", metavar="YML", help=f"a file, or one of: {', '.join(shipped())}")
    parser.add_argument(
        "--algo", metavar="NAME", help=f"of {', '.join(filter(is_ours, ALGORITHMS))} (default: the configuration's)"
    )
    options.add_seed(parser)
    options.add_hyperparameters(parser)
    parser.add_argument("--check", action="store_true", help="only check the configuration: no GPU, no download")
    parser.add_argument("--log-folder", "-f", type=Path, default=Path("logs/llm"), metavar="DIR", help="default: logs/llm")
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="DIR",
        help="go on with a killed run, with the settings it was begun with: in its config.yml only responses and, of policy_kwargs, "
        "tokens_per_pass, logits_per_pass, responses_per_pass and generator_kwargs may be changed; other changes are refused",
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, auto (default)")
    parser.add_argument("--threads", type=int, metavar="N", help="PyTorch's threads (default: its own choice)")
    parser.add_argument("--verbose", type=int, default=0, choices=(0, 1, 2), help="1 prints the training log")


def run(arguments: argparse.Namespace) -> int:
    """
    Train, or check.

    :param arguments: parsed
    :raises UsageError: if the options make no sense
    """
    if arguments.resume is not None:
        given = [name for name in ("config", "algo", "hyperparams", "check") if getattr(arguments, name)]
        if given:
            raise UsageError(
                f"--resume goes on with a run as it was begun, so it cannot be combined with --{' or --'.join(given)}. For other settings "
                "begin a run of its own."
            )
    else:
        if arguments.config is None:
            raise UsageError(f"Name a configuration with --config: a file, or one of {', '.join(shipped())}.")
        config = change(load_config(arguments.config), arguments.algo, parse_overrides(arguments.hyperparams))
        check(config)
        if arguments.check:
            print(f"{arguments.config} is sound: {describe(config)}\n{memory(config)}.")
            return 0
    if arguments.threads is not None:
        if arguments.threads < 1:
            raise UsageError(f"--threads must be at least 1, got {arguments.threads}.")
        th.set_num_threads(arguments.threads)
    if arguments.resume is None:
        stem = f"{config.algo}_{config_stem(arguments.config)}"
        with new_folder(arguments.log_folder, stem) as folder, alone_in_run(folder, "sppo-rl train-llm"):
            _train(config, arguments.seed, folder, arguments)
        return 0
    from sppo_rl.zoo.language import runs as language_runs

    config, seed = language_runs.read_config(arguments.resume)
    check(config)
    if (arguments.resume / language_runs.DONE).exists():
        raise UsageError(f"The run in {arguments.resume} is complete; there is nothing to resume.")
    with alone_in_run(arguments.resume, "sppo-rl train-llm --resume"):
        _train(config, seed, arguments.resume, arguments)
    return 0


def _train(config: LanguageConfig, seed: int, folder: Path, arguments: argparse.Namespace) -> None:
    """Train, or go on with what is in the folder, and say where everything is."""
    # these import what trains and draws, which a check can do without
    from sppo_rl.zoo.language import runs as language_runs
    from sppo_rl.zoo.language.evaluation import describe as describe_row
    from sppo_rl.zoo.running.progress import RunProgress

    print(f"{describe(config)} Seed {seed}; folder {folder}")
    language_runs.run(
        config,
        seed,
        folder,
        [RunProgress(config.responses, "responses", describe_row)],
        resume=arguments.resume is not None,
        tensorboard=True,
        verbose=arguments.verbose,
        device=arguments.device,
        announce=print,
    )
    print(
        f"\n{(folder / language_runs.DONE).read_text(encoding='utf-8')}\nPlots: {folder / 'plot_tokens.png'}, {folder / 'plot_seconds.png'}"
    )
    print(f"The policy is in {folder / 'policy'}.")


def describe(config: LanguageConfig) -> str:
    """
    Put a configuration into a sentence.

    :param config: checked
    """
    size = update_size(config.algo, config.constructor_kwargs())
    return (
        f"{LABELS[config.algo]} on {config.model}: {config.responses:,} responses of at most {config.max_new_tokens:,} tokens, "
        f"{size:,} in an update."
    )
