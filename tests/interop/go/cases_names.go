package interop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
)

func nameCases() []Case {
	cases := []Case{}
	// Names are names, never paths; each of these is a resource of its own. %s is unique to the run.
	for _, one := range [][2]string{
		{"parent-folders", "../../%s/etc/passwd"},
		{"slashes", "a/%s/b/c"},
		{"leading-slash", "/%s"},
		{"only-dots", "%s/.././.."},
		{"double-slash", "%s//x//"},
		{"utf-8", "%s/Größe/日本語/☃/𝄞"},
		{"spaces", " %s with spaces "},
		{"newline", "%s\n\t\r\x01"},
		{"percent", "%%2e%%2e/%s/%%00"},
		{"like-a-cache", "%s/uploads/x/blobs"},
	} {
		cases = append(cases, Case{"name/" + one[0], func(c *Cluster) error {
			return namedTransfer(c, fmt.Sprintf(one[1], c.prefix))
		}})
	}
	long := func(c *Cluster, size int) string {
		return c.prefix + strings.Repeat("n", size-len(c.prefix))
	}
	cases = append(cases,
		Case{"name/one-letter", func(c *Cluster) error { return sameBytesTransfer(c, "x") }},
		Case{"name/1024-bytes", func(c *Cluster) error { return namedTransfer(c, long(c, 1024)) }},
		Case{"name/two-that-differ-in-the-last-byte", func(c *Cluster) error {
			a, b := long(c, 1022)+"-a", long(c, 1022)+"-b"
			return errors.Join(namedTransfer(c, a), namedTransfer(c, b))
		}},
	)
	for _, one := range []struct {
		label string
		name  func(*Cluster) string
	}{
		{"empty", func(*Cluster) string { return "" }},
		{"1025-bytes", func(c *Cluster) string { return long(c, 1025) }},
		{"NUL", func(c *Cluster) string { return c.prefix + "/a\x00b" }},
		{"only-NUL", func(*Cluster) string { return "\x00" }},
		{"invalid-UTF-8", func(c *Cluster) string { return c.prefix + "/\xff\xfe" }},
		{"overlong-UTF-8", func(c *Cluster) string { return c.prefix + "/\xc0\xaf" }},
		{"surrogate-UTF-8", func(c *Cluster) string { return c.prefix + "/\xed\xa0\x80" }},
		{"cut-UTF-8", func(c *Cluster) string { return c.prefix + "/\xe2\x82" }},
	} {
		cases = append(cases, Case{"name/refused-" + one.label, func(c *Cluster) error { return refusedName(c, one.name(c)) }})
	}
	return append(cases, Case{"message/garbage", garbage})
}

func namedTransfer(c *Cluster, name string) error {
	data := []byte("the bytes of " + name)
	if err := c.first().put(name, data); err != nil {
		return err
	}
	return c.everywhere(func(s *Server) error {
		if err := s.expectBytes(name, data); err != nil {
			return err
		}
		return s.expectStatus(name, int64(len(data)), true)
	})
}

// sameBytesTransfer is for names that cannot be unique: earlier runs wrote the same.
func sameBytesTransfer(c *Cluster, name string) error {
	data := []byte("always these bytes")
	if err := c.first().put(name, data); err != nil {
		return err
	}
	return c.second().expectBytes(name, data)
}

// refusedName asks all three methods. The bytes are written by hand: the generated types would not send some of them.
func refusedName(c *Cluster, name string) error {
	field := func(number protowire.Number, value string) []byte {
		return protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), value)
	}
	write := append(field(1, name), protowire.AppendVarint(protowire.AppendTag(nil, 3, protowire.VarintType), 1)...)
	write = append(write, field(10, "some bytes")...)
	for _, call := range []struct {
		method  string
		request []byte
	}{{"Write", write}, {"Read", field(1, name)}, {"QueryWriteStatus", field(1, name)}} {
		if err := expectCode(c.first().rawCall(call.method, call.request), codes.InvalidArgument); err != nil {
			return fmt.Errorf("%s: %w", call.method, err)
		}
	}
	return namedTransfer(c, c.name("after-refused-"+runID()))
}

// garbage sends what is no protobuf message: an error for the caller, nothing for anybody else.
func garbage(c *Cluster) error {
	for _, request := range [][]byte{
		{0xff, 0xff, 0xff, 0xff, 0xff},       // an endless tag
		{0x0a, 0x7f, 'a'},                    // a length beyond the end
		{0x52, 0xff, 0xff, 0xff, 0xff, 0x0f}, // 4 GiB of data announced
		{0x0b},                               // a group that never ends
	} {
		for _, method := range []string{"Write", "Read", "QueryWriteStatus"} {
			err := c.first().rawCall(method, request)
			if err := expectCode(err, codes.InvalidArgument, codes.Internal); err != nil {
				return fmt.Errorf("%s of % x: %w", method, request, err)
			}
		}
	}
	return namedTransfer(c, c.name("after-garbage"))
}

// rawCall sends one message of the given bytes and gives the final status.
func (s *Server) rawCall(method string, request []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	stream, err := s.Conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true},
		"/google.bytestream.ByteStream/"+method, grpc.ForceCodec(rawCodec{}))
	if err != nil {
		return err
	}
	if err := stream.SendMsg(&request); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for {
		var reply []byte
		err := stream.RecvMsg(&reply)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// rawCodec passes bytes through.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(message any) ([]byte, error) { return *message.(*[]byte), nil }

func (rawCodec) Unmarshal(data []byte, message any) error {
	*message.(*[]byte) = append([]byte{}, data...)
	return nil
}
