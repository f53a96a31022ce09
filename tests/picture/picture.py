#!/usr/bin/env python3
"""Draws docs/picture.svg: an export and an import in a terminal, from a real run. Called by `make picture`, as root.

    picture.py PANNIER NODE LAYOUT OUT

Both commands run in a pseudo-terminal: the export writes LAYOUT's images to an ext4 on a loop device, the import puts
them into a containerd of its own (NODE is the tests' program that starts one). Everything is mounted in a mount
namespace of its own, at the paths that a reader would use, and is gone afterwards.
"""
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.sax.saxutils import escape

import terminal

COLUMNS = 132
WIDE, HIGH, EDGE = 8.0, 18, 14  # a cell, and the margin, in pixels
INK, PALE, PAPER, BAR, TRACK, PROMPT = "#d8dee9", "#8a93a3", "#1f2430", "#7fb069", "#3b4252", "#7fb0d8"
STICK, NODE_AT, SETS = Path("/media/stick"), Path("/srv/node"), Path("/srv/sets")


def main():
    pannier, node, layout, out = (Path(argument).resolve() for argument in sys.argv[1:5])
    if os.environ.get("PICTURE_NAMESPACE") != "private":
        inside = ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv]
        sys.exit(subprocess.run(inside, env={**os.environ, "PICTURE_NAMESPACE": "private"}).returncode)
    with tempfile.TemporaryDirectory(dir=out.parent) as work:
        mounted = mount_all(Path(work), layout)
        try:
            panels = carry(pannier, node)
        finally:
            for device in reversed(mounted):
                subprocess.run(["umount", "--lazy", device], check=True)
                subprocess.run(["losetup", "-d", device], check=True)
    out.write_text(draw(panels))


def mount_all(work, layout):
    """A stick and a node's disk on loop devices, and the layout; returns the devices."""
    devices = []
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/media"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/srv"], check=True)
    for path, size in ((STICK, 1 << 30), (NODE_AT, 4 << 30)):
        image = work / f"{path.name}.img"
        with open(image, "wb") as file:
            file.truncate(size)
        device = subprocess.run(["losetup", "--show", "-f", image], check=True, stdout=subprocess.PIPE, text=True)
        devices.append(device.stdout.strip())
        subprocess.run(["mkfs.ext4", "-q", devices[-1]], check=True)
        path.mkdir()
        subprocess.run(["mount", devices[-1], path], check=True)
    SETS.mkdir()
    subprocess.run(["mount", "--bind", layout, SETS], check=True)
    return devices


def carry(pannier, node):
    """(command, screen on the way, screen at the end) of the export and of the import."""
    started = subprocess.run([node, "start", NODE_AT / "run", "2.1"], check=True, stdout=subprocess.PIPE, text=True)
    environment = {**os.environ, "CONTAINERD_ADDRESS": started.stdout.strip()}
    try:
        panels = []
        for words in (["export", "--from", "oci:sets", "--all", "--to", str(STICK)], ["import", str(STICK)]):
            os.chdir(SETS.parent)
            screens = terminal.run([pannier, *words], COLUMNS, environment)
            panels.append(("pannier " + " ".join(words), terminal.halfway(screens), screens[-1]))
            print(f"$ pannier {' '.join(words)}\n{terminal.as_text(screens[-1])}\n")
        return panels
    finally:
        os.chdir("/")
        subprocess.run([node, "stop", NODE_AT / "run"], check=True)


def draw(panels):
    lines = []
    for title, (command, on_the_way, at_the_end) in zip(("Where there is a network:", "On the node:"), panels):
        lines += [styled(title, PALE), styled(f"$ {command}", PROMPT)]
        if on_the_way is not None:
            lines += [*folded(on_the_way), styled("... and at the end:", PALE)]
            at_the_end = [row for row in at_the_end if row not in on_the_way]
        lines += [*folded(at_the_end), []]
    lines.pop()
    width, height = COLUMNS * WIDE + 2 * EDGE, len(lines) * HIGH + 2 * EDGE
    body = [text for number, line in enumerate(lines) for text in row_of(line, EDGE + number * HIGH)]
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" viewBox="0 0 {width:.0f} {height}" '
            'font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="13">')
    paper = f'<rect width="{width:.0f}" height="{height}" rx="8" fill="{PAPER}"/>'
    return "\n".join(["<!-- Drawn by tests/picture/picture.py from a real run: make picture -->", head, paper, *body, "</svg>", ""])


def styled(text, colour):
    return [(character, colour) for character in text]


def folded(lines):
    """The lines as rows of cells, broken between words where they are longer than the terminal is wide."""
    for line in lines:
        row = [(character, PALE if dim else INK) for character, dim in line]
        while len(row) > COLUMNS:
            spaces = [at for at in range(1, COLUMNS + 1) if row[at][0] == " "]
            at = spaces[-1] if spaces else COLUMNS
            yield row[:at]
            row = row[at:] if at == COLUMNS and not spaces else row[at + 1:]
        yield row


def row_of(line, top):
    """The row's bars as rectangles, and its words, each at its place: fonts differ in what they make of a row."""
    at = 0
    while at < len(line):
        kind = kind_of(line[at])
        end = at
        while end < len(line) and kind_of(line[end]) == kind:
            end += 1
        x, wide = EDGE + at * WIDE, (end - at) * WIDE
        if kind in (BAR, TRACK):
            yield f'<rect x="{x:g}" y="{top + 4}" width="{wide:g}" height="{HIGH - 8}" fill="{kind}"/>'
        elif kind:
            text = escape("".join(character for character, _ in line[at:end]))
            yield f'<text x="{x:g}" y="{top + 13}" textLength="{wide:g}" fill="{kind}">{text}</text>'
        at = end


def kind_of(cell):
    character, colour = cell
    if character == " ":
        return None
    return BAR if character == "█" else TRACK if character == "░" else colour


if __name__ == "__main__":
    main()
