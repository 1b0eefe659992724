"""The gradient of the clipped surrogate for a plain MLP, written out by hand.

For a 64 x 64 network autograd spends about as much time on its graph, temporary tensors and small kernels as on arithmetic. Here the
chain rule is spelled out over preallocated buffers small enough to stay in cache. :class:`~sppo_rl.updates.ActorStep` uses it where the
policy allows; a test holds it to autograd.
"""

from __future__ import annotations

import math

import torch as th

from sppo_rl.plain import PlainActor

CHUNK = 2048
"""Rows at a time: two activations of 64 float32 numbers for each row are 1 MiB."""


class FusedSurrogate:
    """
    Loss, gradient and statistics of the clipped surrogate with an entropy bonus; the arithmetic of
    :func:`~sppo_rl.losses.clipped_surrogate`.

    :param plain: the actor's parts; gradients are added to their ``grad``
    """

    def __init__(self, plain: PlainActor):
        self.plain = plain
        widths = [linear.out_features for linear in plain.linears[:-1]]
        self._hidden = [th.empty(CHUNK, width) for width in widths]
        self._minus_one = th.tensor(-1.0)
        self._back = [th.empty(CHUNK, width) for width in widths]

    def outputs(self, observations: th.Tensor) -> th.Tensor:
        """
        Run the network, keeping the hidden activations of this chunk.

        :param observations: (n, obs) float32, n ≤ CHUNK
        :return: (n, act) logits or means
        """
        x = observations
        for linear, relu, buffer in zip(self.plain.linears, self.plain.relu, self._hidden, strict=False):
            out = buffer[: len(x)]
            if relu:
                x = th.addmm(linear.bias, x, linear.weight.t(), out=out).relu_()
            else:
                # tanh(u) = 2 sigmoid(2u) - 1, at 40 % of the cost of PyTorch's tanh, which is a third of the whole
                th.addmm(linear.bias, x, linear.weight.t(), beta=2.0, alpha=2.0, out=out)
                x = th.add(self._minus_one, out.sigmoid_(), alpha=2.0, out=out)
        last = self.plain.linears[-1]
        return th.addmm(last.bias, x, last.weight.t())

    @th.no_grad()
    def accumulate(
        self,
        observations: th.Tensor,
        actions: th.Tensor,
        old_log_prob: th.Tensor,
        advantages: th.Tensor,
        weights: th.Tensor,
        clip_range: float,
        ent_coef: float,
    ) -> th.Tensor:
        """
        Add the gradient of ``(weights * (surrogate - ent_coef * entropy)).sum()`` for one chunk.

        :param observations: (n, obs) float32, n ≤ CHUNK
        :param actions: (n,) int64 or (n, act) float32
        :param old_log_prob: (n,) nats
        :param advantages: (n,)
        :param weights: (n,)
        :param clip_range: ε
        :param ent_coef: weight of the entropy bonus
        :return: (4,) sums: weighted surrogate, entropy, approximate KL divergence, decisions outside the clip range
        """
        outputs = self.outputs(observations)
        log_std = self.plain.log_std
        if log_std is None:
            chosen = actions.view(-1, 1)
            log_probs = th.log_softmax(outputs, dim=1)
            log_prob = log_probs.gather(1, chosen).squeeze(1)
            probs = log_probs.exp()
            entropy = (probs * log_probs).sum(dim=1).neg_()
        else:
            inverse_std = th.exp(-log_std)
            z = (actions - outputs).mul_(inverse_std)
            half_log_two_pi = 0.5 * math.log(2.0 * math.pi) * log_std.numel()
            log_prob = (z * z).sum(dim=1).mul_(-0.5).sub_(log_std.sum() + half_log_two_pi)
            entropy = (log_std.sum() + half_log_two_pi + 0.5 * log_std.numel()).expand(len(outputs))
        log_ratio = log_prob - old_log_prob
        ratio = log_ratio.exp()
        surrogate = ratio * advantages
        bounded = ratio.clamp(1.0 - clip_range, 1.0 + clip_range).mul_(advantages)
        # d loss / d log_prob: -r A where the unclipped term is the smaller one, else 0
        pull = th.where(surrogate <= bounded, surrogate, 0.0).mul_(weights).neg_()
        if log_std is None:
            back = probs * -pull.unsqueeze(1)
            back.scatter_add_(1, chosen, pull.unsqueeze(1))
            if ent_coef:
                back += (ent_coef * weights).unsqueeze(1) * probs * (log_probs + entropy.unsqueeze(1))
        else:
            back = z * pull.unsqueeze(1)
            gradient = (back * z).sum(dim=0) - pull.sum() - ent_coef * weights.sum()
            _add_gradient(log_std, gradient)
            back *= inverse_std
        self._backward(observations, back)
        kl = th.expm1(log_ratio).sub_(log_ratio).sum()
        outside = (ratio - 1.0).abs_().gt(clip_range).sum()
        return th.stack([-(weights * th.minimum(surrogate, bounded)).sum(), entropy.sum(), kl, outside.float()])

    def _backward(self, observations: th.Tensor, back: th.Tensor) -> None:
        n = len(observations)
        for level in range(len(self.plain.linears) - 1, -1, -1):
            linear = self.plain.linears[level]
            below = self._hidden[level - 1][:n] if level else observations
            _add_product(linear.weight, back, below)
            _add_gradient(linear.bias, back.sum(dim=0))
            if level:
                next_back = th.mm(back, linear.weight, out=self._back[level - 1][:n])
                if self.plain.relu[level - 1]:
                    next_back.mul_(below > 0.0)
                else:
                    # tanh' = 1 - tanh²; the activation is not needed again
                    next_back.addcmul_(next_back, below.mul_(below), value=-1.0)
                back = next_back


def _add_gradient(parameter: th.Tensor, gradient: th.Tensor) -> None:
    if parameter.grad is None:
        parameter.grad = gradient.clone()
    else:
        parameter.grad += gradient


def _add_product(weight: th.Tensor, back: th.Tensor, below: th.Tensor) -> None:
    if weight.grad is None:
        weight.grad = back.t() @ below
    else:
        weight.grad.addmm_(back.t(), below)
