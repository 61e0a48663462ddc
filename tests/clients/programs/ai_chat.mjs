/**
 * A front end of the AI SDK without a page: `Chat`, which `useChat` is made of, over one of the SDK's transports.
 *
 * Task: `{origin, projectId, token, version, transport, sdk?, chatId?}`. `version` is 6 or 7, `transport` http or ws. Orders, which
 * may overlap: `{send}`, `{regenerate}`, `{resume}`, `{stop}`, `{close}`, `{origin}` (to talk to another one from now on), `{leave}`.
 * It says `requested` (method, path, status) of each request over HTTP, `data` for each data part, `text` whenever the newest
 * message's text is another, `state` for each status; `failed` in the end of an order that failed, and `done` in the end of each with
 * all that is `shown`.
 */
import WebSocket from "ws";
import { obeyOrders, leave, say, task } from "./stage.mjs";

const given = await task();
const { projectId, token, version, transport: kind, sdk, chatId = "chat" } = given;
let { origin } = given;
const { DefaultChatTransport, WebSocketChatTransport } = await import(version === 6 ? "ai6" : "ai");
const { Chat } = await import(version === 6 ? "@ai-sdk/react6" : "@ai-sdk/react");
const path = `/v1/ai/chat/${projectId}`;
const headers = token ? { Authorization: `Bearer ${token}` } : {};

const transport = kind === "ws" ? overSocket() : overHttp();
let finished = null;
const chat = new Chat({
  id: chatId,
  transport,
  onData: ({ type, id, data }) => say({ data: type, id, value: data }),
  onError: (error) => say({ failed: error.message, kind: error.name }),
  onFinish: ({ isAbort, isDisconnect, isError, finishReason }) => {
    finished = { isAbort, isDisconnect, isError, finishReason: finishReason ?? null };
  },
});
let told = "";
chat["~registerMessagesCallback"](() => {
  const text = textOf(chat.lastMessage);
  if (text !== told && chat.lastMessage.role === "assistant") say({ text: (told = text) });
});
chat["~registerStatusCallback"](() => say({ state: chat.status }));

await obeyOrders(async (order) => {
  const [[what, argument]] = Object.entries(order);
  finished = null;
  switch (what) {
    case "send":
      await chat.sendMessage({ text: argument });
      break;
    case "regenerate":
      await chat.regenerate(typeof argument === "string" ? { messageId: argument } : {});
      break;
    case "resume":
      await chat.resumeStream();
      break;
    case "stop":
      await chat.stop();
      break;
    case "close":
      transport.close();
      break;
    case "origin":
      origin = argument;
      break;
    case "leave":
      leave();
  }
  say({ done: what, shown: shown() });
});

function overHttp() {
  return new DefaultChatTransport({
    api: path,
    headers,
    fetch: async (address, init) => {
      const response = await fetch(origin + address + (sdk ? `${address.includes("?") ? "&" : "?"}sdk=${sdk}` : ""), init);
      say({ requested: init.method, path: address, status: response.status });
      return response;
    },
    prepareReconnectToStreamRequest:
      given.names &&
      (() => ({ api: `${path}/stream${chat.lastMessage?.role === "assistant" ? `?messageId=${chat.lastMessage.id}` : ""}` })),
  });
}

function overSocket() {
  class Socket extends WebSocket {
    constructor(url) {
      super(`${origin.replace(/^http/, "ws")}${path}/socket`, { headers });
      this.on("error", () => {});
      this.on("close", (code) => say({ closed: code }));
    }
  }
  return new WebSocketChatTransport({
    url: "ws://nowhere.example/",
    webSocket: Socket,
    prepareReconnectToStreamRequest:
      given.names &&
      (() => ({ body: chat.lastMessage?.role === "assistant" ? { messageId: chat.lastMessage.id } : {} })),
  });
}

function shown() {
  const { messages, status, error } = chat;
  return { status, error: error?.message ?? null, text: told, finished, messages };
}

function textOf(message) {
  return (message?.parts ?? []).map((part) => (part.type === "text" ? part.text : "")).join("");
}
