"""The embedded engine replies as a real server does: commands, errors, and every script of the store."""

import asyncio
import random
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import redis
from django.core.exceptions import ImproperlyConfigured
from mcp_sessions.store.call import Script

from mcp_sessions.store import engine as engines
from mcp_sessions.store import scripts, stream_scripts
from mcp_sessions.store.engine import Engine
from mcp_sessions.store.engine.keyspace import SWEPT_AT_ONCE
from tests.servers import RedisServer, run_server
from tests.store.harness import Clock

#: Servers name the script's place at the end of an error, each in its own words.
PLACE = re.compile(r" script: .*on @?user_script:\d+\.$")
CALL = "return redis.call(unpack(ARGV))"
HOUR, DAY = 3_600_000, 86_400_000


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with run_server() as started:
        yield started


class Both:
    """A real server and an engine that are told the same."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.engine = Engine()

    def replies(
        self, script: str, keys: Sequence[Any] = (), arguments: Sequence[Any] = ()
    ) -> tuple[Any, Any]:
        try:
            real = self.client.execute_command("EVAL", script, len(keys), *keys, *arguments)
        except redis.ResponseError as error:
            real = error
        return _plain(real), _plain(self.engine.eval(script, keys, arguments))

    def same(self, script: str, keys: Sequence[Any] = (), arguments: Sequence[Any] = ()) -> Any:
        """Run a script on both and compare; the reply."""
        real, ours = self.replies(script, keys, arguments)
        assert ours == real, (script, keys, arguments)
        return ours

    def command(self, *words: Any) -> Any:
        return self.same(CALL, (), words)

    def line(self, text: str) -> Any:
        return self.command(*text.split(" "))


def _plain(reply: Any) -> Any:
    """Errors in a form that can be compared."""
    if isinstance(reply, list):
        return [_plain(each) for each in reply]
    if isinstance(reply, Exception):
        return "ERROR", type(reply), PLACE.sub("", str(reply))
    return type(reply), reply


@pytest.fixture
def both(server: RedisServer) -> Iterator[Both]:
    with server.client(protocol=2) as client:
        client.flushall()
        yield Both(client)


COMMANDS = {
    "strings": """
        GET a|SET a x|GET a|SET a y PX 100000|GET a|SET a z KEEPTTL|GET a|SET b q KEEPTTL|PTTL b|SET a w|PTTL a
        SET a x PX 0|SET a x PX -1|SET a x PX q|SET a x PX 1.5|SET a x PX 9223372036854775807
        SET a x PX 9223372036854775808|SET a x FOO|SET a x PX|SET a x KEEPTTL PX 1|EXISTS a|EXISTS a a nil b
        DEL a nil a b|EXISTS a|DEL a|GET|GET a b|SET a|DEL|EXISTS|NOPE|SET e |GET e""",
    "lifetimes": """
        PTTL nil|SET a x|PTTL a|PEXPIRE nil 100|PEXPIRE a 100000|PEXPIRE a q|PEXPIRE nil q|PEXPIRE a 1.5|PEXPIRE a
        PEXPIRE a 9223372036854775807|PEXPIRE a 01|PEXPIRE a +1|PEXPIRE a 0|GET a|SET a x|PEXPIRE a -5|EXISTS a
        HSET h f v|PEXPIRE h 0|HLEN h|PTTL|PTTL a b""",
    "hashes": """
        HGET h f|HGETALL h|HLEN h|HEXISTS h f|HDEL h f|HMGET h a b|HSET h f v|HSET h f w|HSET h a 1 b 2 f 3|HGETALL h
        HLEN h|HGET h f|HGET h nil|HMGET h a nil b a|HEXISTS h a|HEXISTS h nil|HSETNX h a 9|HSETNX h n 9|HSETNX h2 n 9
        HGETALL h2|HDEL h a a nil|HGETALL h|HSET h a 5 a 6|HGETALL h|HDEL h a b f n|EXISTS h|HSET h f|HSET h f v g
        HSETNX h f|HGET h|HMGET h|HDEL h|HGETALL|HLEN|HEXISTS h""",
    "integers of 64 bits": """
        HINCRBY h f 1|HINCRBY h f -3|HGET h f|HINCRBY h f 9223372036854775807|HGET h f|HINCRBY h f 2|HGET h f
        HINCRBY h f 1|HGET h f|HSET h f -9223372036854775808|HINCRBY h f -1|HINCRBY h f 0|HGET h f|HINCRBY h f 1
        HGET h f|HSET h f 9007199254740993|HINCRBY h f 2|HGET h f|HINCRBY h f x|HINCRBY h f 1.0|HINCRBY h f 01
        HINCRBY h f +1|HINCRBY h f -0|HINCRBY h f |HINCRBY h f 9223372036854775808|HINCRBY h f -9223372036854775809
        HSET h f x|HINCRBY h f 1|HSET h f 1.0|HINCRBY h f 1|HSET h f 01|HINCRBY h f 1|HSET h f |HINCRBY h f 1
        HSET h f 9223372036854775808|HINCRBY h f 1|HSET h f -0|HINCRBY h f 1|HSET h f 0|HINCRBY h f -0|HINCRBY h f
        HINCRBY new f -9223372036854775808|HGET new f|HSET h f 99999999999999999999999|HINCRBY h f 1""",
    "sets": """
        SISMEMBER s a|SCARD s|SREM s a|SADD s a|SADD s a b b|SCARD s|SISMEMBER s a|SISMEMBER s x|SREM s x|SREM s a a
        SCARD s|SREM s b|EXISTS s|SADD s|SREM s|SCARD|SISMEMBER s""",
    "sorted sets": """
        ZADD z 1 a|ZADD z 1 a|ZADD z 2 a 1 b 1 B|ZRANGE z 0 -1 WITHSCORES|ZREVRANGE z 0 -1 WITHSCORES|ZADD z GT 1 a
        ZADD z GT 3 a 0 new|ZRANGE z 0 -1|ZADD z -inf low +inf high|ZSCORE z a|ZSCORE z low|ZSCORE z high|ZSCORE z nil
        ZADD z 1800000000000 t 0.5 half 9007199254740991 big -7 minus|ZSCORE z t|ZSCORE z half|ZSCORE z big
        ZSCORE z minus|ZADD z -0 zero|ZSCORE z zero|ZADD z 1e3 e|ZSCORE z e|ZADD z 1e17 f|ZSCORE z f|ZADD z .5 g
        ZRANGE z 0 -1 WITHSCORES|ZCARD z|ZCARD nil|ZSCORE nil a|ZCOUNT z -inf +inf|ZCOUNT z (1 3|ZCOUNT z 1 (3
        ZCOUNT z (1 (1|ZCOUNT z 3 1|ZCOUNT z (-inf (inf|ZCOUNT nil 0 1|ZCOUNT z x 1|ZCOUNT z 1 (x|ZCOUNT z 0 nan
        ZRANGE z 0 0|ZRANGE z -1 -1|ZRANGE z 5 2|ZRANGE z -100 100|ZRANGE z 100 200|ZRANGE z -3 -2|ZRANGE z 0 -100
        ZREVRANGE z 0 0|ZREVRANGE z -1 -1|ZREVRANGE z 5 2|ZREVRANGE z -100 100|ZREVRANGE z 1 3|ZREVRANGE z -3 -2
        ZREVRANGE z 100 200|ZREVRANGE z 0 -100|ZRANGE nil 0 -1|ZREVRANGE nil 0 -1|ZRANGE z x 1|ZRANGE z 0 1 FOO
        ZREVRANGE z 0 1 FOO|ZRANGEBYSCORE z -inf +inf|ZRANGEBYSCORE z (1 3|ZRANGEBYSCORE z 1 (3
        ZRANGEBYSCORE z -inf +inf LIMIT 1 2|ZRANGEBYSCORE z -inf +inf LIMIT 0 -1|ZRANGEBYSCORE z -inf +inf LIMIT 2 -5
        ZRANGEBYSCORE z -inf +inf LIMIT -1 2|ZRANGEBYSCORE z -inf +inf LIMIT 100 2|ZRANGEBYSCORE z 0 1 LIMIT 0 0
        ZRANGEBYSCORE z 0 1 LIMIT 0|ZRANGEBYSCORE z 0 1 LIMIT x 1|ZRANGEBYSCORE z a b|ZRANGEBYSCORE nil 0 1
        ZREM z a nil a|ZREM z nil|ZREM nil a|ZADD z x m|ZADD z nan m|ZADD z 1|ZADD z 1 m 2|ZADD z GT 1|ZADD z 1 m x n
        ZSCORE z m|ZREMRANGEBYRANK z 0 0|ZREMRANGEBYRANK z -2 -1|ZREMRANGEBYRANK z 5 2|ZREMRANGEBYRANK z x 2
        ZRANGE z 0 -1|ZREMRANGEBYRANK z 0 -101|ZREMRANGEBYSCORE z (1 3|ZREMRANGEBYSCORE z x 3|ZRANGE z 0 -1
        ZREMRANGEBYSCORE z -inf +inf|EXISTS z|ZADD z 1 a|ZREMRANGEBYRANK z 0 -1|EXISTS z|ZADD z 1 a|ZREM z a|EXISTS z
        ZREMRANGEBYSCORE nil 0 1|ZREMRANGEBYRANK nil 0 1|ZADD z|ZREM z|ZCARD|ZSCORE z|ZRANGE z 0|ZCOUNT z 0""",
    "streams": """
        XLEN x|XRANGE x - +|XREVRANGE x + -|XDEL x 1-0|XADD x 1-0 d a|XADD x 2-0 d b e f|XADD x 2-5 d c|XADD x 7 d d
        XRANGE x - +|XREVRANGE x + -|XRANGE x - + COUNT 1|XREVRANGE x + - COUNT 2|XRANGE x (1-0 +|XRANGE x (2 +
        XRANGE x 2 2|XRANGE x 2 (2-5|XRANGE x (2 (7|XRANGE x 2-1 7-0 COUNT 100|XREVRANGE x (7 (1 COUNT 9|XRANGE x 5 3
        XRANGE x - + COUNT 0|XRANGE x - + COUNT -1|XRANGE nil - + COUNT 0|XRANGE x - + COUNT q|XRANGE x - + COUNT
        XRANGE x - + FOO 1|XRANGE x q +|XRANGE x - q|XRANGE x (- +|XRANGE x (18446744073709551615-18446744073709551615 +
        XRANGE x - (0-0|XRANGE x (1-18446744073709551615 +|XRANGE x - 18446744073709551616|XRANGE x 1-q +
        XADD x 7-0 d a|XADD x 3 d a|XADD x 0-0 d a|XADD x 0 d a|XADD x q d a|XADD x 8 d|XADD x 8 d a b|XADD x
        XDEL x 1-0 1-0 9-9|XDEL x q|XDEL nil q|XDEL x 2|XLEN x|XRANGE x - +|XDEL x 2-5 7-0|XLEN x|EXISTS x
        XADD x 7-0 d a
        XADD x 7-1 d a|XADD x MAXLEN 1 9 d a|XRANGE x - +|XADD x MAXLEN 0 10 d a|XLEN x|EXISTS x|XADD x MAXLEN q 11 d a
        XADD x MAXLEN ~ -1 11 d a|XADD x MAXLEN ~ 5 11 d a|XADD x MAXLEN ~ 5 12 d|XADD x MAXLEN ~ 5|XLEN|XDEL x""",
}  # fmt: skip


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_command_replies_as_a_server_does(both: Both, kind: str) -> None:
    for text in re.split(r"\||\n", COMMANDS[kind].strip("\n")):
        both.line(text.lstrip() if text.strip() else text)


OF_OTHER_TYPES = {
    "string": "SET k v",
    "hash": "HSET k f v",
    "set": "SADD k m",
    "sorted set": "ZADD k 1 m",
    "stream": "XADD k 1-0 d a",
}
EVERY_COMMAND = """
    GET k|HGET k f|HMGET k f|HGETALL k|HDEL k f|HEXISTS k f|HLEN k|HSET k f v|HSETNX k f v|HINCRBY k f 1
    HINCRBY k f x|SADD k m|SREM k m|SISMEMBER k m|SCARD k|ZADD k 1 m|ZADD k x m|ZREM k m|ZSCORE k m|ZCARD k
    ZCOUNT k 0 1|ZCOUNT k x 1|ZRANGE k 0 1|ZRANGE k x 1|ZREVRANGE k 0 1|ZRANGEBYSCORE k 0 1|ZRANGEBYSCORE k x 1
    ZREMRANGEBYRANK k 0 1|ZREMRANGEBYRANK k x 1|ZREMRANGEBYSCORE k 0 1|XADD k 5-0 d a|XADD k q d a|XADD k 0-0 d a
    XLEN k|XDEL k 1-0|XDEL k q|XRANGE k - +|XRANGE k q +|XREVRANGE k + -|PTTL k|EXISTS k|PEXPIRE k x|SET k x PX q
    SET k x FOO|PEXPIRE k 100000|SET k v KEEPTTL|GET k|DEL k"""


@pytest.mark.parametrize("kind", OF_OTHER_TYPES)
def test_a_key_of_another_type_is_refused_as_by_a_server(both: Both, kind: str) -> None:
    for text in re.split(r"\||\n", EVERY_COMMAND.strip()):
        both.line("DEL k")
        both.line(OF_OTHER_TYPES[kind])
        both.line(text.strip())


def test_bytes_of_every_value_are_kept(both: Both) -> None:
    every = bytes(range(256))
    both.command("SET", every, every)
    both.command("HSET", b"h\xff", b"\xff", b"\x00\r\n")
    both.command("ZADD", "z", 1, b"\xff", 1, b"\xfe\xff", 1, b"", 1, b"\x00")
    both.command("XADD", "x", "1-0", b"d", every)
    assert both.command("GET", every) == (bytes, every)
    both.command("HGETALL", b"h\xff")
    both.command("ZRANGE", "z", 0, -1)
    both.command("XRANGE", "x", "-", "+")


OF_LUA = [
    "return {1, nil, 3}",
    "return {1, false, true, 3.9, -3.9, -0.5, 'x', {}, {{1}, {}}}",
    "return true",
    "return false",
    "return nil",
    "return 2^53 + 1",
    "return -2^63",
    "return 2^62",
    "return {ok = 'fine'}",
    "return {1, {ok = 'fine'}, 3}",
    "return {err = 'oops'}",
    "return {err = 'ERR oops here'}",
    "return {1, {err = 'WRONGTYPE oops'}, {err = 'ERR x'}, {{err = 'in there'}}, 3}",
    "return redis.error_reply('oops')",
    "return redis.error_reply('WRONGTYPE a b')",
    "return redis.error_reply('-A b')",
    "return redis.status_reply('yes')",
    "return redis.call('SET', 'a', 'x')",
    "return redis.pcall('HGET', 'a', 'f')",
    "local e = redis.pcall('HGET', 'a', 'f') return {type(e), e.err}",
    "local done, e = pcall(redis.call, 'HGET', 'a', 'f') return {done, type(e), e}",
    "local done, e = pcall(redis.pcall, 'HGET', 'a', 'f') return {done, type(e)}",
    "local done, e = pcall(error, 'q') return {done, e}",
    "local done, a, b = pcall(function(x) return x, 2 end, 1) return {done, a, b}",
    "redis.call('HGET', 'a', 'f') return 1",
    "return redis.call('HGET', 'a', 'f')",
    "local r = redis.call('SET', 'a', 'x') return {type(r), r.ok}",
    "return type(redis.call('HGET', 'nil', 'f'))",
    "local r = redis.call('HMGET', 'nil', 'f', 'g') return {type(r[1]), #r}",
    "return type(redis.call('HLEN', 'nil'))",
    "redis.call('ZADD', 'z', 1, 'm') return type(redis.call('ZSCORE', 'z', 'm'))",
    "return type(redis.call('HINCRBY', 'n', 'f', '9223372036854775807'))",
    "return redis.call('HINCRBY', 'n2', 'f', '9223372036854775807') == 2^63",
    "local t = redis.call('TIME') return {#t, type(t[1]), type(t[2]), #t[1]}",
    "redis.call('SET', 'n', 100000000) return redis.call('GET', 'n')",
    "redis.call('SET', 'n', 2^60) return redis.call('GET', 'n')",
    "redis.call('SET', 'n', -0.0) return redis.call('GET', 'n')",
    "redis.call('SET', 'n', 0.1) return redis.call('GET', 'n')",
    "redis.call('SET', 'n', 1/3) return redis.call('GET', 'n')",
    "redis.call('SET', 'n', 1e22) return redis.call('GET', 'n')",
    "redis.call('SET', 'n', 1/0) return redis.call('GET', 'n')",
    "return redis.call('GET', nil)",
    "return redis.call('GET', true)",
    "return redis.call('GET', {})",
    "return redis.call('NOPE', 1)",
    "return redis.call('GET', 1, 2)",
    "return {string.format('%.17g', 0.1), string.format('%.17g', 1e300 * 10), string.format('%.0f', 2^53 + 2)}",
    "return {tostring(2^63), tostring(0.1), tonumber('0x10'), tonumber('1e3'), tonumber(' 7 '), tonumber('7x')}",
    r"return {string.match('a\255b', '\255'), string.find('a.b', '.', 1, true), string.gsub('abca', 'a', '')}",
    "return {unpack({1, 2, 3}, 2)}",
    "local t = {} for i = 1, 7000 do t[i] = i end return {#t, select('#', unpack(t))}",
    "local t = {} for i = 1, 20000 do t[i] = tostring(i) end return t",
    "error('boom')",
    "error({err = 'a b'})",
    r"error('two\nlines')",
    "return nope",
    "nope = 1",
    "retur 1",
    "return {#KEYS, #ARGV}",
]  # fmt: skip


@pytest.mark.parametrize("script", OF_LUA)
def test_a_value_of_lua_is_replied_as_by_a_server(both: Both, script: str) -> None:
    both.line("SET a x")
    both.same(script)


def test_keys_and_arguments_arrive_as_from_redis_py(both: Both) -> None:
    script = (
        "local all = {#KEYS} for i, v in ipairs(ARGV) do all[i + 1] = type(v) .. v end return {KEYS[2], all}"
    )
    both.same(script, ("schlüssel", b"\xff"), (1, -5, 2**63, 1.5, 0.1, "ü", b"\xff", ""))
    both.same(script, [f"k{n}" for n in range(3000)], range(9000))


def test_a_lifetime_counts_down_as_on_a_server(both: Both) -> None:
    for text in ("SET a x PX 100000", "HSET h f v", "PEXPIRE h 5000", "SET b x PX 5000", "SET b y KEEPTTL"):
        both.line(text)
    for key in "ahb":
        (_, real), (_, ours) = both.replies(CALL, (), ("PTTL", key))
        assert 0 <= abs(real - ours) < 2_000
    for text in ("SET a x", "DEL h", "HSET h f v"):
        both.line(text)
    assert (both.line("PTTL a"), both.line("PTTL h")) == ((int, -1), (int, -1))


def test_the_server_gives_ids_that_grow(both: Both) -> None:
    add = "return redis.call('XADD', 'x', 'MAXLEN', '~', 1000, '*', 'd', ARGV[1])"
    for reply in (both.replies(add, (), (n,)) for n in range(50)):
        assert [re.fullmatch(rb"\d{13}-\d+", text) is not None for _, text in reply] == [True, True]
    ids = [entry[0] for entry in both.engine.eval("return redis.call('XRANGE', 'x', '-', '+')")]
    assert len(set(ids)) == 50
    assert ids == sorted(ids, key=lambda text: tuple(map(int, text.split(b"-"))))


@pytest.mark.parametrize("seed", range(8))
def test_random_commands_reply_as_on_a_server(both: Both, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    for _ in range(1500):
        both.command(*_random_command(chance))
    for key in ("h", "s", "z", "x", "a"):
        both.same("return {redis.pcall('HGETALL', KEYS[1]), redis.pcall('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES'), "
                  "redis.pcall('XRANGE', KEYS[1], '-', '+'), redis.call('EXISTS', KEYS[1])}", (key,))  # fmt: skip


def _random_command(chance: random.Random) -> list[Any]:
    """One that a server can run, mostly on a key of its type."""
    key = chance.choice("hszx") if chance.random() < 0.02 else None
    name = chance.choice("abcdefgh")
    number = chance.choice([0, 1, -1, 2, 7, -3, 100, 2**53 + 1, 2**63 - 1, -(2**63), "x", "1.5"])
    rank, score = chance.randint(-6, 6), chance.choice([1, 2, 3, 1.5, -1, "inf", "-inf"])
    low, high = (chance.choice(["", "("]) + str(chance.choice([1, 2, 3, "-inf", "+inf"])) for _ in "ab")
    entry, further = (f"{chance.randint(0, 60)}-{chance.randint(0, 3)}" for _ in "ab")
    of_type: dict[str, list[list[Any]]] = {
        "h": [["HSET", name, number], ["HINCRBY", name, number], ["HINCRBY", name, chance.randint(-9, 9)],
              ["HDEL", name, "a"], ["HGET", name], ["HMGET", name, "a", "b"], ["HGETALL"], ["HLEN"],
              ["HEXISTS", name], ["HSETNX", name, rank]],
        "s": [["SADD", name, "a"], ["SREM", name], ["SISMEMBER", name], ["SCARD"]],
        "z": [["ZADD", score, name], ["ZADD", "GT", score, name, 2, "a"], ["ZREM", name], ["ZSCORE", name], ["ZCARD"],
              ["ZCOUNT", low, high], ["ZRANGE", rank, rank + 2], ["ZREVRANGE", rank, rank + 2, "WITHSCORES"],
              ["ZRANGEBYSCORE", low, high, "LIMIT", rank, 2], ["ZREMRANGEBYRANK", rank, rank],
              ["ZREMRANGEBYSCORE", low, "(1"], ["ZRANGEBYSCORE", low, high]],
        "x": [["XADD", entry, "d", name], ["XADD", "MAXLEN", 8, entry, "d", name], ["XDEL", entry], ["XLEN"],
              ["XRANGE", entry, further], ["XRANGE", "(" + entry, "+", "COUNT", 3],
              ["XREVRANGE", further, "(" + entry]],
        "a": [["GET"], ["SET", number], ["SET", name, "PX", 100_000], ["SET", name, "KEEPTTL"], ["DEL"], ["EXISTS"],
              ["PEXPIRE", 100_000], ["PEXPIRE", 0]],
    }  # fmt: skip
    kind = chance.choice([*of_type, "h", "z"])
    command, *rest = chance.choice(of_type[kind])
    if chance.random() < 0.005:
        command, rest = "DEL", []
    return [command, key or kind, *rest]


# The scripts


class Store:
    """Runs scripts on both with a clock in the arguments, as the store does in tests."""

    def __init__(self, both: Both) -> None:
        self.both = both
        self.now = 1_800_000_000_000
        self.ran: set[str] = set()

    def run(self, script: Script, keys: str, *arguments: Any) -> Any:
        """`NOW` stands for the clock."""
        self.ran.add(script.name)
        sent = [self.now if each is NOW else each for each in arguments]
        return self.both.same(script.text, ["{s}:" + key for key in keys.split()], sent)

    def create(self, name: str = "", *, idle_ms: int = HOUR) -> None:
        handshake = '["2025-11-25",{"name":"claude"},{}]'
        self.run(scripts.CREATE, f"record{name} tomb{name}", "user:1", handshake, idle_ms, DAY, NOW)


NOW = object()


@pytest.fixture
def store(both: Both) -> Store:
    return Store(both)


def test_sessions_are_the_same(store: Store) -> None:
    store.create()
    store.create()
    touch = ("user:1", HOUR, "tools/call", "i", 60_000, NOW)
    assert store.run(scripts.TOUCH, "record features state", *touch)
    store.now += 5
    store.run(
        scripts.TOUCH,
        "record features state nil f s record features state",
        *touch,
        *touch,
        "user:2",
        *touch[1:],
    )
    for arguments in (
        (1, "level", "debug"),
        (2, "a", "", "b", "", "level"),
        (0, "a", "b"),
        (1, "level", "info"),
    ):
        store.run(scripts.FEATURES, "record features", NOW, *arguments)
    store.run(scripts.TOUCH, "record features state", *touch)
    store.now += HOUR - 1
    store.run(scripts.KEEP, "record features state", HOUR, 60_000, NOW)
    store.run(scripts.GET, "record features", NOW)
    store.both.line("SET {s}:record1 rubbish")
    store.both.line("HSET {s}:record2 not a-record")
    store.run(scripts.TOUCH, "record1 f1 s1 record f s record2 f2 s2", *touch, *touch, *touch)
    store.run(scripts.GET, "record1 f1", NOW)
    store.run(scripts.GET, "record2 f2", NOW)
    store.run(scripts.END, "record features state tomb other", "=user:2", "deleted", 60_000, NOW)
    store.run(scripts.END, "record features state tomb other", "=user:1", "deleted", 60_000, NOW)
    store.create()
    store.now += HOUR
    store.run(scripts.GET, "record features", NOW)
    assert store.ran == {"create", "touch", "features", "keep", "get", "end"}


def test_state_is_the_same(store: Store) -> None:
    store.create()
    state = "record state"
    store.run(scripts.STATE_GET, state, NOW)
    store.run(scripts.STATE_SET, state, NOW, 100, "a", "1", "b", '"x"')
    store.run(scripts.STATE_SET, state, NOW, 100, "a", "x" * 100)
    store.run(scripts.STATE_APPEND, state, NOW, 100, "list", "1")
    store.run(scripts.STATE_APPEND, state, NOW, 100, "list", '"\xff"')
    store.run(scripts.STATE_APPEND, state, NOW, 100, "a", "1")
    store.run(scripts.STATE_GET, state, NOW, "a", "nil", "list")
    store.run(scripts.STATE_GET, state, NOW)
    store.run(scripts.STATE_DELETE, state, NOW, "a", "nil")
    store.run(scripts.STATE_GET, state, NOW)
    store.run(scripts.STATE_DELETE, state, NOW, "b", "list")
    store.both.line("EXISTS {s}:state")
    store.run(scripts.STATE_DELETE, "nil state", NOW, "b")
    assert store.ran == {"create", "state_get", "state_set", "state_append", "state_delete"}


NUMBERS = [
    "0", "1", "-1", "-0", "9007199254740993", "9223372036854775807", "-9223372036854775808", "9223372036854775806",
    "9223372036854775808", "-9223372036854775809", "18446744073709551616", "4611686018427387904", "007", "1.5", "2.0",
    "-4611686018427387905", "123456789012345678901234567890", "1e3", "1e+308", "-1e308", "0.1", "1e-07",
    "1.7976931348623157e+308", "1e400", "1e", '"x"', "null", "[]", "", "-",
]  # fmt: skip


@pytest.mark.parametrize("before", [None, *NUMBERS])
def test_sums_are_the_same(store: Store, before: str | None) -> None:
    store.create()
    for amount in NUMBERS:
        store.run(scripts.STATE_DELETE, "record state", NOW, "n")
        if before is not None:
            store.run(scripts.STATE_SET, "record state", NOW, 1000, "n", before)
        store.run(scripts.STATE_INCR, "record state", NOW, 1000, "n", amount)
        store.run(scripts.STATE_INCR, "record state", NOW, 5, "n", amount)
        store.run(scripts.STATE_GET, "record state", NOW)


def test_indexes_are_the_same(store: Store) -> None:
    keys = "activity new clients principal client protocol"
    for n in range(12):
        first = "" if n % 3 else 60_000 + n
        caps = ("", "") if n < 8 else (9, "") if n < 10 else ("", 5)
        store.now += 1_000
        member = bytes([n]) * 32
        store.run(scripts.INDEX, keys, NOW, member, HOUR, first, f"client {n % 4}", DAY, *caps)
    for order in ("asc", "desc"):
        for since, before, offset, limit in (("", "", 0, 5), ("", "", 3, 5), (store.now - 4_000, "", 0, 9),
                                             ("", store.now - 2_000, 1, 3), ("", "", 50, 5)):  # fmt: skip
            store.run(scripts.PAGE, "activity activity new", NOW, HOUR, since, before, offset, limit, order)
    store.run(scripts.CLIENTS, "clients")
    store.run(scripts.UNINDEX, "activity principal", bytes(32), bytes([5]) * 32, b"nobody")
    store.run(scripts.UNINDEX, "activity principal")
    store.now += HOUR
    store.run(scripts.INDEX, keys, NOW, b"late", HOUR, "", "client", DAY, "", "")
    store.run(scripts.PAGE, "activity activity new", NOW, HOUR, "", "", 0, 5, "asc")
    assert store.ran == {"index", "page", "clients", "unindex"}


def test_streams_are_the_same(store: Store) -> None:
    store.create()
    keys = "record log info"
    run = store.run
    run(stream_scripts.APPEND, keys, NOW, 1, "", 10, 1000, HOUR, "early")
    run(stream_scripts.OPEN, keys, NOW, "node", "7", HOUR)
    run(stream_scripts.OPEN, keys, NOW, "node", "7", HOUR)
    run(stream_scripts.APPEND, keys, NOW, 1, "", 3, 1000, HOUR, "one", "two", "three", "four")
    run(stream_scripts.APPEND, keys, NOW, 3, "", 3, 1000, HOUR, "three", "four", "five")
    run(stream_scripts.READ, keys, NOW, 1, 0, 1000)
    run(stream_scripts.CLAIM, keys, NOW, "other", 3, "")
    run(stream_scripts.READ, keys, NOW, 1, 3, 1000)
    run(stream_scripts.READ, keys, NOW, 2, 3, 3)
    run(stream_scripts.KEEP, keys, NOW)
    run(stream_scripts.APPEND, keys, NOW, 6, "1", 3, 5, HOUR, "answer")
    run(stream_scripts.APPEND, keys, NOW, 6, "1", 3, 5, HOUR, "answer")
    run(stream_scripts.APPEND, keys, NOW, 7, "1", 3, 5, HOUR, "late")
    run(stream_scripts.READ, keys, NOW, 2, 0, 1000)
    run(stream_scripts.OPEN, "record log2 info2", NOW, "node", "8", HOUR)
    run(stream_scripts.CLOSE, "record log2 info2", NOW, 3, 100, HOUR, "orphan")
    run(stream_scripts.CLOSE, "record log2 info2", NOW, 3, 100, HOUR, "orphan")
    for name, kept in (("a", 2), ("b", 2), ("b", 2), ("c", 2), ("", 2)):
        run(stream_scripts.FINISHED, "record finished info", NOW, name, kept, 1000)
    run(stream_scripts.CLAIM, "record log3 info3", NOW, "node", "", "")
    run(stream_scripts.CLAIM, "record log3 info3", NOW, "node", "", "1")
    for name in ("p1", "p2", "p1", "p3"):
        store.now += 1_000
        standalone = "record log3 info3 published"
        run(stream_scripts.PUBLISH, standalone, NOW, name, 60_000, 2, 10, 1000, HOUR, name, name * 40)
    run(stream_scripts.READ, "record log3 info3", NOW, 1, 0, 1000)
    run(
        stream_scripts.PUBLISH,
        standalone,
        NOW,
        "many",
        60_000,
        2,
        100,
        9000,
        HOUR,
        *[str(n) for n in range(70)],
    )
    run(stream_scripts.READ, "record log3 info3", NOW, 1, 6, 9000)
    run(stream_scripts.READ, "record log3 info3", NOW, 1, 999, 9000)
    run(stream_scripts.DROP, "log info nil")
    store.now += HOUR
    run(stream_scripts.FINISHED, "record finished info", NOW, "d", 2, 1000)
    assert store.ran - {"create"} == {
        f"stream_{name}"
        for name in ("open", "append", "publish", "claim", "read", "close", "keep", "finished")
    } | {"drop"}


def test_questions_and_subscriptions_are_the_same(store: Store) -> None:
    store.create()
    run = store.run
    run(stream_scripts.ANSWER, "record question", NOW, "early")
    run(stream_scripts.ASK, "record question", NOW, "node", 60_000)
    for text in ("1", "2", "2", "3"):
        run(stream_scripts.PROGRESS, "record question", NOW, text, 2)
    for after in (0, 2, 9):
        run(stream_scripts.REPLIES, "record question", NOW, after)
    run(stream_scripts.ANSWER, "record question", NOW, "answer")
    run(stream_scripts.ANSWER, "record question", NOW, "another")
    run(stream_scripts.PROGRESS, "record question", NOW, "late", 2)
    run(stream_scripts.REPLIES, "record question", NOW, 1)
    run(stream_scripts.WITHDRAW, "question")
    run(stream_scripts.REPLIES, "record question", NOW, 1)
    for resource in ("a", "b", "a", "c"):
        run(stream_scripts.SUBSCRIBE, "record subscriptions", NOW, resource, 2)
        run(stream_scripts.SUBSCRIBED, "record subscriptions", NOW, resource)
    run(stream_scripts.UNSUBSCRIBE, "record subscriptions", NOW, "a")
    run(stream_scripts.UNSUBSCRIBE, "record subscriptions", NOW, "a")
    names = {"ask", "answer", "progress", "replies", "withdraw", "subscribe", "unsubscribe", "subscribed"}
    assert store.ran == {"create"} | names


def test_nodes_are_the_same(store: Store) -> None:
    run = store.run
    run(stream_scripts.RING, "nodes inbox", "a", 100, "unheard")
    for node in "abc":
        run(stream_scripts.BEAT, "nodes about inbox", NOW, node, f"about {node}", 60_000)
        store.now += 30_000
    run(stream_scripts.NODES, "nodes about")
    run(stream_scripts.BEAT, "nodes about inbox", NOW, "c", "again", 60_000)
    assert run(stream_scripts.RING, "nodes inbox", "c", 100, "one", "two") == (int, 1)
    run(stream_scripts.LEAVE, "nodes about inbox", "b")
    run(stream_scripts.NODES, "nodes about")
    run(stream_scripts.NOTICES, "notices", "5-0", 60_000, 10)
    store.both.line("XADD {s}:notices 7-0 n one")
    store.both.line("XADD {s}:notices 9-1 n two")
    for after in ("5-0", "7-0", "9-0", "9-1", "10-0"):
        run(stream_scripts.NOTICES, "notices", after, 60_000, 1)
    posted = "{s}:posted"
    for reply in store.both.replies(stream_scripts.POST.text, [posted], [1000, 60_000, "notice"]):
        assert re.fullmatch(rb"\d{13}-0", reply[1])
    read = store.both.replies(stream_scripts.NOTICES.text, [posted], ["", 60_000, 10])
    assert [reply[1] for reply in read] == [[(bytes, b"notice")]] * 2
    assert store.ran == {"ring", "node_beat", "nodes", "node_leave", "notices"}


def test_an_error_ends_the_script_where_it_is(store: Store) -> None:
    """No rollback: what was written before stays, as on a server."""
    store.create()
    store.both.line("HSET {s}:new not sorted")
    store.run(scripts.INDEX, "activity new clients principal", NOW, "m", HOUR, "", "client", DAY, "", "")
    store.both.line("ZADD {s}:activity 1 other")
    store.run(scripts.INDEX, "activity clients new principal", NOW, "m", HOUR, "", "client", DAY, "", "")
    store.both.line("ZRANGE {s}:activity 0 -1 WITHSCORES")


# What only the engine has


def _set(engine: Engine, key: str, milliseconds: int) -> None:
    engine.eval("redis.call('SET', KEYS[1], 'x', 'PX', ARGV[1])", [key], [milliseconds])


def test_a_key_ends_by_the_injected_clock() -> None:
    clock = Clock()
    engine = Engine(clock)
    _set(engine, "a", 1_000)
    get = "return {redis.call('GET', 'a'), redis.call('PTTL', 'a'), redis.call('TIME')}"
    assert engine.eval(get) == [b"x", 1_000, [b"1800000000", b"0"]]
    clock.advance(1_000)
    assert engine.eval(get) == [b"x", 0, [b"1800000001", b"0"]]
    clock.advance(1)
    assert engine.eval(get) == [None, -2, [b"1800000001", b"1000"]]


def test_time_stands_still_for_a_script() -> None:
    ticks = iter(range(1_800_000_000_000, 1_900_000_000_000, 1_000))
    engine = Engine(lambda: next(ticks))
    engine.eval("redis.call('SET', 'a', 'x', 'PX', 1000)")
    before, value, after = engine.eval(
        "return {redis.call('TIME'), redis.call('GET', 'a'), redis.call('TIME')}"
    )
    assert (before, value) == (after, b"x")


def test_expired_keys_go_a_bounded_number_at_a_time() -> None:
    clock = Clock()
    engine = Engine(clock)
    for n in range(1_000):
        _set(engine, f"k{n}", 1_000)
    clock.advance(1_001)
    engine.eval("return 1")
    assert len(engine) == 1_000 - SWEPT_AT_ONCE
    for _ in range(1_000 // SWEPT_AT_ONCE):
        engine.eval("return 1")
    assert len(engine) == 0


def test_a_key_that_is_kept_alive_is_not_swept() -> None:
    clock = Clock()
    engine = Engine(clock)
    for _ in range(100):
        _set(engine, "kept", 1_000)
        clock.advance(900)
    assert engine.eval("return redis.call('GET', 'kept')") == b"x"
    engine.eval("redis.call('SET', 'kept', 'for good')")
    clock.advance(DAY)
    assert engine.eval("return redis.call('GET', 'kept')") == b"for good"
    _set(engine, "kept", 1_000)
    clock.advance(1_001)
    engine.eval("return 1")
    assert len(engine) == 0


def test_what_is_touched_or_deleted_leaves_nothing_behind() -> None:
    engine = Engine()
    for n in range(5_000):
        _set(engine, f"k{n}", DAY - n)
        _set(engine, "same", DAY - n)
        engine.eval("redis.call('DEL', KEYS[1])", [f"k{n}"])
    assert len(engine) == 1
    assert len(engine._keys._queue) < 100


def test_an_inbox_is_read_after_an_id() -> None:
    engine = Engine(Clock())
    assert (engine.newest_id("inbox"), engine.xread("inbox", b"0-0", 10)) == (b"0-0", [])
    for n in range(3):
        engine.eval("redis.call('XADD', KEYS[1], '*', 'd', ARGV[1])", ["inbox"], [n])
    newest = engine.newest_id(b"inbox")
    assert newest == b"1800000000000-2"
    assert engine.xread("inbox", b"0-0", 1) == [(b"1800000000000-0", {b"d": b"0"})]
    assert engine.xread("inbox", b"1800000000000-0", 10)[-1] == (newest, {b"d": b"2"})
    assert engine.xread("inbox", newest, 10) == []
    engine.eval("redis.call('XDEL', KEYS[1], ARGV[1])", ["inbox"], [newest])
    assert engine.newest_id("inbox") == newest


async def test_an_entry_wakes_who_waits_for_it_from_any_thread() -> None:
    engine = Engine()
    loop, woken = asyncio.get_running_loop(), asyncio.Event()
    read: list[Any] = []

    def wake(key: bytes) -> None:
        read.extend(engine.xread(key, b"0-0", 10))
        loop.call_soon_threadsafe(woken.set)

    engine.on_append = wake
    add = "for i = 1, 2 do redis.call('XADD', KEYS[1], '*', 'd', 'x') end error('after all')"
    await asyncio.to_thread(engine.eval, add, ["inbox"])
    await asyncio.wait_for(woken.wait(), 5)
    assert [fields for _, fields in read] == [{b"d": b"x"}] * 2


def test_threads_do_not_lose_updates() -> None:
    engine = Engine()
    script = "local n = tonumber(redis.call('HGET', 'h', 'f') or 0) redis.call('HSET', 'h', 'f', n + 1)"

    def add() -> None:
        for _ in range(500):
            engine.eval(script)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert engine.eval("return redis.call('HGET', 'h', 'f')") == b"2000"


@pytest.mark.parametrize(
    "script", ["return redis.call('GET', 'k')", "return tostring(pcall(redis.call, 'GET', 'k'))"]
)
def test_an_error_of_python_is_no_reply(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setitem(engines._COMMANDS, b"GET", (broken, 0, 9))
    engine = Engine()
    with pytest.raises(ZeroDivisionError, match="a bug"):
        engine.eval(script)
    assert engine.eval("return redis.call('EXISTS', 'k')") == 0


def test_a_script_sees_nothing_of_python_or_the_system() -> None:
    engine = Engine()
    for name in ("python", "os", "io", "debug", "package", "require", "loadstring", "getfenv", "_G"):
        assert "nonexistent global variable" in str(engine.eval(f"return type({name})"))


def test_without_lupa_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "lua51", None)
    with pytest.raises(
        ImproperlyConfigured, match=r'no Redis is configured.*pip install "mcp-sessions\[memory\]"'
    ):
        Engine()


def test_the_module_can_be_imported_without_lupa() -> None:
    code = "import sys; sys.modules['lupa'] = None; from mcp_sessions.store.engine import lua51; assert lua51 is None"
    subprocess.run([sys.executable, "-c", code], check=True)
