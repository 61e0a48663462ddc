// POST /<stream id>: the model's answer as Server-Sent Events, resumable by the package `resumable-stream`.
// GET /<stream id>: the same to another reader, who gets it through Redis.

import { createServer } from "node:http";
import { createResumableStreamContext } from "resumable-stream";

const { OPENAI_BASE_URL, PORT } = process.env; // and REDIS_URL, which the package reads
const context = createResumableStreamContext({ waitUntil: (promise) => promise });

const question = JSON.stringify({
  model: "bench",
  messages: [{ role: "user", content: "Say something" }],
  stream: true,
});

/** The deltas of the model's answer, each as one event. */
function deltas() {
  return new ReadableStream({
    async start(controller) {
      const answer = await fetch(`${OPENAI_BASE_URL}/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: "Bearer none" },
        body: question,
      });
      let rest = "";
      let n = 0;
      for await (const text of answer.body.pipeThrough(new TextDecoderStream())) {
        const lines = (rest + text).split("\n");
        rest = lines.pop();
        for (const line of lines) {
          if (!line.startsWith("data: {")) continue;
          const content = JSON.parse(line.slice(6)).choices[0]?.delta?.content;
          if (content) controller.enqueue(`data: ${JSON.stringify({ type: "delta", id: n++, content })}\n\n`);
        }
      }
      controller.close();
    },
  });
}

createServer(async (request, response) => {
  const id = request.url.slice(1);
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.flushHeaders();
  const isNew = request.method === "POST";
  const stream = isNew ? await context.createNewResumableStream(id, deltas) : await context.resumeExistingStream(id);
  for await (const text of stream) response.write(text);
  response.end();
}).listen(Number(PORT), "127.0.0.1", () => console.log("listening"));
