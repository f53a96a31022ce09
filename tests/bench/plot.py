"""Plots of what the rounds took, as SVG."""
import html
import math

COLOURS = ["#0b6e4f", "#c0392b", "#2c5aa0", "#8e6c00"]


def scale(points):
    """Seconds by number of images, both axes logarithmic: a straight line of slope one is linear time."""
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
    return "\n".join(out)


def ratios(rows):
    """A bar for each ratio of Pannier's time to that of another, and a mark where it may reach to."""
    step, left, top, wide = 16, 560, 40, 330
    end = max(1.0, *(ratio for _, _, ratio, _ in rows), *(bar or 0 for *_, bar in rows)) * 1.05
    width, height = left + wide + 60, top + step * len(rows) + 20

    def x(value):
        return left + value / end * wide

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">',
           f'<rect width="{width}" height="{height}" fill="white"/>',
           f'<text x="10" y="18" font-size="12">Pannier\'s time, in times of what it is compared with; a black mark is where it may reach to</text>',
           f'<line x1="{x(1):.1f}" x2="{x(1):.1f}" y1="{top - 8}" y2="{height - 20}" stroke="#999"/>',
           f'<text x="{x(1):.1f}" y="{height - 6}" text-anchor="middle">as long</text>']
    for number, (what, name, ratio, bar) in enumerate(rows):
        y = top + number * step
        colour = COLOURS[2] if bar is None else COLOURS[0] if ratio <= bar else COLOURS[1]
        out.append(f'<text x="{left - 8}" y="{y + 9}" text-anchor="end">{html.escape(what)}: {html.escape(name)}</text>'
                   f'<rect x="{left}" y="{y}" width="{x(ratio) - left:.1f}" height="{step - 5}" fill="{colour}"/>'
                   f'<text x="{max(x(ratio), x(bar or 0)) + 5:.1f}" y="{y + 9}">{ratio:.3g}</text>')
        if bar is not None:
            out.append(f'<line x1="{x(bar):.1f}" x2="{x(bar):.1f}" y1="{y - 2}" y2="{y + step - 3}" stroke="black" stroke-width="2"/>')
    out.append("</svg>\n")
    return "\n".join(out)
