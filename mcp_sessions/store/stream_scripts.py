"""The Lua scripts of streams, questions, nodes, notices and doorbells; see `scripts`."""

from typing import Final

from mcp_sessions.store.scripts import Script

_ON_STREAMS: Final = ("_record", "_stream")

OPEN: Final = Script("stream_open", *_ON_STREAMS, repeatable=True)
APPEND: Final = Script("stream_append", *_ON_STREAMS, repeatable=True)
PUBLISH: Final = Script("stream_publish", *_ON_STREAMS, repeatable=True)
CLAIM: Final = Script("stream_claim", *_ON_STREAMS, repeatable=True)
READ: Final = Script("stream_read", *_ON_STREAMS, repeatable=True)
CLOSE: Final = Script("stream_close", *_ON_STREAMS, repeatable=True)
KEEP: Final = Script("stream_keep", *_ON_STREAMS, repeatable=True)
FINISHED: Final = Script("stream_finished", "_record", repeatable=True)
DROP: Final = Script("drop", repeatable=True)
ASK: Final = Script("ask", "_record", repeatable=True)
ANSWER: Final = Script("answer", "_record")
PROGRESS: Final = Script("progress", "_record", repeatable=True)
REPLIES: Final = Script("replies", "_record", repeatable=True)
WITHDRAW: Final = Script("withdraw", repeatable=True)
SUBSCRIBE: Final = Script("subscribe", "_record", repeatable=True)
UNSUBSCRIBE: Final = Script("unsubscribe", "_record", repeatable=True)
SUBSCRIBED: Final = Script("subscribed", "_record", repeatable=True)
BEAT: Final = Script("node_beat", "_record", repeatable=True)
LEAVE: Final = Script("node_leave", repeatable=True)
NODES: Final = Script("nodes", repeatable=True)
RING: Final = Script("ring", repeatable=True)
POST: Final = Script("post", repeatable=True)
NOTICES: Final = Script("notices", "_record", repeatable=True)
