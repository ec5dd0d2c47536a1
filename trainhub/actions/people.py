"""What an admin does about people: let in, shut out, rights. Each with its audit entry."""

from __future__ import annotations

from collections.abc import Iterable

from django.contrib.auth.models import Group, Permission, User
from django.db import transaction

from trainhub.actions import access, audit
from trainhub.actions.errors import WrongState

OPERATORS = "Operators"
RUN_CODE = "run_code"
DRAIN_NODES = "change_node"
UNSEEN = ("signinlink", "token", "receipt")
"""Rows of people's ways in: looking after machines needs no look at them."""


@transaction.atomic
def make_sign_in_link(user: User, *, by: User) -> str:
    """The secret part of a link that signs this person in once. Raises WrongState for whoever is shut out."""
    if not user.is_active:
        raise WrongState(f"{user} is deactivated; reactivate the account first")
    secret = access.make_sign_in_link(user)
    audit.record(by, "make", "sign-in-link", f"Made a one-time sign-in link for {user}", subject_id=user.pk)
    return secret


@transaction.atomic
def deactivate(user: User, *, by: User) -> None:
    """Shut out: sessions, tokens and links open nothing any more. Runs go on. Raises WrongState."""
    locked = _lock(user)
    if not locked.is_active:
        raise WrongState(f"{user} is deactivated already")
    if locked.pk == by.pk:
        raise WrongState("you can't deactivate yourself; another admin can")
    _write(locked, is_active=False)
    audit.record(by, "deactivate", "user", f"Deactivated {user}", subject_id=user.pk)


@transaction.atomic
def reactivate(user: User, *, by: User) -> None:
    """Let in again. Raises WrongState."""
    locked = _lock(user)
    if locked.is_active:
        raise WrongState(f"{user} is active already")
    _write(locked, is_active=True)
    audit.record(by, "reactivate", "user", f"Reactivated {user}", subject_id=user.pk)


@transaction.atomic
def let_run_code(user: User, *, by: User) -> None:
    """Give the right to name code by its import path, which then runs on the nodes. Raises WrongState."""
    if user.has_perm(f"trainhub.{RUN_CODE}"):
        raise WrongState(f"{user} may run code already")
    user.user_permissions.add(_permission(RUN_CODE))
    audit.record(by, "let-run-code", "user", f"Let {user} run code on the nodes", subject_id=user.pk)


@transaction.atomic
def stop_running_code(user: User, *, by: User) -> None:
    """Take that right back. Raises WrongState where it is not the person's own."""
    if not user.user_permissions.filter(pk=_permission(RUN_CODE).pk).exists():
        held = user.has_perm(f"trainhub.{RUN_CODE}")
        raise WrongState(f"{user} has the right from a group or as superuser" if held else f"{user} may not run code")
    user.user_permissions.remove(_permission(RUN_CODE))
    audit.record(by, "stop-running-code", "user", f"{user} may no longer run code on the nodes", subject_id=user.pk)


@transaction.atomic
def make_operator(user: User, *, by: User) -> None:
    """Let into the admin to look at everything and drain nodes, and no more. Raises WrongState."""
    locked = _lock(user)
    group = operators()
    if locked.is_superuser or (locked.is_staff and locked.groups.filter(pk=group.pk).exists()):
        raise WrongState(f"{user} may do that already")
    _write(locked, is_staff=True)
    locked.groups.add(group)
    audit.record(by, "make-operator", "user", f"Made {user} an operator", subject_id=user.pk)


def operators() -> Group:
    """The group of those who look after machines; made, with its rights, where it is missing."""
    group, made = Group.objects.get_or_create(name=OPERATORS)
    if made:
        ours = Permission.objects.filter(content_type__app_label="trainhub")
        looks = ours.filter(codename__startswith="view_").exclude(content_type__model__in=UNSEEN)
        group.permissions.set([*looks, _permission(DRAIN_NODES)])
    return group


def changed(by: User, subject: str, subject_id: int | None, message: str) -> None:
    """An audit entry for what an admin's form wrote, in the transaction of the form."""
    audit.record(by, "edit", subject, message, subject_id=subject_id)


def rights_of(user: User) -> set[str]:
    """What a person may do besides what projects give, in words."""
    held = {f"permission {p.codename}" for p in user.user_permissions.all()}
    held |= {f"group {group.name}" for group in user.groups.all()}
    flags = {"superuser": user.is_superuser, "staff": user.is_staff}
    return held | {name for name, on in flags.items() if on}


def note_rights(user: User, *, before: Iterable[str], by: User) -> None:
    """Tell the audit which rights a form gave and took."""
    old, new = set(before), rights_of(user)
    told = [f"gave {right}" for right in sorted(new - old)] + [f"took {right}" for right in sorted(old - new)]
    if told:
        audit.record(by, "rights", "user", f"Rights of {user}: {', '.join(told)}", subject_id=user.pk)


def _lock(user: User) -> User:
    return User.objects.select_for_update().get(pk=user.pk)


def _write(user: User, **values: bool) -> None:
    for name, value in values.items():
        setattr(user, name, value)
    user.save(update_fields=list(values))


def _permission(codename: str) -> Permission:
    return Permission.objects.get(content_type__app_label="trainhub", codename=codename)
