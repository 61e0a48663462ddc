/** The page's fold in Node.js. Task: a list of logs. It says `folded`: the state after each of them. */
import { leave, say, task } from "./stage.mjs";
import { fold, start } from "./page/fold.js";

say({ folded: (await task()).map((log) => log.reduce(fold, start())) });
leave();
