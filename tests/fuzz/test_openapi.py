"""Schemathesis on the operations over HTTP: no failure of ours, nothing accepted or answered that the document forbids.

The short form is bounded and seeded; the long one is `make fuzz` (docs/fuzzing.md).
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

from tests.fuzz import openapi
from tests.fuzzing import is_long
from tests.stack import Stack

SEED: Final = int(os.environ.get("CHATRELAY_TEST_SEED") or secrets.randbelow(2**31))
LONG_EXAMPLES: Final = 90
"""Of each operation, beside what is enumerated: more than 20,000 cases in all."""


def test_the_api_does_what_its_document_says_to_whatever_is_sent(shared_stack: Stack, tmp_path: Path) -> None:
    """As a user who may see what operators see, with projects and messages of two sorts; workers answer meanwhile."""
    print(f"CHATRELAY_TEST_SEED={SEED}")
    token, _ = shared_stack.store.create_token(f"fuzzer-{SEED}", scopes=frozenset({"ops"}))
    with shared_stack.client_for(token) as client:
        for template in ({"template": "video"}, {"document": {"list": [1]}, "schema": {"type": "object"}}):
            project = client.post("/v1/projects", json={"name": "A project", **template}).json()
            client.post(f"/v1/projects/{project['id']}/messages", json={"content": "Hello"})
        outcome = openapi.run(
            shared_stack.urls[0],
            token,
            tmp_path,
            seed=SEED,
            max_examples=LONG_EXAMPLES if is_long() else 1,
            phases="coverage,fuzzing,stateful" if is_long() else "fuzzing",
            timeout_s=7200 if is_long() else 150,
        )
        print(f"{outcome.cases} cases, answers: {sorted(outcome.statuses.items())}")
        assert outcome.is_clean, outcome.said
        assert not [status for status in outcome.statuses if status >= 500]
        assert outcome.cases >= (20_000 if is_long() else 50), outcome.said
        assert client.get("/readyz").status_code == 200
