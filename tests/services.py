"""A pytest plugin: PostgreSQL and Redis for this session, running before Django's settings are read.

Loaded by `-p tests.services` in pyproject.toml, early enough that the settings find DATABASE_URL and REDIS_URL. With
both given from outside, those services are used instead.
"""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from trainhub import embedded
from trainhub.processes import Supervisor

_supervisor = Supervisor(say=print)
_home: Path | None = None


def _start(home: Path) -> None:
    account = embedded.system_account()
    runtime = home / "r"
    embedded.make_folder(runtime, passable_by=account)
    postgres = embedded.PostgreSQL(home=home, runtime_dir=runtime, account=account, durable=False)
    redis = embedded.Redis(home=home, runtime_dir=runtime)
    for service in (redis, postgres):
        service.prepare()
        program = service.program()
        _supervisor.start(program)
        service.wait(_supervisor.running[program.name].process)
    os.environ["DATABASE_URL"], os.environ["REDIS_URL"] = postgres.url, redis.url
    # Homes of the tests' own making: nothing of a developer's .trainhub is touched.
    os.environ["TRAINHUB_HOME"], os.environ["XDG_RUNTIME_DIR"] = str(home), str(runtime)


def _new_home() -> Path:
    home = Path(tempfile.mkdtemp(prefix="th-", dir="/tmp"))  # short, for the sockets' sake
    account = embedded.system_account()
    if account is not None:
        os.chown(home, -1, account.gid)
        home.chmod(0o710)
    return home


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Before pytest-django's hook of the same name, which loads the settings."""
    global _home
    asked_for_nothing = {"--help", "-h", "--version", "--markers", "--fixtures"} & set(
        early_config.invocation_params.args
    )
    if asked_for_nothing or {"DATABASE_URL", "REDIS_URL"} <= set(os.environ):
        return
    _home = _new_home()
    try:
        _start(_home)
    except BaseException:
        _stop()
        raise


def pytest_unconfigure() -> None:
    _stop()


def _stop() -> None:
    global _home
    _supervisor.stop(list(_supervisor.running))
    if _home is not None:
        shutil.rmtree(_home, ignore_errors=True)
        _home = None
