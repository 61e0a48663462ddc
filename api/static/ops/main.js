/** Starts the operators' page. */
import { html } from "../app/html.js";
import { render } from "../vendor/preact.js";
import { start } from "./actions/sign_in.js";
import { App } from "./components/App.js";

render(html`<${App} />`, document.getElementById("app"));
start();
