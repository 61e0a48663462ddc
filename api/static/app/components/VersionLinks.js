import { showVersion } from "../actions/history.js";
import { html } from "../html.js";
import * as state from "../state.js";

/** The versions of the document that a message made, each leading to its place in the history. */
export function VersionLinks({ message }) {
  const told = state.messageVersions.value.get(message.id) ?? [];
  const stored = message.toolCalls.map((call) => call.version).filter((version) => version != null);
  const versions = [...new Set([...stored, ...told])].sort((left, right) => left - right);
  if (versions.length === 0) return null;
  return html`
    <p class="version-links quiet">
      Changed the document:${" "}
      ${versions.map(
        (version) => html`<button type="button" class="link" onClick=${() => showVersion(version)}>version ${version}</button>`,
      )}
    </p>
  `;
}
