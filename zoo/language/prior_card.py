"""The card of a language prior: how good it is, measured, and how it was made; as JSON for programs and Markdown for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sppo_rl.zoo.language.prior import Measurement
from sppo_rl.zoo.results.tables import markdown_table
from sppo_rl.zoo.shipped.card import Card
from sppo_rl.zoo.shipped.prior_card import SuccessRate


@dataclass(frozen=True)
class LanguagePriorCard(Card):
    """
    What there is to know of a language prior.

    :param task: the problems in words
    :param command: makes the same files again
    :param date: ISO date on which it was made
    :param network: architecture in words
    :param parameters: number of weights
    :param demonstrations: in words
    :param imitation: in words
    :param target: success rate aimed at
    :param sampled: one sampled response to each held-out problem
    :param greedy: the most likely response to each
    :param seed: of problems and samples of both
    :param versions: packages that the weights depend on
    """

    measured_as: ClassVar[type] = Measurement

    task: str
    command: str
    date: str
    network: str
    parameters: int
    demonstrations: str
    imitation: str
    target: float
    sampled: Measurement
    greedy: Measurement
    seed: int
    versions: dict[str, str | None]

    def markdown(self) -> str:
        """Lay the card out for reading."""
        rows = [
            [
                *(name, str(SuccessRate(of.successes, of.responses, self.seed)), f"{of.chains / of.responses:.3f}"),
                *(f"{of.chain_successes / max(of.chains, 1):.3f}", f"{of.tokens / of.responses:.1f}", f"{of.responses:,}"),
            ]
            for name, of in (("sampled", self.sampled), ("greedy", self.greedy))
        ]
        headings = (
            "responses", "pass@1, 95 % Wilson interval", "chains", "right among chains", "tokens a response", "held-out problems"
        )  # fmt: skip
        table = markdown_table(headings, rows)
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return f"""\
# Language prior: {self.task}

{table}

- Network: {self.network}; {self.parameters:,} parameters
- Demonstrations: {self.demonstrations}
- Imitation: {self.imitation}
- pass@1 aimed at: {self.target:g}
- Seed of problems and samples above: {self.seed}
- Made on {self.date} with {versions} by

      {self.command}
"""
