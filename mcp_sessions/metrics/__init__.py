"""Metrics for Prometheus: views to add to your URLs. They need the extra `metrics`.

    from mcp_sessions import metrics

    urlpatterns = [
        path("metrics/cluster", metrics.cluster(token=os.environ["METRICS_TOKEN"])),
        path("metrics/process", metrics.process(token=os.environ["METRICS_TOKEN"])),
    ]

`cluster` has what all processes together counted, and what there is in the store: scrape it once, from any process.
`process` has what its own process does: scrape each of them.
"""

import secrets
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, cast

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse

from mcp_sessions.errors import StoreUnavailable

if TYPE_CHECKING:
    from prometheus_client import Metric
    from prometheus_client.registry import Collector

View = Callable[[HttpRequest], HttpResponse]


def cluster(*, token: str | None) -> View:
    """A view of what all processes did. It leaves out the endpoints whose stores do not answer; 503 if none does.

    A request needs the token as `Authorization: Bearer …`. With None it needs nothing: then let nobody but Prometheus
    reach the view, because names of tools and sizes are shown. Raises: ImproperlyConfigured without prometheus_client,
    or for a token of fewer than 16 characters.
    """
    _check(token)
    from mcp_sessions.metrics.families import of_the_cluster

    return _view(of_the_cluster, token)


def process(*, token: str | None) -> View:
    """A view of what this process does. It asks no store. `token` and Raises: as `cluster`."""
    _check(token)
    from mcp_sessions.metrics.families import of_this_process

    return _view(of_this_process, token)


class _Families:
    """What prometheus_client takes for a collector."""

    def __init__(self, collect: "Callable[[], Iterable[Metric]]") -> None:
        self.collect = collect


def _check(token: str | None) -> None:
    if token is not None and len(token) < 16:
        raise ImproperlyConfigured("The token of a metrics view needs 16 characters; None is for no token.")
    try:
        import prometheus_client  # noqa: F401
    except ImportError:
        raise ImproperlyConfigured(
            'Metrics need the package prometheus_client: run pip install "mcp-sessions[metrics]".'
        ) from None


def _view(families: "Callable[[], Iterable[Metric]]", token: str | None) -> View:
    from prometheus_client import CollectorRegistry, exposition

    wanted = None if token is None else f"Bearer {token}".encode()

    def view(request: HttpRequest) -> HttpResponse:
        given = request.headers.get("Authorization", "").encode()
        if wanted is not None and not secrets.compare_digest(given, wanted):
            return HttpResponse(status=401, headers={"WWW-Authenticate": "Bearer"})
        registry = CollectorRegistry(auto_describe=False)
        try:
            registry.register(cast("Collector", _Families(families)))
            encoder, content_type = exposition.choose_encoder(request.headers.get("Accept", ""))
            text = encoder(registry)
        except StoreUnavailable:
            return HttpResponse("The session store does not answer.\n", status=503, content_type="text/plain")
        return HttpResponse(text, content_type=content_type, headers={"Cache-Control": "no-store"})

    return view
