/**
 * Where a project's live events come from: today one socket for each unfinished message. Everything else on the page
 * knows only `Live`, so that one socket for the whole project can take its place.
 */

export class Live {
  /**
   * `onEvent(messageId, event)`: each event once, in order. `onRow(messageId, row)`: the final row, once, at the end.
   * `onRefused(messageId, error)`: the message can't be followed any more. `onConnection(connected)`: on each change.
   */
  constructor(client, { onEvent, onRow, onRefused, onConnection }) {
    this.client = client;
    this.handlers = { onEvent, onRow, onRefused, onConnection };
    this.followings = new Map();
    this.broken = new Set();
    this.connected = true;
  }

  /** Follows the message to its end, after the event `after`; does nothing where it is followed already. */
  async follow(messageId, after = null) {
    if (this.followings.has(messageId)) return;
    const following = this.client.follow(messageId, {
      after,
      onEvent: (event) => this.handlers.onEvent(messageId, event),
      onConnection: (connected) => this.note(messageId, connected),
      onRefused: (error) => this.handlers.onRefused(messageId, error),
    });
    this.followings.set(messageId, following);
    const row = await following.done;
    if (this.followings.get(messageId) !== following) return;
    this.followings.delete(messageId);
    this.note(messageId, true);
    if (row) this.handlers.onRow(messageId, row);
  }

  /** Stops following the message, without a further callback. */
  unfollow(messageId) {
    this.followings.get(messageId)?.stop();
    this.followings.delete(messageId);
    this.note(messageId, true);
  }

  /** Stops following everything, without a further callback. */
  close() {
    const followings = [...this.followings.values()];
    this.followings.clear();
    for (const following of followings) following.stop();
  }

  note(messageId, connected) {
    if (!this.followings.has(messageId) && !connected) return;
    if (connected) this.broken.delete(messageId);
    else this.broken.add(messageId);
    const all = this.broken.size === 0;
    if (all === this.connected) return;
    this.connected = all;
    this.handlers.onConnection(all);
  }
}
