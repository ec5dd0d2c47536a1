"""The form of a new experiment as a tree for the browser, made from the specification's JSON schema and the catalog.

Only order and wording are written down here: a field or a method that is new in the schema appears in the form by
itself, in the section of its parent, or in the last one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.urls import reverse

from trainhub import handbook, words
from workers import catalog
from workers.spec import RunSpec

Node = dict[str, Any]
Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Section:
    """A part of the page. `more` are fields that most people leave as they are: they start out folded."""

    slug: str
    title: str
    help: str
    fields: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    more_title: str = ""


SECTIONS = (
    Section("name", "Experiment", "", ("name",), ("notes", "tags"), "Notes and tags"),
    Section("problem", "What to train", "", ("problem",)),
    Section(
        "optimization",
        "Optimization",
        "The optimizer, and its learning rate over time.",
        ("optimizer", "schedule", "batch_size"),
        ("accumulation", "clip_norm", "data_loader_workers"),
        "Batches and clipping",
    ),
    Section(
        "asynchrony",
        "Asynchrony",
        "Who takes part, who waits for whom, and how much a late gradient counts.",
        ("workers", "gate", "rate"),
        ("compensation", "batch_norm", "waiting", "outer", "averaging", "layout"),
        "More methods",
    ),
    Section(
        "budget",
        "When to stop",
        "At least one limit is needed.",
        ("budget",),
        ("evaluation", "checkpoints"),
        "Evaluation and checkpoints",
    ),
    Section("execution", "Real or simulated", "", ("execution",), ("device", "precision"), "Device and precision"),
    Section(
        "transport",
        "Between hosts",
        "How gradients and weights travel where trainers and server are on several machines.",
        (),
        ("transport",),
        "Transport and compression",
    ),
    Section("faults", "Delays and faults", "", (), ("delays", "restarts"), "Slow trainers and restarts"),
    Section("start", "Start", "", (), ("start",), "Weights to start from"),
    Section("rest", "Seed and priority", "", ("seed", "priority"), ("placement", "version"), "Placement and schema"),
)

ROOMS: dict[str, Mapping[str, catalog.Entry]] = {
    "problem": catalog.PROBLEMS,
    "gate": catalog.GATES,
    "rate": catalog.RATES,
    "compensation": catalog.COMPENSATIONS,
    "batch_norm": catalog.BATCH_NORMS,
    "waiting": catalog.WAITINGS,
    "outer": catalog.OUTERS,
    "averaging": catalog.AVERAGINGS,
    "transport.compression": catalog.COMPRESSIONS,
    "layout": catalog.LAYOUTS,
}

LABELS = {
    "lam": "λ",
    "lam0": "λ₀",
    "kappa": "κ",
    "rho": "ρ",
    "n0": "n₀",
    "eps": "ε",
    "betas": "β₁, β₂",
    "beta": "β",
    "sigma": "σ",
    "c": "c",
    "k": "k",
    "match": "Names that match",
    "groups": "Groups of parameters",
    "take": "What it takes over",
    "budget": "Limits",
    "target": "Stop at a target",
    "min": "At least",
    "max": "At most",
    "at": "Shares of the budget",
    "mean_seconds": "Mean time",
    "push_seconds": "Time of a push",
    "pull_seconds": "Time of a pull",
    "every_seconds": "A checkpoint every",
    "every_passes": "An evaluation every",
    "at_seconds": "Lost at",
    "back_after_seconds": "Back after",
    "mean_up_seconds": "Mean time up",
    "hosts": "Nodes",
    "down_seconds": "Time down",
    "seconds": "Time",
    "dataset": "Data set",
    "workers": "Trainers",
    "worker": "Trainer",
    "data_loader_workers": "Loader processes",
    "slow": "Slow trainers",
}
KINDS = {
    **words.OPTIMIZERS,
    **words.MODELS,
    "installed": "An installed problem",
    "python": "A Python class on the nodes",
    "live": "Real: trainers on slots",
    "simulate": "Simulated: a virtual clock",
    "fresh": "Fresh weights",
    "checkpoint": "A checkpoint",
    "factor": "Times as long",
    "gamma": "Gamma-distributed times",
    "lognormal": "Lognormal times",
    "trace": "Recorded times",
    "latency": "Slow line",
    "half": "Slow half",
    "straggler": "One straggler",
    "machines": "Unequal machines",
    "single": "One device",
    "hybrid": "A machine group",
    "cpu": "CPU",
    "cuda": "GPU (CUDA)",
    "inline": "Encrypted (inline in TLS)",
    "fabric": "Fast (fabric, not encrypted)",
    "none": "None",
    "float32": "32 bits (float32)",
    "bfloat16": "16 bits where it pays (bfloat16)",
}
UNITS = {
    "passes": "passes",
    "seconds": "s",
    "updates": "updates",
    "batch_size": "examples",
    "accumulation": "batches",
    "min": "trainers",
    "max": "trainers",
    "softsync.c": "gradients",
    "extra": "trainers",
    "bound": "rounds",
    "R": "versions",
    "window.size": "rounds",
    "rounds": "rounds",
    "k": "trainers",
    "n0": "examples",
    "steps": "steps",
    "cnn.width": "channels",
    "resnet20.width": "×",
    "text.width": "features",
    "transformer.width": "features",
    "transformer.context": "characters",
    "data_loader_workers": "processes",
    "keep_last": "checkpoints",
    "keep_best": "checkpoints",
    "restarts": "times",
    "shards": "devices",
    "classes": "classes",
    "examples": "images a class",
    "features": "values",
    "glyphs.width": "channels",
    "factor": "×",
    "learning_rate_scale": "×",
}
SUFFIXES = {"_seconds": "s", "_passes": "passes", "_bytes": "bytes"}
DATASET_KINDS = ("images", "table", "text")
LONG_TEXT = 1000
"""Characters from which on a text has several lines."""
SHORT_TEXT = 100
"""Characters up to which a text fits beside another field."""
LAST = ("items", "mapping", "rows")
"""Kinds that take a whole row and are rarely used: they come after their siblings."""
BOUNDS = {
    "minimum": "min",
    "maximum": "max",
    "exclusiveMinimum": "above",
    "exclusiveMaximum": "below",
    "minLength": "min_length",
    "maxLength": "max_length",
    "minItems": "min_items",
    "maxItems": "max_items",
}


@cache
def tree() -> list[Node]:
    """Sections with their fields; the browser draws them as they are."""
    return Tree(RunSpec.model_json_schema()).sections()


class Tree:
    """Nodes of a JSON schema that pydantic made.

    A node has `name`, `label`, `help`, `unit`, `kind`, and where it has them `default`, `required`, `nullable` and
    bounds. A kind is one of number, text, choice, switch, list, rows, items, group, union, mapping, dataset.
    """

    def __init__(self, schema: Schema) -> None:
        self.definitions: Schema = schema.get("$defs", {})
        self.fields = {node["name"]: node for node in self._fields("", schema)}

    def sections(self) -> list[Node]:
        listed = {name for section in SECTIONS for name in section.fields + section.more}
        last = SECTIONS[-1]
        others = tuple(name for name in self.fields if name not in listed)
        return [self._section(section, others if section is last else ()) for section in SECTIONS]

    def _section(self, section: Section, others: tuple[str, ...]) -> Node:
        return {
            "slug": section.slug,
            "title": section.title,
            "help": section.help,
            "fields": [self.fields[name] for name in section.fields + others if name in self.fields],
            "more": [self.fields[name] for name in section.more if name in self.fields],
            "more_title": section.more_title,
        }

    def _fields(self, path: str, schema: Schema) -> Iterator[Node]:
        required = schema.get("required", ())
        # What tells a union's members apart is their parent's choice.
        found = {n: f for n, f in schema.get("properties", {}).items() if n != "kind" or "const" not in f}
        nodes = [self._field(f"{path}.{n}".lstrip("."), n, f, required=n in required) for n, f in found.items()]
        yield from sorted(nodes, key=lambda node: node["kind"] in LAST)

    def _field(self, path: str, name: str, schema: Schema, *, required: bool) -> Node:
        shape, nullable = self._shape(schema)
        node = {
            "name": name,
            "label": label_of(name),
            "help": _one_line(schema.get("description") or shape.get("description", "")),
            "unit": unit_of(path) if shape.get("type") in {"integer", "number"} else "",
            "required": required,
            "nullable": nullable,
            **self._kind(path, shape),
        }
        default = {"default": schema["default"]} if "default" in schema else {}
        # An empty entry says nothing, and the browser loads each of them.
        return {key: value for key, value in node.items() if value is not False and value not in ("", None)} | default

    def _shape(self, schema: Schema) -> tuple[Schema, bool]:
        """What a value looks like where there is one, and whether there may be none."""
        options = [option for option in schema.get("anyOf", ()) if option.get("type") != "null"]
        nullable = "anyOf" in schema and len(options) < len(schema["anyOf"])
        shape = options[0] if len(options) == 1 else schema
        while "$ref" in shape:
            shape = self.definitions[shape["$ref"].rpartition("/")[2]]
        return shape, nullable

    def _kind(self, path: str, shape: Schema) -> Node:
        bounds = {short: shape[name] for name, short in BOUNDS.items() if name in shape}
        name = path.rpartition(".")[2]
        match shape:
            case {"oneOf": members}:
                return self._union(path, [self._shape(member)[0] for member in members])
            case {"properties": {"kind": {"const": _}}}:
                return self._union(path, [shape])
            case {"properties": _}:
                return {"kind": "group", "fields": list(self._fields(path, shape))}
            case {"enum": values}:
                return {"kind": "choice", "options": [option(value) for value in values]}
            case {"const": value}:
                return {"kind": "choice", "options": [option(value)]}
            case {"type": "boolean"}:
                return {"kind": "switch"}
            case {"type": "integer" | "number" as kind}:
                return {"kind": "number", "whole": kind == "integer", **bounds}
            case {"type": "array"}:
                return self._array(path, shape) | bounds
            case {"type": "object"}:
                return {"kind": "mapping"}
            case {"type": "string"} if name == "dataset" and path.split(".")[-2] in DATASET_KINDS:
                return {"kind": "dataset", "of": path.split(".")[-2], **bounds}
            case _:
                longest = shape.get("maxLength", 0)
                return {"kind": "text", "long": longest > LONG_TEXT, "wide": longest > SHORT_TEXT, **bounds}

    def _array(self, path: str, shape: Schema) -> Node:
        if "prefixItems" in shape:
            return {"kind": "list", "of": "number"}
        items, _ = self._shape(shape["items"])
        match items:
            case {"type": "integer" | "number"}:
                return {"kind": "list", "of": "number"}
            case {"type": "string"}:
                return {"kind": "list", "of": "text"}
            case {"type": "array"}:
                return {"kind": "rows"}
            case _:
                return {"kind": "items", "of": self._kind(path, items)}

    def _union(self, path: str, members: list[Schema]) -> Node:
        return {"kind": "union", "options": [self._member(path, member) for member in members]}

    def _member(self, path: str, schema: Schema) -> Node:
        kind = schema["properties"]["kind"]["const"]
        entry = ROOMS.get(path, {}).get(kind)
        member = {
            "kind": kind,
            "label": entry.label if entry else KINDS.get(kind, _words(kind)),
            "help": _one_line(schema.get("description", "")),
            "source": entry.source if entry else "",
            "reconstruction": entry is not None and entry.certainty == "reconstruction",
            "page": page_of(entry),
        }
        told = {key: value for key, value in member.items() if value}
        return told | {"fields": list(self._fields(f"{path}.{kind}", schema))}


def label_of(name: str) -> str:
    """`weight_decay` becomes `Weight decay`; a unit in the name is told beside it."""
    if name in LABELS:
        return LABELS[name]
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return _words(name)


def unit_of(path: str) -> str:
    """By the field's name, or by its name and the choice that it belongs to."""
    name = path.rpartition(".")[2]
    for key in (".".join(path.split(".")[-2:]), name):
        if key in UNITS:
            return UNITS[key]
    return next((unit for suffix, unit in SUFFIXES.items() if name.endswith(suffix)), "")


def option(value: object) -> Node:
    return {"value": value, "label": KINDS.get(str(value), str(value))}


def page_of(entry: catalog.Entry | None) -> str:
    """The address of the page that tells of a method. Empty: none does."""
    for room in catalog.ROOMS:
        if entry is not None and entry in room.entries.values() and handbook.page(room.page_of(entry)):
            return reverse("method", args=[room.page_of(entry)])
    return ""


def _words(name: str) -> str:
    text = name.replace("_", " ").replace("-", " ")
    return text[:1].upper() + text[1:]


def _one_line(text: str) -> str:
    return " ".join(text.split())
