"""A language model that is none: an OpenAI-compatible server whose answers hang on the request alone.

    python -m dev.scripted_model --port 8100 [--pace human|full]

It serves `POST /v1/chat/completions` (streamed and not), `GET /v1/models` and `GET /healthz` on 127.0.0.1, takes any model's
name and any key, and writes one line a request to standard error; its address is the first line on standard output (port 0
takes a free one). SIGTERM stops it at once, answers in progress included.

To free text it answers in English at about 40 tokens a second (`--pace full`: as fast as it can). Where the system prompt
shows the project's document between the lines `<document version="N">` and `</document>`, it answers questions about it, and
where the tool is offered it edits it: *add a title scene saying “Hello”*, *make the background dark blue*, *set title to
Summer*, *add item milk to the list*. Asked for a component, animation or effect it calls `generateRemotionComponent`, where that
is offered; a system prompt with a line `chatrelay-builder`, and no tools, is answered with TSX.

Scripts
-------

A test says exactly what is to be answered by a script, in one of two ways:

- in the message: a line that begins with `#script `, and the script's JSON from there to the message's end;
- over HTTP: `POST /control/scripts` `{"match": text, "script": {...}, "times": n | null}`. It answers requests whose newest
  user message contains `match` (the newest registration wins), `times` requests long, or always.

`dev.scripted_model.control` is the client for tests. A script is `{"rounds": [round, ...]}`. A request gets the round whose index
is the number of the assistant's messages with tool calls behind the newest user message, so that a repeated request gets the
same round again; behind the last round the answer is the text "Done.". A round is one of

| round | answers |
| --- | --- |
| `{"steps": [step, ...]}` | 200, the steps one after the other |
| `{"status": 429, "headers"?: {"Retry-After": "1"}, "error"?: {...}, "body"?: "..."}` | an HTTP error (400 to 599) with OpenAI's body; `error` sets fields inside its `error`, `body` replaces the whole |
| `{"attempts": [round, ...]}` | the first of them to the first request for this round (same script, same newest user message), the second to the second, the last to all later ones |

Every step has exactly one of these keys; unknown fields are refused:

| step | does |
| --- | --- |
| `{"text": "...", "chunks"?: n, "chunk_size"?: c, "pace"?: s}` | text in n pieces of about the same length, or of c characters each, or a token each; s seconds between two pieces (default 0), or `"human"` |
| `{"repeat": {"text": "...", "count": n, "pace"?: s}}` | the same piece n times |
| `{"tool": {"name": "...", "arguments"?: {...} or "...", "id"?: "...", "split"?: n, "every_byte"?: true, "pace"?: s}}` | a tool call; arguments as a string go out as they are, JSON or not; in n fragments, or one for each character |
| `{"tools": [{...}, ...], "interleave"?: true}` | several calls in order, or with their fragments in turn |
| `{"refusal": "..."}` | a refusal |
| `{"open": true}` | sends the headers and the role chunk now; otherwise they go out with the first piece |
| `{"wait": s}` | waits s seconds |
| `{"hold": "name"}` | waits until `POST /control/release` `{"name": "name"}`, which also lets go all later holds of the name, until a reset |
| `{"stall": true}` | sends nothing more, for ever, and keeps the connection open |
| `{"cut": "fin" or "rst", "at_byte"?: n, "inside_character"?: true}` | closes or resets the connection: now, or inside the next line (`data: ...` and its end) after n of its bytes, or after the first byte of its first character outside ASCII |
| `{"raw": "..."}`, `{"raw64": "..."}` | these bytes (a character a byte, or base64), line ends included |
| `{"finish": "stop" or "length" or "tool_calls" or "content_filter" or null}` | sends this finish reason now; null: none at all |
| `{"usage": {"prompt_tokens": n, "completion_tokens": n, "total_tokens"?: n} or null}` | what the usage chunk says, asked for or not; null: no such chunk |
| `{"done": false}` | leaves out `[DONE]` |

Where the steps don't say it, the answer ends with a finish reason (`tool_calls` after a call, else `stop`), the usage if asked for
(counted from the lengths) and `[DONE]`. To cut before any byte of the answer, begin with a plain `cut`; to be silent behind the
headers, `open` and then `stall`. Paces, waits and holds of a script are kept at `--pace full` too; only `"human"` is not.

Control
-------

| call | does |
| --- | --- |
| `POST /control/scripts`, `DELETE /control/scripts` | adds a script (201, or 400 with the place and the reason in `detail`); forgets all |
| `GET /control/requests` | `{"items": [...], "count": n}`: the requests to the model since the last reset (the newest 1,000), each with `number` (from 0), `model`, `messages`, `tools`, `request` (its whole body), `headers` (lower case, none that authenticate), `status`, `outcome` (null, `finished`, `refused`, `cut`, `disconnected`), `disconnected`, `chunks_sent`, `answered_by`, `round`, `times_seen` (before it, where the round has attempts), `received_ms`, `first_chunk_ms`, `ended_ms` |
| `GET /control/wait?...&timeout=10` | answers 200 as soon as it is so, 504 when it was not within the seconds: `requests=n` (that many came), `request=k&chunks_sent=n`, `disconnected=k` (the client of request k left), `ended=k`, `held=name` (a stream came to that hold) |
| `POST /control/release` `{"name": "..."}` | lets go what is held under the name |
| `POST /control/reset` | forgets scripts, requests and releases, lets go what is held; numbers begin at 0 again |

`chunks_sent` counts the lines that bear content: pieces of text, refusal and tool calls, and raw bytes.
"""  # noqa: E501  # a row of a table can't be broken
