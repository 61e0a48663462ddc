/**
 * What is worth trying in a project that nothing was asked in yet: five requests that fit its document. Pure.
 */

export const FOR_A_VIDEO = [
  { text: "Add a title scene that says Hello", hint: "Edits the document" },
  { text: "Make the background dark blue", hint: "Edits the document" },
  { text: "Make the second scene 8 seconds long", hint: "Edits the document" },
  { text: "Build a confetti component", hint: "Writes and builds a React component" },
  { text: "What is in this document?", hint: "Reads the document" },
];

/** `[{text, hint}]`, five of them. */
export function suggestionsFor(document) {
  if (isVideo(document)) return FOR_A_VIDEO;
  return [
    edit(document),
    { text: "What is in this document?", hint: "Reads the document" },
    { text: "Write a short poem about the sea", hint: "Answers in words" },
    { text: "Show me a function in Python", hint: "Answers with code" },
    { text: "Build a confetti component", hint: "Writes and builds a React component" },
  ];
}

function isVideo(document) {
  return Array.isArray(document?.scenes) && typeof document.meta === "object" && document.meta !== null;
}

/** A change of the first list or text at the document's top that has a plain name; a new title where there is none. */
function edit(document) {
  const hint = "Edits the document";
  const members = Array.isArray(document) ? [] : Object.entries(document ?? {});
  for (const [key, value] of members.filter(([name]) => /^[A-Za-z]\w{0,30}$/.test(name))) {
    if (isListOfTexts(value)) return { text: `Add “something new” to the ${key} list`, hint };
    if (typeof value === "string") return { text: `Set ${key} to “Summer”`, hint };
  }
  return { text: Array.isArray(document) ? "Add “something new” to the list" : "Set title to “Summer”", hint };
}

function isListOfTexts(value) {
  return Array.isArray(value) && value.every((item) => typeof item === "string");
}
