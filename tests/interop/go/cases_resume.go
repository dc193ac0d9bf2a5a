package interop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	pb "google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	resumeTotal = 2 << 20
	resumeHalf  = 1 << 20
)

func resumeCases() []Case {
	return []Case{
		{"resume/half-close-then-go-on", func(c *Cluster) error {
			data, name := payload(50, resumeTotal), c.name("half-close")
			size, err := c.first().send(pieces(name, data, 0, resumeHalf, 64<<10, false)...)
			if err != nil {
				return err
			}
			if size != resumeHalf {
				return fmt.Errorf("half-close answered committed_size %d, want %d", size, resumeHalf)
			}
			if err := c.first().expectStatus(name, resumeHalf, false); err != nil {
				return err
			}
			if err := c.everywhere(func(s *Server) error { return s.expectAbsent(name) }); err != nil {
				return err
			}
			return goOn(c, name, data, resumeHalf)
		}},
		{"resume/cancel-then-go-on", func(c *Cluster) error {
			data, name := payload(51, resumeTotal), c.name("cancel")
			committed, err := cutUpload(c.first(), name, data)
			if err != nil {
				return err
			}
			if err := c.everywhere(func(s *Server) error { return s.expectAbsent(name) }); err != nil {
				return err
			}
			return goOnAfterCut(c, name, data, committed)
		}},
		{"resume/cut-again-and-again", func(c *Cluster) error {
			data, name := payload(52, resumeTotal), c.name("again-and-again")
			at := 0
			for _, to := range []int{1, 65_536, 65_537, 700_001, resumeTotal} {
				size, err := c.first().send(pieces(name, data, at, to, 100_000, false)...)
				if err != nil {
					return fmt.Errorf("bytes %d to %d: %w", at, to, err)
				}
				if size != int64(to) {
					return fmt.Errorf("bytes %d to %d: committed_size is %d", at, to, size)
				}
				at = to
			}
			if err := c.first().expectStatus(name, resumeTotal, false); err != nil {
				return fmt.Errorf("all bytes there, not finished: %w", err)
			}
			if err := c.second().expectAbsent(name); err != nil {
				return err
			}
			return goOn(c, name, data, resumeTotal)
		}},
		{"resume/past-the-answer", func(c *Cluster) error {
			return refusedResume(c, "past", func(committed int64) int64 { return committed + 1 })
		}},
		{"resume/before-the-answer", func(c *Cluster) error {
			return refusedResume(c, "before", func(committed int64) int64 { return committed - 1 })
		}},
		{"resume/wrong-later-offset-keeps-what-was-there", func(c *Cluster) error {
			data, name := payload(53, resumeTotal), c.name("later")
			if _, err := c.first().send(pieces(name, data, 0, resumeHalf, 64<<10, false)...); err != nil {
				return err
			}
			_, err := c.first().send(message{name: name, offset: resumeHalf, data: data[resumeHalf : resumeHalf+1000]},
				message{offset: resumeHalf + 5000, data: data[:1000], finish: true})
			if err := expectCode(err, codes.InvalidArgument); err != nil {
				return err
			}
			reply, err := c.first().query(name)
			if err != nil {
				return err
			}
			if reply.Complete || reply.CommittedSize < resumeHalf || reply.CommittedSize > resumeHalf+1000 {
				return fmt.Errorf("query says %v after a refused message", reply)
			}
			return goOn(c, name, data, int(reply.CommittedSize))
		}},
		{"resume/offset-0-starts-anew", func(c *Cluster) error {
			name, fresh := c.name("anew"), payload(55, 500_000)
			if _, err := c.first().send(pieces(name, payload(54, 800_000), 0, 800_000, 64<<10, false)...); err != nil {
				return err
			}
			if err := c.first().put(name, fresh); err != nil {
				return err
			}
			return c.everywhere(func(s *Server) error { return s.expectBytes(name, fresh) })
		}},
		{"query/grows-and-never-falls", queryGrows},
		{"query/unknown", func(c *Cluster) error {
			return c.everywhere(func(s *Server) error {
				_, err := s.query(c.name("never-written"))
				return expectCode(err, codes.NotFound)
			})
		}},
		{"query/unfinished-at-another-server", func(c *Cluster) error {
			data, name := payload(57, 100_000), c.name("elsewhere")
			if _, err := c.first().send(pieces(name, data, 0, len(data), 64<<10, false)...); err != nil {
				return err
			}
			// A server that cannot pass the question on says NOT_FOUND; one that can gives the true answer.
			reply, err := c.second().query(name)
			if err := expectCode(err, codes.OK, codes.NotFound); err != nil {
				return err
			}
			if err == nil && (reply.Complete || reply.CommittedSize > int64(len(data))) {
				return fmt.Errorf("query at another server says %v of %d unfinished bytes", reply, len(data))
			}
			return goOn(c, name, data, len(data))
		}},
	}
}

// goOn completes an upload at the server that has it and compares everywhere.
func goOn(c *Cluster, name string, data []byte, from int) error {
	size, err := c.first().send(pieces(name, data, from, len(data), 64<<10, true)...)
	if err != nil {
		return fmt.Errorf("going on at %d: %w", from, err)
	}
	if size != int64(len(data)) {
		return fmt.Errorf("going on at %d: committed_size is %d, want %d", from, size, len(data))
	}
	return c.everywhere(func(s *Server) error {
		if err := s.expectStatus(name, int64(len(data)), true); err != nil {
			return err
		}
		return s.expectBytes(name, data)
	})
}

// goOnAfterCut allows for bytes of the broken call that the server was still taking in when it was asked: then the
// offset is refused, and the next answer must be larger.
func goOnAfterCut(c *Cluster, name string, data []byte, committed int) error {
	for {
		_, err := c.first().send(pieces(name, data, committed, len(data), 64<<10, true)...)
		if status.Code(err) != codes.InvalidArgument {
			if err != nil {
				return fmt.Errorf("going on at %d: %w", committed, err)
			}
			return c.everywhere(func(s *Server) error { return s.expectBytes(name, data) })
		}
		reply, queryErr := c.first().query(name)
		if queryErr != nil || reply.Complete || reply.CommittedSize <= int64(committed) || reply.CommittedSize > resumeHalf {
			return fmt.Errorf("going on at %d: %w; query then says %v (%v)", committed, err, reply, queryErr)
		}
		committed = int(reply.CommittedSize)
	}
}

// cutUpload sends the first half, waits until the server has some of it, and breaks the call off. It gives the size at
// which the server wants to go on.
func cutUpload(s *Server, name string, data []byte) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	stream, err := s.Stub.Write(ctx)
	if err != nil {
		return 0, err
	}
	for _, m := range pieces(name, data, 0, resumeHalf, 64<<10, false) {
		if err := stream.Send(&pb.WriteRequest{ResourceName: m.name, WriteOffset: m.offset, Data: m.data}); err != nil {
			return 0, err
		}
	}
	before, err := waitForProgress(s, name)
	if err != nil {
		return 0, err
	}
	cancel()
	var discard pb.WriteResponse
	_ = stream.RecvMsg(&discard) // returns once the call is over on this side
	reply, err := s.query(name)
	if err != nil {
		return 0, fmt.Errorf("query after the cut: %w", err)
	}
	if reply.Complete || reply.CommittedSize < before || reply.CommittedSize > resumeHalf {
		return 0, fmt.Errorf("query after the cut says %v; it said %d before and %d were sent", reply, before, resumeHalf)
	}
	return int(reply.CommittedSize), nil
}

// waitForProgress asks until the server holds something.
func waitForProgress(s *Server, name string) (int64, error) {
	for deadline := time.Now().Add(callTimeout); time.Now().Before(deadline); {
		reply, err := s.query(name)
		if err := expectCode(err, codes.OK, codes.NotFound); err != nil {
			return 0, err
		}
		if err == nil && reply.CommittedSize > 0 {
			return reply.CommittedSize, nil
		}
		time.Sleep(5 * time.Millisecond) // tidy-allow: the protocol has no other way to learn of progress
	}
	return 0, fmt.Errorf("query shows no progress of a running upload within %v", callTimeout)
}

func refusedResume(c *Cluster, name string, at func(int64) int64) error {
	data, resource := payload(56, resumeTotal), c.name("resume-"+name)
	committed, err := c.first().send(pieces(resource, data, 0, resumeHalf, 64<<10, false)...)
	if err != nil {
		return err
	}
	offset := at(committed)
	_, err = c.first().send(message{name: resource, offset: offset, data: data[offset:], finish: true})
	if err := expectCode(err, codes.InvalidArgument); err != nil {
		return err
	}
	if err := c.everywhere(func(s *Server) error { return s.expectAbsent(resource) }); err != nil {
		return err
	}
	if err := c.first().expectStatus(resource, committed, false); err != nil {
		return fmt.Errorf("after the refused message: %w", err)
	}
	return goOn(c, resource, data, int(committed))
}

func queryGrows(c *Cluster) error {
	data, name := payload(58, resumeTotal), c.name("grows")
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	stream, err := c.first().Stub.Write(ctx)
	if err != nil {
		return err
	}
	last := int64(0)
	messages := pieces(name, data, 0, len(data), 64<<10, false)
	for _, m := range messages {
		if err := stream.Send(&pb.WriteRequest{ResourceName: m.name, WriteOffset: m.offset, Data: m.data}); err != nil {
			return err
		}
		sent := m.offset + int64(len(m.data))
		reply, err := c.first().query(name)
		if err := expectCode(err, codes.OK, codes.NotFound); err != nil {
			return err
		}
		if err != nil && last > 0 {
			return fmt.Errorf("NOT_FOUND after %d bytes were confirmed", last)
		}
		if err == nil {
			if reply.CommittedSize < last || reply.CommittedSize > sent || reply.Complete {
				return fmt.Errorf("query says %v after %d of %d bytes, and said %d before", reply, sent, len(data), last)
			}
			last = reply.CommittedSize
		}
	}
	err = stream.Send(&pb.WriteRequest{WriteOffset: int64(len(data)), FinishWrite: true})
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if _, err := stream.CloseAndRecv(); err != nil {
		return err
	}
	return c.everywhere(func(s *Server) error { return s.expectStatus(name, int64(len(data)), true) })
}
