// Package interop holds the cases that a google.bytestream.ByteStream store of several servers must pass, written with
// the published Go types and a default gRPC client.
package interop

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	pb "google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

const (
	chunkBytes = 256 << 10
	// No call of a healthy store takes this long; a hang becomes a failed case instead of a hung run.
	callTimeout = 60 * time.Second
)

// Server is one server of the cluster.
type Server struct {
	Address string
	Conn    *grpc.ClientConn
	Stub    pb.ByteStreamClient
}

// Dial connects lazily with default options: the 4 MiB receive limit of the default client is part of the test.
func Dial(address string) (*Server, error) {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	return &Server{Address: address, Conn: conn, Stub: pb.NewByteStreamClient(conn)}, nil
}

// message is one WriteRequest of a scripted call; an empty name is not sent.
type message struct {
	name   string
	offset int64
	data   []byte
	finish bool
}

// send plays messages and gives the server's answer. An early answer is an answer: sending stops there.
func (s *Server) send(messages ...message) (int64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	stream, err := s.Stub.Write(ctx)
	if err != nil {
		return 0, err
	}
	for _, m := range messages {
		err := stream.Send(&pb.WriteRequest{ResourceName: m.name, WriteOffset: m.offset, Data: m.data, FinishWrite: m.finish})
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if err != nil {
			break
		}
	}
	reply, err := stream.CloseAndRecv()
	if err != nil {
		return 0, err
	}
	return reply.CommittedSize, nil
}

// pieces cuts data[from:to) into messages; the name goes into the first one only, as most clients do.
func pieces(name string, data []byte, from, to, chunk int, finish bool) []message {
	messages := []message{}
	for at := from; at < to; at += chunk {
		end := min(at+chunk, to)
		messages = append(messages, message{offset: int64(at), data: data[at:end], finish: finish && end == to})
	}
	if len(messages) == 0 {
		messages = append(messages, message{offset: int64(from), finish: finish})
	}
	messages[0].name = name
	return messages
}

// put writes a whole resource and checks the committed size.
func (s *Server) put(name string, data []byte) error {
	size, err := s.send(pieces(name, data, 0, len(data), chunkBytes, true)...)
	if err != nil {
		return fmt.Errorf("write of %d bytes at %s: %w", len(data), s.Address, err)
	}
	if size != int64(len(data)) {
		return fmt.Errorf("write of %d bytes at %s: committed_size is %d", len(data), s.Address, size)
	}
	return nil
}

// read gives the bytes of one Read call and its final status; every message must be under the default limit.
func (s *Server) read(name string, offset, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	stream, err := s.Stub.Read(ctx, &pb.ReadRequest{ResourceName: name, ReadOffset: offset, ReadLimit: limit})
	if err != nil {
		return nil, err
	}
	var all []byte
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		if len(response.Data) >= 4<<20 {
			return all, fmt.Errorf("a ReadResponse of %s carries %d bytes", s.Address, len(response.Data))
		}
		all = append(all, response.Data...)
	}
}

func (s *Server) query(name string) (*pb.QueryWriteStatusResponse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	return s.Stub.QueryWriteStatus(ctx, &pb.QueryWriteStatusRequest{ResourceName: name})
}

// expectBytes reads the whole resource and compares.
func (s *Server) expectBytes(name string, want []byte) error {
	got, err := s.read(name, 0, 0)
	if err != nil {
		return fmt.Errorf("read of %q at %s after %d bytes: %w", short(name), s.Address, len(got), err)
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("read of %q at %s: %s", short(name), s.Address, difference(got, want))
	}
	return nil
}

func (s *Server) expectAbsent(name string) error {
	got, err := s.read(name, 0, 0)
	if err := expectCode(err, codes.NotFound); err != nil {
		return fmt.Errorf("read of %q at %s: %w", short(name), s.Address, err)
	}
	if len(got) != 0 {
		return fmt.Errorf("read of %q at %s: %d bytes before NOT_FOUND", short(name), s.Address, len(got))
	}
	return nil
}

// expectStatus checks what QueryWriteStatus answers.
func (s *Server) expectStatus(name string, size int64, complete bool) error {
	reply, err := s.query(name)
	if err != nil {
		return fmt.Errorf("query of %q at %s: %w", short(name), s.Address, err)
	}
	if reply.CommittedSize != size || reply.Complete != complete {
		return fmt.Errorf("query of %q at %s: %d/%t, want %d/%t", short(name), s.Address, reply.CommittedSize,
			reply.Complete, size, complete)
	}
	return nil
}

func expectCode(err error, want ...codes.Code) error {
	got := status.Code(err)
	for _, code := range want {
		if got == code {
			return nil
		}
	}
	return fmt.Errorf("answered %v (%q), want %v", got, status.Convert(err).Message(), want)
}

func difference(got, want []byte) string {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Sprintf("%d of %d bytes, different from byte %d on", len(got), len(want), i)
		}
	}
	return fmt.Sprintf("%d bytes, want %d", len(got), len(want))
}

func short(name string) string {
	if len(name) > 60 {
		return name[:60] + "…"
	}
	return name
}

// payload gives bytes that differ at every offset and between seeds.
func payload(seed uint64, size int) []byte {
	source := rand.NewChaCha8(sha256.Sum256(fmt.Appendf(nil, "payload %d", seed)))
	data := make([]byte, size)
	_, _ = source.Read(data)
	return data
}

func digestName(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}
