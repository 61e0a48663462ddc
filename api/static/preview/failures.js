/** What goes wrong inside a component: told to the page in words, and shown in its place. */
import { Component, createElement } from "../vendor/react.js";
import { Note } from "./note.js";

/** Shows its children; once one of them throws, a note in their place. `onError(error)` is told. */
export class Boundary extends Component {
  constructor(props) {
    super(props);
    this.state = { failed: false };
  }

  static getDerivedStateFromError() {
    return { failed: true };
  }

  componentDidCatch(error) {
    this.props.onError(error);
  }

  render() {
    if (!this.state.failed) return this.props.children;
    return createElement(Note, { title: this.props.name, text: "This component failed." });
  }
}

const MOST_CHARACTERS = 500;

/** An error in a line, whatever was thrown. */
export function wordsOf(thrown) {
  let text;
  try {
    text = thrown instanceof Error ? `${thrown.name}: ${thrown.message}` : `${thrown}`;
  } catch {
    text = "something that cannot be shown was thrown";
  }
  return text.length > MOST_CHARACTERS ? `${text.slice(0, MOST_CHARACTERS)}…` : text;
}
