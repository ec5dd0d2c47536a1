"""PostgreSQL without an address: migrations can be written and types checked, but nothing can be stored."""

from typing import Any, NoReturn

from django.db.backends.postgresql import base
from django.db.utils import OperationalError


class DatabaseWrapper(base.DatabaseWrapper):
    def get_connection_params(self) -> dict[str, Any]:
        return {}

    def get_new_connection(self, conn_params: dict[str, Any]) -> NoReturn:
        raise OperationalError(
            "TrainHub's database is not running. Start everything with `python manage.py up` "
            "(same TRAINHUB_HOME), or set DATABASE_URL and REDIS_URL to services of your own."
        )
