"""Hooks of TraceTriage in a conftest.py. They work in pytest only: the `tracetriage` command never loads a conftest.

`optionalhook=True` lets the suite run where TraceTriage is not installed.
"""

import pytest


@pytest.hookimpl(optionalhook=True)
def pytest_tracetriage_classify(failure):
    """A cache that does not answer is nobody's bug: the service was not started."""
    for error in failure.errors:
        if error.type == "ConnectionRefusedError" and any(frame.file == "shop/cache.py" for frame in error.frames):
            return "CACHE_DOWN", "infrastructure", "conftest: the cache server refused the connection"
    return None


@pytest.hookimpl(optionalhook=True)
def pytest_tracetriage_redact(text):
    """Vouchers that are still valid stay out of the records."""
    return text.replace("SUMMER25", "[voucher]")
