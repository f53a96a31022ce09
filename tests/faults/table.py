#!/usr/bin/env python3
"""The fault matrix, and what the tests say of it.

    table.py --filter          the nextest filter that takes every test of the matrix
    table.py LOG               the table, from what nextest (or `cargo test`) printed
    table.py                   which rows have tests, and which have none

A test covers rows by a line `// fault-matrix: rows 1, 2` above it. The rows are in matrix.txt, with the reason where
there is no test. Status 1 if a test failed, or if a row has neither a test nor a reason.
"""

import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MARK = re.compile(r"^\s*// fault-matrix: rows ([0-9, ]+)$")
FUNCTION = re.compile(r"^\s*fn (\w+)\(")
# PASS [   0.012s] (1/9) pannier::medium name        test name ... ok
NEXTEST = re.compile(r"^\s*(PASS|FAIL|TIMEOUT|LEAK|ABORT|SIG\w+|TRY \d+ \w+)\s*\[[^]]*\]\s*(?:\([^)]*\)\s*)?(\S+) (\S+)\s*$")
LIBTEST = re.compile(r"^test (\S+) \.\.\. (ok|FAILED|ignored)")
# What a sweep noted, and nextest's last words.
SWEPT = re.compile(r"^\s*swept: (.+): (\d+) moments$")
TOOK = re.compile(r"^\s*Summary \[\s*([0-9.]+)s\]")
RUNNING = re.compile(r"^\s*Running (?:unittests )?(\S+)")


def matrix():
    rows = {}
    for line in (HERE / "matrix.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            number, phase, fault, why = (field.strip() for field in (line + "|").split("|")[:4])
            rows[int(number)] = (phase, fault, why)
    return rows


def binary_of(path):
    """The name that nextest gives the program a file is in, and the module path of the file in it."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] == "src":
        return "pannier", list(parts[1:])
    module = [part for part in parts[2:] if part not in ("main", "mod")]
    return f"pannier::{parts[1]}", module


def covered():
    """(program, test) -> rows."""
    tests = {}
    for path in sorted([*ROOT.glob("tests/**/*.rs"), *ROOT.glob("src/**/*.rs")]):
        rows, program_and_module = [], binary_of(path)
        for line in path.read_text().splitlines():
            if mark := MARK.match(line):
                rows += [int(number) for number in mark[1].replace(",", " ").split()]
            elif rows and (function := FUNCTION.match(line)):
                program, module = program_and_module
                inner = ["tests"] if program == "pannier" else []
                tests[(program, "::".join([*module, *inner, function[1]]))] = rows
                rows = []
    return tests


def results(log):
    """(program, test) -> pass, FAIL or skipped."""
    found, program = {}, None
    for line in log.splitlines():
        line = re.sub(r"\x1b\[[0-9;]*m", "", line)
        if match := NEXTEST.match(line):
            found[(match[2], match[3])] = "pass" if match[1] in ("PASS", "LEAK") else "FAIL"
        elif match := RUNNING.match(line):
            stem = Path(match[1])
            name = stem.parent.name if stem.stem == "main" else stem.stem
            program = "pannier" if match[1].startswith("src/") else f"pannier::{name}"
        elif match := LIBTEST.match(line):
            result = {"ok": "pass", "FAILED": "FAIL", "ignored": "skipped"}[match[2]]
            if program:
                found[(program, match[1])] = result
    return found


def swept(log):
    """The sweeps, with how many moments each tried, and the seconds that all took, if they are there."""
    moments, seconds = {}, None
    for line in re.sub(r"\x1b\[[0-9;]*m", "", log).splitlines():
        if match := SWEPT.match(line):
            # A sweep that two tests make, or one test twice, counts once for each.
            moments.setdefault(match[1], []).append(int(match[2]))
        elif match := TOOK.match(line):
            seconds = (seconds or 0) + float(match[1])
    return {sweep: sum(each) for sweep, each in moments.items()}, seconds


def filter_of(tests):
    programs = {}
    for program, test in tests:
        programs.setdefault(program, []).append(test)
    one = lambda program, names: f"(binary_id({program}) & ({' | '.join(f'test(={name})' for name in sorted(names))}))"
    return " | ".join(one(program, names) for program, names in sorted(programs.items()))


def main():
    rows, tests = matrix(), covered()
    if sys.argv[1:] == ["--filter"]:
        print(filter_of(tests))
        return 0
    log = Path(sys.argv[1]).read_text() if len(sys.argv) > 1 else ""
    found = results(log)
    by_row = {}
    for test, numbers in tests.items():
        for number in numbers:
            by_row.setdefault(number, []).append(test)
    counts, bad = {}, False
    print(f"{'row':>3}  {'phase':8} {'tests':>5}  {'result':8} fault")
    for number, (phase, fault, why) in sorted(rows.items()):
        own = by_row.get(number, [])
        said = [found.get(test, "not run") for test in own]
        if not own:
            result = "no test" if why else "NO TEST"
        elif "FAIL" in said:
            result = "FAIL"
        elif "skipped" in said:
            result = "skipped"
        elif found and "not run" in said:
            result = "not run"
        else:
            result = "pass" if found else "-"
        bad |= result in ("FAIL", "NO TEST")
        counts[result] = counts.get(result, 0) + 1
        print(f"{number:3}  {phase:8} {len(own):5}  {result:8} {fault}")
        if not own and why:
            print(f"{'':27} {why}")
    for test in sorted(test for test, result in found.items() if result == "FAIL" and test in tests):
        print(f"FAIL {test[0]} {test[1]}")
    unknown = sorted(number for number in by_row if number not in rows)
    if unknown:
        print(f"no such rows: {unknown}")
    moments, seconds = swept(log)
    if moments:
        print("\nmoments  sweep")
        for sweep, count in sorted(moments.items()):
            print(f"{count:7}  {sweep}")
        took = f", {seconds / 60:.0f} minutes" if seconds else ""
        print(f"{sum(moments.values())} moments in {len(moments)} sweeps{took}")
    print(", ".join(f"{count} {result}" for result, count in sorted(counts.items())) + f"; {len(rows)} rows, {len(tests)} tests")
    return 1 if bad or unknown else 0


if __name__ == "__main__":
    sys.exit(main())
