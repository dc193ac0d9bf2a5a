#!/usr/bin/env python3
"""Three real servers; files go in and out through port +2, and through the other doors.

    stream_files_test.py SLUICE STREAM_FILES BASE_PORT
"""
import filecmp
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "fault"))
from kill_test import Cluster  # noqa: E402

SIZES = {"empty": 0, "small": 1000, "edge": 65537, "large": 20_000_003}


def check(holds, what):
    if not holds:
        raise SystemExit(f"expected: {what}")


def streams_of(cluster, i):
    done = subprocess.run([cluster.program, "status", "--streams", "--json", "--server", cluster.address(i)],
                          capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["servers"][0]


def main():
    program, client, base_port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice-streams-", dir="."))
    cluster = Cluster(program, folder, base_port)

    def port(i):
        return f"127.0.0.1:{cluster.ports[i] + 2}"

    def run(*arguments):
        return subprocess.run([client, *map(str, arguments)], capture_output=True, text=True, timeout=60)

    try:
        for i in range(3):
            cluster.start(i, bootstrap=True)
        cluster.wait_ready()
        copy = folder / "copy"
        for k, (name, size) in enumerate(SIZES.items()):
            path = folder / name
            path.write_bytes(os.urandom(size))
            done = run("put", port(k % 3), path, name)  # also at servers that do not lead
            check(done.returncode == 0, f"{name} is stored: {done.stderr}")
            for i in range(3):
                done = run("get", port(i), name, copy)
                check(done.returncode == 0, f"n{i} gives {name}: {done.stderr}")
                check(filecmp.cmp(path, copy, shallow=False), f"n{i} gives the bytes of {name}")
            subprocess.run([program, "get", name, "-o", str(copy), "--server", cluster.address(1)], check=True,
                           stdout=subprocess.DEVNULL)
            check(filecmp.cmp(path, copy, shallow=False), f"the other doors give the bytes of {name}")
        check(run("put", port(1), folder / "large", "large").returncode == 0, "the same bytes again are fine")
        done = run("put", port(1), folder / "small", "large")
        check("FILE_ALREADY_EXISTS" in done.stderr, f"other bytes are not: {done.stderr}")
        done = run("get", port(2), "absent", copy)
        check("FILE_NOT_FOUND" in done.stderr, f"what is not there is not found: {done.stderr}")

        check(streams_of(cluster, 0)["streams"] == [], "every stream is closed")
        table = subprocess.run([program, "status", "--streams", "--server", cluster.addresses()],
                               capture_output=True, text=True, check=True).stdout
        check("UNCONSUMED" in table and table.count("none") == 3, f"a table of three servers: {table}")
        metrics = urllib.request.urlopen(f"http://127.0.0.1:{cluster.ports[0] + 3}/metrics").read().decode()
        totals = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if line.startswith("sluice_streams_"))
        sent = 3 + sum(SIZES.values())
        check(float(totals["sluice_streams_bytes_out_total"]) >= sum(SIZES.values()),
              f"n0 gave {sent} bytes: {totals}")
        check(float(totals["sluice_streams_open"]) == 0, f"none is open: {totals}")
        try:
            urllib.request.urlopen(f"http://{port(0)}/")
            check(False, "port +2 is no HTTP server")
        except urllib.error.HTTPError as error:
            hint = error.read().decode()
            check(f":{cluster.ports[0] + 3}/metrics" in hint, f"the hint names the HTTP port: {hint}")

        cluster.kill(cluster.leader())
        alive = next(i for i in range(3) if cluster.servers[i].poll() is None)
        (folder / "after").write_bytes(os.urandom(300_000))
        done = run("put", port(alive), folder / "after", "after")
        check(done.returncode == 0, f"a put goes on without the leader that died: {done.stderr}")
    finally:
        cluster.stop()
    shutil.rmtree(folder)
    print("files over streams: ok")


if __name__ == "__main__":
    main()
