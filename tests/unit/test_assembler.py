"""The assembler: whatever way a stream is cut, it tells the same; whatever comes, it raises its own errors only."""

from __future__ import annotations

import itertools
import json
import tracemalloc
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.events import Usage
from worker.assembler import (
    MAX_LINE_BYTES,
    MAX_NAME_CHARS,
    MAX_STREAM_BYTES,
    MOST_PARTS,
    MOST_TOKENS,
    Assembler,
    DraftCall,
    MalformedStream,
    ProviderLine,
    RefusalText,
    Text,
)


def assembler(*, max_text_bytes: int = 10**6, max_arguments_bytes: int = 10**6, max_calls: int = 16) -> Assembler:
    return Assembler(max_text_bytes=max_text_bytes, max_arguments_bytes=max_arguments_bytes, max_calls=max_calls)


def chunk(delta: dict[str, Any] | None = None, *, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    choices = [{"index": 0, "delta": delta or {}, "finish_reason": finish}]
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m", "choices": choices, **fields}


def line(value: object, end: str = "\n", *, ascii_only: bool = True) -> bytes:
    return f"data: {json.dumps(value, ensure_ascii=ascii_only)}{end}{end}".encode()


def fragment(index: int, *, name: str | None = None, arguments: str | None = None, id_: str | None = None) -> Any:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    return {"index": index, "function": function} | ({"id": id_, "type": "function"} if id_ else {})


class Told(NamedTuple):
    """What a stream came to; neighbouring pieces of one kind are one."""

    text: str
    refusal: str
    order: str
    calls: list[DraftCall]
    finish_reason: str | None
    usage: Usage | None
    refused: bool
    is_too_long: bool
    is_done: bool
    failure: str | None = None


def told_by(made: Assembler, pieces: list[bytes]) -> Told:
    outputs = [output for piece in pieces for output in made.feed(piece)] + made.end()
    return Told(
        text="".join(output.content for output in outputs if isinstance(output, Text)),
        refusal="".join(output.content for output in outputs if isinstance(output, RefusalText)),
        order="".join(output.content for output in outputs),
        calls=made.calls,
        finish_reason=made.finish_reason,
        usage=made.usage,
        refused=made.refused,
        is_too_long=made.is_too_long,
        is_done=made.is_done,
        failure=None if made.failure is None else repr(made.failure),
    )


class Stream(NamedTuple):
    raw: bytes
    expected: Told


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    """A legal stream and what it comes to."""
    end = draw(st.sampled_from(["\n", "\r\n"]))
    ascii_only = draw(st.booleans())
    calls = draw(st.lists(st.tuples(TEXT, st.lists(TEXT, max_size=4)), max_size=3))
    pieces: list[tuple[str, str]] = draw(
        st.lists(st.tuples(st.sampled_from(["content", "content", "refusal"]), TEXT), max_size=6)
    )
    # the calls' fragments in turn: the first of each bears its name, and each keeps its own order
    queues = [
        [
            fragment(index, name=name, arguments="", id_=f"call-{index}"),
            *(fragment(index, arguments=part) for part in parts),
        ]
        for index, (name, parts) in enumerate(calls)
    ]
    fragments = []
    opened = 0
    while any(queues):
        ready = [index for index, queue in enumerate(queues) if queue and index <= opened]
        index = draw(st.sampled_from(ready))
        opened = max(opened, index + 1)
        fragments.append(queues[index].pop(0))
    chunks: list[dict[str, Any]] = [chunk({"role": "assistant", "content": ""})]
    chunks += [chunk({kind: piece}) for kind, piece in pieces]
    while fragments:
        size = draw(st.integers(1, 3))
        chunks.append(chunk({"tool_calls": fragments[:size]}))
        fragments = fragments[size:]
    finish = draw(st.sampled_from(["stop", "tool_calls", "length", "content_filter", None]))
    if finish is not None:
        chunks.append(chunk(finish=finish))
    usage = draw(st.none() | st.tuples(*[st.integers(0, 10**6)] * 3))
    if usage is not None:
        names = ("prompt_tokens", "completion_tokens", "total_tokens")
        chunks.append(chunk() | {"choices": [], "usage": dict(zip(names, usage, strict=True))})
    done = draw(st.booleans())
    raw = b""
    for made in chunks:
        raw += line(made, end, ascii_only=ascii_only)
        if draw(st.integers(0, 4)) == 0:
            raw += f": keep-alive{end}{end}event: ping{end}".encode()
    if done:
        raw += f"data: [DONE]{end}{end}".encode()
    elif draw(st.booleans()):
        raw = raw.rstrip(b"\r\n")  # the last line may lack its end
    refusal = "".join(piece for kind, piece in pieces if kind == "refusal")
    return Stream(
        raw,
        Told(
            text="".join(piece for kind, piece in pieces if kind == "content"),
            refusal=refusal,
            order="".join(piece for _, piece in pieces),
            calls=[DraftCall(name, "".join(parts), False) for name, parts in calls],
            finish_reason=finish,
            usage=None
            if usage is None
            else Usage(prompt_tokens=usage[0], completion_tokens=usage[1], total_tokens=usage[2]),
            refused=bool(refusal),
            is_too_long=False,
            is_done=done,
        ),
    )


def cut(raw: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(raw) + 1) for place in places), len(raw)]
    return [raw[start:stop] for start, stop in itertools.pairwise(edges)]


@given(streams(), st.lists(st.integers(0, 10**6), max_size=12))
def test_a_stream_tells_the_same_wherever_its_bytes_are_cut(stream: Stream, places: list[int]) -> None:
    """Text, refusal, interleaved calls, finish reason and usage hang on the bytes, not on the reads that brought them."""
    assert told_by(assembler(), cut(stream.raw, places)) == stream.expected


@given(streams())
def test_a_stream_may_come_byte_by_byte(stream: Stream) -> None:
    assert told_by(assembler(), [stream.raw[n : n + 1] for n in range(len(stream.raw))]) == stream.expected


def test_text_is_given_out_as_it_comes() -> None:
    """Nothing waits for a later line."""
    made = assembler()
    assert made.feed(line(chunk({"content": "Hel"})) + b"data: {") == [Text("Hel")]
    assert made.feed(line(chunk({"content": "lo"}))[len(b"data: {") :]) == [Text("lo")]


@given(st.binary(max_size=300), st.lists(st.integers(0, 10**6), max_size=4))
@example(b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n', [])
@example(b"data: " + b"[" * 5000 + b"\n", [])
@example(b'data: {"choices":"no"}\n', [])
@example(b'data: {"error":7}\n', [])
@example(b'data: {"choices":[],"usage":{"total_tokens":1e999}}\n', [])
@example(b"data: 123" + b"4" * 5000 + b"\n", [])
def test_random_bytes_break_a_stream_at_most(raw: bytes, places: list[int]) -> None:
    """Nothing is raised, and what they come to hangs on no cut."""
    assert told_by(assembler(), cut(raw, places)) == told_by(assembler(), [raw])
    told_by(assembler(), [b"data: " + raw + b"\n"])


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4)
KEYS = st.sampled_from(["choices", "delta", "content", "refusal", "tool_calls", "function", "name", "arguments"]) | (
    st.sampled_from(["index", "id", "finish_reason", "usage", "prompt_tokens", "total_tokens", "error", "type", "code"])
)


@given(
    st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5)),
)
def test_json_of_any_shape_breaks_a_stream_at_most(value: object) -> None:
    told_by(assembler(), [line(value)])


@given(
    streams(), st.lists(st.integers(0, 10**6), max_size=12), st.sampled_from([b"data: {\n", b'data: {"error":""}\n'])
)
def test_text_before_a_line_that_breaks_the_stream_is_given_out(
    stream: Stream, places: list[int], broken: bytes
) -> None:
    """Also where one read brought both: what is kept of a failed answer hangs on no cut. Nothing behind it is taken."""
    whole = line(chunk({"content": "before"})) + broken + stream.raw
    told = told_by(assembler(), cut(whole, places))
    assert (told.text, told.refusal, told.calls, told.finish_reason) == ("before", "", [], None)
    assert told.failure is not None


@pytest.mark.parametrize(
    "raw",
    [
        b"data: {nonsense\n",
        b"data: 17\n",
        b'data: {"choices":[{"delta":{"content":"\xc3("}}]}\n',
        b'data: {"choices":[{"delta":{"content":5}}]}\n',
        b'data: {"choices":[{"delta":{"tool_calls":[{"index":"x"}]}}]}\n',
    ],
)
def test_a_line_that_is_no_chunk_breaks_the_stream(raw: bytes) -> None:
    made = assembler()
    assert made.feed(raw) == []
    assert isinstance(made.failure, MalformedStream)


def test_a_last_line_that_was_cut_off_breaks_the_stream() -> None:
    made = assembler()
    assert made.feed(b'data: {"choices":[{"del') == []
    assert made.failure is None
    assert made.end() == []
    assert isinstance(made.failure, MalformedStream)


def test_a_line_without_an_end_is_given_up() -> None:
    """Memory is bounded, whatever a server sends."""
    made = assembler()
    assert made.feed(b"data: " + b"x" * (MAX_LINE_BYTES - 6)) == []
    assert made.failure is None
    assert made.feed(b"x") == []
    assert isinstance(made.failure, MalformedStream)


def test_a_stream_without_an_end_is_given_up() -> None:
    """Also where its lines are of nothing that anything else counts."""
    made, comment = assembler(), b":" + b"x" * (2**20 - 2) + b"\n"
    for _ in range(MAX_STREAM_BYTES // len(comment)):
        made.feed(comment)
    assert made.failure is None
    made.feed(comment)
    assert made.feed(line(chunk({"content": "late"}))) == []
    assert isinstance(made.failure, MalformedStream)


def test_more_parts_in_a_line_than_there_can_be_break_the_stream() -> None:
    made = assembler()
    made.feed(line(chunk({"tool_calls": [fragment(0)] * MOST_PARTS})))
    assert made.failure is None
    made.feed(line(chunk({"tool_calls": [fragment(0)] * (MOST_PARTS + 1)})))
    assert isinstance(made.failure, MalformedStream)


def test_calls_that_are_left_out_take_no_memory() -> None:
    made = assembler(max_calls=1)
    many = [line(chunk({"tool_calls": [fragment(index * 1000 + n) for n in range(1000)]})) for index in range(100)]
    tracemalloc.start()
    try:
        for one in many:
            made.feed(one)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert made.failure is None
    assert kept < 500_000


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        ({"message": "overloaded", "type": "server_error", "code": None}, "server_error", ""),
        ({"message": "no", "type": "quota", "code": "insufficient_quota"}, "quota", "insufficient_quota"),
        ({"message": "no", "code": 503}, "", "503"),
        ("it broke", "", ""),
    ],
)
def test_an_error_line_is_the_providers_failure(error: Any, kind: str, code: str) -> None:
    """Also where it comes with choices that are null, and after text."""
    made = assembler()
    assert made.feed(line(chunk({"content": "Hi"})) + line({"error": error, "choices": None})) == [Text("Hi")]
    assert isinstance(made.failure, ProviderLine)
    assert (made.failure.kind, made.failure.code) == (kind, code)


# --- what cannot be stored --------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["content", "refusal"])
def test_nul_and_lone_surrogates_are_left_out(field: str) -> None:
    """Postgres can't hold the one, UTF-8 not the other."""
    told = told_by(
        assembler(), [line(chunk({field: piece})) for piece in ("a\0b", "\ud800c", "d\udc00", "\ud83d", "e")]
    )
    assert told.order == "abcde"


@pytest.mark.parametrize("field", ["content", "refusal"])
def test_a_surrogate_pair_cut_into_two_pieces_is_joined(field: str) -> None:
    """Some servers cut their text by UTF-16 units: the reader is to see the character."""
    told = told_by(
        assembler(), [line(chunk({field: piece})) for piece in ("so \ud83d", "\ude00 so", "\ud83d", "\ude01")]
    )
    assert told.order == "so 😀 so😁"


@given(st.text(st.sampled_from("aé€😀\0\ud83d\ude00"), max_size=20), st.lists(st.integers(0, 20), max_size=5))
def test_stripped_text_hangs_on_what_came_and_not_on_its_pieces(text: str, places: list[int]) -> None:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    pieces = [text[start:stop] for start, stop in itertools.pairwise(edges)]
    told = told_by(assembler(), [line(chunk({"content": piece})) for piece in pieces])
    assert told.text == told_by(assembler(), [line(chunk({"content": text}))]).text
    assert told.text == text.replace("\0", "").encode("utf-16", "surrogatepass").decode("utf-16", "ignore")


def test_names_and_arguments_are_stripped_and_joined_too() -> None:
    told = told_by(
        assembler(),
        [
            line(chunk({"tool_calls": [fragment(0, name="na\0me", arguments='{"a":"\ud83d', id_="1")]})),
            line(chunk({"content": "\ude00"})),
            line(chunk({"tool_calls": [fragment(0, arguments='\ude00\ud800"}')]})),
        ],
    )
    assert told.calls == [DraftCall("name", '{"a":"😀"}', False)]
    assert told.text == ""


# --- limits -----------------------------------------------------------------------------------------------------


@given(TEXT, st.lists(st.integers(0, 8), max_size=3), st.integers(0, 40))
def test_an_answer_is_cut_at_its_most_bytes_and_never_inside_a_character(
    text: str, places: list[int], room: int
) -> None:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    made = assembler(max_text_bytes=room)
    pieces = [text[start:stop] for start, stop in itertools.pairwise(edges)]
    told = told_by(made, [line(chunk({"content": piece})) for piece in pieces])
    assert told.text == text.encode()[:room].decode(errors="ignore")
    assert told.is_too_long == (len(text.encode()) > room)


def test_after_the_cut_not_even_a_small_character_is_taken() -> None:
    """What is shown is the beginning of the answer, not a selection of it."""
    told = told_by(assembler(max_text_bytes=4), [line(chunk({"content": piece})) for piece in ("ab€", "c")])
    assert (told.text, told.is_too_long) == ("ab", True)


def test_an_answer_of_exactly_the_most_bytes_is_whole() -> None:
    told = told_by(assembler(max_text_bytes=5), [line(chunk({"content": "ab€"}))])
    assert (told.text, told.is_too_long) == ("ab€", False)


@given(st.lists(TEXT, max_size=6), st.integers(0, 20))
def test_arguments_are_cut_at_their_most_bytes_and_say_so(parts: list[str], room: int) -> None:
    made = assembler(max_arguments_bytes=room)
    told = told_by(
        made, [line(chunk({"tool_calls": [fragment(0, name="t", arguments=part)]})) for part in ["", *parts]]
    )
    whole = "".join(parts)
    call = told.calls[0]
    assert call.arguments == whole.encode()[:room].decode(errors="ignore")
    assert call.too_long == (len(whole.encode()) > room)


def test_calls_beyond_the_most_are_left_out_with_all_their_fragments() -> None:
    chunks = [
        fragment(index, name=f"t{index}" if first else None, arguments="{" if first else "}")
        for first in (True, False)
        for index in range(4)
    ]
    told = told_by(assembler(max_calls=2), [line(chunk({"tool_calls": [made]})) for made in chunks])
    assert told.calls == [DraftCall("t0", "{}", False), DraftCall("t1", "{}", False)]


def test_calls_that_share_an_index_are_told_apart_by_their_ids() -> None:
    """Some servers number every call 0."""
    chunks = [fragment(0, name=name, arguments=f'"{name}"', id_=f"id-{name}") for name in ("a", "b", "c")]
    late = fragment(0, arguments="late")
    told = told_by(assembler(max_calls=2), [line(chunk({"tool_calls": made})) for made in (chunks, [late])])
    assert told.calls == [DraftCall("a", '"a"', False), DraftCall("b", '"b"', False)]


def test_a_name_has_an_end() -> None:
    told = told_by(assembler(), [line(chunk({"tool_calls": [fragment(0, name="x" * 150)]}))] * 3)
    assert told.calls == [DraftCall("x" * MAX_NAME_CHARS, "", False)]


@pytest.mark.parametrize(
    ("told", "taken"), [(-5, 0), (7, 7), (10**30, MOST_TOKENS), ("7", 0), (2.5, 0), (None, 0), (True, 0), ([], 0)]
)
def test_a_figure_that_nobody_can_believe_is_brought_into_bounds(told: object, taken: int) -> None:
    made = assembler()
    made.feed(line({"usage": {"prompt_tokens": told, "completion_tokens": told, "total_tokens": told}}))
    assert made.usage == Usage(prompt_tokens=taken, completion_tokens=taken, total_tokens=taken)


def test_nothing_is_taken_after_done() -> None:
    told = told_by(assembler(), [b"data: [DONE]\n\n" + line(chunk({"content": "late"}, finish="stop"))])
    assert (told.text, told.finish_reason, told.is_done) == ("", None, True)
