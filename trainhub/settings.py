"""Django's settings. Everything a person may set is an environment variable, listed in the README."""

import importlib.util
import os
import secrets
from pathlib import Path

from trainhub import look, places
from trainhub.services import FILE_NAME, KEEPALIVE_OPTIONS, Services

BASE_DIR = Path(__file__).resolve().parent.parent


def _list(name: str) -> list[str]:
    return [item.strip() for item in os.environ.get(name, "").split(",") if item.strip()]


def _flag(name: str) -> bool:
    return os.environ.get(name, "").lower() in {"1", "true", "yes", "on"}


def _secret_key() -> str:
    """From the environment or the file that `manage.py up` made; else one that dies with this process."""
    if given := os.environ.get("TRAINHUB_SECRET_KEY"):
        return given
    try:
        return Path(os.environ.get("TRAINHUB_SECRET_KEY_FILE") or SECRET_KEY_FILE).read_text().strip()
    except FileNotFoundError:
        return secrets.token_urlsafe(48)


# Places on this machine.
HOME = places.home(os.environ, BASE_DIR)
HOME_MARK = places.mark(HOME)
RUNTIME_DIR = places.runtime_dir(os.environ, HOME)
SECRET_KEY_FILE = HOME / "secret_key"
SERVICES_FILE = Path(os.environ.get("TRAINHUB_SERVICES_FILE") or RUNTIME_DIR / FILE_NAME)
SHM_PREFIX = f"trainhub-{HOME_MARK}-"
NODE_NAME = places.node_name(os.environ)
CPU_SLOTS = places.cpu_slots(os.environ)
GPUS = places.gpus(os.environ)
TRAINERS_PER_GPU = places.trainers_per_gpu(os.environ)

SECRET_KEY = _secret_key()
DEBUG = _flag("TRAINHUB_DEBUG")
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
USE_I18N = False
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "trainhub",
    "unfold",  # before the admin, whose templates and scripts it replaces
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.admin",
    "channels",
    "django_htmx",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "trainhub.security.ContentSecurityPolicy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]
ROOT_URLCONF = "trainhub.urls"
ASGI_APPLICATION = "trainhub.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]
FORM_RENDERER = "django.forms.renderers.TemplatesSetting"
INSTALLED_APPS += ["django.forms"]  # whose templates that renderer finds
UNFOLD = look.UNFOLD

# PostgreSQL holds the truth; Redis carries hints and doorbells.
_services = Services.find(os.environ, SERVICES_FILE)
DATABASES = _services.databases(pool=_flag("TRAINHUB_DATABASE_POOL"))
CHANNEL_LAYERS = _services.channel_layers()
CELERY_BROKER_URL = _services.broker_url()

CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_RESULT_BACKEND = None
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = False  # a late ack of an hour-long task is delivered again after the visibility timeout
CELERY_TASK_DEFAULT_QUEUE = f"node.{NODE_NAME}"
CELERY_WORKER_POOL = "threads"
CELERY_WORKER_CONCURRENCY = CPU_SLOTS
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False  # control goes by wishes in PostgreSQL
CELERY_WORKER_SEND_TASK_EVENTS = False
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_REDIRECT_STDOUTS = False
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_BROKER_CONNECTION_RETRY = True
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # for ever
CELERY_BROKER_CONNECTION_TIMEOUT = 2
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_timeout": 5,
    "socket_connect_timeout": 2,
    "socket_keepalive": True,
    "socket_keepalive_options": KEEPALIVE_OPTIONS,
    "health_check_interval": 10,
    "retry_on_timeout": True,
}
CELERY_TASK_PUBLISH_RETRY = False  # an unanswered doorbell is rung again by the scheduler

# Who may come in, and what a browser may load.
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]", *_list("TRAINHUB_ALLOWED_HOSTS")]
CSRF_TRUSTED_ORIGINS = _list("TRAINHUB_TRUSTED_ORIGINS")
LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "sign-in"
# Cookies know hosts but not ports: two homes on one machine would sign each other's people out.
SESSION_COOKIE_NAME = f"trainhub_session_{HOME_MARK}"
CSRF_COOKIE_NAME = f"trainhub_csrf_{HOME_MARK}"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = 14 * 24 * 3600
CSRF_COOKIE_SAMESITE = "Lax"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
if _flag("TRAINHUB_HTTPS"):  # behind a proxy that ends TLS
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_HSTS_SECONDS = 365 * 24 * 3600
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024


def _plotly_files() -> Path:
    """The wheel's folder that holds plotly.min.js, found without importing plotly (0.3 s)."""
    spec = importlib.util.find_spec("plotly")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("plotly is not installed: pip install -r requirements.txt")
    return Path(spec.submodule_search_locations[0]) / "package_data"


STATIC_URL = "/static/"
STATICFILES_DIRS = [("vendor/plotly", _plotly_files())]

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname:<7} {name}: {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {
        "trainhub": {"level": os.environ.get("TRAINHUB_LOG_LEVEL", "INFO").upper()},
        "workers": {"level": os.environ.get("TRAINHUB_LOG_LEVEL", "INFO").upper()},
        "celery": {"level": "WARNING"},
        # Without it Django mails admins; a 4xx is the visitor's affair.
        "django": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
        "django.request": {"level": "ERROR"},
        "django.security.DisallowedHost": {"level": "CRITICAL"},
    },
}
