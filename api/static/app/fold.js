/** What the page shows of a message is the public client's fold. */
export { FINAL_STATUSES, fold, fromRow, resumeAfter, start } from "../clients/chatrelay.js";
