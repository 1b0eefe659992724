"""
avg@k, pass@k and maj@k, and intervals for them: pure functions of what k responses to each problem scored.

Notation: P problems, k responses to each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from sppo_rl.intervals import Estimate, wilson_interval

NO_ANSWER = -1
"""Class of a response that gives no answer: it has no vote."""

SameAnswer = Callable[[list[tuple[str, str]]], list[bool]]
"""Pairs of answers → whether each pair says the same."""


def pass_at_k(right: np.ndarray, samples: np.ndarray | int, k: int) -> np.ndarray:
    """
    Estimate without bias the chance that at least one of k responses is right, ``1 − C(n − c, k) / C(n, k)``.

    Example: of n = 4 responses c = 1 is right; two of them drawn without return miss it with chance 3/4 · 2/3 = 1/2, so pass@2 = 1/2.
    With n = k it is 1 where any response is right.

    Source: M. Chen et al., "Evaluating large language models trained on code", arXiv 2107.03374, equation 1.

    :param right: (P,) int, right responses c of each problem
    :param samples: (P,) int or one number, responses n of each problem
    :param k: responses one may give
    :return: (P,) float64
    :raises ValueError: unless 0 ≤ c ≤ n and 1 ≤ k ≤ n
    """
    right = np.asarray(right, dtype=np.int64)
    samples = np.broadcast_to(np.asarray(samples, dtype=np.int64), right.shape)
    if k < 1 or (samples < k).any():
        raise ValueError(f"pass@{k} needs at least {max(k, 1)} responses to each problem, got {samples.min(initial=0)}.")
    if ((right < 0) | (right > samples)).any():
        raise ValueError("There cannot be fewer than 0 or more than n right responses among n.")
    # C(n − c, k) / C(n, k) = Π_j (n − c − j) / (n − j), which is 0 once a factor is
    drawn = np.arange(k)
    wrong_left = np.clip((samples - right)[:, None] - drawn, 0, None)
    result: np.ndarray = 1.0 - np.prod(wrong_left / (samples[:, None] - drawn), axis=1)
    return result


def answer_classes(answers: Sequence[Sequence[str | None]], right: np.ndarray, same: SameAnswer) -> np.ndarray:
    """
    Sort the answers to each problem into classes of answers that say the same.

    All right answers to a problem are one class: they equal its gold answer. Wrong ones are compared with the first of each class so
    far, in the order of the responses; identical texts are compared once.

    Example: the answers ``"1/2"``, ``"7"``, ``None``, ``"0.5"``, ``"7"`` with gold ``"7"`` have the classes 0, 1, -1, 0, 1.

    :param answers: P × k extracted answers, ``None`` where there is none
    :param right: (P, k) bool
    :param same: see :data:`SameAnswer`; called with all comparisons of a round at once
    :return: (P, k) int64: the number of the first response of the class, or :data:`NO_ANSWER`
    """
    classes = np.full(right.shape, NO_ANSWER, dtype=np.int64)
    waiting: list[dict[str, list[int]]] = []
    for problem, given in enumerate(answers):
        texts: dict[str, list[int]] = {}
        for sample, answer in enumerate(given):
            if right[problem, sample]:
                classes[problem, sample] = int(np.argmax(right[problem]))
            elif answer is not None:
                texts.setdefault(answer.strip(), []).append(sample)
        waiting.append(texts)
    while any(waiting):
        leaders = [next(iter(texts), None) for texts in waiting]
        pairs = [
            (problem, text, leader)
            for problem, (texts, leader) in enumerate(zip(waiting, leaders, strict=True))
            if leader is not None
            for text in texts
            if text != leader
        ]
        equal = same([(text, leader) for _, text, leader in pairs])
        joins = [(problem, leader, leader) for problem, leader in enumerate(leaders) if leader is not None]
        joins += [pair for pair, is_equal in zip(pairs, equal, strict=True) if is_equal]
        number = [
            texts[leader][0] if leader is not None else NO_ANSWER for texts, leader in zip(waiting, leaders, strict=True)
        ]
        for problem, text, _ in joins:
            classes[problem, waiting[problem].pop(text)] = number[problem]
    return classes


def majority_right(classes: np.ndarray, right: np.ndarray) -> np.ndarray:
    """
    Tell for which problems the commonest answer is right (maj@k, self-consistency).

    Responses without an answer have no vote. Of classes with equally many votes the one that was given first wins. A problem to which
    nothing was answered is not solved.

    Example: the classes 0, 1, 0, 1 are a tie that class 0 wins, because it came first.

    Source: X. Wang et al., "Self-consistency improves chain of thought reasoning in language models", arXiv 2203.11171.

    :param classes: (P, k) int64, see :func:`answer_classes`
    :param right: (P, k) bool
    :return: (P,) bool
    """
    solved = np.zeros(len(classes), dtype=bool)
    for problem, row in enumerate(classes):
        candidates, votes = np.unique(row[row != NO_ANSWER], return_counts=True)
        if candidates.size:
            # a class is named after its first response, so among equals argmax takes the one that came first
            solved[problem] = right[problem, candidates[np.argmax(votes)]]
    return solved


def mean_over_problems(
    scores: Sequence[np.ndarray], confidence: float = 0.95, resamples: int = 5000, seed: int = 0
) -> Estimate:
    """
    Average over the problems of each data set, then over data sets, with a percentile bootstrap interval over problems.

    Problems are resampled within their data set (stratified). A problem is drawn together with its k responses, so the interval covers the
    choice of problems as well as the luck of sampling; it speaks of problems like these, not of these problems alone. Where all problems
    score 0, or all score 1, resampling shows no spread, and Wilson's interval for that many trials is given instead. Where no data set has
    two problems nothing shows how much problems differ, and the interval's ends are NaN.

    :param scores: for each data set (P,) float64 in [0, 1]
    :param confidence: coverage of the interval
    :param resamples: how often problems are drawn anew
    :param seed: of the resampling
    :return: the mean over data sets of their means, and its interval
    :raises ValueError: if there is no data set, or one without problems
    """
    if not scores or not all(len(part) for part in scores):
        raise ValueError("A mean over problems needs at least one data set, and a problem in each.")
    everything = np.concatenate(scores)
    value = float(np.mean([part.mean() for part in scores]))
    if everything.min() == everything.max() and everything[0] in (0.0, 1.0):
        return Estimate(value, *wilson_interval(int(everything.sum()), len(everything), confidence))
    if max(map(len, scores)) == 1:
        return Estimate(value, math.nan, math.nan)
    random = np.random.default_rng(seed)
    means = np.zeros(resamples)
    for part in scores:
        # problems that score the same are alike: draw how often each score occurs
        levels, counts = np.unique(part, return_counts=True)
        drawn = random.multinomial(len(part), counts / len(part), size=resamples)
        means += drawn @ levels / (len(part) * len(scores))
    low, high = np.quantile(means, [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0])
    return Estimate(value, float(low), float(high))
