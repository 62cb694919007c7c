"""The comment and the job summary as a person sees them: the answers stand on the first screen."""

from __future__ import annotations

import os

import pytest
from photograph import LIMIT, SCREEN, WIDTHS, browser, photograph, pixels
from reviews import target

from pytest_tracetriage.report.github.bodies import comment, summary


@pytest.fixture
def chromium():
    if not browser():
        assert os.environ.get("CI") != "true", "no Chromium found: install it, or name it in $CHROMIUM"
        pytest.skip("NO PICTURES WERE TAKEN: no Chromium found; install it, or name it in $CHROMIUM")


@pytest.mark.timeout(180)
@pytest.mark.usefixtures("chromium")
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["comment", "summary"])
def test_the_first_screen(name, width, tmp_path):
    text = comment(target(), "tests") if name == "comment" else summary(target())
    picture = tmp_path / "picture.png"
    found = photograph(text, "the head", picture, width)
    assert found["wide"] == width, "the page itself does not scroll sideways"
    assert len(found["heading"]) == 1
    assert found["heading"][0] < found["next"][0] < 250
    assert len(found["rows"]) == 10
    first = [bottom for bottom in found["rows"] if bottom <= SCREEN]
    assert len(first) >= (10 if width == 1200 else 4), "all causes, or on a telephone the new ones and more"
    status, cause, tests, _ = found["cells"]
    assert status < cause < tests <= width, "what tells most is seen without scrolling sideways"
    assert pixels(picture)[:2] == (width, SCREEN)
    assert pixels(picture)[2] > SCREEN / 4, "there is something on it"
    assert picture.stat().st_size < LIMIT
