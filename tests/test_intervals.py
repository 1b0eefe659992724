"""Intervals of proportions, against values worked out by hand; figures with intervals as JSON."""

from __future__ import annotations

import json
import math

import pytest

from sppo_rl import evaluation
from sppo_rl.intervals import Estimate, wilson_interval


def test_wilson_interval_is_the_worked_example():
    # 8 of 10, z = 1.95996: centre (.8 + .19207) / 1.38415 = .71674, half-width 1.95996 / 1.38415 * sqrt(.016 + .0096037) = .22657
    low, high = wilson_interval(8, 10)
    assert low == pytest.approx(0.49016, abs=2e-5)
    assert high == pytest.approx(0.94332, abs=2e-5)


def test_wilson_interval_holds_at_the_ends():
    # 0 of n: the upper end is z² / (n + z²)
    assert wilson_interval(0, 100) == (0.0, pytest.approx(3.84146 / 103.84146, abs=1e-6))
    assert wilson_interval(100, 100) == (pytest.approx(100 / 103.84146, abs=1e-6), 1.0)
    narrow, wide = wilson_interval(5, 10, confidence=0.5), wilson_interval(5, 10, confidence=0.99)
    assert wide[0] < narrow[0] < 0.5 < narrow[1] < wide[1]


@pytest.mark.parametrize(("successes", "n", "confidence"), [(1, 0, 0.9), (3, 2, 0.9), (-1, 2, 0.9), (1, 2, 1.0)])
def test_wilson_interval_refuses_what_is_no_proportion(successes, n, confidence):
    with pytest.raises(ValueError, match="got"):
        wilson_interval(successes, n, confidence)


def test_an_estimate_without_an_interval_is_valid_json():
    assert (
        json.dumps(Estimate(0.5, math.nan, math.nan).as_dict(), allow_nan=False) == '{"value": 0.5, "low": null, "high": null}'
    )


def test_they_are_where_they_were_before():
    assert (evaluation.Estimate, evaluation.wilson_interval) == (Estimate, wilson_interval)
