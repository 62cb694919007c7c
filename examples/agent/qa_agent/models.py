"""The models that the agent asks, and the clients for them."""

from __future__ import annotations

import openai

PLAN = "gpt-4.1-mini"
CLASSIFY = "gpt-4o-mini"
LOCATE = "gpt-5-mini"
FIX = "gpt-4o"
FIX_AGAIN = "o3-mini"
REVIEW = ("gpt-4.1", "gpt-4.1-mini")
EMBED = "text-embedding-3-small"


class Models:
    """Clients for one server. Keys, proxies and addresses in the environment are not looked at."""

    def __init__(self, base_url: str, api_key: str) -> None:
        self._options = {"base_url": base_url, "api_key": api_key, "max_retries": 0}
        self.client = openai.OpenAI(**self._options, http_client=openai.DefaultHttpxClient(trust_env=False))

    def waiting(self) -> openai.AsyncOpenAI:
        """Return a client for coroutines: close it in the loop that opened it."""
        return openai.AsyncOpenAI(**self._options, http_client=openai.DefaultAsyncHttpxClient(trust_env=False))

    def close(self) -> None:
        """Close the connections."""
        self.client.close()
