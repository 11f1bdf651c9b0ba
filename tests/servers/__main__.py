"""The command `python -m tests.servers`: see the package."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from devstack import StackError

from ..command_options import open_directory
from ..tables import write_table
from .candidates import CANDIDATES, Site
from .table import Examined, format_servers, read_record, write_record

_CREATE = "import sys, storage; storage.create_bucket(sys.argv[1])"
_DOCTOR_S = 300
_OF_THE_MOMENT = ("store", "store: connection", "store: speed")
"""Findings that name a path, a port or a time, which no record keeps."""


def examine(name: str, site: Site) -> Examined:
    """Run doctor on a server in a process of its own, as users do."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull, **site.environment}
    if site.url.startswith("s3:"):
        command = [sys.executable, "-c", _CREATE, site.url]
        subprocess.run(command, env=environment, check=True, timeout=_DOCTOR_S)
    endpoints = [word for endpoint in site.endpoints for word in ("--endpoint", endpoint)]
    command = [sys.executable, "-m", "fanout", "doctor", "--store", site.url, *endpoints, "--json"]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False, timeout=_DOCTOR_S)
    findings = {
        each["check"]: (each["found"], each["verdict"])
        for each in json.loads(done.stdout)
        if each["check"] not in _OF_THE_MOMENT
    }
    return Examined(name, site.version, time.strftime("%Y-%m-%d"), findings)


def main(arguments: list[str] | None = None) -> int:
    """Examine the servers that are installed, and return 0; 1 if none of those that were asked for is."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers", description=__doc__)
    parser.add_argument("--server", action="append", choices=list(CANDIDATES), help="only this one; may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the record, which keeps its other servers")
    parser.add_argument(
        "--table", nargs="?", const="-", metavar="PAGE", help="print the table, or write it into a page"
    )
    parser.add_argument("--show", action="store_true", help="examine nothing: make the table of the record in FILE")
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="a new directory in which all logs are kept")
    chosen = parser.parse_args(arguments)
    if chosen.show and not (chosen.json and chosen.table):
        parser.error("--show needs --json and --table")
    examined: dict[str, Examined] = {}
    with open_directory(chosen.keep, prefix="servers-") as directory:
        for name in () if chosen.show else chosen.server or CANDIDATES:
            try:
                with CANDIDATES[name](directory / name.replace(" ", "-")) as site:
                    examined[name] = examine(name, site)
            except StackError as error:
                print(f"{name}: not here: {error}", flush=True)
                continue
            print(f"{name} {site.version}: {'; '.join(examined[name].broken) or 'usable'}", flush=True)
    if chosen.json:
        write_record(chosen.json, examined.values())
        examined = read_record(chosen.json)
    if chosen.table:
        write_table(format_servers(examined.values()), chosen.table, command="python -m tests.servers")
    return 0 if examined else 1


if __name__ == "__main__":
    sys.exit(main())
