"""Programs that use one client library each and do what they are told, so that one test can drive them all.

A command is a line of JSON on standard input: `{"do": "open", "url": ...}`, `{"do": "tools"}`,
`{"do": "call", "tool": ..., "arguments": ...}` or `{"do": "close"}`. It is answered with lines of JSON on standard
output: any number of `{"event": "progress", "value": [progress, total, message]}` while it runs, then one
`{"event": "answer", "value": ...}` or `{"event": "error", "message": ...}`.
"""
