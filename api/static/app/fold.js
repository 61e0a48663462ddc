/**
 * What a reader shows of one message, made from its events. Pure: no clock, no network, nothing is changed in place.
 *
 * The law of replay holds: the state knows its position and ignores every event at or before it, so that an event that
 * comes twice changes nothing.
 */
import { compareEventIds, endOfAttempt, isEndOfAttempt } from "./event_id.js";

/** The statuses in which a message is not written again until somebody retries it. */
export const FINAL_STATUSES = new Set(["success", "error", "cancelled"]);

/** Somebody holds the message then, and goes on with it. */
const ACTIVITY_AFTER_SNAPSHOT = { pending: "thinking", building: "building" };

/** A message before its first event. */
export function start() {
  return {
    position: null,
    content: "",
    status: "pending",
    activity: null,
    toolCalls: [],
    error: null,
    usage: null,
    timing: null,
  };
}

/**
 * A message as its row tells it. A final row stands after every event of its attempt; of an unfinished one nothing is
 * known of its events: it is shown as it is until the first event comes, which starts anew from empty text.
 */
export function fromRow(row) {
  return {
    ...row,
    position: FINAL_STATUSES.has(row.status) ? endOfAttempt(row.attempt ?? 0) : null,
    activity: row.status === "building" ? "building" : null,
    content: row.content ?? "",
    toolCalls: row.toolCalls ?? [],
    error: row.error ?? null,
    usage: row.usage ?? null,
    timing: row.timing ?? null,
  };
}

/** The event id to go on after, or null where the reader must begin at the newest attempt's start. */
export function resumeAfter(state) {
  return state.position === null || isEndOfAttempt(state.position) ? null : state.position;
}

/** The state after the event; the very same state where the event is at or before its position. */
export function fold(state, event) {
  if (state.position !== null && compareEventIds(event.id, state.position) <= 0) return state;
  const before = state.position === null ? { ...state, content: "", toolCalls: [], error: null } : state;
  return { ...before, ...change(before, event), position: event.id };
}

/** The fields that the event changes: none for a type that this reader does not know. */
function change(state, event) {
  switch (event.type) {
    case "status":
      return { activity: event.status, status: event.status === "building" ? "building" : state.status };
    case "delta":
      return { activity: "writing", content: state.content + event.content };
    case "tool_start":
      return {
        activity: "tool_calling",
        toolCalls: upsert(state.toolCalls, {
          toolCallId: event.toolCallId,
          name: event.name,
          arguments: event.arguments,
          state: "started",
        }),
      };
    case "tool_result": {
      const toolCalls = upsert(state.toolCalls, resultOf(event));
      const running = toolCalls.some((call) => call.state === "started");
      return { activity: running ? "tool_calling" : "thinking", toolCalls };
    }
    case "complete":
      return { content: event.finalContent };
    case "error":
      return {
        content: event.finalContent ?? state.content,
        error: { code: event.code, detail: event.error, retryable: event.retryable },
      };
    case "finalized":
      return {
        status: event.status,
        activity: event.status === "building" ? "building" : null,
        usage: event.usage ?? state.usage,
        timing: event.timing ?? state.timing,
        jobId: event.jobId ?? state.jobId ?? null,
      };
    case "snapshot":
      return {
        content: event.content,
        status: event.status,
        activity: ACTIVITY_AFTER_SNAPSHOT[event.status] ?? null,
        toolCalls: event.toolCalls,
        error: null,
      };
    default:
      return {};
  }
}

function resultOf(event) {
  const call = { toolCallId: event.toolCallId, name: event.name, state: event.success ? "succeeded" : "failed" };
  for (const field of ["finalContent", "error", "jobId"]) if (event[field] != null) call[field] = event[field];
  return call;
}

/** The calls with this one's fields put over those of the same toolCallId, or with it at the end. */
function upsert(calls, call) {
  if (!calls.some((known) => known.toolCallId === call.toolCallId)) return [...calls, call];
  return calls.map((known) => (known.toolCallId === call.toolCallId ? { ...known, ...call } : known));
}
