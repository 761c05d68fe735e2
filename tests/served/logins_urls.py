"""The pages of tests/served/logins_site.py."""

from typing import Any

from django.contrib import admin
from django.urls import path
from rest_framework.authentication import TokenAuthentication
from rest_framework.authtoken.views import obtain_auth_token
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework.views import APIView

from mcp_sessions.health import healthz


class LogOut(APIView):  # type: ignore[misc]  # it has no type hints
    """Deletes the token with which it is asked."""

    authentication_classes = (TokenAuthentication,)
    permission_classes = (IsAuthenticated,)

    def post(self, request: Any) -> Response:
        request.auth.delete()
        return Response(status=204)


urlpatterns = [
    path("admin/", admin.site.urls),
    path("healthz", healthz),
    path("login/", obtain_auth_token),
    path("logout/", LogOut.as_view()),
]
