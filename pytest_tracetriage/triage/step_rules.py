"""Category and owner of a failing step: one table of rules, first match wins, with the evidence it matched.

Calls to models and tools, then the agents' own types, by component. Where published taxonomies name what a rule sees, the
rule says so: MAST (Cemri et al., "Why Do Multi-Agent LLM Systems Fail?", arXiv:2503.13657) and TRAIL (Deshpande et al.,
"TRAIL: Trace Reasoning and Agentic Issue Localization", arXiv:2505.08638). Most of their modes need a reader: what spans
cannot prove is not here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_tracetriage.triage.calls import ASSERTIONS, is_call
from pytest_tracetriage.triage.signature import bare

if TYPE_CHECKING:
    from pytest_tracetriage.model.analysis import Owner
    from pytest_tracetriage.triage.steps import Step
    from pytest_tracetriage.triage.taxonomy import Answer


@dataclass(frozen=True)
class StepRule:
    """What is given must match.

    `call`: the step is a call to a model; `kind`: of the span; `component`: a word of the component's name; `types`: bare name
    of the error's type. By search, in any case: `says` in the error's type and message, the stop reason, the rationale and
    what a failed response says; without `component` not in the messages of assertions; `name` in the span's name; `signal` in what its answer or outcome tells without an error. Of `types` and
    `says` one is enough.
    """

    category: str
    owner: Owner
    mode: str = ""
    call: bool = False
    kind: str = ""
    component: str = ""
    types: frozenset[str] = frozenset()
    says: str = ""
    name: str = ""
    signal: str = ""


def _types(names: str) -> frozenset[str]:
    return frozenset(names.split())


def _status(code: str) -> str:
    """Return how SDKs write a status: `Error code: 429 - …`, `429 RESOURCE_EXHAUSTED. …`, `status_code: 429, …`."""
    return rf"(?:code|http|status)\W{{1,4}}{code}\b|^{code} (?-i:[A-Z])"


_LIMIT = r"\bmax(?:imum)?[ _-]?(?:number of )?(?:turns|iterations|steps|rounds)\b|\b(?:iteration|turn|step|round|recursion)s?[ _-]limit\b"

STEP_RULES: tuple[StepRule, ...] = (
    # how the trace went on and on
    StepRule("STUCK", "agent", signal=r"^stuck\b"),
    StepRule("LOOP", "agent", "MAST FM-1.3 Step repetition; TRAIL Resource Abuse", signal=r"^loop\b"),
    StepRule("TURN_LIMIT", "agent", "MAST FM-1.5 Unaware of termination conditions", types=_types("MaxTurnsExceeded GraphRecursionError UsageLimitExceeded"), says=rf"(?:{_LIMIT}).{{0,30}}\b(?:reached|exceeded|hit)\b|\b(?:reached|exceeded|hit|stopped|due to)\b.{{0,30}}(?:{_LIMIT})|^(?:error )?max(?:imum)? (?:turns|iterations|steps|rounds)$|\b(?:iteration|turn|step|round|recursion) limit of \d|\bran out of (?:turns|iterations|steps)"),
    # calls to models
    StepRule("RATE_LIMIT", "infrastructure", "TRAIL Rate Limiting", call=True, types=_types("RateLimitError TooManyRequestsError ThrottlingException ResourceExhausted"), says=rf"{_status('429')}|rate[ _-]?limit|too many requests|ThrottlingException|RESOURCE_EXHAUSTED|insufficient_quota|exceeded your current quota|credit balance is too low"),
    StepRule("AUTH", "infrastructure", "TRAIL Authentication Errors", call=True, types=_types("AuthenticationError PermissionDeniedError OAuthError"), says=rf"{_status('40[13]')}|(?:invalid|incorrect|missing) (?:x-)?api[ _-]key|\bapi[ _]key (?:not valid|expired)|AccessDeniedException|UnrecognizedClientException|ExpiredTokenException|\bapi_key client option must be set|could not resolve authentication"),
    StepRule("CONTEXT_LENGTH", "agent", "TRAIL Context Handling Failures", call=True, types=_types("RequestTooLargeError ContextWindowExceededError"), says=rf"{_status('413')}|context_length_exceeded|maximum context length|context window|exceeds? (?:the )?context|(?:prompt|input) is too long|input token count .{{0,30}}exceeds|reduce the length of (?:the|your) (?:messages|prompt|input)"),
    StepRule("CONTEXT_LENGTH", "agent", "TRAIL Context Handling Failures", kind="llm", signal=r"^finish_reason: model_context_window_exceeded"),
    StepRule("REFUSAL", "agent", call=True, types=_types("ContentFilterFinishReasonError ContentPolicyViolationError"), says=r"content_filter|content management policy|content_policy_violation|usage policies"),
    StepRule("REFUSAL", "agent", kind="llm", signal=r"^refusal: |^finish_reason: (?:content_filter|refusal|guardrail_intervened|safety|recitation|prohibited_content|blocklist|spii)"),
    StepRule("LOST_HISTORY", "agent", "MAST FM-1.4 Loss of conversation history", call=True, says=r"tool_call_ids? did not have response|must be (?:a response to|followed by) .{0,40}(?:tool|preced)|tool_use.{0,8} ids were found without|unexpected .?tool_use_id|previous response with id .{1,80} not found|no tool (?:output|call) found for"),
    StepRule("TOOL_DEFINITION", "product", "TRAIL Tool Definition Issues", call=True, says=r"invalid schema for (?:function|response_format)|invalid_function_parameters|\btools\.\d+\."),
    StepRule("INVALID_OUTPUT", "agent", "TRAIL Formatting Errors", call=True, types=_types("LengthFinishReasonError APIResponseValidationError JSONDecodeError ValidationError")),
    StepRule("INVALID_OUTPUT", "agent", "TRAIL Formatting Errors", types=_types("OutputParserException UnexpectedModelBehavior ModelBehaviorError InstructorRetryException AdapterParseError")),
    StepRule("INVALID_OUTPUT", "agent", "TRAIL Formatting Errors", kind="llm", signal=r"^not_json: |^unread: |^finish_reason: (?:length|max_tokens|max_output_tokens)"),
    StepRule("TIMEOUT", "infrastructure", "TRAIL Timeout Issues", call=True, types=_types("APITimeoutError DeadlineExceeded DeadlineExceededError TimeoutError ReadTimeout Timeout"), says=rf"{_status('(?:408|504)')}|request timed out"),
    StepRule("NETWORK", "infrastructure", call=True, types=_types("APIConnectionError ConnectError ConnectionError ConnectionRefusedError ConnectionResetError")),
    StepRule("SERVICE_ERROR", "infrastructure", "TRAIL Service Errors", call=True, types=_types("InternalServerError OverloadedError ServiceUnavailableError"), says=rf"{_status('5[0-9][0-9]')}|overloaded_error|server_error|'type': 'api_error'"),
    StepRule("RESOURCE_NOT_FOUND", "product", "TRAIL Resource Not Found", call=True, types=_types("NotFoundError"), says=rf"{_status('404')}|model_not_found"),
    StepRule("API_MISUSE", "product", call=True, types=_types("BadRequestError UnprocessableEntityError ConflictError"), says=_status("4(?:00|09|22)")),
    StepRule("SERVICE_ERROR", "infrastructure", "TRAIL Service Errors", kind="llm", signal=r"^failed: "),
    StepRule("TOOL_ERROR", "agent", "TRAIL Tool Selection Errors", says=r"\b(?:unknown|no such|unregistered) tool\b|\btool ['\"\w.-]+ (?:not found|is not (?:registered|available|defined))"),
    # the agents' own
    StepRule("SESSION_ERROR", "agent", component="Tester", says=r"\bsessions?\b|\bbrowsers?\b|web ?driver|\btarget (?:page|closed|crashed)|\bpage (?:crashed|closed)|\blog(?:ged)? ?(?:in|out)\b"),
    StepRule("ACTION_FAILED", "agent", component="Tester", says=r"\bactions?\b|\bclick(?:s|ed|ing|able)?\b|\bfill(?:s|ed|ing)?\b|\bpress(?:es|ed|ing)?\b|\bscroll(?:s|ed|ing)?\b|\bnavigat|\bselector|\belement\b|\blocator|\bbutton|\bupload|\bsubmit"),
    StepRule("LOCALIZATION_FAILED", "agent", component="Triage", says=r"\blocali[sz]|\blocat(?:e|ing|ion)|\bstack ?trace|\btraceback|\b(?:no|wrong|unknown) (?:file|line|function|frame|place)\b|\bsuspects?\b"),
    StepRule("LOCALIZATION_FAILED", "agent", component="Triage", signal=r"^contradicted: .*(?:/|::|\.\w{1,4}(?::\d+)?$)"),
    StepRule("MISCLASSIFICATION", "agent", component="Triage", says=r"\bmis-?(?:classif|label)|\bclassif|\bcategor|\bwrong (?:class|kind|label|owner|severity)\b|\bseverity\b"),
    StepRule("MISCLASSIFICATION", "agent", component="Triage", signal=r"^contradicted: "),
    StepRule("INVALID_PATCH", "agent", component="Fixer", types=_types("SyntaxError IndentationError"), says=r"\b(?:invalid|malformed|empty|corrupt|no) (?:patch|diff|hunk)\b|\b(?:patch|diff|hunk)\b.{0,60}\b(?:not apply|cannot|does not|did not|failed|invalid|empty|malformed|parse)|\bgit apply\b|\binvalid syntax\b"),
    StepRule("WRONG_FIX", "agent", component="Fixer", says=r"\bwrong (?:fix|file|function|place)\b|\bstill (?:fail|broken|red)|\bregress|\b(?:does|did) not fix\b|\bnot fixed\b|\b(?:broke|breaks) (?:\d+|(?:an)?other|the (?:build|suite|tests?)|tests?)\b|\bincorrect (?:fix|patch)\b"),
    StepRule("WRONG_FIX", "agent", component="Fixer", signal=r"^contradicted: "),
    StepRule("TEST_STILL_FAILS", "agent", component="Verifier", says=r"\bstill (?:fail|red|broken)|\btests? (?:fail|failed|failing)\b|\bfailing tests?\b|\b[1-9]\d* (?:tests? )?failed\b|\b(?:did|does) not pass\b"),
    StepRule("DEPLOY_FAILED", "agent", component="Verifier", says=r"\bdeploy|\broll-?out|\brelease\b|\bcontainer\b|\bhealth ?check|\bbuild failed\b|\brestart(?:s|ed|ing)?\b"),
    # the same, where only the step's name tells
    StepRule("SESSION_ERROR", "agent", component="Tester", name=r"\bsession\b|\blog ?in\b|\bbrowser\b"),
    StepRule("ACTION_FAILED", "agent", component="Tester", name=r"\baction\b|\bclick\b|\bfill\b|\bpress\b|\bnavigate\b|\bsubmit\b"),
    StepRule("LOCALIZATION_FAILED", "agent", component="Triage", name=r"\blocali[sz]|\blocate\b"),
    StepRule("MISCLASSIFICATION", "agent", component="Triage", name=r"\bclassif|\bcategori[sz]e\b"),
    StepRule("INVALID_PATCH", "agent", component="Fixer", name=r"\b(?:apply|parse|validate|check)\b.{0,20}\b(?:patch|diff)\b"),
    StepRule("DEPLOY_FAILED", "agent", component="Verifier", name=r"\bdeploy"),
    StepRule("TEST_STILL_FAILS", "agent", component="Verifier", name=r"\b(?:re)?run\b.{0,20}\btests?\b|\bverify\b"),
    # what is left
    StepRule("TOOL_ERROR", "agent", kind="tool", signal=r"^tool_error: |^raised: "),
    StepRule("TIMEOUT", "agent", signal=r"^timeout\b"),
)  # fmt: skip

TYPES: dict[str, StepRule] = {rule.category: rule for rule in reversed(STEP_RULES)}
_MATCH = {text: re.compile(text, re.IGNORECASE) for rule in STEP_RULES for text in (rule.says, rule.name, rule.signal) if text}
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def words(name: str) -> tuple[str, ...]:
    """Return the words of an identifier in lower case: `Fixer.proposePatch_v2` -> fixer, propose, patch, v, 2."""
    return tuple(word.lower() for word in _WORDS.findall(name))


def has_words(name: str, wanted: str) -> bool:
    """Return whether the words of `wanted` stand in a row in `name`."""
    inside, those = words(name), words(wanted)
    return bool(those) and any(inside[at : at + len(those)] == those for at in range(len(inside) - len(those) + 1))


def classify_step(step: Step, component: str, told: str = "") -> Answer | None:
    """Return (category, owner, evidence) of a failing step of `component`, None where no rule knows it.

    `told` is a signal of how the step or the trace ended, beside what the step's own answer tells.
    """
    if answer := _by_own_word(step, component):
        return answer
    signals = [text for text in (told, step.signal, _outcome(step), "raised: " if step.type else "") if text]
    said = _said(step)
    name = " ".join(words(step.name))
    call = is_call(step.kind, step.type, step.message)
    for rule in STEP_RULES:
        evidence = _match(rule, step, component, said, name, signals, call=call)
        if evidence:
            return rule.category, rule.owner, f"{evidence} ({rule.mode})" if rule.mode else evidence
    return None


def classify_call(type_name: str, message: str) -> Answer | None:
    """Return (category, owner, evidence) of an error that a call to a model raised, None where no rule knows it."""
    said = [("message", message)]
    for rule in STEP_RULES:
        if rule.call and (found := _raised(rule, type_name, said)):
            return rule.category, rule.owner, f"{found} ({rule.mode})" if rule.mode else found
    return None


def _raised(rule: StepRule, type_name: str, said: list[tuple[str, str]]) -> str:
    if bare(type_name) in rule.types:
        return f"type {bare(type_name)}"
    if not rule.component and bare(type_name) in ASSERTIONS:
        said = [(where, text) for where, text in said if where != "message"]
    hits = ((where, _MATCH[rule.says].search(text)) for where, text in said) if rule.says else ()
    return next((f"{where} {hit[0]!r}" for where, hit in hits if hit is not None), "")


def _by_own_word(step: Step, component: str) -> Answer | None:
    """Return the type that the step names itself, by its stop reason or, in the component that has it, by its error's type."""
    reason = step.stop_reason.strip().upper().replace(" ", "_").replace("-", "_")
    if rule := TYPES.get(reason):
        return rule.category, rule.owner, f"stop reason {step.stop_reason!r}"
    raised = "_".join(words(bare(step.type))).upper()
    for rule in TYPES.values():
        names = {rule.category, f"{rule.category}_ERROR", rule.category.removesuffix("_ERROR") + "_EXCEPTION"}
        if rule.component and raised in names and has_words(component, rule.component):
            return rule.category, rule.owner, f"component {component} and type {bare(step.type)}"
    return None


def _outcome(step: Step) -> str:
    return f"{step.outcome}: {step.stop_reason}" if step.declared else "stuck" if step.outcome == "stuck" else ""


def _said(step: Step) -> list[tuple[str, str]]:
    """Return what a step says, each under the name it has in the evidence; identifiers also as words."""
    kind = bare(step.type)
    texts = [("message", step.message), ("type", " ".join(words(kind))), ("stop reason", step.stop_reason)]
    texts += [("stop reason", step.stop_reason.replace("_", " ").replace("-", " ")), ("rationale", step.rationale)]
    texts += [("answer", step.signal.partition("failed: ")[2] if step.signal.startswith("failed: ") else "")]
    return [(where, text) for where, text in texts if text]


def _match(
    rule: StepRule, step: Step, component: str, said: list[tuple[str, str]], name: str, signals: list[str], *, call: bool
) -> str:
    """Return the evidence of a rule, "" where it does not match."""
    if (rule.call and not call) or (rule.kind and rule.kind != step.kind):
        return ""
    if rule.component and not has_words(component, rule.component):
        return ""
    evidence = [f"component {component}"] if rule.component else []
    if rule.types or rule.says:
        found = _raised(rule, step.type, said)
        if not found:
            return ""
        evidence.append(found)
    if rule.name:
        named = _MATCH[rule.name].search(name)
        if named is None:
            return ""
        evidence.append(f"name {named[0]!r}")
    if rule.signal:
        told = next((text for text in signals if _MATCH[rule.signal].search(text)), "")
        if not told:
            return ""
        evidence.append("an error of the tool" if told == "raised: " else told)
    return " and ".join(evidence)
