package interop

import (
	"context"
	"errors"
	"fmt"
	"io"

	pb "google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc/codes"
)

const readSize = 3<<20 + 17

func readCases() []Case {
	data := payload(60, readSize)
	resource := func(c *Cluster) (string, error) {
		name := c.name("read")
		c.readable.Do(func() { c.readErr = c.first().put(name, data) })
		return name, c.readErr
	}
	part := func(label string, offset, limit int64, from, to int) Case {
		return Case{"read/" + label, func(c *Cluster) error {
			name, err := resource(c)
			if err != nil {
				return err
			}
			return c.everywhere(func(s *Server) error {
				got, err := s.read(name, offset, limit)
				if err != nil {
					return fmt.Errorf("at %s: %w", s.Address, err)
				}
				if string(got) != string(data[from:to]) {
					return fmt.Errorf("at %s: %s", s.Address, difference(got, data[from:to]))
				}
				return nil
			})
		}}
	}
	refused := func(label string, offset, limit int64, code codes.Code) Case {
		return Case{"read/" + label, func(c *Cluster) error {
			name, err := resource(c)
			if err != nil {
				return err
			}
			return c.everywhere(func(s *Server) error {
				got, err := s.read(name, offset, limit)
				if err := expectCode(err, code); err != nil {
					return fmt.Errorf("at %s: %w", s.Address, err)
				}
				if len(got) != 0 {
					return fmt.Errorf("at %s: %d bytes before the error", s.Address, len(got))
				}
				return nil
			})
		}}
	}
	return []Case{
		part("offset-1", 1, 0, 1, readSize),
		part("offset-chunk-border", 65_536, 0, 65_536, readSize),
		part("offset-size-minus-1", readSize-1, 0, readSize-1, readSize),
		part("offset-size-is-empty", readSize, 0, readSize, readSize),
		part("offset-size-with-limit-is-empty", readSize, 10, readSize, readSize),
		part("limit-1", 0, 1, 0, 1),
		part("limit-size-minus-1", 0, readSize-1, 0, readSize-1),
		part("limit-size", 0, readSize, 0, readSize),
		part("limit-size-plus-1000", 0, readSize+1000, 0, readSize),
		part("limit-of-int64", 5, 1<<63-1, 5, readSize),
		part("offset-and-limit", 65_535, 70_000, 65_535, 135_535),
		part("offset-and-limit-past-the-end", readSize-10, 1000, readSize-10, readSize),
		refused("offset-size-plus-1", readSize+1, 0, codes.OutOfRange),
		refused("offset-of-int64", 1<<63-1, 1<<63-1, codes.OutOfRange),
		refused("offset-minus-1", -1, 0, codes.OutOfRange),
		refused("limit-minus-1", 0, -1, codes.InvalidArgument),
		{"read/absent", func(c *Cluster) error {
			return c.everywhere(func(s *Server) error { return s.expectAbsent(c.name("absent")) })
		}},
		{"read/absent-digest", func(c *Cluster) error {
			return c.everywhere(func(s *Server) error { return s.expectAbsent(digestName(payload(61, 99))) })
		}},
		{"read/unsealed", func(c *Cluster) error {
			name := c.name("unsealed")
			if _, err := c.first().send(pieces(name, data, 0, 100_000, 50_000, false)...); err != nil {
				return err
			}
			return c.everywhere(func(s *Server) error { return s.expectAbsent(name) })
		}},
		{"read/empty-resource-with-offset", func(c *Cluster) error {
			name := c.name("empty")
			if err := c.first().put(name, nil); err != nil {
				return err
			}
			return c.everywhere(func(s *Server) error {
				if _, err := s.read(name, 0, 5); err != nil {
					return err
				}
				_, err := s.read(name, 1, 0)
				return expectCode(err, codes.OutOfRange)
			})
		}},
		{"read/twenty-cancelled-then-a-good-one", func(c *Cluster) error {
			name, err := resource(c)
			if err != nil {
				return err
			}
			return c.everywhere(func(s *Server) error {
				for i := range 20 {
					if err := cancelledRead(s, name, i%3); err != nil {
						return fmt.Errorf("cancelled read %d at %s: %w", i, s.Address, err)
					}
				}
				return s.expectBytes(name, data)
			})
		}},
		{"read/eight-at-once", func(c *Cluster) error {
			name, err := resource(c)
			if err != nil {
				return err
			}
			return atOnce(8, func(i int) error { return c.Servers[i%len(c.Servers)].expectBytes(name, data) })
		}},
	}
}

// cancelledRead takes `messages` messages of a Read and goes away.
func cancelledRead(s *Server, name string, messages int) error {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	stream, err := s.Stub.Read(ctx, &pb.ReadRequest{ResourceName: name})
	if err != nil {
		return err
	}
	for range messages {
		if _, err := stream.Recv(); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	return nil
}
