"""What is logged of handlers that raise: one traceback for each, and none for what is no fault of theirs."""

import logging
from typing import Any

import pytest
from mcp.server.mcpserver.exceptions import UnexpectedToolError
from mcp.shared.exceptions import MCPError

from mcp_sessions.errors import HandleError, NoCurrentSession, SessionGone, StateTooLarge, StoreUnavailable
from mcp_sessions.repeats import Repeats
from mcp_sessions.sdk import tracebacks
from mcp_sessions.sdk.kernel import _error
from mcp_sessions.sdk.tracebacks import is_no_fault, raised


def wrapped(inner: BaseException, outer: BaseException) -> BaseException:
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    ("error", "logged"),
    [
        (HandleError("no such cart"), "A handler refused its client: 'no such cart'"),
        (NoCurrentSession("none"), "A handler refused its client: 'none'"),
        (SessionGone("the session is gone"), "A handler failed: the session is gone."),
        (StateTooLarge("too large"), "A handler failed: too large."),
        (StoreUnavailable("away"), "A handler failed because the session store cannot be reached: away"),
    ],
)
def test_what_is_no_fault_of_a_handler_is_one_line(
    error: Exception, logged: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG, "mcp_sessions")
    monkeypatch.setattr(tracebacks, "_unavailable", Repeats(tracebacks.logger, "Handlers"))
    assert is_no_fault(error)
    assert [record.getMessage() for record in caplog.records] == [logged]
    assert not caplog.records[0].exc_info
    assert not is_no_fault(ValueError("x"))


def test_the_sdks_wrappers_are_taken_off_and_no_others() -> None:
    inner = KeyError("x")
    tool = wrapped(inner, UnexpectedToolError("add"))
    assert raised(tool) is inner
    assert raised(wrapped(tool, UnexpectedToolError("again"))) is inner
    value = wrapped(inner, ValueError("y"))
    assert raised(value) is value
    assert raised(value, wrappers=(ValueError,)) is inner
    alone = UnexpectedToolError("add")
    assert raised(alone) is alone


def record_of(error: BaseException | None, *, name: str = "mcp.server.mcpserver.server") -> logging.LogRecord:
    what = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord(name, logging.ERROR, "x", 1, "failed", (), what)


def test_a_record_of_the_sdk_has_the_traceback_of_what_was_raised_or_is_dropped() -> None:
    inner, runner = ZeroDivisionError("x"), "mcp.server.runner"
    record = record_of(wrapped(inner, UnexpectedToolError("add")))
    assert tracebacks._one_traceback(record)
    assert record.exc_info is not None
    assert record.exc_info[:2] == (ZeroDivisionError, inner)
    without = record_of(None)
    for nothing in (None, (None, None, None)):
        without.exc_info = nothing
        assert tracebacks._one_traceback(without)
    assert not tracebacks._one_traceback(record_of(wrapped(HandleError("no"), UnexpectedToolError("add"))))
    of_a_prompt = wrapped(HandleError("no"), ValueError("prompt"))
    assert tracebacks._one_traceback(record_of(of_a_prompt))
    assert not tracebacks._one_traceback(record_of(of_a_prompt, name=runner))


def test_the_filter_is_there_once_however_often_a_server_is_hosted() -> None:
    for _ in range(2):
        tracebacks.install()
    for name in ("mcp.server.mcpserver.server", "mcp.server.runner"):
        assert logging.getLogger(name).filters.count(tracebacks._one_traceback) == 1


#: What clients are told where the reason is only for the log.
INTERNAL = {"code": -32603, "message": "Internal server error"}


@pytest.mark.parametrize(
    ("method", "error", "handshake", "modern", "levels"),
    [
        ("x", MCPError(code=5, message="no"), {"code": 5, "message": "no"}, {"code": 5, "message": "no"}, []),
        ("x", RuntimeError("secret"), {"code": 0, "message": "secret"}, INTERNAL, ["ERROR"]),
        ("x", SystemExit(3), INTERNAL, INTERNAL, ["ERROR"]),
        ("x", HandleError("no"), {"code": 0, "message": "no"}, INTERNAL, ["INFO"]),
        (
            "prompts/get",
            wrapped(ValueError("unknown"), RuntimeError("unknown")),
            {"code": 0, "message": "unknown"},
            INTERNAL,
            ["INFO"],
        ),
        (
            "x",
            wrapped(ValueError("unknown"), RuntimeError("unknown")),
            {"code": 0, "message": "unknown"},
            INTERNAL,
            ["ERROR"],
        ),
        *(
            (
                method,
                wrapped(HandleError("no"), ValueError("y")),
                {"code": 0, "message": "y"},
                INTERNAL,
                [level],
            )
            for method, level in (("prompts/get", "INFO"), ("prompts/a", "ERROR"), ("tools/call", "ERROR"))
        ),
        (
            "prompts/get",
            wrapped(wrapped(KeyError("x"), ValueError("y")), RuntimeError("z")),
            {"code": 0, "message": "z"},
            INTERNAL,
            ["ERROR"],
        ),
    ],
)
def test_a_client_is_told_what_the_sdk_tells_and_the_log_has_the_rest(
    caplog: pytest.LogCaptureFixture, method: str, error: Any, handshake: Any, modern: Any, levels: list[str]
) -> None:
    caplog.set_level(logging.DEBUG, "mcp_sessions")
    assert _error(method, error, modern=False) == handshake
    assert [record.levelname for record in caplog.records] == levels
    assert _error(method, error, modern=True) == modern
