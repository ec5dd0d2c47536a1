"""Addresses of pages and of the API."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView

from trainhub import api
from trainhub.views import compare, datasets, experiments, methods, nodes, people, runs, submit, tokens

urlpatterns: list[URLPattern | URLResolver] = [
    path("", RedirectView.as_view(pattern_name="runs"), name="home"),
    path("runs/", runs.list_runs, name="runs"),
    path("runs/<int:run_id>/", runs.show_run, name="run"),
    path("experiments/new/", submit.new_experiment, name="new-experiment"),
    path("experiments/<int:experiment_id>/", experiments.show_experiment, name="experiment"),
    path("compare/", compare.show_comparison, name="compare"),
    path("compare/runs/<int:run_id>/courses", compare.show_courses, name="compare-courses"),
    path("nodes/", nodes.list_nodes, name="nodes"),
    path("datasets/", datasets.list_datasets, name="datasets"),
    path("datasets/<int:dataset_id>/", datasets.show_dataset, name="dataset"),
    path("datasets/<int:dataset_id>/preview.png", datasets.show_preview, name="dataset-preview"),
    path("tokens/", tokens.list_tokens, name="tokens"),
    path("methods/", methods.list_methods, name="methods"),
    path("methods/<slug:slug>/", methods.show_method, name="method"),
    path("methods/<slug:slug>/spec.yaml", methods.download_spec, name="method-spec"),
    path("sign-in/", people.sign_in, name="sign-in"),
    path("sign-in/<str:token>/", people.sign_in_by_link, name="sign-in-link"),
    path("sign-out/", people.sign_out, name="sign-out"),
    path("api/v1/", include(api.urlpatterns)),
    path("admin/", include("trainhub.admin.urls")),
    path("admin/", admin.site.urls),
]
