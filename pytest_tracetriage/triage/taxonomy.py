"""Category and owner of a failure: one table of rules, first match wins, with the evidence it matched.

Failing steps of agents have a table of their own, `step_rules`. A project puts its own rules in front, by `[[tool.tracetriage.rules]]` or the hook `pytest_tracetriage_classify`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_tracetriage.model.trace import Error
from pytest_tracetriage.triage.calls import SDKS
from pytest_tracetriage.triage.evidence import quoted_error
from pytest_tracetriage.triage.signature import bare, first_line, own_frame, place, root_cause
from pytest_tracetriage.triage.step_rules import classify_call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pytest_tracetriage.config import CustomRule
    from pytest_tracetriage.model.analysis import Owner
    from pytest_tracetriage.model.trace import Failure, Frame

Answer = tuple[str, "Owner", str]


@dataclass(frozen=True)
class Rule:
    """What is given must match: `types` one of the bare type names of the chain, `message` and `file` by search, `phase`.

    `owner` "place" means whoever owns the deepest frame: the product where the application was reached, else the test.
    `uncalled`: a `setup()` that pytest no longer calls would have set what is missing.
    """

    category: str
    owner: str
    types: frozenset[str] = frozenset()
    message: str = ""
    file: str = ""
    phase: str = ""
    uncalled: bool = False


def _types(names: str) -> frozenset[str]:
    return frozenset(names.split())


_REMOVED = "aifc|asynchat|asyncore|audioop|cgi|cgitb|chunk|crypt|distutils|imghdr|imp|lib2to3|mailcap|msilib|nis|nntplib|ossaudiodev|pipes|smtpd|sndhdr|spwd|sunau|telnetlib|uu|xdrlib"
"""Modules of the standard library that Python 3.12 and 3.13 no longer have (PEP 594, PEP 632)."""

_MOVED = "Awaitable|Coroutine|Async(?:Iterable|Iterator|Generator)|Hashable|Iterable|Iterator|Generator|Reversible|Sized|Container|Callable|Collection|(?:Mutable)?(?:Set|Mapping|Sequence)|(?:Mapping|Keys|Items|Values)View|ByteString"
"""Names that `collections` had up to Python 3.9 and that stand in `collections.abc`."""

RULES: tuple[Rule, ...] = (
    # how the process or the run ended
    Rule("CRASH", "place", _types("ProcessCrash WorkerCrash")),
    Rule("TIMEOUT", "place", _types("Timeout Failed"), message=r"^Timeout \(?>\s?[\d.]+s"),
    Rule("INTERRUPTED", "infrastructure", _types("KeyboardInterrupt _pytest.outcomes.Exit")),
    # resources of the machine
    Rule("RESOURCE", "infrastructure", _types("MemoryError")),
    Rule("DISK", "infrastructure", message=r"No space left on device|Disk quota exceeded|Read-only file system|Errno 28\b|Errno 30\b"),
    Rule("RESOURCE", "infrastructure", message=r"Too many open files|can't start new thread|Cannot allocate memory|Resource temporarily unavailable|OutOfMemory|CUDA out of memory"),
    Rule("DISK", "infrastructure", message=r"No usable temporary directory found"),
    # network
    Rule("NETWORK", "infrastructure", _types("ConnectionRefusedError ConnectionResetError ConnectionAbortedError BrokenPipeError gaierror ConnectError ConnectTimeout NewConnectionError MaxRetryError NameResolutionError NoBrokersAvailable ClientConnectorError ServerDisconnectedError SSLError SSLCertVerificationError ProxyError")),
    Rule("NETWORK", "infrastructure", message=r"Connection refused|Connection reset by peer|Name or service not known|nodename nor servname|Temporary failure in name resolution|Network is unreachable|No route to host|could not connect to server|Cannot assign requested address|Address already in use|Connection timed out|getaddrinfo failed|Failed to establish a new connection"),
    # collection and dependencies
    Rule("REMOVED_API", "place", _types("ModuleNotFoundError"), message=rf"No module named '(?:{_REMOVED})'"),
    Rule("REMOVED_API", "place", _types("ImportError"), message=rf"cannot import name '(?:{_MOVED})' from 'collections'"),
    Rule("REMOVED_API", "place", _types("AttributeError"), message=rf"module 'collections' has no attribute '(?:{_MOVED})'"),
    Rule("MISSING_DEPENDENCY", "place", _types("ModuleNotFoundError")),
    Rule("MISSING_DEPENDENCY", "place", message=r"^No module named '"),
    Rule("API_MISUSE", "place", _types("ImportError"), message=r"cannot import name"),
    Rule("MISSING_DEPENDENCY", "place", _types("ImportError PackageNotFoundError DistributionNotFound")),
    Rule("MISSING_DEPENDENCY", "infrastructure", _types("FileNotFoundError"), message=r"No such file or directory: '[\w.-]+'$", file=r"subprocess\.py$"),
    Rule("MISSING_DEPENDENCY", "infrastructure", _types("CommandNotFound ErrorReturnCode_127")),
    Rule("MISSING_DEPENDENCY", "infrastructure", message=r"command not found|exit (?:status|code):? 127\b"),
    Rule("COLLECTION", "test", _types("SyntaxError IndentationError TabError CollectError UsageError"), phase="collect"),
    Rule("FIXTURE", "test", _types("FixtureLookupError")),
    Rule("FIXTURE", "test", message=r"^fixture '[^']+' not found|ScopeMismatch"),
    Rule("COLLECTION", "test", message=r"import file mismatch|duplicate parametrization|function uses no argument|Using @pytest\.", phase="collect"),
    Rule("SYNTAX", "place", _types("SyntaxError IndentationError TabError")),
    Rule("FIXTURE", "test", _types("AttributeError NameError"), uncalled=True),
    # files and rights
    Rule("PERMISSION", "infrastructure", _types("PermissionError")),
    Rule("PERMISSION", "infrastructure", message=r"Permission denied|Operation not permitted"),
    Rule("MISSING_FILE", "place", _types("FileNotFoundError NotADirectoryError IsADirectoryError FileExistsError")),
    # time
    Rule("TIMEOUT", "place", _types("TimeoutError TimeoutExpired ReadTimeout WriteTimeout PoolTimeout CancelledError DeadlineExceeded")),
    Rule("TIMEOUT", "place", message=r"(?i)\btimed out\b|\btime-?out (?:after|expired)"),
    # what code does wrong
    Rule("RECURSION", "place", _types("RecursionError")),
    Rule("DEPRECATION", "place", _types("DeprecationWarning PendingDeprecationWarning FutureWarning PytestDeprecationWarning PytestRemovedIn9Warning PytestRemovedIn10Warning")),
    Rule("WARNING", "place", _types("UserWarning RuntimeWarning ResourceWarning SyntaxWarning EncodingWarning PytestUnraisableExceptionWarning PytestUnhandledThreadExceptionWarning PytestWarning PytestReturnNotNoneWarning")),
    Rule("API_MISUSE", "place", message=r"unexpected keyword argument|missing \d+ required (?:positional|keyword-only) argument|takes (?:from )?\d+ (?:to \d+ )?positional arguments?|takes no arguments|got multiple values for|has no attribute|is not callable|can't set attribute|is not subscriptable|abstract (?:class|method)|unexpected keyword"),
    Rule("API_MISUSE", "place", _types("AttributeError NameError UnboundLocalError NotImplementedError")),
    Rule("TYPE_MISMATCH", "place", _types("TypeError ValidationError")),
    Rule("EMPTY_DATA", "place", _types("StopIteration EmptyDataError") ),
    Rule("EMPTY_DATA", "place", message=r"(?i)empty (?:sequence|list|iterable|string|range|data|set|dict)|is empty\b|arg is an empty|list index out of range|pop from (?:an )?empty"),
    Rule("DATA_SHAPE", "place", _types("KeyError IndexError LookupError ValueError UnicodeDecodeError UnicodeEncodeError JSONDecodeError OverflowError ZeroDivisionError InvalidOperation DecimalException ArithmeticError ParseError")),
    Rule("XPASS_STRICT", "test", _types("XPassStrict")),
    Rule("ASSERTION", "product", _types("DocTestFailure AssertionError Failed MultipleDoctestFailures ComparisonFailure")),
)  # fmt: skip

FIXES: dict[str, str] = {
    "ERROR": "read the first traceback; no rule knows this error (a rule of the project can)",
    "API_MISUSE": "make caller and callee agree on name and arguments; look for a rename or an upgraded dependency",
    "ASSERTION": "compare expected with actual value; decide whether the code or the expectation is wrong",
    "COLLECTION": "make the module importable: these tests did not run at all",
    "CRASH": "run the named test alone with `-X faulthandler`; a native extension, a signal or os._exit ended the process",
    "DATA_SHAPE": "check the data against what the code expects at this place: a key, an index or a format differs",
    "DEPRECATION": "move to what the warning names, or filter it where it cannot be helped",
    "DISK": "free or mount disk space for the job; nothing in the code has to change",
    "ACTION_FAILED": "compare the action with the page or interface that it met; describe the action better in the prompt",
    "AUTH": "give the job the key, or the key the right",
    "CONTEXT_LENGTH": "send less: cut or summarise the history, drop what the call does not need",
    "DEPLOY_FAILED": "check that what is deployed builds and parses before it is committed",
    "EMPTY_DATA": "handle the empty case, or find out why the data is missing",
    "FIXTURE": "repair the fixture: every test that asks for it fails with it",
    "INVALID_OUTPUT": "ask for structured output with a schema, allow more tokens, and ask again when the answer does not parse",
    "INVALID_PATCH": "check that a patch applies and parses before it is used; ask for it in one format",
    "LOCALIZATION_FAILED": "give the stack trace whole, and check that the file and line that were found exist",
    "LOOP": "end it when a call gives what it gave before; tell the model what it has already tried",
    "LOST_HISTORY": "keep each call of a tool and its result together when the history is cut",
    "MISCLASSIFICATION": "compare the class with the evidence; sharpen the criteria in the prompt, with examples",
    "MISSING_DEPENDENCY": "install or pin the dependency in the test environment",
    "MISSING_FILE": "check the path and the working directory; add the file to the checkout or create it in a fixture",
    "NETWORK": "start the service before the tests, or mark and skip tests that need it",
    "PERMISSION": "give the job the right, or write to a temporary folder",
    "RATE_LIMIT": "wait and retry with back-off, run fewer workers, or raise the quota",
    "RECURSION": "find the cycle in the frames that repeat",
    "REFUSAL": "read what was refused; reword the request, or handle the refusal",
    "REMOVED_API": "this Python no longer has it: upgrade whoever imports it, or run an older Python",
    "RESOURCE": "raise the limit of the job or run fewer workers; look for a leak when it grows over the run",
    "RESOURCE_NOT_FOUND": "check the name of the model or resource, and that the key may see it",
    "SERVICE_ERROR": "retry with back-off; nothing in the code has to change",
    "SESSION_ERROR": "give the session more time and a retry; look for what ended it",
    "STUCK": "see where it stood; limit the number of steps, and end when nothing changes",
    "SYNTAX": "mend the syntax, or exclude the file on Pythons that cannot read it",
    "TEST_STILL_FAILS": "give the fixer the new failure; check that the fix reached what the test runs",
    "TIMEOUT": "see where the test stood; raise the limit only when the work is really slow",
    "TOOL_DEFINITION": "mend the schema of the tool or of the answer, which the API does not take",
    "TOOL_ERROR": "look at the arguments that the tool was given; tell the model what went wrong",
    "TURN_LIMIT": "tell the agent when it is done; raise the limit only when it was on its way",
    "TYPE_MISMATCH": "find where a value of the wrong type enters: often a None that should not be there",
    "WARNING": "treat the cause of the warning, which the project turns into an error",
    "WRONG_FIX": "give the fixer more context: the failing test, the code around the fault, what was tried",
    "XPASS_STRICT": "the expected failure is gone: remove the xfail mark",
}


def classify(failure: Failure, before: Sequence[Callable[[Failure], Answer | None]] = ()) -> Answer:
    """Return (category, owner, evidence) of a failure. `before` are classifiers that are asked first."""
    if (first := first_answer(failure, before) or _of_call(failure)) is not None:
        return first
    found = _by_rules(failure, _explicit_chain(failure))
    if found is None or found[0] == "ASSERTION":
        # That a subprocess failed, or should not have, says less than the error that it died of.
        told = quoted_error(failure)
        error = Error(told.type, told.message) if told is not None else None
        inner = _by_rules(failure, (error,)) if error is not None else None
        if inner is not None:
            return inner[0], inner[1], f"quoted traceback: {inner[2]}"
    return found or ("ERROR", _owner("place", failure), _first_evidence(failure))


def first_answer(failure: Failure, asked: Sequence[Callable[[Failure], Answer | None]]) -> Answer | None:
    """Return what the first classifier that knows the failure says, None where none does."""
    answers = (ask(failure) for ask in asked)
    return next((answer for answer in answers if answer is not None), None)


def _of_call(failure: Failure) -> Answer | None:
    """Return what the rules for calls to models say, where the test ended with an error of their SDKs."""
    chain = [error for error in _explicit_chain(failure) if error.type.startswith(SDKS)]
    return next((answer for error in chain if (answer := classify_call(error.type, error.message)) is not None), None)


def _by_rules(failure: Failure, chain: Sequence[Error]) -> Answer | None:
    for rule in RULES:
        if evidence := _match(rule, failure, chain):
            return _fixture_or(rule, failure, evidence)
    return None


def of_steps(rule: CustomRule) -> bool:
    """Return whether a rule of the project is of failing steps, not of exceptions."""
    return bool(rule.component or rule.step)


def project_rules(rules: Iterable[CustomRule]) -> Callable[[Failure], Answer | None]:
    """Return a classifier of the project's own rules: all patterns of a rule must be found in one error of the failure."""
    table = tuple(rule for rule in rules if not of_steps(rule))

    def ask(failure: Failure) -> Answer | None:
        for rule in table:
            for error in failure.errors:
                evidence = [
                    f"{part} {found[0]!r}"
                    for part, pattern, text in (
                        ("type", rule.type, error.type),
                        ("message", rule.message, error.message),
                    )
                    if pattern and (found := re.search(pattern, text))
                ]
                if rule.file and any(re.search(rule.file, frame.file) for frame in error.frames):
                    evidence.append(f"file {rule.file!r}")
                if len(evidence) == sum(map(bool, (rule.type, rule.message, rule.file))):
                    return rule.category, rule.owner, f"rule of the project: {' and '.join(evidence)}"
        return None

    return ask


def _fixture_or(rule: Rule, failure: Failure, evidence: str) -> Answer:
    owner = _owner(rule.owner, failure)
    in_fixture = failure.phase in {"setup", "teardown"} and failure.fixture
    if (
        in_fixture
        and owner == "test"
        and rule.category in {"ASSERTION", "DATA_SHAPE", "API_MISUSE", "TYPE_MISMATCH", "EMPTY_DATA", "MISSING_FILE"}
    ):
        return "FIXTURE", "test", f"{evidence}, raised in fixture {failure.fixture}"
    return rule.category, owner, evidence


def _explicit_chain(failure: Failure) -> tuple[Error, ...]:
    """Return the raised error, its root cause and the members of its groups: what the category may rest on."""
    if not failure.errors:
        return ()
    root = root_cause(failure.errors)
    members = tuple(error for error in failure.errors if error.link == "member")
    head = failure.errors[0]
    return tuple(dict.fromkeys((root, head, *members)))


def _match(rule: Rule, failure: Failure, chain: Sequence[Error]) -> str:
    if (rule.phase and rule.phase != failure.phase) or (rule.uncalled and failure.uncalled is None):
        return ""
    if not chain:
        found = re.search(rule.message, failure.text[:2_000], re.MULTILINE) if rule.message and not rule.types else None
        return f"text {found[0]!r}" if found else ""
    for error in chain:
        evidence = []
        if rule.types:
            if rule.types.isdisjoint((error.type, bare(error.type))):
                continue
            evidence.append(f"type {bare(error.type)}")
        if rule.message:
            found = re.search(rule.message, error.message[:2_000])
            if found is None or (not rule.types and _is_plain_assertion(error)):
                continue
            evidence.append(f"message {found[0]!r}")
        if rule.file:
            if not any(re.search(rule.file, frame.file) for frame in error.frames):
                continue
            evidence.append(f"file {rule.file}")
        if failure.uncalled is not None and rule.uncalled:
            evidence.append(_left_out(failure.uncalled))
        return " and ".join(evidence)
    return ""


def _left_out(setup: Frame) -> str:
    kind = setup.qualname.rpartition(".")[0]
    whose = f"class {kind}" if kind else f"module {setup.file}"
    return f"{whose} defines setup(), which pytest 8 no longer calls"


def fix(category: str, failure: Failure) -> str:
    """Return what a failure of this category usually calls for, in words."""
    if failure.uncalled is not None and category == "FIXTURE":
        return f"{_left_out(failure.uncalled)}; rename to {'setup_method' if failure.uncalled.qualname != 'setup' else 'setup_module'}"
    return FIXES.get(category, "")


def _is_plain_assertion(error: Error) -> bool:
    # An assertion about a text that speaks of a refused connection is about the text.
    return bare(error.type) in {"AssertionError", "Failed", "DocTestFailure"}


def _owner(owner: str, failure: Failure) -> Owner:
    if owner != "place":
        return owner  # type: ignore[return-value]
    if own_frame(failure.errors) is not None:
        return "product"
    frame = place(failure.errors)
    if frame is None:
        return "product"
    if frame.origin == "test":
        # Raised by code that the test called directly: the deepest frame of all tells whether the test itself is broken.
        deepest = next((error.frames[-1] for error in failure.errors if error.frames), frame)
        return "test" if deepest.origin == "test" else "product"
    return "product"


def _first_evidence(failure: Failure) -> str:
    if not failure.errors:
        return f"text {first_line(failure.text)[:80]!r}"
    return f"type {failure.errors[0].type}"
