/** What can be chosen in forms: as `shared/lifecycle.py` has it, to which a test holds them. */

export const STATUSES = ["pending", "building", "success", "error", "cancelled"];

export const CODES = [
  "provider_unavailable",
  "provider_rate_limited",
  "provider_quota",
  "provider_auth",
  "provider_rejected",
  "provider_timeout",
  "stream_broken",
  "stream_incomplete",
  "length",
  "content_filter",
  "refusal",
  "empty_answer",
  "context_too_long",
  "too_many_rounds",
  "deadline",
  "worker_lost",
  "build_failed",
  "internal",
];
