/** A front end's use of the published types: checked by tsc, never run. A line that must not fit is marked as an error. */
import { createTRPCClient, createWSClient, httpBatchLink, httpSubscriptionLink, splitLink, wsLink } from "@trpc/client";
import type { inferRouterOutputs } from "@trpc/server";
import superjson from "superjson";
import type { AppRouter, StreamEvent, SuperjsonAppRouter } from "./trpc.d.ts";

const url = "http://127.0.0.1:8000/trpc";
const client = createTRPCClient<AppRouter>({
  links: [
    splitLink({
      condition: ({ type }) => type === "subscription",
      true: httpSubscriptionLink({ url, connectionParams: { token: "…" } }),
      false: httpBatchLink({ url }),
    }),
  ],
});
export const socketClient = createTRPCClient<SuperjsonAppRouter>({
  links: [wsLink({ client: createWSClient({ url }), transformer: superjson })],
});
// @ts-expect-error  superjson is not what this router uses
export const mistaken = createTRPCClient<AppRouter>({ links: [httpBatchLink({ url, transformer: superjson })] });

export async function chat(projectId: string): Promise<string> {
  let text = "";
  const { assistantMessageId } = await client.chat.initiateChat.mutate({ projectId, message: "Hello" });
  client.chat.streamResponse.subscribe(
    { assistantMessageId, projectId },
    {
      onData({ id, data }) {
        const position: string = id;
        text = show(text, data) + position.slice(0, 0);
      },
      onError: (error) => console.error(error.data?.code, error.data?.httpStatus),
    },
  );
  const { assistantMessage } = await client.chat.sendMessage.mutate({ projectId, message: "And now?" });
  const page = await client.chat.getMessages.query({ projectId, limit: 10, before: assistantMessage.id });
  type Outputs = inferRouterOutputs<AppRouter>;
  const cursor: Outputs["chat"]["getMessages"]["nextCursor"] = page.nextCursor;
  // @ts-expect-error  a message has words
  await client.chat.initiateChat.mutate({ projectId });
  return text + assistantMessage.content + (cursor ?? "");
}

function show(text: string, event: StreamEvent): string {
  switch (event.type) {
    case "delta":
      return text + event.content;
    case "complete":
      return event.finalContent;
    case "error":
      return event.finalContent ?? text;
    case "status":
    case "tool_start":
    case "tool_result":
    case "finalized":
      return text;
  }
}
