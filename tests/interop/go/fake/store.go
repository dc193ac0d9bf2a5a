// Package fake is a small in-memory ByteStream store with any number of front doors. It shows that the cases can pass,
// and, by one fault at a time, that they can fail.
package fake

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"unicode/utf8"

	pb "google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Faults are the things that a store may do wrong; each must be caught by a case.
var Faults = []string{
	"first-offset", "later-offset", "name-change", "late-data", "read-offset", "read-limit", "flipped-byte", "cut-tail",
	"unsealed-visible", "query-sent", "query-complete", "overwrite", "name-length", "name-nul", "name-utf8",
	"not-replicated", "committed-size", "no-health", "big-message", "digest", "forgets-half-close", "exists-on-equal",
}

const nameBytesMax = 1024

// Store is the shared state of all front doors.
type Store struct {
	fault   string
	mutex   sync.Mutex
	sealed  map[string][]byte
	digests map[string][]byte
	local   map[string]*door // where a name was written, for the fault not-replicated
}

type door struct {
	pb.UnimplementedByteStreamServer
	store   *Store
	staged  map[string][]byte
	attempt map[string]int // the newest call that writes a name owns it
}

// New makes a store; an empty fault is a right one.
func New(fault string) *Store {
	return &Store{fault: fault, sealed: map[string][]byte{}, digests: map[string][]byte{}, local: map[string]*door{}}
}

// Serve opens a front door on a listener. It returns the server, which the caller stops.
func (s *Store) Serve(listener net.Listener) *grpc.Server {
	server := grpc.NewServer(grpc.MaxRecvMsgSize(5<<20), grpc.ForceServerCodec(lenient{}))
	pb.RegisterByteStreamServer(server, &door{store: s, staged: map[string][]byte{}, attempt: map[string]int{}})
	if s.fault != "no-health" {
		healthpb.RegisterHealthServer(server, health.NewServer())
	}
	reflection.Register(server)
	go func() { _ = server.Serve(listener) }()
	return server
}

func (s *Store) is(fault string) bool { return s.fault == fault }

func invalid(format string, args ...any) error {
	return status.Errorf(codes.InvalidArgument, format, args...)
}

func (s *Store) checkName(name string) error {
	switch {
	case name == "":
		return invalid("the name is empty")
	case len(name) > nameBytesMax && !s.is("name-length"):
		return invalid("the name has %d bytes, at most %d", len(name), nameBytesMax)
	case strings.Contains(name, "\x00") && !s.is("name-nul"):
		return invalid("the name holds a NUL")
	case !utf8.ValidString(name) && !s.is("name-utf8"):
		return invalid("the name is not UTF-8")
	}
	return nil
}

func (s *Store) lookup(d *door, name string) ([]byte, bool) {
	if data, ok := s.digests[name]; ok {
		return data, true
	}
	data, ok := s.sealed[name]
	if ok && s.is("not-replicated") && s.local[name] != d {
		return nil, false
	}
	return data, ok
}

func digestName(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func isDigestName(name string) bool {
	raw, err := hex.DecodeString(strings.TrimPrefix(name, "sha256:"))
	return strings.HasPrefix(name, "sha256:") && err == nil && len(raw) == sha256.Size
}

func (d *door) seal(name string, data []byte) error {
	s := d.store
	if isDigestName(name) && digestName(data) != name && !s.is("digest") {
		delete(d.staged, name)
		return invalid("the bytes do not have the digest of the name")
	}
	old, exists := s.sealed[name]
	if exists && (!bytes.Equal(old, data) || s.is("exists-on-equal")) && !s.is("overwrite") {
		delete(d.staged, name)
		return status.Error(codes.AlreadyExists, "the name holds other bytes")
	}
	s.sealed[name], s.digests[digestName(data)], s.local[name] = data, data, d
	delete(d.staged, name)
	return nil
}

func (d *door) Write(stream pb.ByteStream_WriteServer) error {
	s, name, mine, finished := d.store, "", 0, false
	next := int64(0)
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		s.mutex.Lock()
		if finished {
			if s.is("late-data") {
				s.sealed[name] = append(bytes.Clone(s.sealed[name]), request.Data...)
				s.mutex.Unlock()
				continue
			}
			s.mutex.Unlock()
			return invalid("a message after finish_write")
		}
		if name == "" {
			err = d.begin(request, &name, &mine, &next)
		} else if request.ResourceName != "" && request.ResourceName != name && !s.is("name-change") {
			err = invalid("the name changed")
		} else if request.WriteOffset != next && !s.is("later-offset") {
			err = invalid("write_offset is %d, want %d", request.WriteOffset, next)
		} else if d.attempt[name] != mine {
			err = status.Error(codes.Aborted, "another call took the upload over")
		}
		if err == nil {
			d.staged[name] = append(d.staged[name], request.Data...)
			next += int64(len(request.Data))
			if request.FinishWrite {
				finished, err = true, d.seal(name, d.staged[name])
			}
		}
		s.mutex.Unlock()
		if err != nil {
			return err
		}
	}
	if name == "" {
		return invalid("no message")
	}
	if !finished && s.is("forgets-half-close") {
		s.mutex.Lock()
		delete(d.staged, name)
		s.mutex.Unlock()
	}
	if s.is("committed-size") {
		next++
	}
	return stream.SendAndClose(&pb.WriteResponse{CommittedSize: next})
}

func (d *door) begin(request *pb.WriteRequest, name *string, mine *int, next *int64) error {
	s := d.store
	if err := s.checkName(request.ResourceName); err != nil {
		return err
	}
	*name = request.ResourceName
	if request.WriteOffset == 0 {
		d.staged[*name] = nil
	} else if request.WriteOffset != int64(len(d.staged[*name])) && !s.is("first-offset") {
		return invalid("write_offset is %d, want %d", request.WriteOffset, len(d.staged[*name]))
	}
	*next = request.WriteOffset
	d.attempt[*name]++
	*mine = d.attempt[*name]
	return nil
}

func (d *door) Read(request *pb.ReadRequest, stream pb.ByteStream_ReadServer) error {
	s := d.store
	if err := s.checkName(request.ResourceName); err != nil {
		return err
	}
	s.mutex.Lock()
	data, ok := s.lookup(d, request.ResourceName)
	if !ok && s.is("unsealed-visible") {
		data, ok = d.staged[request.ResourceName]
	}
	s.mutex.Unlock()
	if !ok {
		return status.Error(codes.NotFound, "no such resource")
	}
	offset, limit, size := request.ReadOffset, request.ReadLimit, int64(len(data))
	if offset < 0 || offset > size {
		if !s.is("read-offset") {
			return status.Errorf(codes.OutOfRange, "read_offset is %d, the size %d", offset, size)
		}
		offset = size
	}
	if limit < 0 && !s.is("read-limit") {
		return invalid("read_limit is %d", limit)
	}
	part := data[offset:]
	if limit > 0 && limit < int64(len(part)) {
		part = part[:limit]
	}
	return s.stream(part, stream)
}

func (s *Store) stream(part []byte, stream pb.ByteStream_ReadServer) error {
	if s.is("flipped-byte") && len(part) > 70_000 {
		part = bytes.Clone(part)
		part[65_536] ^= 1
	}
	if s.is("cut-tail") && len(part) > 1<<20 {
		part = part[:1<<20]
	}
	chunk := 512 << 10
	if s.is("big-message") {
		chunk = 5 << 20
	}
	for at := 0; at < len(part); at += chunk {
		if err := stream.Send(&pb.ReadResponse{Data: part[at:min(at+chunk, len(part))]}); err != nil {
			return err
		}
	}
	return nil
}

func (d *door) QueryWriteStatus(_ context.Context, request *pb.QueryWriteStatusRequest) (*pb.QueryWriteStatusResponse,
	error) {
	s := d.store
	if err := s.checkName(request.ResourceName); err != nil {
		return nil, err
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if data, ok := s.lookup(d, request.ResourceName); ok {
		return &pb.QueryWriteStatusResponse{CommittedSize: int64(len(data)), Complete: true}, nil
	}
	data, ok := d.staged[request.ResourceName]
	if !ok {
		return nil, status.Error(codes.NotFound, "no such upload")
	}
	size := int64(len(data))
	if s.is("query-sent") {
		size += 1 << 20
	}
	return &pb.QueryWriteStatusResponse{CommittedSize: size, Complete: s.is("query-complete")}, nil
}

// lenient decodes the name by hand, so that a name which is not UTF-8 gets a status of ours instead of the codec's.
type lenient struct{}

func (lenient) Name() string { return "proto" }

func (lenient) Marshal(message any) ([]byte, error) { return proto.Marshal(message.(proto.Message)) }

func (lenient) Unmarshal(data []byte, message any) error {
	err := proto.Unmarshal(data, message.(proto.Message))
	if err == nil {
		return nil
	}
	number, kind, tag := protowire.ConsumeTag(data)
	if tag < 0 || number != 1 || kind != protowire.BytesType {
		return err
	}
	name, size := protowire.ConsumeBytes(data[tag:])
	if size < 0 || utf8.Valid(name) {
		return err
	}
	if rest := proto.Unmarshal(data[tag+size:], message.(proto.Message)); rest != nil {
		return rest
	}
	switch m := message.(proto.Message).(type) {
	case *pb.WriteRequest:
		m.ResourceName = string(name)
	case *pb.ReadRequest:
		m.ResourceName = string(name)
	case *pb.QueryWriteStatusRequest:
		m.ResourceName = string(name)
	}
	return nil
}
