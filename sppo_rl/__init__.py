"""
Sequence-level PPO: an episode, or a whole chain of thought, is one action with one verified outcome.

What is in which module; each begins with what it is for:

- the algorithms: ``sppo``, ``baselines``; what they share: ``algorithm`` (advantages and training) on ``episodic`` (``learn()`` and
  collection), ``parameters``, ``schedules``, ``notices``
- the mathematics, as pure functions: ``advantages``, ``losses``; what each algorithm asks of the engine: ``estimators``
- environments and episodes: ``vec_env``, ``collection``, ``episodes``, ``batches``
- policies: the contract ``sequence_policy``, those for control ``policies``, the critic's units ``value_scale``, the weights that training
  began with ``reference``
- gradient steps: ``updates``; what makes small networks fast: ``plain``, ``fused``, ``numpy_actor``, ``cores``
- around a run: ``callbacks`` and what they count (``counters``), ``evaluation``, figures with ``intervals``, ``checkpoint``, files that
  are whole (``atomic``)

``sppo_rl.llm`` has what is for language models, ``sppo_rl.envs`` the tasks, ``sppo_rl.zoo`` the command line.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

# With the repository's root as the working folder, an installed wheel is shadowed by ./sppo_rl, which has no envs/ and zoo/
# inside: they stand beside it. Let the package find them there.
_beside = Path(__file__).resolve().parent.parent
if (_beside / "envs").is_dir() and (_beside / "pyproject.toml").is_file():
    __path__.append(str(_beside))

from sppo_rl.baselines import GRPO, PPO, RLOO, ReMax  # noqa: E402
from sppo_rl.envs.registration import register_envs  # noqa: E402
from sppo_rl.sppo import SPPO  # noqa: E402

__version__ = "0.1.0"
__all__ = ["GRPO", "PPO", "RLOO", "SPPO", "ReMax", "__version__"]

register_envs()


def __getattr__(name: str) -> ModuleType:
    """Import ``sppo_rl.envs``, ``sppo_rl.zoo`` and what else is not needed at once when it is first named."""
    if name in ("checkpoint", "envs", "llm", "zoo"):
        return importlib.import_module(f"sppo_rl.{name}")
    raise AttributeError(f"module 'sppo_rl' has no attribute {name!r}")
