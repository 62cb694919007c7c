"""What must not be written, and its stand-in.

Two things are replaced by `[redacted 3f9a1c2e]`: tokens of known formats, and the values of environment variables and
parameters whose names look secret. The eight digits are an HMAC under a key that stays in the folder, so that equal
secrets can be told to be equal without being known.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

T = TypeVar("T")

_MIN_TOKEN = 12
MIN_LENGTH = 8
"""Shorter values are too common as words: replacing them would eat the report."""

STAND_IN = re.compile(r"\[redacted [0-9a-f]{8}\]")

_SECRET_NAME = re.compile(
    r"(?i)(?:^|[_\-.])(?:api[_-]?key|access[_-]?key|secret|token|passw(?:or)?d|passwd|pwd|passphrase|credentials?|private[_-]?key"
    r"|auth|authorization|bearer|session[_-]?id|dsn|connection[_-]?string|signing[_-]?key|encryption[_-]?key|pat)(?:$|[_\-.\d])|(?:apikey|password|secret)"
)
_NOT_SECRET_NAME = re.compile(
    r"(?i)(?:_path|_file|_dir|_name|_url|_sock|_type|_ttl|_timeout|_expiry|_agent_pid)$|^(?:SSH_AUTH_SOCK|XAUTHORITY)$"
)

# Formats that their issuers publish, most with a fixed prefix; the last ones are carried by a key or a scheme beside them.
_TOKENS = re.compile(
    r"""
    gh[pousr]_[A-Za-z0-9]{20,255}                                   # GitHub
    | github_pat_[A-Za-z0-9_]{22,255}
    | glpat-[A-Za-z0-9_\-]{16,}                                     # GitLab
    | (?<![A-Za-z0-9])sk-(?:ant-|proj-|svcacct-|or-)?[A-Za-z0-9_\-]{16,}            # OpenAI, Anthropic, OpenRouter
    | (?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{10,}                   # Stripe
    | (?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}                           # AWS
    | AIza[A-Za-z0-9_\-]{35}                                        # Google
    | ya29\.[A-Za-z0-9_\-]{20,}
    | xox[abeoprs]-[A-Za-z0-9\-]{10,}                               # Slack
    | https://hooks\.slack\.com/services/[A-Za-z0-9/]{20,}
    | npm_[A-Za-z0-9]{36}
    | pypi-[A-Za-z0-9_\-]{50,}
    | hf_[A-Za-z0-9]{30,}                                           # Hugging Face
    | wandb_v1_[A-Za-z0-9_]{20,}
    | dop_v1_[a-f0-9]{64}
    | SG\.[A-Za-z0-9_\-]{16,}\.[A-Za-z0-9_\-]{16,}                  # SendGrid
    | eyJ[A-Za-z0-9_\-]{8,}\.eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]* # JSON web token
    | -----BEGIN[ ][A-Z ]*PRIVATE[ ]KEY-----(?:[\s\S]{0,8192}?-----END[ ][A-Z ]*PRIVATE[ ]KEY-----|[\s\S]*)
    | (?<=://)[^\s/:@'"]{0,64}:[^\s/@'"]{3,128}(?=@)                  # user:password@host
    | (?i:(?<=bearer\s)|(?<=basic\s))[A-Za-z0-9._~+/\-]{16,}=*
    | (?i:(?<=password=)|(?<=passwd=)|(?<=api_key=)|(?<=apikey=)|(?<=token=)|(?<=secret=)|(?<=access_key=))["']?(?!\[redacted\ )[^\s"'&,;)\]}]{8,}
    """,
    re.VERBOSE,
)
# Nearly all text holds none of these; one cheap search spares it the long pattern.
_HINT = re.compile(
    r"gh[pousr]_|github_pat|glpat|sk-|[srp]k_|A[KSBC][IC]A|AIza|ya29|xox|hooks\.slack|npm_|pypi-|hf_|wandb_|dop_|SG\.|eyJ|-----B|://|(?i:bearer|basic|password=|passwd=|api_?key=|token=|secret=|access_key=)"
)


class Redactor:
    """Replaces secrets in text. Equal secrets get equal stand-ins under one key."""

    def __init__(self, key: bytes, secrets: Iterable[str] = (), extra: Callable[[str], str] | None = None) -> None:
        self._key = key
        self._extra = extra
        self._values: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self.learned = 0
        """How many values it knows: what was redacted before the last was learned may hold it."""
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        """Learn further values to replace; those that are too short or numeric are ignored."""
        known = len(self._values)
        for value in secrets:
            if len(value) >= MIN_LENGTH and not _is_number(value):
                # A value also appears as `repr` and JSON write it.
                self._values.update({value, repr(value)[1:-1], msgspec.json.encode(value).decode()[1:-1]})
                self._values.update(line for line in value.splitlines() if len(line) >= 2 * MIN_LENGTH)
        if len(self._values) != known:
            longest_first = sorted(self._values, key=lambda value: (-len(value), value))
            self._pattern = re.compile("|".join(map(re.escape, longest_first)))
            self.learned = len(self._values)

    def __call__(self, text: str) -> str:
        """Return `text` with every secret replaced by its stand-in."""
        if self._pattern is not None and self._pattern.search(text):
            text = self._pattern.sub(self._replace, text)
        # the shortest token is longer than a word, and nearly all text holds no hint of one
        if len(text) >= _MIN_TOKEN and _HINT.search(text):
            # A stand-in may set free what stood glued to a token: repeat until nothing is found.
            while (cleaned := _TOKENS.sub(self._replace, text)) != text:
                text = cleaned
        return text if self._extra is None else self._extra(text)

    def is_clean(self, text: str) -> bool:
        """Return whether `text` certainly holds nothing to replace: a quick look, for text that is JSON of other texts."""
        return (
            self._extra is None and _HINT.search(text) is None and (self._pattern is None or self._pattern.search(text) is None)
        )

    def digest(self, data: bytes) -> str:
        """Return a hash of `data` under the folder's key, 16 hexadecimal digits: equal data can be told to be equal."""
        return hashlib.blake2b(data, digest_size=8, key=self._key[:64]).hexdigest()

    def known(self, text: str) -> str:
        """Return `text` with the values that were learned replaced; tokens of known formats are not looked for."""
        if self._pattern is None and self._extra is None:
            return text
        if self._pattern is not None and self._pattern.search(text):
            text = self._pattern.sub(self._replace, text)
        return text if self._extra is None else self._extra(text)

    def parameters(self, params: Mapping[str, str]) -> dict[str, str]:
        """Return test parameters with the values of secret names replaced, whatever they look like, and learn them."""
        self.add(value.strip("'\"") for name, value in params.items() if looks_secret(name))
        return {
            self(name): self.stand_in(value.strip("'\"")) if looks_secret(name) and not _is_number(value) else self(value)
            for name, value in params.items()
        }

    def stand_in(self, secret: str) -> str:
        """Return the stand-in of one secret."""
        digest = hmac.new(self._key, secret.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
        return f"[redacted {digest[:8]}]"

    def struct(self, value: T, kind: type[T]) -> T:
        """Return a copy of a struct with every string in it redacted."""
        return msgspec.convert(self._walk(msgspec.to_builtins(value)), kind)

    def _walk(self, value: object) -> object:
        if isinstance(value, str):
            return self(value)
        if isinstance(value, dict):
            return {self(key) if isinstance(key, str) else key: self._walk(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._walk(item) for item in value]
        return value

    def _replace(self, found: re.Match[str]) -> str:
        return self.stand_in(found[0])


def looks_secret(name: str) -> bool:
    """Return whether a variable or parameter of this name usually holds a secret."""
    return bool(_SECRET_NAME.search(name)) and not _NOT_SECRET_NAME.search(name) and name not in {"PWD", "OLDPWD"}


def environment_secrets(environ: Mapping[str, str]) -> list[str]:
    """Return the values of environment variables whose names look secret."""
    return [value for name, value in environ.items() if looks_secret(name)]


def _is_number(value: str) -> bool:
    return value.replace(".", "", 1).replace("-", "", 1).isdigit()


def redact_by(hooks: Any) -> Callable[[str], str] | None:
    """Return what the project's `pytest_tracetriage_redact` hooks do to a text, one after the other; None without any."""
    hook = hooks.pytest_tracetriage_redact
    if not hook.get_hookimpls():
        return None

    def extra(text: str) -> str:
        for implementation in reversed(hook.get_hookimpls()):
            answer = implementation.function(**({"text": text} if "text" in implementation.argnames else {}))
            if isinstance(answer, str):
                text = answer
        return text

    return extra


def folder_key(folder: Path) -> bytes:
    """Return the key of a `.tracetriage` folder, made on first use; a folder that cannot be written gets a passing one."""
    path = folder / "redaction.key"
    try:
        if known := path.read_bytes():
            return known
        path.unlink(missing_ok=True)
    except OSError:
        pass
    key = os.urandom(32)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes() or key
    except OSError:
        return key
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(key)
    except OSError:  # a full disk: an empty key file would be taken for a key by the next run
        path.unlink(missing_ok=True)
    return key
