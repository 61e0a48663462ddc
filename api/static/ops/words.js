/** Figures as operators read them. Pure. */

const NONE = "–";

/** A duration: `850 ms`, `3.4 s`, `42 s`, `3 min 20 s`, `2 h 5 min`; a dash where there is none. */
export function duration(ms) {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return NONE;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 9_950) return `${(ms / 1000).toFixed(1)} s`;
  const s = Math.round(ms / 1000);
  if (s < 60) return `${s} s`;
  if (s < 3600) return two(Math.floor(s / 60), "min", s % 60, "s");
  if (s < 172_800) return two(Math.floor(s / 3600), "h", Math.floor((s % 3600) / 60), "min");
  return `${Math.floor(s / 86_400)} days`;
}

function two(large, largeUnit, small, smallUnit) {
  return small === 0 ? `${large} ${largeUnit}` : `${large} ${largeUnit} ${small} ${smallUnit}`;
}

/** A count: `12,345`; a dash where there is none. */
export function count(number) {
  return number === null || number === undefined ? NONE : number.toLocaleString("en");
}

/** `1 message`, `2 messages`. */
export function counted(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

/** So many a second, with as many digits as say something. */
export function perSecond(number) {
  if (number === null || number === undefined) return NONE;
  return number >= 100 ? count(Math.round(number)) : number >= 10 ? number.toFixed(1) : number.toFixed(2);
}

/** A part of a whole in per cent; a dash where the whole is nothing. */
export function share(part, whole) {
  if (!whole) return NONE;
  const percent = (100 * part) / whole;
  return `${percent === 0 || percent >= 10 ? Math.round(percent) : percent.toFixed(1)} %`;
}

/** Bytes: `640 B`, `12.3 kB`. */
export function bytes(number) {
  if (number === null || number === undefined) return NONE;
  return number < 1000 ? `${number} B` : `${(number / 1000).toFixed(1)} kB`;
}

/** An id's end: ids begin with their time, so that those of one hour look alike at their beginning. */
export function shortId(id) {
  return id ? `…${id.slice(-8)}` : NONE;
}

/** The time of day, local: `03:12:07`. `at` is ms since the epoch, or a time as text. */
export function clock(at) {
  if (at === null || at === undefined) return NONE;
  return new Date(at).toLocaleTimeString("en-GB");
}

/** The same with its date where that is not today, by `nowMs`. */
export function moment(at, nowMs) {
  if (at === null || at === undefined) return NONE;
  const date = new Date(at);
  if (date.toDateString() === new Date(nowMs).toDateString()) return clock(at);
  return `${date.toLocaleDateString("en-CA")} ${clock(at)}`;
}

/** A code or a status as words: `provider_rate_limited` → `provider rate limited`. */
export function spaced(code) {
  return code.replaceAll("_", " ");
}
