/** Starts the page. */
import { render } from "../vendor/preact.js";
import { start } from "./actions/sign_in.js";
import { App } from "./components/App.js";
import { html } from "./html.js";

render(html`<${App} />`, document.getElementById("app"));
start();
