"""The pages that Django serves: the home page, the admin and the two probes."""

from django.apps import apps
from django.contrib import admin
from django.urls import include, path

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
