/** A labelled placeholder for what cannot be shown. */
import { createElement as h } from "../vendor/react.js";

const BOX = {
  position: "absolute",
  inset: 0,
  display: "flex",
  flexDirection: "column",
  alignItems: "center",
  justifyContent: "center",
  gap: 12,
  padding: 40,
  boxSizing: "border-box",
  textAlign: "center",
  color: "#cbd5e1",
  background: "repeating-linear-gradient(45deg, #1e293b 0 24px, #24324a 24px 48px)",
  fontSize: 32,
};

export function Note({ title, text }) {
  return h(
    "div",
    { style: BOX, "data-note": "" },
    h("strong", { dir: "auto", style: { fontSize: 40, overflowWrap: "anywhere" } }, title),
    h("span", { dir: "auto", style: { overflowWrap: "anywhere", maxWidth: "100%" } }, text),
  );
}
