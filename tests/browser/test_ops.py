"""The operators' page at /ops keeps its promises: on real processes, in a real browser."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import NullPool, create_engine, text

from shared import keys
from shared.engine import sqlalchemy_url
from tests.browser.ops import SECRET, answered, ask, connection, enter, failed, go, panel, project_of, stumbling
from tests.browser.site import Site, Watched
from tests.browser.wire import Wire
from tests.stack import Stack

COUNTED = """() => {
    const sum = (counts) => counts.reduce((all, number) => all + number, 0);
    const { ended } = globalThis.live.history;
    return { success: sum(ended.success), error: sum(ended.error) };
}"""
"""What the charts of an hour are drawn from."""
TABLED = """() => [...document.querySelectorAll('[data-chart="Throughput"] tbody tr')].slice(0, 3)
    .reduce((all, row) => all + (Number(row.children[1].textContent) || 0), 0)"""
"""The successes of the newest minutes, as the table beside the chart has them."""


@pytest.fixture
def project(site: Site) -> str:
    return project_of(site)


@pytest.fixture
def wire(site: Site) -> Iterator[Wire]:
    address = urlsplit(site.origin)
    assert address.hostname is not None
    assert address.port is not None
    with Wire((address.hostname, address.port)) as wire:
        yield wire


def ending(page: Page, name: str) -> int:
    """What the summary counts of an hour for a status or a code."""
    cell = page.locator(f'[data-ending="{name}"] td').last
    return int(cell.inner_text().replace(",", "")) if cell.count() else 0


def until_counted(page: Page, before: dict[str, int], **more: int) -> None:
    """Waits until so many more are counted, and not one more than those."""
    wanted = {status: number + more.get(status, 0) for status, number in before.items()}
    page.wait_for_function(f"(wanted) => JSON.stringify(({COUNTED})()) === JSON.stringify(wanted)", arg=wanted)


def test_figures_and_charts_are_right_after_known_traffic(
    site: Site, operator: Site, project: str, watch: Callable[..., Watched]
) -> None:
    """What happened before the page was opened is drawn from the rows, what happens then from the socket; nothing twice."""
    stumbling(site)
    failed(site, project)
    answered(site, project)
    page = enter(watch(operator.origin), operator)
    expect(page.locator('[data-chart="Throughput"] .u-over')).to_be_visible()
    page.wait_for_function(f"() => Object.values(({COUNTED})()).every((number) => number > 0)")
    drawn, succeeded, refused = page.evaluate(COUNTED), ending(page, "success"), ending(page, "provider_auth")
    ids = [failed(site, project), failed(site, project)]
    for _ in range(3):
        answered(site, project)
    until_counted(page, drawn, success=3, error=2)
    page.wait_for_function(f"() => ({TABLED})() >= 4")
    expect(page.locator('[data-ending="success"] td').last).to_have_text(f"{succeeded + 3:,}")
    expect(page.locator('[data-ending="provider_auth"] td').last).to_have_text(f"{refused + 2:,}")
    for id_ in ids:
        expect(panel(page, "Newest failed").locator(f'[data-message="{id_}"]')).to_contain_text("provider auth")
    expect(page.locator('[data-tile="Sweepers"]')).not_to_have_attribute("data-bad", "true")
    name = page.locator('[data-chart="Throughput"] [role="img"]').get_attribute("aria-label")
    assert re.search(r"success [\d.]+ a second, at most [\d.]+; error", name or "")


def test_what_runs_is_listed_while_it_runs_by_age_project_and_model(
    site: Site, operator: Site, project: str, watch: Callable[..., Watched]
) -> None:
    page = enter(watch(operator.origin), operator)
    site.model.say("wait", {"text": "I "}, {"hold": "middle"}, {"text": "come"})
    id_ = ask(site, project, "wait")
    unfinished = panel(page, "Unfinished")
    expect(unfinished.locator(f'[data-message="{id_}"]')).to_contain_text("running")
    unfinished.get_by_role("button", name="By project").click()
    expect(unfinished.locator(f'[data-group="{project}"] td').first).to_have_text("1")
    unfinished.get_by_role("button", name="By model").click()
    expect(unfinished.locator("[data-group] td").first).to_have_text("1")
    site.model.release("middle")
    expect(unfinished).to_contain_text("Nothing runs")


def test_a_failed_message_is_found_looked_at_retried_and_seen_to_succeed(
    site: Site, operator: Site, project: str, watch: Callable[..., Watched]
) -> None:
    """With where its time went and its events, and without a word of its text."""
    site.model.on("stumble", {"rounds": [{"attempts": [{"status": 400, "error": {"message": SECRET}}]}]}, times=1)
    id_ = answered(site, project, "stumble")["id"]
    page = enter(watch(operator.origin), operator, f"messages=&status=error&project={project}")
    page.locator(f'[data-message="{id_}"] a').first.click()
    expect(page.get_by_role("heading", name="Message")).to_be_visible()
    expect(panel(page, "Events").locator('[data-event="error"]')).to_contain_text("provider rejected")
    page.get_by_role("button", name="Retry").click()
    expect(page.locator(".page-head .status")).to_have_text("success")
    expect(panel(page, "Attempts").locator("[data-attempt]")).to_have_count(2)
    expect(panel(page, "Where the time went").locator('[data-stage="Text"]')).to_be_visible()
    expect(panel(page, "Events").locator('[data-event="delta"]').last).to_contain_text(
        re.compile(r"\d+ deltas?, [\d.]+ k?B")
    )
    assert SECRET not in page.content()


def test_a_running_message_is_cancelled(
    site: Site, operator: Site, project: str, watch: Callable[..., Watched]
) -> None:
    site.model.say("wait", {"text": "I "}, {"hold": "middle"}, {"text": "come"})
    id_ = ask(site, project, "wait")
    site.model.wait_chunks(0, 1)
    page = enter(watch(operator.origin), operator, f"message={id_}")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".page-head .status")).to_have_text("cancelled")
    expect(page.get_by_role("button", name="Retry")).to_be_visible()
    expect(page.get_by_role("status").filter(has_text="asked to end")).to_be_attached()


def test_messages_are_ticked_tried_dry_and_answered_again_as_a_batch(
    site: Site, operator: Site, project: str, watch: Callable[..., Watched], tmp_path: Path
) -> None:
    """From the ticked ones, or all that match, through the dry run and the progress to the report."""
    stumbling(site)
    ids = [failed(site, project) for _ in range(3)]
    page = enter(watch(operator.origin), operator, f"messages=&status=error&code=provider_auth&project={project}")
    expect(page.locator("tr[data-message]")).to_have_count(3)
    page.locator(f'[data-message="{ids[0]}"]').get_by_role("checkbox").check()
    page.get_by_role("button", name="Answer the 1 ticked again").click()
    expect(page.locator("[data-matched]")).to_have_text("1 message")
    page.get_by_role("button", name="Leave it").click()
    page.get_by_role("checkbox", name="Tick all").check()
    page.get_by_role("checkbox", name="Tick all").uncheck()
    page.get_by_role("button", name="Answer all that match again").click()
    expect(page.locator("[data-matched]")).to_have_text("3 messages")
    expect(page.locator(".draft-counts")).to_contain_text("3 provider auth")
    site.model.reset()  # the provider is well again
    page.get_by_label("At most").fill("100/s")
    page.get_by_role("button", name="Start").click()
    expect(page.locator(".page-head .status")).to_have_text("done")
    expect(page.locator('.batch-states [data-state="succeeded"]')).to_have_attribute("data-count", "3")
    expect(panel(page, "What became of them").locator('[data-end="succeeded"] td').first).to_have_text("3")
    with page.expect_download() as download:
        page.get_by_role("button", name="Report as CSV").click()
    download.value.save_as(tmp_path / "report.csv")
    rows = csv.DictReader((tmp_path / "report.csv").read_text(encoding="utf-8").splitlines())
    assert {(row["messageId"], row["state"]) for row in rows} == {(id_, "succeeded") for id_ in ids}
    go(page, "batches")
    expect(page.locator("tr[data-batch]").first).to_contain_text("3 of 3")


def test_a_batch_is_paused_resumed_and_stopped(
    site: Site, operator: Site, project: str, watch: Callable[..., Watched]
) -> None:
    stumbling(site)
    ids = [failed(site, project) for _ in range(2)]
    body = {"status": "error", "messages": ids, "rate": "1/h"}
    batch = operator.call("POST", "/v1/ops/reprocess", body)["batchId"]
    page = enter(watch(operator.origin), operator, f"batch={batch}")
    status = page.locator(".page-head .status")
    for button, words in (("Pause", "paused"), ("Resume", "running"), ("Stop", "stopped")):
        page.get_by_role("button", name=button).click()
        expect(status).to_have_text(re.compile(f"^{words}"))
    expect(page.locator('.batch-states [data-state="skipped"]')).to_have_attribute("data-count", re.compile("[12]"))
    expect(page.get_by_role("button", name="Resume")).to_have_count(0)


def test_a_cut_socket_is_told_and_what_happened_meanwhile_is_in_the_figures(
    site: Site, operator: Site, project: str, watch: Callable[..., Watched], wire: Wire
) -> None:
    """It says that it is cut off, comes back by itself, says that events were missed, and loads the figures anew."""
    stumbling(site)
    watched = watch(wire.origin)
    watched.allows_failed_loads = True
    page = enter(watched, operator)
    failed(site, project)
    page.wait_for_function(f"() => ({COUNTED})().error > 0")
    before = page.evaluate(COUNTED)
    wire.cut()
    expect(connection(page)).to_have_text("Cut off")
    expect(page.locator('[data-notice="cut"]')).to_contain_text("may be missed")
    id_ = failed(site, project)
    answered(site, project)
    wire.mend()
    expect(connection(page)).to_have_text("Live")
    expect(page.locator('[data-notice="gap"]')).to_contain_text("loaded anew")
    expect(panel(page, "Newest failed").locator(f'[data-message="{id_}"]')).to_be_visible()
    until_counted(page, before, success=1, error=1)
    page.get_by_role("button", name="Dismiss").click()
    expect(page.locator('[data-notice="gap"]')).to_have_count(0)


def test_thousands_of_lines_at_once_are_counted_or_told_as_missed_and_the_page_goes_on(
    site: Site, operator: Site, project: str, shared_stack: Stack, watch: Callable[..., Watched]
) -> None:
    stumbling(site)
    answered(site, project)
    page = enter(watch(operator.origin), operator)
    page.wait_for_function(f"() => ({COUNTED})().success > 0")
    before = page.evaluate(COUNTED)
    common = {"projectId": str(uuid4()), "model": "flood", "attempt": 1, "ts": time.time_ns() // 1_000_000}
    timing = {"queuedMs": 1, "firstTokenMs": 200, "totalMs": 900}
    for _ in range(40):
        with shared_stack.redis.pipeline(transaction=False) as pipe:
            for _ in range(50):
                line = {"messageId": str(uuid4()), **common}
                pipe.publish(keys.OPS, json.dumps({"type": "started", "run": 1, **line}))
                ended = {"type": "finalized", "status": "success", "timing": timing}
                pipe.publish(keys.OPS, json.dumps({**ended, **line}))
            pipe.execute()
    page.wait_for_function(
        f"""(wanted) => document.querySelector('[data-notice="gap"]')?.textContent.includes("were not told")
            || ({COUNTED})().success === wanted""",
        arg=before["success"] + 2000,
    )
    id_ = failed(site, project)
    expect(panel(page, "Newest failed").locator(f'[data-message="{id_}"]')).to_be_visible()
    expect(connection(page)).to_have_text("Live")


def test_who_is_no_operator_is_told_so_in_words(site: Site, watch: Callable[..., Watched]) -> None:
    """And asks nothing of operators; with another token the page is there."""
    watched = watch(site.origin)
    asked: list[str] = []
    watched.page.on("request", lambda request: asked.append(request.url))
    watched.page.goto(f"{site.origin}/ops#token={site.token}")
    expect(watched.page.get_by_role("heading", name="This page is for operators")).to_be_visible()
    expect(watched.page.locator("pre")).to_contain_text("--scope ops")
    assert [url for url in asked if "/v1/ops/" in url] == []
    watched.page.get_by_role("button", name="Use another token").click()
    expect(watched.page.get_by_label("Token")).to_be_visible()


def test_whose_token_loses_the_scope_is_shown_no_more(
    operator: Site, shared_stack: Stack, watch: Callable[..., Watched]
) -> None:
    watched = watch(operator.origin)
    watched.allows_failed_loads = True
    page = enter(watched, operator)
    engine = create_engine(sqlalchemy_url(shared_stack.database_url), poolclass=NullPool)
    with engine.begin() as connection:
        sha256 = hashlib.sha256(operator.token.encode()).digest()
        connection.execute(text("UPDATE tokens SET scopes = '{}' WHERE sha256 = :sha256"), {"sha256": sha256})
    expect(page.get_by_role("heading", name="This page is for operators")).to_be_visible()
    expect(page.locator(".tiles")).to_have_count(0)


def test_signing_in_with_a_token_that_is_none_says_why(operator: Site, watch: Callable[..., Watched]) -> None:
    watched = watch(operator.origin)
    watched.allows_failed_loads = True
    page = watched.page
    page.goto(f"{operator.origin}/ops")
    page.get_by_label("Token").fill("nonsense")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("not known here")
    page.get_by_label("Token").fill(operator.token)
    page.keyboard.press("Enter")
    expect(connection(page)).to_have_text("Live")


def test_narrow_and_dark_nothing_is_wider_than_the_screen(
    site: Site, operator: Site, project: str, watch: Callable[..., Watched]
) -> None:
    stumbling(site)
    id_ = failed(site, project)
    batch = operator.call("POST", "/v1/ops/reprocess", {"status": "error", "messages": [id_]})["batchId"]
    watched = watch(operator.origin, viewport={"width": 390, "height": 800}, color_scheme="dark")
    page = enter(watched, operator)
    for fragment, sign in (
        ("overview", '[data-chart="Queue"] canvas'),
        (f"message={id_}", ".waterfall"),
        (f"messages&status=error&project={project}", "tr[data-message], .quiet"),
        ("batches", "tr[data-batch]"),
        (f"batch={batch}", ".batch-progress"),
    ):
        go(page, fragment)
        expect(page.locator(sign).first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), fragment
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    for name in ("Overview", "Messages"):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == name
    page.keyboard.press("Enter")
    expect(page.get_by_role("form", name="Filters")).to_be_visible()
