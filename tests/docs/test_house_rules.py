"""The rules for the shape of the code that a program can check: short modules, short functions, no pass-through."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support import ROOT

PACKAGE: Final = ROOT / "mcp_sessions"
MODULE_LINES: Final = 350
FUNCTION_LINES: Final = 50

#: Modules that may be longer, and why.
LONG_MODULES: Final[dict[str, str]] = {}
#: Functions, or all functions of a module, that may only pass their arguments on, and why.
PASSED_ON: Final = {
    "inventory/queryset.py:SessionQuerySet.all": "Django's name for a copy",
    "lifecycle.py:abort": "the public function of a private object",
    "lifecycle.py:drain": "the public function of a private object",
    "lifecycle.py:is_stopping": "the public face of a private event",
    "lifecycle.py:is_draining": "likewise",
    "lifecycle.py:stop_soon": "likewise",
    "lifecycle.py:shutdown": "the public function of a private object",
    "middleware.py:request_id": "the public face of a private variable",
    "sdk/server.py:HostedServer.serve_modern": "its manager is made anew when a lifespan fails",
    "serving/exchange.py:Exchange.conf": "an attribute that `current.CurrentRequest` asks for",
    "store/drivers/embedded.py:EmbeddedStore.run": "an async driver of a store that answers at once",
    "store/drivers/embedded.py:EmbeddedStore.run_all": "likewise",
    "streams/writer.py:StreamWriter.open": "callers open a stream; that the first write does it is a detail",
}

#: Dataclasses that are no records: their values change.
CHANGING: Final = {
    "authentication/identity.py:Identity",
    "cluster/client_requests.py:_OpenRequest",
    "connections/server.py:Taken",
    "connections/trips.py:Trip",
    "counting.py:Counts",
    "counting.py:_Endpoint",
    "handles/record.py:Record",
    "http/guard.py:_Response",
    "inventory/doing.py:Doing",
    "inventory/leftovers.py:_Found",
    "inventory/overview.py:_Seen",
    "serving/exchange.py:Exchange",
    "serving/heartbeat.py:Heartbeat",
    "serving/heartbeat.py:_Seen",
    "serving/modern.py:ModernExchange",
    "serving/past.py:_Waiting",
    "testing/__init__.py:_Blocks",
}
#: Records that are made with positional arguments.
POSITIONAL: Final = {
    "cluster/notifications.py:Envelope",
    "handles/text.py:Form",
    "handles/text.py:Text",
    "http/endpoint.py:_HandshakeRequest",
    "inventory/queryset.py:Page",
    "records.py:Handshake",
    "streams/standalone.py:StandaloneChannel",
    "testing/stores.py:_Request",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A function and where it is."""

    #: Path of the module below the package.
    module: str
    #: With the names of the classes around it.
    name: str
    node: Function

    @property
    def lines(self) -> int:
        return (self.node.end_lineno or self.node.lineno) - self.node.lineno + 1


def modules() -> dict[str, Path]:
    """The modules of the package, by their path below it."""
    return {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}


def functions() -> Iterator[Found]:
    for module, path in modules().items():
        for name, node in _functions_in(ast.parse(path.read_text(encoding="utf-8")), prefix=""):
            yield Found(module=module, name=name, node=node)


def _functions_in(tree: ast.AST, *, prefix: str) -> Iterator[tuple[str, Function]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function):
            yield f"{prefix}{node.name}", node
        inner = f"{prefix}{node.name}." if isinstance(node, Function | ast.ClassDef) else prefix
        yield from _functions_in(node, prefix=inner)


def passes_on(function: Function) -> bool:
    """Whether the function does nothing but call another with its own arguments."""
    call = _only_call(function)
    if call is None or not _is_dotted_name(call.func):
        return False
    given = [ast.unparse(argument) for argument in call.args]
    given += [ast.unparse(keyword) for keyword in call.keywords]
    return given == _as_passed_on(function.args)


def _only_call(function: Function) -> ast.Call | None:
    """The call that is all of the body, but for a docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    if len(body) != 1 or not isinstance(body[0], ast.Return | ast.Expr):
        return None
    value = body[0].value
    value = value.value if isinstance(value, ast.Await) else value
    return value if isinstance(value, ast.Call) else None


def _is_dotted_name(expression: ast.expr) -> bool:
    while isinstance(expression, ast.Attribute):
        expression = expression.value
    return isinstance(expression, ast.Name)


def _as_passed_on(parameters: ast.arguments) -> list[str]:
    """How a call looks that passes all parameters on, without `self`."""
    positional = [each.arg for each in (*parameters.posonlyargs, *parameters.args)]
    return [
        *(name for name in positional if name not in ("self", "cls")),
        *([f"*{parameters.vararg.arg}"] if parameters.vararg else []),
        *(f"{each.arg}={each.arg}" for each in parameters.kwonlyargs),
        *([f"**{parameters.kwarg.arg}"] if parameters.kwarg else []),
    ]


def dataclasses() -> dict[str, set[str]]:
    """The arguments that are True for each dataclass, by its module and name."""
    return {
        f"{module}:{node.name}": {
            each.arg or "" for each in decorator.keywords if ast.unparse(each.value) == "True"
        }
        for module, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        for decorator in node.decorator_list
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "dataclass"
    }


def test_a_record_cannot_change_and_names_its_fields() -> None:
    found = dataclasses()
    assert {name for name, arguments in found.items() if "frozen" not in arguments} == CHANGING
    assert [name for name, arguments in found.items() if "slots" not in arguments] == []
    assert {name for name, arguments in found.items() if "kw_only" not in arguments} - CHANGING == POSITIONAL


def test_a_module_fits_on_a_few_screens() -> None:
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in modules().items()}
    long = {name: lines for name, lines in lengths.items() if lines > MODULE_LINES}
    assert long.keys() == LONG_MODULES.keys(), long


def test_a_function_fits_on_one_screen() -> None:
    long = [f"{each.module}:{each.name}" for each in functions() if each.lines > FUNCTION_LINES]
    assert long == []


def test_no_function_only_passes_its_arguments_on() -> None:
    found = [each for each in functions() if passes_on(each.node)]
    reasons = {f"{each.module}:{each.name}" for each in found} | {each.module for each in found}
    unexplained = [
        f"{each.module}:{each.name}"
        for each in found
        if not {each.module, f"{each.module}:{each.name}"} & PASSED_ON.keys()
    ]
    assert unexplained == []
    assert PASSED_ON.keys() <= reasons, "these no longer need to be on the list"


def test_a_function_that_passes_its_arguments_on_is_recognized() -> None:
    source = '''
def one(a, *, b): return other(a, b=b)
async def two(self, a, *rest, **more):
    """With a docstring."""
    await self.inner.other(a, *rest, **more)
def three(a): return other(a, 1)
def four(a): return other(a).strip()
def five(a, b): return other(b, a)
def six(a): return not other(a)
'''
    verdicts = [passes_on(node) for node in ast.parse(source).body if isinstance(node, Function)]
    assert verdicts == [True, True, False, False, False, False]
