"""`manage.py demo --once`, started for real: the whole way from a file to a result in the terminal."""

import os
import re
import signal
import socket
from pathlib import Path

import pytest

from tests.stacks import Up, manage, processes_of, runtime_dir_of, shm_of, up
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(150)

SMALL = """\
version: 1
name: Small
problem: {kind: digits, model: {kind: mlp}}
optimizer: {kind: sgd, learning_rate: 0.05, momentum: 0.9}
batch_size: 32
workers: 2
budget: {passes: 4}
"""
LONG = SMALL.replace("passes: 4", "passes: 100000").replace("Small", "Long")
HOPELESS = """\
version: 1
name: Hopeless
problem: {kind: python, target: "no_such_package:problem"}
optimizer: {kind: sgd, learning_rate: 0.05}
workers: 1
budget: {updates: 10}
"""


@pytest.fixture
def home(short_dir: Path) -> Path:
    short_dir.chmod(0o755)
    return short_dir / "home"


def spec_file(home: Path, text: str) -> str:
    file = home.parent / "spec.yaml"
    file.write_text(text)
    return str(file)


def test_it_trains_shows_the_result_and_leaves_nothing(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = taken.getsockname()[1]
        spec = spec_file(home, SMALL)
        done = manage(home, "demo", "--once", "--port", str(busy), "--slots", "3", "--spec", spec, seconds=120)
    assert done.returncode == 0, done.stdout + done.stderr
    link = re.search(r"http://127\.0\.0\.1:(\d+)/sign-in/[\w-]+/\?next=/runs/\d+/", done.stdout)
    assert link is not None
    assert link[1] != str(busy)
    assert re.search(r"Small completed at version \d+, [\d.]+ s after the start", done.stdout)
    assert "accuracy" in done.stdout
    assert {"trainer 0", "trainer 1"} <= set(re.findall(r"trainer \d", done.stdout))
    nothing_is_left(home)


def test_a_run_that_fails_is_told_by_cause_and_exit_code(home: Path) -> None:
    spec = spec_file(home, HOPELESS)
    done = manage(home, "demo", "--once", "--port", "0", "--slots", "2", "--spec", spec, seconds=120)
    assert done.returncode != 0
    assert "Hopeless failed" in done.stdout
    assert "no_such_package" in done.stdout
    assert "The run did not complete: it is failed." in done.stderr


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, "There is no file"),
        ("a: [", "spec.yaml"),
        (SMALL.replace("workers: 2", "workers: 0"), "workers"),
        (SMALL.replace("0.05", "-1"), "optimizer.learning_rate"),
        (SMALL.replace("version: 1", "version: 99"), "version"),
        (SMALL.replace("kind: sgd", "kind: guess"), "optimizer"),
    ],
    ids=["no-file", "no-yaml", "no-workers", "negative-rate", "newer-version", "unknown-method"],
)
def test_a_bad_spec_is_refused_before_anything_starts(home: Path, text: str | None, complaint: str) -> None:
    spec = str(home.parent / "none.yaml") if text is None else spec_file(home, text)
    done = manage(home, "demo", "--once", "--spec", spec)
    assert done.returncode != 0
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
    assert not home.exists()


def test_without_once_a_busy_port_is_refused(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = manage(home, "demo", "--port", str(port), "--spec", spec_file(home, SMALL))
    assert done.returncode != 0
    assert f"Port {port} on 127.0.0.1 can't be opened" in done.stderr
    assert not home.exists()


def in_training(stack: Up) -> None:
    eventually(lambda: any(stack.home.glob("runs/*/*/*/child.json")))
    stack.wait_for("running  version")


def nothing_is_left(home: Path) -> None:
    eventually(lambda: not processes_of(home), seconds=5)
    assert not runtime_dir_of(home).exists()
    assert shm_of(home) == []


def test_ctrl_c_in_the_middle_of_training_keeps_a_checkpoint_and_leaves_nothing(home: Path) -> None:
    with up(home, "demo", "--spec", spec_file(home, LONG), slots=3) as stack:
        in_training(stack)
        assert stack.stop() == 0
    nothing_is_left(home)
    assert list(home.glob("runs/1/checkpoints/*.safetensors"))


def test_training_whose_stack_was_killed_is_ended_and_goes_on_with_the_next(home: Path) -> None:
    with up(home, "demo", "--spec", spec_file(home, LONG), slots=3) as stack:
        in_training(stack)
        os.kill(stack.process.pid, signal.SIGKILL)
        stack.process.wait(5)
        with up(home, slots=3):
            eventually(lambda: any(home.glob("runs/1/2/*/child.json")))
    nothing_is_left(home)
