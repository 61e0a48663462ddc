"""Schemathesis on the operations over HTTP: no failure of ours, nothing accepted or answered that the document forbids.

The short form is bounded and seeded; the long one is `make fuzz` (docs/fuzzing.md).
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

import pytest

from tests.fuzz import openapi
from tests.fuzzing import is_long
from tests.stack import Stack

SEED: Final = int(os.environ.get("CHATRELAY_TEST_SEED") or (secrets.randbelow(2**31) if is_long() else 7))
LONG_EXAMPLES: Final = 350
"""Of each operation, beside what is enumerated: more than 20,000 cases in all."""


@pytest.mark.parametrize("role", ["operator", "user"])
def test_the_api_does_what_its_document_says_to_whatever_is_sent(
    shared_stack: Stack, tmp_path: Path, role: str
) -> None:
    """To an operator, and to who is none; each has projects and messages, which workers answer meanwhile."""
    print(f"CHATRELAY_TEST_SEED={SEED}")
    scopes = frozenset({"ops"}) if role == "operator" else frozenset[str]()
    token, _ = shared_stack.store.create_token(f"{role}-{SEED}", scopes=scopes)
    with shared_stack.client_for(token) as client:
        for template in ({"template": "video"}, {"document": {"list": [1]}, "schema": {"type": "object"}}):
            project = client.post("/v1/projects", json={"name": "A project", **template}).json()
            client.post(f"/v1/projects/{project['id']}/messages", json={"content": "Hello"})
        outcome = openapi.run(
            shared_stack.urls[0],
            token,
            tmp_path,
            seed=SEED,
            max_examples=1 if not is_long() else LONG_EXAMPLES if role == "operator" else LONG_EXAMPLES // 10,
            phases="coverage,fuzzing,stateful" if is_long() else "fuzzing",
            without=() if is_long() else ("positive_data_acceptance",),
            paths=".*" if is_long() or role == "operator" else "^/v1/ops/",
            timeout_s=7200 if is_long() else 150,
        )
        print(f"{outcome.cases} cases, answers: {sorted(outcome.statuses.items())}")
        assert outcome.is_clean, outcome.said
        assert not [status for status in outcome.statuses if status >= 500]
        assert outcome.cases >= (20_000 if is_long() and role == "operator" else 10), outcome.said
        assert client.get("/readyz").status_code == 200
