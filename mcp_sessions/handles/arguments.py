"""The handles among a tool's arguments: found in its annotations once, and checked before each call."""

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from mcp_sessions.handles.handle import StateHandle, check_all
from mcp_sessions.handles.record import Problem

#: Handles that one call may have; more would make its one round trip long.
MOST_IN_A_CALL: Final = 100
#: How many models, lists and dictionaries may be around a handle that is checked before the tool; deeper ones are
#: checked when they are used first.
DEPTH: Final = 4

Kind = type[StateHandle]


def kinds_in(annotation: Any, depth: int = DEPTH) -> frozenset[Kind]:
    """The kinds of handles that values of an annotation may contain."""
    if isinstance(annotation, type) and issubclass(annotation, StateHandle):
        return frozenset([annotation])
    if depth == 0:
        return frozenset()
    parts, _ = _parts(annotation)
    return frozenset[Kind]().union(*(kinds_in(part, depth - 1) for part in parts))


def reads_handles(function: Callable[..., Any]) -> bool:
    """Whether arguments may contain handles, however deep."""
    named: set[Any] = set()
    left = [annotation for name, annotation in _annotations(function).items() if name != "return"]
    while left:
        annotation = left.pop()
        if isinstance(annotation, type) and issubclass(annotation, StateHandle):
            return True
        parts, name = _parts(annotation)
        if name is None or name not in named:  # a model may contain itself
            left.extend(parts)
        named.add(name)
    return False


def _parts(annotation: Any) -> tuple[Iterable[Any], Any]:
    """The annotations inside another one, and the model or alias that has them, if it is one: it may contain itself."""
    alias = annotation if hasattr(annotation, "__value__") else None
    annotation = getattr(annotation, "__value__", annotation)  # type Baskets = list[Basket]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [field.annotation for field in annotation.model_fields.values()], annotation
    # A TypedDict, of either module, or a dataclass.
    if hasattr(annotation, "__required_keys__") or is_dataclass(annotation):
        return get_type_hints(annotation).values(), annotation
    return get_args(annotation), alias


def parameters_of(function: Callable[..., Any]) -> dict[str, frozenset[Kind]]:
    """The parameters that may contain handles, and of which kinds."""
    annotations = _annotations(function)
    found = {name: kinds_in(annotation) for name, annotation in annotations.items() if name != "return"}
    return {name: kinds for name, kinds in found.items() if kinds}


class Givers:
    """Which tools of a server return handles of which kinds: new ones, or a list of those that exist."""

    def __init__(self, functions: Mapping[str, Callable[..., Any]]) -> None:
        self._made: dict[Kind, list[str]] = {}
        self._changed: dict[Kind, list[str]] = {}
        self._listed: dict[Kind, list[str]] = {}
        for name, function in functions.items():
            returned = _annotations(function).get("return")
            for kind in kinds_in(returned):
                if kind not in _bare(returned):
                    self._listed.setdefault(kind, []).append(name)
                elif any(kind in kinds for kinds in parameters_of(function).values()):
                    self._changed.setdefault(kind, []).append(name)
                else:
                    self._made.setdefault(kind, []).append(name)

    def made_by(self, kind: Kind) -> Sequence[str]:
        """The tools that return one; those that take one themselves only if there are no others."""
        return self._made.get(kind, self._changed.get(kind, []))

    def describe(self, kind: Kind) -> str:
        """What a schema says of a parameter with such a handle."""
        made, listed = " or ".join(self.made_by(kind)), " or ".join(self._listed.get(kind, ()))
        return kind.described(made_by=made, listed_by=listed)


def described(
    schema: Mapping[str, Any], parameters: Mapping[str, frozenset[Kind]], givers: Givers
) -> dict[str, Any]:
    """A tool's input schema whose descriptions name the tools that give handles. The schema itself stays as it is."""
    texts = {kind.described(): givers.describe(kind) for kinds in parameters.values() for kind in kinds}
    found: dict[str, Any] = _replaced(schema, texts)
    for name, kinds in parameters.items():
        field = found.get("properties", {}).get(name)
        # The author's own description has taken the place of ours.
        if field is not None and len(kinds) == 1 and field.get("description") not in (None, *texts.values()):
            [kind] = kinds
            field["description"] = f"{field['description'].rstrip('. ')}. {givers.describe(kind)}"
    return found


def checking(
    function: Callable[..., Awaitable[Any]], *, parameters: Iterable[str], givers: Givers
) -> Callable[..., Awaitable[Any]]:
    """An async function that checks the handles in these parameters, and then calls a tool's. Raises: HandleError."""
    names = tuple(parameters)

    @functools.wraps(function)
    async def checked(**kwargs: Any) -> Any:
        handles = list(_handles_in([kwargs.get(name) for name in names]))
        if len(handles) > MOST_IN_A_CALL:
            raise Problem(
                f"One call may have {MOST_IN_A_CALL} handles at most, and this one has {len(handles)}."
            )
        if handles:
            await check_all(handles, made_by={kind: givers.made_by(kind) for kind in set(map(type, handles))})
        return await function(**kwargs)

    return checked


def _handles_in(value: Any, depth: int = DEPTH + 1) -> Iterator[StateHandle]:
    """The handles in a value, each as often as it occurs."""
    if isinstance(value, StateHandle):
        yield value
        return
    if depth == 0 or isinstance(value, (str, bytes)):
        return
    parts: Iterable[Any] = ()
    if isinstance(value, BaseModel) or is_dataclass(value):
        parts = vars(value).values()
    elif isinstance(value, Mapping):
        parts = [*value.keys(), *value.values()]
    elif isinstance(value, (list, tuple, set, frozenset)):
        parts = value
    for part in parts:
        yield from _handles_in(part, depth - 1)


def _annotations(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations as the SDK reads them."""
    signature = inspect.signature(function, eval_str=True)
    named = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    return {**named, "return": signature.return_annotation}


def _bare(annotation: Any) -> frozenset[Any]:
    """The alternatives of an annotation: itself, or the members of a union."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return frozenset[Any]().union(*(_bare(each) for each in get_args(annotation)))
    return frozenset([annotation])


def _replaced(schema: Any, texts: Mapping[str, str]) -> Any:
    """A copy of a schema with other descriptions."""
    if isinstance(schema, Mapping):
        return {
            key: texts.get(value, value)
            if key == "description" and isinstance(value, str)
            else _replaced(value, texts)
            for key, value in schema.items()
        }
    return [_replaced(each, texts) for each in schema] if isinstance(schema, list) else schema
