"""People, pages and rows: the Django side of TrainHub. Nothing here imports torch."""

from trainhub.celery import app as celery_app

__all__ = ["celery_app"]
