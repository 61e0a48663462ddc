"""The `video` template: its document, its eleven scene types, and messages that say what is wrong and where."""

import copy
from typing import Any

import jsonschema_rs
import pytest

from shared import video

_VALIDATOR = jsonschema_rs.Draft202012Validator(video.SCHEMA)


def _problems(document: Any) -> list[tuple[str, str]]:
    """Path and reason of everything that the schema has against the document."""
    return [
        ("".join(f"/{token}" for token in error.instance_path), error.message)
        for error in _VALIDATOR.iter_errors(document)
    ]


def _with_scene(scene_type: str, data: dict[str, Any], **more: Any) -> dict[str, Any]:
    document = video.new_document()
    document["scenes"].append({"id": "probe", "type": scene_type, "start": 12, "duration": 2, "data": data, **more})
    document["meta"]["duration"] = 14
    return document


def _objects(schema: Any) -> list[dict[str, Any]]:
    found = []
    if isinstance(schema, dict):
        if schema.get("type") == "object" and "properties" in schema:
            found.append(schema)
        for inner in schema.values():
            found += _objects(inner)
    elif isinstance(schema, list):
        for inner in schema:
            found += _objects(inner)
    return found


def test_the_schema_itself_is_a_valid_schema() -> None:
    jsonschema_rs.meta.validate(video.SCHEMA)


def test_a_new_document_is_valid_and_its_duration_ends_with_its_last_scene() -> None:
    document = video.new_document()
    assert _problems(document) == []
    assert document["meta"]["duration"] == max(scene["start"] + scene["duration"] for scene in document["scenes"])


def test_a_new_document_shares_nothing_with_the_one_before() -> None:
    first = video.new_document()
    first["scenes"][0]["data"]["text"] = "changed"
    assert video.new_document()["scenes"][0]["data"]["text"] == "Welcome"


def test_there_are_eleven_scene_types_and_an_example_of_each() -> None:
    assert len(video.SCENE_TYPES) == 11
    assert set(video.examples()) == set(video.SCENE_TYPES)


@pytest.mark.parametrize("scene_type", video.SCENE_TYPES)
def test_the_example_of_every_scene_type_is_valid(scene_type: str) -> None:
    assert _problems(_with_scene(scene_type, video.examples()[scene_type])) == []


@pytest.mark.parametrize("scene_type", video.SCENE_TYPES)
def test_an_unknown_property_in_the_data_of_any_type_is_refused_by_name_and_place(scene_type: str) -> None:
    data = {**video.examples()[scene_type], "surprise": 1}
    (problem,) = _problems(_with_scene(scene_type, data))
    assert problem == ("/scenes/3/data", "Additional properties are not allowed ('surprise' was unexpected)")


@pytest.mark.parametrize("scene_type", video.SCENE_TYPES)
def test_data_without_what_its_type_needs_is_refused_by_name_and_place(scene_type: str) -> None:
    problems = _problems(_with_scene(scene_type, {}))
    assert problems
    for path, message in problems:
        assert path == "/scenes/3/data"
        assert "is a required property" in message


@pytest.mark.parametrize(
    ("scene_type", "change", "path"),
    [
        ("text", {"text": ""}, "/scenes/3/data/text"),
        ("text", {"text": "x" * 2_001}, "/scenes/3/data/text"),
        ("text", {"color": "url(x)"}, "/scenes/3/data/color"),
        ("image", {"src": "javascript:alert(1)"}, "/scenes/3/data/src"),
        ("image", {"src": "http://example.com/a.png"}, "/scenes/3/data/src"),
        ("image", {"src": "data:text/html,<b>"}, "/scenes/3/data/src"),
        ("image", {"src": "https://example.com/" + "a" * 70_000}, "/scenes/3/data/src"),
        ("custom", {"props": {"deep": {"er": 1}}}, "/scenes/3/data/props/deep"),
        ("custom", {"props": {str(number): 1 for number in range(65)}}, "/scenes/3/data/props"),
        ("background-color", {"color": 7}, "/scenes/3/data/color"),
        ("shape", {"shape": "dodecahedron"}, "/scenes/3/data/shape"),
        ("gradient", {"colors": ["#fff"]}, "/scenes/3/data/colors"),
        ("particles", {"count": 1_000_000}, "/scenes/3/data/count"),
        ("text-animation", {"animation": "explode"}, "/scenes/3/data/animation"),
        ("split-screen", {"first": {}}, "/scenes/3/data/first"),
        ("zoom-pan", {"from": {"scale": 0}}, "/scenes/3/data/from/scale"),
        ("svg-animation", {"paths": [{"d": "<script>"}]}, "/scenes/3/data/paths/0/d"),
    ],
)
def test_a_bad_value_is_refused_at_its_own_place(scene_type: str, change: dict[str, Any], path: str) -> None:
    problems = _problems(_with_scene(scene_type, {**video.examples()[scene_type], **change}))
    assert path in [place for place, _ in problems]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("meta", "duration"), 0),
        (("meta", "duration"), "12"),
        (("meta", "title"), ""),
        (("meta", "title"), "x" * 201),
        (("meta", "author"), "me"),
        (("scenes", 0, "id"), "a b"),
        (("scenes", 0, "type"), "hologram"),
        (("scenes", 0, "start"), -1),
        (("scenes", 0, "duration"), 0),
        (("scenes", 0, "speed"), 2),
        (("scenes", 0, "transitionToNext"), {"type": "fade"}),
        (("scenes", 0, "transitionToNext"), {"type": "cube", "duration": 1}),
        (("scenes",), {}),
        (("notes",), []),
    ],
)
def test_a_broken_frame_is_refused(path: tuple[str | int, ...], value: Any) -> None:
    document: Any = video.new_document()
    parent = document
    for token in path[:-1]:
        parent = parent[token]
    parent[path[-1]] = value
    assert _problems(document)


def test_a_document_has_at_most_two_hundred_scenes() -> None:
    document = video.new_document()
    document["scenes"] = [{**copy.deepcopy(document["scenes"][0]), "id": f"s{number}"} for number in range(201)]
    assert [path for path, _ in _problems(document)] == ["/scenes"]


def test_every_object_of_the_schema_refuses_unknown_properties() -> None:
    """The one exception is the props of a custom scene, which has no properties of its own; `data` is closed by its type."""
    open_ones = [schema for schema in _objects(video.SCHEMA) if schema.get("additionalProperties") is not False]
    assert open_ones == []
