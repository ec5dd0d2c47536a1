"""Steps: what an admin does to rows, one at a time or many at once, after a page that says what will happen.

The page is a rehearsal: each row's step is taken and rolled back, so that it says what the action itself would say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.cache import add_never_cache_headers

from trainhub.actions.errors import ActionError
from trainhub.admin.base import ModelAdmin, person

MOST = 200
"""Rows one step is taken on at once: each is rehearsed, then done, in a transaction of its own."""


class Tone(Enum):
    """How a step's button looks. The values are unfold's names."""

    PLAIN = "default"
    DANGER = "danger"


@dataclass(frozen=True)
class Step:
    """Something to do to a row. `do` is an action: it raises ActionError for a row it can't be done to."""

    name: str
    title: str
    question: str
    follows: str
    """What will happen, in words, before it does."""
    done: str
    do: Callable[..., object]
    """Called with the row, the form's values, and `by=`."""
    permission: str = ""
    """Who may besides superusers. Empty: nobody."""
    tone: Tone = Tone.PLAIN
    fits: Callable[[Any], bool] = lambda row: True
    """Whether a row's page offers it."""
    form: type[forms.Form] | None = None
    tells: Callable[[HttpRequest, object], str] | None = None
    """What to show of the action's result, once. None: nothing."""

    def allows(self, user: User) -> bool:
        return user.is_superuser or bool(self.permission and user.has_perm(self.permission))


@dataclass(frozen=True)
class Line:
    """A row of the confirmation page, and why the step can't be taken on it. Empty: it can."""

    row: Model
    about: str
    refusal: str = ""


class Rehearsed(Exception):
    """It would have worked."""


def refusal(step: Step, row: Model, by: User, values: dict[str, Any]) -> str:
    """Why this row can't take the step. Empty: it can. Nothing stays written."""
    try:
        with transaction.atomic():
            step.do(row, by=by, **values)
            raise Rehearsed
    except Rehearsed:
        return ""
    except ActionError as error:
        return error.message


class Stepping(ModelAdmin):
    """A list and pages with steps, each behind a confirmation."""

    steps: tuple[Step, ...] = ()

    def about(self, row: Any) -> str:
        """What tells a row from others on the confirmation page."""
        return str(row)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        if "_popup" in request.GET:
            return {}
        return {s.name: (partial(take_on, step=s), s.name, s.title) for s in self.steps if s.allows(person(request))}

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_step"
        one = path("<path:object_id>/step/<slug:step_name>/", self.admin_site.admin_view(self.step_one), name=name)
        return [one, *super().get_urls()]

    def step_one(self, request: HttpRequest, object_id: str, step_name: str) -> HttpResponseBase:
        """One row's step: asked about by GET, taken by a POST that is confirmed."""
        step = next((s for s in self.steps if s.name == step_name), None)
        row = self.get_object(request, object_id)
        if step is None or row is None:
            raise Http404
        if not step.allows(person(request)):
            raise PermissionDenied
        chosen = self.get_queryset(request).filter(pk=row.pk)
        return confirm(self, request, chosen, step) or redirect(self._address(row))

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        row = kwargs.get("obj")
        if row is not None:
            context["actions_detail"] = self._buttons(request, row)
        return super().render_change_form(request, context, *args, **kwargs)

    def _buttons(self, request: HttpRequest, row: Model) -> list[dict[str, Any]]:
        """The steps as unfold's header shows them."""
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_step"
        offered = [s for s in self.steps if s.allows(person(request)) and s.fits(row)]
        return [
            {"title": s.title, "path": reverse(name, args=[row.pk, s.name]), "variant": s.tone.value, "attrs": {}}
            for s in offered
        ]

    def _address(self, row: Model) -> str:
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_change", args=[row.pk])


def take_on(admin: Stepping, request: HttpRequest, chosen: QuerySet[Any], *, step: Step) -> HttpResponseBase | None:
    """A step on what is chosen in the list. None: back to the list."""
    return confirm(admin, request, chosen, step)


def confirm(admin: Stepping, request: HttpRequest, chosen: QuerySet[Any], step: Step) -> HttpResponseBase | None:
    """Ask, or after the confirmation do. None: it is done, and there is nothing to show."""
    rows = list(chosen[: MOST + 1])
    if not rows or len(rows) > MOST:
        what = f"Choose at most {MOST} at once." if rows else "None of the chosen ones is here any more."
        messages.warning(request, f"{what} Nothing was changed.")
        return None
    sent = request.POST if request.POST.get("confirmed") else None
    form = step.form(sent) if step.form else None
    confirmed = request.method == "POST" and sent is not None
    if confirmed and (form is None or form.is_valid()):
        return _do(admin, request, rows, step, form.cleaned_data if form else {})
    return _ask(admin, request, rows, step, form)


def _ask(
    admin: Stepping, request: HttpRequest, rows: list[Any], step: Step, form: forms.Form | None
) -> HttpResponseBase:
    values = {name: field.initial for name, field in form.fields.items()} if form else {}
    lines = [Line(row, admin.about(row), refusal(step, row, person(request), values)) for row in rows]
    context = {
        "able": [line for line in lines if not line.refusal],
        "unable": [line for line in lines if line.refusal],
        "form": form,
    }
    return _page(admin, request, step, "admin/trainhub/confirm.html", context)


def _do(
    admin: Stepping, request: HttpRequest, rows: list[Any], step: Step, values: dict[str, Any]
) -> HttpResponseBase | None:
    by, done, told = person(request), [], []
    for row in rows:
        try:
            result = step.do(row, by=by, **values)
        except ActionError as error:
            messages.warning(request, f"{admin.about(row)}: {error.message}.")
            continue
        done.append(admin.about(row))
        if step.tells:
            told.append((admin.about(row), step.tells(request, result)))
    if done:
        messages.success(request, f"{step.done}: {'; '.join(done)}.")
    if not told:
        return None
    answer = _page(admin, request, step, "admin/trainhub/told.html", {"told": told})
    add_never_cache_headers(answer)
    return answer


def _page(
    admin: Stepping, request: HttpRequest, step: Step, template: str, context: dict[str, Any]
) -> TemplateResponse:
    shared = {
        **admin.admin_site.each_context(request),
        "opts": admin.opts,
        "title": step.title,
        "step": step,
        "danger": step.tone is Tone.DANGER,
        "checkbox": ACTION_CHECKBOX_NAME,
        "back": _back(request),
    }
    return TemplateResponse(request, template, shared | context)


def _back(request: HttpRequest) -> str:
    """Where the question came from: the row's page, or the list as it was narrowed down."""
    row_page, step, _ = request.path.partition("/step/")
    return f"{row_page}/change/" if step else request.get_full_path()
