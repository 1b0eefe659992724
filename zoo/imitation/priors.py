"""A control prior in the paper's three stages: expert, demonstrations, behaviour cloning. How each task's is made, and the making."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sppo_rl.cores import torch_threads
from sppo_rl.evaluation import evaluate
from sppo_rl.sppo import SPPO
from sppo_rl.zoo.imitation import experts
from sppo_rl.zoo.imitation.cloning import Checkpoint, clone_until
from sppo_rl.zoo.imitation.demonstrations import Demonstrations, Expert, demonstrate
from sppo_rl.zoo.names import UsageError, check_seed, file_name, suggestion
from sppo_rl.zoo.results import provenance
from sppo_rl.zoo.shipped.card import CARD_SEED
from sppo_rl.zoo.shipped.prior import actor_weights, write_weights
from sppo_rl.zoo.shipped.prior_card import PriorCard, SuccessRate
from sppo_rl.zoo.shipped.untrained import UNTRAINED_NETWORKS, untrained_networks


@dataclass(frozen=True)
class Recipe:
    """
    How the prior of one task is made.

    :param expert: the script; ``None`` trains a network on the dense reward
    :param about: the expert in words
    :param target: success rate aimed at unless another is asked for
    :param noise: of the demonstrator, see :func:`~sppo_rl.zoo.imitation.demonstrations.demonstrate`
    :param steps_between: gradient steps of cloning between two measurements
    :param attempts: episodes that the demonstrator plays
    :param learning_rate: of cloning
    :param batch_size: decisions in a minibatch of cloning
    :param max_steps: gradient steps of cloning at most
    :param selection_episodes: episodes in each measurement during cloning
    :param expert_episodes: episodes on which the expert without noise is measured
    """

    expert: Expert | None
    about: str
    target: float
    noise: float
    steps_between: int
    attempts: int = 100
    learning_rate: float = 1e-3
    batch_size: int = 256
    max_steps: int = 4000
    selection_episodes: int = 256
    expert_episodes: int = 500


RECIPES: dict[str, Recipe] = {
    "sppo_rl/PrecisionCartPole-v0": Recipe(experts.cartpole, "script, experts.cartpole", target=0.3, noise=0.1, steps_between=4),
    "sppo_rl/PrecisionCartPole200-v0": Recipe(experts.cartpole, "script, experts.cartpole", target=0.2, noise=0.1, steps_between=10),
    "sppo_rl/MountainCar-v0": Recipe(
        experts.mountain_car, "script, experts.mountain_car", target=0.2, noise=0.5, steps_between=10, learning_rate=3e-4
    ),
    "sppo_rl/Hopper-v0": Recipe(
        None, "PPO on the dense twin, experts.train_expert", target=0.4, noise=0.1, steps_between=200, selection_episodes=64,
        expert_episodes=100,
    ),
    "sppo_rl/LunarLander-v0": Recipe(
        experts.lunar_lander, "script, experts.lunar_lander", target=0.2, noise=0.1, steps_between=25, selection_episodes=128,
        expert_episodes=200,
    ),
    "sppo_rl/Pendulum-v0": Recipe(
        experts.pendulum, "script, experts.pendulum", target=0.4, noise=1.0, steps_between=20, batch_size=1024
    ),
}  # fmt: skip
"""Environment id → how its prior is made."""


def make_prior(
    env_id: str,
    target: float | None = None,
    seed: int = 0,
    output: str | Path = "priors",
    episodes: int = 2000,
    report: Callable[[str], None] = print,
    recipe: Recipe | None = None,
) -> PriorCard:
    """
    Make a prior and its card.

    :param env_id: a task with a recipe
    :param target: success rate aimed at, actions sampled; ``None`` for the recipe's
    :param seed: of everything random
    :param output: folder to write ``<id>.npz``, ``.json`` and ``.md`` to
    :param episodes: episodes on which each rate of the card is measured
    :param report: is told how it goes
    :param recipe: another way to make it than that of :data:`RECIPES`
    :return: the card
    :raises UsageError: if there is no recipe for the id, or a number is out of its range
    """
    if recipe is None:
        recipe = recipe_for(env_id)
    check_seed(seed)
    target = recipe.target if target is None else target
    if not 0.0 < target <= 1.0:
        raise UsageError(f"The target is a success rate between 0 and 1, got {target}.")
    if episodes < UNTRAINED_NETWORKS:
        raise UsageError(f"The card needs at least {UNTRAINED_NETWORKS} episodes, got {episodes}.")
    words = ["sppo-rl", "pretrain", "--env", env_id, "--target", f"{target:g}", "--seed", str(seed), "-o", str(output)]
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    with torch_threads(1):
        expert = recipe.expert or experts.train_expert(env_id, recipe.noise, success=0.5, seed=seed, report=report)
        demonstrations = demonstrate(env_id, expert, recipe.attempts, recipe.noise, seed)
        report(
            f"demonstrations: {demonstrations.successes} of {demonstrations.attempts} episodes succeeded, "
            f"{len(demonstrations.actions):,} steps"
        )
        model = SPPO("MlpPolicy", env_id, n_episodes=1, seed=seed, device="cpu")
        chosen = _clone(model, env_id, demonstrations, target, seed, recipe, report)
        path = folder / f"{file_name(env_id)}.npz"
        write_weights(path, actor_weights(model.policy))  # type: ignore[arg-type]
        report(f"wrote {path}; measuring it on {episodes:,} episodes, sampled and greedy")
        card = PriorCard(
            env_id=env_id,
            command=shlex.join(words),
            date=provenance.today(),
            network=_describe_network(model),
            expert=recipe.about,
            demonstrations=_describe_demonstrations(demonstrations, recipe, model),
            cloning=(
                f"maximum likelihood, Adam {recipe.learning_rate:g}, {chosen.step} steps of {recipe.batch_size} decisions, "
                f"negative log-likelihood {chosen.loss:.3f} nats"
            ),
            target=target,
            sampled=_measure(model, env_id, episodes, deterministic=False),
            greedy=_measure(model, env_id, episodes, deterministic=True),
            untrained=measure_untrained(env_id, episodes),
            expert_success=_measure_expert(env_id, expert, min(episodes, recipe.expert_episodes)),
            demonstrator_success=SuccessRate(demonstrations.successes, demonstrations.attempts, seed),
            versions=provenance.versions(("torch", "numpy", "gymnasium")),
        )
    card.write(path)
    report(f"sampled {card.sampled}, greedy {card.greedy}, untrained {card.untrained}, expert {card.expert_success}")
    return card


def recipe_for(env_id: str) -> Recipe:
    """
    Look up how the prior of a task is made.

    :param env_id: id of a task
    :raises UsageError: if there is no recipe; says for which there is one
    """
    if env_id not in RECIPES:
        raise UsageError(
            f"There is no recipe for a prior of {env_id!r}.{suggestion(env_id, RECIPES)} There are recipes for: {', '.join(RECIPES)}."
        )
    return RECIPES[env_id]


def measure_untrained(env_id: str, episodes: int) -> SuccessRate:
    """
    Measure fresh networks of seeds 0, 1, …, with their actions sampled.

    :param env_id: id of a task
    :param episodes: of all networks together; rounded down to a multiple of the number of networks
    """
    each = episodes // UNTRAINED_NETWORKS
    successes = 0
    for seed, model in enumerate(untrained_networks(env_id)):
        successes += _measure(model, env_id, each, deterministic=False, seed=CARD_SEED + seed).successes
    return SuccessRate(successes, each * UNTRAINED_NETWORKS, CARD_SEED)


def _clone(
    model: SPPO,
    env_id: str,
    demonstrations: Demonstrations,
    target: float,
    seed: int,
    recipe: Recipe,
    report: Callable[[str], None],
) -> Checkpoint:
    """Clone into the model's actor; says so if the target stayed out of reach."""
    chosen, checkpoints = clone_until(
        model.policy,
        demonstrations,
        target,
        lambda: evaluate(model, env_id, recipe.selection_episodes, seed=seed).success_rate,
        learning_rate=recipe.learning_rate,
        batch_size=recipe.batch_size,
        steps_between=recipe.steps_between,
        max_steps=recipe.max_steps,
        seed=seed,
        report=lambda checkpoint: report(f"cloning: {checkpoint.step} steps, success {checkpoint.success:.2f}"),
    )
    if checkpoints[-1].success < target:
        report(
            f"the target {target:g} was not reached in {recipe.max_steps} steps; the nearest was {chosen.success:.2f}, after {chosen.step}"
        )
    return chosen


def _measure(model: SPPO, env_id: str, episodes: int, deterministic: bool, seed: int = CARD_SEED) -> SuccessRate:
    successes = evaluate(model, env_id, episodes, deterministic, seed).successes
    assert successes is not None
    return SuccessRate(int(successes.sum()), episodes, seed)


def _measure_expert(env_id: str, expert: Expert, episodes: int) -> SuccessRate:
    played = demonstrate(env_id, expert, episodes, noise=0.0, seed=CARD_SEED)
    return SuccessRate(played.successes, episodes, CARD_SEED)


def _is_gaussian(model: SPPO) -> bool:
    return hasattr(model.policy, "log_std")


def _describe_demonstrations(demonstrations: Demonstrations, recipe: Recipe, model: SPPO) -> str:
    noise = (
        f"Gaussian noise of standard deviation {recipe.noise:g}"
        if _is_gaussian(model)
        else f"{recipe.noise:.0%} random actions"
    )
    return f"{demonstrations.successes} successful episodes of {demonstrations.attempts}, {len(demonstrations.actions):,} steps, {noise}"


def _describe_network(model: SPPO) -> str:
    weights: dict[str, Any] = actor_weights(model.policy)  # type: ignore[arg-type]
    widths = [array.shape[1] for name, array in weights.items() if array.ndim == 2] + [len(weights["action_net.bias"])]
    head = "Gaussian means, with a standard deviation of its own for each action" if _is_gaussian(model) else "logits"
    return f"MlpPolicy; actor {'-'.join(map(str, widths))}, tanh, {head}"
