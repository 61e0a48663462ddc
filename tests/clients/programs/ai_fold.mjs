/**
 * What `readUIMessageStream` makes of streams. Task: `{cases: [{version, body}]}`, each body an event stream as a server sends it. It
 * says for each, in order, `message` as it is in the end (null where there is none) and `errors`, in words.
 */
import * as six from "ai6";
import * as seven from "ai";
import { leave, say, task } from "./stage.mjs";

const { cases } = await task();
for (const { version, body } of cases) {
  const { DefaultChatTransport, readUIMessageStream } = version === 6 ? six : seven;
  const fetch = async () => new Response(body, { headers: { "content-type": "text/event-stream" } });
  const transport = new DefaultChatTransport({ api: "http://nowhere.example/", fetch });
  const stream = await transport.sendMessages({ chatId: "chat", messages: [], trigger: "submit-message" });
  const errors = [];
  let message = null;
  for await (const state of readUIMessageStream({ stream, onError: (error) => errors.push(error.message) })) message = state;
  say({ message, errors });
}
leave();
