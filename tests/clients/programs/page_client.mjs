/**
 * The page's own client in Node.js: submits a message, follows it, and folds what comes.
 *
 * Task: `{origin, projectId, content, token}`. It says `submitted` `{messageId}`, `event`, `refused`, and in the end `done` `{row, state}`.
 */
import WebSocket from "ws";
import { leave, say, task } from "./stage.mjs";

/** A browser's socket tells of a failure by its close event alone; one of `ws` that nobody listens to ends the program. */
class BrowserSocket extends WebSocket {
  constructor(url) {
    super(url);
    this.on("error", () => {});
  }
}

// what a browser has and Node.js 20 has not
globalThis.WebSocket = BrowserSocket;
const window = new EventTarget();
globalThis.addEventListener = window.addEventListener.bind(window);
globalThis.removeEventListener = window.removeEventListener.bind(window);

const { ChatRelay } = await import("./page/client.js");
const { fold, fromRow } = await import("./page/fold.js");

const { origin, projectId, content, token } = await task();
const client = new ChatRelay({ token, origin });
const { assistantMessage } = await client.submit(projectId, content);
say({ submitted: assistantMessage.id });
let state = fromRow(assistantMessage);
const following = client.follow(assistantMessage.id, {
  onEvent: (event) => {
    state = fold(state, event);
    say({ event: JSON.stringify(event) });
  },
  onConnection: (connected) => say({ connected }),
  onRefused: (error) => say({ refused: error.message }),
});
const row = await following.done;
say({ done: { row, state } });
leave();
