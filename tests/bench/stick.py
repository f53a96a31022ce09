"""A medium of a given speed: ext4 on a loop device that the kernel's block throttling slows down, for reading and for writing.

With version 1 of the control groups the limit is set for everybody; with version 2 the timed commands run in a group that has it.
"""
import contextlib
import pathlib

from disk import Disk

V1 = pathlib.Path("/sys/fs/cgroup/blkio")
V2 = pathlib.Path("/sys/fs/cgroup")


class Unthrottled(Exception):
    """This machine cannot slow a device down."""


class Stick(Disk):
    """Mounted at `path`; `limit` sets its speed, in bytes a second (0: as fast as it is)."""

    def __init__(self, work, size):
        super().__init__(work, "stick", size)
        self.number = pathlib.Path("/sys/class/block", pathlib.Path(self.device).name, "dev").read_text().strip()
        self.group = None

    def limit(self, bytes_per_second):
        if (V1 / "blkio.throttle.read_bps_device").exists():
            for what in ("read", "write"):
                (V1 / f"blkio.throttle.{what}_bps_device").write_text(f"{self.number} {bytes_per_second}\n")
            return
        if "io" not in (V2 / "cgroup.controllers").read_text().split():
            raise Unthrottled("neither blkio (version 1) nor io (version 2) among the control groups")
        self.group = V2 / "pannier-bench"
        (V2 / "cgroup.subtree_control").write_text("+io +memory")
        self.group.mkdir(exist_ok=True)
        speed = bytes_per_second or "max"
        (self.group / "io.max").write_text(f"{self.number} rbps={speed} wbps={speed}\n")

    def close(self):
        with contextlib.suppress(OSError, Unthrottled):
            self.limit(0)
        super().close()
        if self.group:
            self.group.rmdir()
