"""A headless browser in which tests open the pages of reports."""

from __future__ import annotations

import pytest
from chromium import chromium


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def open_file(browser):
    """Return a function that opens a page in a file. Errors, and requests for anything else, fail the test."""
    contexts, problems = [], []

    def open_file(path, script=None, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        if script:
            context.add_init_script(script)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text))  # violations of the policy, too
        page.on("request", lambda request: _stays(request.url, path) or problems.append(request.url))
        page.goto(path.as_uri())
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert not problems


def _stays(url, path):
    return url.startswith(("data:", "blob:")) or url.endswith(path.name)
