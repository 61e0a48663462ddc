/**
 * Follows one message with `eventsource`, which comes back by itself, until it gives up.
 *
 * Task: `{origin, messageId, token, withTicket?}`. It says `answered` for each answer of the server, with the Last-Event-ID
 * that was asked for, `event`, `lost` for each connection that ended, and `stopped` when the EventSource will not come back.
 */
import { EventSource } from "eventsource";
import { leave, say, task, ticketFor } from "./stage.mjs";

const { origin, messageId, token, withTicket = false } = await task();
const path = `/v1/messages/${messageId}/events`;
const url = new URL(path, origin);
if (withTicket) url.searchParams.set("ticket", await ticketFor(path, { origin, token }));
const authorization = withTicket ? {} : { Authorization: `Bearer ${token}` };

const source = new EventSource(url, {
  fetch: async (input, init) => {
    const headers = { ...init.headers, ...authorization };
    const response = await fetch(input, { ...init, headers });
    say({ answered: response.status, lastEventId: headers["Last-Event-ID"] ?? null });
    return response;
  },
});
source.onmessage = ({ data, lastEventId }) => say({ event: data, lastEventId });
source.onerror = ({ code }) => {
  if (source.readyState !== EventSource.CLOSED) return say({ lost: true });
  say({ stopped: code ?? null });
  leave();
};
