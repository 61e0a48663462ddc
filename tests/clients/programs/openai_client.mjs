/**
 * A program on the `openai` package.
 *
 * Task: `{origins, token, project?, maxRetries?, do, body?, responseId?, stopAfter?}`. `do` is
 * - create: streams a new response, or follow: streams `responseId`. `created`, each `event`; where the connection is lost or the
 *   stream ends early, `lost`, and it goes on behind the last sequence number, at the next of `origins` where one is away. In the end
 *   `shown`. After an event of a type in `stopAfter` it closes the stream: `stopped`.
 * - wait, background (and polls), helper (`text` too), cancel: `response`.
 * - complete: `completion`; chunks: `chunk` for each, then `text`, `reason` and `usage`, and before it `failed` where it was.
 * - models, refusals: `models`; `answered` or `refused` for each call.
 */
import OpenAI from "openai";
import { leave, say, task } from "./stage.mjs";

const { origins, token, project, maxRetries = 2, ...asked } = await task();
const ENDS = ["response.completed", "response.failed", "response.incomplete"];
let at = 0;
let client = connect();

const doings = {
  create: async () => follow(await client.responses.create({ ...asked.body, stream: true })),
  follow: async () => follow(await resumed(asked.responseId)),
  wait: async () => say({ response: await client.responses.create(asked.body) }),
  background,
  helper: async () => {
    const response = await client.responses.stream(asked.body).finalResponse();
    say({ text: response.output_text });
    say({ response });
  },
  cancel: async () => say({ response: await client.responses.cancel(asked.responseId) }),
  complete: async () => say({ completion: await client.chat.completions.create(asked.body) }),
  chunks,
  models: async () => say({ models: (await client.models.list()).data.map(({ id }) => id) }),
  refusals,
};
await doings[asked.do]();
leave();

function connect() {
  return new OpenAI({ baseURL: `${origins[at % origins.length]}/v1/openai`, apiKey: token, project, maxRetries });
}

async function background() {
  let response = await client.responses.create({ ...asked.body, background: true });
  say({ created: response.id });
  while (["queued", "in_progress"].includes(response.status)) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    response = await client.responses.retrieve(response.id);
  }
  say({ response });
}

async function follow(stream) {
  const shown = { text: "", appended: "", status: null, error: null, items: {} };
  let responseId = asked.responseId;
  let last;
  for (;;) {
    let lost = "ended";
    try {
      for await (const event of stream) {
        if (event.type === "response.created") {
          responseId = event.response.id;
          say({ created: responseId });
        }
        last = event.sequence_number;
        show(shown, event);
        say({ event });
        if (asked.stopAfter?.includes(event.type)) {
          stream.controller.abort();
          say({ stopped: true });
          return;
        }
      }
    } catch (error) {
      if (error.status) throw error;
      lost = error.constructor.name;
    }
    if (shown.status || shown.error) break;
    say({ lost });
    stream = await resumed(responseId, last);
  }
  say({ shown });
}

async function resumed(responseId, startingAfter) {
  for (;;) {
    client = connect();
    try {
      return await client.responses.retrieve(responseId, { stream: true, starting_after: startingAfter });
    } catch (error) {
      if (!(error instanceof OpenAI.APIConnectionError)) throw error;
      at += 1;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

function show(shown, event) {
  switch (event.type) {
    case "response.output_text.delta":
      shown.appended += event.delta;
      shown.text += event.delta;
      break;
    case "response.output_text.done":
      shown.text = event.text;
      break;
    case "response.output_item.done":
      shown.items[event.output_index] = event.item;
      break;
    case "error":
      shown.error = event.code;
      break;
    default:
      if (ENDS.includes(event.type)) shown.status = event.response.status;
  }
}

async function chunks() {
  let [text, reason, usage] = ["", null, null];
  try {
    for await (const chunk of await client.chat.completions.create({ ...asked.body, stream: true })) {
      usage = chunk.usage ?? usage;
      for (const choice of chunk.choices) {
        text += choice.delta.content ?? "";
        reason = choice.finish_reason;
      }
      say({ chunk: text });
    }
  } catch (error) {
    say({ failed: error.code ?? error.message });
  }
  say({ text, reason, usage });
}

async function refusals() {
  const { body, responseId, completion } = asked;
  const calls = {
    create: () => client.responses.create(body),
    stream: () => client.responses.create({ ...body, stream: true }),
    background: () => client.responses.create({ ...body, background: true }),
    retrieve: () => client.responses.retrieve(responseId),
    follow: () => client.responses.retrieve(responseId, { stream: true }),
    delete: () => client.responses.delete(responseId),
    complete: () => client.chat.completions.create(completion),
    cancel: () => client.responses.cancel(responseId),
  };
  for (const [name, call] of Object.entries(calls)) {
    try {
      await call();
      say({ answered: name });
    } catch (error) {
      say({ refused: name, status: error.status, code: error.code, error: error.constructor.name });
    }
  }
}
