/** The page's client is the public one. */
export { backoffMs, ChatRelay, CLOSE_CODES, newKey } from "../clients/chatrelay.js";
