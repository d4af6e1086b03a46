"""Growth as a table, a plot and a sentence: what becomes of each figure from the first point to the last."""

import math
from dataclasses import dataclass

from . import report

BEGIN, END = "<!-- scaling -->", "<!-- end of scaling -->"
MARKS = {"sealdrop": "s", "openssh": "o"}
BOTH = "*"
WIDTH, HEIGHT = 60, 14
# Of an exponent of growth: what is measured is never quite linear.
LINEAR = 1.1
# The end of the curve, of which that exponent is: from an eighth of the last point on. What is fixed hides growth before.
END_OF_CURVE = 8


@dataclass(frozen=True)
class Figure:
    """One column: what it is called, and what of it is growth."""

    key: str
    title: str
    # "time" and "memory" are costs; "speed" and "share" are not.
    sort: str
    plot: bool = False
    # Below this point it says nothing.
    least: int = 0


def text(result):
    """One kind of growth, as a section of the page."""
    kind, rows = result["kind"], result["rows"]
    parts = [f"### By {kind.axis}", "", f"{kind.what[0].upper()}{kind.what[1:]}.", "", *table(kind, rows), "", sentence(kind, rows)]
    if kind.note:
        parts += ["", kind.note]
    for figure in kind.figures:
        if figure.plot:
            parts += ["", *plot(kind, rows, figure)]
    return "\n".join(parts)


def table(kind, rows):
    names = [server.name for server in kind.servers]
    cells = [[kind.axis, "server", *(figure.title for figure in kind.figures)]]
    for point, row in rows:
        for number, name in enumerate(names):
            shown = [number_of(row[name][figure.key]) if point >= figure.least else "" for figure in kind.figures]
            cells.append([amount(kind, point) if number == 0 else "", name, *shown])
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    align = lambda line: "| " + " | ".join(  # noqa: E731
        cell.ljust(width) if column == 1 else cell.rjust(width) for column, (cell, width) in enumerate(zip(line, widths))) + " |"
    rule = "|" + "|".join("-" * (width + 2) if column == 1 else "-" * (width + 1) + ":" for column, width in enumerate(widths)) + "|"
    return [align(cells[0]), rule, *(align(line) for line in cells[1:])]


def number_of(value):
    """Three digits that mean something, and no exponents."""
    if value >= 100 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}" if value >= 0.001 else f"{value:.4f}"


def amount(kind, point):
    if not getattr(kind, "bytes", False):
        return f"{point:,}"
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if point >= size:
            return f"{point / size:.3g} {unit}"
    return f"{point} B"


def exponent(kind, rows, name, figure):
    """Of the end of the curve: 1 is linear. None where there is too little of it."""
    usable = [(point, row[name][figure.key]) for point, row in rows if point >= max(1, figure.least) and row[name][figure.key] > 0]
    if len(usable) < 2:
        return None
    last, value = usable[-1]
    before = [pair for pair in usable if pair[0] <= last / END_OF_CURVE]
    first, earlier = before[-1] if before else usable[0]
    return math.log(value / earlier) / math.log(last / first)


def sentence(kind, rows):
    """From the first point to the last, for each server."""
    first, last = rows[0], rows[-1]
    said = []
    for server in kind.servers:
        name, grown = server.name, []
        for figure in kind.figures:
            # Of one file, time says what speed says.
            if figure.sort == "share" or figure.sort == "speed" and getattr(kind, "bytes", False):
                continue
            one, other = first[1][name][figure.key], last[1][name][figure.key]
            more = slope(kind, rows, name, figure) + per_one(kind, rows, name, figure)
            grown.append(f"{figure.title.split(',')[0]} ×{number_of(other / one)}{more}")
        said.append(f"{name}: {', '.join(grown)}")
    unit = "" if getattr(kind, "bytes", False) else f" {kind.axis}"
    return f"From {amount(kind, first[0])} to {amount(kind, last[0])}{unit}: {'; '.join(said)}."


def slope(kind, rows, name, figure):
    steep = exponent(kind, rows, name, figure)
    if figure.sort not in ("time", "memory") or steep is None:
        return ""
    return f" (exponent {steep:.2f}, **steeper than linear**)" if steep > LINEAR else f" (exponent {steep:.2f})"


def per_one(kind, rows, name, figure):
    """What each further one of many adds to memory."""
    if figure.sort != "memory" or getattr(kind, "bytes", False):
        return ""
    (first, one), (last, other) = rows[0], rows[-1]
    each = (other[name][figure.key] - one[name][figure.key]) * (1 << 20) / (last - first)
    shown = f"{each / 1024:,.0f} KiB" if abs(each) >= 4096 else f"{each:,.0f} B"
    return f", {shown} for each of the {kind.axis}"


def plot(kind, rows, figure):
    """Both axes are logarithmic; what is nothing is left out."""
    names = [server.name for server in kind.servers]
    dots = [(math.log10(point), math.log10(row[name][figure.key]), MARKS[name])
            for point, row in rows for name in names if point >= max(1, figure.least) and row[name][figure.key] > 0]
    if not dots:
        return []
    left, right = min(dot[0] for dot in dots), max(dot[0] for dot in dots)
    # Whole decades would leave most of the plot empty; less than a factor of two would show noise as growth.
    low, high = min(dot[1] for dot in dots), max(dot[1] for dot in dots)
    missing = max(0, math.log10(2) - (high - low)) / 2
    low, high = low - missing, high + missing
    field = [[" "] * WIDTH for _ in range(HEIGHT)]
    for x, y, mark in dots:
        column = round((x - left) / ((right - left) or 1) * (WIDTH - 1))
        line = HEIGHT - 1 - round((y - low) / (high - low) * (HEIGHT - 1))
        field[line][column] = mark if field[line][column] in (" ", mark) else BOTH
    return drawn(kind, figure, field, (low, high), (left, right))


def drawn(kind, figure, field, ends, sides):
    legend = ", ".join(f"{MARKS[server.name]} {server.name}" for server in kind.servers)
    both = f", {BOTH} both" if len(kind.servers) > 1 else ""
    labels = {HEIGHT - 1: number_of(10 ** ends[0]), HEIGHT // 2: number_of(10 ** ((ends[0] + ends[1]) / 2)), 0: number_of(10 ** ends[1])}
    margin = max(len(label) for label in labels.values())
    lines = ["```", f"{figure.title} by {kind.axis} ({legend}{both})"]
    lines += [f"{labels.get(number, ''):>{margin}} |{''.join(line).rstrip()}" for number, line in enumerate(field)]
    from_to = amount(kind, round(10 ** sides[0])), amount(kind, round(10 ** sides[1]))
    lines += [f"{'':>{margin}} +{'-' * WIDTH}", f"{'':>{margin}}  {from_to[0]}{from_to[1]:>{WIDTH - len(from_to[0])}}", "```"]
    return lines


def page(results, bench):
    return "\n\n".join(f"{text(result)}\n\n{report.machine(bench)}" for result in results)


def write(results, bench):
    """Each section in the place of the one that was there; those that were not measured now stay."""
    whole = report.PAGE.read_text(encoding="utf-8")
    before, rest = whole.split(BEGIN)
    old, after = rest.split(END)
    sections = dict((part.splitlines()[0], part.strip()) for part in ("\n" + old).split("\n### ")[1:])
    for result in results:
        new = page([result], bench)
        sections[new.splitlines()[0].removeprefix("### ")] = new.removeprefix("### ").strip()
    body = "\n\n".join(f"### {section}" for section in sections.values())
    report.PAGE.write_text(f"{before}{BEGIN}\n\n{body}\n\n{END}{after}", encoding="utf-8")


def as_json(results):
    points = lambda result: [{"at": point, "servers": row} for point, row in result["rows"]]  # noqa: E731
    return report.json.dumps([{"scaling": result["kind"].name, "points": points(result)} for result in results], indent=1)
