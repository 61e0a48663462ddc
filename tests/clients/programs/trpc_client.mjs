/**
 * A front end of tRPC 11: calls procedures, follows an answer, and shows its text as such front ends do.
 *
 * Task: `{origins, link, projectId, token?, superjson?, header?, calls?, content?, messageId?}`. `link` is ws, sse, or lines (sse
 * with streamed batches). `calls`, pairs of procedure and input, are made at once: `answered` or `refused`, each with its index.
 * Then `content` is sent with `chat.initiateChat` (`initiated`), or `messageId` taken, and followed: `event`, `connection` for each
 * state, `over` when the server has ended it, `failed`. In the end `shown`. The order "stop" unsubscribes. Sockets go to the next of
 * `origins` each time that they are opened.
 */
import {
  createTRPCClient,
  createWSClient,
  httpBatchLink,
  httpBatchStreamLink,
  httpSubscriptionLink,
  splitLink,
  wsLink,
} from "@trpc/client";
import { EventSource } from "eventsource";
import superjson from "superjson";
import WebSocket from "ws";
import { leave, obeyOrders, say, task } from "./stage.mjs";

const { origins, link, projectId, token, calls = [], content, messageId, header = false, ...options } = await task();
const transformer = options.superjson ? superjson : undefined;
const authorization = token ? { Authorization: `Bearer ${token}` } : {};
const connectionParams = token && !header ? { token } : undefined;
const shown = { text: "", status: null, error: null, tools: [] };

const client = createTRPCClient({ links: [link === "ws" ? overSocket() : overHttp()] });
await Promise.all(calls.map(call));
const assistantMessageId = content ? await initiate() : messageId;
if (assistantMessageId) await follow(assistantMessageId);
say({ shown });
leave();

function overSocket() {
  let opened = 0;
  class Socket extends WebSocket {
    constructor(url) {
      super(url, { headers: header ? authorization : {} });
      this.on("error", () => {});
    }
  }
  const socket = createWSClient({
    url: () => `${origins[opened++ % origins.length].replace(/^http/, "ws")}/trpc`,
    WebSocket: Socket,
    connectionParams,
    retryDelayMs: () => 50,
    keepAlive: { enabled: true, intervalMs: 200, pongTimeoutMs: 5000 },
    onOpen: () => say({ opened }),
    onClose: (cause) => say({ closed: cause?.code ?? null }),
  });
  return wsLink({ client: socket, transformer });
}

function overHttp() {
  const url = `${origins[0]}/trpc`;
  const batched = link === "lines" ? httpBatchStreamLink : httpBatchLink;
  return splitLink({
    condition: ({ type }) => type === "subscription",
    true: httpSubscriptionLink({
      url,
      transformer,
      EventSource,
      connectionParams,
      eventSourceOptions: {
        fetch: async (input, init) => {
          const headers = { ...init.headers, ...(header ? authorization : {}) };
          const response = await fetch(input, { ...init, headers });
          say({ requested: response.status, lastEventId: headers["Last-Event-ID"] ?? null });
          return response;
        },
      },
    }),
    false: batched({ url, transformer, headers: authorization }),
  });
}

async function call([path, input], index) {
  const [router, procedure] = path.split(".");
  const proxy = client[router][procedure];
  try {
    const value = await (path === "chat.getMessages" ? proxy.query(input) : proxy.mutate(input));
    say({ answered: index, value });
  } catch (error) {
    say({ refused: index, ...told(error) });
  }
}

async function initiate() {
  const { assistantMessageId } = await client.chat.initiateChat.mutate({ projectId, message: content });
  say({ initiated: assistantMessageId });
  return assistantMessageId;
}

async function follow(assistantMessageId) {
  return new Promise((resolve) => {
    let isStopped = false;
    const subscription = client.chat.streamResponse.subscribe(
      { assistantMessageId, projectId },
      {
        onStarted: () => say({ started: true }),
        onData: ({ id, data }) => {
          show(data);
          say({ event: JSON.stringify(data), id });
        },
        onConnectionStateChange: ({ state }) => say({ connection: state }),
        onComplete: () => {
          if (isStopped) return;
          say({ over: true });
          resolve();
        },
        onError: (error) => {
          say({ failed: told(error) });
          resolve();
        },
      },
    );
    obeyOrders(() => {
      isStopped = true;
      subscription.unsubscribe();
      call(["chat.getMessages", { projectId, limit: 1 }], "after").then(resolve);
    });
  });
}

function told(error) {
  return { message: error.message, code: error.shape?.code ?? null, data: error.data ?? null };
}

/** What a front end does with each of the seven. */
function show(event) {
  switch (event.type) {
    case "delta":
      shown.text += event.content;
      break;
    case "complete":
      shown.text = event.finalContent;
      break;
    case "tool_result":
      shown.tools.push([event.name, event.success]);
      break;
    case "error":
      shown.error = event.code;
      shown.text = event.finalContent ?? shown.text;
      break;
    case "finalized":
      shown.status = event.status;
  }
}
