"""People: accounts, groups and rights. Only superusers change them: whoever may edit users may make himself one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, Permission, User
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.urls import reverse

from trainhub.actions import people
from trainhub.actions.access import LINK_LIFETIME
from trainhub.admin import show
from trainhub.admin.base import Audited, person
from trainhub.admin.steps import Step, Stepping, Tone

if TYPE_CHECKING:
    from django.contrib.auth.forms import AdminPasswordChangeForm
    from django.contrib.auth.forms import UserChangeForm as _UserChangeForm

    UserChangeForm = _UserChangeForm[User]
else:
    from unfold.forms import AdminPasswordChangeForm, UserChangeForm

HOURS = int(LINK_LIFETIME.total_seconds() // 3600)


def link_of(request: HttpRequest, secret: object) -> str:
    return request.build_absolute_uri(reverse("sign-in-link", args=[secret]))


LINK = Step(
    name="sign-in-link",
    title="Make a sign-in link",
    question="Make one-time sign-in links for these people?",
    follows=(
        f"Whoever opens a link is signed in as that person, once, within {HOURS} hours. It is shown on the next page "
        "only: hand it over by a way you trust."
    ),
    done="Made a link for",
    do=people.make_sign_in_link,
    tells=link_of,
    fits=lambda user: user.is_active,
)
DEACTIVATE = Step(
    name="deactivate",
    title="Deactivate",
    question="Deactivate these accounts?",
    follows="Their sessions, tokens and links open nothing any more. Their runs go on, and nothing of theirs is lost.",
    done="Deactivated",
    do=people.deactivate,
    tone=Tone.DANGER,
    fits=lambda user: user.is_active,
)
REACTIVATE = Step(
    name="reactivate",
    title="Reactivate",
    question="Reactivate these accounts?",
    follows="They can sign in again, and their tokens that have not expired work again.",
    done="Reactivated",
    do=people.reactivate,
    fits=lambda user: not user.is_active,
)
LET_RUN_CODE = Step(
    name="let-run-code",
    title="Let run code",
    question="Let these people run code of their own?",
    follows="They may submit problems named by an import path: code of their choice, run on the nodes.",
    done="May run code now",
    do=people.let_run_code,
    fits=lambda user: not user.has_perm("trainhub.run_code"),
)
STOP_RUNNING_CODE = Step(
    name="stop-running-code",
    title="Stop running code",
    question="Take the right to run code back from these people?",
    follows="They may submit no more such problems. Runs that are there already go on.",
    done="May no longer run code",
    do=people.stop_running_code,
    fits=lambda user: user.is_active and not user.is_superuser and user.has_perm("trainhub.run_code"),
)
OPERATOR = Step(
    name="make-operator",
    title="Make operator",
    question="Make these people operators?",
    follows=f"They may enter the admin, look at everything but ways in, and drain nodes: the group {people.OPERATORS}.",
    done="Made operators",
    do=people.make_operator,
    fits=lambda user: user.is_active and not user.is_staff,
)


class AddForm(forms.ModelForm):  # type: ignore[type-arg]
    """A new account has no password: its way in is a one-time link."""

    class Meta:
        model = User
        fields = ("username", "first_name", "last_name", "email")

    def save(self, commit: bool = True) -> User:
        self.instance.set_unusable_password()
        made: User = super().save(commit)
        return made


class ChangeForm(UserChangeForm):
    def clean_is_superuser(self) -> bool:
        wanted = bool(self.cleaned_data["is_superuser"])
        others = User.objects.filter(is_superuser=True, is_active=True).exclude(pk=self.instance.pk)
        if not wanted and self.instance.is_superuser and not others.exists():
            raise forms.ValidationError("This is the last active superuser; make another one first.")
        return wanted


apps.get_app_config("auth").verbose_name = "People"  # Django's name for it fills the page's head
admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class UserAdmin(Stepping, Audited, DjangoUserAdmin):  # type: ignore[type-arg]
    form = ChangeForm
    add_form = AddForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "full_name", "kind", "state_word", "code", "last_seen")
    list_filter = ("is_active", "is_staff", "is_superuser", "groups")
    search_fields = ("username", "first_name", "last_name", "email")
    ordering = ("username",)
    filter_horizontal = ()
    list_per_page = 50
    steps = (LINK, DEACTIVATE, REACTIVATE, LET_RUN_CODE, STOP_RUNNING_CODE, OPERATOR)
    readonly_fields = ("state_word", "code", "last_seen", "joined")
    fieldsets = (
        (None, {"fields": ("username", "first_name", "last_name", "email", "password")}),
        ("Now", {"fields": ("state_word", "code", "last_seen", "joined")}),
        ("Rights", {"fields": ("is_staff", "is_superuser", "groups", "user_permissions")}),
    )
    add_fieldsets = ((None, {"fields": ("username", "first_name", "last_name", "email")}),)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).prefetch_related("user_permissions", "groups__permissions")

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return person(request).has_perm("auth.view_user")

    def about(self, row: User) -> str:
        return str(row)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        form.rights_before = people.rights_of(User.objects.get(pk=obj.pk)) if change else set()
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        saved = User.objects.get(pk=form.instance.pk)
        people.note_rights(saved, before=form.rights_before, by=person(request))

    def formfield_for_manytomany(self, db_field: Any, request: Any = None, **kwargs: Any) -> Any:
        if db_field.name == "user_permissions":
            kwargs["queryset"] = useful_permissions()
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    @admin.display(description="name", ordering="first_name")
    def full_name(self, user: User) -> str:
        return user.get_full_name() or show.NOTHING

    @admin.display(description="may")
    def kind(self, user: User) -> str:
        if user.is_superuser:
            return "do everything"
        return "enter the admin" if user.is_staff else "use projects"

    @admin.display(description="state", ordering="is_active")
    def state_word(self, user: User) -> Any:
        return show.state("active" if user.is_active else "deactivated")

    @admin.display(description="runs own code", boolean=True)
    def code(self, user: User) -> bool:
        held = [*user.user_permissions.all(), *(p for group in user.groups.all() for p in group.permissions.all())]
        return user.is_superuser or any(p.codename == people.RUN_CODE for p in held)

    @admin.display(description="last sign-in", ordering="last_login")
    def last_seen(self, user: User) -> Any:
        return show.age(user.last_login) if user.last_login else "never"

    @admin.display(description="joined")
    def joined(self, user: User) -> Any:
        return show.moment(user.date_joined)


@admin.register(Group)
class GroupAdmin(Audited, DjangoGroupAdmin):
    list_display = ("name", "rights")
    filter_horizontal = ()
    fields = ("name", "permissions")

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return person(request).has_perm("auth.view_group")

    def formfield_for_manytomany(self, db_field: Any, request: Any = None, **kwargs: Any) -> Any:
        if db_field.name == "permissions":
            kwargs["queryset"] = useful_permissions()
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    @admin.display(description="permissions")
    def rights(self, group: Group) -> str:
        return show.text(", ".join(p.codename for p in group.permissions.all()) or show.NOTHING)


def useful_permissions() -> QuerySet[Permission]:
    """Those that open something here: looking at rows, draining nodes, running code."""
    found = Permission.objects.select_related("content_type").filter(content_type__app_label__in=("trainhub", "auth"))
    shown = [model._meta.model_name for model in admin.site._registry]
    looks = found.filter(codename__startswith="view_", content_type__model__in=shown)
    return looks | found.filter(codename__in=(people.RUN_CODE, people.DRAIN_NODES))
