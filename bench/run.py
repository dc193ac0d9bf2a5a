#!/usr/bin/env python3
"""Measures sluice beside its limits in one run and prints the table: bench/run.py BUILD [--only PART,…] [--quick]

Three servers, their client and the limits share this machine. Rates of a shared machine are noise, so every figure
alternates with its limit, three rounds; the table gives the median of the rounds' ratios and the range of the rates.
CPU seconds are those of all servers and of the client together. Everything it writes lies in BUILD/bench-data, on
the disk that is measured, and is removed at the end; BUILD/bench.json keeps the figures.
"""
import argparse
import contextlib
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time

BLOB_GROUP = "00000000-0000-0000-0000-736c75696365"  # the one that always exists
COUNTER_GROUP = "02511d47-d67c-49a3-9011-abb3109a44c1"
MIB = 1 << 20
MB = 10**6
PARTS = ("put", "nosync", "get", "memory", "log", "start", "stream", "names")


def say(text):
    print(f"-- {text}", file=sys.stderr, flush=True)


def run_json(command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout)


class Cluster:
    """`sluice dev` with its servers; gone with its folder when the block ends."""

    def __init__(self, bench, name, nodes, wrap=()):
        self.bench = bench
        self.folder = bench.folder / name
        self.ports = [bench.base_port + 10 * i for i in range(nodes)]
        self.servers = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        self.command = [*wrap, str(bench.sluice), "dev", "--nodes", str(nodes), "--dir", str(self.folder),
                        "--base-port", str(bench.base_port), "--group", f"{COUNTER_GROUP}=counter"]

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self):
        """Returns the seconds until every server said that it is ready."""
        self.log = open(self.bench.folder / "servers.log", "ab")
        begin = time.monotonic()
        self.process = subprocess.Popen(self.command, stdout=self.log, stderr=self.log)
        for port in self.ports:
            self.wait_ready(port, begin + 60)
        return time.monotonic() - begin

    def wait_ready(self, port, deadline):
        while not self.is_ready(port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"the server on port {port} did not become ready: see {self.log.name}")
            time.sleep(0.005)  # a question is a process that ends; nothing is timed but the whole start

    def is_ready(self, port):
        asked = subprocess.run([str(self.bench.sluice), "status", "--json", "--server", f"127.0.0.1:{port}"],
                               capture_output=True, text=True)
        if asked.returncode != 0:
            return False
        status = json.loads(asked.stdout)
        itself = [server for server in status["servers"] if server["address"].endswith(f":{port}")]
        return all(server["ready"] for server in itself) and all(group["leader"] for group in status["groups"])

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        self.log.close()

    def load(self, *command):
        return run_json([self.bench.sluice, "bench", *command, "--json", "--server", self.servers])

    def pids(self):
        status = run_json([self.bench.sluice, "status", "--json", "--server", self.servers])
        return {server["id"]: server["pid"] for server in status["servers"]}


class Table:
    """Rows of the result: what, sluice, limit or peer, ratio, what is asked."""

    def __init__(self):
        self.rows = []

    def add(self, what, value, limit="", ratio="", asked="", note="", figures=None):
        self.rows.append({"what": what, "sluice": value, "limit": limit, "ratio": ratio, "asked": asked, "note": note,
                          "figures": figures or {}})
        say(f"{what}: {value}" + (f" · {limit}" if limit else "") + (f" · ratio {ratio}" if ratio else "") +
            (f" · {note}" if note else ""))

    def print(self):
        heads = ("what", "sluice", "limit", "ratio", "asked", "note")
        cells = [heads] + [tuple(str(row[key]) for key in heads) for row in self.rows]
        widths = [max(len(line[i]) for line in cells) for i in range(len(heads))]
        for number, line in enumerate(cells):
            print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
            if number == 0:
                print("  ".join("-" * width for width in widths))


def middle(values):
    return statistics.median(values)


def spread(values, digits=0):
    return f"{middle(values):,.{digits}f} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"


class Bench:
    def __init__(self, options):
        build = pathlib.Path(options.build)
        self.sluice = build / "src/app/sluice"
        self.floor_program = build / "bench/chain_floor"
        self.etcd_program = build / "bench/etcd_bench"
        self.names_program = build / "bench/bench_names"
        self.folder = build / "bench-data"
        self.base_port = options.base_port
        self.size_mib = 128 if options.quick else 1024
        self.rounds = 1 if options.quick else 3
        self.blobs = 1000 if options.quick else options.blobs
        self.small = 1_000 if options.quick else 20_000
        self.names = 10_000 if options.quick else options.names
        self.seconds = 2 if options.quick else 10
        self.table = Table()

    def floor(self, mode, *flags):
        return run_json([self.floor_program, "--mode", mode, "--mib", self.size_mib, "--dir", self.folder, *flags])

    # ---- bytes in

    def put(self, cluster, *flags):
        result = cluster.load("put", "--size", f"{self.size_mib}MiB", *flags)
        result["mb_per_s"] = result["mib_per_second"] * MIB / MB
        return result

    def put_beside(self, what, cluster, flags, floor_flags, asked, cpu_asked=None):
        ours, limits = [], []
        for _ in range(self.rounds):
            limits.append(self.floor(*floor_flags))
            ours.append(self.put(cluster, *flags))
        rates = [one["mb_per_s"] for one in ours]
        limit_rates = [one["mb_per_s"] for one in limits]
        ratios = [a / b for a, b in zip(rates, limit_rates)]
        cpu = middle([one["cpu_seconds_per_gib"] for one in ours])
        limit_cpu = middle([one["cpu_s_per_gib"] for one in limits])
        self.table.add(what, f"{spread(rates)} MB/s", f"{spread(limit_rates)} MB/s", f"{middle(ratios):.2f}", asked,
                       figures={"rates": rates, "limits": limit_rates})
        self.table.add("  CPU s/GiB, servers and client", f"{cpu:.2f}", f"{limit_cpu:.2f}", f"{cpu / limit_cpu:.2f}",
                       cpu_asked or "reported", figures={"cpu": cpu, "limit": limit_cpu})

    def part_put(self):
        with Cluster(self, "put", 3) as cluster:
            say("warming up: fresh page cache costs more than used one")
            self.floor("chain")
            self.put(cluster, "--no-digest")
            self.put_beside("put, chain, durable, no digest ÷ chain of sockets and files", cluster, ["--no-digest"],
                            ["chain"], "≥ 0.5", "≤ 2.5")
            self.put_beside("put, star, durable, no digest ÷ star of sockets and files", cluster,
                            ["--no-digest", "--route", "star"], ["star"], "≥ 0.5", "≤ 2.5")
            self.put_beside("put, chain, durable, SHA-256", cluster, [], ["chain"], "reported", "≤ 3.4")
            self.put_beside("put by ByteStream, no digest", cluster, ["--no-digest", "--via", "bytestream"], ["chain"],
                            "reported")
            self.put_beside("put by ByteStream, SHA-256", cluster, ["--via", "bytestream"], ["chain"], "reported")

    def part_nosync(self):
        with Cluster(self, "nosync", 3, wrap=["eatmydata"]) as cluster:
            self.put(cluster, "--no-digest")
            self.put_beside("put, chain, no digest, no sync at all ÷ chain without sync", cluster, ["--no-digest"],
                            ["chain", "--no-sync"], "reported")

    # ---- bytes out

    def part_get(self):
        with Cluster(self, "get", 3) as cluster:
            for what, flags in (("get, client does not hash", ["--no-digest"]), ("get, client verifies SHA-256", [])):
                ours, limits = [], []
                for _ in range(self.rounds):
                    limits.append(self.floor("read"))
                    ours.append(cluster.load("get", "--size", f"{self.size_mib}MiB", *flags))
                rates = [one["mib_per_second"] for one in ours]
                limit_rates = [one["mb_per_s"] * MB / MIB for one in limits]
                server_cpu = [sum(server["cpu_seconds"] for server in one["servers"]) / (one["bytes"] / (1 << 30))
                              for one in ours]
                ratio = middle([a / b for a, b in zip(rates, limit_rates)])
                verifies = not flags
                self.table.add(what + " ÷ one socket from page cache", f"{spread(rates)} MiB/s",
                               f"{spread(limit_rates)} MiB/s", f"{ratio:.2f}",
                               "reported" if verifies else "≥ 1,000 MiB/s", figures={"rates": rates, "limits": limit_rates})
                self.table.add("  CPU s/GiB, servers", f"{middle(server_cpu):.2f}", asked="≤ 0.5", figures={"cpu": server_cpu})

    def part_memory(self):
        with Cluster(self, "memory", 3) as cluster:
            size_mib = 4 * self.size_mib
            with PeakMemory(cluster.pids()) as peak:
                cluster.load("put", "--size", f"{size_mib}MiB", "--no-digest")
            text = ", ".join(f"{peer} {value / MIB:.0f}" for peer, value in sorted(peak.values.items()))
            self.table.add(f"resident memory while {size_mib} MiB are put", f"{text} MiB", asked="< 200 MiB",
                           figures=peak.values)

    # ---- small writes

    def part_log(self):
        etcd, many, one = [], [], []
        with Cluster(self, "log", 3) as cluster:
            for _ in range(self.rounds):
                etcd.append(run_json([self.etcd_program, "-dir", self.folder, "-time", f"{self.seconds}s"]))
                many.append(cluster.load("log", "--in-flight", "256", "--seconds", f"{self.seconds}s"))
                one.append(cluster.load("log", "--in-flight", "1", "--seconds", f"{max(1, self.seconds // 3)}s"))
        rates = [r["writes_per_second"] for r in many]
        limits = [r["etcd_puts_per_s"] for r in etcd]
        ratio = middle([a / b for a, b in zip(rates, limits)])
        self.table.add("INCREMENTs, 256 in flight ÷ etcd, 100-byte puts", f"{spread(rates)} /s", f"{spread(limits)} /s",
                       f"{ratio:.2f}", "≥ 2", figures={"rates": rates, "limits": limits})
        self.table.add("  p50; p99", f"{middle([r['p50_ms'] for r in many]):.1f}; "
                       f"{middle([r['p99_ms'] for r in many]):.1f} ms",
                       f"{middle([r['etcd_p50_ms'] for r in etcd]):.1f}; {middle([r['etcd_p99_ms'] for r in etcd]):.1f} ms")
        self.table.add("  CPU µs each, servers and client",
                       f"{middle([1e6 * r['cpu_seconds'] / r['writes'] for r in many]):.0f}")
        serial = [r["p50_ms"] for r in one]
        etcd_serial = [r["etcd_serial_p50_ms"] for r in etcd]
        self.table.add("one INCREMENT at a time, p50 ÷ etcd", f"{spread(serial, 2)} ms", f"{spread(etcd_serial, 2)} ms",
                       f"{middle([a / b for a, b in zip(serial, etcd_serial)]):.2f}", "≤ 1")
        parts = [r["append_sync_p50_ms"] + 2 * r["round_trip_p50_ms"] for r in etcd]
        self.table.add("  ÷ one fdatasync of an append + 2 round trips", f"{spread(serial, 2)} ms",
                       f"{spread(parts, 2)} ms", f"{middle([a / b for a, b in zip(serial, parts)]):.2f}", "≤ 3")

    # ---- start

    def part_start(self):
        with Cluster(self, "start", 1) as cluster:
            say(f"{self.blobs:,} uploads into one server")
            cluster.load("put", "--size", "65KiB", "--via", "bytestream", "--no-digest", "--in-flight", "32",
                         "--repeat", str(self.blobs), "--keep")
            times = []
            for _ in range(self.rounds):
                cluster.stop()
                times.append(cluster.start())
            killed = []
            for _ in range(self.rounds):
                pid = next(iter(cluster.pids().values()))
                os.kill(pid, signal.SIGKILL)
                cluster.stop()
                killed.append(cluster.start())
        self.table.add(f"start with {self.blobs:,} sealed blobs until ready", f"{spread(times, 2)} s", asked="< 1 s",
                       figures={"times": times})
        self.table.add("  the same after kill -9", f"{spread(killed, 2)} s", asked="reported", figures={"times": killed})

    # ---- a store full of names

    def small_blobs(self, cluster, names):
        """Puts and gets of small blobs into a store of so many; their figures, in that order."""
        put = run_json([self.names_program, "put", cluster.servers, names, self.small])
        get = run_json([self.names_program, "get", cluster.servers, names + self.small, self.small])
        return put, get

    def part_names(self):
        fresh, full = Cluster(self, "fresh", 3), Cluster(self, "full", 3)
        ours, limits = [], []
        with full:
            full.stop()
            indexes = sorted(full.folder.glob("*/index"))
            if len(indexes) != 3:
                raise RuntimeError(f"{full.folder} has {len(indexes)} indexes, not 3")
            say(f"{self.names:,} names into each of three stopped servers")
            fills = [subprocess.Popen([str(self.names_program), "fill", str(index), BLOB_GROUP, str(self.names)])
                     for index in indexes]
            if any([fill.wait() for fill in fills]):
                raise RuntimeError(f"the indexes of {full.folder} were not filled")
            with fresh:
                fresh.stop()
                for done in range(0, self.rounds * self.small, self.small):
                    fresh.start()
                    limits.append(self.small_blobs(fresh, done))
                    fresh.stop()
                    full.start()
                    with PeakMemory(full.pids()) as peak:
                        ours.append(self.small_blobs(full, self.names + done))
                    full.stop()
        for i, what in enumerate(("puts", "gets")):
            rates, limit_rates = ([one[i]["per_second"] for one in side] for side in (ours, limits))
            self.table.add(f"{what} of 64 bytes, 16 at once, {self.names:,} names stored ÷ a fresh store",
                           f"{spread(rates)} /s", f"{spread(limit_rates)} /s",
                           f"{middle([a / b for a, b in zip(rates, limit_rates)]):.2f}", "≥ 0.8",
                           f"p99 {middle([one[i]['p99_ms'] for one in ours]):.1f} ms, there "
                           f"{middle([one[i]['p99_ms'] for one in limits]):.1f}",
                           figures={"ours": ours, "fresh": limits})
        text = ", ".join(f"{peer} {value / MIB:.0f}" for peer, value in sorted(peak.values.items()))
        self.table.add("  resident memory meanwhile", f"{text} MiB", figures=peak.values)

    # ---- streams

    def stream(self, *command):
        return run_json([self.sluice, "bench", *command, "--json"])

    def stream_row(self, what, asked, message, **extra):
        flags = [word for key, value in extra.items() for word in (f"--{key}", value)]
        result = self.stream("stream", "--message", message, "--bytes", f"{2 * self.size_mib}MiB", "--rounds",
                             self.rounds, *flags)
        rates, limits = result["rounds_mb_per_second"], result["rounds_limit_mb_per_second"]
        self.table.add(what, f"{spread(rates)} MB/s", f"{spread(limits)} MB/s", f"{result['ratio']:.2f}", asked,
                       figures=result)
        self.table.add("  CPU s/GiB, both ends", f"{result['cpu_seconds_per_gib']:.2f}",
                       f"{result['limit_cpu_seconds_per_gib']:.2f}",
                       f"{result['cpu_seconds_per_gib'] / result['limit_cpu_seconds_per_gib']:.2f}", "reported",
                       f"stalls {result['stalls']:,}")

    def part_stream(self):
        for message in ("64KiB", "1MiB"):
            self.stream_row(f"one stream, {message} messages ÷ plain TCP", "≥ 0.85", message)
        self.small_messages()
        self.many_streams()
        self.stream_echo()
        self.stream_opens()

    def small_messages(self):
        count = 1_000_000 if self.rounds == 1 else 20_000_000
        result = self.stream("stream", "--message", "64", "--bytes", 64 * count, "--rounds", self.rounds)
        rates = [rate * MB / 64 / 1e6 for rate in result["rounds_mb_per_second"]]
        self.table.add("one stream, 64-byte messages", f"{spread(rates, 2)} M/s",
                       f"{result['limit_mb_per_second'] / 64:.1f} M/s", f"{result['ratio']:.2f}", "≥ 4 M/s",
                       figures=result)
        result = self.stream("stream", "--message", "1KiB", "--bytes", f"{2 * self.size_mib}MiB", "--rounds",
                             self.rounds)
        rates = [rate * MB / MIB for rate in result["rounds_mb_per_second"]]
        self.table.add("one stream, 1 KiB messages", f"{spread(rates)} MiB/s",
                       f"{result['limit_mb_per_second'] * MB / MIB:,.0f} MiB/s", f"{result['ratio']:.2f}",
                       "≥ 1,500 MiB/s", figures=result)

    def many_streams(self):
        flags = ["stream", "--bytes", f"{2 * self.size_mib}MiB", "--rounds", 1]
        one, many = [], []
        for _ in range(self.rounds):
            one.append(self.stream(*flags)["mb_per_second"])
            many.append(self.stream(*flags, "--streams", 64)["mb_per_second"])
        self.table.add("64 streams of one connection ÷ one stream", f"{spread(many)} MB/s", f"{spread(one)} MB/s",
                       f"{middle([a / b for a, b in zip(many, one)]):.2f}", "≥ 0.95",
                       figures={"many": many, "one": one})

    def stream_echo(self):
        result = self.stream("echo", "--message", "64", "--beside", "16MiB", "--beside-window", "64MiB",
                             "--beside-bytes", f"{4 * self.size_mib}MiB", "--rounds", self.rounds)
        for name, asked in (("p50", "≤ 1.5"), ("p99", "reported")):
            ours, limit = result[f"{name}_ms"] * 1e3, result[f"limit_{name}_ms"] * 1e3
            ratio = result["ratio"] if name == "p50" else ours / limit
            self.table.add(f"echo of 64 bytes, {name} ÷ plain TCP", f"{ours:.0f} µs", f"{limit:.0f} µs",
                           f"{ratio:.2f}", asked, figures=result)
        self.table.add("  beside a stream of 16 MiB messages: p50; p99; p99.9",
                       "; ".join(f"{result[f'beside_{p}_ms']:.2f}" for p in ("p50", "p99", "p999")) + " ms",
                       asked="p99 ≤ 1 ms")
        self.table.add("  that stream ÷ alone", f"{result['bulk_mb_per_second']:,.0f} MB/s",
                       f"{result['bulk_alone_mb_per_second']:,.0f} MB/s", f"{result['bulk_ratio']:.2f}", "≥ 0.8")

    def stream_opens(self):
        result = self.stream("idle", "--streams", "10000", "--rounds", self.rounds)
        self.table.add("10,000 idle streams of one connection, bytes each: client; server",
                       f"{result['client_bytes_per_stream']:.0f}; {result['server_bytes_per_stream']:.0f}",
                       asked="≤ 1,024", figures=result)
        for what, batch, asked in (("opens and closes, 32 at once", 1, "≥ 60,000 /s"),
                                   ("  in batches of 100", 100, "≥ 1,000,000 /s")):
            result = self.stream("open", "--at-once", "32", "--batch", batch, "--rounds", self.rounds)
            self.table.add(what, f"{spread(result['rounds_per_second'])} /s", asked=asked, figures=result)


class PeakMemory:
    """Largest resident size of each process while the block runs."""

    def __init__(self, pids):
        self.pids = pids
        self.values = {peer: 0 for peer in pids}
        self.done = threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()

    def watch(self):
        page = os.sysconf("SC_PAGE_SIZE")
        while not self.done.wait(0.05):
            for peer, pid in self.pids.items():
                with contextlib.suppress(OSError):
                    resident = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * page
                    self.values[peer] = max(self.values[peer], resident)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", help="build folder of the release preset")
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, of {','.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="small sizes, one round: shows that it runs, measures nothing")
    parser.add_argument("--blobs", type=int, default=100_000, help="stored before the start is timed")
    parser.add_argument("--names", type=int, default=1_000_000, help="stored before small puts and gets are timed")
    parser.add_argument("--base-port", type=int, default=17700)
    options = parser.parse_args()
    parts = options.only.split(",")
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        parser.error(f"unknown part {unknown[0]}: choose from {', '.join(PARTS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that blocks end, and their servers with them
    bench = Bench(options)
    shutil.rmtree(bench.folder, ignore_errors=True)
    bench.folder.mkdir(parents=True)
    failed = False
    try:
        for part in parts:
            try:
                getattr(bench, f"part_{part}")()
            except (RuntimeError, OSError) as error:
                failed = True
                print(f"bench: {part}: {error}", file=sys.stderr)
    finally:
        if not failed:
            shutil.rmtree(bench.folder, ignore_errors=True)
    print(f"\n{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {time.strftime('%Y-%m-%d %H:%M')} "
          f"median of {bench.rounds} alternating rounds (range)\n")
    bench.table.print()
    pathlib.Path(options.build, "bench.json").write_text(json.dumps(bench.table.rows, indent=1, ensure_ascii=False))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
