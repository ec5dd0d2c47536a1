"""Finds the problem a spec names: built in, announced by an installed package, or by its import path."""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from workers import catalog, spec
from workers.failures import user_code
from workers.problems.base import Problem
from workers.spec_errors import SpecError

GROUP = "trainhub.problems"


def load(part: spec.Problem, data: Path | None = None) -> Problem:
    """Build the problem. `data` is the folder of the data set it names, where it names one.

    Raises SpecError naming the field, or Failure from the problem's own code or for data that are not here.
    """
    match part:
        case spec.Installed():
            return _build(_installed(part.name), part.parameters)
        case spec.PythonTarget():
            return _build(_imported(part.target), part.parameters)
        case spec.Images() | spec.Table() | spec.Text():
            return _built_in(part, data)
        case _:
            return _built_in(part)


def _built_in(part: spec.Problem, *arguments: Path | None) -> Problem:
    problem: Problem = catalog.PROBLEMS[part.kind].load()(part, *arguments)
    return problem


def _installed(name: str) -> Any:
    found = entry_points(group=GROUP)
    for entry in found:
        if entry.name == name:
            with user_code(f"importing the problem {name!r}"):
                return entry.load()
    known = ", ".join(sorted(e.name for e in found)) or "none are installed"
    raise SpecError.one("problem.name", f"no installed problem is called {name!r}; there are: {known}")


def _imported(target: str) -> Any:
    module_name, _, name = target.partition(":")
    try:
        found = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise SpecError.one("problem.target", f"{error.name} can't be imported on this node") from None
        raise
    if not hasattr(found, name):
        raise SpecError.one("problem.target", f"{module_name} has no {name!r}")
    return getattr(found, name)


def _build(factory: Any, parameters: dict[str, Any]) -> Problem:
    with user_code("building the problem"):
        try:
            problem = factory(**parameters)
        except TypeError as error:
            raise SpecError.one("problem.parameters", str(error)) from error
    if not isinstance(problem, Problem):
        raise SpecError.one("problem", f"{factory!r} gives a {type(problem).__name__}, not a workers Problem")
    return problem
