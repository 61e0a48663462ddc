import { useState } from "../../vendor/preact-hooks.js";
import { signIn } from "../actions/sign_in.js";
import { html } from "../html.js";
import * as state from "../state.js";

/** Asks for a token. The link that the server prints at its start brings one along. */
export function SignIn() {
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
        <h1>chatrelay</h1>
        <p class="quiet">
          Sign in with a token: open the address that <code>make run</code> printed, or paste the token here.
        </p>
        <label class="field">
          Token <input name="token" type="password" autocomplete="off" spellcheck="false" required autofocus />
        </label>
        ${state.signInError.value && html`<p class="form-error" role="alert">${state.signInError.value}</p>`}
        <button type="submit" class="primary" disabled=${isBusy}>Sign in</button>
      </form>
    </main>
  `;
}
