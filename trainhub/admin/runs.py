"""Runs, and the queue: those of them that wait, in the order in which they are admitted."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString

from trainhub import words
from trainhub.actions import runs
from trainhub.admin import show
from trainhub.admin.base import Looking, flat
from trainhub.admin.steps import Step, Stepping, Tone
from trainhub.models import Attempt, Event, Member, Run, RunState
from workers.spec.brief import as_yaml
from workers.spec_errors import SpecError

EVENTS_SHOWN = 40
MEMBERS_SHOWN = 200
WAITING = (RunState.QUEUED, RunState.PAUSED)
UNDER_WAY = (RunState.STARTING, RunState.RUNNING)


class PriorityForm(forms.Form):
    """A place in the queue; the same range as in a spec."""

    priority = forms.IntegerField(
        min_value=-100, max_value=100, initial=0, help_text="−100 to 100. The highest number is admitted first."
    )


def set_priority(run: Run, *, by: User, priority: int) -> None:
    runs.set_priority(run, priority, by=by)


CANCEL = Step(
    name="cancel",
    title="Cancel",
    question="Cancel these runs?",
    follows=(
        "Each stops in order: its server writes a last checkpoint and its slots are given back. What has not stopped "
        f"after {runs.STOP_SECONDS} s is killed. A run that waits or is paused is cancelled at once."
    ),
    done="Cancelled, or asked to stop",
    do=runs.ask_to_cancel,
    fits=lambda run: not run.has_ended,
)
KILL = Step(
    name="kill",
    title="Kill",
    question="Kill these runs?",
    follows="Every process of them ends at once. What was learned after the last checkpoint is lost.",
    done="Killed, or asked to be",
    do=runs.ask_to_kill,
    tone=Tone.DANGER,
    fits=lambda run: run.state in UNDER_WAY,
)
REQUEUE = Step(
    name="requeue",
    title="Queue again",
    question="Queue these runs again?",
    follows="Each waits for slots as if it were new, and goes on from its newest checkpoint where it has one.",
    done="Queued again",
    do=runs.ask_to_requeue,
    fits=lambda run: run.state in (RunState.FAILED, RunState.CANCELLED),
)
PAUSE = Step(
    name="pause",
    title="Pause",
    question="Pause these runs?",
    follows="Each writes a checkpoint and gives its slots back, and goes on from there when it is resumed.",
    done="Paused, or asked to",
    do=runs.ask_to_pause,
    fits=lambda run: run.state == RunState.QUEUED or (run.state in UNDER_WAY and not run.is_simulated),
)
RESUME = Step(
    name="resume",
    title="Resume",
    question="Resume these runs?",
    follows="Each waits for slots again and goes on from its newest checkpoint.",
    done="Resumed",
    do=runs.resume,
    fits=lambda run: run.state == RunState.PAUSED,
)
PRIORITY = Step(
    name="priority",
    title="Change priority",
    question="Change the priority of these runs?",
    follows="The run with the highest priority is admitted first; among equals, the one that has waited longest.",
    done="Priority set",
    do=set_priority,
    fits=lambda run: run.state == RunState.QUEUED,
    form=PriorityForm,
)


class SimulatedFilter(admin.SimpleListFilter):
    """Runs under a virtual clock, or those of real trainers."""

    title = "how it runs"
    parameter_name = "simulated"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("no", "really trained"), ("yes", "simulated")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "yes":
                return queryset.filter(spec__execution__kind="simulate")
            case "no":
                return queryset.exclude(spec__execution__kind="simulate")
            case _:
                return queryset


@admin.register(Run)
class RunAdmin(Stepping, Looking):
    list_display: tuple[str, ...] = (
        "title",
        "state_word",
        "progress",
        "wish_word",
        "project",
        "owner",
        "attempt",
        "waits",
        "age",
    )
    list_filter: ClassVar[tuple[Any, ...]] = (
        "state",
        ("experiment__project", admin.RelatedOnlyFieldListFilter),
        ("experiment__owner", admin.RelatedOnlyFieldListFilter),
        SimulatedFilter,
    )
    list_select_related = ("experiment__project", "experiment__owner")
    search_fields = ("=id", "name", "experiment__name", "experiment__project__name", "experiment__owner__username")
    search_help_text = "number or name of the run, experiment, project, owner"
    ordering: ClassVar[tuple[str, ...]] = ("-created_at", "-id")
    steps: tuple[Step, ...] = (CANCEL, KILL, REQUEUE, PAUSE, RESUME, PRIORITY)
    change_form_outer_after_template = "admin/trainhub/run_parts.html"
    fieldsets = (
        (None, {"fields": (("state_word", "progress", "page"), ("wish_word", "waits", "failure"))}),
        (
            "What it is",
            {"fields": (("experiment_link", "project_link", "owner_link"), ("problem", "method", "budget"))},
        ),
        (
            "Its place",
            {"fields": (("priority", "slots_wanted", "server_member"), ("attempt", "epoch", "restarts"))},
        ),
        ("Training", {"fields": (("version", "gradients", "refused"), "newest_metrics")}),
        ("Times", {"fields": (("created", "queued", "started"), ("began", "ended"))}),
    )
    readonly_fields = flat(fieldsets)

    def about(self, row: Run) -> str:
        return f"run {row.pk} {row.name} ({row.state}, {row.experiment.owner} in {row.experiment.project})"

    @admin.display(description="run", ordering="name")
    def title(self, run: Run) -> SafeString:
        return format_html('<span class="th-number">{}</span> {}', run.pk, show.text(run.name, 60))

    @admin.display(description="state", ordering="state")
    def state_word(self, run: Run) -> SafeString:
        return show.state(run.state)

    @admin.display(ordering="fraction")
    def progress(self, run: Run) -> SafeString | str:
        return show.share(run.fraction, f"progress of run {run.pk}")

    @admin.display(description="wish", ordering="wish")
    def wish_word(self, run: Run) -> SafeString | str:
        return show.state("wished", run.wish) if run.wish else show.NOTHING

    @admin.display(ordering="experiment__project__name")
    def project(self, run: Run) -> str:
        return run.experiment.project.name

    @admin.display(ordering="experiment__owner__username")
    def owner(self, run: Run) -> str:
        return run.experiment.owner.get_username()

    @admin.display(description="why it waits")
    def waits(self, run: Run) -> str:
        return run.waiting_reason or show.NOTHING

    @admin.display(ordering="created_at")
    def age(self, run: Run) -> SafeString | str:
        return show.age_alone(run.created_at)

    @admin.display(description="why it failed")
    def failure(self, run: Run) -> SafeString | str:
        if not run.cause:
            return show.NOTHING
        return format_html(
            "{}{}", show.state("failed", words.cause(run.cause)), show.block(run.detail) if run.detail else ""
        )

    @admin.display(description="live page")
    def page(self, run: Run) -> SafeString:
        return show.out(run, f"run {run.pk}: charts, log, checkpoints")

    @admin.display(description="experiment")
    def experiment_link(self, run: Run) -> SafeString | str:
        return show.link(run.experiment)

    @admin.display(description="project")
    def project_link(self, run: Run) -> SafeString | str:
        return show.link(run.experiment.project)

    @admin.display(description="owner")
    def owner_link(self, run: Run) -> SafeString | str:
        return show.link(run.experiment.owner)

    def method(self, run: Run) -> str:
        return words.method(run.spec)

    def problem(self, run: Run) -> str:
        return f"{words.problem(run.spec)}, {words.trainers(run.spec)}"

    def budget(self, run: Run) -> str:
        return words.budget(run.spec) or show.NOTHING

    @admin.display(description="slots")
    def slots_wanted(self, run: Run) -> str:
        return f"{run.least_slots} to be admitted, {run.most_slots} at most"

    @admin.display(description="server")
    def server_member(self, run: Run) -> SafeString | str:
        return show.link(run.server)

    @admin.display(description="newest evaluation")
    def newest_metrics(self, run: Run) -> str:
        return ", ".join(f"{name} {words.label(value)}" for name, value in run.metrics.items()) or show.NOTHING

    def created(self, run: Run) -> SafeString | str:
        return show.moment(run.created_at)

    def queued(self, run: Run) -> SafeString | str:
        return show.moment(run.queued_at)

    @admin.display(description="got its slots")
    def started(self, run: Run) -> SafeString | str:
        return show.moment(run.started_at)

    @admin.display(description="began to train")
    def began(self, run: Run) -> SafeString | str:
        return show.moment(run.training_at)

    def ended(self, run: Run) -> SafeString | str:
        return show.moment(run.ended_at)

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        run = kwargs.get("obj")
        if run is not None:
            context |= parts_of(run)
        return super().render_change_form(request, context, *args, **kwargs)


def parts_of(run: Run) -> dict[str, Any]:
    """What belongs to a run and is shown below it."""
    members = Member.objects.filter(attempt__run=run).select_related("slot__node", "attempt")
    return {
        "attempts": Attempt.objects.filter(run=run).order_by("-number")[:EVENTS_SHOWN],
        "members": members.order_by("-attempt__number", "rank")[:MEMBERS_SHOWN],
        "events": Event.objects.filter(run=run).select_related("member").order_by("-pk")[:EVENTS_SHOWN],
        "spec_yaml": spec_as_yaml(run),
    }


def spec_as_yaml(run: Run) -> str:
    try:
        return as_yaml(run.run_spec)
    except SpecError as error:  # written by a version whose schema was another
        return f"# This version can't read it: {error}"


class QueueAdmin(RunAdmin):
    """The queue, on a page of its own: a second view of runs, not a second kind of row."""

    list_display = ("place", "title", "priority", "waits", "waited", "slots_wanted", "project", "owner")
    list_filter = (
        ("experiment__project", admin.RelatedOnlyFieldListFilter),
        ("experiment__owner", admin.RelatedOnlyFieldListFilter),
    )
    list_display_links = ("title",)
    ordering = ("-priority", "queued_at", "id")
    sortable_by = ()
    list_before_template = "admin/trainhub/queue_head.html"
    steps = (PRIORITY, PAUSE, CANCEL)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Run]:
        return super().get_queryset(request).filter(state=RunState.QUEUED)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        if not self.has_view_permission(request):
            raise PermissionDenied
        return super().changelist_view(request, {"title": "Queue", "subtitle": None} | (extra_context or {}))

    @admin.display(description="place")
    def place(self, run: Run) -> int:
        """Among all that wait, whatever the list is narrowed to."""
        return self._places.get(run.pk, 0)  # admitted between the two queries: no place any more

    @cached_property
    def _places(self) -> dict[int, int]:
        """Run → its place, from 1. Of this request: each has an instance of its own."""
        waiting = Run.objects.filter(state=RunState.QUEUED).order_by(*self.ordering)
        return {run: place for place, run in enumerate(waiting.values_list("pk", flat=True), start=1)}

    @admin.display(description="has waited")
    def waited(self, run: Run) -> SafeString | str:
        return show.age_alone(run.queued_at)


def queue(request: HttpRequest) -> HttpResponseBase:
    """The page of the queue."""
    answer: HttpResponseBase = QueueAdmin(Run, admin.site).changelist_view(request)
    return answer
