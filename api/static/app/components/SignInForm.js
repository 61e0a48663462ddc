import { useState } from "../../vendor/preact-hooks.js";
import { html } from "../html.js";

/** Asks for a token; `signIn` takes it, `error` says why the last one was refused, the children say where tokens come from. */
export function SignInForm({ title, error, signIn, children }) {
  const [isBusy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    const token = new FormData(event.currentTarget).get("token").trim();
    if (!token) return;
    setBusy(true);
    await signIn(token);
    setBusy(false);
  };
  return html`
    <main class="sign-in">
      <form onSubmit=${submit}>
        <img src="/static/favicon.svg" alt="" width="40" height="40" />
        <h1>${title}</h1>
        <p class="quiet">${children}</p>
        <label class="field">
          Token <input name="token" type="password" autocomplete="off" spellcheck="false" required autofocus />
        </label>
        ${error && html`<p class="form-error" role="alert">${error}</p>`}
        <button type="submit" class="primary" disabled=${isBusy}>Sign in</button>
      </form>
    </main>
  `;
}
