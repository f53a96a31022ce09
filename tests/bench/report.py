"""Tables and the plot, from what the rounds took."""
import json
import pathlib


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
            names, bar = case["slower"]
            slowest = max(other["median"] for other in others if other["name"] in names)
            lines.append(row("", "the slower of " + " and ".join(names), slowest, ours["median"], bar))
    return "\n".join(lines) + "\n"


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
COLOURS = ["#0b6e4f", "#c0392b", "#2c5aa0", "#8e6c00"]


def scale_plot(points, path):
    """An SVG with both axes logarithmic: a straight line of slope one is linear time."""
    import math
    width, height, left, bottom, top, right = 720, 420, 70, 50, 30, 170
    names = list(points[0]["seconds"])
    xs = [point["images"] for point in points]
    ys = [seconds for point in points for seconds in point["seconds"].values()]
    low, high = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))

    def x(value):
        return left + (math.log10(value) - math.log10(xs[0])) / (math.log10(xs[-1]) - math.log10(xs[0])) * (width - left - right)

    def y(value):
        return height - bottom - (math.log10(value) - low) / (high - low) * (height - bottom - top)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
           f'<rect width="{width}" height="{height}" fill="white"/>',
           f'<text x="{left}" y="18">Seconds by number of small images (both axes logarithmic)</text>']
    for power in range(low, high + 1):
        at = y(10 ** power)
        out.append(f'<line x1="{left}" x2="{width - right}" y1="{at:.1f}" y2="{at:.1f}" stroke="#ddd"/>'
                   f'<text x="{left - 8}" y="{at + 4:.1f}" text-anchor="end">{10 ** power:g}</text>')
    for value in xs:
        out.append(f'<text x="{x(value):.1f}" y="{height - bottom + 20}" text-anchor="middle">{value}</text>')
    for name, colour in zip(names, COLOURS):
        line = " ".join(f"{x(point['images']):.1f},{y(point['seconds'][name]):.1f}" for point in points)
        end = points[-1]["seconds"][name]
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>'
                   f'<text x="{x(xs[-1]) + 8:.1f}" y="{y(end) + 4:.1f}" fill="{colour}">{name}</text>')
    out.append("</svg>\n")
    pathlib.Path(path).write_text("\n".join(out))


def save(results, directory):
    (directory / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    text = "\n".join(f"- {key}: {value}" for key, value in results["machine"].items()) + "\n\n" + table(results)
    if results.get("scale"):
        text += "\n" + scale_table(results["scale"]) + "\n" + peak_table(results["scale"])
        scale_plot(results["scale"], directory / "scale.svg")
    (directory / "results.md").write_text(text)
    return text
