"""The process behind a port of this machine, and the memory that it has."""

import socket
from pathlib import Path

LISTENING = "0A"  # as /proc/net/tcp calls that state


def pid_of(host: str, port: int) -> int | None:
    """Who listens there; None: nobody here, or not to be seen by this process, or not Linux."""
    try:
        if not socket.gethostbyname(host).startswith("127."):
            return None
    except OSError:
        return None
    inodes = {f"socket:[{inode}]" for inode in _listening(port)}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(link.readlink()) in inodes for link in (folder / "fd").iterdir()):
                return int(folder.name)
        except OSError:  # ended meanwhile, or another user's
            continue
    return None


def resident_mb(pid: int | None) -> float | None:
    """Resident memory in MB of 1 000 000 bytes; None where that cannot be seen."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmRSS:")), None)


def _listening(port: int) -> list[str]:
    """Inodes of the sockets that listen on a port."""
    inodes = []
    for name in ("tcp", "tcp6"):
        try:
            rows = Path("/proc/net", name).read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            if fields[3] == LISTENING and int(fields[1].rsplit(":", 1)[1], 16) == port:
                inodes.append(fields[9])
    return inodes
