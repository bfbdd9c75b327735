package torture

import (
	"bytes"
	"encoding/binary"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"golang.org/x/net/http2"
)

// tap is a connection that keeps what the other side sent as data of its newest HTTP/2 stream. A gRPC client gives its caller whole messages
// only; what had arrived of a message when the connection was cut off is found here.
type tap struct {
	net.Conn

	mu     sync.Mutex
	head   []byte // of a frame, until it has its 9 bytes
	left   int    // of the frame's payload
	data   bool   // the frame holds data
	stream uint32 // newest one that data came for
	kept   []byte
}

// frameHeader is the size of an HTTP/2 frame's header (RFC 9113, section 4.1).
const frameHeader = 9

// Read implements net.Conn.
func (c *tap) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.take(b[:n])
	return n, err
}

func (c *tap) take(b []byte) {
	for len(b) > 0 {
		if c.left == 0 {
			n := min(frameHeader-len(c.head), len(b))
			c.head, b = append(c.head, b[:n]...), b[n:]
			if len(c.head) < frameHeader {
				return
			}
			c.left = int(c.head[0])<<16 | int(c.head[1])<<8 | int(c.head[2])
			c.data = http2.FrameType(c.head[3]) == http2.FrameData // grpc-go never pads
			if stream := binary.BigEndian.Uint32(c.head[5:]) &^ (1 << 31); c.data && stream != c.stream {
				c.stream, c.kept = stream, nil
			}
			c.head = c.head[:0]
			continue
		}
		n := min(c.left, len(b))
		if c.data {
			c.kept = append(c.kept, b[:n]...)
		}
		c.left, b = c.left-n, b[n:]
	}
}

// reset forgets what has arrived.
func (c *tap) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kept = nil
}

// rest returns what has arrived after the first so many whole messages.
func (c *tap) rest(messages int) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.kept
	for range messages {
		if len(b) < 5 || uint64(len(b)) < 5+uint64(binary.BigEndian.Uint32(b[1:])) {
			return nil // the client cannot have had more than has arrived
		}
		b = b[5+binary.BigEndian.Uint32(b[1:]):]
	}
	return slices.Clone(b)
}

// bundleIn returns what has arrived of the Bundle in an unfinished GetRecordResponse.
func bundleIn(rest []byte) []byte {
	_, text, found := bytes.Cut(rest, []byte(`{"resourceType":"Bundle"`))
	if !found {
		return nil
	}
	return text
}

// entriesIn returns what has arrived of the entries in unfinished or unread StreamRecordResponses: an entry's address comes first in it.
func entriesIn(rest []byte) (out []shown) {
	for len(rest) > 5 {
		size := int(binary.BigEndian.Uint32(rest[1:]))
		message := rest[5:min(len(rest), 5+size)]
		rest = rest[min(len(rest), 5+size):]
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 || number != 2 || kind != protowire.BytesType { // StreamRecordResponse.entry
			continue
		}
		_, after, _ := bytes.Cut(message, []byte("/fhir/"))
		address, _, whole := strings.Cut(string(after[:min(len(after), 200)]), "\x12") // the field that follows full_url
		custodian, typ := holder("http://host/fhir/" + address)
		if custodian != "" || whole {
			out = append(out, shown{custodian: custodian, typ: typ, part: true})
		}
	}
	return out
}

func TestTap(t *testing.T) {
	frame := func(typ http2.FrameType, stream uint32, payload string) []byte {
		h := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), byte(typ), 0}
		return append(binary.BigEndian.AppendUint32(h, stream), payload...)
	}
	message := func(field byte, text string) string {
		m := string([]byte{field, byte(len(text))}) + text
		return string(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(m)))) + m
	}
	first, second := message(0x0a, "plan"), message(0x12, "\x0a\x20http://h:1/fhir/Condition/gp-1\x12\x09Condition")
	wire := slices.Concat(frame(http2.FrameSettings, 0, "abcdef"), frame(http2.FrameData, 1, "of an earlier stream"),
		frame(http2.FrameData, 3, first+second[:7]), frame(http2.FramePing, 0, "12345678"), frame(http2.FrameData, 3, second[7:40]))
	for _, step := range []int{1, 2, 7, len(wire)} { // however it is cut into reads
		c := &tap{}
		for b := range slices.Chunk(wire, step) {
			c.take(b)
		}
		rest := c.rest(1)
		if string(rest) != second[:40] {
			t.Fatalf("in steps of %d: %d bytes are left, want 40", step, len(rest))
		}
		if got := entriesIn(rest); len(got) != 1 || got[0].custodian != "gp" || got[0].typ != "Condition" {
			t.Errorf("in steps of %d: the entry that was cut off is not seen", step)
		}
	}
	if bundleIn([]byte("\x00\x00\x00\x10\x00\x0a\xff\x07{\"resourceType\":\"Bundle\",\"entry\":[")) == nil {
		t.Error("a Bundle that was cut off is not seen")
	}
}
