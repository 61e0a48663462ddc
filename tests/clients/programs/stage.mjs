/**
 * A program's side of its conversation with the test: what it is to do comes as the first line of standard input, orders
 * as the lines after it; what happens to it goes out as one JSON object a line.
 */
import readline from "node:readline";

const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** The first line: what the program is to do. */
export async function task() {
  return JSON.parse((await lines.next()).value);
}

/** Calls `obey` with every later line, until the program leaves. */
export async function obeyOrders(obey) {
  for await (const line of lines) obey(JSON.parse(line));
}

export function say(happened) {
  process.stdout.write(`${JSON.stringify(happened)}\n`);
}

/** Ends the program, whatever is still open, once all that it said has left it. */
export function leave() {
  process.stdout.write("", () => process.exit(0));
}

/** A ticket for the path of a stream, as a browser gets it. */
export async function ticketFor(path, { origin, token }) {
  const response = await fetch(`${origin}/v1/tickets`, {
    method: "POST",
    headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
    body: JSON.stringify({ path }),
  });
  if (response.status !== 201) throw new Error(`no ticket: ${response.status} ${await response.text()}`);
  return (await response.json()).ticket;
}
