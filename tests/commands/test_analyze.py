"""`tracetriage analyze`: sources, forms, exit statuses."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from pytest_tracetriage.collect.runs import read_spans
from pytest_tracetriage.model.trace import Span, Trace
from pytest_tracetriage.store.runs import read_analysis, read_run, run_folders


def analysis(result):
    return json.loads(result.out)


@pytest.fixture
def as_json(tracetriage):
    def call(*args):
        result = tracetriage("analyze", *args, "--format", "json")
        return analysis(result)

    return call


# what it reads


def test_without_a_source_it_takes_the_latest_run(shop, tracetriage, price):
    result = tracetriage("analyze")
    assert result.code == 1
    assert "TraceTriage: 9 failures -> 5 root causes" in result.out
    assert f"KeyError in {price}: missing 'sku'" in result.out


def test_it_gives_what_the_run_itself_found(shop, run_folder, as_json):
    kept = json.loads((run_folder / "analysis.json").read_bytes())
    found = as_json()
    for part in ("buckets", "clusters", "totals"):
        assert found[part] == kept[part]


def test_from_a_folder_deep_inside_the_project(shop, tracetriage, monkeypatch):
    monkeypatch.chdir(shop / "tests")
    assert "9 failures" in tracetriage("analyze").out


def test_a_folder_of_runs_is_several_shards(shop, run_folder, tmp_path, as_json):
    for name in ("one", "two/deep"):
        shutil.copytree(run_folder, tmp_path / "artifacts" / name)
    found = as_json(tmp_path / "artifacts")
    assert len(found["runs"]) == 2
    assert found["totals"]["tests"] == 2 * json.loads((run_folder / "run.json").read_bytes())["totals"]["tests"]
    assert found["totals"]["failures"] == 9, "the same test in two legs is one test with a failure"


@pytest.mark.parametrize("name", ["log.jsonl", "junit.xml"])
def test_what_other_tools_recorded(shop, as_json, name):
    found = as_json(name)
    assert found["totals"]["failures"] == 9
    assert found["runs"][0]["format"] == {"log.jsonl": "reportlog", "junit.xml": "junit"}[name]
    assert "KeyError" in found["clusters"][0]["name"]
    assert found["clusters"][0]["count"] == 4


@pytest.mark.parametrize("name", ["log.jsonl", "junit.xml"])
def test_packed_files_read_like_plain_ones(shop, tmp_path, as_json, name):
    gzipped = tmp_path / f"{name}.gz"
    gzipped.write_bytes(gzip.compress(Path(name).read_bytes()))
    plain = as_json(name)
    assert as_json(gzipped)["clusters"] == plain["clusters"]
    zstd = pytest.importorskip("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    packed = tmp_path / "a-name-that-says-nothing"
    packed.write_bytes(zstd.compress(Path(name).read_bytes()))
    assert as_json(packed)["clusters"] == plain["clusters"]


def test_the_run_of_another_project_needs_nothing_of_it(finished, empty, as_json):
    found = as_json(*(finished / ".tracetriage" / "runs").iterdir())
    assert found["totals"]["failures"] == 9
    assert not list(empty.glob(".tracetriage/*")), "looking leaves nothing behind"


# what it cannot read


def test_a_missing_file(empty, tracetriage):
    result = tracetriage("analyze", "no.jsonl")
    assert result.code == 2
    assert "no.jsonl: no such file or folder" in result.out
    assert "Traceback" not in result.out + result.err


@pytest.mark.parametrize("content", [b"", b" \n\n"], ids=["no bytes", "blanks"])
def test_an_empty_file(empty, tracetriage, content):
    Path("log.jsonl").write_bytes(content)
    result = tracetriage("analyze", "log.jsonl")
    assert result.code == 2
    assert "log.jsonl: empty: no test was recorded" in result.out


@pytest.mark.parametrize(
    "content", [b"hello", b"\x89PNG\r\n\x1a\n\0\0", b"{}", b"<html></html>"], ids=["text", "binary", "object", "html"]
)
def test_a_file_of_no_known_format(empty, tracetriage, content):
    Path("x").write_bytes(content)
    result = tracetriage("analyze", "x")
    assert result.code == 2
    assert re.search(r"x: of no known format \(tracetriage, reportlog, junit\); say which with --from FORMAT", result.out)


def test_a_folder_without_a_run(empty, tracetriage):
    (empty / "sub").mkdir()
    result = tracetriage("analyze", "sub")
    assert result.code == 2
    assert "sub: no run in this folder" in result.out


def test_no_run_at_all(empty, tracetriage):
    assert "run `pytest --tracetriage` first" in tracetriage("analyze").mistake


def test_one_bad_source_does_not_spoil_the_others(shop, tracetriage):
    result = tracetriage("analyze", "log.jsonl", "no.jsonl", "--format", "json")
    assert result.code == 1
    found = analysis(result)
    assert found["totals"]["failures"] == 9
    assert [problem["file"] for problem in found["problems"]] == ["no.jsonl"]
    assert "tracetriage: no.jsonl: no such file or folder" in result.err


def test_a_truncated_gzip_keeps_what_came_before(shop, tracetriage):
    log = Path("log.jsonl").read_bytes()
    packed = gzip.compress(log * 20)
    Path("cut.gz").write_bytes(packed[: len(packed) * 3 // 4])
    result = tracetriage("analyze", "cut.gz", "--format", "json")
    assert result.code == 1
    found = analysis(result)
    assert found["totals"]["failures"] == 9
    (problem,) = [problem for problem in found["problems"] if "what came before was kept" in problem["message"]]
    assert problem["file"] == "cut.gz"


def test_a_damaged_line_is_named_with_its_number(shop, run_folder, tracetriage):
    trace_file = run_folder / "traces" / "main.jsonl"
    lines = trace_file.read_bytes().splitlines(keepends=True)
    trace_file.write_bytes(b"".join([*lines[:3], b"\0\0garbage\n", *lines[3:]]))
    result = tracetriage("analyze", run_folder)
    assert result.code == 1
    assert f"{trace_file}:4: binary content" in result.out
    assert "9 failures" in result.out


def test_a_run_json_that_is_cut_off_costs_no_trace(shop, run_folder, tracetriage):
    (run_folder / "run.json").write_bytes(b'{"schema"')
    result = tracetriage("analyze", run_folder, "--format", "json")
    assert result.code == 1
    found = analysis(result)
    assert found["totals"]["failures"] == 9
    assert [Path(problem["file"]).name for problem in found["problems"]] == ["run.json"]


def test_the_format_can_be_forced(shop, tracetriage):
    Path("log.jsonl").write_bytes(b"# a comment that hides the format\n" + Path("log.jsonl").read_bytes())
    assert tracetriage("analyze", "log.jsonl").code == 2
    result = tracetriage("analyze", "log.jsonl", "--from", "reportlog", "--format", "json")
    assert analysis(result)["totals"]["failures"] == 9


def test_a_format_that_does_not_exist(shop, tracetriage):
    assert (
        "'xml': expected one of tracetriage, reportlog, junit" in tracetriage("analyze", "junit.xml", "--from", "xml").mistake
    )


# exit statuses


def test_a_green_run_is_0(empty, tracetriage):
    log = '{"$report_type": "TestReport", "nodeid": "t.py::a", "outcome": "passed", "when": "call", "longrepr": null}\n'
    Path("log.jsonl").write_text(log, encoding="utf-8")
    result = tracetriage("analyze", "log.jsonl")
    assert result.code == 0
    assert "TraceTriage: 1 test, no failures" in result.out


def test_a_green_run_with_a_damaged_line_is_1(empty, tracetriage):
    log = '{"$report_type": "TestReport", "nodeid": "t.py::a", "outcome": "passed", "when": "call", "longrepr": null}\n{"cut\n'
    Path("log.jsonl").write_text(log, encoding="utf-8")
    result = tracetriage("analyze", "log.jsonl")
    assert result.code == 1
    assert "log.jsonl:2: " in result.out


# forms


def test_json_has_the_promised_form(shop, as_json):
    found = as_json()
    assert found["schema"] == "tracetriage.analysis/1"
    assert set(found) == {"schema", "runs", "totals", "buckets", "clusters", "problems", "traces", "spent"}
    assert {"tests", "passed", "failures", "errors", "skipped", "xfailed"} <= set(found["totals"])
    assert (found["totals"]["tests"], found["totals"]["passed"], found["totals"]["skipped"], found["totals"]["xfailed"]) == (
        12,
        1,
        1,
        1,
    )
    ids = {cluster["id"] for cluster in found["clusters"]}
    for bucket in found["buckets"]:
        assert set(bucket) == {"name", "count", "clusters"}
        assert set(bucket["clusters"]) <= ids
    for cluster in found["clusters"]:
        promised = "id name category owner codeowners seen muted count tests signatures why suspects exemplar"
        assert set(cluster) >= set(promised.split())
        assert re.fullmatch("[A-Z2-7]{26}", cluster["id"])
        assert cluster["seen"] == "first-run"
        assert 0 < len(cluster["suspects"]) <= 10
        for suspect in cluster["suspects"]:
            assert set(suspect) >= {"file", "function", "line", "score", "evidence"}
            assert not suspect["file"].startswith("/")
        assert [s["score"] for s in cluster["suspects"]] == sorted((s["score"] for s in cluster["suspects"]), reverse=True)
        assert cluster["exemplar"]["nodeid"] in cluster["tests"]
    assert sum(cluster["count"] for cluster in found["clusters"]) == found["totals"]["failures"]


def test_json_names_place_and_owner(shop, as_json, price):
    first = as_json()["clusters"][0]
    assert (first["suspects"][0]["file"], first["suspects"][0]["function"], first["suspects"][0]["line"]) == (
        "shop/cart.py",
        price,
        10,
    )
    assert first["codeowners"] == ["@carts"]
    assert first["tests"] == sorted(
        f"tests/test_cart.py::test_total[{season}]" for season in ("summer", "winter", "spring", "autumn")
    )


@pytest.mark.parametrize(
    ("rules", "owner"),
    [("/services/shop/shop/ @repository\n", "@repository"), ("/shop/ @nobody\n", None), ("", "@carts")],
    ids=["repository", "elsewhere", "none in the repository"],
)
def test_a_project_in_a_folder_of_its_repository_has_the_owners_of_the_repository(
    shop, tmp_path, monkeypatch, as_json, rules, owner
):
    folder = tmp_path / "repository" / "services" / "shop"
    folder.parent.mkdir(parents=True)
    shop.rename(folder)
    (tmp_path / "repository" / ".git").mkdir()
    if rules:
        (tmp_path / "repository" / ".github").mkdir()
        (tmp_path / "repository" / ".github" / "CODEOWNERS").write_text(rules, encoding="utf-8")
    monkeypatch.chdir(folder)
    first = as_json()["clusters"][0]
    assert first["codeowners"] == ([owner] if owner else [])


def test_markdown_has_its_sections_in_order(shop, tracetriage):
    text = tracetriage("analyze", "--format", "markdown").out
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == ["## Root causes", "## Code changes", "## Validation"]
    cause = text[text.index("### ") : text.index("## Code changes")]
    positions = [cause.index(word) for word in ("missing 'sku'", "- Signature: ", "- Cause: ", "- Fix: ")]
    assert positions == sorted(positions)
    assert "pytest 'tests/test_cart.py::test_total[autumn]'" in text


def test_markdown_of_a_green_run_has_no_empty_sections(empty, tracetriage):
    log = '{"$report_type": "TestReport", "nodeid": "t.py::a", "outcome": "passed", "when": "call", "longrepr": null}\n'
    Path("log.jsonl").write_text(log, encoding="utf-8")
    text = tracetriage("analyze", "log.jsonl", "--format", "markdown").out
    assert "1 test: 1 passed" in text
    assert "## " not in text.replace("# TraceTriage", "", 1)


def test_output_goes_to_a_file(shop, tracetriage):
    result = tracetriage("analyze", "--format", "json", "--output", "out.json")
    assert (result.code, result.out) == (1, "")
    assert json.loads(Path("out.json").read_bytes())["totals"]["failures"] == 9


def test_output_to_a_place_that_is_none(shop, tracetriage):
    assert "nowhere/out.json" in tracetriage("analyze", "--output", "nowhere/out.json").mistake


def test_quiet_is_a_headline_and_one_line_a_cause(shop, tracetriage):
    lines = tracetriage("analyze", "-q").out.splitlines()
    assert len(lines) == 1 + 5
    assert lines[0] == "TraceTriage: 9 failures -> 5 root causes (first run)"
    assert all(re.match(r"  [A-Z2-7]{5,}  \S", line) for line in lines[1:])


def test_verbose_says_why(shop, tracetriage):
    plain, verbose = tracetriage("analyze").out, tracetriage("analyze", "-v").out
    assert "why: " not in plain
    assert "why: same signature: KeyError" in verbose
    assert "DATA_SHAPE: type KeyError" in verbose


def test_no_line_is_wider_than_the_terminal(shop, tracetriage, monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    long = [line for line in tracetriage("analyze", "-v").out.splitlines() if len(line) > 70]
    assert [line for line in long if not line.startswith("again:")] == []


def test_colour_only_where_it_is_wanted(shop, tracetriage, monkeypatch):
    assert "\x1b[" not in tracetriage("analyze").out
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in tracetriage("analyze").out
    tracetriage("analyze", "--output", "out.txt")
    assert b"\x1b[" not in Path("out.txt").read_bytes()


def test_the_installed_command_in_a_process_of_its_own(shop):
    program = shutil.which("tracetriage", path=str(Path(sys.executable).parent))
    command = [program] if program else [sys.executable, "-c", "from pytest_tracetriage.commands import main; main()"]
    done = subprocess.run([*command, "analyze", "-q"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert "9 failures -> 5 root causes" in done.stdout


# --save


def saved(folder):
    runs = run_folders(folder / ".tracetriage")
    return runs[-1]


def test_save_keeps_a_run_that_reads_back(shop, empty, tracetriage):
    result = tracetriage("analyze", shop / "log.jsonl", "--save", "--format", "json")
    folder = saved(empty)
    assert f"kept as run {folder.name}" in result.err
    run = read_run(folder)
    assert (run.status, run.totals.failures) == ("finished", 9)
    traces = [msgspec.json.decode(line, type=Trace) for line in (folder / "traces" / "main.jsonl").read_bytes().splitlines()]
    assert len({trace.id for trace in traces}) == len(traces)
    again = analysis(tracetriage("analyze", folder, "--format", "json"))
    assert again["totals"] == analysis(result)["totals"]
    assert again["clusters"] == analysis(result)["clusters"]
    assert read_analysis(folder).totals.failures == 9


def test_a_saved_run_is_history_for_the_next(shop, empty, tracetriage):
    tracetriage("analyze", shop / "log.jsonl", "--save")
    found = analysis(tracetriage("analyze", shop / "log.jsonl", "--format", "json"))
    assert {cluster["seen"] for cluster in found["clusters"]} == {"known"}
    assert "known for 1 run" in tracetriage("analyze", shop / "log.jsonl").out


def test_a_saved_run_of_our_own_can_be_shown(shop, run_folder, empty, tracetriage):
    tracetriage("analyze", run_folder, "--save")
    shown = tracetriage("show", "tests/test_cart.py::test_total[summer]").out
    assert "E           KeyError: 'sku'" in shown  # indented as the source line above it, which was saved too
    assert "# prices are known by stock-keeping unit" in shown, "the functions' sources are kept too"


AGENT = """
from pytest_tracetriage import metric, span, step

def test_fix():
    metric("iterations_total", 2)
    with step("Fixer"):
        with span("ask", kind="llm") as ask:
            ask.usage("gpt-4o", input=100, output=7)
        with span("apply", kind="tool"):
            raise ValueError("hunk 1 does not apply")
"""


@pytest.mark.parametrize("runs", [1, 2])
def test_spans_metrics_and_where_a_trace_broke_are_saved_too(empty, tracetriage, runs):
    (empty / "test_a.py").write_text(AGENT, encoding="utf-8")
    for _ in range(runs):
        subprocess.run([sys.executable, "-m", "pytest", "--tracetriage"], capture_output=True, check=False)
    printed = analysis(tracetriage("analyze", ".tracetriage/runs", "--save", "--format", "json"))
    folder = saved(empty)
    run, kept = read_run(folder), read_analysis(folder)
    assert run.metrics["iterations_total"].value == 2 * runs
    assert [(spent.usage.input, spent.usage.output) for spent in run.spent] == [(100 * runs, 7 * runs)]
    spans = [item for item in read_spans(folder) if isinstance(item, Span)]
    assert len({span.id for span in spans}) == len(spans) == 3 * runs
    assert {span.parent for span in spans if span.parent} <= {span.id for span in spans}
    assert [(place.run, place.component) for place in kept.traces] == [(folder.name, "Fixer")] * runs
    assert {place.step for place in kept.traces} == {span.id for span in spans if span.name == "apply"}
    assert {place.id for place in kept.traces} == {span.trace for span in spans}
    again = analysis(tracetriage("analyze", folder, "--format", "json"))
    assert again["spent"] == printed["spent"]
    assert [one["evidence"] for one in again["traces"]] == [one["evidence"] for one in printed["traces"]]
    assert "apply  tool" in tracetriage("show", "test_a.py::test_fix").out


def test_a_crash_below_a_folder_of_runs_is_saved(empty, tracetriage):
    (empty / "test_a.py").write_text("import os\ndef test_ok(): pass\ndef test_die(): os._exit(3)\n", encoding="utf-8")
    subprocess.run([sys.executable, "-m", "pytest", "--tracetriage"], capture_output=True, check=False)
    tracetriage("analyze", ".tracetriage/runs", "--save")
    assert analysis(tracetriage("analyze", saved(empty), "--format", "json"))["totals"]["crashed"] == 1


def test_nothing_readable_is_nothing_saved(empty, tracetriage):
    assert tracetriage("analyze", "no.jsonl", "--save").code == 2
    assert not (empty / ".tracetriage").exists()


HOSTILE = {
    "a quoted URL": 'cannot open "https://x/?token=abcdefgh12345"',
    "half a key": "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA",
    "a quoted password": 'password="hunter22-hunter22"',
    "a token": "bad key ghp_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
}
SECRETS = ("abcdefgh12345", "MIIEow", "hunter22", "ghp_a")


@pytest.mark.parametrize("name", HOSTILE)
def test_secrets_are_not_saved_and_the_analysis_stays_json(empty, tracetriage, name):
    crash = {"path": "t.py", "lineno": 3, "message": f"ValueError: {HOSTILE[name]}"}
    entry = {"type": "ReprEntry", "data": {"lines": [">   f()", *(f"E   {line}" for line in crash["message"].splitlines())],
             "reprfileloc": {"path": "t.py", "lineno": 3, "message": "ValueError"}}}  # fmt: skip
    traceback = {"reprentries": [entry], "extraline": None, "style": "long"}
    longrepr = {"reprcrash": crash, "reprtraceback": traceback, "sections": [], "chain": [[traceback, crash, None]]}
    report = {"$report_type": "TestReport", "nodeid": "t.py::a", "outcome": "failed", "when": "call", "longrepr": longrepr}
    Path("log.jsonl").write_text(json.dumps(report) + "\n", encoding="utf-8")
    tracetriage("analyze", "log.jsonl", "--save")
    folder = saved(empty)
    assert read_analysis(folder).totals.failures == 1
    kept = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file()).decode()
    assert "[redacted " in kept
    assert not [secret for secret in SECRETS if secret in kept]


def test_a_crash_is_saved_too(empty, tracetriage):
    (empty / "test_a.py").write_text("import os\ndef test_ok(): pass\ndef test_die(): os._exit(3)\n", encoding="utf-8")
    subprocess.run([sys.executable, "-m", "pytest", "--tracetriage"], capture_output=True, check=False)
    (run,) = run_folders(empty / ".tracetriage")
    assert analysis(tracetriage("analyze", run, "--save", "--format", "json"))["totals"]["crashed"] == 1
    assert analysis(tracetriage("analyze", saved(empty), "--format", "json"))["totals"]["crashed"] == 1


def test_what_every_worker_could_not_collect_counts_once(shop, run_folder, as_json):
    failure = b'{"phase":"collect","errors":[{"type":"E"}]}'
    broken = b'{"record":"trace","id":"%s.1","nodeid":"tests/test_z.py","outcome":"error","failure":' + failure + b"}\n"
    before = as_json(run_folder)["totals"]
    for worker in (b"gw0", b"gw1"):
        (run_folder / "traces" / f"{worker.decode()}.jsonl").write_bytes(broken % worker)
    after = as_json(run_folder)["totals"]
    assert (after["errors"] - before["errors"], after["failures"] - before["failures"]) == (1, 1)
