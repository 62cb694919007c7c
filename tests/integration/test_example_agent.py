"""The agent of examples/agent: where each of its failures broke, what its calls took, and that none left the machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from pathlib import Path
from statistics import fmean

import pytest
from capture.suite import Suite

pytest.importorskip("weave")
pytest.importorskip("openai")
pytest.importorskip("genai_prices")

EXAMPLES = Path(__file__).parents[2] / "examples"
KEYS = {"OPENAI_API_KEY": "sk-" + 4 * "0123456789", "WANDB_API_KEY": 4 * "0123456789"}
CHAT, RESPONSES = "openai.chat.completions.create", "openai.responses.create"

# By hand: component, the span that broke, and the type. Each type is one cause of its own.
BROKEN = {
    "test_tester.py::test_orders_and_pays": ("Tester", "Tester.act", "SESSION_ERROR"),
    "test_tester.py::test_sends_goods_back": ("Tester", "Tester.act", "SESSION_ERROR"),
    "test_tester.py::test_subscribes": ("Tester", "Tester.act", "ACTION_FAILED"),
    "test_triage.py::test_kind[with-a-hint]": ("Triage", "Triage.classify", "MISCLASSIFICATION"),
    "test_triage.py::test_kind[with-a-log]": ("Triage", "Triage.classify", "MISCLASSIFICATION"),
    "test_triage.py::test_locates_a_file_by_its_name": ("Triage", "Triage.locate", "LOCALIZATION_FAILED"),
    "test_healer.py::test_heals[stock]": ("Triage", "Triage.locate", "LOCALIZATION_FAILED"),
    "test_triage.py::test_sorts_a_red_night": ("Triage", CHAT, "RATE_LIMIT"),
    "test_triage.py::test_sorts_one_after_the_other": ("Triage", CHAT, "RATE_LIMIT"),
    "test_fixer.py::test_mends_a_file_with_tabs": ("Fixer", "apply_patch", "INVALID_PATCH"),
    "test_healer.py::test_heals[legacy]": ("Fixer", "apply_patch", "INVALID_PATCH"),
    "test_healer.py::test_heals[rounding]": ("Fixer", "Fixer.fix", "WRONG_FIX"),
    "test_healer.py::test_heals[access]": ("Fixer", CHAT, "REFUSAL"),
    "test_fixer.py::test_mends_the_end_of_a_long_file": ("Fixer", "read_file", "LOOP"),
    "test_verifier.py::test_a_corrected_price_is_noticed": ("Verifier", "Verifier.verify", "TEST_STILL_FAILS"),
    "test_healer.py::test_heals[prices]": ("Verifier", "Verifier.verify", "TEST_STILL_FAILS"),
    "test_verifier.py::test_deploys_what_the_code_reads": ("Verifier", "Verifier.deploy", "DEPLOY_FAILED"),
    "test_healer.py::test_heals[labels]": ("Verifier", "Verifier.deploy", "DEPLOY_FAILED"),
}
# US dollars a million tokens, from OpenAI's price list: input, cached input, output. Embeddings have no price in genai-prices.
PRICES = {
    "gpt-4o": ("2.50", "1.25", "10.00"),
    "gpt-4o-mini": ("0.15", "0.075", "0.60"),
    "gpt-4.1": ("2.00", "0.50", "8.00"),
    "gpt-4.1-mini": ("0.40", "0.10", "1.60"),
    "gpt-5-mini": ("0.25", "0.025", "2.00"),
    "o3-mini": ("1.10", "0.55", "4.40"),
}
# Questions to the cache of each test that asks it: hits, all of them.
ASKED = [
    *[(0, 1), (1, 2)],  # test_tester.py: what is red; a version once
    *[(0, 1)] * 6,  # test_kind
    *[(2, 3), (0, 2), (0, 6), (0, 5)],  # the same error, a few, a red night, one after the other until the limit
    (1, 2),  # a corrected price
    *[(1, 4), (1, 5), (1, 4), (0, 2), (0, 2), (0, 2), (1, 3), (0, 3), (0, 2)],  # test_heals
    *[(2, 9), (1, 4)],  # two at a time; what was mended
]

# Audit events are seen whoever opens the socket, in whatever way.
GUARD = """
import os, sys

LOOPBACK = ("127.0.0.1", "::1", "localhost", None, b"127.0.0.1", b"localhost")

def hook(event, args):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        host = args[1][0] if isinstance(args[1], tuple) else "localhost"
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        host = args[0]
    else:
        return
    with open(os.environ["SOCKETS_LOG"], "a") as file:
        print(event, host, file=file)
    if host not in LOOPBACK:
        raise OSError(f"this test forbids {host}")

sys.addaudithook(hook)
"""


class Ran(Suite):
    """A copy of the example whose suite has run. `logs` are the entries of the servers' logs by test."""

    patience = 300

    def __init__(self, folder: Path, *args: str, plugins: str = "") -> None:
        super().__init__(Path(shutil.copytree(EXAMPLES / "agent", folder / "agent", ignore=shutil.ignore_patterns(".*"))))
        for name in ("guard", "logs"):
            (folder / name).mkdir()
        (folder / "guard" / "sitecustomize.py").write_text(GUARD, encoding="utf-8")
        self.sockets = folder / "sockets.txt"
        env = {"PYTHONPATH": str(folder / "guard"), "SOCKETS_LOG": str(self.sockets), "QA_AGENT_LOGS": str(folder / "logs")}
        self.result = self.run(*args, "--tb=no", plugins=plugins, env={**env, **KEYS})
        self.found = json.loads(self.tracetriage("analyze", "--format", "json").out)
        entries = {path.stem: path.read_text(encoding="utf-8").splitlines() for path in (folder / "logs").glob("*.jsonl")}
        named = {_file_name(trace.nodeid): trace for trace in self.traces}
        assert entries.keys() <= named.keys()
        self.logs = {named[name].nodeid: [json.loads(line) for line in lines] for name, lines in entries.items()}
        self.ids = {trace.id: trace.nodeid for trace in self.traces}

    def environ(self, env=None):
        clean = super().environ(env)
        return {name: value for name, value in clean.items() if not name.lower().endswith("_proxy")}

    @property
    def places(self) -> dict[str, tuple[str, str, str]]:
        names = {span.id: span.name for span in self.spans}
        return {
            place["nodeid"].removeprefix("tests/"): (place["component"], names.get(place["step"], ""), place["category"])
            for place in self.found["traces"]
        }

    @property
    def clusters(self) -> dict[str, set[str]]:
        return {cluster["id"]: {test.removeprefix("tests/") for test in cluster["tests"]} for cluster in self.found["clusters"]}

    def of(self, test: str) -> list:
        (trace,) = (identity for identity, nodeid in self.ids.items() if nodeid == f"tests/{test}")
        return [span for span in self.spans if span.trace == trace]


def _file_name(nodeid: str) -> str:
    return re.sub(r"\W+", "-", nodeid.rpartition("::")[2]).strip("-")


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    return Ran(tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module")
def ran_on_two(tmp_path_factory):
    pytest.importorskip("xdist")
    return Ran(tmp_path_factory.mktemp("two"), "-n2", plugins="xdist")


def counted(entries):
    """Return (calls, input, cached, output, reasoning) by model, from a server's log."""
    sums: dict[str, list[int]] = {}
    for entry in entries:
        if entry["usage"] is not None:
            used = entry["usage"]
            put = used.get("prompt_tokens_details") or used.get("input_tokens_details") or {}
            got = used.get("completion_tokens_details") or used.get("output_tokens_details") or {}
            row = [
                1,
                used.get("prompt_tokens", used.get("input_tokens")),
                put.get("cached_tokens", 0),
                used.get("completion_tokens", used.get("output_tokens", 0)),
                got.get("reasoning_tokens", 0),
            ]
            sums[entry["model"]] = [one + other for one, other in zip(sums.get(entry["model"], [0] * 5), row, strict=True)]
    return {model: tuple(row) for model, row in sums.items()}


def cost(model, row):
    if model not in PRICES:
        return None
    full, cached, out = map(Decimal, PRICES[model])
    _, given, from_cache, made, _ = row
    return ((given - from_cache) * full + from_cache * cached + made * out) / 1_000_000


def told(spent):
    """Return what TraceTriage says was spent, as `counted` does, and the costs."""
    rows, costs = {}, {}
    for each in spent:
        usage = {"requests": 1, "input": 0, "cache_read": 0, "output": 0, "reasoning": 0, **each["usage"]}
        rows[usage["model"]] = tuple(usage[name] for name in ("requests", "input", "cache_read", "output", "reasoning"))
        costs[usage["model"]] = each.get("cost")
    return rows, costs


def check_spent(spent, entries):
    rows, costs = told(spent)
    assert rows == counted(entries)
    for model, row in rows.items():
        by_hand = cost(model, row)
        assert costs[model] == (None if by_hand is None else pytest.approx(float(by_hand), rel=1e-12)), model


def test_the_suite_is_as_red_as_its_readme_says(ran):
    assert ran.result.counts == {"failed": 18, "passed": 24}, ran.result.out
    assert {trace.nodeid.removeprefix("tests/") for trace in ran.traces if trace.outcome != "passed"} == BROKEN.keys()
    assert ran.result.warned == []
    readme = (EXAMPLES / "agent" / "README.md").read_text(encoding="utf-8")
    table = re.findall(r"\| (\d+) \| (\w+), (\w+) \|$", readme, re.MULTILINE)
    assert {(part, kind): int(count) for count, part, kind in table} == Counter(
        (part, kind) for part, _, kind in BROKEN.values()
    )


def test_each_failure_broke_where_it_did(ran):
    assert ran.places == BROKEN


def test_there_is_one_cluster_a_cause(ran):
    causes: dict[str, set[str]] = {}
    for test, (_, _, kind) in BROKEN.items():
        causes.setdefault(kind, set()).add(test)
    assert sorted(map(sorted, ran.clusters.values())) == sorted(map(sorted, causes.values()))
    assert {cluster["category"] for cluster in ran.found["clusters"]} == causes.keys()


def test_two_processes_say_the_same(ran, ran_on_two):
    assert ran_on_two.result.counts == ran.result.counts
    assert ran_on_two.places == ran.places
    assert ran_on_two.clusters == ran.clusters
    assert told(ran_on_two.found["spent"])[0] == told(ran.found["spent"])[0]


def test_every_call_stands_under_the_test_that_made_it(ran):
    by_test: dict[str, list] = {}
    for span in ran.spans:
        if span.usage is not None or span.name in {CHAT, RESPONSES}:
            by_test.setdefault(ran.ids[span.trace], []).append(span)

    assert by_test.keys() == ran.logs.keys()
    for test, entries in ran.logs.items():
        assert len(by_test[test]) == len(entries), test
        assert sum(span.outcome == "failed" for span in by_test[test]) == sum(entry["status"] != 200 for entry in entries), test
        answered = [(span.usage.model, span.usage.input, span.usage.output) for span in by_test[test] if span.usage]
        wanted = [(model, row[1], row[3]) for entry in entries for model, row in counted([entry]).items()]
        assert sorted(answered) == sorted(wanted), test


def test_a_streamed_call_is_whole(ran):
    found = {span.name: span for span in ran.of("test_tester.py::test_logs_in")}
    walk, plan, call = (found[name] for name in ("Tester.walk_through", "Tester.plan", CHAT))
    assert (call.parent, plan.parent, walk.parent) == (plan.id, walk.id, "")
    assert "press Enter" in call.output
    assert call.usage.output == 8


def test_calls_of_coroutines_stand_in_the_span_that_waits_for_them(ran):
    spans = ran.of("test_verifier.py::test_two_models_review_a_patch")
    (review,) = (span for span in spans if span.name == "Verifier.review")
    assert sorted((span.usage.model, span.parent) for span in spans if span.usage) == [
        ("gpt-4.1", review.id),
        ("gpt-4.1-mini", review.id),
    ]


def test_calls_of_weaves_pool_stand_in_the_span_that_has_it(ran):
    spans = ran.of("test_healer.py::test_heals_two_at_a_time")
    (both,) = (span for span in spans if span.name == "Healer.heal_all")
    heals = [span for span in spans if span.name == "Healer.heal"]
    assert [span.parent for span in heals] == [both.id] * 2
    bugs = {heal.id: len(json.loads(heal.output)["fixed"]) for heal in heals}
    assert sorted(bugs.values()) == [1, 2]
    assert Counter(span.parent for span in spans if span.name == "Triage.classify") == bugs


def test_calls_of_a_plain_thread_belong_to_the_test_that_runs(ran):
    spans = ran.of("test_healer.py::test_heals[money]")
    (remember,) = (span for span in spans if span.name == "Memory.remember")
    (embedding,) = (span for span in spans if span.kind == "embedding")
    assert embedding.parent == remember.id
    assert embedding.usage.model == "text-embedding-3-small"


def test_failing_calls_of_green_tests_are_kept_too(ran):
    (call,) = (span for span in ran.of("test_triage.py::test_another_key_is_not_let_in") if span.name == CHAT)
    assert call.error.startswith("AuthenticationError: Error code: 401")
    first, *rest = (span for span in ran.of("test_fixer.py::test_shortens_what_is_too_long") if span.name == CHAT)
    assert "Error code: 400" in first.error
    assert [span.outcome for span in rest] == ["success", "success"]


def test_no_connection_leaves_the_machine_and_no_key_is_used(ran):
    seen = Counter(ran.sockets.read_text(encoding="utf-8").split("\n"))
    assert seen["socket.connect 127.0.0.1"] > 40
    assert {line.split()[-1] for line in seen if line} <= {"127.0.0.1", "localhost", "::1", "None"}
    refused = {test for test, entries in ran.logs.items() for entry in entries if entry["status"] == 401}
    assert refused == {"tests/test_triage.py::test_another_key_is_not_let_in"}
    written = b"".join(ran.bytes_written().values())
    assert not [key for key in KEYS.values() if key.encode() in written]


def test_tokens_and_cost_of_the_run_are_those_of_a_count_by_hand(ran):
    entries = [entry for found in ran.logs.values() for entry in found]
    run = json.loads((ran.last / "run.json").read_bytes())

    check_spent(run["spent"], entries)
    check_spent(ran.found["spent"], entries)
    rows = counted(entries)
    assert rows.keys() == {*PRICES, "text-embedding-3-small"}
    assert {model for model, row in rows.items() if row[2]} == {"gpt-4o", "o3-mini"}
    assert {model for model, row in rows.items() if row[4]} == {"gpt-5-mini", "o3-mini"}
    calls, tokens = sum(row[0] for row in rows.values()), sum(row[1] + row[3] for row in rows.values())
    dollars = sum(filter(None, (cost(model, row) for model, row in rows.items())))
    assert f"LLM: {calls} calls, {tokens:,} tokens, ${dollars:.4f} (no price for text-embedding-3-small)" in ran.result.lines


def test_tokens_and_cost_of_each_cluster_are_those_of_a_count_by_hand(ran):
    for cluster in ran.found["clusters"]:
        check_spent(cluster.get("spent", []), [entry for test in cluster["tests"] for entry in ran.logs.get(test, [])])


@pytest.mark.parametrize(
    "test",
    [
        "test_tester.py::test_logs_in",
        "test_triage.py::test_kind[cut-answer]",
        "test_triage.py::test_locates_a_file",
        "test_fixer.py::test_mends_a_file_with_tabs",
        "test_verifier.py::test_two_models_review_a_patch",
        "test_healer.py::test_heals[legacy]",
        "test_healer.py::test_heals[rounding]",
    ],
)
def test_tokens_and_cost_of_a_test_are_those_of_a_count_by_hand(ran, test):
    rows = counted(ran.logs[f"tests/{test}"])
    calls, tokens = sum(row[0] for row in rows.values()), sum(row[1] + row[3] for row in rows.values())
    dollars = sum(cost(model, row) for model, row in rows.items())
    price = f"${dollars:.4f}" if dollars >= Decimal("0.00005") else "<$0.0001"
    shown = ran.tracetriage("show", f"tests/{test}").out
    (line,) = (line for line in shown.splitlines() if line.startswith("  spans "))

    assert f"LLM: {calls} call{'s' * (calls > 1)}, {tokens:,} tokens, {price}" in line
    cached, reasoning = sum(row[2] for row in rows.values()), sum(row[4] for row in rows.values())
    assert ("cached" in line, "reasoning" in line) == (bool(cached), bool(reasoning))
    assert not cached or f" {cached:,} cached" in line
    assert not reasoning or f" {reasoning:,} reasoning" in line


def test_metrics_are_what_was_done(ran):
    metrics = json.loads((ran.last / "run.json").read_bytes())["metrics"]

    assert {name: metrics[name]["value"] for name in ("bugs_found", "bugs_fixed", "patches_generated", "iterations_total")} == {
        "bugs_found": 14,
        "bugs_fixed": 9,
        "patches_generated": 20,
        "iterations_total": 21,
    }
    assert metrics["pass_rate"]["value"] == pytest.approx(24 / 42)
    assert metrics["redis_hit_rate"]["count"] == len(ASKED)
    assert metrics["redis_hit_rate"]["value"] == pytest.approx(fmean(hits / asked for hits, asked in ASKED))
    assert (metrics["fix_time_seconds"]["count"], metrics["deployment_time"]["count"]) == (11, 7)
    assert {metrics[name]["unit"] for name in ("fix_time_seconds", "deployment_time")} == {"s"}
    assert 0 < metrics["deployment_time"]["value"] < 30


def demo(folder, env=None):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TRACETRIAGE", "PYTEST", "GITHUB_"))}
    script = shutil.copytree(EXAMPLES, folder / "examples", ignore=shutil.ignore_patterns(".*")) / "demo.sh"
    return lambda: subprocess.run(
        ["sh", str(script), str(Path(sys.executable).parent)],
        env={**clean, **KEYS, "COLUMNS": "100", **(env or {})},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )


@pytest.mark.linux
def test_the_demo_shows_the_tree_of_a_failure_with_tokens_and_cost(tmp_path):
    done = demo(tmp_path)()

    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    pytest.LineMatcher(done.stdout.splitlines()).fnmatch_lines(
        [
            "=* TraceTriage: 46 failures -> 6 root causes (first run) =*",
            "=* TraceTriage: 18 failures -> 11 root causes (first run) =*",
            "LLM: 131 calls, * tokens, $0.0*",
            "$ tracetriage show tests/test_fixer.py::test_mends_a_file_with_tabs",
            "  component Fixer",
            "  spans     6 spans, LLM: 2 calls, * tokens, $0.00* cached",
            "    ✗ Fixer.fix * tok * $0.00*",
            "          openai.chat.completions.create  llm gpt-4o * ms * tok * $0.00*",
            "      ✗ apply_patch  tool *",
            "          error  PatchError: the patch does not apply: shop/discount.py has no lines*",
            "README.md tells what is really wrong with this agent.",
        ]
    )


@pytest.mark.linux
def test_the_demo_says_what_the_agent_needs(tmp_path):
    run = demo(tmp_path, {"PYTHONPATH": str(tmp_path)})
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class NoWeave:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'weave': raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, NoWeave())\n",
        encoding="utf-8",
    )
    for path in (tmp_path / "examples" / "shop" / "tests").glob("test_[!m]*.py"):
        path.unlink()  # the fewer the faster
    done = run()

    assert done.returncode == 0, done.stdout + done.stderr
    assert "pip install 'pytest-tracetriage[weave,openai]'" in done.stdout.splitlines()[-1]
