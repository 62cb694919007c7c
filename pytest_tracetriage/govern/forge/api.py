"""Calls of GitHub's REST API by PyGithub: a struct or an error comes of each, and nothing else.

PyGithub carries the requests: authentication, Enterprise addresses, redirects, exceptions. Its objects are left out on
purpose: they fetch what they lack when an attribute is read, past every retry, and take any JSON for an answer. Its own
retries are off, since they repeat a POST whose answer was lost; see `retrying`.
"""

from __future__ import annotations

import ipaddress
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec

from pytest_tracetriage.govern.forge.errors import ForgeError, TroubleError, one_line, refusal, trouble_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from github import GithubException

    from pytest_tracetriage.govern.forge.errors import Patience

T = TypeVar("T")
PAGE = 100
_LAST_PAGE = 1000


class Act(NamedTuple):
    """What a call is for, as errors say it."""

    doing: str
    """Completes "GitHub refuses to": `comment on #5`."""
    permission: str
    """The line that a job needs for it: `pull-requests: write`."""


class Api:
    """One repository's part of the API. Raises ForgeError where the address or the installation is unusable."""

    def __init__(self, repository: str, token: str, api_url: str, timeout: int) -> None:
        _check_address(api_url)
        if not token.strip() or not token.isprintable() or not token.isascii():
            raise ForgeError("no usable GitHub token: it is empty, or holds characters that no token has")
        try:
            from github import Auth, Github  # noqa: PLC0415
        except ImportError:
            raise ForgeError("GitHub needs PyGithub: pip install 'pytest-tracetriage[github]'") from None
        self.repository = repository
        self.installation = token.startswith("ghs_")
        """Whether the token is a job's or an app's: it has no user."""
        self._token = token
        self._requester = Github(
            auth=Auth.Token(token),
            base_url=api_url.rstrip("/"),
            timeout=timeout,
            user_agent="pytest-tracetriage",
            retry=None,
            seconds_between_requests=0,
            seconds_between_writes=0,
        ).requester

    def once(self, act: Act, verb: str, path: str, kind: type[T], body: Mapping[str, Any] | None = None) -> T:
        """Return the answer to one request. Raises TroubleError where a repetition may help, else ForgeError.

        `path` starts below the repository. For a POST the caller looks whether it took effect before it repeats.
        """
        return self._call(act, verb, self._below(path), kind, {}, body)[1]

    def steadily(
        self, act: Act, patience: Patience, verb: str, path: str, kind: type[T], body: Mapping[str, Any] | None = None
    ) -> T:
        """Return the answer to a request that may be repeated without harm. Raises ForgeError."""
        return self._repeated(act, patience, verb, self._below(path), kind, {}, body)[1]

    def pages(
        self, act: Act, patience: Patience, path: str, kind: type[T], parameters: Mapping[str, str | int] | None = None
    ) -> Iterator[T]:
        """Yield the pages of a list as they are asked for. Raises ForgeError."""
        for number in range(1, _LAST_PAGE + 1):
            asked = {**(parameters or {}), "per_page": PAGE, "page": number}
            headers, page = self._repeated(act, patience, "GET", self._below(path), kind, asked, None)
            yield page
            if 'rel="next"' not in headers.get("link", ""):
                return

    def login(self, patience: Patience) -> str:
        """Return the login of the token's user, "" where the token has none. Raises ForgeError."""
        if self.installation:
            return ""
        return self._repeated(Act("say whose token it is", "metadata: read"), patience, "GET", "/user", _User, {}, None)[
            1
        ].login

    def _below(self, path: str) -> str:
        return f"/repos/{self.repository}{path}"

    def _repeated(
        self,
        act: Act,
        patience: Patience,
        verb: str,
        path: str,
        kind: type[T],
        parameters: Mapping[str, str | int],
        body: Mapping[str, Any] | None,
    ) -> tuple[Mapping[str, str], T]:
        while True:
            try:
                return self._call(act, verb, path, kind, parameters, body)
            except TroubleError as trouble:
                patience.wait(act.doing, trouble)

    def _call(
        self, act: Act, verb: str, path: str, kind: type[T], parameters: Mapping[str, str | int], body: Mapping[str, Any] | None
    ) -> tuple[Mapping[str, str], T]:
        from github import GithubException  # noqa: PLC0415
        from requests.exceptions import InvalidURL, RequestException, SSLError  # noqa: PLC0415

        try:
            headers, data = self._requester.requestJsonAndCheck(verb, path, parameters=dict(parameters), input=body)
            return headers, msgspec.convert(data, kind)
        except GithubException as error:
            raise self._judged(act, error) from None
        except (SSLError, InvalidURL) as error:
            raise ForgeError(f"GitHub cannot be reached to {act.doing}: {self._clean(str(error))}") from None
        except RequestException as error:
            raise TroubleError(f"no whole answer: {self._clean(type(error).__name__)}") from None
        except Exception as error:  # PyGithub raises what it likes about answers that are not GitHub's
            raise TroubleError(f"an answer that is not GitHub's: {self._clean(str(error))}") from None

    def _judged(self, act: Act, error: GithubException) -> Exception:
        said = self._clean(_message(error.data))
        headers = {str(name).lower(): str(value) for name, value in (error.headers or {}).items()}
        trouble = trouble_of(error.status, said, headers, time.time())
        return trouble or refusal(act.doing, act.permission, self.repository, error.status, said)

    def _clean(self, text: str) -> str:
        return one_line(text, self._token)


class _User(msgspec.Struct):
    login: str


def _message(data: object) -> str:
    """Return GitHub's message with those of its list of errors."""
    if not isinstance(data, dict):
        return ""
    errors = data.get("errors")
    details = [str(item.get("message", "")) if isinstance(item, dict) else str(item) for item in errors or () if item]
    return ": ".join(part for part in (str(data.get("message") or ""), "; ".join(filter(None, details))) if part)


def _check_address(api_url: str) -> None:
    """Refuse an address that would carry the token in clear text, except to this machine."""
    try:
        parts = urlsplit(api_url)
        _, host = parts.port, parts.hostname or ""
    except ValueError:
        raise ForgeError(
            "the address of GitHub's API is not one; expected https://api.github.com or https://HOST/api/v3"
        ) from None
    shown = one_line(f"{parts.scheme}://{host}{parts.path}")
    if parts.scheme not in {"https", "http"} or not host or parts.query or parts.fragment or "@" in parts.netloc:
        raise ForgeError(f"{shown}: not an address of GitHub's API; expected https://api.github.com or https://HOST/api/v3")
    if parts.scheme == "http" and not _is_loopback(host):
        raise ForgeError(f"{shown}: the token would travel in clear text; use https")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
