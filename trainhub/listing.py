"""The list of runs: what its address asks for, and the rows that answer it. Read only."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from urllib.parse import urlencode

from django.db.models import Case, F, Func, OrderBy, Q, QuerySet, TextField, Value, When
from django.db.models.fields.json import KeyTransform
from django.db.models.functions import Lower
from django.db.models.lookups import Exact
from django.http import QueryDict

from trainhub import experiments, queries
from trainhub.models import Run, RunState
from workers import catalog

MOST_CHARACTERS = 120
"""Of a filter; names have no more."""
MOST_METHODS = 20
"""That a run has to have at once."""
MOST_TAGGED = 1000
"""Of so many experiments, the newest, tags are offered."""

METHOD_PARTS: Mapping[str, Mapping[str, catalog.Entry]] = {
    "gate": catalog.GATES,
    "rate": catalog.RATES,
    "compensation": catalog.COMPENSATIONS,
    "batch_norm": catalog.BATCH_NORMS,
    "waiting": catalog.WAITINGS,
    "averaging": catalog.AVERAGINGS,
    "layout": catalog.LAYOUTS,
    "outer": catalog.OUTERS,
    "transport.compression": catalog.COMPRESSIONS,
}
"""Part of a spec → what it may be."""
PART_LABELS = {
    "gate": "Gate",
    "rate": "Rate",
    "compensation": "Compensation",
    "batch_norm": "Batch norm",
    "waiting": "Waiting",
    "averaging": "Averaging",
    "layout": "Layout",
    "outer": "Outer optimizer",
    "transport.compression": "Compression",
}
SORTS = {
    "newest": "Newest first",
    "name": "By name",
    "metric": "Best result first",
    "progress": "Furthest first",
}


@dataclass(frozen=True)
class Filters:
    """What the address asks for. Empty: all of them."""

    state: tuple[str, ...] = ()
    project: str = ""
    owner: str = ""
    tag: str = ""
    method: tuple[str, ...] = ()
    """Kinds or words of labels, of any part of the method; a run has to have them all."""
    search: str = ""
    """Words of which each is in the name of the run or of its experiment; a number is a run's too."""
    mine: bool = False
    sort: str = "newest"

    @classmethod
    def parse(cls, query: QueryDict) -> Filters:
        """What is not understood is left out: an old bookmark still shows runs."""
        sort = query.get("sort", "")
        return cls(
            state=tuple(state for state in RunState.values if state in query.getlist("state")),
            project=_text(query.get("project", "")),
            owner=_text(query.get("owner", "")),
            tag=_text(query.get("tag", "")),
            method=tuple(word for given in query.getlist("method")[:MOST_METHODS] if (word := _text(given))),
            search=_text(query.get("search", "")),
            mine=query.get("mine", "") not in {"", "0", "false"},
            sort=sort if sort in SORTS else "newest",
        )

    @property
    def narrows(self) -> bool:
        """Whether some runs may be left out."""
        return any(getattr(self, each.name) for each in fields(self) if each.name != "sort")

    @property
    def folds(self) -> bool:
        """Whether experiments of many runs show their first ones only: not to whoever looks for something."""
        return not self.narrows and self.sort in {"newest", "name"}

    def address(self, page: int = 1) -> str:
        """The part of the address behind its `?`, without what goes without saying."""
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        given |= {"mine": "1" if self.mine else "", "sort": "" if self.sort == "newest" else self.sort}
        given["page"] = str(page) if page > 1 else ""
        return urlencode({name: value for name, value in given.items() if value}, doseq=True)


@dataclass(frozen=True)
class Row:
    """A run in the list, with the metric it is judged by. None: not evaluated yet."""

    line: queries.Listed
    metric: tuple[str, float | str] | None


@dataclass(frozen=True)
class Choices:
    """What the filters offer. A list with a single choice is no choice."""

    projects: list[str]
    owners: list[str]
    tags: list[str]
    methods: list[tuple[str, list[catalog.Entry]]]

    @property
    def kinds(self) -> set[str]:
        """Of all methods."""
        return {entry.kind for _, entries in self.methods for entry in entries}


def narrowed(runs: QuerySet[Run], filters: Filters, *, me: str = "") -> QuerySet[Run]:
    """Those of the runs that the filters let through. `me`: whose runs are mine."""
    owner = me if filters.mine else ""
    # In one filter: each further one copies all that were there before.
    wanted = [*map(_named, filters.search.split()), *map(_method, filters.method)]
    given = {
        "state__in": filters.state,
        "experiment__project__name": filters.project,
        "experiment__owner__username": filters.owner,
        "experiment__tags__contains": [filters.tag] if filters.tag else "",
    }
    runs = runs.filter(*wanted, **{lookup: value for lookup, value in given.items() if value})
    return runs.filter(experiment__owner__username=owner) if owner else runs


def listed(runs: QuerySet[Run], filters: Filters, *, me: str = "") -> QuerySet[Run]:
    """The rows of the list in their order, experiments of many runs folded unless one looks for something."""
    found = narrowed(runs, filters, me=me)
    if filters.folds:
        found = found.filter(number__lte=queries.FOLDED_RUNS)
    return found.order_by(*_order(filters.sort))


def rows(runs: Sequence[Run]) -> list[Row]:
    """One page of the list."""
    return [Row(line, _metric(line.run)) for line in queries.lines_of(runs)]


def choices(runs: QuerySet[Run]) -> Choices:
    """What the runs that a person may see can be told apart by."""
    of_experiments = runs.order_by()
    tagged = of_experiments.exclude(experiment__tags=[]).order_by("-experiment_id")
    tags = tagged.values_list("experiment__tags", flat=True).distinct()[:MOST_TAGGED]
    return Choices(
        projects=sorted(of_experiments.values_list("experiment__project__name", flat=True).distinct()),
        owners=sorted(of_experiments.values_list("experiment__owner__username", flat=True).distinct()),
        tags=sorted({str(tag) for each in tags for tag in each}),
        methods=[(PART_LABELS[part], list(room.values())) for part, room in METHOD_PARTS.items()],
    )


def _text(given: str) -> str:
    # PostgreSQL takes every character in a text but this one.
    return given.replace("\x00", "").strip()[:MOST_CHARACTERS]


def _named(word: str) -> Q:
    found = Q(name__icontains=word) | Q(experiment__name__icontains=word)
    return found | Q(pk=int(word)) if word.isascii() and word.isdigit() and len(word) < 19 else found


def _method(word: str) -> Q:
    """A part of the method that is of this kind, or whose label has this word."""
    wanted = word.casefold()
    found = Q(spec__optimizer__kind=wanted)
    for part, room in METHOD_PARTS.items():
        found |= Q(**{f"spec__{part}__kind__in": list(_kinds(room.values(), wanted))})
    return found


def _kinds(room: Collection[catalog.Entry], wanted: str) -> Iterable[str]:
    exact = [entry.kind for entry in room if entry.kind == wanted]
    return exact or [entry.kind for entry in room if wanted in entry.label.casefold()]


def _order(sort: str) -> list[OrderBy]:
    """Equal ones by age, so that pages do not overlap."""
    newest = [F("created_at").desc(), F("pk").desc()]
    match sort:
        case "name":
            return [Lower("name").asc(), *newest]
        case "metric":
            # Whoever has an accuracy is judged by it, the others by their loss on the test split.
            best, least = _measured("accuracy"), _measured("loss")
            return [OrderBy(best, descending=True, nulls_last=True), OrderBy(least, nulls_last=True), *newest]
        case "progress":
            return [F("fraction").desc(nulls_last=True), *newest]
        case _:
            return newest


def _measured(name: str) -> Case:
    """An evaluation's number. NULL: it was not evaluated, or came to no number."""
    value = KeyTransform(name, "metrics")
    kind = Func(value, function="jsonb_typeof", output_field=TextField())
    return Case(When(Exact(kind, Value("number")), then=value))


def _metric(run: Run) -> tuple[str, float | str] | None:
    for name in (experiments.main_metric(run), "loss"):
        if name in run.metrics:
            return name, run.metrics[name]
    return None
