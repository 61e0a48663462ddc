/** One HTTP call, as the public client makes it. */
export { ApiError, NoAnswer, request } from "../clients/chatrelay.js";
