"""Plays the steps of a round onto an output: a stream of chunks, or one whole answer.

`play` knows the steps and the time; an `Output` knows the wire. Pacing is by due times, so that late wake-ups do not add up.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import chain, zip_longest
from typing import Final, Protocol, assert_never

from aiohttp import web

from dev.scripted_model import pieces, script, wire
from dev.scripted_model.records import Record

# An unpaced stream lets the loop run after so many chunks, so that it is sent and a disconnect is noticed on the way.
_CHUNKS_BETWEEN_YIELDS: Final = 16


class ConnectionCut(Exception):
    """The script ended the connection; nothing more can be sent."""


class Output(Protocol):
    async def open(self, *, with_text: bool) -> None: ...
    async def text(self, piece: str) -> None: ...
    async def refusal(self, piece: str) -> None: ...
    async def tool_opening(self, index: int, call_id: str, name: str) -> None: ...
    async def tool_arguments(self, index: int, piece: str) -> None: ...
    async def raw(self, content: bytes) -> None: ...
    async def finish(self, reason: str) -> None: ...
    async def usage(self, usage: wire.Usage) -> None: ...
    async def done(self) -> None: ...
    async def cut(self, cut: script.Cut) -> None: ...


class StreamedOutput:
    """Writes Server-Sent Events; the headers and the role chunk go out with the first piece.

    Raises ConnectionError when the client is gone, ConnectionCut when the script ended the connection.
    """

    def __init__(
        self, request: web.Request, response: web.StreamResponse, encoder: wire.ChunkEncoder, record: Record
    ) -> None:
        self._request = request
        self._response = response
        self._encoder = encoder
        self._record = record
        self._opened = False
        self._cut: script.Cut | None = None

    async def open(self, *, with_text: bool) -> None:
        if not self._opened:
            self._opened = True
            await self._response.prepare(self._request)
            await self._write(self._encoder.role(with_text=with_text))

    async def text(self, piece: str) -> None:
        await self.open(with_text=True)
        await self._write_counted(self._encoder.text(piece))

    async def refusal(self, piece: str) -> None:
        await self.open(with_text=False)
        await self._write_counted(self._encoder.refusal(piece))

    async def tool_opening(self, index: int, call_id: str, name: str) -> None:
        await self.open(with_text=False)
        await self._write_counted(self._encoder.tool_opening(index, call_id, name))

    async def tool_arguments(self, index: int, piece: str) -> None:
        await self._write_counted(self._encoder.tool_arguments(index, piece))

    async def raw(self, content: bytes) -> None:
        await self.open(with_text=True)
        await self._write_counted(content)

    async def finish(self, reason: str) -> None:
        await self.open(with_text=True)
        await self._write(self._encoder.finish(reason))

    async def usage(self, usage: wire.Usage) -> None:
        await self.open(with_text=True)
        await self._write(self._encoder.usage(usage))

    async def done(self) -> None:
        await self.open(with_text=True)
        await self._write(wire.DONE)

    async def cut(self, cut: script.Cut) -> None:
        if cut.at_byte is None and not cut.inside_character:
            await self._break(cut)
        # Before the cut line stand the headers and the role chunk, so that the count of bytes is the next piece's own.
        await self.open(with_text=True)
        self._cut = cut

    async def _write_counted(self, line: bytes) -> None:
        await self._write(line)
        self._record.chunk_sent()

    async def _write(self, line: bytes) -> None:
        if self._cut is not None:
            await self._response.write(line[: _cut_position(line, self._cut)])
            await self._break(self._cut)
        await self._response.write(line)

    async def _break(self, cut: script.Cut) -> None:
        self._record.end("cut")
        await break_connection(self._request, how=cut.cut)
        raise ConnectionCut


class WholeOutput:
    """Collects an answer that is sent in one piece."""

    def __init__(self, request: web.Request, record: Record) -> None:
        self._request = request
        self._record = record
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._calls: list[wire.AnsweredCall] = []
        self._finish_reason: str | None = None
        self._usage: wire.Usage | None = None
        self._raw = b""

    async def open(self, *, with_text: bool) -> None:
        """Nothing: a whole answer has no beginning of its own."""

    async def text(self, piece: str) -> None:
        self._text.append(piece)

    async def refusal(self, piece: str) -> None:
        self._refusal.append(piece)

    async def tool_opening(self, index: int, call_id: str, name: str) -> None:
        self._calls.append(wire.AnsweredCall(id=call_id, name=name))

    async def tool_arguments(self, index: int, piece: str) -> None:
        self._calls[index].arguments += piece

    async def raw(self, content: bytes) -> None:
        self._raw += content

    async def finish(self, reason: str) -> None:
        self._finish_reason = reason

    async def usage(self, usage: wire.Usage) -> None:
        self._usage = usage

    async def done(self) -> None:
        """Nothing: only a stream has an end mark."""

    async def cut(self, cut: script.Cut) -> None:
        self._record.end("cut")
        await break_connection(self._request, how=cut.cut)
        raise ConnectionCut

    def body(self, *, completion_id: str, created_s: int, model: str) -> bytes:
        """The answer's JSON; where the script had raw bytes, those alone."""
        if self._raw:
            return self._raw
        return wire.whole_answer(
            completion_id=completion_id,
            created_s=created_s,
            model=model,
            text="".join(self._text) if self._text or not (self._calls or self._refusal) else None,
            refusal="".join(self._refusal) if self._refusal else None,
            calls=self._calls,
            finish_reason=self._finish_reason,
            usage=self._usage,
        )


async def break_connection(request: web.Request, *, how: str) -> None:
    """Ends the client's connection after what was written: `fin` closes it, `rst` resets it."""
    transport = request.transport
    if transport is None:
        return
    if how == "fin":
        transport.close()
        return
    while transport.get_write_buffer_size():
        await asyncio.sleep(0)
    # A linger time of zero makes the close a reset.
    connection: socket.socket = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _cut_position(line: bytes, cut: script.Cut) -> int:
    if cut.at_byte is not None:
        return cut.at_byte
    return next((index + 1 for index, byte in enumerate(line) if byte >= 0x80), len(line))


class Player:
    """Plays one round; made for one request."""

    def __init__(
        self,
        output: Output,
        *,
        hold: Callable[[str], Awaitable[None]],
        seed: int,
        call_id_prefix: str,
        prompt_tokens: int,
        usage_wanted: bool,
        human_pace: bool,
    ) -> None:
        """`human_pace` False turns the natural pace off; paces in seconds, waits and holds are kept."""
        self._output = output
        self._hold = hold
        self._seed = seed
        self._call_id_prefix = call_id_prefix
        self._prompt_tokens = prompt_tokens
        self._usage_wanted = usage_wanted
        self._human_pace = human_pace
        self._calls_made = 0
        self._completion_tokens = 0
        self._chunks_since_yield = 0

    async def play(self, steps: Sequence[script.Step]) -> None:
        """Plays the steps, then what they left out of the default end: finish reason, usage if asked for, `[DONE]`."""
        finish_is_stated = False
        usage: wire.Usage | None = None
        usage_is_stated = False
        done = True
        for step in steps:
            match step:
                case script.Finish(finish=reason):
                    finish_is_stated = True
                    if reason is not None:
                        await self._output.finish(reason)
                case script.SetUsage(usage=stated):
                    usage_is_stated = True
                    usage = None if stated is None else _wire_usage(stated)
                case script.Done():
                    done = step.done
                case _:
                    await self._play_step(step)
        if not finish_is_stated:
            await self._output.finish("tool_calls" if self._calls_made else "stop")
        if not usage_is_stated and self._usage_wanted:
            usage = wire.Usage(
                prompt_tokens=self._prompt_tokens,
                completion_tokens=self._completion_tokens,
                total_tokens=self._prompt_tokens + self._completion_tokens,
            )
        if usage is not None:
            await self._output.usage(usage)
        if done:
            await self._output.done()

    async def _play_step(
        self,
        step: script.Text
        | script.Repeat
        | script.Tool
        | script.Tools
        | script.Refusal
        | script.Open
        | script.Wait
        | script.Hold
        | script.Stall
        | script.Cut
        | script.Raw
        | script.Raw64,
    ) -> None:
        match step:
            case script.Text():
                await self._send_paced(_text_pieces(step), self._output.text, step.pace)
            case script.Repeat(repeat=repetition):
                repeated = (repetition.text for _ in range(repetition.count))
                await self._send_paced(repeated, self._output.text, repetition.pace)
            case script.Tool(tool=call):
                await self._send_call(call)
            case script.Tools(tools=calls, interleave=False):
                for call in calls:
                    await self._send_call(call)
            case script.Tools(tools=calls):
                await self._send_interleaved(calls)
            case script.Refusal(refusal=text):
                await self._send_paced(pieces.tokens(text), self._output.refusal, 0.0)
            case script.Open():
                await self._output.open(with_text=True)
            case script.Wait(wait=wait_s):
                await asyncio.sleep(wait_s)
            case script.Hold(hold=name):
                await self._hold(name)
            case script.Stall():
                await asyncio.Event().wait()
            case script.Cut():
                await self._output.cut(step)
            case script.Raw() | script.Raw64():
                await self._output.raw(step.content)
            case _:
                assert_never(step)

    async def _send_paced(
        self, texts: Sequence[str] | Iterator[str], send: Callable[[str], Awaitable[None]], pace: script.Pace
    ) -> None:
        if pace == "human":
            delays = pieces.human_delays(self._seed) if self._human_pace else None
        else:
            delays = pieces.even_delays(pace) if pace else None
        now = asyncio.get_running_loop().time
        due = now()
        for text in texts:
            if delays is not None:
                due += next(delays)
                await asyncio.sleep(max(0.0, due - now()))
            else:
                await self._yield_now_and_then()
            self._completion_tokens += pieces.count_tokens(text)
            await send(text)

    async def _send_call(self, call: script.ScriptedCall) -> None:
        index = await self._open_call(call)
        await self._send_paced(
            _argument_pieces(call), lambda piece: self._output.tool_arguments(index, piece), call.pace
        )

    async def _send_interleaved(self, calls: Sequence[script.ScriptedCall]) -> None:
        opened = [(await self._open_call(call), _argument_pieces(call)) for call in calls]
        by_turns = zip_longest(*([(index, piece) for piece in fragments] for index, fragments in opened))
        for fragment in chain.from_iterable(by_turns):
            if fragment is not None:
                index, piece = fragment
                await self._yield_now_and_then()
                self._completion_tokens += pieces.count_tokens(piece)
                await self._output.tool_arguments(index, piece)

    async def _open_call(self, call: script.ScriptedCall) -> int:
        index = self._calls_made
        self._calls_made += 1
        call_id = f"{self._call_id_prefix}{index:02d}" if call.id is None else call.id
        await self._output.tool_opening(index, call_id, call.name)
        return index

    async def _yield_now_and_then(self) -> None:
        self._chunks_since_yield += 1
        if self._chunks_since_yield == _CHUNKS_BETWEEN_YIELDS:
            self._chunks_since_yield = 0
            await asyncio.sleep(0)


def _text_pieces(step: script.Text) -> list[str]:
    if step.chunks is not None:
        return pieces.split(step.text, step.chunks)
    if step.chunk_size is not None:
        return pieces.sized(step.text, step.chunk_size)
    return pieces.tokens(step.text)


def _argument_pieces(call: script.ScriptedCall) -> list[str]:
    if call.every_byte:
        return list(call.arguments_text)
    return pieces.split(call.arguments_text, call.split)


def _wire_usage(usage: script.ScriptedUsage) -> wire.Usage:
    total = usage.prompt_tokens + usage.completion_tokens if usage.total_tokens is None else usage.total_tokens
    return wire.Usage(prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens, total_tokens=total)
