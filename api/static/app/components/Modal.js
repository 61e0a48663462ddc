import { useEffect, useRef, useState } from "../../vendor/preact-hooks.js";
import { closeDialog } from "../actions/projects.js";
import { html } from "../html.js";
import { Places } from "./Places.js";

/**
 * A modal form: Esc and Cancel close it, `act` does what it is for; a refusal is shown in it. `isHeld`: not to be sent yet.
 */
export function Modal({ title, verb, isDangerous, isHeld, isWide, act, children }) {
  const element = useRef(null);
  const [error, setError] = useState(null);
  const [isBusy, setBusy] = useState(false);
  useEffect(() => {
    element.current.showModal();
  }, []);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      await act(new FormData(event.currentTarget));
    } catch (refusal) {
      setError(refusal);
      setBusy(false);
    }
  };
  return html`
    <dialog ref=${element} class=${isWide ? "wide" : ""} onClose=${closeDialog} aria-labelledby="dialog-title">
      <form onSubmit=${submit}>
        <h2 id="dialog-title">${title}</h2>
        ${children}
        ${error &&
        html`<div class="form-error" role="alert">
          <p>${error.message}</p>
          <${Places} places=${error.errors} />
        </div>`}
        <div class="dialog-buttons">
          <button type="button" onClick=${() => element.current.close()}>Cancel</button>
          <button type="submit" class=${isDangerous ? "danger" : "primary"} disabled=${isBusy || isHeld}>${verb}</button>
        </div>
      </form>
    </dialog>
  `;
}
