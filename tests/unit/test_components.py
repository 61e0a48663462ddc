"""Nothing gets into the product unseen: pins with hashes, licences that were looked at, a bill of materials that is whole."""

from __future__ import annotations

import json
import re
from collections import deque
from importlib import metadata, resources
from pathlib import Path
from typing import Any, Final

import jsonschema_rs
import pytest
from packaging.licenses import canonicalize_license_expression

from dev import sbom
from dev.components import (
    BOOTSTRAP_LOCK,
    LICENCES,
    LOCK,
    PRODUCT_LOCK,
    VENDORED_LOCK,
    licences,
    locked_from_npm,
    pins,
    vendored_files,
)
from dev.procfile import ROOT

MAY_BE: Final = re.findall(r"`([\w.-]+)`", LICENCES.read_text().split("\n\n")[3])
"""The page's list of licences that the product may be under."""
BUNDLED_WITH_OTHERS: Final = {"scheduler"}
"""In react.js, as a part of react-dom."""


# --- licences ---------------------------------------------------------------------------------------------------


def own_words(name: str) -> str:
    """What a package says of its licence: an SPDX expression, else the first line of a text, else classifiers."""
    told = metadata.metadata(name).json
    expression, text, classifiers = (told.get(field) or "" for field in ("license_expression", "license", "classifier"))
    licences_named = [line.split(" :: ")[-1] for line in classifiers if line.startswith("License")]
    return str(expression) or str(text).split("\n")[0].strip() or ", ".join(licences_named)


def test_every_package_of_the_locks_has_a_licence_that_was_looked_at_and_nothing_else_has() -> None:
    product = {pin.name for pin in pins(PRODUCT_LOCK)}
    locked = {pin.name for lock in (LOCK, BOOTSTRAP_LOCK) for pin in pins(lock)}
    assert sorted(locked - set(licences())) == [], "look at their licences, and write their rows in docs/licences.md"
    assert sorted(set(licences()) - locked) == [], "these are in no lock any more"
    parts = {name: "product" if name in product else "development" for name in locked}
    assert {name: licence.part for name, licence in licences().items()} == parts


def test_a_package_that_changes_its_licence_is_looked_at_again() -> None:
    """The row has the words that the installed package says; only one for other machines is taken at the row's word."""
    differing = {}
    for lock in (LOCK, BOOTSTRAP_LOCK):
        for pin in pins(lock):
            row = licences()[pin.name]
            try:
                words = own_words(pin.name)
            except metadata.PackageNotFoundError:
                assert pin.marker or lock == BOOTSTRAP_LOCK, f"{pin.name} is not installed"
                continue
            if words not in (row.expression, row.words):
                differing[pin.name] = words
    assert differing == {}, "look at these licences, and change their rows in docs/licences.md"


def test_every_licence_is_an_spdx_expression_and_the_product_s_are_of_those_that_may_be() -> None:
    assert {"MIT", "Apache-2.0"} < set(MAY_BE)
    files = {str(file.path): file.licence for file in vendored_files()}
    for name, expression in [*((name, row.expression) for name, row in licences().items()), *files.items()]:
        assert canonicalize_license_expression(expression) == expression, name
    product = {name: row.expression for name, row in licences().items() if row.part == "product"}
    for name, expression in [*product.items(), *files.items()]:
        assert set(re.split(r" AND | OR |[()]", expression)) - {""} <= set(MAY_BE), name


@pytest.mark.parametrize("lock", ["tests/browser/package-lock.json", "tests/clients/package-lock.json"])
def test_packages_that_tests_take_from_npm_are_under_such_licences_too(lock: str) -> None:
    assert {
        name: licence
        for name, (_, licence) in locked_from_npm(ROOT / lock).items()
        if not set(re.split(r" OR |[()]", licence)) & set(MAY_BE)
    } == {}


# --- vendored files ---------------------------------------------------------------------------------------------


def test_what_scanners_are_told_of_vendored_files_is_what_lies_there() -> None:
    """Packages, versions and licences of VENDORED.md, whose checksums another test holds, and of dev/vendored."""
    locked = locked_from_npm(VENDORED_LOCK)
    there = {name: (file.version, file.licence) for file in vendored_files() for name in file.packages}
    assert {name: locked.get(name) for name in there} == there
    assert set(locked) - set(there) == BUNDLED_WITH_OTHERS
    asked_for = json.loads((VENDORED_LOCK.parent / "package.json").read_text())["dependencies"]
    assert asked_for == {name: version for name, (version, _) in there.items()}
    assert {file.path for file in vendored_files()} == {
        path for path in (ROOT / "api" / "static" / "vendor").iterdir() if path.suffix in (".js", ".css")
    }


# --- the bill of materials --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bill() -> Any:
    return json.loads(sbom.as_json(sbom.bill_of_materials()))


def test_the_bill_of_materials_is_valid_cyclonedx(bill: Any) -> None:
    """Against the standard's own schema, formats and SPDX ids included."""
    schemas = resources.files("cyclonedx.schema._res")

    def schema(uri: str) -> Any:
        return json.loads((schemas / uri.rpartition("/")[2]).read_text())

    validator = jsonschema_rs.Draft7Validator(
        schema("bom-1.6.SNAPSHOT.schema.json"), retriever=schema, validate_formats=True
    )
    assert [(error.instance_path, error.message) for error in validator.iter_errors(bill)] == []
    component = bill["components"][0]
    assert not validator.is_valid(bill | {"components": [component | {"licenses": [{"license": {"id": "Mine"}}]}]})
    assert bill["specVersion"] == "1.6"


def test_the_bill_of_materials_has_all_that_is_deployed_and_served(bill: Any) -> None:
    """Each package of the image's lock and of the browser files, at its version, with its licence, hashes and a purl."""
    listed = {component["purl"]: component for component in bill["components"]}
    assert len(listed) == len(bill["components"])
    packages = {f"pkg:pypi/{pin.name}@{pin.version}": pin for pin in pins(PRODUCT_LOCK)}
    assert {purl for purl in listed if purl.startswith("pkg:pypi/")} == set(packages)
    for purl, pin in packages.items():
        assert listed[purl]["licenses"] == [{"expression": licences()[pin.name].expression}]
        (reference,) = listed[purl]["externalReferences"]
        assert sorted(found["content"] for found in reference["hashes"]) == sorted(pin.sha256) != []
    npm = {component["purl"].rpartition("@")[0] for purl, component in listed.items() if purl.startswith("pkg:npm/")}
    assert len(npm) == len(locked_from_npm(VENDORED_LOCK))
    files = {
        (file["name"], file["hashes"][0]["content"]) for one in bill["components"] for file in one.get("components", [])
    }
    assert files == {(str(file.path.relative_to(ROOT)), file.sha256) for file in vendored_files()}


def test_every_component_is_there_because_something_needs_it(bill: Any) -> None:
    """From the product on; but for what only other machines need."""
    needs = {one["ref"]: one.get("dependsOn", []) for one in bill["dependencies"]}
    reached, open_ = set[str](), deque([bill["metadata"]["component"]["bom-ref"]])
    while open_:
        if (ref := open_.popleft()) not in reached:
            reached.add(ref)
            open_.extend(needs.get(ref, []))
    for component in bill["components"]:
        is_elsewhere = any(one["name"] == "chatrelay:marker" for one in component.get("properties", []))
        assert component["bom-ref"] in reached or is_elsewhere, component["bom-ref"]


# --- what is installed ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lock", [LOCK, PRODUCT_LOCK, BOOTSTRAP_LOCK], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_package_is_pinned_by_hash(lock: Path) -> None:
    """`pins` refuses a line of another shape."""
    assert [pin.name for pin in pins(lock) if not pin.sha256 or not all(len(one) == 64 for one in pin.sha256)] == []


@pytest.mark.parametrize("script", ["dev/bootstrap.sh", "ops/deploy/Dockerfile"])
def test_nothing_is_installed_without_its_hash(script: str) -> None:
    """But what lies in the clone itself, for which nothing else is fetched."""
    text = re.sub(r"\\\n *", " ", (ROOT / script).read_text())
    commands = [
        command
        for line in text.splitlines()
        for command in re.split(r"&&|\|\||;|\{", line)
        if re.search(r"^ *(if |RUN )?(\$with_(pip|uv)|\S*/(pip|uv pip)) ", command)
    ]
    assert len(commands) >= 2, commands
    assert [command for command in commands if not re.search(r"--require-hashes|--no-deps", command)] == []
