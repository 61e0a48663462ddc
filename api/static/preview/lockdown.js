/**
 * Takes from the frame what its content security policy does not rule out, before any component is loaded: WebRTC, hints to
 * connect, realms of its own, the keyboard. It is the second wall, not the first: the sandbox and the policy are that.
 */

/** Elements that reach outside or have a realm of their own; the ones that are left can load only what the policy allows. */
const REFUSED = new Set(["base", "embed", "fencedframe", "frame", "frameset", "iframe", "link", "meta", "object", "portal", "script"]);

const GONE = [
  "RTCPeerConnection",
  "webkitRTCPeerConnection",
  "RTCDataChannel",
  "WebTransport",
  "Worker",
  "SharedWorker",
  "XSLTProcessor",
  "speechSynthesis",
  "SpeechSynthesisUtterance",
];

const { apply } = Reflect;
const { has } = Set.prototype;
const { toLowerCase: lowerCase, slice, indexOf } = String.prototype;

function refuse(tag) {
  throw new Error(`A component may not make <${tag}> elements.`);
}

function guard(prototype, method, position) {
  const original = prototype[method];
  const guarded = function (...given) {
    const name = `${given[position]}`; // read once: an object could say something else the next time
    const tag = apply(lowerCase, name, []);
    const local = apply(slice, tag, [apply(indexOf, tag, [":"]) + 1]);
    if (apply(has, REFUSED, [local])) refuse(local);
    given[position] = name;
    return apply(original, this, given);
  };
  disable(prototype, method, guarded);
}

function disable(holder, name, value) {
  if (holder && name in holder) Object.defineProperty(holder, name, { value, writable: false, configurable: false });
}

for (const name of GONE) disable(globalThis, name, undefined);
guard(Document.prototype, "createElement", 0);
guard(Document.prototype, "createElementNS", 1);
disable(CustomElementRegistry.prototype, "define", () => refuse("custom"));
disable(Document.prototype, "execCommand", () => false);
for (const kind of [HTMLElement, SVGElement, globalThis.MathMLElement]) disable(kind?.prototype, "focus", () => {});
disable(globalThis, "focus", () => {});
