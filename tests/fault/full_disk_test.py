#!/usr/bin/env python3
"""A real server on a real file system of 60 MiB: small puts stop at the reserve, everything else goes on; then
something else takes the last byte, and the server still reads, removes, and starts (K23, F-12, F-28).

    full_disk_test.py SLUICE BASE_PORT

Needs to mount a tmpfs; where that is not allowed it says so and exits with 77. Only what is started here is killed.
"""
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

MIB = 1 << 20
RESERVE = 32 * MIB
PATIENCE = 120


class Server:
    def __init__(self, program, folder, port):
        self.program, self.folder, self.address = program, folder, f"127.0.0.1:{port}"
        self.log = open(folder / "log.txt", "ab")
        self.process = None

    def start(self):
        self.process = subprocess.Popen(
            [self.program, "serve", "--listen", self.address, "--data", str(self.folder / "disk" / "data"),
             "--blob-reserve-bytes", str(RESERVE), "--log-segment-bytes", "4MiB", "--index-write-buffer-bytes", "1MiB",
             "--index-ballast-bytes", "8MiB", "--checkpoint-ms", "500ms", "--compact-keep-entries", "50"],
            stdout=self.log, stderr=self.log)
        # Ready it is not while its disk is full, and says so (K28). But it serves reads.
        until(f"the server does not serve reads; see {self.folder}/log.txt", self.serves_reads)

    def serves_reads(self):
        if self.process.poll() is not None:
            raise SystemExit(f"the server ended with {self.process.returncode}; see {self.folder}/log.txt")
        return self.run("ls").returncode == 0

    def run(self, *arguments):
        return subprocess.run([self.program, arguments[0], "--server", self.address, *arguments[1:]],
                              capture_output=True, text=True)

    def must(self, *arguments):
        done = self.run(*arguments)
        if done.returncode != 0:
            raise SystemExit(f"sluice {' '.join(arguments)}: {done.stderr.strip()}; see {self.folder}/log.txt")
        return done.stdout

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


def free_bytes(path):
    stat = os.statvfs(path)
    return stat.f_bavail * stat.f_frsize


def fill(path):
    """Takes every byte that is left. Something may be freed meanwhile, so that is taken too."""
    with open(path, "ab", buffering=0) as junk:
        for size in (MIB, 4096):
            try:
                while True:
                    junk.write(b"j" * size)
            except OSError:
                pass


def until(what, done):
    """Each look is a process of its own, so this does not spin."""
    end = time.monotonic() + PATIENCE
    while not done():
        if time.monotonic() > end:
            raise SystemExit(f"after {PATIENCE} s: {what}")


def check_reads_and_removal(server, names, content):
    copy = server.folder / "copy"
    server.must("get", names[0], "-o", str(copy))
    if copy.read_bytes() != content:
        raise SystemExit(f"{names[0]} differs: {copy}")
    copy.unlink()
    server.must("stat", names[0])
    if names[0] not in server.must("ls"):
        raise SystemExit(f"ls does not show {names[0]}")
    gone = names.pop()
    server.must("rm", gone)
    if gone in server.must("ls").split():
        raise SystemExit(f"{gone} was removed and is there")


def main():
    program, port = sys.argv[1], int(sys.argv[2])
    folder = pathlib.Path(tempfile.mkdtemp(prefix="full_disk_test."))
    disk = folder / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", str(disk)],
                      stderr=subprocess.DEVNULL).returncode != 0:
        print("skipped: no file system may be mounted here")
        shutil.rmtree(folder)
        sys.exit(77)
    server = Server(program, folder, port)
    try:
        server.start()
        content = os.urandom(60_000)
        small = folder / "small"
        small.write_bytes(content)
        names = []
        while True:
            name = f"small-{len(names):04}"
            done = server.run("put", str(small), "--name", name)
            if done.returncode != 0:
                break
            names.append(name)
            small.write_bytes(os.urandom(60_000))  # other bytes each time: the same are stored once
        print(f"{len(names)} small puts, then: {done.stderr.strip()}; {free_bytes(disk)} bytes free")
        if "reserved" not in done.stderr:
            raise SystemExit("refused for another reason than the reserve")
        if free_bytes(disk) < RESERVE // 2 or len(names) < 50:
            raise SystemExit("the reserve was not kept, or nothing was taken before it")
        check_reads_and_removal(server, names, content)

        junk = disk / "junk"
        fill(junk)
        print(f"{free_bytes(disk)} bytes free")
        for _ in range(10):
            check_reads_and_removal(server, names, content)
        fill(junk)
        server.kill()
        fill(junk)
        print(f"{free_bytes(disk)} bytes free at the start")
        server.start()
        for _ in range(3):
            check_reads_and_removal(server, names, content)
        status = server.run("status")
        if status.returncode == 0:
            raise SystemExit(f"the disk is full, and status says that all is well: {status.stdout}")

        junk.unlink()
        # As the refusal says: half of them, then one at a time. What a removal gives back of an index of a few MiB
        # depends on when its tables are merged.
        for name in names[len(names) // 2:]:
            server.must("rm", name)
        del names[len(names) // 2:]
        small.write_bytes(content)

        def goes_on():
            if server.run("put", str(small), "--name", "again").returncode == 0:
                return True
            if names:
                server.must("rm", names.pop())
            return False

        until(f"puts are refused though {disk} has room", goes_on)
        print("there is room again, and puts go on")
    finally:
        server.kill()
        subprocess.run(["umount", str(disk)], check=False)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
