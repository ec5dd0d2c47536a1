"""Who may see and change what. A stranger gets the same answer as for a run that does not exist."""

from __future__ import annotations

from collections.abc import Iterable

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import Http404
from django.shortcuts import get_object_or_404

from trainhub.models import Experiment, Membership, Role, Run

Visitor = AbstractBaseUser | AnonymousUser

CHANGERS = [Role.MEMBER, Role.ADMIN]


def visible_runs(user: Visitor) -> QuerySet[Run]:
    """Runs the user owns or shares a project with; all of them for an administrator."""
    runs = Run.objects.select_related("experiment__project", "experiment__owner")
    if not isinstance(user, User) or not user.is_active:
        return runs.none()
    if user.is_superuser:
        return runs
    shared = Membership.objects.filter(user=user).values("project")
    return runs.filter(Q(experiment__owner=user) | Q(experiment__project__in=shared))


def experiment_to_see(user: Visitor, experiment_id: int) -> Experiment:
    """Raises Http404 for whoever may not see its runs."""
    experiments = Experiment.objects.select_related("project", "owner")
    if not isinstance(user, User) or not user.is_active:
        raise Http404
    if not user.is_superuser:
        shared = Membership.objects.filter(user=user).values("project")
        experiments = experiments.filter(Q(owner=user) | Q(project__in=shared))
    return get_object_or_404(experiments, pk=experiment_id)


def run_to_see(user: Visitor, run_id: int) -> Run:
    """Raises Http404 for whoever may not see it."""
    return get_object_or_404(visible_runs(user), pk=run_id)


def run_for_change(user: Visitor, run_id: int) -> Run:
    """Raises Http404 for whoever may not see it, PermissionDenied for whoever may only look."""
    run = run_to_see(user, run_id)
    if not may_change(user, run):
        raise PermissionDenied("You may look at this run, but not change it.")
    return run


def may_change(user: Visitor, run: Run) -> bool:
    if not isinstance(user, User) or not user.is_active:
        return False
    if user.is_superuser or run.experiment.owner_id == user.pk:
        return True
    members = Membership.objects.filter(user=user, project=run.experiment.project_id, role__in=CHANGERS)
    return members.exists()


def who_may_see(run_id: int, user_ids: Iterable[int]) -> set[int]:
    """Those of the users who may still see the run, in one query for all of its open pages."""
    people = User.objects.filter(pk__in=list(user_ids), is_active=True)
    owned = Q(experiments__runs=run_id)
    shared = Q(memberships__project__experiments__runs=run_id)
    return set(people.filter(Q(is_superuser=True) | owned | shared).values_list("pk", flat=True))
