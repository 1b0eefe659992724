"""The gradients of actor and critic for a plain MLP, written out by hand.

For a 64 x 64 network autograd spends more time on its graph, temporary tensors and small kernels than on arithmetic. Here the chain
rule is spelled out over preallocated buffers small enough to stay in cache. :mod:`sppo_rl.updates` uses it where the policy allows;
tests hold it to autograd.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch as th
from torch import nn

from sppo_rl.losses import binary_cross_entropy, squared_error
from sppo_rl.plain import PlainActor, PlainNetwork

CHUNK = 4096
"""Rows at a time: the activations of a layer of 64 take 1 MiB."""


class FlatGradient:
    """
    One buffer for the gradients of all parameters: one operation zeroes, measures or scales them.

    :param parameters: float32, on the CPU
    """

    def __init__(self, parameters: list[nn.Parameter]):
        self._flat = th.zeros(sum(parameter.numel() for parameter in parameters))
        parts = self._flat.split([parameter.numel() for parameter in parameters])
        self._views = [(parameter, part.view_as(parameter)) for parameter, part in zip(parameters, parts, strict=True)]

    def zero(self) -> None:
        """Set all gradients to 0."""
        self._flat.zero_()
        for parameter, view in self._views:
            parameter.grad = view

    def clip(self, max_norm: float) -> th.Tensor:
        """
        Scale the gradients as ``torch.nn.utils.clip_grad_norm_`` does.

        :param max_norm: largest norm
        :return: scalar, the norm before
        """
        norm = th.linalg.vector_norm(self._flat)
        self._flat.mul_((max_norm / (norm + 1e-6)).clamp_(max=1.0))
        return norm


class FusedNetwork:
    """
    A plain network's forward and backward pass.

    A tanh layer keeps ``s = sigmoid(2u)`` instead of ``tanh(u) = 2s - 1``: PyTorch's sigmoid costs a sixth of its tanh, and
    the layer above takes the factor and the shift into its own product: ``W (2s - 1) + b = 2 W s + (b - W 1)``.

    :param network: gradients are added to its parameters' ``grad``
    """

    def __init__(self, network: PlainNetwork):
        self._linears, self._relu = network
        self.parameters: list[nn.Parameter] = [parameter for linear in self._linears for parameter in linear.parameters()]
        widths = [linear.out_features for linear in self._linears[:-1]]
        self._hidden = [th.empty(CHUNK, width) for width in widths]
        self._back = [th.empty(CHUNK, width) for width in widths]
        self._nothing = [th.zeros(width) for width in widths]

    def outputs(self, inputs: th.Tensor) -> th.Tensor:
        """
        Run the network, keeping the hidden activations for :meth:`backward`.

        :param inputs: (n, in) float32, n ≤ CHUNK
        :return: (out, n): sums over a few outputs are quickest when these are rows
        """
        x = inputs
        for level, (linear, buffer) in enumerate(zip(self._linears, self._hidden, strict=False)):
            bias, scale = self._reading(level)
            out = buffer[: len(x)]
            if self._relu[level]:
                x = th.addmm(bias, x, linear.weight.t(), alpha=scale, out=out).relu_()
            else:
                x = th.addmm(2.0 * bias, x, linear.weight.t(), alpha=2.0 * scale, out=out).sigmoid_()
        bias, scale = self._reading(len(self._linears) - 1)
        return th.addmm(bias.unsqueeze(1), self._linears[-1].weight, x.t(), alpha=scale)

    def _reads_tanh(self, level: int) -> bool:
        return level > 0 and not self._relu[level - 1]

    def _reading(self, level: int) -> tuple[th.Tensor, float]:
        """Bias and scale with which a layer reads what the one below keeps."""
        linear = self._linears[level]
        if self._reads_tanh(level):
            return linear.bias - linear.weight.sum(dim=1), 2.0
        return linear.bias, 1.0

    def backward(self, inputs: th.Tensor, back: th.Tensor) -> None:
        """
        Add the gradient; uses up the activations that :meth:`outputs` kept.

        :param inputs: (n, in), those of the last call of :meth:`outputs`
        :param back: (out, n) derivative of the loss by the outputs
        """
        n = len(inputs)
        for level in range(len(self._linears) - 1, -1, -1):
            linear = self._linears[level]
            below = self._hidden[level - 1][:n] if level else inputs
            sums = back.sum(dim=1)
            _add_gradient(linear.bias, sums)
            if self._reads_tanh(level):
                _add_gradient(linear.weight, th.mm(back, below).mul_(2.0).sub_(sums.unsqueeze(1)))
            else:
                # this way round a product with a few inputs takes a seventh of the time
                _add_gradient(linear.weight, th.mm(below.t(), back.t()).t())
            if level:
                out, nothing = self._back[level - 1][:n], self._nothing[level - 1]
                if self._relu[level - 1]:
                    th.addmm(nothing, back.t(), linear.weight, beta=0.0, out=out)
                    th.ops.aten.threshold_backward.grad_input(out, below, 0.0, grad_input=out)
                else:
                    # tanh' = 1 - (2s - 1)² = 4 s (1 - s)
                    th.addmm(nothing, back.t(), linear.weight, beta=0.0, alpha=4.0, out=out)
                    th.ops.aten.sigmoid_backward.grad_input(out, below, grad_input=out)
                back = out.t()


def _add_gradient(parameter: th.Tensor, gradient: th.Tensor) -> None:
    assert parameter.grad is not None, "FlatGradient.zero() comes first"
    parameter.grad += gradient


class FusedSurrogate:
    """
    Loss, gradient and statistics of the clipped surrogate with an entropy bonus; the arithmetic of
    :func:`~sppo_rl.losses.clipped_surrogate`.

    :param actor: the actor's parts; gradients are added to their ``grad``
    """

    def __init__(self, actor: PlainActor):
        self.log_std = actor.log_std
        self.network = FusedNetwork(actor.network)
        self.gradient = FlatGradient(self.network.parameters + ([] if actor.log_std is None else [actor.log_std]))

    @th.no_grad()
    def log_prob(self, observations: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """
        Evaluate actions.

        :param observations: (n, obs) float32, any n
        :param actions: (n,) int64 or (n, act) float32
        :return: (n,) nats
        """
        return th.cat(
            [
                self._distribution(self.network.outputs(seen), taken)[0]
                for seen, taken in zip(observations.split(CHUNK), actions.split(CHUNK), strict=True)
            ]
        )

    def _distribution(self, outputs: th.Tensor, actions: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """(n,) log-probabilities of the actions; and (act, n) all log-probabilities, or the standardised actions of a Gaussian."""
        if self.log_std is None:
            log_probs = th.log_softmax(outputs, dim=0)
            return log_probs.gather(0, actions.view(1, -1)).squeeze(0), log_probs
        z = (actions.t() - outputs).mul_(th.exp(-self.log_std).unsqueeze(1))
        return (z * z).sum(dim=0).mul_(-0.5).sub_(self.log_std.sum() + _half_log_two_pi(self.log_std)), z

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
        log_std = self.log_std
        log_prob, parts = self._distribution(self.network.outputs(observations), actions)
        log_ratio = log_prob - old_log_prob
        ratio = log_ratio.exp()
        surrogate = ratio * advantages
        bounded = ratio.clamp(1.0 - clip_range, 1.0 + clip_range).mul_(advantages)
        # d loss / d log_prob: -r A where the unclipped term is the smaller one, else 0
        pull = th.where(surrogate <= bounded, surrogate, 0.0).mul_(weights).neg_()
        if log_std is None:
            probs = parts.exp()
            entropy = (probs * parts).sum(dim=0).neg_()
            back = probs * -pull
            back.scatter_add_(0, actions.view(1, -1), pull.unsqueeze(0))
            if ent_coef:
                back += (ent_coef * weights) * probs * (parts + entropy)
        else:
            entropy = (log_std.sum() + _half_log_two_pi(log_std) + 0.5 * log_std.numel()).expand(len(observations))
            back = parts * pull
            _add_gradient(log_std, (back * parts).sum(dim=1) - pull.sum() - ent_coef * weights.sum())
            back *= th.exp(-log_std).unsqueeze(1)
        self.network.backward(observations, back)
        kl = th.expm1(log_ratio).sub_(log_ratio).sum()
        outside = (ratio - 1.0).abs_().gt(clip_range).sum()
        return th.stack([-th.dot(weights, th.minimum(surrogate, bounded)), entropy.sum(), kl, outside.float()])


def _half_log_two_pi(log_std: th.Tensor) -> float:
    return 0.5 * math.log(2.0 * math.pi) * log_std.numel()


class FusedCritic:
    """
    Outputs, loss and gradient of a plain critic.

    :param network: its layers; gradients are added to their parameters' ``grad``
    """

    def __init__(self, network: PlainNetwork):
        self.network = FusedNetwork(network)
        self.gradient = FlatGradient(self.network.parameters)

    @th.no_grad()
    def outputs(self, observations: th.Tensor) -> th.Tensor:
        """
        Run the critic.

        :param observations: (n, obs) float32, any n
        :return: (n,), before scaling
        """
        return th.cat([self.network.outputs(part).squeeze(0) for part in observations.split(CHUNK)])

    @th.no_grad()
    def accumulate(
        self,
        observations: th.Tensor,
        targets: th.Tensor,
        count: int,
        old_outputs: th.Tensor | None = None,
        clip_range: float | None = None,
        bce: bool = True,
    ) -> th.Tensor:
        """
        Add the gradient of the summed loss over ``count`` for one chunk.

        :param observations: (n, obs) float32, n ≤ CHUNK
        :param targets: (n,): probabilities, or normalised returns
        :param count: what the sum is divided by
        :param old_outputs: (n,), see :func:`~sppo_rl.losses.squared_error`
        :param clip_range: see :func:`~sppo_rl.losses.squared_error`
        :param bce: binary cross-entropy instead of the squared error
        :return: scalar, the chunk's part of the loss
        """
        outputs = self.network.outputs(observations).squeeze(0)
        if bce:
            errors = binary_cross_entropy(outputs, targets)
            back = th.sigmoid(outputs).sub_(targets).div_(count)
        else:
            errors = squared_error(outputs, targets, old_outputs, clip_range)
            difference = outputs - targets
            # where the clipped error is the larger one, it is constant
            back = difference.mul(difference * difference >= errors).mul_(2.0 / count)
        self.network.backward(observations, back.unsqueeze(0))
        return errors.sum().div_(count)


def pieces(rows: th.Tensor | None, count: int) -> Iterator[th.Tensor | slice]:
    """
    Split rows into chunks.

    :param rows: (n,) int64, or ``None`` for all, which need no gathering
    :param count: number of all rows
    """
    if rows is None:
        yield from (slice(first, first + CHUNK) for first in range(0, count, CHUNK))
    else:
        yield from rows.split(CHUNK)
