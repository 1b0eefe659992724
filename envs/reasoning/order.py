"""The order in which problems are posed: a seeded permutation for each pass over them, with a cursor."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np

_REMEMBERED = 1 << 16
"""Reset seeds whose problem is remembered; an update has fewer episodes."""


class ProblemOrder:
    """
    Deals problems, every one once in each pass.

    :param count: number of problems
    :param seed: of the permutations; pass ``k`` is shuffled by ``(seed, k)``
    :param shuffle: ``False`` keeps the given order (evaluation)
    """

    def __init__(self, count: int, seed: int = 0, shuffle: bool = True):
        self.count = count
        self.shuffle = shuffle
        self.restart(seed)

    def restart(self, seed: int) -> None:
        """
        Begin again from the first problem of the first pass.

        :param seed: of the permutations
        """
        self.seed = int(seed)
        self.drawn = 0
        self._by_seed: OrderedDict[int, int] = OrderedDict()
        self._pass = -1

    def next(self) -> int:
        """Deal the next problem: an index in [0, count)."""
        number, place = divmod(self.drawn, self.count)
        self.drawn += 1
        if number != self._pass:
            self._pass = number
            shuffled = np.random.default_rng((self.seed % (1 << 63), number)).permutation(self.count)
            self._permutation = shuffled if self.shuffle else np.arange(self.count)
        return int(self._permutation[place])

    def for_seed(self, seed: int) -> int:
        """
        Deal the problem of a reset seed: a seed seen before gets its problem again, a new one gets the next.

        So episodes of one group (equal seeds) share a prompt, a greedy roll-out beside a sampled one answers the same prompts, and yet
        a pass over the data poses every problem once.

        :param seed: as given to ``reset``
        """
        if seed in self._by_seed:
            self._by_seed.move_to_end(seed)
            return self._by_seed[seed]
        index = self._by_seed[seed] = self.next()
        if len(self._by_seed) > _REMEMBERED:
            self._by_seed.popitem(last=False)
        return index

    def get_state(self) -> dict[str, Any]:
        """Return what :meth:`set_state` needs to go on from here: plain numbers and lists."""
        return {
            "seed": self.seed,
            "drawn": self.drawn,
            "count": self.count,
            "by_seed": [list(pair) for pair in self._by_seed.items()],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """
        Go on from a state.

        :param state: result of :meth:`get_state`
        :raises ValueError: if it belongs to another number of problems
        """
        if state["count"] != self.count:
            raise ValueError(
                f"The state belongs to {state['count']} problems, here are {self.count}: use the same data set and limits."
            )
        self.restart(state["seed"])
        self.drawn = state["drawn"]
        self._by_seed = OrderedDict((int(seed), int(index)) for seed, index in state["by_seed"])
