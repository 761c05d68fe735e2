"""The commands on keys and strings. TIME is in prelude.lua."""

import math
from typing import Final

from mcp_sessions.store.engine.keyspace import LARGEST, SYNTAX, Keyspace, Refused, Reply, integer


def get(keys: Keyspace, key: bytes) -> Reply:
    value = keys.value(key, bytes)
    return False if value is None else value


def put(keys: Keyspace, key: bytes, value: bytes, *options: bytes) -> Reply:
    if not options:
        keys.put(key, value).until = math.inf
    elif options == (b"KEEPTTL",):
        keys.put(key, value)
    elif len(options) == 2 and options[0] == b"PX":
        left = integer(options[1])
        if left <= 0 or left > LARGEST - keys.now:
            raise Refused("ERR invalid expire time in 'set' command")
        keys.end_at(key, keys.put(key, value), keys.now + left)
    else:
        raise Refused(SYNTAX)
    return True


def delete(keys: Keyspace, key: bytes, *more: bytes) -> Reply:
    return sum([keys.delete(each) for each in (key, *more)])


def exists(keys: Keyspace, key: bytes, *more: bytes) -> Reply:
    return sum([keys.find(each) is not None for each in (key, *more)])


def pexpire(keys: Keyspace, key: bytes, milliseconds: bytes) -> Reply:
    left = integer(milliseconds)
    if left > LARGEST - keys.now:
        raise Refused("ERR invalid expire time in 'pexpire' command")
    found = keys.find(key)
    if found is None:
        return 0
    if left <= 0:
        keys.delete(key)
    else:
        keys.end_at(key, found, keys.now + left)
    return 1


def pttl(keys: Keyspace, key: bytes) -> Reply:
    found = keys.find(key)
    if found is None:
        return -2
    return -1 if found.until == math.inf else int(found.until) - keys.now


COMMANDS: Final = {
    b"GET": get,
    b"SET": put,
    b"DEL": delete,
    b"EXISTS": exists,
    b"PEXPIRE": pexpire,
    b"PTTL": pttl,
}
