"""The commands on hashes and sets."""

from typing import Final

from mcp_sessions.store.engine.keyspace import LARGEST, Keyspace, Refused, Reply, integer


def _fields(keys: Keyspace, key: bytes) -> dict[bytes, bytes]:
    return keys.value(key, dict) or {}


def hset(keys: Keyspace, key: bytes, field: bytes, value: bytes, *more: bytes) -> Reply:
    if len(more) % 2:
        raise Refused("ERR wrong number of arguments for 'hset' command")
    fields = keys.made(key, dict)
    before = len(fields)
    fields[field] = value
    fields.update(zip(more[::2], more[1::2], strict=True))
    return len(fields) - before


def hsetnx(keys: Keyspace, key: bytes, field: bytes, value: bytes) -> Reply:
    return 0 if field in _fields(keys, key) else hset(keys, key, field, value)


def hget(keys: Keyspace, key: bytes, field: bytes) -> Reply:
    return _fields(keys, key).get(field, False)


def hmget(keys: Keyspace, key: bytes, field: bytes, *more: bytes) -> Reply:
    fields = _fields(keys, key)
    return [fields.get(each, False) for each in (field, *more)]


def hgetall(keys: Keyspace, key: bytes) -> Reply:
    return [part for pair in _fields(keys, key).items() for part in pair]


def hdel(keys: Keyspace, key: bytes, field: bytes, *more: bytes) -> Reply:
    fields = _fields(keys, key)
    deleted = [fields.pop(each, None) is not None for each in (field, *more)]
    return keys.removed(key, fields, sum(deleted))


def hexists(keys: Keyspace, key: bytes, field: bytes) -> Reply:
    return int(field in _fields(keys, key))


def hlen(keys: Keyspace, key: bytes) -> Reply:
    return len(_fields(keys, key))


def hincrby(keys: Keyspace, key: bytes, field: bytes, increment: bytes) -> Reply:
    amount = integer(increment)
    total = integer(_fields(keys, key).get(field, b"0"), "ERR hash value is not an integer") + amount
    if not -LARGEST - 1 <= total <= LARGEST:
        raise Refused("ERR increment or decrement would overflow")
    hset(keys, key, field, b"%d" % total)
    return total


def sadd(keys: Keyspace, key: bytes, member: bytes, *more: bytes) -> Reply:
    members = keys.made(key, set)
    before = len(members)
    members.update((member, *more))
    return len(members) - before


def srem(keys: Keyspace, key: bytes, member: bytes, *more: bytes) -> Reply:
    members = keys.value(key, set) or set()
    before = len(members)
    members.difference_update((member, *more))
    return keys.removed(key, members, before - len(members))


def sismember(keys: Keyspace, key: bytes, member: bytes) -> Reply:
    return int(member in (keys.value(key, set) or ()))


def scard(keys: Keyspace, key: bytes) -> Reply:
    return len(keys.value(key, set) or ())


COMMANDS: Final = {
    b"HSET": hset,
    b"HSETNX": hsetnx,
    b"HGET": hget,
    b"HMGET": hmget,
    b"HGETALL": hgetall,
    b"HDEL": hdel,
    b"HEXISTS": hexists,
    b"HLEN": hlen,
    b"HINCRBY": hincrby,
    b"SADD": sadd,
    b"SREM": srem,
    b"SISMEMBER": sismember,
    b"SCARD": scard,
}
