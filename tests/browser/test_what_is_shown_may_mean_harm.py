"""What a model, a document, a name or an error says is text on the page: it runs nothing, loads nothing, leads nowhere.

A server that the attempts name must hear nothing, and the browser must not even have been asked for anything it refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import NullPool, create_engine, text

from shared.engine import sqlalchemy_url
from tests.browser.ops import connection, go
from tests.browser.people import Colleague, enter, invite
from tests.browser.site import STEP_TIMEOUT_MS, Site, Watched
from tests.listening import Listener, listening
from tests.people import eventually
from tests.stack import Stack

expect.set_options(timeout=STEP_TIMEOUT_MS)

MARKUP: Final = (
    "<script>harm()</script>",
    "<script src={E}/s.js></script>",
    '<script type=speculationrules>{{"prefetch":[{{"urls":["{E}/p"]}}]}}</script>',
    "<img src={E}/i onerror=harm()>",
    "<img srcset='{E}/i 1x' loading=eager>",
    "<picture><source srcset={E}/i><img></picture>",
    "<svg onload=harm()><image href={E}/i /><use href={E}/u#x /><script>harm()</script></svg>",
    "<svg><a xlink:href=javascript:harm()><text>x</text></a><set attributeName=href to=javascript:harm() /></svg>",
    "<math><maction actiontype=statusline xlink:href=javascript:harm()>x</maction></math>",
    "<iframe src={E}/f></iframe><iframe srcdoc='<script>parent.harm()</script>'></iframe>",
    "<object data={E}/o></object><embed src={E}/e>",
    "<video src={E}/v poster={E}/p autoplay></video><audio src={E}/a autoplay onerror=harm()></audio>",
    "<link rel=stylesheet href={E}/l><link rel=dns-prefetch href={E}><link rel=preconnect href={E}>",
    "<style>@import url({E}/c); body {{ background: url({E}/b) }}</style>",
    "<div style='background: url({E}/d); position: fixed; inset: 0'>over it all</div>",
    "<meta http-equiv=refresh content='0;url={E}/m'><base href={E}/>",
    "<form action={E}/f><button formaction={E}/g autofocus onfocus=harm()>Sign in</button></form>",
    "<input autofocus onfocus=harm()><details open ontoggle=harm()>x</details><body onload=harm()>",
    "<a href={E}/a ping={E}/p download>x</a><a href='javascript:harm()'>x</a>",
    "<template><script>harm()</script></template><noscript><img src={E}/n onerror=harm()></noscript>",
    "<![CDATA[<script>harm()</script>]]><!--><img src={E}/c onerror=harm()>-->",
    "</span></code></pre></p></div><img src={E}/z onerror=harm()>",
    "{{{{constructor.constructor('harm()')()}}}} ${{harm()}} <%= harm() %>",
    "&lt;img src={E}/e onerror=harm()&gt; &#60;script&#62;harm()&#60;/script&#62;",
)
MARKDOWN: Final = (
    "![x]({E}/m.png)",
    "[![x]({E}/m.png)]({E}/l)",
    '![x]({E}/m.png "x\\" onerror=harm()")',
    "[x](javascript:harm())",
    "[x](JaVaScRiPt:harm())",
    "[x](  javascript:harm())",
    "[x](\tjavascript:harm())",
    "[x](java\tscript:harm())",
    "[x](\x01javascript:harm())",
    "[x](&#106;avascript:harm())",
    "[x](javascript&colon;harm())",
    "[x](vbscript:harm())",
    "[x](data:text/html,<script>harm()</script>)",
    "[x](data:text/html;base64,PHNjcmlwdD5oYXJtKCk8L3NjcmlwdD4=)",
    "[x](blob:{E}/b)",
    "[x](file:///etc/passwd)",
    "[x](view-source:{E})",
    "[x](filesystem:{E}/x)",
    "[x](//evil.example/x)",
    "[x](/v1/me)",
    '[x]({E}/q" onclick="harm())',
    "[x](<javascript:harm()>)",
    "<javascript:harm()>",
    "javascript:harm()",
    "[x][ref]\n\n[ref]: javascript:harm()",
    "`<img src={E}/c onerror=harm()>`",
    "```html\n<img src={E}/f onerror=harm()><script>harm()</script>\n```",
    "```<img/src={E}/n/onerror=harm()>\nx\n```",
    "```javascript\n</span><img src={E}/h onerror=harm()>\n```",
    "| <img src={E}/t onerror=harm()> | b |\n| --- | --- |\n| ![x]({E}/u) | [x](javascript:harm()) |",
    "# <img src={E}/h onerror=harm()>",
    "- [ ] <img src={E}/l onerror=harm()>\n- [x] [x](javascript:harm())",
    "> <script>harm()</script>",
    "$$<img src={E}/e onerror=harm()>$$ \\[<script>harm()</script>\\]",
    "**<svg onload=harm()>** _<svg onload=harm()>_ ~~<svg onload=harm()>~~",
)
NAME: Final = "<img/src={E}/n/onerror=harm()>"
USER: Final = '"><b>&lt;i&gt;<script>harm()'
"""A user's name has no spaces and slashes."""

WATCHING: Final = "globalThis.harmed = []; globalThis.harm = (...what) => harmed.push(what.join());"
SUSPECT: Final = """() => {
    const elements = [...document.body.querySelectorAll("*")];
    const strangers = elements.filter((one) => one.matches(
        "script, iframe, object, embed, link, style, meta, base, form[action], video, audio, source, picture, template, " +
        "math, [style*='url'], [ping], [download], [srcset], [formaction], [srcdoc], [http-equiv]"));
    const handlers = elements.filter((one) => one.getAttributeNames().some((name) => /^on/i.test(name)));
    const pictures = elements.filter((one) => one.localName === "img" && !one.src.startsWith(location.origin + "/static/"));
    const links = elements.filter((one) => one.localName === "a" && one.href !== ""
        && new URL(one.href).origin !== location.origin
        && !(/^(https?|mailto):/.test(one.href) && one.target === "_blank" && one.relList.contains("noopener")));
    const own = elements.filter((one) => one.localName === "a" && one.closest(".markdown")
        && new URL(one.href || "mailto:x").origin === location.origin);
    return [...strangers, ...handlers, ...pictures, ...links, ...own].map((one) => one.outerHTML.slice(0, 200));
}"""


@pytest.fixture
def elsewhere() -> Iterator[Listener]:
    with listening() as made:
        yield made


def all_of(attempts: tuple[str, ...], elsewhere: Listener) -> list[str]:
    return [attempt.format(E=elsewhere.address) for attempt in attempts]


def opened(watch: Callable[..., Watched], origin: str) -> Watched:
    watched = watch(origin, reduced_motion="reduce")
    watched.context.add_init_script(WATCHING)
    watched.page.on("dialog", lambda dialog: watched.complaints.append(f"a dialog: {dialog.message}"))
    watched.context.on("page", lambda page: watched.complaints.append(f"a page: {page.url}"))
    return watched


def unharmed(watched: Watched) -> None:
    """Nothing ran, nothing stands there that could, and the page is where it was."""
    assert watched.page.evaluate(SUSPECT) == []
    assert watched.page.evaluate("harmed") == []
    assert watched.page.url.startswith(watched.origin)


def look_at_all(page: Page) -> None:
    """The pointer over every link and every fold, each fold opened."""
    folded = page.locator("li.assistant details:not([open]) > summary")
    while folded.count():
        folded.first.click()
    for link in page.locator(".markdown a[href]").all()[:12]:
        link.hover()


def test_what_a_model_says_is_text_however_it_is_cut(
    site: Site, watch: Callable[..., Watched], elsewhere: Listener
) -> None:
    """In the answer as it streams, once it stands there, and in the tool calls that it makes; in the question, too."""
    said = "\n\n".join([*all_of(MARKDOWN, elsewhere), *all_of(MARKUP, elsewhere)])
    short = NAME.format(E=elsewhere.address)
    calls = [
        {"name": short, "arguments": said},
        {"name": "applyJsonPatch", "arguments": {"operations": [{"op": short, "path": said, "value": {said: said}}]}},
        {
            "name": "applyJsonPatch",
            "arguments": {
                "operations": [{"op": "add", "path": "/a", "value": {short: said, "html": list(MARKUP)}}],
                "explanation": said[:900],
            },
        },
        {"name": "generateRemotionComponent", "arguments": {"effectDescription": said[:3900], "name": short}},
    ]
    rounds = [[{"text": said, "chunk_size": 7}, {"tools": calls[:3]}], [{"text": said}, {"tools": calls[3:]}]]
    site.model.on("say it", {"rounds": [{"steps": steps} for steps in rounds]})
    project = site.call("POST", "/v1/projects", {"name": short, "document": {"x": 1}})
    watched = opened(watch, site.origin)
    page = enter(watched, site, project)
    page.get_by_role("textbox", name="Message").fill(f"say it\n\n{said}")
    page.keyboard.press("Enter")
    expect(page.locator("li.assistant").last).to_have_attribute("data-status", "building")
    look_at_all(page)
    unharmed(watched)
    page.reload()
    expect(page.locator("li.assistant .tool-call")).to_have_count(4)
    look_at_all(page)
    unharmed(watched)
    assert elsewhere.close() == []


def broken(stack: Stack, message_id: str, error: str) -> None:
    """Its component has failed, for that reason."""
    engine = create_engine(sqlalchemy_url(stack.database_url), poolclass=NullPool)
    with engine.begin() as connection:
        named = {"error": error, "id": message_id}
        connection.execute(
            text("UPDATE messages SET status = 'error', error_code = 'build_failed' WHERE id = :id"), named
        )
        connection.execute(
            text("UPDATE component_jobs SET status = 'error', error = :error WHERE message_id = :id"), named
        )


def test_documents_names_and_errors_are_text(
    shared_stack: Stack, site: Site, watch: Callable[..., Watched], elsewhere: Listener
) -> None:
    """In the document's tree, its editor and its history; of projects, members and authors; in why a component failed."""
    values = [*all_of(MARKUP, elsewhere), *all_of(MARKDOWN, elsewhere)]
    document = {"title": values[0], "name": values[3], values[6]: {values[7]: values[8]}, "list": values[::2]}
    project = site.call(
        "POST", "/v1/projects", {"name": values[3], "document": {**document, **dict.fromkeys(values[:12])}}
    )
    colleague = Colleague(shared_stack)
    colleague.name = f"{USER}{uuid4()}"
    colleague.site = Site(site.origin, shared_stack.store.create_token(colleague.name)[0], site.model)
    invite(site, project["id"], colleague.name)
    colleague.patch(project["id"], {"op": "add", "path": "/one", "value": {value: value for value in values[:9]}})
    site.model.say(
        "component", {"tool": {"name": "generateRemotionComponent", "arguments": {"effectDescription": "x"}}}
    )
    asked = {"content": f"component {values[3]}", "onBusy": "parallel"}
    pair = colleague.site.call("POST", f"/v1/projects/{project['id']}/messages", asked)
    failing = pair["assistantMessage"]["id"]
    eventually(lambda: site.call("GET", f"/v1/messages/{failing}")["status"] == "building")
    broken(shared_stack, failing, "\n".join(values))

    watched = opened(watch, site.origin)
    page = enter(watched, site, project)
    expect(page.locator(".job-card pre")).to_contain_text("<script>harm()</script>")
    page.locator('[data-pointer=""]').press("*")
    expect(page.locator('[data-pointer="/list/0"]')).to_contain_text("<script>")
    unharmed(watched)
    page.get_by_role("searchbox", name="Search the document").fill("<img")
    unharmed(watched)
    page.locator('[data-pointer="/list/0"] .row').first.dblclick()
    unharmed(watched)
    page.keyboard.press("Escape")
    page.get_by_role("group", name="Beside the chat").get_by_role("button", name="History", exact=True).click()
    page.locator('[data-of-version="2"] summary').click()
    expect(page.locator('[data-of-version="2"]')).to_contain_text(USER)
    unharmed(watched)
    page.get_by_role("button", name="Members", exact=True).click()
    expect(page.get_by_role("dialog")).to_contain_text(USER)
    unharmed(watched)
    assert elsewhere.close() == []


def test_the_operators_page_shows_names_and_its_own_address_as_text(
    shared_stack: Stack, site: Site, operator: Site, watch: Callable[..., Watched], elsewhere: Listener
) -> None:
    """Whoever sends an operator a link, or is called so."""
    named = Site(site.origin, shared_stack.store.create_token(f"{USER}{uuid4()}")[0], site.model)
    project = named.call("POST", "/v1/projects", {"name": "Quay"})
    asked = {"content": "hello"}
    row = named.call("POST", f"/v1/projects/{project['id']}/messages", asked, Prefer="wait=20")["assistantMessage"]
    watched = opened(watch, operator.origin)
    watched.allows_failed_loads = True  # of messages and batches that there are not
    page = watched.page
    page.goto(f"{operator.origin}/ops#token={operator.token}")
    expect(connection(page)).to_have_text("Live")
    go(page, f"message={row['id']}")
    expect(page.get_by_text(USER)).to_be_visible()
    unharmed(watched)
    for value in [all_of(MARKUP, elsewhere)[number] for number in (0, 3, 17)]:
        for key in ("message", "batch", "messages&project", "messages&code", "messages&model", "messages&since", "x"):
            go(page, f"{key}={quote(value)}")
            page.wait_for_function("() => new Promise((then) => requestAnimationFrame(() => then(true)))")
            unharmed(watched)
    assert elsewhere.close() == []


FIELDS: Final = (
    "text", "src", "alt", "color", "strokeColor", "backgroundColor", "fontFamily", "position", "fit", "shape", "kind",
    "animation", "componentId",
)  # fmt: skip


def test_a_video_whose_document_means_harm_is_drawn_and_reaches_nobody(
    site: Site, watch: Callable[..., Watched], elsewhere: Listener, modules: Page
) -> None:
    """Each field of each scene is a picture, a color or markup of elsewhere, in a document that no schema bounds."""
    svg = f"<svg xmlns='http://www.w3.org/2000/svg'><image href='{elsewhere.address}/i'/></svg>"
    attempts = [
        f"{elsewhere.address}/x.png",
        f"url({elsewhere.address}/x.png)",
        f"red; background: url({elsewhere.address}/y)",
        f"data:image/svg+xml,{quote(svg)}",
        all_of(MARKUP, elsewhere)[3],
    ]
    types = modules.evaluate("async () => Object.keys((await import('/static/preview/scenes.js')).SCENES)")
    scenes: list[dict[str, Any]] = []
    for kind in [*types, "custom", "unknown"]:
        for attempt in attempts:
            plain = dict.fromkeys(FIELDS, attempt)
            path = {"d": "M0 0 L9 9", "fill": attempt, "stroke": attempt}
            pane = dict.fromkeys(("src", "text", "color", "backgroundColor"), attempt)
            data = {**plain, "colors": [attempt] * 2, "paths": [path], "first": pane, "second": pane}
            start = len(scenes) / 10
            scenes.append({"id": attempt, "type": kind, "start": start, "duration": 0.1, "data": data})
    meta = {"title": attempts[-1], "duration": len(scenes) / 10, "backgroundColor": attempts[1]}
    document = {"meta": meta, "scenes": scenes}
    made = site.call("POST", "/v1/projects", {"name": "Clip", "document": document})
    watched = opened(watch, site.origin)
    page = enter(watched, site, made)
    page.get_by_role("group", name="Beside the chat").get_by_role("button", name="Preview", exact=True).click()
    player = page.locator(".preview .player")
    expect(player).to_have_attribute("data-phase", "ready")
    for number in range(len(scenes)):
        player.get_by_role("slider").fill(str(number * 3))
        expect(player).to_have_attribute("data-frame", str(number * 3))
    assert page.evaluate("harmed") == []
    assert elsewhere.close() == []
