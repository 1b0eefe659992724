"""Trained agents that ship: one for each control task, with a card and the command that makes it again.

An agent is kept as a prior is (:mod:`sppo_rl.zoo.shipped.prior`): the actor's weights in a NumPy archive, without a critic.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sppo_rl.algorithm import SequenceAlgorithm
from sppo_rl.zoo.names import LABELS, file_name, suggestion
from sppo_rl.zoo.results.tables import markdown_table
from sppo_rl.zoo.shipped.card import Card
from sppo_rl.zoo.shipped.prior import load_prior
from sppo_rl.zoo.shipped.prior_card import SuccessRate

FOLDER = Path(__file__).resolve().parents[1] / "agents"
"""Where the shipped agents are."""


def load_agent(env_id: str, path: str | Path | None = None, **kwargs: Any) -> SequenceAlgorithm:
    """
    Load the trained agent of a task, ready for ``predict()``, or for more ``learn()`` with a fresh critic.

    Example::

        model = load_agent("sppo_rl/Pendulum-v0")
        actions, _ = model.predict(observations, deterministic=True)

    :param env_id: id of a task that has a trained agent
    :param path: of an agent that ``sppo-rl train-agent`` has made (``.npz``); ``None`` for the shipped one
    :param kwargs: for the algorithm's constructor; the network is that of the card, unless they say otherwise
    :raises FileNotFoundError: if there is none for this id; says for which there is one
    :raises ValueError: if they ask for another network than the agent's
    """
    path = FOLDER / f"{file_name(env_id)}.npz" if path is None else Path(path)
    if not path.is_file():
        if path.parent != FOLDER:
            raise FileNotFoundError(f"There is no file {path}.")
        known = list_agents()
        raise FileNotFoundError(
            f"There is no trained agent for {env_id!r}.{suggestion(env_id, known)} Agents ship for: {', '.join(known) or 'none'}."
        )
    return load_prior(env_id, algo=AgentCard.read(path).algo, path=path, **kwargs)


def list_agents() -> list[str]:
    """List the ids for which a trained agent ships."""
    return sorted(path.stem.replace("-", "/", 1) for path in FOLDER.glob("*.npz"))


@dataclass(frozen=True)
class AgentCard(Card):
    """
    What there is to know of a trained agent.

    :param env_id: the task
    :param command: makes the same file again
    :param date: ISO date on which it was made
    :param algo: name of the algorithm on the command line
    :param hyperparameters: that are not the constructor's defaults
    :param from_prior: whether training started from the shipped prior
    :param episodes: of training
    :param timesteps: of training
    :param seconds: of training, one thread
    :param sampled: success rate, actions sampled
    :param greedy: success rate, most likely actions
    :param versions: packages that the file's bytes depend on
    """

    measured_as: ClassVar[type] = SuccessRate

    env_id: str
    command: str
    date: str
    algo: str
    hyperparameters: dict[str, Any]
    from_prior: bool
    episodes: int
    timesteps: int
    seconds: float
    sampled: SuccessRate
    greedy: SuccessRate
    versions: dict[str, str | None]

    def markdown(self) -> str:
        """Lay the card out for reading."""
        rows = (("sampled", self.sampled), ("greedy", self.greedy))
        cells = [(name, str(rate), f"{rate.episodes:,}", str(rate.seed)) for name, rate in rows]
        table = markdown_table(("actions", "success, 95 % Wilson interval", "episodes", "seed"), cells)
        settings = ", ".join(f"{name} {value}" for name, value in self.hyperparameters.items())
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return f"""\
# {LABELS[self.algo]} on {self.env_id}

{table}

- Started from {"the shipped prior" if self.from_prior else "random weights"}
- Trained on {self.episodes:,} episodes, {self.timesteps:,} steps, in {self.seconds:.0f} s of one thread; the last policy, not the best of
  the evaluations
- Hyperparameters: {settings}
- Made on {self.date} with {versions} by

      {self.command}
"""
