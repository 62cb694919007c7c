"""Secrets never reach the disk, wherever they stand; what is no secret stays."""

from __future__ import annotations

import re

import pytest
from capture.suite import Suite
from hypothesis import given
from hypothesis import strategies as st

from pytest_tracetriage.redact import STAND_IN, Redactor, environment_secrets, looks_secret

TOKEN = "ghp_0123456789abcdefghijABCDEFGHIJ012345"
OPENAI = "sk-proj-abcdefghijklmnopqrstuvwxyz012345"
AWS = "AKIAIOSFODNN7EXAMPLE"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJl"
SHOP = "correct-horse-battery"
NAMED = "hunter2hunter2"
KWARG = "tr0ub4dor&3"
LINES = "first-secret-line-0001\nsecond-secret-line-0002"
SECRETS = [TOKEN, OPENAI, AWS, JWT, SHOP, NAMED, KWARG, "first-secret-line-0001", "second-secret-line-0002"]

TEST_A = f"""
    import logging, os, subprocess, sys, warnings
    import pytest
    from pytest_tracetriage import step

    SHOP = os.environ["SHOP_API_KEY"]
    OPENAI = os.environ["SHOP_TOKEN"]

    def test_message(): raise ValueError(f"denied for {{SHOP}} at once")
    def test_repr_of_environment(): raise RuntimeError(repr(dict(os.environ)))
    def test_environment_printed():
        print(dict(os.environ))
        for name, value in os.environ.items(): print(f"{{name}}={{value}}")
        assert 0
    def test_child_prints():
        subprocess.run([sys.executable, "-c", "import os; print(os.environ['SHOP_API_KEY'], flush=True)"], check=True)
        assert 0
    def test_log():
        logging.getLogger().warning("using %s", OPENAI)
        assert 0
    def test_source_line(): assert "{TOKEN}" == ""
    def test_compared(): assert SHOP == "other"
    def test_warning():
        warnings.warn(f"{{SHOP}} is old")
    def test_note():
        error = ValueError("noted")
        error.__notes__ = [f"with {{SHOP}}"]
        raise error
    def test_cause():
        try: raise KeyError(SHOP)
        except KeyError as error: raise ValueError("outer") from error
    def test_skip(): pytest.skip(f"no access with {{SHOP}}")
    @pytest.mark.xfail(reason="{AWS}")
    def test_xfail(): assert 0
    @pytest.mark.parametrize("password", ["{NAMED}"])
    def test_named_parameter(password): assert password == ""
    @pytest.mark.parametrize("text", ["{TOKEN}", "{JWT}"])
    def test_parameter_by_format(text): assert 0
    @pytest.mark.parametrize("number, short", [(12345678, "abc")])
    def test_plain_parameter(number, short): assert 0
    @pytest.mark.uses("{TOKEN}", password="{KWARG}")
    def test_marker():
        raise ValueError("{KWARG}")
    def test_step():
        with step("Fixer", SHOP) as fixer: fixer.outcome("failed", stop_reason=SHOP, rationale=OPENAI)
    def test_step_raises():
        with step("Fixer"): raise ValueError(SHOP)
    def test_lines(): raise ValueError(os.environ["SHOP_PRIVATE_KEY"])
    def test_url(): raise OSError("postgres://admin:{NAMED}@db.example/shop failed")
    @pytest.fixture
    def broken(): raise OSError(SHOP)
    def test_setup(broken): pass
    def test_subtests(subtests):
        with subtests.test(SHOP, token=OPENAI): assert 0
"""
ENV = {"SHOP_API_KEY": SHOP, "SHOP_TOKEN": OPENAI, "SHOP_PRIVATE_KEY": LINES, "SHOP_SECRET_NUMBER": "12345678", "AUTH": "abc"}


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    ini = "[pytest]\nmarkers = uses\n"
    broken = f'import os\nraise RuntimeError(os.environ["SHOP_API_KEY"] + "{TOKEN}")\n'
    suite = Suite(tmp_path_factory.mktemp("redaction"), {"pytest.ini": ini}, test_a=TEST_A, test_broken=broken)
    suite.result = suite.run("--continue-on-collection-errors", "-k", f"not {'zzz' + SHOP}", f"--deselect={TOKEN}", env=ENV)
    assert suite.result.warned == []
    assert len(suite.traces) > 20
    return suite


@pytest.mark.parametrize("secret", SECRETS, ids=range(len(SECRETS)))
def test_no_file_holds_a_secret(suite, secret):
    assert [name for name, data in suite.bytes_written().items() if secret.encode() in data] == []


def test_the_stand_in_is_where_the_secret_was(suite):
    def message(name):
        return suite.trace(f"::{name}").failure.errors[0].message

    assert re.fullmatch(r"denied for \[redacted [0-9a-f]{8}\] at once", message("test_message"))
    assert STAND_IN.search(message("test_repr_of_environment"))
    assert STAND_IN.search(suite.trace("::test_environment_printed").sections[0][1])
    assert STAND_IN.search(suite.trace("::test_child_prints").sections[0][1])
    assert STAND_IN.search(dict(suite.trace("::test_log").sections)["Captured log call"])
    assert STAND_IN.search(suite.trace("::test_source_line").failure.errors[0].frames[-1].code)
    assert STAND_IN.search(suite.warnings("::test_warning")[0].message)
    assert STAND_IN.search(suite.trace("::test_note").failure.errors[0].notes[0])
    assert STAND_IN.search(suite.trace("::test_cause").failure.errors[1].message)
    assert STAND_IN.search(suite.trace("::test_skip").reason)
    assert STAND_IN.search(suite.trace("::test_xfail").reason)
    assert STAND_IN.search(suite.trace("::test_marker").markers[0].args[0])
    assert STAND_IN.search(suite.trace("::test_marker").markers[0].kwargs["password"])
    assert STAND_IN.search(message("test_lines"))
    assert STAND_IN.search(suite.trace("test_broken.py").failure.errors[0].message)
    assert any(STAND_IN.search(arg) for arg in suite.info.args)
    assert STAND_IN.search(next(span for span in suite.spans if span.outcome == "failed").stop_reason)


def test_node_ids_and_parameters(suite):
    named = next(trace for trace in suite.traces if "test_named_parameter" in trace.nodeid)
    by_format = [trace for trace in suite.traces if "test_parameter_by_format" in trace.nodeid]

    assert re.fullmatch(r"test_a.py::test_named_parameter\[\[redacted [0-9a-f]{8}\]\]", named.nodeid)
    assert STAND_IN.search(named.params["password"])
    assert len({trace.nodeid for trace in by_format}) == 2, "different secrets are told apart"
    assert all(STAND_IN.search(trace.params["text"]) for trace in by_format)


def test_numbers_and_short_values_stay(suite):
    trace = next(trace for trace in suite.traces if "test_plain_parameter" in trace.nodeid)

    assert trace.nodeid.endswith("[12345678-abc]")
    assert trace.params == {"number": "12345678", "short": "'abc'"}


def test_equal_secrets_have_equal_stand_ins(suite):
    stand_in = STAND_IN.search(suite.trace("::test_message").failure.errors[0].message)[0]

    assert stand_in in suite.warnings("::test_warning")[0].message
    assert stand_in in suite.trace("::test_skip").reason
    before = stand_in
    suite.run("test_a.py", "-k", "test_message", env=ENV)
    assert before in suite.trace("::test_message").failure.errors[0].message, "the key stays in the folder"


def test_the_key_is_for_its_owner_only(suite):
    assert (suite.folder / "redaction.key").stat().st_mode & 0o077 == 0


def test_another_folder_has_another_key(tmp_path, suite):
    other = Suite(tmp_path, {"pytest.ini": "[pytest]\nmarkers = uses\n"}, test_a=TEST_A)
    other.run("-k", "test_message", env=ENV)

    assert (other.folder / "redaction.key").read_bytes() != (suite.folder / "redaction.key").read_bytes()


def test_the_hook_of_a_project(tmp_path):
    suite = Suite(
        tmp_path,
        conftest="""
        import re
        def pytest_tracetriage_redact(text): return re.sub(r"CUST-[0-9]+", "CUST-?", text) if "CUST" in text else None
        """,
        test_a="def test_a(): raise ValueError('customer CUST-4711')\n",
    )
    suite.run()

    assert suite.trace("::test_a").failure.errors[0].message == "customer CUST-?"
    records = b"".join(data for name, data in suite.bytes_written().items() if name.endswith(".jsonl"))
    assert b"CUST-4711" not in records


REDACTOR = Redactor(b"key", [SHOP, "a(b*c[d", "short", "12345678901"])


@given(
    st.text()
    | st.lists(
        st.sampled_from([*SECRETS, "a(b*c[d", " ", "=", "token=", "Bearer ", "://u:", "@h", "[redacted ", "]", "x"])
    ).map("".join)
)
def test_redacting_twice_changes_nothing_and_never_raises(text):
    once = REDACTOR(text)

    assert REDACTOR(once) == once
    assert SHOP not in once


@given(st.binary(max_size=50))
def test_undecodable_bytes(data):
    text = data.decode("utf-8", "surrogateescape")

    assert isinstance(REDACTOR(text + SHOP + text), str)


@pytest.mark.parametrize(
    "token",
    [TOKEN, OPENAI, AWS, JWT, "glpat-0123456789abcdefghij", "xoxb-0123456789-abcdef", "hf_" + "a" * 34, "npm_" + "a" * 36],
)
def test_tokens_by_their_format(token):
    assert REDACTOR(f"with {token}, then") == f"with {REDACTOR.stand_in(token)}, then"


@pytest.mark.parametrize(
    "text",
    [
        "12345678901",
        "short",
        "sku-4711",
        "task-force",
        "an ordinary sentence",
        "https://example.com/a/b?c=d",
        "desk-lamp-and-more-words-here",
        "d41d8cd98f00b204e9800998ecf8427e",
    ],
)
def test_what_is_no_secret_stays(text):
    assert REDACTOR(text) == text


@pytest.mark.parametrize(
    "name", ["API_KEY", "github_token", "DB_PASSWORD", "clientSecret", "AWS_SECRET_ACCESS_KEY", "dsn", "pwd", "MY-AUTH"]
)
def test_names_that_look_secret(name):
    assert looks_secret(name)


@pytest.mark.parametrize(
    "name", ["PATH", "TOKENIZER", "SSH_AUTH_SOCK", "SECRET_FILE", "author", "PWD", "compass", "keyboard", "TOKEN_URL"]
)
def test_names_that_do_not(name):
    assert environment_secrets({name: "a-long-enough-value"}) == []
