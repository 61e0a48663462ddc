/**
 * What a person can do about what went wrong: an answer that failed, by its error's code, and a message that the server
 * did not take. Pure.
 */

/** `isForOperator`: trying again helps only once somebody else has done something. `rephrase`: asking differently may help. */
const OF_CODE = {
  provider_unavailable: { words: "The model's provider does not answer at present. Try again in a minute." },
  provider_rate_limited: { words: "The model's provider takes no more requests for now. Wait a minute, then try again." },
  provider_quota: {
    words: "The model's account has used up its quota. Whoever runs this server can raise it; then try again.",
    isForOperator: true,
  },
  provider_auth: {
    words: "The server's key for the model is not accepted. Whoever runs this server can put that right; then try again.",
    isForOperator: true,
  },
  provider_rejected: {
    words: "The model's provider did not take the request as it is. Ask differently, or choose another model.",
    rephrase: true,
  },
  provider_timeout: { words: "The model was silent for too long. Try again; it goes on from what is stored." },
  stream_broken: { words: "The connection to the model broke. Try again; it goes on from what is stored." },
  stream_incomplete: { words: "The model stopped in the middle. Try again; it goes on from what is stored." },
  length: { words: "The answer grew too long. Ask for it in smaller parts.", rephrase: true },
  content_filter: { words: "The model's provider held the answer back. Asking differently may help.", rephrase: true },
  refusal: { words: "The model declined. Asking differently may help.", rephrase: true },
  empty_answer: { words: "The model had nothing to say. Try again, or ask in other words.", rephrase: true },
  context_too_long: {
    words: "The document or the conversation is too long for this model. Shorten the document, or begin a new project.",
  },
  too_many_rounds: { words: "The answer needed more steps than are allowed. Ask for it in smaller parts.", rephrase: true },
  deadline: { words: "The answer took longer than is allowed. Try again, or ask for it in smaller parts.", rephrase: true },
  worker_lost: { words: "What wrote this answer was lost more than once. Try again; no change is made twice." },
  build_failed: {
    words: "The component could not be built. Try again to have it written anew, or describe it more simply.",
    rephrase: true,
  },
  internal: { words: "Something went wrong on the server. Try again; no change is made twice." },
};

const OTHER = { words: "Trying again goes on from what is stored; no change is made twice." };

/** `{words, isForOperator?, rephrase?}` for a failed answer's code; something true of all for a code that is not known. */
export function adviceFor(code) {
  return Object.hasOwn(OF_CODE, code ?? "") ? OF_CODE[code] : OTHER;
}

/** Why a message was not taken and what to do, in words; `error` is what `submit` threw (api.js). */
export function refusalWords(error) {
  const reason = error.errors?.[0]?.message ? `${error.message} (${error.errors[0].message})` : error.message;
  const advice = adviceOnRefusal(error);
  return advice ? `${reason} ${advice}` : reason;
}

function adviceOnRefusal({ status, code, retryAfterS }) {
  switch (code ?? status) {
    case "busy":
      return "Send it again once the answer is finished, or let it wait in line.";
    case "forbidden":
      return "An owner of the project can let you write in it.";
    case "too_many_unfinished":
      return "Send it again when one of your answers is finished.";
    case "quota_exceeded":
      return "Send it again tomorrow; whoever runs this server can raise the limit.";
    case "idempotency_key_reused":
      return "Choose Edit, then send it anew.";
  }
  if (status === 413) return "Shorten it, then send it again.";
  if (status === 429) return retryAfterS ? `Send it again in ${retryAfterS} s.` : "Send it again a little later.";
  if (status === 404) return "It may have been deleted, or you are no longer a member.";
  return null;
}
