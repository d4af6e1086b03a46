"""Measurements as a table: medians, the range, ratios to the peer, and the machine they were made on."""

import json
import platform
import re
import statistics
import subprocess
from datetime import datetime, timezone

from .servers import ROOT

PAGE = ROOT / "docs/performance.md"
BEGIN, END = "<!-- measured -->", "<!-- end of measured -->"


def table(results, bench):
    lines = [machine(bench), "", "| work | server | speed: median (least to most) | ratio | target | CPU seconds | CPU ratio |", "|---|---|---|---|---|---|---|"]
    memory = []
    for result in results:
        work, figures = result["work"], result["figures"]
        if "idle" in next(iter(figures.values())):
            memory = [f"| {name} | {mine['idle'][0]:,.0f} KiB | {mine['busy'][0]:,.0f} KiB |" for name, mine in figures.items()]
            continue
        ours = figures["sealdrop"]
        for name, mine in figures.items():
            speeds = mine["speed"]
            spread = f"{statistics.median(speeds):,.1f} {work.unit} ({min(speeds):,.1f} to {max(speeds):,.1f})"
            cpu = statistics.median(mine["cpu"])
            if name == "sealdrop":
                lines.append(f"| {work.what} | {name} | {spread} | | | {cpu:.2f} | |")
                continue
            speed_ratio = statistics.median(ours["speed"]) / statistics.median(speeds)
            cpu_ratio = statistics.median(ours["cpu"]) / cpu if cpu else float("nan")
            lines.append(f"| | {name} | {spread} | **{speed_ratio:.2f}** | {work.target} | {cpu:.2f} | {cpu_ratio:.2f} |")
        if shares := getattr(work, "shares", None):
            slowest = min(share for name, share in shares if name == "sealdrop")
            lines.append(f"| | | slowest session of sealdrop's: {slowest:.2f} of the mean | | 0.5 | | |")
        if beside := getattr(work, "client_cpu", None):
            each = (f"{statistics.median(cpu for name, cpu in beside if name == server):.2f} beside {server}" for server in figures)
            lines.append(f"| | | CPU seconds of the client, which are in no server's: {', '.join(each)} | | | | |")
    if memory:
        lines += ["", "| memory of each further session | idle | transferring |", "|---|---|---|", *memory]
    return "\n".join(lines)


def machine(bench):
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        cpu = re.search(r"^model name\s*: (.*)$", info.read(), re.M)
    said = lambda *command: subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: E731
    ssh = said("ssh", "-V").stderr.split(",")[0].strip()
    ours = said(str(bench.program), "--version").stdout.strip()
    commit = said("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD").stdout.strip()
    cores = len(re.findall(r"^processor", open("/proc/cpuinfo", encoding="utf-8").read(), re.M))
    when = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    scale = "" if bench.scale == 1 else f"; scaled to {bench.scale}"
    return f"{when}, {ours} ({commit}) and {ssh} on {cpu[1] if cpu else platform.machine()}, {cores} cores, Linux {platform.release()}{scale}."


def as_json(results):
    return json.dumps([{"work": result["work"].name, "figures": result["figures"]} for result in results], indent=1)


def write(text):
    page = PAGE.read_text(encoding="utf-8")
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
