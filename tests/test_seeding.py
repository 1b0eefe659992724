"""What a seed decides, and what decides without one."""

from __future__ import annotations

from typing import Any

import torch as th
from stable_baselines3.common.utils import set_random_seed
from torch.nn.utils import parameters_to_vector

from sppo_rl import SPPO
from sppo_rl.episodes import EpisodeBatch
from tests.helpers import MatchEnv, dummy, spy


def test_without_a_seed_sb3s_global_seeding_decides() -> None:
    def trained(seed: int) -> th.Tensor:
        set_random_seed(seed)
        model = SPPO("MlpPolicy", dummy(MatchEnv, 2), n_episodes=4)
        return parameters_to_vector(model.learn(12).policy.parameters())

    assert th.equal(trained(3), trained(3))
    assert not th.equal(trained(3), trained(4))


def test_models_loaded_without_a_seed_draw_anew(tmp_path: Any) -> None:
    SPPO("MlpPolicy", dummy(MatchEnv, 2), n_episodes=4).save(tmp_path / "model")
    one, other = (SPPO.load(tmp_path / "model", dummy(MatchEnv, 2)) for _ in range(2))
    assert one._rng.bit_generator.state != other._rng.bit_generator.state


def test_set_random_seed_decides_everything_that_follows() -> None:
    def first_batch(construction: int | None, seed: int) -> EpisodeBatch:
        model = SPPO("MlpPolicy", dummy(lambda: MatchEnv(steps=3), 2), n_episodes=4, seed=construction)
        with th.no_grad():
            for parameter in model.policy.parameters():
                parameter.zero_()
        batches = spy(model)
        model.set_random_seed(seed)
        model.learn(1)
        return batches[0]

    one, other, another = first_batch(None, 3), first_batch(8, 3), first_batch(8, 4)
    assert th.equal(one.observations, other.observations)
    assert th.equal(one.actions, other.actions)
    assert not th.equal(one.observations, another.observations)
