"""The core ByteStream cases from Python, with grpcio.

    bytestream_peer.py --servers 127.0.0.1:7400,127.0.0.1:7410,127.0.0.1:7420

The types are made from proto/google/bytestream/bytestream.proto of this repository by prepare.sh: no package on PyPI
has them. One line per case, then `N passed, N failed`; exit code 0 if all passed, 1 if one failed, 2 for wrong usage.
"""

import argparse
import concurrent.futures
import hashlib
import os
import random
import sys
import time
import uuid

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from google.bytestream import bytestream_pb2 as pb
from google.bytestream import bytestream_pb2_grpc as pb_grpc

CHUNK_BYTES = 256 << 10
# No call of a healthy store takes this long; a hang becomes a failed case instead of a hung run.
CALL_TIMEOUT_S = 60
MIB = 1 << 20
Code = grpc.StatusCode


class Failed(Exception):
    """An expectation that did not hold."""


def expect(condition, text):
    if not condition:
        raise Failed(text)


class Server:
    """One server, by a channel with default options: its 4 MiB receive limit is part of the test."""

    def __init__(self, address):
        self.address = address
        self.channel = grpc.insecure_channel(address)
        self.stub = pb_grpc.ByteStreamStub(self.channel)

    def send(self, messages):
        """Plays (name, offset, data, finish) messages; gives the committed size."""
        requests = (
            pb.WriteRequest(resource_name=name, write_offset=offset, data=data, finish_write=finish)
            for name, offset, data, finish in messages
        )
        return self.stub.Write(requests, timeout=CALL_TIMEOUT_S).committed_size

    def put(self, name, data):
        size = self.send(pieces(name, data, 0, len(data), True))
        expect(size == len(data), f"{self.address}: committed_size of {len(data)} bytes is {size}")

    def read(self, name, offset=0, limit=0):
        request = pb.ReadRequest(resource_name=name, read_offset=offset, read_limit=limit)
        return b"".join(response.data for response in self.stub.Read(request, timeout=CALL_TIMEOUT_S))

    def query(self, name):
        reply = self.stub.QueryWriteStatus(pb.QueryWriteStatusRequest(resource_name=name), timeout=CALL_TIMEOUT_S)
        return reply.committed_size, reply.complete

    def expect_bytes(self, name, want):
        got = self.read(name)
        expect(got == want, f"{self.address}: {name[:60]!r} gives {len(got)} bytes that differ from the {len(want)}")

    def expect_status(self, name, size, complete):
        got = self.query(name)
        expect(got == (size, complete), f"{self.address}: query of {name[:60]!r} says {got}, want {(size, complete)}")

    def expect_absent(self, name):
        expect_code(Code.NOT_FOUND, lambda: self.read(name))


def pieces(name, data, start, end, finish, chunk=CHUNK_BYTES):
    """Messages for data[start:end); the name goes into the first one only."""
    if start == end:
        yield name, start, b"", finish
    for at in range(start, end, chunk):
        stop = min(at + chunk, end)
        yield name if at == start else "", at, data[at:stop], finish and stop == end


def code_of(call):
    try:
        call()
    except grpc.RpcError as error:
        return error.code()
    return Code.OK


def expect_code(want, call):
    got = code_of(call)
    expect(got == want, f"answered {got.name}, want {want.name}")


def payload(seed, size):
    return random.Random(seed).randbytes(size)


class Cases:
    """Every method whose name starts with `case_` is one case."""

    def __init__(self, servers):
        self.servers = servers
        self.first, self.second = servers[0], servers[1]
        self.prefix = f"interop-python/{uuid.uuid4().hex[:12]}"

    def name(self, suffix):
        return f"{self.prefix}/{suffix}"

    def stored(self, writer, name, data):
        writer.put(name, data)
        for server in self.servers:
            server.expect_bytes(name, data)
            server.expect_status(name, len(data), True)

    def absent_everywhere(self, name):
        for server in self.servers:
            server.expect_absent(name)

    def case_transfer_every_size_every_server(self):
        for number, size in enumerate([0, 1, 64, 64 << 10, (64 << 10) + 1, 3 * MIB + 17]):
            writer = self.servers[number % len(self.servers)]
            self.stored(writer, self.name(f"size-{size}"), payload(size, size))

    def case_transfer_40_mib(self):
        self.stored(self.first, self.name("large"), payload(40, 40 * MIB))

    def case_transfer_by_digest(self):
        data = payload(41, 100_000)
        self.first.put(self.name("digest"), data)
        for server in self.servers:
            server.expect_bytes("sha256:" + hashlib.sha256(data).hexdigest(), data)

    def case_transfer_two_names_same_bytes_at_once(self):
        data = payload(42, 2 * MIB)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            writes = [pool.submit(self.servers[i].put, self.name(f"twin-{i}"), data) for i in range(2)]
            for write in writes:
                write.result()
        for i in range(2):
            for server in self.servers:
                server.expect_bytes(self.name(f"twin-{i}"), data)

    def refused(self, label, make_messages):
        name = self.name(label)
        expect_code(Code.INVALID_ARGUMENT, lambda: self.first.send(make_messages(name)))
        self.absent_everywhere(name)

    def case_write_first_offset_4096(self):
        self.refused("first-4096", lambda name: [(name, 4096, b"abc", True)])

    def case_write_first_offset_negative(self):
        self.refused("negative", lambda name: [(name, -1, b"abc", True)])

    def case_write_hole(self):
        self.refused("hole", lambda name: [(name, 0, b"abc", False), ("", 5, b"def", True)])

    def case_write_offset_goes_back(self):
        self.refused("back", lambda name: [(name, 0, b"abc", False), ("", 2, b"cdef", True)])

    def case_write_name_changes(self):
        self.refused("changes", lambda name: [(name, 0, b"abc", False), (name + "x", 3, b"def", True)])

    def case_write_no_message(self):
        expect_code(Code.INVALID_ARGUMENT, lambda: self.first.send([]))

    def case_write_name_in_every_message(self):
        data = payload(43, 300_000)
        name = self.name("every")
        self.first.send((name, at, part, finish) for _, at, part, finish in pieces("", data, 0, 300_000, True, 7919))
        self.second.expect_bytes(name, data)

    def case_write_data_after_finish(self):
        data = payload(44, 200_000)
        name = self.name("after-finish")
        self.first.put(name, data)
        messages = list(pieces(name, data, 0, len(data), True)) + [("", len(data), b"too late", False)]
        # The server may have answered before it saw the late message; it must not have taken it either way.
        code = code_of(lambda: self.first.send(messages))
        expect(code in (Code.INVALID_ARGUMENT, Code.OK), f"answered {code.name}")
        for server in self.servers:
            server.expect_bytes(name, data)

    def case_write_again(self):
        name, data = self.name("again"), payload(45, 100_000)
        for server in self.servers:
            server.put(name, data)
        expect_code(Code.ALREADY_EXISTS, lambda: self.second.put(name, data[:-1] + b"?"))
        expect_code(Code.ALREADY_EXISTS, lambda: self.second.put(name, data[:-1]))
        for server in self.servers:
            server.expect_bytes(name, data)

    def case_resume_after_half_close(self):
        name, data = self.name("half-close"), payload(46, 2 * MIB)
        size = self.first.send(pieces(name, data, 0, MIB, False))
        expect(size == MIB, f"half-close answered {size}")
        self.first.expect_status(name, MIB, False)
        self.absent_everywhere(name)
        expect_code(Code.INVALID_ARGUMENT, lambda: self.first.send(pieces(name, data, MIB + 1, 2 * MIB, True)))
        self.first.expect_status(name, MIB, False)
        size = self.first.send(pieces(name, data, MIB, 2 * MIB, True))
        expect(size == 2 * MIB, f"the end answered {size}")
        for server in self.servers:
            server.expect_status(name, 2 * MIB, True)
            server.expect_bytes(name, data)

    def case_resume_after_cancel(self):
        name, data = self.name("cancel"), payload(47, 2 * MIB)
        release = concurrent.futures.Future()

        def half():
            for name_, at, part, _ in pieces(name, data, 0, MIB, False, 64 << 10):
                yield pb.WriteRequest(resource_name=name_, write_offset=at, data=part)
            release.result()  # keeps the call open

        call = self.first.stub.Write.future(half(), timeout=CALL_TIMEOUT_S)
        before = self.wait_for_progress(name)
        call.cancel()
        release.set_result(None)
        size, complete = self.first.query(name)
        expect(not complete and before <= size <= MIB, f"query says {size}/{complete}, said {before} before the cut")
        self.absent_everywhere(name)
        while True:
            code = code_of(lambda: self.first.send(pieces(name, data, size, 2 * MIB, True)))
            if code == Code.OK:
                break
            # Bytes of the broken call may still have come in after the answer; then the next answer is larger.
            later, complete = self.first.query(name)
            expect(code == Code.INVALID_ARGUMENT and not complete and size < later <= MIB,
                   f"going on at {size}: {code.name}, and query says {later}/{complete}")
            size = later
        for server in self.servers:
            server.expect_bytes(name, data)

    def wait_for_progress(self, name):
        deadline = time.monotonic() + CALL_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                size, _ = self.first.query(name)
                if size > 0:
                    return size
            except grpc.RpcError as error:
                expect(error.code() == Code.NOT_FOUND, f"query answered {error.code().name}")
            time.sleep(0.005)  # tidy-allow: the protocol has no other way to learn of progress
        raise Failed(f"query shows no progress of a running upload within {CALL_TIMEOUT_S} s")

    def case_query_unknown(self):
        for server in self.servers:
            expect_code(Code.NOT_FOUND, lambda s=server: s.query(self.name("unknown")))

    def case_read_offsets_and_limits(self):
        name, size = self.name("read"), 300_007
        data = payload(48, size)
        self.first.put(name, data)
        for server in self.servers:
            for offset in (0, 1, 65_536, size - 1, size):
                for limit in (0, 1, size - 1, size, size + 1000):
                    want = data[offset:][: limit or None]
                    got = server.read(name, offset, limit)
                    expect(got == want, f"{server.address}: offset {offset}, limit {limit}: {len(got)} of {len(want)}")
            for offset in (size + 1, -1, 2**63 - 1):
                expect_code(Code.OUT_OF_RANGE, lambda s=server, o=offset: s.read(name, o))
            expect_code(Code.INVALID_ARGUMENT, lambda s=server: s.read(name, 0, -1))

    def case_read_absent(self):
        self.absent_everywhere(self.name("absent"))

    def case_read_cancelled_then_good(self):
        name, data = self.name("cancelled-reads"), payload(49, 3 * MIB + 17)
        self.first.put(name, data)
        for server in self.servers:
            for _ in range(20):
                call = server.stub.Read(pb.ReadRequest(resource_name=name), timeout=CALL_TIMEOUT_S)
                next(call)
                call.cancel()
            server.expect_bytes(name, data)

    def case_names(self):
        for name in (f"../../{self.prefix}/etc/passwd", f"a/{self.prefix}/b/c", f"{self.prefix}/Größe/日本語/☃/𝄞",
                     f"{self.prefix}//", f"{self.prefix}/..", self.prefix + "n" * (1024 - len(self.prefix))):
            self.stored(self.second, name, name.encode())

    def case_names_refused(self):
        for name in ("", self.prefix + "n" * (1025 - len(self.prefix)), self.prefix + "\0b"):
            expect_code(Code.INVALID_ARGUMENT, lambda n=name: self.first.send([(n, 0, b"abc", True)]))
            expect_code(Code.INVALID_ARGUMENT, lambda n=name: self.first.read(n))
            expect_code(Code.INVALID_ARGUMENT, lambda n=name: self.first.query(n))

    def case_names_invalid_utf8(self):
        """The generated types would not send it, so the message is written by hand: field 1, length, bytes."""
        name = self.prefix.encode() + b"/\xff\xfe"
        request = b"\x0a" + bytes([len(name)]) + name + b"\x18\x01"
        method = "/google.bytestream.ByteStream/"
        write = self.first.channel.stream_unary(method + "Write")
        read = self.first.channel.unary_stream(method + "Read")
        expect_code(Code.INVALID_ARGUMENT, lambda: write(iter([request]), timeout=CALL_TIMEOUT_S))
        expect_code(Code.INVALID_ARGUMENT, lambda: list(read(request[:-2], timeout=CALL_TIMEOUT_S)))

    def case_service_health(self):
        for server in self.servers:
            reply = health_pb2_grpc.HealthStub(server.channel).Check(
                health_pb2.HealthCheckRequest(), timeout=CALL_TIMEOUT_S)
            expect(reply.status == health_pb2.HealthCheckResponse.SERVING, f"{server.address} says {reply.status}")

    def case_service_reflection(self):
        for server in self.servers:
            stub = reflection_pb2_grpc.ServerReflectionStub(server.channel)
            request = reflection_pb2.ServerReflectionRequest(list_services="")
            reply = next(stub.ServerReflectionInfo(iter([request]), timeout=CALL_TIMEOUT_S))
            names = [service.name for service in reply.list_services_response.service]
            expect("google.bytestream.ByteStream" in names, f"{server.address} lists {names}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--servers", default=os.environ.get("SLUICE_SERVERS", ""))
    parser.add_argument("--only", default="", help="run only the cases whose name contains this")
    arguments = parser.parse_args()
    addresses = [address for address in arguments.servers.split(",") if address]
    if len(addresses) < 2:
        parser.error("--servers needs at least two addresses: what one server takes, another must give")
    cases = Cases([Server(address) for address in addresses])
    passed = failed = 0
    for attribute in dir(Cases):
        if not attribute.startswith("case_") or arguments.only not in attribute:
            continue
        label = attribute.removeprefix("case_").replace("_", "-")
        start = time.monotonic()
        try:
            getattr(cases, attribute)()
            passed += 1
            print(f"ok   python/{label} ({(time.monotonic() - start) * 1e3:.0f} ms)", flush=True)
        except (Failed, grpc.RpcError) as error:
            failed += 1
            text = f"{error.code().name}: {error.details()}" if isinstance(error, grpc.RpcError) else str(error)
            print(f"FAIL python/{label}: {text}", flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
