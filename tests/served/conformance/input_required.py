"""The suite's tools and prompt that answer with input requests and are called again with the answers (2026-07-28)."""

from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp_types import (
    ClientCapabilities,
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequest,
    InputRequiredResult,
    InputResponse,
    ListRootsRequest,
    ListRootsResult,
    SamplingMessage,
    TextContent,
)


def add_input_required(server: MCPServer[Any]) -> None:
    """Register them all."""
    for tool in (
        test_input_required_result_elicitation,
        test_input_required_result_sampling,
        test_input_required_result_list_roots,
        test_input_required_result_request_state,
        test_input_required_result_multiple_inputs,
        test_input_required_result_multi_round,
        test_input_required_result_tampered_state,
        test_input_required_result_capabilities,
        test_streaming_elicitation,
    ):
        server.add_tool(tool)
    server.prompt()(test_input_required_result_prompt)


def test_input_required_result_elicitation(ctx: Context[Any, Any]) -> str | InputRequiredResult:
    """Ask for a name and greet."""
    name = _elicited(ctx, "user_name").get("name")
    if name is None:
        return _require(user_name=_elicitation("What is your name?", name="string"))
    return f"Hello, {name}!"


def test_input_required_result_sampling(ctx: Context[Any, Any]) -> str | InputRequiredResult:
    """Ask the client's model."""
    answer = _response(ctx, "capital_question")
    if not isinstance(answer, CreateMessageResult):
        return _require(capital_question=_sampling("What is the capital of France?", 100))
    return f"The model says: {_text(answer)}"


def test_input_required_result_list_roots(ctx: Context[Any, Any]) -> str | InputRequiredResult:
    """Ask for the client's roots."""
    answer = _response(ctx, "client_roots")
    if not isinstance(answer, ListRootsResult):
        return _require(client_roots=ListRootsRequest())
    return f"Roots: {', '.join(str(root.uri) for root in answer.roots)}"


def test_input_required_result_request_state(ctx: Context[Any, Any]) -> str | InputRequiredResult:
    """Ask for a confirmation, and check that the state came back."""
    if ctx.request_state != "confirming":
        return _require("confirming", confirm=_elicitation("Please confirm", ok="boolean"))
    return f"state-ok, answered {_elicited(ctx, 'confirm').get('ok')}"


def test_input_required_result_multiple_inputs(ctx: Context[Any, Any]) -> str | InputRequiredResult:
    """Ask three things of three kinds at once."""
    answers = [_response(ctx, key) for key in ("user_name", "greeting", "client_roots")]
    if None in answers:
        return _require(
            "asked",
            user_name=_elicitation("What is your name?", name="string"),
            greeting=_sampling("Generate a greeting", 50),
            client_roots=ListRootsRequest(),
        )
    return f"All {len(answers)} answers arrived."


def test_input_required_result_multi_round(ctx: Context[Any, Any]) -> str | InputRequiredResult:
    """Ask twice; the first answer travels in the state."""
    match ctx.request_state:
        case None:
            return _require("named", step1=_elicitation("Step 1: What is your name?", name="string"))
        case "named":
            name = _elicited(ctx, "step1").get("name")
            elicitation = _elicitation("Step 2: What is your favorite color?", color="string")
            return _require(f"name:{name}", step2=elicitation)
        case state:
            return f"{state.removeprefix('name:')} likes {_elicited(ctx, 'step2').get('color')}."


def test_input_required_result_tampered_state(ctx: Context[Any, Any]) -> str | InputRequiredResult:
    """Hand out a state that must come back unchanged."""
    if ctx.request_state is None:
        return _require("guarded", confirm=_elicitation("Please confirm", ok="boolean"))
    return "The state was genuine."


def test_input_required_result_capabilities(ctx: Context[Any, Any]) -> str | InputRequiredResult:
    """Ask only what the client can answer."""
    can = ctx.client_capabilities or ClientCapabilities()
    input_requests: dict[str, InputRequest] = {}
    if can.sampling is not None:
        input_requests["thought"] = _sampling("Say something", 50)
    if can.elicitation is not None:
        input_requests["user_name"] = _elicitation("What is your name?", name="string")
    if not input_requests or any(_response(ctx, key) is not None for key in input_requests):
        return "Nothing more to ask."
    return _require(**input_requests)


async def test_streaming_elicitation(ctx: Context[Any, Any]) -> str | InputRequiredResult:
    """Report progress, then ask; the stream carries no request."""
    await ctx.report_progress(1, 2)
    return test_input_required_result_elicitation(ctx)


def test_input_required_result_prompt(ctx: Context[Any, Any]) -> str | InputRequiredResult:
    """A prompt that asks for its context first."""
    context = _elicited(ctx, "user_context").get("context")
    if context is None:
        return _require(user_context=_elicitation("What context should the prompt use?", context="string"))
    return f"Use this context: {context}"


def _require(state: str | None = None, /, **input_requests: InputRequest) -> InputRequiredResult:
    return InputRequiredResult(input_requests=input_requests, request_state=state)


def _elicitation(message: str, **fields: str) -> ElicitRequest:
    """An elicitation of required fields, each given with its JSON type."""
    properties = {name: {"type": kind} for name, kind in fields.items()}
    schema = {"type": "object", "properties": properties, "required": list(fields)}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def _sampling(prompt: str, max_tokens: int) -> CreateMessageRequest:
    message = SamplingMessage(role="user", content=TextContent(text=prompt))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=max_tokens))


def _response(ctx: Context[Any, Any], key: str) -> InputResponse | None:
    return (ctx.input_responses or {}).get(key)


def _elicited(ctx: Context[Any, Any], key: str) -> dict[str, Any]:
    """The accepted content of that elicitation; empty without one."""
    answer = _response(ctx, key)
    if isinstance(answer, ElicitResult) and answer.action == "accept":
        return dict(answer.content or {})
    return {}


def _text(result: CreateMessageResult) -> str:
    return result.content.text if isinstance(result.content, TextContent) else result.content.type
