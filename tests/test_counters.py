"""What evaluation callbacks count of a run: once, however many there are, and from where the run stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stable_baselines3 import PPO as SB3PPO

from sppo_rl import SPPO
from sppo_rl.callbacks import EvaluationCallback
from tests.helpers import MatchEnv, dummy


def sppo(**kwargs: Any) -> Any:
    return SPPO("MlpPolicy", dummy(MatchEnv, 2), n_episodes=8, n_epochs=1, seed=0, **kwargs)


def sb3_ppo() -> Any:
    return SB3PPO("MlpPolicy", dummy(MatchEnv, 2), n_steps=16, batch_size=32, n_epochs=1, seed=0)


def evaluation(every: int, path: Path | None = None, stop: int | None = None) -> EvaluationCallback:
    return EvaluationCallback(dummy(MatchEnv, 1), every, "episodes", 1, csv_path=path, stop_after_episodes=stop)


@pytest.mark.parametrize("make", [sppo, sb3_ppo])
def test_two_callbacks_count_an_episode_once(make: Any) -> None:
    alone, first, second = evaluation(1000), evaluation(1000), evaluation(1000)
    make().learn(200, callback=alone)
    model = make().learn(200, callback=[first, second])
    assert first.episodes == second.episodes == alone.episodes > 0
    if isinstance(model, SPPO):
        assert first.episodes == model.num_episodes


def test_two_callbacks_stop_where_one_would() -> None:
    callbacks = [evaluation(8, stop=16), evaluation(8)]
    model = sppo().learn(10**6, callback=callbacks)
    assert model._n_updates == 2
    for callback in callbacks:
        assert [row["episodes"] for row in callback.rows] == [0, 8, 16]


def test_the_time_of_one_callbacks_evaluation_is_not_training_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("sppo_rl.counters.time.perf_counter", lambda: clock[0])

    class Slow(EvaluationCallback):
        def _row(self, *evaluations: Any) -> dict[str, float]:
            clock[0] += 100.0
            return super()._row(*evaluations)

    callbacks = [Slow(dummy(MatchEnv, 1), 8, "episodes", 1), evaluation(8)]
    sppo().learn(100, callback=callbacks)
    assert callbacks[1].seconds == 0.0
    assert all(row["seconds"] == 0.0 for callback in callbacks for row in callback.rows)


def test_a_budget_counts_the_episodes_of_earlier_calls() -> None:
    """So the schedule, which follows the algorithm's own count, does not end before the training does."""
    model = sppo(learning_rate="lin_1e-3").learn(1)
    assert model.num_episodes == 8
    rates: list[float] = []

    class Rates(EvaluationCallback):
        def _on_rollout_end(self) -> None:
            rates.append(self.model.policy.optimizer.param_groups[0]["lr"])

    model.learn(10**6, callback=Rates(dummy(MatchEnv, 1), 8, "episodes", 1, stop_after_episodes=24), reset_num_timesteps=False)
    assert model._n_updates == 3
    assert model.policy.optimizer.param_groups[0]["lr"] == pytest.approx(0.0)
    assert rates[1] == pytest.approx(1e-3 * (1 - 16 / 24))


def test_counts_of_a_model_that_was_saved_earlier_are_gone_on_with(tmp_path: Path) -> None:
    model = sppo().learn(1)
    # as every version has written them
    model._run_counters = {"episodes": 40, "seconds": 5.0}
    model.save(tmp_path / "model.zip")
    again = SPPO.load(tmp_path / "model.zip", env=dummy(MatchEnv, 2))
    callback = evaluation(1000)
    again.learn(1, callback=callback, reset_num_timesteps=False)
    assert callback.episodes == 40 + again.n_episodes
    assert callback.seconds > 5.0
    assert again._run_counters == {"episodes": callback.episodes, "seconds": callback.seconds}
