/** A program's use of the published types: checked by tsc, never run. A line that must not fit is marked as an error. */
import { ApiError, ChatRelay, fold, fromRow } from "./clients/chatrelay.js";
import type { ProjectEvent, StreamEvent } from "./clients/chatrelay.js";

const client = new ChatRelay({ token: "…", origin: "http://127.0.0.1:8000" });

export async function show(projectId: string): Promise<string> {
  const { assistantMessage } = await client.submit(projectId, "Hello", { onBusy: "interrupt" });
  let message = fromRow(assistantMessage);
  for await (const event of client.events(assistantMessage.id, { after: null })) {
    message = fold(message, event);
    if (event.type === "finalized" && event.status === "success") console.log(event.usage?.totalTokens);
    // @ts-expect-error  not every event has text
    console.log(event.content);
  }
  return message.content;
}

export async function watch(projectId: string, signal: AbortSignal): Promise<void> {
  for await (const told of client.projectEvents(projectId, { signal })) {
    if (told.type === "ready") console.log((await client.project(projectId)).version >= told.version);
    if (told.type === "document") console.log(told.operations.length);
  }
  const line = client.watch(projectId, { onReady() {}, onEvent: (event: ProjectEvent) => console.log(event.type) });
  line.stop();
}

export function text(event: StreamEvent): string {
  return event.type === "delta" ? event.content : "";
}

export async function stop(messageId: string): Promise<boolean> {
  try {
    return (await client.cancel(messageId)).status === "cancelled";
  } catch (error) {
    return error instanceof ApiError && error.code === "already_final";
  }
}
// @ts-expect-error  there is no such word
client.submit("…", "Hello", { onBusy: "wait" });
// @ts-expect-error  a client has a token
new ChatRelay({ origin: "http://127.0.0.1:8000" });
