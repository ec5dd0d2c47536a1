"""Addresses of pages and of the API."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, path
from django.views.generic import RedirectView

from trainhub.api import checkpoints
from trainhub.api import runs as api_runs
from trainhub.views import experiments, methods, people, runs

urlpatterns: list[URLPattern | URLResolver] = [
    path("", RedirectView.as_view(pattern_name="runs"), name="home"),
    path("runs/", runs.list_runs, name="runs"),
    path("runs/<int:run_id>/", runs.show_run, name="run"),
    path("experiments/<int:experiment_id>/", experiments.show_experiment, name="experiment"),
    path("methods/", methods.list_methods, name="methods"),
    path("methods/<slug:slug>/", methods.show_method, name="method"),
    path("methods/<slug:slug>/spec.yaml", methods.download_spec, name="method-spec"),
    path("sign-in/", people.sign_in, name="sign-in"),
    path("sign-in/<str:token>/", people.sign_in_by_link, name="sign-in-link"),
    path("sign-out/", people.sign_out, name="sign-out"),
    path("api/v1/runs/<int:run_id>/", api_runs.show, name="api-run"),
    path("api/v1/runs/<int:run_id>/series", api_runs.series, name="api-series"),
    path("api/v1/runs/<int:run_id>/totals", api_runs.totals, name="api-totals"),
    path("api/v1/runs/<int:run_id>/events", api_runs.events, name="api-events"),
    path("api/v1/runs/<int:run_id>/log", api_runs.log, name="api-log"),
    path("api/v1/runs/<int:run_id>/actions/<str:action>", api_runs.act, name="api-act"),
    path("api/v1/runs/<int:run_id>/checkpoints/<int:artifact_id>", checkpoints.download, name="api-checkpoint"),
    path("admin/", admin.site.urls),
]
