"""The public suite of JSON Patch over HTTP: what applies, what is refused, and the way back by undo.

https://github.com/json-patch/json-patch-tests (Apache-2.0), unchanged in tests/cases/json-patch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from tests.fuzz.patches import same
from tests.integration.api_parts import JSON_PATCH, Api, answered

_FILES: Final = [
    Path(__file__).parents[1] / "cases" / "json-patch" / name for name in ("spec_tests.json", "tests.json")
]
CASES: Final[list[dict[str, Any]]] = [
    case for file in _FILES for case in json.loads(file.read_text()) if "patch" in case and not case.get("disabled")
]


def _is_container(value: object) -> bool:
    return isinstance(value, dict | list)


def test_the_suite_is_whole() -> None:
    assert len(CASES) == 91
    assert sum("error" in case for case in CASES) == 23


def test_every_case_of_the_suite_does_over_http_what_it_says(api: Api) -> None:
    """A document of ours is an object or an array: where a case has another, before or after, that is refused."""
    anna = api.person()
    beyond_us = 0
    for case in CASES:
        name = case.get("comment", json.dumps(case["patch"])[:60])
        made = anna.post("/v1/projects", {"name": "A case", "document": case["doc"]})
        if not _is_container(case["doc"]):
            assert made.status_code == 422, name
            beyond_us += 1
            continue
        path = f"/v1/projects/{answered(made, 201)['id']}"
        patched = anna.patch(f"{path}/document", case["patch"], media_type=JSON_PATCH)
        now = answered(anna.get(path), 200)
        if "error" in case or not _is_container(case.get("expected", {})):
            assert patched.status_code in (400, 409), (name, patched.data)
            assert (now["document"], now["version"]) == (case["doc"], 1), name
            beyond_us += "error" not in case
            continue
        assert patched.status_code == 200, (name, patched.data)
        assert same(now["document"], case.get("expected", case["doc"])), name
        undone = answered(anna.post(f"{path}/undo"), 200)
        assert same(undone["document"], case["doc"]), name
        redone = answered(anna.post(f"{path}/redo"), 200)
        assert same(redone["document"], now["document"]), name
    assert beyond_us < 20
