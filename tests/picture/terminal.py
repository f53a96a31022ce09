"""A terminal: runs a command in it, and keeps what its screen showed, moment by moment."""
import os
import pty
import re
import select
import struct
import subprocess
import fcntl
import termios

CONTROL = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])")


class Screen:
    """Rows of cells, each a character and whether it is dim. It grows downwards and never scrolls."""

    def __init__(self, columns):
        self.columns, self.rows, self.row, self.column, self.dim = columns, [[]], 0, 0, False
        self.continued = set()  # rows that go on with the line of the row above

    def feed(self, text):
        at = 0
        while at < len(text):
            control = CONTROL.match(text, at)
            if control:
                self.control(control[2], [int(n) for n in control[1].split(";") if n.isdigit()])
                at = control.end()
                continue
            self.put(text[at])
            at += 1

    def control(self, letter, numbers):
        count = max(numbers[0], 1) if numbers else 1
        if letter == "A":
            self.row = max(self.row - count, 0)
        elif letter == "B":
            self.move_to(self.row + count)
        elif letter == "K":
            whole = numbers[:1] == [2]
            self.rows[self.row][0 if whole else self.column:] = []
        elif letter == "J":
            self.rows[self.row][self.column:] = []
            del self.rows[self.row + 1:]
        elif letter == "m":
            self.dim = 2 in numbers

    def put(self, character):
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self.move_to(self.row + 1)
            self.continued.discard(self.row)
        elif character >= " ":
            if self.column == self.columns:
                self.column = 0
                self.move_to(self.row + 1)
                self.continued.add(self.row)
            row = self.rows[self.row]
            row.extend([(" ", False)] * (self.column + 1 - len(row)))
            row[self.column] = (character, self.dim)
            self.column += 1

    def move_to(self, row):
        self.row = row
        while len(self.rows) <= row:
            self.rows.append([])

    def shown(self):
        """The lines, each whole: a row that ends at the edge goes on in the next, unless it is one of progress bars,
        which are filled up to the edge."""
        lines = []
        for number, row in enumerate(self.rows):
            if number in self.continued and lines and not has_bar(lines[-1]) and not has_bar(row):
                lines[-1] += row
            else:
                lines.append(row[:])
        while lines and not "".join(character for character, _ in lines[-1]).strip():
            lines.pop()
        return lines


def has_bar(row):
    return any(character in "█░" for character, _ in row)


def run(command, columns, environment):
    """The screens that the command made, from the first to the last; an error where it fails."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    program = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env={**environment, "TERM": "xterm-256color"})
    os.close(slave)
    screen, shown, rest = Screen(columns), [], b""
    while True:
        try:
            more = os.read(master, 65536) if select.select([master], [], [], 60)[0] else b""
        except OSError:  # Linux says EIO when the last program has closed its side.
            more = b""
        if not more:
            break
        text, rest = decoded(rest + more)
        screen.feed(text)
        shown.append(screen.shown())
    os.close(master)
    if program.wait() != 0:
        raise SystemExit(f"{command}: status {program.returncode}\n{as_text(screen.shown())}")
    return shown


def decoded(data):
    """The text of the bytes, and the bytes of a character that is not complete yet."""
    for cut in range(min(4, len(data) + 1)):
        try:
            return data[: len(data) - cut].decode(), data[len(data) - cut:]
        except UnicodeDecodeError:
            continue
    return data.decode(errors="replace"), b""


def as_text(rows):
    return "\n".join("".join(character for character, _ in row).rstrip() for row in rows)


def halfway(screens):
    """Of the screens with progress bars, the one that shows the most of what is going on."""
    def filled(rows):
        return [sum(character == "█" for character, _ in row) for row in rows if has_bar(row)]
    with_bars = [rows for rows in screens if filled(rows)]
    return max(with_bars, key=lambda rows: (len(filled(rows)), -abs(filled(rows)[0] - 15)), default=None)
