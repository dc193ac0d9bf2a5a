#!/usr/bin/env python3
"""Three real servers: who serves, and what is said of it.

    serving_test.py SLUICE INCREMENTS BASE_PORT

F-37: the leader is stopped (SIGSTOP) while a client goes on at the others; when it goes on, a linearizable read that it
is asked for first of all sees what was acknowledged meanwhile. K28: /readyz and `sluice status` follow what the groups
can do, with one dead member, without a majority, and whole again. Only processes started here get signals, by their ids.
"""
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from kill_test import START_SECONDS, Cluster
from once_test import GROUP, await_progress


def get(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def expect(what, ask):
    """Until `ask` says yes; each asks a server, or waits for one."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if ask():
            return
    raise SystemExit(f"{what}: not within {START_SECONDS} s")


def problems(cluster, i):
    done = subprocess.run([cluster.program, "status", "--json", "--server", cluster.address(i)], capture_output=True,
                          text=True)
    return done.returncode, json.loads(done.stdout or "{}").get("problems", [])


def paused_leader(cluster, increments):
    client = subprocess.Popen([increments, cluster.addresses(), GROUP], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              text=True)
    dots = 2
    await_progress(client, dots)
    leader = cluster.leader(GROUP)
    cluster.servers[leader].send_signal(signal.SIGSTOP)
    try:
        await_progress(client, 3)  # the others have elected, and go on
        dots += 3
    finally:
        cluster.servers[leader].send_signal(signal.SIGCONT)
    read = subprocess.run([increments, cluster.address(leader), GROUP, "read"], capture_output=True, text=True)
    # A refusal is right as well; an old value is not.
    if read.returncode == 0 and int(read.stdout) < 100 * dots:
        raise SystemExit(f"F-37: n{leader} went on and read {read.stdout.strip()}, {100 * dots} were acknowledged")
    print(f"n{leader} was stopped and went on: it read {read.stdout.strip()}", flush=True)
    told = client.communicate()[0]
    if client.returncode != 0:
        raise SystemExit(f"F-37: {told.strip()}")


def health(cluster):
    http = [port + 3 for port in cluster.ports]
    expect("all are ready", lambda: all(get(port, "/readyz")[0] == 200 for port in http))
    expect("status finds nothing", lambda: problems(cluster, 0)[0] == 0)

    cluster.kill(2)
    expect("a dead member is a problem", lambda: problems(cluster, 0)[0] == 1)
    said = " ".join(problems(cluster, 0)[1])
    if "n2 at" not in said:
        raise SystemExit(f"status names no dead n2: {said}")
    expect("two of three serve", lambda: get(http[0], "/readyz")[0] == 200 and get(http[1], "/readyz")[0] == 200)

    cluster.kill(1)
    expect("one of three does not serve", lambda: get(http[0], "/readyz")[0] == 503)
    code, text = get(http[0], "/readyz")
    if "no leader" not in text or get(http[0], "/healthz")[0] != 200:
        raise SystemExit(f"/readyz says {code}: {text}")
    if problems(cluster, 0)[0] != 1:
        raise SystemExit("status finds nothing without a majority")

    for i in (1, 2):
        cluster.start(i)
    expect("all are ready again", lambda: all(get(port, "/readyz")[0] == 200 for port in http))
    expect("status finds nothing again", lambda: problems(cluster, 0)[0] == 0)


def main():
    program, increments, base_port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice-serving-", dir=".")).resolve()
    cluster = Cluster(program, folder, base_port, ["--group", f"{GROUP}=counter"])
    try:
        for i in range(3):
            cluster.start(i, bootstrap=True)
        cluster.wait_ready()
        paused_leader(cluster, increments)
        health(cluster)
    finally:
        cluster.stop()
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
