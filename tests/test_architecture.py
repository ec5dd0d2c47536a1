"""Who may import whom. The rules are data; what they mean is that web processes stay light, and children stay pure."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Rule:
    """Files that match `files`, and none of `but`, import none of `banned`, or only what is `allowed`."""

    files: str
    banned: tuple[str, ...] = ()
    allowed: tuple[str, ...] | None = None
    but: tuple[str, ...] = ()

    def __str__(self) -> str:
        what = f"not {', '.join(self.banned)}" if self.banned else f"only {', '.join(self.allowed or ())}"
        return f"{self.files}: {what}"


PURE = (
    "__future__",
    "abc",
    "torch",
    "workers.methods",
    "collections",
    "dataclasses",
    "enum",
    "functools",
    "math",
    "typing",
)

# The node agent's side of a run: Django's rows on one hand, child processes on the other, and no tensors.
NODE_SIDE = ("workers/tasks.py", "workers/bridge.py", "workers/agent.py", "workers/children.py")

RULES = [
    Rule("trainhub/**/*.py", banned=("torch", "workers.process", "workers.server", "workers.trainer")),
    Rule("trainhub/client/**/*.py", banned=("django", "torch", "celery", "channels")),
    Rule("trainhub/command/**/*.py", banned=("django", "torch", "celery", "channels")),
    Rule(
        "workers/**/*.py",
        banned=("django", "celery", "channels", "trainhub"),
        but=NODE_SIDE,
    ),
    Rule("workers/methods/**/*.py", allowed=PURE),
    Rule("workers/spec/**/*.py", banned=("torch",)),
    Rule("workers/spec_*.py", banned=("torch",)),
    Rule("workers/catalog.py", banned=("torch",)),
    Rule("workers/events.py", banned=("torch",)),
    Rule("workers/assignment.py", banned=("torch",)),
    Rule("workers/gpus.py", banned=("torch",)),
    *(Rule(file, banned=("torch",)) for file in NODE_SIDE),
]

# Views, endpoints and sockets delegate to trainhub.actions, the only code that writes rows.
DELEGATING = ("trainhub/views/**/*.py", "trainhub/api/**/*.py", "trainhub/live/**/*.py")
WRITES = {"save", "bulk_create", "bulk_update", "get_or_create", "update_or_create"}
QUERYSET_WRITES = {"create", "update", "delete"}


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module a file may import at run time, also inside of functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def belongs(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), str(file))


def breaches(rule: Rule) -> list[str]:
    found = []
    for file in sorted(ROOT.glob(rule.files)):
        name = file.relative_to(ROOT).as_posix()
        if name in rule.but:
            continue
        for module in imports(parse(file)):
            bad = any(belongs(module, banned) for banned in rule.banned)
            if rule.allowed is not None:
                bad = not any(belongs(module, allowed) for allowed in rule.allowed)
            if bad:
                found.append(f"{name} imports {module}")
    return found


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_files_import_only_what_their_place_allows(rule: Rule) -> None:
    assert breaches(rule) == []


def test_every_rule_is_about_files_that_exist() -> None:
    assert [rule.files for rule in RULES if not any(ROOT.glob(rule.files))] == []


def test_a_breach_is_seen_inside_of_a_function_too() -> None:
    tree = ast.parse("def f() -> None:\n    from torch import nn\n")
    assert any(belongs(module, "torch") for module in imports(tree))


def test_only_relative_imports_of_a_file_s_own_package_are_absent() -> None:
    relative = [
        file.relative_to(ROOT).as_posix()
        for package in ("trainhub", "workers")
        for file in (ROOT / package).rglob("*.py")
        for node in ast.walk(parse(file))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


def writes(tree: ast.AST) -> Iterator[str]:
    """Calls that change rows: `x.save()`, and `….objects….create()` and its kind."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        name = node.func.attr
        chain = ast.unparse(node.func.value)
        if name in WRITES or (name in QUERYSET_WRITES and "objects" in chain):
            yield f"line {node.lineno}: {chain}.{name}()"


@pytest.mark.parametrize("pattern", DELEGATING)
def test_views_and_endpoints_write_no_rows(pattern: str) -> None:
    found = {file.name: list(writes(parse(file))) for file in ROOT.glob(pattern)}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_a_written_row_is_seen() -> None:
    assert len(list(writes(ast.parse("run.save(); Run.objects.filter(pk=1).update(x=2)")))) == 2


def loaded_after(code: str) -> set[str]:
    """The top-level modules of a fresh interpreter that ran this."""
    tell = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{tell}"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=50
    )
    return set(done.stdout.split())


def test_the_web_process_loads_nothing_heavy() -> None:
    heavy = {"torch", "plotly", "sklearn", "pyarrow", "PIL"}
    assert loaded_after("import trainhub.asgi, trainhub.urls") & heavy == set()


def test_a_child_loads_torch_but_no_django() -> None:
    engine = [
        file.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        for folder in ("server", "trainer", "transport", "methods", "kernels", "problems", "simulator", "studies")
        for file in (ROOT / "workers" / folder).rglob("*.py")
    ]
    loaded = loaded_after(f"import workers.process, {', '.join(sorted(engine))}")
    assert loaded & {"django", "celery", "channels", "psycopg", "redis"} == set()
    assert "torch" in loaded


def test_the_agent_s_entry_to_a_child_stays_free_of_torch() -> None:
    # The agent hands workers.process.main to the forkserver, so it imports that module itself.
    assert "torch" not in loaded_after("import workers.process")
