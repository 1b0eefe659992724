"""Networks of a user's own behind SB3's interface: which of their weights are whose, and that they are really called."""

from __future__ import annotations

import copy
from typing import Any

import torch as th
from stable_baselines3 import PPO as Sb3PPO
from stable_baselines3.common.policies import ActorCriticPolicy

from sppo_rl import SPPO
from tests.helpers import MatchEnv, dummy


class Branches(th.nn.Module):
    """What SB3 asks of a ``mlp_extractor``, under other names than its own; a trunk that both read, and dropout."""

    latent_dim_pi, latent_dim_vf = 4, 5

    def __init__(self, features_dim: int):
        super().__init__()
        self.trunk = th.nn.Sequential(th.nn.Linear(features_dim, 6), th.nn.Dropout())
        self.towards_actions, self.judge = th.nn.Linear(6, 4), th.nn.Linear(6, 5)

    def forward(self, features: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: th.Tensor) -> th.Tensor:
        return self.towards_actions(self.trunk(features))

    def forward_critic(self, features: th.Tensor) -> th.Tensor:
        return self.judge(self.trunk(features))


class BranchesPolicy(ActorCriticPolicy):
    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor: Any = Branches(self.features_dim)


def test_the_critic_of_a_users_extractor_is_trained_whatever_its_name() -> None:
    model: Any = SPPO(BranchesPolicy, dummy(MatchEnv, 2), n_episodes=4, seed=0)
    extractor = model.policy.mlp_extractor
    actors, critics = (
        {id(p) for p in parameters} for parameters in (model.policy.actor_parameters(), model.policy.critic_parameters())
    )
    assert {id(p) for p in extractor.judge.parameters()} <= critics
    # what both read is the actor's, as with a shared features extractor
    assert {id(p) for p in (*extractor.trunk.parameters(), *extractor.towards_actions.parameters())} <= actors
    assert not actors & critics
    before = [copy.deepcopy(branch.weight) for branch in (extractor.judge, extractor.towards_actions)]
    model.learn(8)
    assert not th.equal(extractor.judge.weight, before[0])
    assert not th.equal(extractor.towards_actions.weight, before[1])


def test_building_with_a_users_extractor_draws_no_random_numbers_of_its_own() -> None:
    """Looking which weights the critic uses must not shift what a seed means."""
    env = dummy(MatchEnv, 2)
    ours, theirs = SPPO(BranchesPolicy, env, seed=3).policy, Sb3PPO(BranchesPolicy, env, seed=3, device="cpu").policy
    th.testing.assert_close(ours.mlp_extractor.state_dict(), theirs.mlp_extractor.state_dict())
    th.testing.assert_close(ours.action_net.state_dict(), theirs.action_net.state_dict())


def test_a_layer_with_a_hook_is_called() -> None:
    """Spectral normalisation divides by the weights' norm when the layer is called; reading the weights would leave that out."""
    policy: Any = SPPO("MlpPolicy", dummy(MatchEnv, 2), seed=0).policy
    assert policy.plain_actor() is not None
    th.nn.utils.spectral_norm(policy.mlp_extractor.policy_net[0])
    assert policy.plain_actor() is None
    assert policy.plain_critic() is not None
