/** Where one message's time went, as bars on a common scale. Pure. Every figure may be lacking. */

/**
 * Of what `GET /v1/ops/messages/{id}` answers: `{totalMs, bars, marks}`. A bar is `{name, fromMs, toMs, kind, isApproximate}`
 * and a mark `{name, atMs}`, in ms since the message was enqueued; what is not known is left out.
 */
export function waterfall({ message, jobs = [], log = null }, nowMs) {
  const timing = message.timing ?? {};
  const zeroMs = Date.parse(message.enqueuedAt ?? message.createdAt);
  const isFinal = !["pending", "building"].includes(message.status);
  const totalMs = Math.max(1, timing.totalMs ?? (isFinal ? message.ageMs : nowMs - zeroMs));
  const bars = [];
  const bar = (name, fromMs, toMs, kind, isApproximate = false) => {
    const [from, to] = [Math.max(0, Math.min(fromMs, totalMs)), Math.max(0, Math.min(toMs, totalMs))];
    if (to >= from) bars.push({ name, fromMs: from, toMs: to, kind, isApproximate });
  };
  const attempts = (log?.attempts ?? []).filter((attempt) => attempt.ended >= zeroMs);
  const tools = toolIntervals(log?.events ?? [], zeroMs);
  const queuedMs = timing.queuedMs ?? (attempts.length ? attempts[0].began - zeroMs : null);
  if (queuedMs !== null) bar("Queued", 0, queuedMs, "wait");
  else if (!isFinal) bar("Queued", 0, totalMs, "wait");

  const firstTextMs = timing.firstByteMs ?? timing.firstTokenMs ?? null;
  const endMs = totalMs - (timing.commitMs ?? 0);
  const before = tools.filter(({ toMs }) => firstTextMs !== null && toMs <= firstTextMs).map(({ toMs }) => toMs);
  let atMs = Math.max(queuedMs ?? 0, ...before);
  for (const [name, ms] of [["Context", timing.contextMs], ["Connect", timing.connectMs]]) {
    if (ms == null) continue;
    bar(name, atMs, atMs + ms, "ours", attempts.length > 1);
    atMs += ms;
  }
  if (firstTextMs !== null) {
    bar("Model, to its first text", atMs, firstTextMs, "model");
    const textEndMs = lastDelta(log, zeroMs) ?? endMs;
    bar("Text", firstTextMs, Math.max(firstTextMs, Math.min(textEndMs, endMs)), "model");
  } else if (queuedMs !== null && isFinal) bar("No text came", atMs, endMs, "model");
  for (const { name, fromMs, toMs } of tools) bar(`Tool ${name}`, fromMs, toMs, "ours");
  if (tools.length === 0 && timing.toolsMs) bar("Tools", endMs - timing.toolsMs, endMs, "ours", true);
  for (const job of jobs) {
    const endedMs = isFinal ? Date.parse(job.updatedAt) : nowMs;
    bar("Build", Date.parse(job.createdAt) - zeroMs, endedMs - zeroMs, "ours");
  }
  if (timing.commitMs != null) bar("Commit", endMs, totalMs, "ours");
  if (attempts.length > 1 || (!isFinal && attempts.length)) {
    for (const { attempt, began, ended } of attempts) bar(`Attempt ${attempt}`, began - zeroMs, ended - zeroMs, "attempt");
  }
  const marks = [
    ["First event in Redis", timing.firstAppendMs],
    ["First token", timing.firstTokenMs],
  ].flatMap(([name, ms]) => (ms == null ? [] : [{ name, atMs: Math.min(ms, totalMs) }]));
  return { totalMs, bars, marks };
}

/** From each tool's start to its result, of this run: `[{name, fromMs, toMs}]`. */
function toolIntervals(events, zeroMs) {
  const begun = new Map();
  const found = [];
  for (const event of events) {
    if (event.ts < zeroMs) continue;
    if (event.type === "tool_start") begun.set(event.toolCallId, event.ts - zeroMs);
    if (event.type === "tool_result" && begun.has(event.toolCallId)) {
      found.push({ name: event.name, fromMs: begun.get(event.toolCallId), toMs: event.ts - zeroMs });
    }
  }
  return found;
}

function lastDelta(log, zeroMs) {
  const deltas = (log?.events ?? []).filter(({ type, ts }) => type === "delta" && ts >= zeroMs);
  const last = deltas.at(-1);
  return last === undefined ? null : (last.until ?? last.ts) - zeroMs;
}
