/** The tag that makes Preact elements of templates: html`<p class="a">${text}</p>`. */
import htm from "../vendor/htm.js";
import { createElement } from "../vendor/preact.js";

export const html = htm.bind(createElement);
