"""The URLs of a project with admin sites besides Django's default one, for test_sites.py."""

from django.conf.urls.i18n import i18n_patterns
from django.contrib import admin
from django.contrib.auth.models import User
from django.urls import path

from mcp_sessions.admin import EndingJobAdmin, MCPSessionAdmin, register
from mcp_sessions.models import EndingJob, MCPSession

operators = admin.AdminSite(name="operators")
register(operators)
operators.register(User)

#: Whoever made it left out the other models.
sessions = admin.AdminSite(name="sessions")
sessions.register(MCPSession, MCPSessionAdmin)

#: Here only the audit is missing.
jobs = admin.AdminSite(name="jobs")
jobs.register(MCPSession, MCPSessionAdmin)
jobs.register(EndingJob, EndingJobAdmin)

#: Its addresses begin with the language.
translated = admin.AdminSite(name="translated")
register(translated)
translated.register(User)

urlpatterns = [
    path("admin/", admin.site.urls),
    path("operators/", operators.urls),
    path("sessions/", sessions.urls),
    path("jobs/", jobs.urls),
    *i18n_patterns(path("translated/", translated.urls)),
]
