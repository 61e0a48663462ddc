/** Copying, with a word about it for who can't see the button change. */
import { copyText } from "../clipboard.js";
import { announce } from "./session.js";

/** Copies the text; whether that went well. `what` names it: "The message", "The code". */
export async function copy(text, what) {
  const isCopied = await copyText(text);
  announce(isCopied ? `${what} is copied.` : `${what} could not be copied: the browser does not allow it.`);
  return isCopied;
}
