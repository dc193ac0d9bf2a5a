package interop

import (
	"errors"
	"fmt"
	"sync"

	"google.golang.org/grpc/codes"
)

// Written through each server in turn, read through every server at once after the acknowledgement.
func transferCases() []Case {
	cases := []Case{}
	sizes := []int{0, 1, 64, 64 << 10, 64<<10 + 1, 3<<20 + 17, 40 << 20}
	for i, size := range sizes {
		cases = append(cases, Case{fmt.Sprintf("transfer/%d-bytes", size), func(c *Cluster) error {
			data := payload(uint64(size), size)
			name := c.name(fmt.Sprintf("transfer-%d", size))
			if err := c.Servers[i%len(c.Servers)].put(name, data); err != nil {
				return err
			}
			return c.everywhere(func(s *Server) error {
				if err := s.expectBytes(name, data); err != nil {
					return err
				}
				return s.expectStatus(name, int64(size), true)
			})
		}})
	}
	return append(cases,
		Case{"transfer/each-server-to-each-other", func(c *Cluster) error {
			for i, writer := range c.Servers {
				data := payload(uint64(900+i), 200_000)
				name := c.name(fmt.Sprintf("cross-%d", i))
				if err := writer.put(name, data); err != nil {
					return err
				}
				if err := c.everywhere(func(s *Server) error { return s.expectBytes(name, data) }); err != nil {
					return err
				}
			}
			return nil
		}},
		Case{"transfer/by-digest", func(c *Cluster) error {
			data := payload(31, 300_000)
			if err := c.first().put(c.name("by-digest"), data); err != nil {
				return err
			}
			return c.everywhere(func(s *Server) error { return s.expectBytes(digestName(data), data) })
		}},
		Case{"transfer/two-writers-two-names-same-bytes", func(c *Cluster) error {
			data := payload(32, 2<<20)
			names := []string{c.name("twin-a"), c.name("twin-b")}
			if err := atOnce(2, func(i int) error { return c.Servers[i].put(names[i], data) }); err != nil {
				return err
			}
			return c.everywhere(func(s *Server) error {
				return errors.Join(s.expectBytes(names[0], data), s.expectBytes(names[1], data))
			})
		}},
		Case{"transfer/two-writers-one-name-same-bytes", func(c *Cluster) error {
			data := payload(33, 1<<20)
			name := c.name("one-name")
			errs := make([]error, 2)
			_ = atOnce(2, func(i int) error { errs[i] = c.Servers[i].put(name, data); return nil })
			if errs[0] != nil && errs[1] != nil {
				return fmt.Errorf("both writers failed: %w", errors.Join(errs...))
			}
			return c.everywhere(func(s *Server) error { return s.expectBytes(name, data) })
		}},
		Case{"transfer/sixteen-writers", func(c *Cluster) error {
			name := func(i int) string { return c.name(fmt.Sprintf("sixteen-%d", i)) }
			bytes := func(i int) []byte { return payload(uint64(500+i), 100_000+i*7919) }
			err := atOnce(16, func(i int) error { return c.Servers[i%len(c.Servers)].put(name(i), bytes(i)) })
			if err != nil {
				return err
			}
			return atOnce(16, func(i int) error {
				return c.Servers[(i+1)%len(c.Servers)].expectBytes(name(i), bytes(i))
			})
		}},
	)
}

func atOnce(count int, run func(int) error) error {
	errs := make([]error, count)
	var group sync.WaitGroup
	for i := range count {
		group.Go(func() { errs[i] = run(i) })
	}
	group.Wait()
	return errors.Join(errs...)
}

// refusedWrite plays a call that must be refused, and checks that nothing of it can be seen.
func refusedWrite(name string, code codes.Code, messages func(resource string) []message) Case {
	return Case{"write/" + name, func(c *Cluster) error {
		resource := c.name(name)
		size, err := c.first().send(messages(resource)...)
		if err := expectCode(err, code); err != nil {
			return fmt.Errorf("write: %w (committed_size %d)", err, size)
		}
		return c.everywhere(func(s *Server) error { return s.expectAbsent(resource) })
	}}
}

func writeCases() []Case {
	data := payload(40, 300_000)
	return []Case{
		refusedWrite("first-offset-4096", codes.InvalidArgument, func(r string) []message {
			return []message{{name: r, offset: 4096, data: data, finish: true}}
		}),
		refusedWrite("first-offset-negative", codes.InvalidArgument, func(r string) []message {
			return []message{{name: r, offset: -1, data: data, finish: true}}
		}),
		refusedWrite("later-offset-negative", codes.InvalidArgument, func(r string) []message {
			return []message{{name: r, data: data[:1000]}, {offset: -1, data: data[1000:], finish: true}}
		}),
		refusedWrite("hole", codes.InvalidArgument, func(r string) []message {
			return []message{{name: r, data: data[:1000]}, {offset: 2000, data: data[2000:], finish: true}}
		}),
		refusedWrite("offset-goes-back", codes.InvalidArgument, func(r string) []message {
			return []message{{name: r, data: data[:1000]}, {offset: 500, data: data[500:], finish: true}}
		}),
		refusedWrite("offset-stays", codes.InvalidArgument, func(r string) []message {
			return []message{{name: r, data: data[:1000]}, {offset: 0, data: data[1000:], finish: true}}
		}),
		refusedWrite("finish-at-wrong-offset", codes.InvalidArgument, func(r string) []message {
			return []message{{name: r, data: data[:1000]}, {offset: 1001, finish: true}}
		}),
		refusedWrite("name-changes", codes.InvalidArgument, func(r string) []message {
			return []message{{name: r, data: data[:1000]}, {name: r + "x", offset: 1000, data: data[1000:], finish: true}}
		}),
		refusedWrite("name-is-late", codes.InvalidArgument, func(r string) []message {
			return []message{{data: data[:1000]}, {name: r, offset: 1000, data: data[1000:], finish: true}}
		}),
		{"write/no-message", func(c *Cluster) error {
			_, err := c.first().send()
			return expectCode(err, codes.InvalidArgument)
		}},
		{"write/name-in-every-message", func(c *Cluster) error {
			name := c.name("every")
			messages := pieces(name, data, 0, len(data), 70_000, true)
			for i := range messages {
				messages[i].name = name
			}
			return acceptedWrite(c, name, data, messages)
		}},
		{"write/empty-messages-between", func(c *Cluster) error {
			name := c.name("empty-messages")
			return acceptedWrite(c, name, data, []message{{name: name}, {}, {data: data[:1]}, {offset: 1},
				{offset: 1, data: data[1:]}, {offset: int64(len(data))}, {offset: int64(len(data)), finish: true}})
		}},
		{"write/one-byte-messages", func(c *Cluster) error {
			name := c.name("one-byte")
			return acceptedWrite(c, name, data[:700], pieces(name, data, 0, 700, 1, true))
		}},
		{"write/one-message-of-4-MiB", func(c *Cluster) error {
			name, large := c.name("four-mib"), payload(41, 4<<20)
			return acceptedWrite(c, name, large, []message{{name: name, data: large, finish: true}})
		}},
		{"write/data-after-finish", dataAfterFinish},
		{"write/again-with-equal-bytes", func(c *Cluster) error {
			for _, size := range []int{0, 100, len(data)} {
				name := c.name(fmt.Sprintf("again-%d", size))
				for _, server := range c.Servers {
					if err := server.put(name, data[:size]); err != nil {
						return err
					}
				}
				if err := c.second().expectBytes(name, data[:size]); err != nil {
					return err
				}
			}
			return nil
		}},
		{"write/again-with-other-bytes", func(c *Cluster) error {
			for _, size := range []int{100, len(data)} {
				name := c.name(fmt.Sprintf("other-%d", size))
				if err := c.first().put(name, data[:size]); err != nil {
					return err
				}
				flipped := append([]byte{}, data[:size]...)
				flipped[size/2] ^= 1
				for what, other := range map[string][]byte{"flipped": flipped, "shorter": data[:size-1], "empty": {}} {
					_, err := c.second().send(pieces(name, other, 0, len(other), chunkBytes, true)...)
					if err := expectCode(err, codes.AlreadyExists); err != nil {
						return fmt.Errorf("%s bytes over %d: %w", what, size, err)
					}
				}
				if err := c.everywhere(func(s *Server) error { return s.expectBytes(name, data[:size]) }); err != nil {
					return err
				}
			}
			return nil
		}},
		{"write/digest-name-must-match", func(c *Cluster) error {
			good, bad := payload(42, 150_000), payload(43, 150_000)
			_, err := c.first().send(pieces(digestName(good), bad, 0, len(bad), chunkBytes, true)...)
			if err := expectCode(err, codes.InvalidArgument); err != nil {
				return err
			}
			if err := c.second().expectAbsent(digestName(good)); err != nil {
				return err
			}
			if err := c.first().put(digestName(good), good); err != nil {
				return err
			}
			return c.second().expectBytes(digestName(good), good)
		}},
	}
}

func acceptedWrite(c *Cluster, name string, data []byte, messages []message) error {
	size, err := c.first().send(messages...)
	if err != nil {
		return err
	}
	if size != int64(len(data)) {
		return fmt.Errorf("committed_size is %d, want %d", size, len(data))
	}
	return c.second().expectBytes(name, data)
}

// The server may have answered before it saw the message that comes too late; then it must not have taken it either.
func dataAfterFinish(c *Cluster) error {
	data := payload(44, 200_000)
	for _, existing := range []bool{false, true} {
		name := c.name(fmt.Sprintf("after-finish-%t", existing))
		if existing {
			if err := c.first().put(name, data); err != nil {
				return err
			}
		}
		messages := pieces(name, data, 0, len(data), 50_000, true)
		messages = append(messages, message{offset: int64(len(data)), data: []byte("too late")})
		size, writeErr := c.first().send(messages...)
		if err := expectCode(writeErr, codes.InvalidArgument, codes.OK); err != nil {
			return err
		}
		if writeErr == nil && size != int64(len(data)) {
			return fmt.Errorf("committed_size is %d, want %d: the late bytes count", size, len(data))
		}
		for _, server := range c.Servers {
			got, err := server.read(name, 0, 0)
			refused := writeErr != nil && !existing && expectCode(err, codes.NotFound) == nil
			if !refused && (err != nil || string(got) != string(data)) {
				return fmt.Errorf("read at %s: %v, %s", server.Address, err, difference(got, data))
			}
		}
	}
	return nil
}
