"""Cards of priors: how good one is, measured, and how it was made; as JSON for programs and Markdown for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sppo_rl.intervals import wilson_interval
from sppo_rl.zoo.results.tables import markdown_table
from sppo_rl.zoo.shipped.card import Card


@dataclass(frozen=True)
class SuccessRate:
    """
    A measured success rate.

    :param successes: successful episodes
    :param episodes: all episodes
    :param seed: of the evaluation (see :func:`sppo_rl.evaluation.evaluate`), or of the demonstrations
    """

    successes: int
    episodes: int
    seed: int

    @property
    def rate(self) -> float:
        """Share of successful episodes."""
        return self.successes / self.episodes

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval."""
        return wilson_interval(self.successes, self.episodes)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.rate:.3f} [{low:.3f}, {high:.3f}]"


@dataclass(frozen=True)
class PriorCard(Card):
    """
    What there is to know of a prior.

    :param env_id: the task
    :param command: makes the same file again
    :param date: ISO date on which it was made
    :param network: the policy in words
    :param expert: the expert in words
    :param demonstrations: the demonstrations in words
    :param cloning: the cloning in words
    :param target: success rate aimed at
    :param sampled: success rate of the prior, actions sampled
    :param greedy: success rate of the prior, most likely actions
    :param untrained: success rate of fresh networks of the same kind, actions sampled
    :param expert_success: success rate of the expert without noise
    :param demonstrator_success: success rate of the expert with the demonstrator's noise
    :param versions: packages that the file's bytes depend on
    """

    measured_as: ClassVar[type] = SuccessRate

    env_id: str
    command: str
    date: str
    network: str
    expert: str
    demonstrations: str
    cloning: str
    target: float
    sampled: SuccessRate
    greedy: SuccessRate
    untrained: SuccessRate
    expert_success: SuccessRate
    demonstrator_success: SuccessRate
    versions: dict[str, str | None]

    def markdown(self) -> str:
        """Lay the card out for reading."""
        rows = [
            ("prior, sampled", self.sampled),
            ("prior, greedy", self.greedy),
            ("untrained networks, sampled", self.untrained),
            ("expert", self.expert_success),
            ("demonstrator (expert with noise)", self.demonstrator_success),
        ]
        cells = [(name, str(rate), f"{rate.episodes:,}", str(rate.seed)) for name, rate in rows]
        table = markdown_table(("policy", "success, 95 % Wilson interval", "episodes", "seed"), cells)
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return f"""\
# Prior for {self.env_id}

{table}

- Network: {self.network}
- Expert: {self.expert}
- Demonstrations: {self.demonstrations}
- Cloning: {self.cloning}
- Success rate aimed at: {self.target:g}
- Made on {self.date} with {versions} by

      {self.command}
"""
