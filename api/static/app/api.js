/**
 * One HTTP call: JSON in, JSON out, refusals (application/problem+json, RFC 9457) as exceptions. Every call has a deadline.
 */

const DEADLINE_MS = 20_000;

/** The server refused, or failed. `detail` is safe to show; `code` is for programs. */
export class ApiError extends Error {
  constructor({ status, code, title, detail, errors, index, retryAfterS }) {
    super(detail || title || `HTTP ${status}`);
    this.name = "ApiError";
    this.status = status;
    this.code = code ?? null;
    this.detail = this.message;
    /** Places that are wrong, `{path, message}`; and the failing operation's index, of a patch. */
    this.errors = errors ?? [];
    this.index = index ?? null;
    this.retryAfterS = retryAfterS;
  }

  /** Whether the same call may well succeed a little later. */
  get isTransient() {
    return this.status >= 500 || this.status === 408 || this.status === 429;
  }
}

/** No answer came: the network is down, the server is, or the deadline passed. What became of the call is unknown. */
export class NoAnswer extends Error {
  constructor(cause) {
    super("The server could not be reached.", { cause });
    this.name = "NoAnswer";
    this.detail = this.message;
  }

  get isTransient() {
    return true;
  }
}

/** Sends one request; the parsed answer, null where it has no body, its text with `asText`. Throws ApiError or NoAnswer. */
export async function request(method, url, { token, body, headers, asText = false } = {}) {
  const options = { method, headers: { Accept: "application/json", ...headers } };
  options.signal = AbortSignal.timeout(DEADLINE_MS);
  if (token) options.headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) {
    options.headers["Content-Type"] ??= "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  let text;
  try {
    response = await fetch(url, options);
    text = await response.text();
  } catch (cause) {
    throw new NoAnswer(cause);
  }
  if (response.ok && asText) return text;
  const parsed = parseJson(text);
  if (response.ok) return parsed;
  const problem = parsed !== null && typeof parsed === "object" ? parsed : {};
  throw new ApiError({
    status: response.status,
    code: problem.code,
    title: problem.title,
    detail: problem.detail,
    errors: problem.errors,
    index: problem.index,
    retryAfterS: Number(response.headers.get("Retry-After")) || null,
  });
}

function parseJson(text) {
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return null;
  }
}
