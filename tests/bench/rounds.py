"""Times commands in turn, A B A B, and keeps what each took."""
import dataclasses
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time


@dataclasses.dataclass
class Contender:
    """One way of doing the work of a case.

    `before` makes everything ready for a round and returns the command, `after` cleans up; neither is timed.
    """

    name: str
    before: callable
    after: callable = lambda: None
    group: object = None  # a control group that the command runs in
    most: int = 0  # MiB of memory that the command may take; 0 where nothing is promised


@dataclasses.dataclass
class Taken:
    seconds: list
    peak: list  # of the command's memory, in bytes
    cpu: list  # seconds that the command and its children computed
    notes: dict  # whatever `after` returned, the largest of each

    def median(self):
        return statistics.median(self.seconds)


def timed(command, group=None):
    """Runs a command; its seconds, the peak of its memory and its processor's seconds. What it prints is shown when it fails.

    Started by time(1), which is small: a process counts what its parent held when it was made as memory of its own.
    """

    def enter():
        (group() / "cgroup.procs").write_text(str(os.getpid()))

    with tempfile.NamedTemporaryFile("r") as report:
        command = ["/usr/bin/time", "-q", "-f", "%M %U %S", "-o", report.name, *map(str, command)]
        begun = time.monotonic()
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                              errors="replace", check=False, preexec_fn=enter if group and group() else None)
        seconds = time.monotonic() - begun
        if done.returncode != 0:
            sys.stderr.write(done.stderr)
            raise RuntimeError(f"exit status {done.returncode}: {command}")
        peak, user, system = report.read().split()
        return seconds, int(peak) * 1024, float(user) + float(system)


def forget(path="/proc/sys/vm/drop_caches"):
    """Writes everything out and empties the page cache."""
    os.sync()
    pathlib.Path(path).write_text("3\n")


def compare(contenders, rounds, cold=False):
    """Runs the contenders in turn, `rounds` times; what each took, by name."""
    taken = {contender.name: Taken([], [], [], {}) for contender in contenders}
    for number in range(rounds):
        for contender in contenders:
            command = contender.before()
            if cold:
                forget()
            else:
                os.sync()
            try:
                seconds, peak, cpu = timed(command, contender.group)
            finally:
                notes = contender.after() or {}
            entry = taken[contender.name]
            entry.seconds.append(seconds)
            entry.peak.append(peak)
            entry.cpu.append(cpu)
            for key, value in notes.items():
                entry.notes[key] = max(value, entry.notes.get(key, 0))
            print(f"    round {number + 1}  {contender.name:<28} {seconds:8.2f} s  {peak >> 20:6} MiB", file=sys.stderr, flush=True)
    return taken
