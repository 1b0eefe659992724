"""``make -C benchmarks quick`` must notice a committed figure that the code does not give."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def scripts_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_what_counts_as_agreement() -> None:
    from agreement import fast, near, same

    assert near("", 0.5, 0.59, 0.03).agrees
    assert not near("", 0.5, 0.60, 0.03).agrees
    # errors of 3 and 4 are one of 5
    assert near("", 0.0, 14.9, 3.0, 4.0).agrees
    assert not near("", 0.0, 15.1, 3.0, 4.0).agrees
    assert fast("", 6.0, 3.0).agrees
    assert not fast("", 6.0, 2.9).agrees
    assert not same("", 1.0, 0.999).agrees
    assert not near("", 0.5, math.nan, 1.0).agrees


def test_one_more_run_lies_within_the_prediction_interval_of_the_others() -> None:
    from agreement import one_more_run

    # mean .5, deviation .1; t(4, .995) = 4.604, times sqrt(1 + 1/5) = 5.044 deviations; of a million outcomes none matters
    five = [0.5 - 0.1 * math.sqrt(2.0), 0.5, 0.5, 0.5, 0.5 + 0.1 * math.sqrt(2.0)]
    check = one_more_run("", five, 0.5, 1_000_000)
    assert check.committed == pytest.approx(0.5)
    # which leaves no share of successes out; half as far apart they do
    assert (check.low, check.high) == (0.0, 1.0)
    check = one_more_run("", [(0.5 + value) / 2.0 for value in five], 0.5, 1_000_000)
    assert (check.low, check.high) == pytest.approx((0.5 - 0.2522, 0.5 + 0.2522), abs=1e-4)
    # and a single run leaves three deviations of a hundred outcomes: 3 * sqrt(.25 / 100)
    assert one_more_run("", [0.5], 0.64, 100).agrees
    assert not one_more_run("", [0.5], 0.66, 100).agrees


def test_advantages_agree_with_the_committed_ones_and_not_with_others(tmp_path: Path) -> None:
    from quick_control import advantage_scaling

    committed = BENCHMARKS / "results" / "advantage_scaling.json"
    assert all(check.agrees for check in advantage_scaling(committed, tmp_path))
    other = json.loads(committed.read_text(encoding="utf-8"))
    for row in other["rows"]:
        row["grpo"]["sampled"][0] *= 1.1
    path = tmp_path / "other.json"
    path.write_text(json.dumps(other), encoding="utf-8")
    wrong = [check.what for check in advantage_scaling(path, tmp_path) if not check.agrees]
    assert wrong == ["grpo, right, p = 0.05", "grpo, right, p = 0.5"]


def test_a_disagreement_is_the_exit_code_and_an_absent_result_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import quick
    from agreement import same

    (tmp_path / "there.json").write_text("{}", encoding="utf-8")
    monkeypatch.setattr(quick, "HERE", tmp_path)

    def outcome(**cells: tuple[str, float]) -> int:
        made = {
            name: (place, lambda results, work, found=found: iter([same("a figure", 1.0, found)]))
            for name, (place, found) in cells.items()
        }
        monkeypatch.setattr(quick, "CELLS", made)
        monkeypatch.setattr(sys, "argv", ["quick.py", "--work", str(tmp_path / "work")])
        return quick.main()

    assert outcome(good=("there.json", 1.0), missing=("not_there.json", 2.0)) == 0
    assert "absent" in capsys.readouterr().out
    assert outcome(good=("there.json", 1.0), bad=("there.json", 2.0)) == 1
    assert "DISAGREES" in capsys.readouterr().out


def test_every_committed_result_has_a_cell() -> None:
    """But for pages made of others and for what needs a GPU."""
    from quick import CELLS

    covered = {Path(place).relative_to("results").parts[0] for place, _ in CELLS.values() if place.startswith("results/")}
    committed = {path.name for path in (BENCHMARKS / "results").iterdir() if path.suffix != ".png"}
    assert committed - covered == {"report", "gpu_smoke.json"}
