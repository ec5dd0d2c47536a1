"""Ready specs to start from: the examples, and the one of each method's page. Read only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings

from trainhub import handbook
from workers.spec import RunSpec

EXAMPLES = Path(settings.BASE_DIR) / "examples"


@dataclass(frozen=True)
class Preset:
    """A spec that runs as it is. `summary` says in a sentence or two what it shows; `yaml` keeps its comments."""

    slug: str
    title: str
    summary: str
    yaml: str
    spec: dict[str, Any]
    """The same as data, with every default written out."""


@cache
def presets() -> tuple[Preset, ...]:
    """The examples first, by file name, then the methods, by title. The first is where a newcomer starts."""
    examples = tuple(_example(file) for file in sorted(EXAMPLES.glob("*.yaml")))
    return examples + tuple(_preset(p.slug, p.title, p.summary, p.spec) for p in handbook.pages())


def preset(slug: str) -> Preset | None:
    """None: there is no such preset."""
    return next((p for p in presets() if p.slug == slug), None)


def _example(file: Path) -> Preset:
    text = file.read_text()
    return _preset(file.stem, "", _leading_comment(text), text)


def _preset(slug: str, title: str, summary: str, text: str) -> Preset:
    """Without a title of its own it is called as its spec."""
    spec = RunSpec.parse_yaml(text)
    return Preset(slug, title or spec.name, summary, text, spec.model_dump(mode="json"))


def _leading_comment(text: str) -> str:
    """The comment that a file begins with, on one line."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# ").strip())
    return " ".join(lines)
