"""Tables in Markdown, and where they go: to a terminal, and between two comments of a document.

    <!-- side-by-side -->
    whatever stood here before
    <!-- /side-by-side -->
"""

import datetime
import json
import os
import platform
import re
import statistics
from pathlib import Path


def table(head, rows):
    """The first column is text, the others are numbers."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def figure(value):
    """Three digits that count."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def spread(samples):
    """Median, and from where to where."""
    if not samples:
        return "–"
    if len(samples) == 1:
        return figure(samples[0])
    return f"{figure(statistics.median(samples))} ({figure(min(samples))}–{figure(max(samples))})"


def today():
    return datetime.date.today().isoformat()


def machine():
    """Where and when, in one line."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    name = model.group(1).strip() if model else platform.machine()
    memory = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text()).group(1)) / (1 << 20)
    return f"{today()}; {os.cpu_count()} × {name}, {memory:.0f} GiB; Linux {platform.release()}"


def add_output_options(parser):
    parser.add_argument("--json", metavar="FILE", help="keep all figures")
    parser.add_argument("--from", dest="kept", metavar="FILE", help="measure nothing, take the figures kept by --json")
    parser.add_argument("--write", nargs="+", default=[], metavar="FILE", help="put the tables into these documents")


def keep(path, figures):
    Path(path).write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n")


def kept(path):
    return json.loads(Path(path).read_text())


def image(path, caption):
    """A picture in a document; `write` makes its path relative to that."""
    return f"![{caption}]({Path(path).resolve()})"


def relative(picture, document):
    return os.path.relpath(picture, document.resolve().parent)


def write(paths, texts):
    """Puts each text between the comments of its name, in those documents that have them."""
    for path in map(Path, paths):
        document, found = path.read_text(), []
        for name, text in texts.items():
            begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
            before, first, rest = document.partition(begin)
            _, last, after = rest.partition(end)
            if first and last:
                text = re.sub(r"\]\((/[^)]+)\)", lambda found: f"]({relative(found.group(1), path)})", text)
                document = f"{before}{begin}\n{text.strip()}\n{end}{after}"
                found.append(name)
        if not found:
            raise SystemExit(f"{path} has no place for any of: {', '.join(texts)}")
        path.write_text(document)
