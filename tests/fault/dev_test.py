#!/usr/bin/env python3
"""`sluice dev`: a first start that is cut short goes on, and a folder that vanishes does not vote (F-20).

    dev_test.py SLUICE SCENARIO BASE_PORT

Scenarios: empty (the folder of the first server is all that the first start made), cut (the first start ends when one
of three servers has its identity, since the other two could not begin), twice (a second one in the same folder, and one
on the same ports, end with the error of the server that cannot start; the first goes on), restarted (a server's folder
vanishes while `sluice dev` runs), before (a folder vanishes that was made when nothing recorded the first start). Only
processes started here get signals, by their ids.
"""
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

START_SECONDS = 60


class Dev:
    def __init__(self, program, folder, base_port):
        self.program = program
        self.data = folder / "data"
        self.log = open(folder / "log", "ab")
        self.ports = [base_port + 10 * i for i in range(3)]
        self.command = [program, "dev", "--nodes", "3", "--dir", str(self.data), "--base-port", str(base_port)]
        self.process = None

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=self.log, stderr=self.log)

    def end(self, how=signal.SIGTERM):
        if self.process:
            self.process.send_signal(how)
            self.process.wait()
            self.process = None

    def expect_failure(self, command, *errors):
        """It ends by itself, and its last line says one of these."""
        try:
            done = subprocess.run(command, stdout=self.log, stderr=subprocess.PIPE, text=True, timeout=START_SECONDS)
        except subprocess.TimeoutExpired:
            raise SystemExit(f"{command} goes on")
        last = (done.stderr.splitlines() or [""])[-1]
        if done.returncode != 1 or not any(error in last for error in errors):
            raise SystemExit(f"{command} ended with {done.returncode}: {done.stderr}")

    def run(self, *words, servers=(0, 1, 2)):
        addresses = ",".join(f"127.0.0.1:{self.ports[i]}" for i in servers)
        return subprocess.run([self.program, *words, "--server", addresses], capture_output=True, text=True)

    def status(self, i):
        return json.loads(self.run("status", "--json", servers=[i]).stdout or "{}")

    def await_that(self, what, ask):
        """Each question is a process of its own, so this does not spin."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if ask():
                return
        raise SystemExit(f"{what}: not within {START_SECONDS} s; see {self.log.name}")

    def await_whole(self):
        self.await_that("three servers that vote, and a leader",
                        lambda: all(self.run("status", servers=[i]).returncode == 0 for i in range(3)))
        self.put("whole")

    def await_no_voter(self, server):
        self.await_that(f"{server} does not vote", lambda: any(
            f"{server} does not vote" in problem for i in range(3) for problem in self.status(i).get("problems", [])))

    def put(self, name):
        done = self.run("put", self.program, "--name", name)
        if done.returncode != 0:
            raise SystemExit(f"put {name}: {done.stderr}")


def empty(dev):
    (dev.data / "n0").mkdir(parents=True)
    dev.start()
    dev.await_whole()


def cut(dev):
    dev.data.mkdir()
    for name in ("n1", "n2"):
        (dev.data / name).symlink_to("nowhere")  # no folder can be made there
    while not (dev.data / "n0" / "identity").exists():  # it may have been ended before it had one
        dev.expect_failure(dev.command, "n1 could not start", "n2 could not start")
    for name in ("n1", "n2"):
        (dev.data / name).unlink()
    dev.start()
    dev.await_whole()


def twice(dev):
    dev.start()
    dev.await_whole()
    dev.expect_failure(dev.command, "LOCK is locked by another process")
    other = [str(dev.data) + "-other" if word == str(dev.data) else word for word in dev.command]
    dev.expect_failure(other, "the port is in use")
    dev.put("still there")


def restarted(dev):
    dev.start()
    dev.await_whole()
    pid = next(server["pid"] for server in dev.status(2)["servers"] if server["id"] == "n2")
    (dev.data / "n2").rename(dev.data / "gone")
    subprocess.run(["kill", "-KILL", str(pid)], check=True)
    dev.await_no_voter("n2")
    dev.put("by the others")


def before(dev):
    dev.start()
    dev.await_whole()
    dev.end()
    for path in dev.data.iterdir():
        if path.is_file():
            path.unlink()
    shutil.rmtree(dev.data / "n2")
    dev.start()
    dev.await_no_voter("n2")
    dev.put("by the others")


def main():
    program, scenario, base_port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice-dev-", dir=".")).resolve()
    dev = Dev(program, folder, base_port)
    try:
        {"empty": empty, "cut": cut, "twice": twice, "restarted": restarted, "before": before}[scenario](dev)
    finally:
        dev.end()
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
