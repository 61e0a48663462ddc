/** The page's client is the public one. */
export { backoffMs, ChatRelay, CLOSE_CODES, Line, newKey, query } from "../clients/chatrelay.js";
