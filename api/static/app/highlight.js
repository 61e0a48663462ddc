/**
 * Colours in code. The highlighter is large, so it is loaded when there is the first code to show, and never waited for: code
 * stands there plain until then, and stays plain where its language is not known.
 */

/** Longer code stays plain: colouring it would make the page wait. */
const LONGEST = 50_000;

/** Colours the text of `element`, code in a language that is named as after a fence. */
export async function highlight(element, language) {
  const code = element.textContent;
  if (!language || code.length > LONGEST) return;
  const highlighter = await load();
  if (!highlighter?.getLanguage(language) || element.textContent !== code) return;
  // what it makes of the text is spans around the text, with all else escaped
  element.innerHTML = highlighter.highlight(code, { language, ignoreIllegals: true }).value;
}

async function load() {
  try {
    return (await import("../vendor/highlight.js")).default;
  } catch {
    return null; // out of reach: the next code tries again
  }
}
