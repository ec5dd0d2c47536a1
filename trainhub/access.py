"""Who may see and change what. A stranger gets the same answer as for a run that does not exist."""

from __future__ import annotations

from collections.abc import Iterable

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.shortcuts import get_object_or_404

from trainhub.models import Dataset, Experiment, Membership, Project, Role, Run

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


def visible_experiments(user: Visitor) -> QuerySet[Experiment]:
    """Those whose runs the user may see."""
    experiments = Experiment.objects.select_related("project", "owner")
    if not isinstance(user, User) or not user.is_active:
        return experiments.none()
    if user.is_superuser:
        return experiments
    shared = Membership.objects.filter(user=user).values("project")
    return experiments.filter(Q(owner=user) | Q(project__in=shared))


def experiment_to_see(user: Visitor, experiment_id: int) -> Experiment:
    """Raises Http404 for whoever may not see its runs."""
    return get_object_or_404(visible_experiments(user), pk=experiment_id)


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


def projects_of(user: Visitor, *, to_change: bool = False) -> QuerySet[Project]:
    """Projects the user may look into, or submit to and upload to."""
    if not isinstance(user, User) or not user.is_active:
        return Project.objects.none()
    if user.is_superuser:
        return Project.objects.order_by("name")
    mine = Membership.objects.filter(user=user)
    if to_change:
        mine = mine.filter(role__in=CHANGERS)
    return Project.objects.filter(pk__in=mine.values("project")).order_by("name")


def project_for_change(user: Visitor, name: str | None) -> Project:
    """The project of that name, or without a name the only one or the oldest that the user may change.

    Raises Http404 for one the user may not see, PermissionDenied where the user may only look.
    """
    changeable = projects_of(user, to_change=True)
    if name is None:
        first = changeable.order_by("created_at", "pk").first()
        if first is None:
            raise PermissionDenied("You are no member of any project; ask an admin to make you one.")
        return first
    project = get_object_or_404(projects_of(user), name=name)
    if not changeable.filter(pk=project.pk).exists():
        raise PermissionDenied(f"You may look at project {name}, but not change it.")
    return project


def visible_datasets(user: Visitor) -> QuerySet[Dataset]:
    """Data sets of the projects that the user may look into."""
    return Dataset.objects.select_related("project", "owner").filter(project__in=projects_of(user))


def dataset_to_see(user: Visitor, dataset_id: int) -> Dataset:
    """Raises Http404 for whoever may not see it."""
    return get_object_or_404(visible_datasets(user), pk=dataset_id)


def dataset_for_change(user: Visitor, dataset_id: int) -> Dataset:
    """Raises Http404 for whoever may not see it, PermissionDenied for whoever may only look."""
    dataset = dataset_to_see(user, dataset_id)
    if not projects_of(user, to_change=True).filter(pk=dataset.project_id).exists():
        raise PermissionDenied("You may look at this data set, but not change it.")
    return dataset


def may_run_code(user: Visitor) -> bool:
    """Whether the user may name code by its import path, which then runs on the nodes."""
    return isinstance(user, User) and user.has_perm("trainhub.run_code")


def is_operator(user: Visitor) -> bool:
    """Whether the user keeps the installation: drains nodes, sees who runs what on them. The same as in the admin."""
    return isinstance(user, User) and user.is_active and user.is_staff and user.has_perm("trainhub.change_node")
