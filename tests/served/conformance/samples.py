"""The smallest files that are still a PNG and a WAV, as MCP carries them: base64."""

import base64
import struct
import zlib
from typing import Final


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


#: One red pixel.
PNG: Final = (
    b"\x89PNG\r\n\x1a\n"
    + _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    + _chunk(b"IDAT", zlib.compress(b"\x00\xff\x00\x00"))
    + _chunk(b"IEND", b"")
)
#: One silent sample, 8 kHz, mono, 8 bits.
WAV: Final = struct.pack(
    "<4sI4s4sIHHIIHH4sIB", b"RIFF", 37, b"WAVE", b"fmt ", 16, 1, 1, 8000, 8000, 1, 8, b"data", 1, 128
)

PNG_BASE64: Final = base64.b64encode(PNG).decode()
WAV_BASE64: Final = base64.b64encode(WAV).decode()
