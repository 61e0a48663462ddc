/** Starts the frame. Imports run in order: nothing of a component is loaded before `lockdown.js` has run. */
import "./lockdown.js";
import { start } from "./runtime.js";

start();
