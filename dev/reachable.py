"""Places that another user can enter.

Postgres refuses to run as root, so root runs it as `nobody`, who cannot enter, say, a clone under a 0700 home. What
`nobody` needs then lives outside the clone, in a directory of root's that only root can write to; its name is made
from the path that it stands for. A name in a directory that everybody writes to could be taken by somebody else first:
what is found there is used only if it is a directory of root's own.
"""

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

from dev.child import Identity

# Tried in order. The first is root's alone and no cleaner of old temporary files comes there.
PARENTS = (Path("/var/lib"), Path("/var/tmp"), Path(tempfile.gettempdir()))
PREFIX = "chatrelay-dev"


class NoReachablePlace(Exception):
    """There is no directory that the user `nobody` can reach and that is safe to use."""


def make_private(directory: Path) -> None:
    """Makes it if it is not there. Root's lets others pass, not look: its database server runs as somebody else."""
    if not directory.exists():
        directory.mkdir(parents=True)
        directory.chmod(0o711 if os.geteuid() == 0 else 0o700)


def can_enter(identity: Identity, directory: Path) -> bool:
    """Whether the mode bits let `identity`, without further groups, through to what lies in `directory`."""
    resolved = directory.resolve()
    return all(_may_search(identity, step.stat()) for step in (resolved, *resolved.parents))


def _may_search(identity: Identity, entry: os.stat_result) -> bool:
    if entry.st_uid == identity.uid:
        return bool(entry.st_mode & stat.S_IXUSR)
    if entry.st_gid == identity.gid:
        return bool(entry.st_mode & stat.S_IXGRP)
    return bool(entry.st_mode & stat.S_IXOTH)


def place_for(identity: Identity, path: Path) -> Path:
    """A directory of our own that `identity` can enter and that belongs to `path`: the same one each time."""
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]
    place = _own_directory(identity, f"state-{name}")
    (place / "belongs-to").write_text(f"{path.resolve()}\n")
    return place


def copy_for(identity: Identity, trees: list[Path], version: str) -> Path:
    """A directory that `identity` can enter, with a copy of the trees side by side, as they are in their own parent.

    `version` names their contents: a copy that was made once serves every clone.
    """
    place = _own_directory(identity, "programs")
    copy = place / version
    if not copy.is_dir():
        with tempfile.TemporaryDirectory(dir=place, prefix=f"{version}-") as unfinished:
            made = Path(unfinished) / "copy"
            for tree in trees:
                shutil.copytree(tree, made / tree.name, symlinks=True, ignore=shutil.ignore_patterns("include"))
            made.chmod(0o755)
            with contextlib.suppress(OSError):  # somebody else was faster: theirs is the same
                made.rename(copy)
    return copy


def _own_directory(identity: Identity, name: str) -> Path:
    refusals = []
    for parent in PARENTS:
        try:
            home = _made(parent / PREFIX)
            place = _made(home / name)
        except OSError as error:
            refusals.append(str(error))
            continue
        if can_enter(identity, place):
            return place
        refusals.append(f"{place}: its parents are closed to user {identity.uid}")
    raise NoReachablePlace("; ".join(refusals))


def _made(directory: Path) -> Path:
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o711)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"{directory} exists and is not a directory of our own")
    directory.chmod(0o711)
    return directory
