"""The names of every key in Redis. Pure.

| key | type | holds | lives |
| --- | --- | --- | --- |
| `mcp:v1:<namespace>:{<fingerprint>}:session` | string | the record: counters, times, owner, handshake | until the session expires |
| `mcp:v1:<namespace>:{<fingerprint>}:features` | hash | log level, enabled tools; only if any | with the session |
| `mcp:v1:<namespace>:{<fingerprint>}:state` | hash | state names and JSON values; only if any | with the session |
| `mcp:v1:<namespace>:{<fingerprint>}:ended` | string | the tombstone: why the session ended | 10 minutes |
| `mcp:v1:{<namespace>}:index:activity` | sorted set | every session by last activity | IDLE_TTL after the last update |
| `mcp:v1:{<namespace>}:index:client:<name>` | sorted set | the sessions of one client, by last activity | as above |
| `mcp:v1:{<namespace>}:index:protocol:<version>` | sorted set | the sessions of one protocol version | as above |
| `mcp:v1:{<namespace>}:index:principal:<digest>` | sorted set | the sessions of one principal | as above |
| `mcp:v1:{<namespace>}:clients` | sorted set | client names by when they were last seen, at most 100 | MAX_AGE after the last update |

Each name goes through the cache's `make_key`, so that KEY_PREFIX and VERSION hold. The braces are Redis Cluster
hash tags: all of a session in one slot, all of a namespace's indexes in another, so that a script can be atomic.
"""
