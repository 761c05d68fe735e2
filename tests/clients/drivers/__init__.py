"""Programs that use one client library each and do what they are told, so that one test can drive them all.

A command is a line of JSON on standard input: `{"do": "open", "url": ...}`, `{"do": "tools"}`,
`{"do": "call", "tool": ..., "arguments": ...}` or `{"do": "close"}`. It is answered with lines of JSON on standard
output: any number of `{"event": "progress", "value": [progress, total, message]}` while it runs, then one
`{"event": "answer", "value": ...}` or `{"event": "error", "message": ...}`. With a session,
the programs answer what the server asks, a number with 33 and anything else with 42, and say
`{"event": "asked", "value": <the question>}`.

The one in TypeScript also knows `{"do": "leave", "tool": ..., "arguments": ...}`, which calls and goes away after the
first progress, and `{"do": "resume", "url": ..., "session": ..., "token": ..., ...}`, which goes on with such a call.
"""
