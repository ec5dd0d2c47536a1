"""Addresses of the websockets."""

from __future__ import annotations

from typing import Any

from django.urls import path

from trainhub.live.socket import run_socket

socket: Any = run_socket  # Django's stubs know views only; Channels routes ASGI applications the same way

websocket_urlpatterns = [path("live/runs/<int:run_id>/", socket, name="live-run")]
