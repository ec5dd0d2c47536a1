"""What unfold needs to look like the rest: name, icon, and base.css's colours in its own scales."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static


def favicon(request: HttpRequest) -> str:
    return static("trainhub/favicon.svg")


def styles(request: HttpRequest) -> str:
    return static("trainhub/css/admin/admin.css")


def theme(request: HttpRequest) -> str:
    return static("trainhub/js/admin/theme.js")


def access(request: HttpRequest) -> str:
    return static("trainhub/js/admin/access.js")


UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "TrainHub",
    "SITE_HEADER": "TrainHub",
    "SITE_SUBHEADER": "Admin",
    "SITE_URL": "/",
    "SITE_ICON": favicon,
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": favicon}],
    "SHOW_HISTORY": False,  # the audit tells more, of every door
    "SHOW_VIEW_ON_SITE": False,
    "DASHBOARD_CALLBACK": "trainhub.admin.monitoring.dashboard",
    "STYLES": [styles],
    "SCRIPTS": [theme, access],
    "SIDEBAR": {"navigation": "trainhub.admin.navigation.sidebar"},
    "ACCOUNT": {"navigation": "trainhub.admin.navigation.account"},
    "BORDER_RADIUS": "6px",
    "COLORS": {
        "primary": {
            "50": "#f5f4fd",
            "100": "#ecebfb",
            "200": "#d9d6f8",
            "300": "#bdb8f5",
            "400": "#a8a2ff",
            "500": "#a8a2ff",  # dark pages take this one for text
            "600": "#4a42c4",
            "700": "#3e37a8",
            "800": "#2f2a80",
            "900": "#2a2850",
            "950": "#15132e",
        },
        "base": {
            "50": "#fafaf8",
            "100": "#f1f1ee",
            "200": "#e3e3df",
            "300": "#cdced0",
            "400": "#a0a7b0",
            "500": "#6b717a",
            "600": "#5d636c",
            "700": "#3a4047",
            "800": "#2c3137",
            "900": "#1a1d21",
            "950": "#131518",
        },
        "font": {
            "subtle-light": "#5d636c",
            "subtle-dark": "#a0a7b0",
            "default-light": "#34383e",
            "default-dark": "#d3d7dc",
            "important-light": "#1a1c20",
            "important-dark": "#eceef0",
        },
    },
}
