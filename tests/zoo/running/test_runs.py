"""A run is checked before it begins, and leaves nothing behind but its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sppo_rl import SPPO
from sppo_rl.envs.control.batch import TaskBatch
from sppo_rl.zoo.names import UsageError
from sppo_rl.zoo.running.runs import LAST_MODEL, RunSpec, run


@pytest.mark.parametrize(("fails", "resume"), [(False, False), (True, False), (False, True)])
def test_a_run_closes_its_environments(fails: bool, resume: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    closed: set[int] = set()
    init, close = TaskBatch.__init__, TaskBatch.close

    def counted_init(self: TaskBatch, *args: Any, **kwargs: Any) -> None:
        made.append(id(self))
        init(self, *args, **kwargs)

    def counted_close(self: TaskBatch) -> None:
        closed.add(id(self))
        close(self)

    def no_update(self: SPPO, batch: Any) -> None:
        raise ValueError("train/loss is not finite")

    monkeypatch.setattr(TaskBatch, "__init__", counted_init)
    monkeypatch.setattr(TaskBatch, "close", counted_close)
    spec = RunSpec("sppo", "sppo_rl/Pendulum-v0", seed=0, episodes=16, eval_every=16, eval_episodes=4).check()
    if fails:
        monkeypatch.setattr(SPPO, "train", no_update)
        with pytest.raises(ValueError, match="not finite"):
            run(spec, tmp_path / "run")
        assert made[0] in closed, "that of training"
    else:
        run(spec, tmp_path / "run", resume=resume)
        assert (tmp_path / "run" / LAST_MODEL).exists()
        assert len(made) >= 2
        assert closed == set(made)


def test_a_run_checks_its_seed() -> None:
    seeds: tuple[Any, ...] = (-1, 2**32, "0")
    for seed in seeds:
        with pytest.raises(UsageError, match=rf"seed must be a whole number from 0 to 4294967295, got {seed!r}"):
            RunSpec("sppo", "CartPole-v1", seed=seed).check()
    RunSpec("sppo", "CartPole-v1", seed=2**32 - 1).check()
