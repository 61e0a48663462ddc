"""Runs a command that dies with whoever started it: `python -I -S dev/leash.py [options] COMMAND…`.

The kernel sends the command a signal as soon as its parent is gone, kill -9 included (PR_SET_PDEATHSIG, Linux). A small
program of its own rather than a `preexec_fn`, because code between fork and exec can deadlock where threads run. The
order below matters: a change of credentials clears the death signal, so it is set after it; a parent that died before
that would not be noticed, so it is looked for afterwards.

The parent, to the kernel, is the *thread* that started the process: start commands from a thread that lives as long
as they shall.
"""

import argparse
import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--signal", type=int, default=int(signal.SIGKILL), help="what the command gets (default: 9)")
    parser.add_argument("--parent", type=int, default=os.getppid(), help="the pid that must live (default: the caller)")
    parser.add_argument("--uid", type=int, help="run as this user (needs root)")
    parser.add_argument("--gid", type=int, help="and this group, without any other")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if options.uid is not None:
        os.setgroups([])
        os.setgid(options.gid)
        os.setuid(options.uid)
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, options.signal, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != options.parent:
        sys.exit(f"the process {options.parent} that asked for {command[0]} is gone")
    for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):  # Python's own settings would be inherited
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"cannot run {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
