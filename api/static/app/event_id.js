/** Event ids, `<attempt>-<n>`, as the public client reads them. */
export { attemptOf, compareEventIds, endOfAttempt, isEndOfAttempt, isNext, parseEventId } from "../clients/chatrelay.js";
