"""Ways in: tokens and sign-in links. Secrets are not kept, and their digests are not shown."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.utils import timezone
from django.utils.safestring import SafeString

from trainhub.actions import tokens
from trainhub.admin import show
from trainhub.admin.base import Looking
from trainhub.admin.steps import Step, Stepping, Tone
from trainhub.models import SignInLink, Token


def is_valid(token: Token) -> bool:
    return token.revoked_at is None and token.expires_at > timezone.now()


REVOKE = Step(
    name="revoke",
    title="Revoke",
    question="Revoke these tokens?",
    follows="They open nothing any more, at once and for good. Programs that use them are answered 401.",
    done="Revoked",
    do=tokens.revoke,
    tone=Tone.DANGER,
    fits=is_valid,
)


@admin.register(Token)
class TokenAdmin(Stepping, Looking):
    list_display = ("name", "user", "begins", "may", "state_word", "expires", "last_used", "made")
    list_filter = (("user", admin.RelatedOnlyFieldListFilter),)
    list_select_related = ("user",)
    search_fields = ("name", "user__username", "hint")
    ordering = ("-created_at",)
    steps = (REVOKE,)
    fields = ("name", "user", "begins", "may", "state_word", "made", "expires", "last_used", "revoked")
    readonly_fields = fields

    def about(self, row: Token) -> str:
        return f"{row.name} of {row.user} ({row.hint}…, {word_of(row)})"

    @admin.display(description="begins with")
    def begins(self, token: Token) -> str:
        return f"{token.hint}…" if token.hint else show.NOTHING

    @admin.display(description="may")
    def may(self, token: Token) -> str:
        return " and ".join(token.scopes) or "nothing"

    @admin.display(description="state")
    def state_word(self, token: Token) -> SafeString:
        return show.state(word_of(token))

    @admin.display(description="expires", ordering="expires_at")
    def expires(self, token: Token) -> Any:
        return show.age(token.expires_at)

    @admin.display(description="last use", ordering="last_used_at")
    def last_used(self, token: Token) -> Any:
        return show.age(token.last_used_at) if token.last_used_at else "never"

    @admin.display(description="made", ordering="created_at")
    def made(self, token: Token) -> Any:
        return show.age(token.created_at)

    @admin.display(description="revoked")
    def revoked(self, token: Token) -> Any:
        return show.moment(token.revoked_at)


def word_of(token: Token) -> str:
    if token.revoked_at is not None:
        return "revoked"
    return "valid" if token.expires_at > timezone.now() else "expired"


@admin.register(SignInLink)
class SignInLinkAdmin(Looking):
    list_display = ("user", "state_word", "made", "expires", "used")
    list_filter = (("user", admin.RelatedOnlyFieldListFilter),)
    list_select_related = ("user",)
    search_fields = ("user__username",)
    ordering = ("-created_at",)
    fields = ("user", "state_word", "made", "expires", "used")
    readonly_fields = fields

    @admin.display(description="state")
    def state_word(self, link: SignInLink) -> SafeString:
        if link.used_at is not None:
            return show.state("used")
        return show.state("valid" if link.expires_at > timezone.now() else "expired")

    @admin.display(description="made", ordering="created_at")
    def made(self, link: SignInLink) -> Any:
        return show.age(link.created_at)

    @admin.display(description="expires", ordering="expires_at")
    def expires(self, link: SignInLink) -> Any:
        return show.age(link.expires_at)

    @admin.display(description="used", ordering="used_at")
    def used(self, link: SignInLink) -> Any:
        return show.age(link.used_at) if link.used_at else "not yet"
