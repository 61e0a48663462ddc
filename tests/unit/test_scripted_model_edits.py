"""The scripted model's edits: the right patch for a request, and a document that stays valid whatever is asked for."""

import copy
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dev.scripted_model.draft import CannotEdit
from dev.scripted_model.edits import MAX_OPERATIONS, Edit, plan_edit
from shared import video
from shared.patching import PatchLimits, apply_patch

_VALIDATOR = jsonschema_rs.Draft202012Validator(video.SCHEMA)
_LIMITS = PatchLimits(max_operations=MAX_OPERATIONS)


def _edited(request: str, document: Any) -> Any:
    """The document after the edit that the request asks for, applied as the server applies it."""
    edit = plan_edit(request, document)
    assert edit is not None, f"nothing was planned for {request!r}"
    return apply_patch(document, list(edit.operations), _LIMITS).document


def _check(document: Any) -> None:
    assert [error.message for error in _VALIDATOR.iter_errors(document)] == []
    ids = [scene["id"] for scene in document["scenes"]]
    assert len(set(ids)) == len(ids)
    ends = [scene["start"] + scene["duration"] for scene in document["scenes"]]
    assert all(document["meta"]["duration"] >= end - 0.001 for end in ends)


@pytest.mark.parametrize(
    ("request_text", "scene_type"),
    [
        ('add a title scene saying "Hello"', "text"),
        ("Could you please add a text scene saying Hello?", "text"),
        ("add a typewriter scene saying Hello", "text-animation"),
        ("add a shape scene", "shape"),
        ("add a yellow star", "shape"),
        ("add a gradient scene from red to blue", "gradient"),
        ("add some confetti", "particles"),
        ("add another particles scene", "particles"),
        ("add a split screen scene", "split-screen"),
        ("add a zoom and pan scene", "zoom-pan"),
        ("add an svg animation scene", "svg-animation"),
        ("add a plain red scene", "background-color"),
        ("add an image scene with https://example.com/a.png", "image"),
        ("add a custom scene with 0e5d4f3c-0000-4000-8000-000000000001", "custom"),
    ],
)
def test_a_new_scene_of_each_type_follows_the_last_one_and_lengthens_the_video(
    request_text: str, scene_type: str
) -> None:
    after = _edited(request_text, video.new_document())
    _check(after)
    scene = after["scenes"][-1]
    assert (scene["type"], scene["start"], scene["duration"]) == (scene_type, 12, 4)
    assert after["meta"]["duration"] == 16


def test_the_words_of_a_scene_are_taken_whole_from_quotes_and_without_details_from_plain_words() -> None:
    quoted = _edited('add a title scene saying "Stop, and add milk for 3 seconds."', video.new_document())
    assert quoted["scenes"][-1]["data"]["text"] == "Stop, and add milk for 3 seconds."
    plain = _edited("add a text scene saying Salt and pepper for 6 seconds.", video.new_document())
    assert (plain["scenes"][-1]["data"]["text"], plain["scenes"][-1]["duration"]) == ("Salt and pepper", 6)


def test_a_scene_at_the_beginning_pushes_all_others_back() -> None:
    after = _edited("add a gradient scene at the beginning for 2 seconds", video.new_document())
    assert [scene["start"] for scene in after["scenes"]] == [0, 2, 6, 10]


@pytest.mark.parametrize(
    ("request_text", "meta"),
    [
        ("change the title to Summer", {"title": "Summer"}),
        ('rename the video to "My holiday"', {"title": "My holiday"}),
        ("call it Sunshine", {"title": "Sunshine"}),
        ("make the background blue", {"backgroundColor": "#2563eb"}),
        ("set the background colour to #0aF", {"backgroundColor": "#0af"}),
        ("I want a dark green background", {"backgroundColor": "#14532d"}),
        ("set the duration to 30 seconds", {"duration": 30}),
        ("make the video 20 seconds long", {"duration": 20}),
        ("change the title to A and make the background red", {"title": "A", "backgroundColor": "#ef4444"}),
    ],
)
def test_what_belongs_to_the_whole_video_is_set_in_meta(request_text: str, meta: dict[str, Any]) -> None:
    before = video.new_document()
    after = _edited(request_text, before)
    _check(after)
    assert after == {**before, "meta": {**before["meta"], **meta}}


@pytest.mark.parametrize(
    ("request_text", "times"),
    [
        ("make scene 2 8 seconds", [(0, 4), (4, 8), (12, 4)]),
        ("make scene 2 8 seconds long", [(0, 4), (4, 8), (12, 4)]),
        ("set the duration of the second scene to 8 seconds", [(0, 4), (4, 8), (12, 4)]),
        ("make scene 2 longer", [(0, 4), (4, 6), (10, 4)]),
        ("make the last scene 3 seconds shorter", [(0, 4), (4, 4), (8, 1)]),
        ("extend the opening scene by 2.5 seconds", [(0, 6.5), (6.5, 4), (10.5, 4)]),
        ("shorten scene 1 to 1 second", [(0, 1), (1, 4), (5, 4)]),
        ("remove the last scene", [(0, 4), (4, 4)]),
        ("remove the first scene", [(0, 4), (4, 4)]),
        ("make scene 1 2 seconds and swap the first two scenes", [(0, 4), (4, 2), (6, 4)]),
    ],
)
def test_scenes_follow_one_another_after_a_change_of_their_times(
    request_text: str, times: list[tuple[float, float]]
) -> None:
    after = _edited(request_text, video.new_document())
    _check(after)
    assert [(scene["start"], scene["duration"]) for scene in after["scenes"]] == times
    assert after["meta"]["duration"] == times[-1][0] + times[-1][1]


@pytest.mark.parametrize(
    ("request_text", "order"),
    [
        ("swap the first two scenes", ["colours", "opening", "closing"]),
        ("swap scenes 1 and 3", ["closing", "colours", "opening"]),
        ("swap scene 2 with the last scene", ["opening", "closing", "colours"]),
        ("move the last scene to the start", ["closing", "opening", "colours"]),
        ("move scene 1 after scene 2", ["colours", "opening", "closing"]),
        ("remove scene 2", ["opening", "closing"]),
        ("remove the gradient scene", ["opening", "closing"]),
        ("rename scene 2 to middle part", ["opening", "middle-part", "closing"]),
        ("duplicate scene 1", ["opening", "colours", "closing", "opening-2"]),
        ("remove all scenes", []),
    ],
)
def test_scenes_are_found_by_number_place_id_and_type(request_text: str, order: list[str]) -> None:
    after = _edited(request_text, video.new_document())
    _check(after)
    assert [scene["id"] for scene in after["scenes"]] == order


@pytest.mark.parametrize(
    "request_text",
    [
        "delete scene 9",
        "make scene 2 99999 seconds",
        "make the video 3 seconds long",
        "change the title to " + "x" * 300,
        "change the title to My first video",
        "add a custom scene",
        "change the text of scene 2 to Hello",
        "make the background of the gradient scene red",
    ],
)
def test_what_the_document_does_not_allow_is_answered_with_a_reason(request_text: str) -> None:
    with pytest.raises(CannotEdit, match=r"\w+ \w+"):
        plan_edit(request_text, video.new_document())


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        "tell me a story",
        "how do I make the background blue?",
        "what is in scene 2?",
        "thanks, remove nothing",
        "",
    ],
)
def test_talk_and_questions_are_no_edits(text: str) -> None:
    assert plan_edit(text, video.new_document()) is None


@pytest.mark.parametrize(
    ("request_text", "before", "after"),
    [
        ("set title to X", {}, {"title": "X"}),
        ('Please set the title to "A and B".', {"title": "a"}, {"title": "A and B"}),
        ("set /a/b to [1,2]", {"a": {}}, {"a": {"b": [1, 2]}}),
        ("set a.b to 3", {"a": {"b": 1}}, {"a": {"b": 3}}),
        ("set /list/0 to true", {"list": [1]}, {"list": [True]}),
        ("set a~b to 1", {"a": 1}, {"a": 1, "aB": 1}),
        ("add item milk to the list", {"list": []}, {"list": ["milk"]}),
        ("add milk to the shopping list", {"shopping": ["tea"]}, {"shopping": ["tea", "milk"]}),
        (
            "add task sweep to the list",
            {"todos": [{"text": "a", "done": True}]},
            {"todos": [{"text": "a", "done": True}, {"text": "sweep", "done": False}]},
        ),
        ("remove milk from the list", {"list": ["Milk", "tea"]}, {"list": ["tea"]}),
        ("remove foo", {"foo": 1, "bar": 2}, {"bar": 2}),
        ("rename foo to bar", {"foo": 1}, {"bar": 1}),
        ("set title to X and add item y to the list", {"list": []}, {"list": ["y"], "title": "X"}),
    ],
)
def test_any_json_document_can_be_edited_in_simple_words(request_text: str, before: Any, after: Any) -> None:
    assert _edited(request_text, before) == after


def test_a_change_of_many_places_still_fits_into_one_patch() -> None:
    document = video.new_document()
    scene = document["scenes"][0]
    document["scenes"] = [{**scene, "id": f"s{index}", "start": 4 * index} for index in range(120)]
    document["meta"]["duration"] = 480
    edit = plan_edit("make scene 1 longer", document)
    assert isinstance(edit, Edit)
    assert len(edit.operations) <= MAX_OPERATIONS
    after = apply_patch(document, list(edit.operations), _LIMITS).document
    _check(after)
    assert isinstance(after, dict)
    assert [scene["start"] for scene in after["scenes"]][:3] == [0, 6, 10]


_NUMBERS = st.one_of(st.integers(0, 9), st.sampled_from(["1", "2", "3", "two", "12", "0.5", "3600", "36000", "100000"]))
_WORDS = st.one_of(
    st.sampled_from(["Hello", "Salt and pepper", "“quoted”", "a/b~c", "x" * 250, "y" * 2_100, "at the end", "red"]),
    st.text(max_size=40),
)
_SCENE_NAMES = st.one_of(
    st.sampled_from(
        ["the last scene", "the first scene", "the second scene", "the closing scene", "the gradient scene"]
    ),
    _NUMBERS.map(lambda number: f"scene {number}"),
)
_COLORS = st.sampled_from(["blue", "dark green", "#0aF", "light red", "a nice orange", "invisible", "#12345678"])
_KINDS = st.sampled_from(
    [
        "",
        "title ",
        "text ",
        "gradient ",
        "red shape ",
        "star ",
        "particles ",
        "confetti ",
        "split screen ",
        "zoom pan ",
        "svg ",
        "image ",
        "custom ",
        "blue background ",
        "typewriter ",
        "short ",
    ]
)
_REQUESTS = st.one_of(
    st.builds("add a {}scene saying {}".format, _KINDS, _WORDS),
    st.builds("add a {}scene for {} seconds".format, _KINDS, _NUMBERS),
    st.builds("add a {}scene at the beginning".format, _KINDS),
    st.builds("add a {}scene after {}".format, _KINDS, _SCENE_NAMES),
    st.builds("make the background {}".format, _COLORS),
    st.builds("make the background of {} {}".format, _SCENE_NAMES, _COLORS),
    st.builds("make {} {}".format, _SCENE_NAMES, _COLORS),
    st.builds("change the title to {}".format, _WORDS),
    st.builds("rename {} to {}".format, _SCENE_NAMES, _WORDS),
    st.builds("change the text of {} to {}".format, _SCENE_NAMES, _WORDS),
    st.builds("make {} {}".format, _SCENE_NAMES, st.sampled_from(["longer", "shorter"])),
    st.builds("make {} {} seconds".format, _SCENE_NAMES, _NUMBERS),
    st.builds("make {} {} seconds {}".format, _SCENE_NAMES, _NUMBERS, st.sampled_from(["longer", "shorter"])),
    st.builds("set the duration to {} seconds".format, _NUMBERS),
    st.builds("remove {}".format, _SCENE_NAMES),
    st.builds("remove the {} {} scenes".format, st.sampled_from(["first", "last"]), _NUMBERS),
    st.builds("swap {} and {}".format, _SCENE_NAMES, _SCENE_NAMES),
    st.builds("move {} to the {}".format, _SCENE_NAMES, st.sampled_from(["start", "end"])),
    st.builds("move {} before {}".format, _SCENE_NAMES, _SCENE_NAMES),
    st.builds("duplicate {}".format, _SCENE_NAMES),
    st.builds("add a {} transition after {}".format, st.sampled_from(["fade", "slide", "zoom"]), _SCENE_NAMES),
    st.sampled_from(
        [
            "swap the first two scenes",
            "remove all scenes",
            "remove the transitions",
            "add a fade transition",
            "add a circle",
        ]
    ),
    _WORDS,
)


@settings(deadline=None, max_examples=300)
@given(st.lists(_REQUESTS, min_size=1, max_size=8))
def test_every_edit_of_the_template_document_applies_and_keeps_it_valid(requests: list[str]) -> None:
    document: Any = video.new_document()
    for request in requests:
        before = copy.deepcopy(document)
        try:
            edit = plan_edit(request, document)
        except CannotEdit:
            edit = None
        assert document == before, "planning changed the document that it was shown"
        if edit is not None:
            assert len(edit.operations) <= MAX_OPERATIONS
            document = apply_patch(document, list(edit.operations), _LIMITS).document
            _check(document)


@settings(deadline=None, max_examples=200)
@given(
    st.text(max_size=80),
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    ),
    st.sampled_from(["set {} to 1", "add {} to the list", "remove {}", "rename {} to x", "set /{} to 2", "{}"]),
)
def test_no_words_and_no_document_break_the_planner(words: str, document: Any, form: str) -> None:
    """Whatever is said about whatever document, there is a patch that applies, a reason, or nothing."""
    try:
        edit = plan_edit(form.format(words), document)
    except CannotEdit:
        return
    if edit is not None and isinstance(document, dict | list):
        apply_patch(document, list(edit.operations), _LIMITS)
