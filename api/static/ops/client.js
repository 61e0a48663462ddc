/** The operators' calls, and following the lifecycle of all messages. It needs nothing of the page around it. */
import { ChatRelay, Line, query } from "../app/client.js";

export class OpsClient extends ChatRelay {
  summary() {
    return this.request("GET", "/v1/ops/summary");
  }

  /** Any project's messages without their text, newest first: `{items, nextCursor}`. Filters are those of the API. */
  anyMessages(filters) {
    return this.request("GET", `/v1/ops/messages${query(filters)}`);
  }

  /** One of them: its row, rounds, tool calls, jobs and log. */
  anyMessage(messageId) {
    return this.request("GET", `/v1/ops/messages/${encodeURIComponent(messageId)}`);
  }

  cancelAny(messageId) {
    return this.request("POST", `/v1/ops/messages/${encodeURIComponent(messageId)}/cancel`);
  }

  retryAny(messageId) {
    return this.request("POST", `/v1/ops/messages/${encodeURIComponent(messageId)}/retry`);
  }

  /** Starts a batch, or with `dryRun` tells what it would be made of. The same key makes no second one. */
  reprocess(wanted, key = null) {
    const headers = key === null ? {} : { "Idempotency-Key": key };
    return this.request("POST", "/v1/ops/reprocess", { body: wanted, headers });
  }

  batches(before = null) {
    return this.request("GET", `/v1/ops/batches${query({ limit: 50, before })}`);
  }

  batch(batchId) {
    return this.request("GET", `/v1/ops/batches/${encodeURIComponent(batchId)}`);
  }

  batchItems(batchId, { state = null, before = null } = {}) {
    return this.request("GET", `/v1/ops/batches/${encodeURIComponent(batchId)}/items${query({ limit: 50, state, before })}`);
  }

  /** The batch's report as CSV. */
  batchReport(batchId) {
    return this.request("GET", `/v1/ops/batches/${encodeURIComponent(batchId)}/report.csv`, { asText: true });
  }

  /** `act`: pause, resume or stop. */
  changeBatch(batchId, act) {
    return this.request("POST", `/v1/ops/batches/${encodeURIComponent(batchId)}/${act}`);
  }

  /**
   * Follows the operators' channel until `stop()`. `onReady(summary)` comes first and again with each new connection: what
   * `onLine` gets from then on happened after it. `missed` is a line too. The others are as in `ChatRelay.follow`.
   */
  watchAll({ onReady, onLine, onConnection = () => {}, onRefused = () => {} }) {
    const watching = new WatchingAll(this, { onReady, onLine, onConnection, onRefused });
    watching.done = watching.run();
    return watching;
  }
}

class WatchingAll extends Line {
  constructor(client, { onReady, onLine, ...handlers }) {
    super(client, "/v1/ops/socket", handlers);
    this.onReady = onReady;
    this.onLine = onLine;
  }

  parameters() {
    return {};
  }

  async afterSocket() {
    return null;
  }

  take(frame) {
    if (frame.type === "ready") {
      this.failures = 0;
      this.onReady(frame.summary);
    } else if (frame.type !== "pong" && frame.type !== "error") this.onLine(frame);
    return true;
  }
}
