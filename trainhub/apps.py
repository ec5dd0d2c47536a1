from django.apps import AppConfig


class TrainHubConfig(AppConfig):
    name = "trainhub"
    label = "trainhub"
    verbose_name = "TrainHub"
    default_auto_field = "django.db.models.BigAutoField"
