"""Studies: what a file comes to in runs, how they are tuned and summed up, and that a killed study goes on."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.waiting import eventually
from workers.spec_errors import SpecError
from workers.spec_paths import changed
from workers.studies import Study, cells, images, report, running
from workers.studies.figures import draw
from workers.studies.plan import Choose
from workers.studies.results import Results
from workers.studies.summary import half_width, mean_of, quartiles, summarise

BASE: dict[str, Any] = {
    "problem": {"kind": "digits", "model": {"kind": "mlp", "hidden": [8]}},
    "optimizer": {"kind": "sgd", "learning_rate": 0.05},
    "batch_size": 16,
    "workers": 2,
    "budget": {"updates": 6},
    "execution": {"kind": "simulate"},
}
INVERSE = {"label": "1/d", "set": {"rate": {"kind": "staleness-inverse"}}}
TUNE = {"grid": [0.01, 0.1], "seeds": {"first": 100, "count": 2}, "set": {"problem.evaluate_on": "validation"}}


def study(**fields: Any) -> Study:
    data = {"name": "S", "base": BASE, "methods": [{"label": "plain"}, INVERSE], "final": {"seeds": {"count": 2}}}
    return Study.parse(data | fields)


def tuned(cell_rates: dict[float, float], method: str = "plain", workers: int = 2) -> list[dict[str, Any]]:
    """Rows as if the grid had been tried."""
    return [
        {"stage": "tune", "method": method, "workers": workers, "optimizer.learning_rate": rate, "accuracy": accuracy}
        for rate, accuracy in cell_rates.items()
        for _ in range(2)
    ]


# ---------------------------------------------------------------- the file


def test_a_misspelt_field_is_named() -> None:
    with pytest.raises(SpecError, match=r"methods\.0\.lable: no such field"):
        study(methods=[{"lable": "plain"}])


def test_a_point_that_is_on_no_axis_is_named() -> None:
    with pytest.raises(SpecError, match=r"methods.0.where.workers 3 is not on that axis: \[2, 4\]"):
        study(axes={"workers": [2, 4]}, methods=[{"label": "plain", "where": {"workers": [3]}}])


def test_a_spec_that_can_t_be_run_is_told_with_its_place_in_the_study() -> None:
    wrong = {"label": "odd", "set": {"gate": {"kind": "softsync", "c": 3}}}
    with pytest.raises(SpecError, match=r"gate.c: must be at most workers.max \(2\), got 3 \(in odd, workers 2\)"):
        cells(study(axes={"workers": [2, 4]}, methods=[wrong]))


def test_a_live_spec_is_no_study() -> None:
    with pytest.raises(SpecError, match="must be simulate"):
        cells(study(base=BASE | {"execution": {"kind": "live"}}))


# ---------------------------------------------------------------- cells


def test_every_method_runs_at_every_point_with_every_seed() -> None:
    found = cells(study(axes={"workers": [2, 4], "batch_size": [8, 16]}))
    assert len(found) == 2 * 2 * 2 * 2
    first = found[0]
    assert first.labels == {
        "stage": "final",
        "method": "plain",
        "workers": 2,
        "batch_size": 8,
        "seed": 0,
        "rate": "as given",
        "optimizer.learning_rate": 0.05,
    }
    assert (first.spec.workers.max, first.spec.batch_size, first.spec.seed) == (2, 8, 0)


def test_a_point_may_set_several_fields_and_a_method_may_be_for_some_points_only() -> None:
    far = {"value": "far", "set": {"execution.push_seconds": 2.0, "workers": 4}}
    near = {"value": "near", "set": {}}
    found = cells(study(axes={"line": [near, far]}, methods=[{"label": "plain", "where": {"line": ["far"]}}]))
    assert {c.labels["line"] for c in found} == {"far"}
    assert (found[0].spec.workers.max, found[0].spec.execution.push_seconds) == (4, 2.0)  # type: ignore[union-attr]


def test_a_method_may_set_more_at_some_points() -> None:
    ring = {"label": "ring", "cases": [{"where": {"workers": [4]}, "set": {"rate": {"kind": "ringmaster", "R": 4}}}]}
    found = cells(study(axes={"workers": [2, 4]}, methods=[ring]))
    assert {(c.labels["workers"], c.spec.rate.kind) for c in found} == {(2, "constant"), (4, "ringmaster")}


def test_a_seed_may_be_of_several_fields() -> None:
    found = cells(study(final={"seeds": {"first": 3, "count": 1, "fields": ["seed", "problem.split"]}}))
    assert (found[0].spec.seed, found[0].spec.problem.split) == (3, 3)  # type: ignore[union-attr]


def test_a_change_takes_a_part_s_place_and_leaves_the_base_alone() -> None:
    base = {"optimizer": {"kind": "sgd", "momentum": 0.9}}
    assert changed(base, [{"optimizer": {"kind": "adamw"}}, {"optimizer.learning_rate": 1}]) == {
        "optimizer": {"kind": "adamw", "learning_rate": 1}
    }
    assert base == {"optimizer": {"kind": "sgd", "momentum": 0.9}}


def test_cells_are_named_by_what_they_compute_and_by_their_place() -> None:
    one, other = (cells(study(methods=[{"label": label}]))[0] for label in "ab")
    assert (one.run == other.run, one.key == other.key) == (True, False)
    faster = cells(study(methods=[{"label": "a", "set": {"optimizer.learning_rate": 0.1}}]))[0]
    assert faster.run != one.run


# ---------------------------------------------------------------- tuning


def test_only_the_grid_is_known_before_it_was_tried() -> None:
    found = cells(study(tune=TUNE, axes={"workers": [2]}))
    assert {c.labels["stage"] for c in found} == {"tune"}
    assert sorted({float(c.labels["optimizer.learning_rate"]) for c in found}) == [0.01, 0.1]
    assert {c.spec.problem.evaluate_on for c in found} == {"validation"}  # type: ignore[union-attr]
    assert {c.spec.seed for c in found} == {100, 101}


def test_final_runs_take_the_best_of_the_grid_and_are_tested_on_fresh_seeds() -> None:
    rows = tuned({0.01: 0.5, 0.1: 0.7}) + tuned({0.01: 0.8, 0.1: 0.6}, "1/d")
    final = [c for c in cells(study(tune=TUNE, axes={"workers": [2]}), rows) if c.labels["stage"] == "final"]
    assert {(c.labels["method"], c.spec.optimizer.learning_rate) for c in final} == {("plain", 0.1), ("1/d", 0.01)}
    assert {(c.spec.seed, c.spec.problem.evaluate_on) for c in final} == {(0, "test"), (1, "test")}  # type: ignore[union-attr]


def test_a_rate_may_be_tuned_at_one_point_and_used_at_all() -> None:
    final = {"seeds": {"count": 1}, "rates": [{"label": "of 2 trainers", "at": {"workers": 2}, "of": "plain"}]}
    s = study(tune=TUNE, axes={"workers": [2, 4]}, final=final)
    assert {(c.labels["method"], c.labels["workers"]) for c in cells(s)} == {("plain", 2)}  # no other grid is needed
    found = [c for c in cells(s, tuned({0.01: 0.5, 0.1: 0.7})) if c.labels["stage"] == "final"]
    assert len(found) == 4
    assert {c.spec.optimizer.learning_rate for c in found} == {0.1}


def test_a_grid_that_is_half_tried_chooses_nothing() -> None:
    rows = tuned({0.01: 0.5, 0.1: 0.7})[:3]
    assert {c.labels["stage"] for c in cells(study(tune=TUNE, axes={"workers": [2]}), rows)} == {"tune"}


def test_a_target_that_was_never_reached_is_the_worst_time() -> None:
    by_time = Choose(column="target_seconds", direction="min", statistic="median")
    assert by_time.score([10.0, None, 30.0]) == -30.0
    assert by_time.score([None, None, 1.0]) < by_time.score([900.0] * 3)
    assert Choose().score([0.9, None]) < Choose().score([0.1, 0.1])


# ---------------------------------------------------------------- results


def test_a_torn_last_line_is_cut_off_and_the_rest_is_kept(tmp_path: Path) -> None:
    results = Results(tmp_path)
    for key in "ab":
        results.add({"cell": key, "run": key, "accuracy": 0.5, "seed": 1, "target_seconds": None})
    file = tmp_path / "results.csv"
    file.write_bytes(file.read_bytes()[:-4])
    results.end()
    again = Results(tmp_path)
    assert again.rows == [{"cell": "a", "run": "a", "accuracy": 0.5, "seed": 1, "target_seconds": None}]
    again.add({"cell": "c", "run": "c", "accuracy": 1.0, "seed": 2, "target_seconds": 3.5})
    assert [row["cell"] for row in Results(tmp_path).rows] == ["a", "c"]


def test_one_process_writes_at_a_time_and_others_may_read(tmp_path: Path) -> None:
    first, second = Results(tmp_path), Results(tmp_path)
    first.add({"cell": "a", "run": "a"})
    with pytest.raises(OSError, match="another study is at work"):
        second.add({"cell": "b", "run": "b"})
    assert [row["cell"] for row in Results(tmp_path).rows] == ["a"]
    first.end()
    second.add({"cell": "b", "run": "b"})
    assert [row["cell"] for row in Results(tmp_path).rows] == ["a", "b"]


def test_a_new_column_keeps_the_rows_there_are(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.add({"cell": "a", "run": "a"})
    results.add({"cell": "b", "run": "b", "jitter": 0.25})
    assert [row["jitter"] for row in Results(tmp_path).rows] == [None, 0.25]


# ---------------------------------------------------------------- numbers


def test_the_interval_is_student_s() -> None:
    # n = 5: t = 2.776; standard deviation 1, so 2.776 / sqrt(5) = 1.2416
    assert half_width(1.0, 5) == pytest.approx(1.2416, abs=1e-4)
    mean = mean_of([1.0, 2.0, 3.0])
    assert mean is not None
    assert (mean.mean, mean.deviation, mean.count) == (2.0, 1.0, 3)
    assert [mean.low, mean.high] == pytest.approx([2 - 2.4841, 2 + 2.4841], abs=1e-4)


def test_the_median_counts_what_never_came_and_the_mean_can_t() -> None:
    mean = mean_of([10.0, None, 20.0])
    assert mean is not None
    assert (mean.runs, mean.count, mean.mean, mean.median) == (3, 2, 15.0, 20.0)
    never = mean_of([10.0, None, None])
    assert never is not None
    assert never.median is None
    assert mean_of([None]) is None


def test_quartiles_lie_between_neighbours_and_may_be_endless() -> None:
    # places .75, 1.5 and 2.25 of 10, 20, 40, 80
    assert quartiles([80.0, 10.0, 40.0, 20.0]) == (17.5, 30.0, 50.0)
    assert quartiles([10.0, math.inf, 20.0]) == (15.0, 20.0, None)


def test_differences_are_paired_by_seed() -> None:
    s = study(compare={"to": "plain"})
    rows = [
        {"stage": "final", "method": m, "rate": "as given", "optimizer.learning_rate": 0.05, "seed": i, "accuracy": a}
        for m, accuracies in (("plain", (0.1, 0.5, 0.9)), ("1/d", (0.2, 0.6, 1.0)))
        for i, a in enumerate(accuracies)
    ]
    row = next(r for r in summarise(s, rows) if r["method"] == "1/d" and r["column"] == "accuracy")
    assert (row["pairs"], row["difference"]) == (3, pytest.approx(0.1))
    assert row["difference_low"] == pytest.approx(0.1)  # the same in every pair, however much the seeds differ
    assert row["high"] - row["mean"] > 0.9


# ---------------------------------------------------------------- a study from end to end


@pytest.fixture(scope="module")
def small() -> Study:
    figures = [
        {"name": "accuracy"},
        {"name": "grid", "stage": "tune", "x": "optimizer.learning_rate", "x_log": True, "facets": "workers"},
        {"name": "scale", "kind": "traces", "y": "scale"},
    ]
    return study(tune=TUNE, axes={"workers": [2]}, figures=figures, measures=["scales", "loss-jitter", "idle"])


@pytest.fixture(scope="module")
def done(small: Study, tmp_path_factory: pytest.TempPathFactory) -> Results:
    results = Results(tmp_path_factory.mktemp("study"))
    running.run(small, results, jobs=1)
    return results


def test_it_tunes_then_tests_and_writes_every_cell_down(small: Study, done: Results) -> None:
    stages = [row["stage"] for row in done.rows]
    assert stages == ["tune"] * 8 + ["final"] * 4
    assert {row["outcome"] for row in done.rows} == {"completed"}
    assert all(0 <= row["accuracy"] <= 1 and row["gradients"] == 6 for row in done.rows)
    assert all(row["loss_jitter"] > 0 and row["idle"] == pytest.approx(0) for row in done.rows)
    assert {row["cell"] for row in done.rows} == {c.key for c in cells(small, done.rows)}


def test_what_is_done_is_not_done_again_and_processes_compute_the_same(
    small: Study, done: Results, tmp_path: Path
) -> None:
    half = Results(tmp_path)
    for row in done.rows[:-2]:  # as if killed before the last two
        half.add(row)
    half.end()
    again, told = Results(tmp_path), list[running.Progress]()
    running.run(small, again, jobs=2, watch=told.append)
    assert [(p.stage, p.done, p.total) for p in told] == [
        ("tune", 8, 8),
        ("final", 2, 4),
        ("final", 3, 4),
        ("final", 4, 4),
    ]
    same = {r["cell"]: r["weights_hash"] for r in done.rows}
    assert {r["cell"]: r["weights_hash"] for r in again.rows} == same


def test_figures_hold_every_series_with_its_spread(small: Study, done: Results) -> None:
    accuracy, grid, scale = (draw(small, figure, done) for figure in small.figures)
    lines = [t for t in accuracy["data"] if t["mode"] == "lines+markers"]
    assert [t["name"] for t in lines] == ["plain", "1/d"]
    assert all(len(t["error_y"]["array"]) == 1 for t in lines)
    assert [t["x"] for t in grid["data"] if t["mode"] == "lines+markers"] == [[0.01, 0.1]] * 2
    assert [t["name"] for t in scale["data"]] == ["plain", "1/d"]
    assert all(len(t["x"]) == 3 for t in scale["data"])  # half of six updates are the first trainer's


def test_the_report_is_tables_and_figures(small: Study, done: Results, tmp_path: Path) -> None:
    problem = report.write(small, done, tmp_path)
    assert "| method | workers 2 |" in (tmp_path / "tables.md").read_text()
    assert len((tmp_path / "summary.csv").read_text().splitlines()) > 20
    assert json.loads((tmp_path / "accuracy.json").read_text())["data"]
    assert problem is None or images.browser() is None


@pytest.mark.browser
def test_figures_are_drawn_by_a_browser() -> None:
    if images.browser() is None:
        pytest.fail("no browser is installed: `make browser` installs one")
    layout = {"width": 300, "height": 200}
    drawn = images.svgs([{"data": [{"x": [1, 2], "y": [3, y], "name": "</ours>"}], "layout": layout} for y in (4, 5)])
    assert len(drawn) == 2
    assert all(svg.startswith("<svg") and svg.rstrip().endswith("</svg>") for svg in drawn)


def test_a_run_that_fails_is_a_result(tmp_path: Path) -> None:
    wild = {"label": "wild", "set": {"optimizer.learning_rate": 1e30, "budget.updates": 200}}
    results = Results(tmp_path)
    running.run(study(methods=[wild], final={"seeds": {"count": 1}}), results, jobs=1)
    (row,) = results.rows
    assert (row["outcome"], row["refused"]) == ("failed", 10)
    assert row["accuracy"] == pytest.approx(0.1, abs=0.05)  # chance


def test_the_command_needs_neither_django_nor_torch_to_read_a_study(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(json.dumps({"name": "S", "base": BASE, "methods": [INVERSE], "final": {"seeds": {"count": 3}}}))
    code = (
        f"import sys; from trainhub.command import main; assert main(['study', {str(file)!r}, '--list']) == 0; "
        "assert not {'torch', 'django', 'celery'} & sys.modules.keys(), 'too much is loaded'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 0, done.stderr
    assert "3 final ones" in done.stdout


@pytest.mark.slow
def test_a_killed_study_leaves_no_process_and_goes_on(tmp_path: Path) -> None:
    file, folder = tmp_path / "study.yaml", tmp_path / "study"
    long = BASE | {"budget": {"updates": 60}}
    file.write_text(json.dumps({"name": "S", "base": long, "methods": [INVERSE], "final": {"seeds": {"count": 40}}}))
    code = "import sys; from trainhub.command import main\nif __name__ == '__main__': sys.exit(main(sys.argv[1:]))"
    study = subprocess.Popen([sys.executable, "-c", code, "study", str(file), "--jobs", "2"])
    lines = folder / "results.csv"
    eventually(lambda: lines.exists() and lines.read_text().count("\n") > 2)
    children = psutil.Process(study.pid).children(recursive=True)
    study.kill()
    study.wait()
    gone, alive = psutil.wait_procs(children, timeout=10)
    assert (len(gone) >= 2, alive) == (True, [])
    before = Results(folder).rows
    running.run(Study.parse_yaml(file.read_text()), Results(folder), jobs=1)
    after = Results(folder).rows
    assert after[: len(before)] == before
    assert len({row["cell"] for row in after}) == len(after) == 40
