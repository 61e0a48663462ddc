/** Copying text, also where the clipboard's API is absent (plain http) or not allowed. */

/** Whether the text was copied. Keeps the focus and the selection's place. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text);
  }
}

/** The way before there was an API: the document's own copy command, on a field that holds the text for a moment. */
function copyBySelection(text) {
  const focused = document.activeElement;
  const field = document.createElement("textarea");
  field.className = "visually-hidden";
  field.setAttribute("aria-hidden", "true");
  field.readOnly = true;
  field.value = text;
  (focused?.closest?.("dialog") ?? document.body).append(field);
  field.select();
  try {
    return document.execCommand("copy");
  } catch {
    return false;
  } finally {
    field.remove();
    focused?.focus?.({ preventScroll: true });
  }
}
