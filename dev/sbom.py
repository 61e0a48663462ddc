"""``python -m dev.sbom FILE``: the product's bill of materials, as CycloneDX 1.6: what a deployment installs and serves.

Of the locks and tables that are in the repository, which tests hold to what is there; nothing is asked of a network. Which
package stands on which is what those say that are installed here.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dev.components import PRODUCT_LOCK, VENDORED_LOCK, Pin, licences, locked_from_npm, pins, vendored_files
from dev.procfile import ROOT


def bill_of_materials() -> Bom:
    """Raises `KeyError` where a package has no licence that was looked at."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    product = Component(
        type=ComponentType.APPLICATION, name=project["name"], version=project["version"], bom_ref=project["name"]
    )
    bom = Bom()
    bom.metadata.component = product
    packages = {pin.name: _package(pin) for pin in pins(PRODUCT_LOCK)}
    vendored = _vendored()
    bom.components.update([*packages.values(), *vendored])
    direct = [Requirement(line) for line in project["dependencies"]]
    bom.register_dependency(product, [*(packages[canonicalize_name(needed.name)] for needed in direct), *vendored])
    reached, open_ = set[tuple[str, frozenset[str]]](), [*direct]
    while open_:
        needing = open_.pop()
        name, extras = canonicalize_name(needing.name), frozenset(needing.extras)
        if (name, extras) in reached:
            continue
        reached.add((name, extras))
        needs = [needed for needed in _needs(name, extras) if canonicalize_name(needed.name) in packages]
        bom.register_dependency(packages[name], [packages[canonicalize_name(needed.name)] for needed in needs])
        open_ += needs
    return bom


def as_json(bom: Bom) -> str:
    written: str = JsonV1Dot6(bom).output_as_string(indent=2)
    return written


def _package(pin: Pin) -> Component:
    """The hashes are of the files that a package index has of it: which one is installed is the machine's to choose."""
    purl = PackageURL("pypi", None, pin.name, pin.version)
    files = ExternalReference(
        type=ExternalReferenceType.DISTRIBUTION,
        url=XsUri(f"https://pypi.org/project/{pin.name}/{pin.version}/#files"),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=content) for content in pin.sha256],
    )
    return Component(
        name=pin.name,
        version=pin.version,
        purl=purl,
        bom_ref=purl.to_string(),
        licenses=[LicenseExpression(licences()[pin.name].expression)],
        external_references=[files],
        properties=[Property(name="chatrelay:marker", value=pin.marker)] if pin.marker else [],
    )


def _vendored() -> list[Component]:
    """Each package from npm whose code is served to browsers, with the files that have it."""
    files = vendored_files()
    made = []
    for name, (version, licence) in locked_from_npm(VENDORED_LOCK).items():
        group, _, short = name.rpartition("/")
        purl = PackageURL("npm", group or None, short, version)
        holding = [file for file in files if name in file.packages]
        made.append(
            Component(
                group=group or None,
                name=short,
                version=version,
                purl=purl,
                bom_ref=purl.to_string(),
                licenses=[LicenseExpression(licence)],
                components=[
                    Component(
                        type=ComponentType.FILE,
                        name=str(file.path.relative_to(ROOT)),
                        bom_ref=f"{purl.to_string()}#{file.path.name}",
                        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=file.sha256)],
                    )
                    for file in holding
                ],
            )
        )
    return made


def _needs(name: str, extras: Iterable[str]) -> Iterator[Requirement]:
    """What the installed package asks for on this machine; nothing of one that is for others."""
    try:
        lines = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return
    for line in lines:
        needed = Requirement(line)
        if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield needed


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(as_json(bill_of_materials()))
