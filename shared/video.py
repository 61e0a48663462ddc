"""The `video` template: a Remotion-like document of scenes, and the JSON Schema that every version of it must satisfy.

The document is `{meta: {duration, title, backgroundColor?}, scenes: [{id, type, start, duration, data,
transitionToNext?}]}`. Times are seconds from the start of the video. What `data` holds depends on the scene's `type`.

The schema (draft 2020-12) is strict and bounded: unknown properties are refused everywhere, every string, list and
number has a limit, and addresses of pictures are `https:` or `data:image/` only, because pages show them. The type's
own `data` schema is chosen by `if`/`then` and not by `oneOf`, so that a validator's message names the property that is
wrong and not "none of eleven alternatives": the model corrects itself from that message.

Only the `props` of a `custom` scene are free in their names; their values are scalars, or lists of scalars.
"""

from typing import Any, Final

MAX_SCENES: Final = 200
MAX_TITLE_CHARACTERS: Final = 200
MAX_TEXT_CHARACTERS: Final = 2_000
MAX_SCENE_ID_CHARACTERS: Final = 64
MAX_SCENE_DURATION_S: Final = 3_600
MAX_VIDEO_DURATION_S: Final = 36_000
MAX_TRANSITION_DURATION_S: Final = 10
MAX_IMAGE_ADDRESS_CHARACTERS: Final = 65_536

SCENE_TYPES: Final = (
    "text",
    "image",
    "custom",
    "background-color",
    "shape",
    "gradient",
    "particles",
    "text-animation",
    "split-screen",
    "zoom-pan",
    "svg-animation",
)

SHAPES: Final = ("circle", "ellipse", "rectangle", "triangle", "star", "line")
TRANSITION_TYPES: Final = ("fade", "slide", "wipe", "zoom", "none")

Schema = dict[str, Any]


def _string(max_characters: int, *, min_characters: int = 0) -> Schema:
    return {"type": "string", "minLength": min_characters, "maxLength": max_characters}


def _number(minimum: float, maximum: float) -> Schema:
    return {"type": "number", "minimum": minimum, "maximum": maximum}


def _positive(maximum: float) -> Schema:
    return {"type": "number", "exclusiveMinimum": 0, "maximum": maximum}


def _choice(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


def _object(properties: dict[str, Schema], *, required: tuple[str, ...] = (), **more: Any) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
        **more,
    }


def _list(items: Schema, minimum: int, maximum: int) -> Schema:
    return {"type": "array", "items": items, "minItems": minimum, "maxItems": maximum}


_TEXT = _string(MAX_TEXT_CHARACTERS, min_characters=1)
_COLOR: Schema = {"$ref": "#/$defs/color"}
_IMAGE_ADDRESS: Schema = {"$ref": "#/$defs/imageAddress"}
_POSITION = _choice("center", "top", "bottom", "left", "right", "top-left", "top-right", "bottom-left", "bottom-right")
_EASING = _choice("linear", "ease-in", "ease-out", "ease-in-out", "spring")
_SCALAR: Schema = {"type": ["string", "number", "boolean", "null"], "maxLength": MAX_TEXT_CHARACTERS}
_LETTERING: dict[str, Schema] = {
    "fontSize": _number(4, 500),
    "fontFamily": _string(100, min_characters=1),
    "fontWeight": {"type": "integer", "minimum": 100, "maximum": 900},
    "color": _COLOR,
    "backgroundColor": _COLOR,
    "align": _choice("left", "center", "right"),
    "position": _POSITION,
}
_PANE = _object({"text": _TEXT, "src": _IMAGE_ADDRESS, "color": _COLOR, "backgroundColor": _COLOR}, minProperties=1)
_VIEWPOINT = _object({"scale": _number(0.1, 20), "x": _number(-100, 200), "y": _number(-100, 200)}, required=("scale",))

_DATA: dict[str, Schema] = {
    "text": _object({"text": _TEXT, **_LETTERING}, required=("text",)),
    "image": _object(
        {
            "src": _IMAGE_ADDRESS,
            "alt": _string(500),
            "fit": _choice("cover", "contain", "fill", "none"),
            "position": _POSITION,
            "opacity": _number(0, 1),
        },
        required=("src",),
    ),
    "custom": _object(
        {
            "componentId": _string(64, min_characters=1),
            "props": {
                "type": "object",
                "maxProperties": 64,
                "propertyNames": {"maxLength": 64},
                "additionalProperties": {
                    "type": ["string", "number", "boolean", "null", "array"],
                    "maxLength": MAX_TEXT_CHARACTERS,
                    "maxItems": 200,
                    "items": _SCALAR,
                },
            },
        },
        required=("componentId",),
    ),
    "background-color": _object({"color": _COLOR}, required=("color",)),
    "shape": _object(
        {
            "shape": _choice(*SHAPES),
            "color": _COLOR,
            "width": _positive(10_000),
            "height": _positive(10_000),
            "x": _number(-100, 200),
            "y": _number(-100, 200),
            "rotation": _number(-3_600, 3_600),
            "strokeColor": _COLOR,
            "strokeWidth": _number(0, 500),
            "opacity": _number(0, 1),
        },
        required=("shape", "color"),
    ),
    "gradient": _object(
        {
            "kind": _choice("linear", "radial", "conic"),
            "colors": _list(_COLOR, 2, 8),
            "angle": _number(-360, 360),
            "animated": {"type": "boolean"},
        },
        required=("colors",),
    ),
    "particles": _object(
        {
            "count": {"type": "integer", "minimum": 1, "maximum": 2_000},
            "colors": _list(_COLOR, 1, 8),
            "shape": _choice("circle", "square", "star", "snow", "confetti"),
            "size": _positive(200),
            "speed": _number(0, 100),
            "direction": _choice("up", "down", "left", "right", "outward", "random"),
        },
        required=("count",),
    ),
    "text-animation": _object(
        {
            "text": _TEXT,
            "animation": _choice("typewriter", "fade-in", "slide-up", "bounce", "wave", "scale"),
            "speed": _positive(100),
            **_LETTERING,
        },
        required=("text", "animation"),
    ),
    "split-screen": _object(
        {
            "direction": _choice("horizontal", "vertical"),
            "ratio": _number(0.1, 0.9),
            "gap": _number(0, 200),
            "first": _PANE,
            "second": _PANE,
        },
        required=("direction", "first", "second"),
    ),
    "zoom-pan": _object(
        {"src": _IMAGE_ADDRESS, "alt": _string(500), "from": _VIEWPOINT, "to": _VIEWPOINT, "easing": _EASING},
        required=("src", "from", "to"),
    ),
    "svg-animation": _object(
        {
            "src": _IMAGE_ADDRESS,
            "paths": _list(
                _object(
                    {
                        "d": {**_string(8_000, min_characters=1), "pattern": "^[MmLlHhVvCcSsQqTtAaZz0-9eE+., -]+$"},
                        "stroke": _COLOR,
                        "strokeWidth": _number(0, 500),
                        "fill": _COLOR,
                    },
                    required=("d",),
                ),
                1,
                64,
            ),
            "viewBox": {**_string(100), "pattern": r"^-?[0-9.]+( -?[0-9.]+){3}$"},
            "animation": _choice("draw", "fade", "rotate", "scale"),
            "color": _COLOR,
        },
        required=("animation",),
        # Without a picture's address the paths are what is drawn; said as an if so that the message is "paths is required".
        **{"if": {"not": {"required": ["src"]}}, "then": {"required": ["paths"]}},
    ),
}

_SCENE: Schema = _object(
    {
        "id": {
            **_string(MAX_SCENE_ID_CHARACTERS, min_characters=1),
            "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        },
        "type": _choice(*SCENE_TYPES),
        "start": _number(0, MAX_VIDEO_DURATION_S),
        "duration": _positive(MAX_SCENE_DURATION_S),
        "data": {"type": "object"},
        "transitionToNext": _object(
            {"type": _choice(*TRANSITION_TYPES), "duration": _number(0, MAX_TRANSITION_DURATION_S)},
            required=("type", "duration"),
        ),
    },
    required=("id", "type", "start", "duration", "data"),
    allOf=[
        {
            "if": {"properties": {"type": {"const": scene_type}}, "required": ["type"]},
            "then": {"properties": {"data": {"$ref": f"#/$defs/{scene_type}"}}},
        }
        for scene_type in SCENE_TYPES
    ],
)

SCHEMA: Final[Schema] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Video",
    **_object(
        {
            "meta": _object(
                {
                    "duration": _positive(MAX_VIDEO_DURATION_S),
                    "title": _string(MAX_TITLE_CHARACTERS, min_characters=1),
                    "backgroundColor": _COLOR,
                },
                required=("duration", "title"),
            ),
            "scenes": _list({"$ref": "#/$defs/scene"}, 0, MAX_SCENES),
        },
        required=("meta", "scenes"),
    ),
    "$defs": {
        "color": {
            "type": "string",
            "maxLength": 64,
            "pattern": (
                "^(#([0-9a-fA-F]{3,4}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8})|[a-z]{3,32}|(rgb|rgba|hsl|hsla)\\([0-9., %/]+\\))$"
            ),
        },
        "imageAddress": {
            "type": "string",
            "maxLength": MAX_IMAGE_ADDRESS_CHARACTERS,
            "pattern": "^(https://[^\\s\"'<>]+|data:image/[a-z0-9.+-]+[;,][^\\s\"'<>]*)$",
        },
        "scene": _SCENE,
        **_DATA,
    },
}

_DOT = (
    "data:image/svg+xml;base64,PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciIHZpZXdCb3g9IjAgMCAxNiA5Ij48cmVjdCB3"
    "aWR0aD0iMTYiIGhlaWdodD0iOSIgZmlsbD0iIzI1NjNlYiIvPjxjaXJjbGUgY3g9IjgiIGN5PSI0LjUiIHI9IjMiIGZpbGw9IiNmYWNjMTUiLz48L3N2"
    "Zz4="
)
"""A small picture (a yellow disc on blue) that needs no network."""


def examples() -> dict[str, dict[str, Any]]:
    """A valid `data` for each of the scene types, made anew on each call."""
    return {
        "text": {"text": "Hello", "fontSize": 72, "color": "#ffffff", "align": "center"},
        "image": {"src": _DOT, "alt": "A yellow disc on blue", "fit": "cover"},
        "custom": {"componentId": "bouncing-ball", "props": {"color": "#facc15", "sizes": [1, 2, 3]}},
        "background-color": {"color": "#0f172a"},
        "shape": {"shape": "circle", "color": "#f97316", "width": 320, "height": 320, "x": 50, "y": 50},
        "gradient": {"kind": "linear", "colors": ["#2563eb", "#9333ea"], "angle": 45},
        "particles": {"count": 120, "colors": ["#facc15", "#f97316"], "shape": "circle", "direction": "up"},
        "text-animation": {"text": "Hello", "animation": "typewriter", "fontSize": 64, "color": "#ffffff"},
        "split-screen": {
            "direction": "horizontal",
            "ratio": 0.5,
            "first": {"text": "Before", "backgroundColor": "#1e293b"},
            "second": {"text": "After", "backgroundColor": "#0ea5e9"},
        },
        "zoom-pan": {
            "src": _DOT,
            "from": {"scale": 1, "x": 50, "y": 50},
            "to": {"scale": 1.4, "x": 60, "y": 40},
            "easing": "ease-in-out",
        },
        "svg-animation": {
            "paths": [{"d": "M10 50 L40 80 L90 20", "stroke": "#22c55e", "strokeWidth": 8}],
            "viewBox": "0 0 100 100",
            "animation": "draw",
        },
    }


def new_document() -> dict[str, Any]:
    """The document that a new `video` project starts with: three scenes, twelve seconds; made anew on each call."""
    return {
        "meta": {"duration": 12, "title": "My first video", "backgroundColor": "#0f172a"},
        "scenes": [
            {
                "id": "opening",
                "type": "text-animation",
                "start": 0,
                "duration": 4,
                "data": {
                    "text": "Welcome",
                    "animation": "slide-up",
                    "fontSize": 96,
                    "color": "#ffffff",
                    "align": "center",
                },
                "transitionToNext": {"type": "fade", "duration": 0.5},
            },
            {
                "id": "colours",
                "type": "gradient",
                "start": 4,
                "duration": 4,
                "data": {"kind": "linear", "colors": ["#2563eb", "#9333ea"], "angle": 45},
                "transitionToNext": {"type": "slide", "duration": 0.5},
            },
            {
                "id": "closing",
                "type": "text",
                "start": 8,
                "duration": 4,
                "data": {"text": "Tell me what to change", "fontSize": 64, "color": "#e2e8f0", "align": "center"},
            },
        ],
    }
