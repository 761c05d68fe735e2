"""Servers and verifiers for the checks to find, and what the checks report of a configuration."""

from collections.abc import Mapping
from typing import Any

from django.core.checks import CheckMessage, run_checks
from django.test import override_settings
from mcp.server import MCPServer
from mcp.server.auth.provider import AccessToken
from mcp.server.lowlevel import Server
from mcp.server.request_state import RequestStateSecurity

from mcp_sessions.authentication.authenticator import Authenticator
from mcp_sessions.routing import with_mcp
from mcp_sessions.security import request_state_security
from mcp_sessions.subscriptions import SharedSubscriptions
from mcp_sessions.tools import OptInTools
from mcp_sessions.transport.asgi import Application

HERE = "tests.checks.configurations"
REDIS = "django_redis.cache.RedisCache"

server = MCPServer("shop", request_state_security=request_state_security())
heard = [SharedSubscriptions(alias) for alias in ("default", "other", "shop", "stock")]
lowlevel = Server("shop")
process_local = MCPServer("shop")
foreign_keys = MCPServer("shop", request_state_security=RequestStateSecurity(keys=["k" * 32]))
with_opt_in_tools = MCPServer("shop", request_state_security=request_state_security())
OptInTools(with_opt_in_tools, names={"set_price", "open_till"})
not_a_server = {"name": "shop"}


class NoCodec:
    """For `requestState`: its keys are not there."""

    def seal(self, payload: bytes) -> str:
        raise RuntimeError("no such key")

    unseal: Any = seal


without_keys = MCPServer("shop", request_state_security=RequestStateSecurity(codec=NoCodec()))


async def pages(*_: Any) -> None:
    """In the place of Django."""


application = with_mcp(pages)


def build() -> MCPServer[Any]:
    return server


def build_nothing() -> None:
    return None


def fail() -> MCPServer[Any]:
    raise RuntimeError("no connection to the warehouse")


def find_user(issuer: str, subject: str) -> None:
    return None


class Unfinished(Authenticator):
    """It authenticates nobody."""


def unprepared(application: Application) -> Application:
    raise RuntimeError("no connection to the directory")


class Verifier:
    async def verify_token(self, token: str) -> AccessToken | None:
        return None


verifier = Verifier()


def redis_at(url: str | list[str], **config: Any) -> dict[str, Any]:
    return {"BACKEND": REDIS, "LOCATION": url, **config}


IN_REDIS = {"default": redis_at("redis://127.0.0.1:6379/1")}


def entry(**values: Any) -> dict[str, Any]:
    return {"SERVER": f"{HERE}.server", **values}


def found(
    entries: object, *, caches: Mapping[str, Any] = IN_REDIS, deploy: bool = False, **settings: Any
) -> list[CheckMessage]:
    """What the checks say about MCP_SESSIONS = entries."""
    settings.setdefault("ASGI_APPLICATION", f"{HERE}.application")
    with override_settings(MCP_SESSIONS=entries, CACHES=caches, **settings):
        return run_checks(tags=["mcp_sessions"], include_deployment_checks=deploy)


def only(messages: list[CheckMessage], identifier: str) -> CheckMessage:
    """The single message of that id; any other message is a failure, too."""
    assert [message.id for message in messages] == [f"mcp_sessions.{identifier}"], messages
    return messages[0]


def ids(messages: list[CheckMessage]) -> set[str]:
    return {str(message.id).removeprefix("mcp_sessions.") for message in messages}


def with_tokens(verifier: str = f"{HERE}.Verifier", **values: Any) -> dict[str, Any]:
    urls = {"ISSUER_URL": "https://id.example.com", "RESOURCE_URL": "https://shop.example.com/mcp"}
    return entry(**{"TOKEN_VERIFIER": verifier, **urls, **values})
