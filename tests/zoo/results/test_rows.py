"""Tables and plots of a comparison, on a file small enough to work out by hand."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from sppo_rl.zoo.cli import main
from sppo_rl.zoo.names import UsageError
from sppo_rl.zoo.results import control_table
from sppo_rl.zoo.results.plots import plot_comparison
from sppo_rl.zoo.results.rows import (
    COLUMNS,
    area_under_curve,
    bootstrap_interval,
    curves,
    read_failures,
    read_references,
    read_results,
    runs_of,
    summarize,
    summary_csv,
    to_csv,
)

# two seeds of one algorithm, one of another whose run is longer
HANDMADE = """env,algo,seed,episodes,timesteps,seconds,success,greedy_success
E,sppo,0,0,0,0.0,0.0,0.0
E,sppo,0,100,1000,2.0,0.5,1.0
E,sppo,0,200,2000,4.0,0.9,1.0
E,sppo,1,0,0,0.0,0.2,0.0
E,sppo,1,100,900,3.0,0.4,0.5
E,sppo,1,200,1800,6.0,0.7,0.5
E,sb3-ppo,0,0,0,0.0,0.1,0.0
E,sb3-ppo,0,400,4000,40.0,0.5,
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "results.csv").write_text(HANDMADE)
    (tmp_path / "references.csv").write_text(
        "env,policy,success,greedy_success,episodes\nE,prior,0.15,0.4,500\nE,untrained,0.0,0.1,500\n"
    )
    return tmp_path


def test_a_file_is_read_as_it_was_written(folder):
    rows = read_results(folder)
    assert len(rows) == 8
    assert rows[1] == {
        "env": "E", "algo": "sppo", "seed": 0, "episodes": 100, "timesteps": 1000, "seconds": 2.0, "success": 0.5, "greedy_success": 1.0,
    }  # fmt: skip
    assert np.isnan(rows[-1]["greedy_success"])
    again = folder / "again.csv"
    again.write_text(to_csv(COLUMNS, rows))
    assert [str(row) for row in read_results(again)] == [str(row) for row in rows]


def test_summary_has_the_hand_computed_means(folder):
    sppo, other = summarize(read_results(folder))
    assert (sppo.env, sppo.algo, sppo.seeds, sppo.failed) == ("E", "sppo", 2, 0)
    assert sppo.success == pytest.approx((0.9 + 0.7) / 2)
    assert sppo.success_std == pytest.approx(np.sqrt(2) * 0.1)
    assert sppo.greedy_success == pytest.approx(0.75)
    # trapezoids over 200 episodes, the shortest run: (0 + .5)/2 = .25 and (.5 + .9)/2 = .7 make .475; .3 and .55 make .425
    assert sppo.area == pytest.approx((0.475 + 0.425) / 2, abs=1e-4)
    assert (sppo.episodes, sppo.timesteps, sppo.seconds) == (200, 1900, 5.0)
    # means of two runs drawn with replacement are .7, .8 or .9; each end has probability 1/4
    assert (sppo.success_low, sppo.success_high) == pytest.approx((0.7, 0.9))
    # half of the other's run counts: from .1 to .3
    assert other.area == pytest.approx(0.2, abs=1e-4)
    assert np.isnan(other.success_std)
    assert np.isnan(other.success_low)


def test_bootstrap_interval_agrees_with_the_normal_one_for_many_runs():
    values = np.random.default_rng(0).normal(0.5, 0.1, size=(100, 2))
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std(axis=0, ddof=1) / 10
    np.testing.assert_allclose((high - low) / 2, half, rtol=0.05)
    np.testing.assert_allclose((high + low) / 2, values.mean(axis=0), atol=0.002)
    assert np.isnan(bootstrap_interval(values[:1])[0]).all()


def test_curves_end_with_the_shortest_run_and_are_interpolated(folder):
    seeds = runs_of(read_results(folder))["E", "sppo"]
    grid, values = curves(seeds, "seconds", points=5)
    np.testing.assert_allclose(grid, [0, 1, 2, 3, 4])
    np.testing.assert_allclose(values[0], [0, 0.25, 0.5, 0.7, 0.9])
    np.testing.assert_allclose(values[1], [0.2, 0.2 + 0.2 / 3, 0.2 + 0.4 / 3, 0.4, 0.5])


def test_area_of_an_evaluation_at_the_start_alone_is_its_rate():
    assert area_under_curve([{"episodes": 0, "success": 0.3}], 0) == 0.3


def test_table_has_the_numbers(folder):
    table = control_table.markdown(
        summarize(read_results(folder), {("E", "sppo"): 1, ("E", "grpo"): 2}), read_references(folder)
    )
    assert "| SPPO | 2 (1 failed) | 0.800 ± 0.141 [0.700, 0.900] | 0.750 | 0.450 [0.425, 0.475] | 200 | 1,900 | 5.0 |" in table
    assert "| PPO (SB3) | 1 | 0.500 | – | 0.200 | 400 | 4,000 | 40.0 |" in table
    assert "| GRPO | 0 (2 failed) | – |" in table
    assert "prior: 0.150 sampled, 0.400 greedy (500 episodes); untrained: 0.000 sampled, 0.100 greedy" in table


def test_summary_csv_can_be_read_back(folder):
    rows = list(csv.DictReader(io.StringIO(summary_csv(summarize(read_results(folder))))))
    assert [row["algo"] for row in rows] == ["sppo", "sb3-ppo"]
    assert float(rows[0]["success"]) == pytest.approx(0.8)
    assert rows[1]["success_low"] == ""


@pytest.mark.parametrize("x", ["episodes", "timesteps", "seconds"])
def test_plot_shows_means_bands_and_references(folder, x, monkeypatch):
    from matplotlib.figure import Figure

    figures = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, path: (figures.append(self), save(self, path)))
    plot_comparison(read_results(folder), folder / "plot.png", x, read_references(folder))
    assert (folder / "plot.png").read_bytes().startswith(b"\x89PNG")
    (axes,) = figures[0].axes
    lines = {line.get_label(): line for line in axes.lines}
    assert set(lines) == {"SPPO (2 seeds)", "PPO (SB3) (1 seed)", "prior 0.15", "untrained 0.00"}
    curve = lines["SPPO (2 seeds)"]
    ends = {"episodes": (200, 0.8), "timesteps": (1800, (0.82 + 0.7) / 2), "seconds": (4, (0.9 + 0.5) / 2)}
    assert (curve.get_xdata()[-1], curve.get_ydata()[-1]) == pytest.approx(ends[x])
    assert list(lines["prior 0.15"].get_ydata()) == [0.15, 0.15]
    # one band: the other algorithm has a single seed
    assert len(axes.collections) == 1


def test_one_panel_for_each_environment(folder, monkeypatch):
    from matplotlib.figure import Figure

    rows = read_results(folder)
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path: figures.append(self))
    plot_comparison([{**row, "env": env} for env in "ABCD" for row in rows], folder / "plot.png")
    assert [axes.get_title() for axes in figures[0].axes if axes.get_visible()] == list("ABCD")


def test_what_cannot_be_read_or_drawn_is_said(folder):
    with pytest.raises(UsageError, match="no results at"):
        read_results(folder / "nothing")
    (folder / "wrong.csv").write_text("env,algo\n")
    with pytest.raises(UsageError, match="lacks the columns seed, episodes"):
        read_results(folder / "wrong.csv")
    with pytest.raises(UsageError, match="not 'hours'"):
        plot_comparison(read_results(folder), folder / "p.png", "hours")
    with pytest.raises(UsageError, match="no finished runs"):
        plot_comparison([], folder / "p.png")


def test_further_numbers_are_kept_and_further_words_are_not(tmp_path):
    rows = "".join(f"S,sppo,0,{n},{n},1.0,{n / 100},0.5,{n * 40},{n},greedy\n" for n in (0, 64))
    (tmp_path / "results.csv").write_text(",".join(COLUMNS) + ",tokens,prompts,note\n" + rows)
    last = read_results(tmp_path)[-1]
    assert (last["tokens"], last["prompts"]) == (2560.0, 64.0)
    assert "note" not in last
    for x in ("tokens", "prompts"):
        assert main(["plot", str(tmp_path), "--x", x]) == 0
        assert (tmp_path / f"plot_{x}.png").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # within a line: too few cells
        (HANDMADE[: HANDMADE.index("0.4,0.5")], r"results\.csv, line 6: 7 cells under 8 columns"),
        # before the last cell, which may be empty
        (HANDMADE.rstrip(",\n"), r"results\.csv, line 9: 7 cells under 8 columns"),
        # within the last number: the cells are all there
        (HANDMADE[: HANDMADE.index("1.0\nE,sppo,0,200") + 1], r"results\.csv, line 3: the last line does not end"),
        (HANDMADE.replace("900,3.0", "900,3.O"), r"results\.csv, line 6: could not convert string to float: '3\.O'"),
        (HANDMADE.replace("E,sppo,1,200", "E,sppo,,200"), r"results\.csv, line 7: invalid literal for int"),
    ],
)
def test_a_damaged_file_is_named_with_the_line(text, message, folder):
    (folder / "results.csv").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_results(folder)


def test_a_summary_or_references_that_were_cut_are_not_read_either(folder):
    (folder / "summary.csv").write_text("env,algo,failed\nE,sppo,1")
    with pytest.raises(UsageError, match=r"summary\.csv, line 2: the last line does not end"):
        read_failures(folder)
    (folder / "references.csv").write_text("env,policy,success\nE,prior\n")
    with pytest.raises(UsageError, match=r"references\.csv, line 2: 2 cells under 3 columns"):
        read_references(folder)


# returns of a task that reports no success, next to a reference that has none either
RETURNS_ALONE = """env,algo,seed,episodes,timesteps,seconds,success,greedy_success,mean_return,greedy_mean_return
C,sppo,0,0,0,0.0,,,20.0,10.0
C,sppo,0,100,1000,2.0,,,180.0,500.0
C,sppo,1,0,0,0.0,,,40.0,10.0
C,sppo,1,100,900,3.0,,,1400.0,300.0
"""


@pytest.fixture
def silent(tmp_path):
    (tmp_path / "results.csv").write_text(RETURNS_ALONE)
    (tmp_path / "references.csv").write_text(
        "env,policy,success,greedy_success,episodes,mean_return,greedy_mean_return\nC,untrained,,,500,22.5,9.25\n"
    )
    return tmp_path


def test_the_mean_return_speaks_where_a_task_reports_no_success(silent):
    rows = read_results(silent)
    (found,) = summarize(rows)
    assert (found.measure, found.success, found.greedy_success) == ("return", 790.0, 400.0)
    # trapezoids: 100 and 720
    assert found.area == pytest.approx(410.0)
    table = control_table.markdown([found], read_references(silent))
    assert "| final return ± std [95 %] |" in table
    assert "Return without this training: untrained: 22.50 sampled, 9.25 greedy (500 episodes)." in table
    assert "| SPPO | 2 | 790.00 ± 862.67 [180.00, 1,400.00] | 400.00 | 410.00 [100.00, 720.00] | 100 | 950 | 2.5 |" in table
    assert "reports no success (C)" in table
    assert "nan" not in table


def test_a_plot_of_returns_has_their_scale(silent, monkeypatch):
    from matplotlib.figure import Figure

    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path: figures.append(self))
    plot_comparison(read_results(silent), silent / "plot.png", references=read_references(silent))
    (axes,) = figures[0].axes
    assert axes.get_ylabel() == "mean return"
    assert axes.get_ylim()[1] > 790.0
    assert "untrained 22.50" in [line.get_label() for line in axes.lines]


def test_a_run_without_success_beside_runs_that_report_some_has_none(silent):
    """The task reports success where it is true: the other seed, which never succeeded, failed."""
    rows = read_results(silent)
    seeds = sorted({row["seed"] for row in rows})
    for row in rows:
        if row["seed"] == seeds[0] and row["timesteps"] > 0:
            row["success"] = row["greedy_success"] = 1.0
    (found,) = summarize(rows)
    assert (found.measure, found.success, found.greedy_success) == ("success", 0.5, 0.5)
    assert 0.0 < found.area < 0.5
