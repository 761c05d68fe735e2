"""The checks of an endpoint's entry: each fires, stays silent, and says what is wrong, where, and what to do."""

from typing import Any

import pytest

from mcp_sessions.documentation import page
from tests.checks.configurations import HERE, IN_REDIS, entry, found, ids, only, redis_at, with_tokens


def test_a_good_configuration_is_silent() -> None:
    assert found({"default": entry(), "other": entry(PATH="other")}) == []


def test_a_project_without_endpoints_is_told_so_and_nothing_else() -> None:
    message = only(found({}, deploy=True, DEBUG=False), "W009")
    assert message.msg == "MCP_SESSIONS is missing or empty: there is no endpoint."
    assert '{"default": {"SERVER"' in str(message.hint)


def test_every_hint_ends_with_the_anchor_of_its_id() -> None:
    for message in found({"default": {"SEVER": "shop.mcp"}, "other": 3}):
        number = str(message.id).split(".")[1].lower()
        assert str(message.hint).endswith(page("checks", number))


@pytest.mark.parametrize("entries", [["default"], None, "shop.mcp.server"])
def test_mcp_sessions_must_be_a_dictionary(entries: object) -> None:
    message = only(found(entries), "E001")
    assert message.msg == f"MCP_SESSIONS must be a dictionary, not {entries!r}."
    assert '{"default": {"SERVER"' in str(message.hint)


def test_an_entry_must_be_a_dictionary() -> None:
    message = only(found({"default": "shop.mcp.server"}), "E001")
    assert message.msg == "MCP_SESSIONS['default'] must be a dictionary, not 'shop.mcp.server'."


def test_an_unknown_key_is_named_beside_the_known_ones() -> None:
    message = only(found({"default": entry(IDLE_TIMEOUT=3)}), "E002")
    assert message.msg.startswith(
        "MCP_SESSIONS['default'] has the unknown key 'IDLE_TIMEOUT'. The known keys are "
    )
    assert "IDLE_TTL" in message.msg


def test_a_value_of_the_wrong_type_is_named_with_what_fits() -> None:
    message = only(found({"default": entry(IDLE_TTL="1h")}), "E003")
    assert (
        message.msg == "MCP_SESSIONS['default']['IDLE_TTL'] must be seconds above 0 or a timedelta, not '1h'."
    )


def test_an_entry_without_a_server_is_an_error() -> None:
    message = only(found({"default": {"PATH": "mcp"}}), "E004")
    assert message.msg == "MCP_SESSIONS['default'] needs SERVER, the dotted path of an MCP server."
    assert "shop.mcp.server" in str(message.hint)


@pytest.mark.parametrize("name", ["server", "lowlevel", "build"])
def test_both_kinds_of_server_and_a_callable_are_servers(name: str) -> None:
    assert found({"default": entry(SERVER=f"{HERE}.{name}")}) == []


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("no_such_package.mcp.server", "ModuleNotFoundError"),
        (f"{HERE}.no_such_server", "ImportError"),
        ("server", "ImportError"),
        (f"{HERE}.not_a_server", "TypeError"),
        (f"{HERE}.build_nothing", "TypeError"),
        (f"{HERE}.fail", "RuntimeError: no connection to the warehouse"),
    ],
)
def test_a_server_that_cannot_be_loaded_is_an_error_that_says_why(path: str, reason: str) -> None:
    message = only(found({"default": entry(SERVER=path)}), "E005")
    assert message.msg.startswith("MCP_SESSIONS['default']['SERVER']: ")
    assert path in message.msg
    assert reason in message.msg
    assert "MCPServer" in str(message.hint)


def test_two_endpoints_at_one_path_are_an_error_whatever_their_slashes() -> None:
    message = only(found({"shop": entry(PATH="/mcp/"), "stock": entry()}), "E006")
    assert "'shop' and 'stock' have the same PATH 'mcp'" in message.msg


def test_two_endpoints_under_one_namespace_of_one_cache_are_an_error() -> None:
    message = only(found({"shop": entry(), "stock": entry(NAMESPACE="shop", PATH="stock")}), "E007")
    assert "'shop' and 'stock' have the same NAMESPACE 'shop'" in message.msg


def test_one_namespace_on_two_databases_is_silent() -> None:
    caches = {**IN_REDIS, "second": redis_at("redis://127.0.0.1:6379/2")}
    entries = {
        "shop": entry(NAMESPACE="both"),
        "stock": entry(NAMESPACE="both", PATH="stock", CACHE="second"),
    }
    assert found(entries, caches=caches) == []


@pytest.mark.parametrize(
    ("config", "is_one"),
    [
        ({}, True),
        ({"KEY_PREFIX": "", "VERSION": 1}, True),
        ({"KEY_PREFIX": "second"}, False),
        ({"VERSION": 2}, False),
        ({"VERSION": 0}, False),
    ],
)
def test_one_namespace_on_two_aliases_of_one_database_is_an_error_where_keys_are_equal(
    config: dict[str, Any], is_one: bool
) -> None:
    caches = {**IN_REDIS, "second": redis_at("redis://localhost/1", **config)}
    entries = {
        "shop": entry(NAMESPACE="both"),
        "stock": entry(NAMESPACE="both", PATH="stock", CACHE="second"),
    }
    assert ("E007" in ids(found(entries, caches=caches))) == is_one


def test_one_namespace_of_two_endpoints_in_memory_is_an_error() -> None:
    entries = {"shop": entry(NAMESPACE="both"), "stock": entry(NAMESPACE="both", PATH="stock", CACHE="other")}
    assert ids(found(entries, caches={})) == {"E007", "W001"}


@pytest.mark.parametrize("name", ["Verifier", "verifier"])
def test_a_class_and_an_instance_are_verifiers(name: str) -> None:
    assert found({"default": with_tokens(f"{HERE}.{name}")}) == []


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("no_such_package.Verifier", "cannot be imported: ModuleNotFoundError"),
        (f"{HERE}.not_a_server", "has no method verify_token"),
    ],
)
def test_a_verifier_that_cannot_be_loaded_is_an_error_that_says_why(path: str, reason: str) -> None:
    message = only(found({"default": with_tokens(path)}), "E008")
    assert message.msg.startswith(f"MCP_SESSIONS['default']['TOKEN_VERIFIER']: {path!r}")
    assert reason in message.msg
    assert "verify_token" in str(message.hint)


@pytest.mark.parametrize("key", ["ISSUER_URL", "RESOURCE_URL"])
def test_a_verifier_without_its_url_is_an_error(key: str) -> None:
    message = only(found({"default": {**with_tokens(), key: None}}), "E009")
    assert message.msg == f"MCP_SESSIONS['default'] authenticates by token but has no {key}."
    assert "RFC 9728" in str(message.hint)


def test_an_idle_time_longer_than_the_maximum_age_is_a_warning() -> None:
    message = only(found({"default": entry(IDLE_TTL=7200, MAX_AGE=3600)}), "W002")
    assert "IDLE_TTL (7200 s) is longer than MAX_AGE (3600 s)" in message.msg


def test_an_idle_time_of_exactly_the_maximum_age_is_silent() -> None:
    assert found({"default": entry(IDLE_TTL=3600, MAX_AGE=3600)}) == []


def test_a_first_time_longer_than_the_idle_time_is_a_warning() -> None:
    message = only(found({"default": entry(FIRST_TTL=60, IDLE_TTL=30)}), "W003")
    assert "FIRST_TTL (60 s) is longer than IDLE_TTL (30 s)" in message.msg
    assert found({"default": entry(FIRST_TTL=60, IDLE_TTL=60)}) == []


@pytest.mark.parametrize("name", ["process_local", "foreign_keys", "without_keys"])
def test_request_state_keys_that_are_not_the_deployments_are_a_warning(name: str) -> None:
    message = only(found({"default": entry(SERVER=f"{HERE}.{name}")}), "W005")
    assert f"the request-state keys of '{HERE}.{name}' do not come from SECRET_KEY" in message.msg
    assert "request_state_security=" in str(message.hint)


def test_request_state_keys_of_one_process_do_not_matter_while_sessions_are_its_own() -> None:
    assert ids(found({"default": entry(SERVER=f"{HERE}.process_local")}, caches={})) == {"W001"}


def test_announcements_that_other_processes_would_not_hear_are_a_warning() -> None:
    message = only(found({"unheard": entry()}), "W008")
    assert (
        f"MCP_SESSIONS['unheard']: '{HERE}.server' was built without SharedSubscriptions('unheard')"
        in message.msg
    )
    assert "subscriptions=mcp_sessions.subscriptions.SharedSubscriptions('unheard')" in str(message.hint)


def test_announcements_do_not_matter_in_one_process_or_from_a_low_level_server() -> None:
    assert ids(found({"unheard": entry()}, caches={})) == {"W001"}
    assert found({"unheard": entry(SERVER=f"{HERE}.lowlevel")}) == []


@pytest.mark.parametrize("eras", [[], ["legacy"], ["modern", "legacy"], "modern", None])
def test_eras_are_a_list_of_those_that_there_are_and_never_empty(eras: object) -> None:
    message = only(found({"default": entry(ERAS=eras)}), "E003")
    assert (
        message.msg
        == "MCP_SESSIONS['default']['ERAS'] must be a list of \"handshake\", \"modern\", or both, "
        f"not {eras!r}."
    )


def test_opt_in_tools_without_an_era_that_has_sessions_are_a_warning() -> None:
    server = f"{HERE}.with_opt_in_tools"
    message = only(
        found({"default": entry(SERVER=server, ERAS=["modern"])}, SILENCED_SYSTEM_CHECKS=[]), "W011"
    )
    assert message.msg == (
        "MCP_SESSIONS['default']: ERAS is ['modern'], so there are no sessions, and no client can enable an opt-in "
        f"tool of '{server}': open_till, set_price."
    )
    assert found({"default": entry(SERVER=server)}) == []
    assert found({"default": entry(SERVER=server, ERAS=["handshake"])}) == []
    assert found({"default": entry(ERAS=["modern"])}) == []
    only(found({"default": entry(SERVER=f"{HERE}.fail", ERAS=["modern"])}), "E005")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"AUTHENTICATION": ["no_such_package.Ours"]}, "'no_such_package.Ours' cannot be imported"),
        ({"AUTHENTICATION": ["tokens"]}, "'tokens' cannot be imported"),
        ({"AUTHENTICATION": ["django.contrib.auth.models.User"]}, "is neither an Authenticator nor"),
        (
            {"AUTHENTICATION": ["jwks"], "ISSUER_URL": "https://a.b", "RESOURCE_URL": "https://a.b"},
            "JWKS_URL",
        ),
        ({"AUTHENTICATION": ["proxy"]}, "needs TRUSTED_PROXIES"),
        ({**with_tokens(), "AUTHENTICATION": ["personal-token"]}, "TOKEN_VERIFIER, which nothing uses"),
        (
            {"AUTHENTICATION": [f"{HERE}.Unfinished"]},
            "MCP_SESSIONS['default']['AUTHENTICATION']: TypeError: Can't instantiate abstract class Unfinished",
        ),
    ],
)
def test_an_authenticator_that_cannot_work_is_an_error_that_says_why(
    values: dict[str, Any], reason: str
) -> None:
    message = only(found({"default": entry(**values)}), "E011")
    assert reason in message.msg


@pytest.mark.parametrize("names", [["personal-token", "session"], ["drf"], ["proxy"]])
def test_authenticators_that_have_what_they_need_are_no_error(names: list[str]) -> None:
    assert found({"default": entry(AUTHENTICATION=names, TRUSTED_PROXIES=["10.0.0.0/8"])}) == []


@pytest.mark.parametrize("mapping", ["no_such_field", "no_such_package.find", "django.VERSION"])
def test_a_mapping_that_cannot_work_is_an_error(mapping: str) -> None:
    message = only(found({"default": entry(SUBJECT_TO_USER=mapping)}), "E012")
    assert repr(mapping) in message.msg


@pytest.mark.parametrize("mapping", ["username", f"{HERE}.find_user"])
def test_a_field_and_a_function_are_mappings(mapping: str) -> None:
    assert found({"default": entry(SUBJECT_TO_USER=mapping)}) == []
