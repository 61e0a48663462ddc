/**
 * Follows one message with `ws`, and comes back after the last event that it has until the server says 1000.
 *
 * Task: `{origin, messageId, token?, headers?, after?, ticket?}`; `ticket` is one to be used, or true: a fresh one for
 * every connection. An order is the text of a frame to send. It says `open`, `event`, `frame` (one without an id), `closed`
 * and, where the handshake is answered over HTTP, `refused`.
 */
import WebSocket from "ws";
import { leave, obeyOrders, say, task, ticketFor } from "./stage.mjs";

const COME_BACK_AFTER_MS = 50;
const STAYS_AWAY = new Set([1000, 1002, 1007, 1008, 4403]);

const { origin, messageId, token, headers = {}, after, ticket } = await task();
const path = `/v1/messages/${messageId}/socket`;
let position = after;
let socket;

obeyOrders((frame) => socket.send(frame));
while (await readOneSocket()) await new Promise((resolve) => setTimeout(resolve, COME_BACK_AFTER_MS));
leave();

/** Reads until the connection ends, in whatever way; whether to come back. */
async function readOneSocket() {
  const url = new URL(path, origin.replace(/^http/, "ws"));
  if (position) url.searchParams.set("after", position);
  if (ticket) url.searchParams.set("ticket", ticket === true ? await ticketFor(path, { origin, token }) : ticket);
  const authorization = token && !ticket ? { Authorization: `Bearer ${token}` } : {};
  socket = new WebSocket(url, { headers: { ...headers, ...authorization } });
  return new Promise((resolve) => {
    socket.on("open", () => say({ open: true }));
    socket.on("message", (data, isBinary) => {
      const text = data.toString();
      const { id } = JSON.parse(text);
      say(id === undefined ? { frame: text, isBinary } : { event: text, isBinary });
      position = id ?? position;
    });
    socket.on("error", (error) => say({ error: error.message }));
    socket.on("close", (code, reason) => {
      say({ closed: code, reason: reason.toString() });
      resolve(!STAYS_AWAY.has(code));
    });
    socket.on("unexpected-response", async (request, response) => {
      const body = [];
      for await (const piece of response) body.push(piece);
      say({
        refused: response.statusCode,
        type: response.headers["content-type"],
        body: Buffer.concat(body).toString(),
      });
      request.destroy();
      resolve(false);
    });
  });
}
