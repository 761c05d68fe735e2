"""The pages of the authorization server, to be included at the root of a site, under `/`.

Its metadata (RFC 8414), the page that asks the user, the token endpoint, revocation (RFC 7009) and dynamic registration
(RFC 7591). What the toolkit has besides, such as pages for the applications of developers, is left out.
"""

from django.urls import include, path
from oauth2_provider import views
from oauth2_provider.urls import dcr_urlpatterns

from mcp_sessions.oauth.views import AuthorizationView, TokenView

_OAUTH = [
    path("authorize/", AuthorizationView.as_view(), name="authorize"),
    path("token/", TokenView.as_view(), name="token"),
    path("revoke_token/", views.RevokeTokenView.as_view(), name="revoke-token"),
    path("clients/", views.AuthorizedTokensListView.as_view(), name="authorized-token-list"),
    path(
        "clients/<slug:pk>/delete/",
        views.AuthorizedTokenDeleteView.as_view(),
        name="authorized-token-delete",
    ),
    *dcr_urlpatterns,
]

urlpatterns = [
    path(".well-known/oauth-authorization-server", views.OAuthServerMetadataView.as_view()),
    path("oauth/", include((_OAUTH, "oauth2_provider"))),
]
