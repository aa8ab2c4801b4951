"""Plots as SVG, readable on light and on dark."""

import math
from html import escape

COLOURS = {
    "tidegate": "#e4572e", "nginx": "#2e9e5b", "haproxy": "#3b82c4", "varnish": "#a667c7", "caddy": "#c99a1b",
    "envoy": "#8a8f98", "pingora": "#17a2a8",
}  # fmt: skip
SPARE = ["#e4572e", "#3b82c4", "#2e9e5b", "#a667c7", "#c99a1b", "#8a8f98", "#17a2a8"]

# Ratios beyond it are drawn there.
FAR = 8.0

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.small { font-size: 11px }
.title { font-weight: 600 }
.grid { stroke: #d0d7de; stroke-width: 1 }
.unit { stroke: #57606a; stroke-width: 1.5 }
.target { stroke: #24292f; stroke-width: 2.5 }
.back { fill: #ffffff }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .grid { stroke: #30363d }
  .unit { stroke: #9da7b1 }
  .target { stroke: #e6edf3 }
  .back { fill: #0d1117 }
}
"""


def svg(width, height, parts, title):
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(title)}">\n<title>{escape(title)}</title>\n<style>{STYLE}</style>\n'
        f'<rect class="back" width="{width}" height="{height}" rx="6"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def text(x, y, words, anchor="start", kind=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(str(words))}</text>'


def line(x1, y1, x2, y2, kind="grid"):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def dot(x, y, colour, radius, note):
    return (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}" fill-opacity="0.9">'
            f"<title>{escape(note)}</title></circle>")  # fmt: skip


def ratios(rows, titles, caption):
    """A line for each row with a dot for each product: how many times the best peer's cost. `rows` are (name,
    {product: ratio}, what to reach or None); further to the left is better."""
    left, right, top, step = 250, 70, 84, 30
    width, height = 900, top + step * len(rows) + 44
    most = max([ratio for _, ratios, _ in rows for ratio in ratios.values()] + [2])
    least = min([ratio for _, ratios, _ in rows for ratio in ratios.values()] + [0.5])
    # One that is far off would press all others together.
    most = min(most, FAR)
    low, high = math.log2(least) - 0.15, math.log2(most) + 0.15

    def x(ratio):
        return left + (math.log2(min(ratio, FAR)) - low) / (high - low) * (width - left - right)

    parts = [text(16, 26, caption, kind="title")]
    place = 16
    for product, title in titles.items():
        parts += [dot(place + 6, 47, COLOURS.get(product, "#888"), 6, title), text(place + 17, 51, title)]
        place += 34 + 7.5 * len(title)
    parts += [line(place + 6, 40, place + 6, 54, "target"), text(place + 14, 51, "to reach")]
    bottom = top + step * len(rows)
    for exponent in range(math.ceil(low), math.floor(high) + 1):
        ratio = 2.0**exponent
        parts += [line(x(ratio), top - 8, x(ratio), bottom, "unit" if exponent == 0 else "grid"),
                  text(x(ratio), bottom + 18, f"{ratio:g}" + ("+" if ratio == FAR else ""), "middle", "small")]  # fmt: skip
    parts.append(text(x(1), bottom + 34, "the best peer", "middle", "small"))
    for number, (name, of_row, target) in enumerate(rows):
        y = top + step * number + step / 2
        parts += [text(left - 14, y + 4, name, "end"), line(left, y, width - right, y)]
        if target:
            parts.append(line(x(target), y - 9, x(target), y + 9, "target"))
        # Tidegate last, on top of the others.
        for product, ratio in sorted(of_row.items(), key=lambda one: one[0] == "tidegate"):
            radius = 7 if product == "tidegate" else 5
            parts.append(dot(x(ratio), y, COLOURS.get(product, "#888"), radius,
                             f"{titles.get(product, product)}: {ratio:.2f}"))  # fmt: skip
        if "tidegate" in of_row:
            parts.append(text(width - right + 12, y + 4, f"{of_row['tidegate']:.2f}"))
    return svg(width, height, parts, caption)


def curves(panels, caption):
    """Small charts beside each other, x by powers of ten, y from 0. `panels` are (title, what x counts, what y counts,
    {series: [(x, y)]})."""
    wide, high, margin, gap = 260, 170, 56, 34
    columns = 3
    lines_of_panels = math.ceil(len(panels) / columns)
    width, height = columns * (wide + margin + 16) + 16, 44 + lines_of_panels * (high + gap + 58)
    parts = [text(16, 26, caption, kind="title")]
    for number, (title, x_title, y_title, series) in enumerate(panels):
        left = 16 + margin + (number % columns) * (wide + margin + 16)
        top = 74 + (number // columns) * (high + gap + 58)
        parts += panel(left, top, wide, high, title, x_title, y_title, series)
    return svg(width, height, parts, caption)


def panel(left, top, wide, high, title, x_title, y_title, series):
    points = [point for of_series in series.values() for point in of_series]
    most = max(y for _, y in points) * 1.1 or 1
    first, last = (math.log10(of([x for x, _ in points])) for of in (min, max))

    def at(point):
        x = left + (math.log10(point[0]) - first) / max(last - first, 1e-9) * wide
        return x, top + high - point[1] / most * high

    parts = [text(left, top - 12, title, kind="title")]
    for share in (0, 0.5, 1):
        y = top + high - share * high
        parts += [line(left, y, left + wide, y), text(left - 8, y + 4, f"{share * most:.3g}", "end", "small")]
    for x in sorted({x for x, _ in points}):
        parts.append(text(at((x, 0))[0], top + high + 16, short(x), "middle", "small"))
    parts.append(text(left + wide / 2, top + high + 32, f"{x_title}; {y_title}", "middle", "small"))
    for number, (name, of_series) in enumerate(series.items()):
        colour = SPARE[number % len(SPARE)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(at, of_series))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [dot(*at(point), colour, 3.5, f"{name}: {short(point[0])}, {point[1]:.4g}") for point in of_series]
        if len(series) > 1:
            place = left + wide - 6, top + high - 10 - 16 * number
            parts.append(f'<text x="{place[0]}" y="{place[1]}" text-anchor="end" class="small" '
                         f'style="fill:{colour}">{escape(name)}</text>')  # fmt: skip
    return parts


def short(number):
    for size, name in ((1_000_000, "M"), (1_000, "k")):
        if number >= size:
            return f"{number / size:g}{name}"
    return f"{number:g}"
