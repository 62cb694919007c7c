"""A client for the cache server, which speaks lines of text."""

import os
import socket

ADDRESS = ("127.0.0.1", int(os.environ.get("SHOP_CACHE_PORT", "46379")))


class CacheClient:
    """One connection, opened when it is first needed."""

    def __init__(self, address=ADDRESS, timeout=3.0):
        self.address = address
        self.timeout = timeout
        self._stream = None

    def _connect(self):
        if self._stream is None:
            connection = socket.create_connection(self.address, timeout=self.timeout)
            self._stream = connection.makefile("rw", encoding="utf-8", newline="\r\n")
        return self._stream

    def _ask(self, *words):
        stream = self._connect()
        stream.write(encode(*words))
        stream.flush()
        return decode(stream.readline())

    def ping(self):
        """Whether the server is there."""
        return self._ask("PING") == "PONG"

    def get(self, key):
        """The value of a key, None if it has none."""
        return self._ask("GET", key)

    def set(self, key, value, seconds=300):
        """Keep a value for some seconds."""
        return self._ask("SET", key, value, "EX", str(seconds)) == "OK"

    def close(self):
        """Close the connection, if there is one."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def encode(*words):
    """A command as the server reads it."""
    return " ".join(words) + "\n"


def decode(line):
    """What the server says, without the sign it begins with."""
    text = line.rstrip("\r\n")
    if text.startswith("-"):
        raise RuntimeError(f"the cache server says: {text[1:]}")
    return None if text == "$-1" else text.lstrip("+$")
