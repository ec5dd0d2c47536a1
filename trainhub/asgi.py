"""What uvicorn serves: static files, Django's pages and the websockets."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "trainhub.settings")
# Each request under ASGI runs in a thread of its own, so a connection per thread would never be used twice.
os.environ.setdefault("TRAINHUB_DATABASE_POOL", "1")

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.core.asgi import get_asgi_application

pages = get_asgi_application()  # loads the apps, which the imports below need

from trainhub.body_limit import BodyLimit  # noqa: E402
from trainhub.live.routing import websocket_urlpatterns  # noqa: E402
from trainhub.static_files import StaticFiles  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": StaticFiles(BodyLimit(pages)),
        "websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(websocket_urlpatterns))),
    }
)
