/** What a tool call did to the document, loaded when somebody wants to see it and kept until the project is left. */
import { changesOfVersion } from "../differences.js";
import { versionsOf } from "../document_calls.js";
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
    const { items } = version ? await versionsOf(client, visit.projectId, version + 1, 1) : { items: [] };
    if (visit.isOver) return;
    shown.value = { state: "ready", version, changes: items.flatMap(changesOfVersion) };
  } catch (error) {
    if (!visit.isOver) shown.value = { state: "failed", detail: error.message };
  }
}

/** The document's version after the call, or null: events don't tell it, the row does. */
async function versionOf(client, messageId, toolCallId) {
  const { toolCalls } = await client.message(messageId);
  return toolCalls.find((stored) => stored.toolCallId === toolCallId)?.version ?? null;
}
