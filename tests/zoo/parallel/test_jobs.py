"""Jobs side by side: checked before anything is written, and whatever a process prints, the others are done."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from sppo_rl.zoo.names import UsageError
from sppo_rl.zoo.parallel.jobs import Job, check_all, do_all
from sppo_rl.zoo.parallel.worker import JOB, RESULT


@pytest.fixture
def worker(tmp_path, monkeypatch):
    """Writes the program that each job's process runs instead of the worker."""

    def write(program: str) -> None:
        path = tmp_path / "worker"
        path.write_text(f"#!{sys.executable}\nimport json, pathlib, sys\nfolder = pathlib.Path(sys.argv[-1])\n{program}\n")
        path.chmod(0o755)
        monkeypatch.setattr("sppo_rl.zoo.parallel.jobs.sys.executable", str(path))

    return write


def do(*jobs: Job) -> tuple[dict[str, str], str]:
    """What went wrong with each job, and what was shown."""
    problems, shown = {}, io.StringIO()
    do_all(
        jobs, 1, Console(file=shown, force_terminal=True, width=200), lambda job, problem: problems.update({job.name: problem})
    )
    return problems, shown.getvalue()


def test_what_an_environment_prints_is_no_report(tmp_path, worker):
    worker(
        """
import time
for line in ("0.0", "7", "null", '"success"', "[1]", "{}", '{"success": 1}', "9" * 5000, "[" * 100000, "nothing",
             '{"done": null, "total": 2, "success": 0.5}', '{"done": 1, "total": 2, "success": "0.5"}'):
    print(line)
sys.stdout.flush()
sys.stdout.buffer.write(b"\\xff\\xfe\\n")
print(json.dumps({"done": 1, "total": 2, "success": 0.625}), flush=True)
time.sleep(0.5)
print(json.dumps({"done": 2, "total": 2, "success": float("nan")}), flush=True)
(folder / "result.json").write_text('{"status": "done"}')
"""
    )
    problems, shown = do(Job("one", tmp_path / "one", {}), Job("two", tmp_path / "two", {}))
    assert problems == {"one": "", "two": ""}
    assert "success 0.62" in shown, "the worker's own lines are shown"


def test_a_process_that_breaks_says_how_in_its_own_words(tmp_path, worker):
    worker(
        """
sys.stderr.buffer.write(b"cannot open [/usr/lib/caf\\xe9]\\n")
sys.exit(3)
"""
    )
    # rich would take what stands in brackets for markup
    problems, _ = do(Job("[/one]", tmp_path / "one", {}), Job("two", tmp_path / "two", {}))
    for name in ("one", "two"):
        log = tmp_path / name / "log.txt"
        expected = f"exit code 3: cannot open [/usr/lib/caf\N{REPLACEMENT CHARACTER}] (see {log})"
        assert problems["[/one]" if name == "one" else name] == expected


def test_jobs_are_checked_before_the_first_is_written(tmp_path):
    done = Job("old", tmp_path / "old", {"episodes": 8})
    done.prepare()
    (done.folder / RESULT).write_text("{}")
    with pytest.raises(UsageError, match=r"old was made with episodes = 8, and now it is 9\. Choose another folder with -o"):
        do(Job("new", tmp_path / "new", {"episodes": 9}), Job("old", tmp_path / "old", {"episodes": 9}))
    assert not (tmp_path / "new").exists()
    assert json.loads((done.folder / JOB).read_text()) == {"episodes": 8}


@pytest.mark.parametrize("left", [RESULT, "evaluations.csv", "checkpoints/checkpoint_000000000008.zip"])
def test_settings_count_from_when_a_job_has_left_something(tmp_path, left):
    one, other = (Job("run", tmp_path / "run", {"episodes": count, "net": (count, 2)}) for count in (8, 9))
    one.prepare()
    # a comparison that was refused, or killed before this run had begun
    check_all([other])
    path = one.folder / left
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}" if left == RESULT else "")
    with pytest.raises(UsageError, match="was made with episodes = 8"):
        check_all([other])
    check_all([one])


def test_two_jobs_in_one_folder_are_refused_by_name(tmp_path):
    jobs = [Job(name, tmp_path / folder, {}) for name, folder in (("a", "x"), ("b", "y"), ("c", Path("y")))]
    check_all(jobs[:2])
    with pytest.raises(UsageError, match=r"'b' and 'c' would work in the same folder, .*y"):
        check_all(jobs)
