/** What a tool call did to the document, loaded when somebody wants to see it and kept until the project is left. */
import { changesBetween } from "../changes.js";
import * as state from "../state.js";
import { session } from "./session.js";

/** Loads what the call changed, once; again where that failed. */
export async function loadChanges(messageId, call) {
  const shown = state.changesOf(call.toolCallId);
  if (shown.peek() !== null && shown.peek().state !== "failed") return;
  const { visit, client } = session;
  shown.value = { state: "loading" };
  try {
    const version = call.version ?? (await versionOf(client, messageId, call.toolCallId));
    const [before, after] = version
      ? await Promise.all([client.documentAt(visit.projectId, version - 1), client.documentAt(visit.projectId, version)])
      : [];
    if (visit.isOver) return;
    const found = version ? changesBetween(before.document, after.document) : { places: [], more: 0 };
    shown.value = { state: "ready", version, ...found };
  } catch (error) {
    if (!visit.isOver) shown.value = { state: "failed", detail: error.message };
  }
}

/** The document's version after the call, or null: events don't tell it, the row does. */
async function versionOf(client, messageId, toolCallId) {
  const { toolCalls } = await client.message(messageId);
  return toolCalls.find((stored) => stored.toolCallId === toolCallId)?.version ?? null;
}
