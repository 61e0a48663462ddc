/**
 * A program on chatrelay's own client, `clients/chatrelay.js`.
 *
 * Task: `{do, origin, projectId, token, content?, messageId?, after?, cancelAfter?, stopAfter?}`. `do` is ask (`submitted`, then as
 * follow), follow (each `event`, then `done` with the row and what is shown), retry (`retried`, then as follow), watch (each `told`,
 * then `texts`), slowly (`slow`), refusals (of each call `refused` or `accepted`). After the first event of the type `cancelAfter` it cancels
 * (`cancelled`), after one of `stopAfter` it goes away (`stopped`).
 */
import WebSocket from "ws";
import { ChatRelay, fold, start } from "./clients/chatrelay.js";
import { leave, say, task } from "./stage.mjs";

/** A browser's socket tells of a failure by its close event alone; one of `ws` that nobody listens to ends the program. */
class BrowserSocket extends WebSocket {
  constructor(url) {
    super(url);
    this.on("error", () => {});
  }
}

const { do: what, origin, projectId, token, content, messageId, after = null, ...options } = await task();
const client = new ChatRelay({ token, origin, WebSocket: globalThis.WebSocket ?? BrowserSocket });

const doings = {
  async ask() {
    const { assistantMessage } = await client.submit(projectId, content);
    say({ submitted: assistantMessage.id });
    await follow(assistantMessage.id);
  },
  follow: () => follow(messageId),
  async retry() {
    say({ retried: (await client.retry(messageId)).status });
    await follow(messageId);
  },
  async watch() {
    const texts = {};
    for await (const told of client.projectEvents(projectId)) {
      say({ told });
      if (told.type === "delta") texts[told.messageId] = (texts[told.messageId] ?? "") + told.content;
      if (told.type === "snapshot") texts[told.messageId] = told.content;
      if (told.type === options.stopAfter) break;
    }
    say({ texts });
  },
  async slowly() {
    let opened = 0;
    class Counted extends (globalThis.WebSocket ?? BrowserSocket) {
      constructor(url) {
        super(url);
        opened += 1;
      }
    }
    client.WebSocket = Counted;
    const { assistantMessage } = await client.submit(projectId, content);
    let shown = start();
    for await (const event of client.events(assistantMessage.id, { mostWaiting: 10 })) {
      shown = fold(shown, event);
      // all comes while the first event is looked at: sockets are read, the loop is not
      if (event.id === "1-0") await client.answer(assistantMessage.id);
    }
    say({ slow: { text: shown.content, opened: opened - 1 } });
  },
  async refusals() {
    const calls = {
      submit: () => client.submit(projectId, "x"),
      cancel: () => client.cancel(messageId),
      retry: () => client.retry(messageId),
      message: () => client.message(messageId),
      follow: () => client.events(messageId).next(),
      watch: () => client.projectEvents(projectId).next(),
    };
    for (const [name, call] of Object.entries(calls)) {
      try {
        await call();
        say({ accepted: name });
      } catch (error) {
        say({ refused: name, code: error.code, status: error.status, detail: error.detail });
      }
    }
  },
};

async function follow(id) {
  let shown = { ...start(), position: after };
  for await (const event of client.events(id, { after })) {
    shown = fold(shown, event);
    say({ event: JSON.stringify(event) });
    if (event.type === options.cancelAfter) {
      options.cancelAfter = null;
      say({ cancelled: (await client.cancel(id)).id });
    }
    if (event.type === options.stopAfter) {
      say({ stopped: true });
      break;
    }
  }
  say({ done: { row: await client.message(id), shown } });
}

await doings[what]();
leave();
