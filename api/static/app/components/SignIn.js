import { signIn } from "../actions/sign_in.js";
import { html } from "../html.js";
import * as state from "../state.js";
import { SignInForm } from "./SignInForm.js";

/** Asks for a token. The link that the server prints at its start brings one along. */
export function SignIn() {
  return html`
    <${SignInForm} title="chatrelay" error=${state.signInError.value} signIn=${(token) => signIn(token)}>
      Sign in with a token: open the address that <code>make run</code> printed, or paste the token here.
    <//>
  `;
}
