"""The embedded engine replies to each command, and with each value of Lua, as a real server does."""

import random
import re
from importlib.resources import files
from typing import Any

import pytest

from mcp_sessions.engine.keyspace import Keyspace
from tests.store.engines import CALL, Both

COMMANDS = {
    "strings": """
        GET a|SET a x|GET a|SET a y PX 100000|GET a|SET a z KEEPTTL|GET a|SET b q KEEPTTL|PTTL b|SET a w|PTTL a
        EXISTS a|EXISTS nil|DEL a nil a b|EXISTS a|DEL a|SET e |GET e|EXISTS e""",
    "lifetimes": """
        PTTL nil|SET a x|PTTL a|PEXPIRE nil 100|PEXPIRE a 100000|PEXPIRE a 0|GET a|SET a x|PEXPIRE a -5|EXISTS a
        HSET h f v|PEXPIRE h 0|HLEN h|PTTL h""",
    "hashes": """
        HGET h f|HGETALL h|HLEN h|HEXISTS h f|HDEL h f|HMGET h a b|HSET h f v|HSET h f w|HSET h a 1 b 2 f 3|HGETALL h
        HLEN h|HGET h f|HGET h nil|HMGET h a nil b a|HEXISTS h a|HEXISTS h nil|HSETNX h a 9|HSETNX h n 9|HSETNX h2 n 9
        HGETALL h2|HDEL h a a nil|HGETALL h|HSET h a 5 a 6|HGETALL h|HDEL h a b f n|EXISTS h""",
    "integers of 64 bits": """
        HINCRBY h f 1|HINCRBY h f -3|HGET h f|HINCRBY h f 9223372036854775807|HGET h f|HINCRBY h f 2|HGET h f
        HINCRBY h f 1|HGET h f|HSET h f -9223372036854775808|HINCRBY h f -1|HINCRBY h f 0|HGET h f|HINCRBY h f 1
        HGET h f|HSET h f 9007199254740993|HINCRBY h f 2|HGET h f|HINCRBY h f x|HINCRBY h f 1.0|HINCRBY h f 01
        HINCRBY h f +1|HINCRBY h f -0|HINCRBY h f |HINCRBY h f 9223372036854775808|HINCRBY h f -9223372036854775809
        HSET h f x|HINCRBY h f 1|HSET h f 1.0|HINCRBY h f 1|HSET h f 01|HINCRBY h f 1|HSET h f |HINCRBY h f 1
        HSET h f 9223372036854775808|HINCRBY h f 1|HSET h f -0|HINCRBY h f 1|HSET h f 0|HINCRBY h f -0
        HINCRBY new f -9223372036854775808|HGET new f|HSET h f 99999999999999999999999|HINCRBY h f 1""",
    "sets": """
        SISMEMBER s a|EXISTS s|SADD s a|SADD s a|SADD s b|SISMEMBER s a|SISMEMBER s x
        DEL s|EXISTS s""",
    "sorted sets": """
        ZADD z 1 a|ZADD z 1 a|ZADD z 2 a|ZADD z 1 b|ZADD z 1 B|ZRANGE z 0 -1 WITHSCORES|ZADD z GT 1 a
        ZADD z GT 3 a|ZADD z GT 0 new|ZADD z GT 4 new|ZADD z 0 new|ZRANGE z 0 -1|ZADD z 1800000000000 t
        ZADD z 9007199254740991 big|ZADD z 0.5 half|ZADD z -7 minus|ZSCORE z a|ZSCORE z nil|ZSCORE z t|ZSCORE z big
        ZSCORE z half|ZSCORE z minus|ZRANGE z 0 -1 WITHSCORES|ZCARD z|ZCARD nil|ZSCORE nil a|ZCOUNT z -inf +inf
        ZCOUNT z (1 3|ZCOUNT z 1 (3|ZCOUNT z (1 (1|ZCOUNT z 3 1|ZCOUNT z 4 +inf|ZCOUNT z -inf (1|ZCOUNT nil 0 1
        ZRANGE z 0 0|ZRANGE z -1 -1|ZRANGE z 5 2|ZRANGE z -100 100|ZRANGE z 100 200|ZRANGE z -3 -2|ZRANGE z 0 -100
        ZRANGE z -1 -1 WITHSCORES
        ZRANGE nil 0 -1
        ZRANGEBYSCORE z -inf +inf|ZRANGEBYSCORE z (1 3|ZRANGEBYSCORE z 1 (3
        ZRANGEBYSCORE z -inf +inf LIMIT 0 2|ZRANGEBYSCORE z -inf (3 LIMIT 0 1000|ZRANGEBYSCORE z 3 1 LIMIT 0 5
        ZRANGEBYSCORE nil 0 1|ZREM z a nil a|ZREM z nil|ZREM nil a|ZREMRANGEBYRANK z 0 0|ZREMRANGEBYRANK z -2 -1
        ZREMRANGEBYRANK z 5 2|ZRANGE z 0 -1|ZREMRANGEBYRANK z 0 -101|ZREMRANGEBYSCORE z (1 3|ZRANGE z 0 -1
        ZREMRANGEBYSCORE z -inf 5|EXISTS z|ZREMRANGEBYSCORE z -inf +inf|EXISTS z|ZADD z 1 a|ZREMRANGEBYRANK z 0 -1
        EXISTS z|ZADD z 1 a|ZREM z a|EXISTS z|ZREMRANGEBYSCORE nil 0 1|ZREMRANGEBYRANK nil 0 1|EXISTS nil""",
    "ranges of members": """
        ZRANGEBYLEX l [a + LIMIT 0 9|ZADD l 0 b|ZADD l 0 a|ZADD l 0 bb|ZADD l 0 c|ZADD l 0 (
        ZRANGEBYLEX l [a + LIMIT 0 9
        ZRANGEBYLEX l (a + LIMIT 0 9|ZRANGEBYLEX l [b [c LIMIT 0 9|ZRANGEBYLEX l (b (c LIMIT 0 9
        ZRANGEBYLEX l [b (bb LIMIT 0 9|ZRANGEBYLEX l [ + LIMIT 0 9|ZRANGEBYLEX l ( [( LIMIT 0 9
        ZRANGEBYLEX l [( (b LIMIT 0 9|ZRANGEBYLEX l [a + LIMIT 0 2|ZRANGEBYLEX l (a (c LIMIT 0 1
        ZRANGEBYLEX l [x + LIMIT 0 9|ZRANGEBYLEX l [c [a LIMIT 0 9|ZRANGEBYLEX l [aa [aa LIMIT 0 9
        ZMSCORE l a x|ZMSCORE nil a b|ZMSCORE l c a b|ZRANGEBYLEX l (c + LIMIT 0 9
        ZADD m 3 a|ZADD m -0.5 b|ZMSCORE m a b c""",
    "streams": """
        XLEN x|XRANGE x - + COUNT 1|XREVRANGE x + - COUNT 1|XDEL x 1-0|EXISTS x|XADD x 1-0 d a|XADD x 2-0 d b
        XADD x 2-5 d c|XADD x 7-0 d |XLEN x|XRANGE x - + COUNT 1|XRANGE x - + COUNT 100|XREVRANGE x + - COUNT 1
        XREVRANGE x + - COUNT 3|XRANGE x (1-0 + COUNT 32|XRANGE x (2-4 + COUNT 2|XRANGE x (7-0 + COUNT 2
        XRANGE x (0 + COUNT 9
        XRANGE x 2-0 2-5 COUNT 9|XRANGE x 2-1 (7-0 COUNT 9|XREVRANGE x (7-0 (1-0 COUNT 9|XRANGE x 5-0 3-0 COUNT 9
        XADD x 7-0 d a|XADD x 3-0 d a|XDEL x 1-0|XDEL x 1-0|XDEL x 9-9|XLEN x|XRANGE x - + COUNT 9|XDEL x 2-5|XLEN x
        XADD x MAXLEN ~ 5 9-0 d a|XADD x MAXLEN 2 9-1 d a|XRANGE x - + COUNT 9|XADD x MAXLEN 1 10-0 d a
        XRANGE x - + COUNT 9|XADD x MAXLEN ~ 5 10-0 d a|DEL x|EXISTS x|XLEN x|XADD x 0-1 d a|XADD x 0-1 d b
        XADD x 18446744073709551615-1 d z|XRANGE x - + COUNT 9|XREVRANGE x + - COUNT 1""",
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
    SADD k m|SISMEMBER k m|ZADD k 1 m|ZREM k m|ZSCORE k m|ZCARD k|ZCOUNT k 0 1|ZRANGE k 0 1
    ZRANGEBYSCORE k 0 1|ZREMRANGEBYRANK k 0 1|ZREMRANGEBYSCORE k 0 1|XADD k 5-0 d a|XLEN k|ZMSCORE k m
    ZRANGEBYLEX k [a + LIMIT 0 9
    XDEL k 0-5|XRANGE k - + COUNT 1|XREVRANGE k + - COUNT 1|PTTL k|EXISTS k|PEXPIRE k 100000|SET k v KEEPTTL|GET k
    DEL k"""


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
    for member in (b"\xff", b"\xfe\xff", b"", b"\x00"):
        both.command("ZADD", "z", 1, member)
    both.command("XADD", "x", "1-0", b"d", every)
    assert both.command("GET", every) == (bytes, every)
    both.command("HGETALL", b"h\xff")
    both.command("ZRANGE", "z", 0, -1)
    both.command("XRANGE", "x", "-", "+", "COUNT", 9)


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
    "return redis.error_reply('WRONGTYPE a b')",
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
    "redis.call('SET', 'n', 2^53) return redis.call('GET', 'n')",
    "redis.call('SET', 'n', -7) return redis.call('GET', 'n')",
    "redis.call('SET', 'n', 100000000) return redis.call('GET', 'n')",
    "return redis.call('GET', nil)",
    "return redis.call('GET', true)",
    "return redis.call('GET', {})",
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
        if chance.random() < 0.03:
            both.same(DELETE_OLDEST)
    for key in ("h", "s", "z", "x", "a"):
        both.same("return {redis.pcall('HGETALL', KEYS[1]), redis.pcall('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES'), "
                  "redis.pcall('XRANGE', KEYS[1], '-', '+'), redis.call('EXISTS', KEYS[1])}", (key,))  # fmt: skip


def _random_command(chance: random.Random) -> list[Any]:
    """One as the scripts call it, mostly on a key of its type."""
    key = chance.choice("hszx") if chance.random() < 0.02 else None
    name = chance.choice("abcdefgh")
    number = chance.choice([0, 1, -1, 2, 7, -3, 100, 2**53 + 1, 2**63 - 1, -(2**63)])
    rank, score = chance.randint(-6, 6), chance.choice([1, 2, 3, 1.5, -1, 1_800_000_000_000])
    low, high = (chance.choice(["", "("]) + str(chance.choice([1, 2, 3, "-inf", "+inf"])) for _ in "ab")
    entry, further = (f"{chance.randint(1, 60)}-{chance.randint(0, 3)}" for _ in "ab")
    of_type: dict[str, list[list[Any]]] = {
        "h": [["HSET", name, number], ["HSET", name, "x", "a", "1.5"], ["HINCRBY", name, number],
              ["HINCRBY", name, chance.randint(-9, 9)], ["HDEL", name, "a"], ["HGET", name], ["HMGET", name, "a", "b"],
              ["HGETALL"], ["HLEN"], ["HEXISTS", name], ["HSETNX", name, rank]],
        "s": [["SADD", name], ["SISMEMBER", name]],
        "z": [["ZADD", score, name], ["ZADD", "GT", score, name], ["ZREM", name, "a"], ["ZSCORE", name], ["ZCARD"],
              ["ZCOUNT", low, high], ["ZRANGE", rank, rank + 2], ["ZRANGE", rank, -1, "WITHSCORES"],
              ["ZRANGEBYSCORE", low, high], ["ZRANGEBYSCORE", low, high, "LIMIT", 0, 2],
              ["ZREMRANGEBYRANK", rank, rank], ["ZREMRANGEBYSCORE", low, "(1"]],
        "x": [["XADD", entry, "d", name], ["XADD", "MAXLEN", 8, entry, "d", name], ["XLEN"],
              ["XRANGE", entry, further, "COUNT", 5], ["XRANGE", "(" + entry, "+", "COUNT", 3],
              ["XREVRANGE", further, "(" + entry, "COUNT", 2]],
        "a": [["GET"], ["SET", number], ["SET", name, "PX", 100_000], ["SET", name, "KEEPTTL"], ["DEL"], ["EXISTS"],
              ["PEXPIRE", 100_000], ["PEXPIRE", 0]],
    }  # fmt: skip
    kind = chance.choice([*of_type, "h", "z"])
    command, *rest = chance.choice(of_type[kind])
    if chance.random() < 0.005:
        command, rest = "DEL", []
    return [command, key or kind, *rest]


#: The one way in which scripts delete entries.
DELETE_OLDEST = """
    if redis.call('XLEN', 'x') < 2 then return 0 end
    return redis.call('XDEL', 'x', redis.call('XRANGE', 'x', '-', '+', 'COUNT', 1)[1][1])"""


def test_the_engine_has_just_the_commands_that_scripts_call() -> None:
    texts = [path.read_text() for path in (files("mcp_sessions.store") / "lua").iterdir()]
    called = {name.encode() for text in texts for name in re.findall(r"redis\.p?call\('(\w+)'", text)}
    assert called == {*Keyspace().commands, b"TIME"}
