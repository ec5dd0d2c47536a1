"""Addresses of the admin that Django's own site does not have."""

from django.contrib import admin
from django.urls import path

from trainhub.admin.monitoring import show_monitoring
from trainhub.admin.runs import queue

urlpatterns = [
    path("monitoring/", admin.site.admin_view(show_monitoring), name="admin-monitoring"),
    path("queue/", admin.site.admin_view(queue), name="admin-queue"),
]
