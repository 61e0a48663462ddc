/**
 * A page with `useChat`, as somebody would write it who reads the SDK's guides: StrictMode, `resume`, a Stop button.
 *
 * `window.task` is `{version, projectId, token, transport, sdk}`. With version 6 `useChat` is given a `Chat`: it would hide from one of
 * its own that a resumed stream is a replay, and show twice what it had.
 */
import { Chat, useChat } from "@ai-sdk/react";
import * as ai from "ai";
import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";

const { version, projectId, token, transport: kind, sdk } = window.task;
const api = `/v1/ai/chat/${projectId}`;
const headers = { Authorization: `Bearer ${token}` };
const transport = kind === "ws" ? overSocket() : overHttp();
let showActivity = () => {};
const chatOptions = { id: "page", transport, onData: ({ type, data }) => type === "data-status" && showActivity(data.status) };
const options = version === 6 ? { chat: new Chat(chatOptions) } : chatOptions;

function overHttp() {
  return new ai.DefaultChatTransport({ api: sdk ? `${api}?sdk=${sdk}` : api, headers });
}

function overSocket() {
  const path = `${api}/socket`;
  return new ai.WebSocketChatTransport({
    url: path,
    params: async () => {
      const response = await fetch("/v1/tickets", {
        method: "POST",
        headers: { ...headers, "Content-Type": "application/json" },
        body: JSON.stringify({ path }),
      });
      return { ticket: (await response.json()).ticket };
    },
  });
}

function Page() {
  const [input, setInput] = useState("");
  const [activity, setActivity] = useState("");
  const { messages, sendMessage, regenerate, stop, status, error } = useChat({ ...options, resume: true });
  showActivity = setActivity;
  const send = (event) => {
    event.preventDefault();
    sendMessage({ text: input });
    setInput("");
  };
  const stopAll = async () => {
    await stop();
    await fetch(`${api}/stop`, { method: "POST", headers });
  };
  return (
    <main data-status={status} data-activity={activity} data-error={error?.message}>
      {messages.map((message) => (
        <article key={message.id} data-role={message.role} data-id={message.id} data-end={message.metadata?.status}>
          {message.parts.map((part, index) => (
            <Part key={index} part={part} />
          ))}
        </article>
      ))}
      <form onSubmit={send}>
        <input aria-label="Message" value={input} onChange={(event) => setInput(event.target.value)} />
        <button>Send</button>
        <button type="button" onClick={stopAll}>
          Stop
        </button>
        <button type="button" onClick={() => regenerate()}>
          Regenerate
        </button>
      </form>
    </main>
  );
}

function Part({ part }) {
  if (part.type === "text") return <span className="text">{part.text}</span>;
  if (part.type === "data-job") return <output>{`${part.data.name} ${part.data.status} ${part.data.phase ?? ""}`}</output>;
  if (part.type.startsWith("tool-")) return <code data-state={part.state}>{part.type}</code>;
  return null;
}

createRoot(document.getElementById("root")).render(
  <StrictMode>
    <Page />
  </StrictMode>,
);
