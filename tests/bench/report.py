"""Tables of what the rounds took."""
import json
import pathlib

import plot


def table(results):
    """Markdown: one line for each contender."""
    lines = ["| case | contender | median s | Pannier's ratio to it | bar | peak MiB | CPU s |", "|---|---|---|---|---|---|---|"]
    for case in results["cases"].values():
        ours, *others = case["contenders"]
        lines.append(row(case["what"], ours["name"], ours["median"], memory=memory(ours), cpu=cpu(ours)))
        for other in others:
            compared = None if case.get("memory") else ours["median"]
            lines.append(row("", other["name"], other["median"], compared, case["bars"].get(other["name"]), memory(other), cpu(other)))
        if case.get("slower"):
            name, slowest, bar = slower(case)
            lines.append(row("", name, slowest, ours["median"], bar))
    return "\n".join(lines) + "\n"


def slower(case):
    """What a case is compared to that has to keep up with the slower of two: its name, the seconds, and the bar."""
    names, bar = case["slower"]
    slowest = max(other["median"] for other in case["contenders"][1:] if other["name"] in names)
    return "the slower of " + " and ".join(names), slowest, bar


def ratios(results):
    """Each of Pannier's ratios: the case, what it is compared to, the ratio, and the bar or None."""
    for case in results["cases"].values():
        ours, *others = case["contenders"]
        compared = [] if case.get("memory") else [(other["name"], other["median"], case["bars"].get(other["name"])) for other in others]
        if case.get("slower"):
            compared = [slower(case)]
        for name, seconds, bar in compared:
            yield case["what"], name, ours["median"] / seconds, bar


def row(what, name, median, ours=None, bar=None, memory="", cpu=""):
    ratio = ours / median if ours else None
    verdict = f"{bar} {'holds' if ratio <= bar else 'MISSED'}" if bar else ""
    cells = [what, name, f"{median:.2f}", f"{ratio:.3f}" if ratio else "", verdict, memory, cpu]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def memory(contender):
    grown = f", containerd +{contender['containerd'] >> 20}" if "containerd" in contender else ""
    most, peak = contender.get("most"), contender["peak"] / (1 << 20)
    bar = f", bar {most} {'holds' if peak < most else 'MISSED'}" if most else ""
    return f"{peak:.0f}{bar}{grown}"


def cpu(contender):
    """Of the command; with containerd's where there is one. Two cores have two seconds each second."""
    if "cpu" not in contender:
        return ""
    node = f", containerd {contender['containerd_cpu']:.1f}" if "containerd_cpu" in contender else ""
    return f"{contender['cpu']:.1f}{node}"


def scale_table(points):
    names = list(points[0]["seconds"])
    lines = ["| images | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for point in points:
        lines.append(f"| {point['images']} | " + " | ".join(f"{point['seconds'][name]:.2f}" for name in names) + " |")
    return "\n".join(lines) + "\n"


# By how much the peak may grow from the smallest set to the largest, in MiB.
GROWTH = 4


def peak_table(points):
    """Peaks of memory by number of images, and what each image more takes."""
    names = list(points[0]["peak"])
    lines = ["| images | " + " | ".join(f"{name}, peak MiB" for name in names) + " |", "|---" * (len(names) + 1) + "|"]
    for point in points:
        lines.append(f"| {point['images']} | " + " | ".join(f"{point['peak'][name] / (1 << 20):.1f}" for name in names) + " |")
    first, last = points[0], points[-1]
    cells = []
    for name in names:
        grown = last["peak"][name] - first["peak"][name]
        each = f"{grown / (last['images'] - first['images']) / 1024:.1f} KiB an image"
        bar = f", bar {GROWTH} {'holds' if grown <= GROWTH << 20 else 'MISSED'}" if name in PANNIERS else ""
        cells.append(f"+{grown / (1 << 20):.1f}{bar}, {each}")
    lines.append("| growth | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


# What of the scale case is Pannier's.
PANNIERS = ["export", "import", "import again"]


def save(results, directory):
    (directory / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    text = "\n".join(f"- {key}: {value}" for key, value in results["machine"].items()) + "\n\n" + table(results)
    if results.get("scale"):
        text += "\n" + scale_table(results["scale"]) + "\n" + peak_table(results["scale"])
        (directory / "scale.svg").write_text(plot.scale(results["scale"]))
    (directory / "ratios.svg").write_text(plot.ratios(list(ratios(results))))
    (directory / "results.md").write_text(text)
    return text
