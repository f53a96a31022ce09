"""A private containerd on an empty root, started by the tests' own program."""
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

    def growth(self):
        return {"containerd": self.memory() - self.at_start}

    def ctr(self, *words):
        return [str(self.tools / "ctr"), "--address", self.socket, "--namespace", "k8s.io", *map(str, words)]
