"""What can go wrong between us and Redis, and what applies unless OPTIONS say otherwise."""

import logging
from typing import Final

from redis.exceptions import RedisClusterException, RedisError

#: The store and its connections have one logger.
log: Final = logging.getLogger("mcp_sessions.store")

#: What can go wrong between us and Redis. RedisClusterException is not a RedisError.
REDIS_ERRORS: Final = (RedisError, RedisClusterException, OSError, TimeoutError, EOFError)

#: Seconds that an answer, a connection and a free connection of the pool may take.
SOCKET_TIMEOUT: Final = 2.0
CONNECT_TIMEOUT: Final = 1.0
MAX_CONNECTIONS: Final = 32
