"""The pages that Django serves: the home page, the admin, the two probes, and the metrics where there is a token."""

from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.urls import include, path

from mcp_sessions import metrics
from mcp_sessions.health import healthz, readyz
from project.views import home, live

urlpatterns = [
    path("", home, name="home"),
    path("live", live, name="live"),
    path("healthz", healthz, name="healthz"),
    path("readyz", readyz, name="readyz"),
    path("admin/", admin.site.urls),
]
if apps.is_installed("oauth2_provider"):
    urlpatterns += [path("", include("mcp_sessions.oauth.urls"))]
if settings.METRICS_TOKEN:
    urlpatterns += [
        path("metrics/cluster", metrics.cluster(token=settings.METRICS_TOKEN)),
        path("metrics/process", metrics.process(token=settings.METRICS_TOKEN)),
    ]
