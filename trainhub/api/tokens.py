"""Bearer tokens of one's own: made, listed, revoked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Query, Router
from ninja.responses import Status
from pydantic import Field, WithJsonSchema

from trainhub import summary
from trainhub.actions import tokens
from trainhub.actions.errors import WrongToken
from trainhub.api.auth import asker, token_of
from trainhub.api.pages import Asked, Page, page
from trainhub.api.shapes import Given, Moment, Shape, Text
from trainhub.models import Token

router = Router(tags=["Tokens"])


Scope = Annotated[str, WithJsonSchema({"type": "string", "enum": list(tokens.SCOPES)})]


class TokenGiven(Given):
    name: Text = Field(json_schema_extra={"minLength": 1, "maxLength": 80})
    """For you to tell your tokens apart."""
    scopes: list[Scope] = list(tokens.SCOPES)
    """`read`, or `read` and `write`."""
    days: int = Field(default=90, ge=1, le=tokens.MOST_DAYS)
    """After so many it expires."""


class TokenShape(Shape):
    id: int
    name: str
    hint: str
    """How the secret begins."""
    scopes: list[str]
    created_at: Moment | None
    expires_at: Moment | None
    last_used_at: Moment | None


class NewToken(TokenShape):
    secret: str
    """What to send as the bearer token. It is told this once."""


@router.get("/tokens", response=Page[TokenShape], operation_id="list_tokens", summary="List your tokens")
def list_tokens(request: HttpRequest, asked: Query[Asked]) -> dict[str, Any]:
    """Those that are not revoked; expired ones too."""
    return page(mine(request), asked, lines)


@router.post("/tokens", response={201: NewToken}, operation_id="make_token", summary="Make a token")
def make(request: HttpRequest, body: TokenGiven) -> Status[dict[str, Any]]:
    """The secret is in this answer and nowhere else: only its digest is kept. What a token makes ends no later than
    it does itself."""
    if "read" not in body.scopes:
        raise WrongToken("scopes", "must have read in it")
    token, secret = tokens.make(
        asker(request), name=body.name, scopes=body.scopes, days=body.days, by=token_of(request)
    )
    return Status(201, lines([token])[0] | {"secret": secret})


@router.delete("/tokens/{int:token_id}", response={204: None}, operation_id="revoke_token", summary="Revoke a token")
def revoke(request: HttpRequest, token_id: int) -> Status[None]:
    """From now on it opens nothing."""
    tokens.revoke(get_object_or_404(mine(request), pk=token_id), by=asker(request))
    return Status(204, None)


def mine(request: HttpRequest) -> Any:
    return Token.objects.filter(user=asker(request), revoked_at=None)


def lines(found: Sequence[Token]) -> list[dict[str, Any]]:
    return [_line(token) for token in found]


def _line(token: Token) -> dict[str, Any]:
    return {
        "id": token.pk,
        "name": token.name,
        "hint": token.hint,
        "scopes": token.scopes,
        "created_at": summary.moment(token.created_at),
        "expires_at": summary.moment(token.expires_at),
        "last_used_at": summary.moment(token.last_used_at),
    }
