"""Signatures: what makes two failures the same, on any machine, at any time, on any Python."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import error, failure, failures, frame

from pytest_tracetriage.triage.signature import first_line, key, mask, shape, signature_id


def of(type_="ValueError", message="", *places, **more):
    return signature_id(failure(error(type_, message, *places), **more))


ALIKE = {
    "numbers": ("expected 3 items, got 14", "expected 712 items, got 9"),
    "signed numbers": ("off by -3", "off by 12"),
    "fractions": ("took 1.25 s", "took 17.5 s"),
    "exponents": ("1e-05 is too small", "2.5e+10 is too small"),
    "numbers with units": ("took 5ms", "took 1234ms"),
    "uuids": ("no job 123e4567-e89b-12d3-a456-426614174000", "no job 00000000-0000-4000-8000-000000000abc"),
    "addresses": ("<Cart object at 0x7f31eb624250>", "<Cart object at 0x10a2b3c4d>"),
    "temporary files": ("cannot read '/tmp/abc123/x.json'", "cannot read '/tmp/zzz/deep/y.json'"),
    "temporary files of a Mac": ("cannot read /private/var/folders/s0/T/a", "cannot read /private/var/folders/xx/T/b"),
    "temporary files of Windows": (
        r"cannot read C:\Users\ann\AppData\Local\Temp\a1\x",
        r"cannot read C:\Users\bob\AppData\Local\Temp\b2\y",
    ),
    "pytest's folders": ("no /home/ann/pytest-of-ann/pytest-3/test_a0/x", "no /home/bob/pytest-of-bob/pytest-12/test_b0/y"),
    "days": ("stale since 2026-01-31", "stale since 2025-12-01"),
    "times with a T": ("at 2026-01-31T10:11:12Z", "at 2025-12-01T00:00:00.123456+02:00"),
    "times with a space": ("at 2026-01-31 10:11:12", "at 2025-12-01 00:00:00"),
    "hex": ("commit deadbeef12 is gone", "commit 0123456789abcdef is gone"),
    "what was redacted": ("bad key [redacted 3f9a1c2e]", "bad key [redacted 00000000]"),
}
APART = {
    "names in quotes": ("'sku'", "'price'"),
    "words": ("cart is empty", "cart is full"),
    "plain paths": ("no /etc/shop/a.toml", "no /etc/shop/b.toml"),
    "words of hex letters alone": ("a decade", "a facade"),
    "operators": ("assert # == 1", "assert # != 1"),
}


@pytest.mark.parametrize(("one", "other"), ALIKE.values(), ids=ALIKE)
def test_what_varies_is_masked(one, other):
    assert mask(one) == mask(other) != one
    assert of("ValueError", one) == of("ValueError", other)


@pytest.mark.parametrize(("one", "other"), APART.values(), ids=APART)
def test_what_tells_failures_apart_is_kept(one, other):
    assert of("KeyError", one) != of("KeyError", other)


def test_a_masked_text_still_reads():
    text = "expected 3 of 'sku' at 0x7f00 in /tmp/x/y on 2026-01-31, key [redacted 3f9a1c2e]"
    assert mask(text) == "expected # of 'sku' at 0x# in <tmp> on <time>, key <redacted>"


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.text(st.characters(codec="utf-8"), max_size=80))
def test_masking_twice_changes_no_more(text):
    assert mask(mask(text)) == mask(text)


def test_only_the_first_line_that_says_something_counts():
    assert of("E", "\n\n  wrong  \nleft: 1") == of("E", "wrong\nleft: two")
    assert first_line("x" * 10_000) == "x" * 400
    assert first_line(" \n \t\n") == ""


def test_lines_and_qualified_names_do_not_count():
    on_310 = failure(error("KeyError", "'sku'", frame("shop/cart.py:total", 88)))
    on_312 = failure(error("KeyError", "'sku'", frame("shop/cart.py:total", 91, qualname="Cart.total", source="abc")))
    assert signature_id(on_310) == signature_id(on_312)


def test_text_sources_that_know_no_module_of_a_type_agree():
    assert of("json.decoder.JSONDecodeError", "no") == of("JSONDecodeError", "no")


def test_the_deepest_application_frame_names_a_failure():
    deep = ("tests/test_a.py:test_a", "shop/cart.py:total", "shop/price.py:add")
    library = frame("lib/decimal.py:plus", origin="third-party")
    assert key(failure(error("E", "", *deep, library)))[1:3] == ("shop/price.py", "add")
    assert of("E", "", *deep) == of("E", "", "tests/test_b.py:test_b", "shop/price.py:add", library)
    assert of("E", "", *deep) != of("E", "", *deep[:2])


def test_a_failure_that_never_left_the_tests_is_named_after_the_test():
    assert of("AssertionError", "assert 1 == 2", "tests/test_a.py:test_a") != of(
        "AssertionError", "assert 1 == 2", "tests/test_b.py:test_b"
    )


def test_a_failure_in_a_library_alone_is_named_after_its_last_frame():
    assert key(failure(error("E", "", frame("lib/x.py:f", origin="third-party")))).function == "f"


def chained(link, inner="KeyError"):
    return signature_id(failure(error("RuntimeError", "no"), error(inner, "'sku'", link=link, parent=0)))


def test_an_explicit_cause_counts():
    assert chained("cause") != of("RuntimeError", "no")
    assert chained("cause") != chained("cause", "ValueError")


def test_a_context_does_not_count():
    assert chained("context") == chained("context", "ValueError") == of("RuntimeError", "no")


def test_the_end_of_a_chain_of_causes_counts():
    chain = [error("A"), error("B", link="cause", parent=0), error("C", "deep", link="cause", parent=1)]
    assert key(failure(*chain)).type == "A from C"


def test_the_cause_of_a_context_does_not_count():
    chain = [error("A"), error("B", link="context", parent=0), error("C", link="cause", parent=1)]
    assert signature_id(failure(*chain)) == of("A")


def test_a_failure_of_text_alone_has_a_signature_too():
    assert signature_id(failure(text="boom 3\nmore")) == signature_id(failure(text="boom 4\nless"))
    assert signature_id(failure(text="boom")) != signature_id(failure(text="bang"))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(failures())
def test_an_id_is_26_base32_characters(found):
    assert re.fullmatch(r"[A-Z2-7]{26}", signature_id(found))


def test_half_a_surrogate_pair_does_not_matter():
    assert len(of("E", "\ud800")) == 26


GOLDEN = {
    "plain": (
        failure(error("KeyError", "'sku'", "tests/test_cart.py:test_total", "shop/cart.py:total")),
        "WAJKVB2BDFF5F47JBA4SEE75W5",
    ),
    "masked": (failure(error("ValueError", "line 12: 0x7f31 in /tmp/a/b", "shop/cart.py:parse")), "6L4T2MVB7HKYJZ5SYCDUR7E7PL"),
    "cause": (
        failure(error("RuntimeError", "no", "shop/a.py:f"), error("KeyError", "'x'", link="cause", parent=0)),
        "BXTBDVIL3HWO7WC73YAWJOMEI3",
    ),
    "test only": (failure(error("AssertionError", "assert 1 == 2", "tests/test_a.py:test_a")), "SP7T23SKGGAQDCD7IEET4P2OHJ"),
    "text": (failure(text="ImportError while importing", phase="collect"), "272RKWLCZ3R7RRXU273OEZZYCC"),
    "umlauts": (failure(error("Ärger", "für 3 Körbe", "läden/körbe.py:zähle")), "2DH5IQOZFIZZUYJU6KPPV6ROHS"),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_ids_never_change(name):
    """They name clusters in files that projects commit: a change of this table breaks every one of them."""
    found, expected = GOLDEN[name]
    assert signature_id(found) == expected


@pytest.mark.parametrize("blank", ["\n", " \n", "\t\n", "\x0b\n", "\xa0\n"])
def test_messages_below_a_blank_line_have_shapes_of_their_own(blank):
    assert shape(msgspec.json.encode(f"{blank}one")) != shape(msgspec.json.encode(f"{blank}other"))


PIECES = (
    "1f00ba42c9", "<10>", "deadbeef", "12345678", "0x7f12", "0X7F", "\0", "\x01", "10", "2026-11-20", "/tmp/a1", "\n", "\\n",
    "\t", "x", "é", " ", "-", ".", ":",
)  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=6), st.lists(st.sampled_from(PIECES), max_size=6), st.randoms())
def test_messages_of_one_shape_are_masked_alike(words, others, chance):
    """The shape is what lets a million messages go by unmasked: it may tell too much apart, never too little."""

    def varied(text):
        return "".join(chance.choice("0123456789") if letter.isdigit() and chance.random() < 0.7 else letter for letter in text)

    for first, second in (("".join(words), varied("".join(words))), ("".join(words), "".join(others))):
        if shape(msgspec.json.encode(first)) == shape(msgspec.json.encode(second)):
            assert mask(first_line(first)) == mask(first_line(second))
