"""A private containerd on an empty root, started by the tests' own program."""
import os
import pathlib
import shutil
import subprocess


class Node:
    def __init__(self, root, directory, version):
        self.program = root / "target/release/examples/node"
        self.tools = root / "target/tools" / f"containerd-{version}" / "usr/bin"
        self.dir, self.version, self.socket = directory, version, None

    def start(self):
        """Started anew, on nothing; the growth of its memory is counted from here."""
        self.stop()
        shown = subprocess.run([self.program, "start", self.dir, self.version], check=True, stdout=subprocess.PIPE, text=True)
        self.socket = shown.stdout.strip()
        self.at_start = self.memory()
        self.computed = self.cpu()

    def stop(self):
        if self.dir.exists():
            if self.socket:
                subprocess.run([self.program, "stop", self.dir], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            shutil.rmtree(self.dir)
        self.socket = None

    def memory(self):
        """The peak of containerd's own memory so far, in bytes."""
        pid = (self.dir / "pid").read_text().strip()
        for line in pathlib.Path("/proc", pid, "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return 0

    def cpu(self):
        """Seconds that containerd has computed so far, itself and what it started and waited for."""
        pid = (self.dir / "pid").read_text().strip()
        fields = pathlib.Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def growth(self):
        """What a command made of it: growth of its memory since the start, seconds computed since the last look."""
        before, self.computed = self.computed, self.cpu()
        return {"containerd": self.memory() - self.at_start, "containerd_cpu": self.computed - before}

    def ctr(self, *words):
        return [str(self.tools / "ctr"), "--address", self.socket, "--namespace", "k8s.io", *map(str, words)]
