"""Every state of the operators' page passes axe-core, in both themes, wide and narrow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.ops import answered, enter, failed, go, panel, project_of, stumbling
from tests.browser.site import Site, Watched


def test_the_operators_page(
    watch: Callable[..., Watched],
    site: Site,
    operator: Site,
    look: dict[str, Any],
    check: Callable[[Page, str], None],
) -> None:
    stumbling(site)
    project = project_of(site)
    id_ = failed(site, project)
    answered(site, project)
    page = enter(watch(operator.origin, **look), operator)
    expect(panel(page, "Newest failed").locator(f'[data-message="{id_}"]')).to_be_visible()
    for table in page.locator(".chart-table summary").all():
        table.click()
    check(page, "the overview, its charts as tables")
    panel(page, "Unfinished").get_by_role("button", name="By project").click()
    go(page, f"message={id_}")
    expect(page.get_by_role("heading", name="Message")).to_be_visible()
    check(page, "a message")
    go(page, f"messages&status=error&project={project}")
    page.locator(f'[data-message="{id_}"]').get_by_role("checkbox").check()
    page.get_by_role("button", name="ticked again").click()
    expect(page.locator("[data-matched]")).to_be_visible()
    check(page, "messages, and the dry run of a batch")
    page.get_by_role("button", name="Start").click()
    expect(page.locator(".page-head .status")).to_have_text("done")
    check(page, "a batch")
    go(page, "batches")
    expect(page.locator("tr[data-batch]").first).to_be_visible()
    check(page, "batches")


@pytest.mark.parametrize("look", ["wide, light", "narrow, dark"], indirect=True)
def test_who_may_not_see_it(
    watch: Callable[..., Watched], site: Site, look: dict[str, Any], check: Callable[[Page, str], None]
) -> None:
    page = watch(site.origin, **look).page
    page.goto(f"{site.origin}/ops")
    expect(page.get_by_label("Token")).to_be_visible()
    check(page, "signing in")
    page.get_by_label("Token").fill(site.token)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="This page is for operators")).to_be_visible()
    check(page, "no scope")
