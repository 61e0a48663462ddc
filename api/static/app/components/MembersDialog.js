import { useEffect, useRef, useState } from "../../vendor/preact-hooks.js";
import { giveRole, leave, loadMembers, takeOut } from "../actions/members.js";
import { closeDialog } from "../actions/projects.js";
import { html } from "../html.js";
import * as state from "../state.js";

const ROLES = { owner: "Owner", editor: "Editor", viewer: "Viewer" };

/** Who works on the project. Owners change that; everybody may leave. */
export function MembersDialog() {
  const element = useRef(null);
  const [error, setError] = useState(null);
  const [isBusy, setBusy] = useState(false);
  const { items, isLoading, error: loadError } = state.members.value;
  const isOwner = state.project.value?.role === "owner";
  useEffect(() => {
    element.current.showModal();
    loadMembers();
  }, []);
  const attempt = async (act) => {
    setBusy(true);
    setError(null);
    try {
      await act();
      return true;
    } catch (refusal) {
      setError(refusal.message);
      return false;
    } finally {
      setBusy(false);
    }
  };
  const props = { isOwner, isBusy, attempt };
  return html`
    <dialog ref=${element} class="wide" onClose=${closeDialog} aria-labelledby="dialog-title">
      <div class="dialog-body">
        <h2 id="dialog-title">Members</h2>
        ${loadError &&
        html`<p class="form-error" role="alert">
          ${loadError} <button type="button" class="link" onClick=${loadMembers}>Try again</button>
        </p>`}
        ${isLoading && items.length === 0 && html`<p class="quiet">Loading…</p>`}
        <ul class="members" aria-label="Members">
          ${items.map((member) => html`<${Member} key=${member.user} member=${member} ...${props} />`)}
        </ul>
        ${isOwner && html`<${Invitation} ...${props} />`}
        ${error && html`<p class="form-error" role="alert">${error}</p>`}
        <div class="dialog-buttons">
          ${state.me.value && html`<${Leave} isBusy=${isBusy} attempt=${attempt} />`}
          <button type="button" onClick=${() => element.current.close()}>Close</button>
        </div>
      </div>
    </dialog>
  `;
}

function Member({ member: { user, role }, isOwner, isBusy, attempt }) {
  const [isSure, setSure] = useState(false);
  const isMe = user === state.me.value?.user;
  const onRole = async (event) => {
    const field = event.currentTarget;
    if (!(await attempt(() => giveRole(user, field.value)))) field.value = role;
  };
  return html`
    <li data-member=${user}>
      <span class="member-name"><bdi>${user}</bdi>${isMe && html` <span class="quiet">(you)</span>`}</span>
      ${isOwner
        ? html`<select aria-label=${`Role of ${user}`} value=${role} disabled=${isBusy} onChange=${onRole}>
            ${Object.entries(ROLES).map(([name, label]) => html`<option value=${name}>${label}</option>`)}
          </select>`
        : html`<span class="role">${ROLES[role]}</span>`}
      ${isOwner &&
      !isMe &&
      html`<button
        type="button"
        class="link bad"
        disabled=${isBusy}
        aria-label=${isSure ? `Yes, remove ${user}` : `Remove ${user}`}
        onBlur=${() => setSure(false)}
        onClick=${() => (isSure ? attempt(() => takeOut(user)) : setSure(true))}
      >
        ${isSure ? "Yes, remove" : "Remove"}
      </button>`}
    </li>
  `;
}

function Invitation({ isBusy, attempt }) {
  const onSubmit = async (event) => {
    event.preventDefault();
    const form = event.currentTarget;
    const fields = new FormData(form);
    const user = fields.get("user").trim();
    if (user && (await attempt(() => giveRole(user, fields.get("role"))))) form.reset();
  };
  return html`
    <form class="invitation" onSubmit=${onSubmit} aria-label="Invite">
      <label class="field">Invite by name <input name="user" dir="auto" maxlength="200" required autocomplete="off" /></label>
      <label class="field">
        Role
        <select name="role">
          ${Object.entries(ROLES).map(([name, label]) => html`<option value=${name} defaultSelected=${name === "editor"}>${label}</option>`)}
        </select>
      </label>
      <button type="submit" class="primary" disabled=${isBusy}>Invite</button>
      <p class="quiet">Viewers read; editors change the document and ask; owners also decide who is a member.</p>
    </form>
  `;
}

function Leave({ isBusy, attempt }) {
  const [isSure, setSure] = useState(false);
  return html`<button
    type="button"
    class="link bad leave"
    disabled=${isBusy}
    onBlur=${() => setSure(false)}
    onClick=${() => (isSure ? attempt(leave) : setSure(true))}
  >
    ${isSure ? "Yes, leave" : "Leave the project"}
  </button>`;
}
