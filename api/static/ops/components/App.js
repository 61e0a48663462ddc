import { SignInForm } from "../../app/components/SignInForm.js";
import { html } from "../../app/html.js";
import { useEffect } from "../../vendor/preact-hooks.js";
import { signIn, signOut } from "../actions/sign_in.js";
import * as state from "../state.js";
import { BatchPage } from "./BatchPage.js";
import { BatchesPage } from "./BatchesPage.js";
import { Connection, Notices } from "./Connection.js";
import { MessagePage } from "./MessagePage.js";
import { MessagesPage } from "./MessagesPage.js";
import { Overview } from "./Overview.js";

const VIEWS = {
  overview: { page: Overview, title: "Operations" },
  messages: { page: MessagesPage, title: "Messages" },
  message: { page: MessagePage, title: "A message" },
  batches: { page: BatchesPage, title: "Batches" },
  batch: { page: BatchPage, title: "A batch" },
};
/** Where each link of the head leads, and the views that are part of it. */
const PLACES = [
  { label: "Overview", address: "#overview", views: ["overview"] },
  { label: "Messages", address: "#messages", views: ["messages", "message"] },
  { label: "Batches", address: "#batches", views: ["batches", "batch"] },
];

/** The whole page. */
export function App() {
  const { view } = state.route.value;
  const { page, title } = VIEWS[view];
  useEffect(() => {
    document.title = view === "overview" ? "Operations – chatrelay" : `${title} – operations – chatrelay`;
  }, [view]);
  if (state.token.value === null) {
    return html`
      <${SignInForm} title="chatrelay operations" error=${state.signInError.value} signIn=${(token) => signIn(token)}>
        Sign in with an operator's token: <code>chatrelay token create --user NAME --scope ops</code> makes one.
      <//>
    `;
  }
  if (state.isDenied.value) return html`<${Denied} />`;
  return html`
    <div class="ops">
      <button type="button" class="skip" onClick=${skip}>To the page's content</button>
      <header class="head ops-head">
        <h1><a href="#overview">Operations</a></h1>
        <nav aria-label="Parts of the page">
          ${PLACES.map(
            ({ label, address, views }) =>
              html`<a href=${address} aria-current=${views.includes(view) ? "page" : undefined}>${label}</a>`,
          )}
        </nav>
        <${Connection} />
        <div class="head-actions">
          <a class="link" href="/">Chat</a>
          <button type="button" class="link" onClick=${signOut}>Sign out</button>
        </div>
      </header>
      <${Notices} />
      <main class="ops-main" tabindex="-1"><${page} /></main>
      <p class="visually-hidden" role="status" aria-live="polite">${state.announcement.value}</p>
    </div>
  `;
}

function skip() {
  document.querySelector(".ops-main").focus();
}

/** For somebody whose token is good, but no operator's. */
function Denied() {
  const user = state.me.value?.user;
  return html`
    <main class="sign-in">
      <div class="denied">
        <h1>This page is for operators</h1>
        <p>
          Your token${user && html` (of <bdi>${user}</bdi>)`} does not have the scope <code>ops</code>, or it was taken back. Whoever
          runs this server can make one that has it:
        </p>
        <pre tabindex="0">chatrelay token create --user ${user ?? "NAME"} --scope ops</pre>
        <p class="denied-actions">
          <button type="button" class="primary" onClick=${signOut}>Use another token</button>
          <a href="/">To the chat</a>
        </p>
      </div>
    </main>
  `;
}
