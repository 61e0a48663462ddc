import { html } from "../html.js";

const STEPS = [
  ["second", 60],
  ["minute", 60],
  ["hour", 24],
  ["day", 30],
  ["month", 12],
  ["year", Infinity],
];
const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

/** A moment as people say it, and exactly on focus or under the pointer. */
export function Time({ at }) {
  const exact = new Date(at).toLocaleString("en", { dateStyle: "long", timeStyle: "medium" });
  return html`<time dateTime=${at} title=${exact} tabindex="0" data-exact=${exact}>${relative(Date.parse(at), Date.now())}</time>`;
}

/** How long before `now` the moment was; both in ms. */
function relative(at, now) {
  let amount = Math.max(0, Math.round((now - at) / 1000));
  for (const [unit, most] of STEPS) {
    if (amount < most) return unit === "second" && amount < 10 ? "just now" : RELATIVE.format(-amount, unit);
    amount = Math.round(amount / most);
  }
  return "";
}
