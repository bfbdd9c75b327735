package hl7v2

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
)

// Minimal lower layer protocol, release 1 (HL7 2.8 Transport Specification: MLLP): a vertical tab, the message, a file separator and a carriage
// return.
const (
	startOfBlock = 0x0b
	endOfBlock   = 0x1c
	carriage     = '\r'
)

// maxPiece is how much is read before the budget is asked.
const maxPiece = 64 << 10

// ask writes one message and reads one. fit reports whether the connection is good for another query.
func ask(ctx context.Context, l *wire.Line, text []byte, budget *wire.Budget) (answer []byte, fit bool, err error) {
	block := make([]byte, 0, len(text)+3)
	block = append(append(append(block, startOfBlock), text...), endOfBlock, carriage)
	if _, err := l.Write(block); err != nil {
		return nil, false, wire.SocketError(ctx, err, false)
	}
	answer, rest, err := readBlock(ctx, l, budget)
	return answer, err == nil && !rest, err
}

// readBlock reads one block. rest reports whether more came after it. Line ends before the block are passed over; any other byte there, a second
// start, and an end that is none are Malformed. The last segment must be closed: a message that ends within a segment was cut off.
func readBlock(ctx context.Context, r io.Reader, budget *wire.Budget) (message []byte, rest bool, err error) {
	malformed := func() ([]byte, bool, error) { return nil, false, &wire.Error{Kind: wire.Malformed} }
	var m pieces
	piece := make([]byte, 4<<10)
	first, started, ending := false, false, false
	for {
		n, err := r.Read(piece)
		if n > 0 && !budget.Take(n) {
			return nil, false, &wire.Error{Kind: wire.TooMuch}
		}
		first = first || n > 0
		p := piece[:n]
		if !started {
			if p = bytes.TrimLeft(p, "\r\n"); len(p) > 0 {
				if p[0] != startOfBlock {
					return malformed()
				}
				started, p = true, p[1:]
			}
		}
		if !ending {
			end := bytes.IndexByte(p, endOfBlock)
			content := p
			if end >= 0 {
				content, p, ending = p[:end], p[end+1:], true
			} else {
				p = nil
			}
			if bytes.IndexByte(content, startOfBlock) >= 0 {
				return malformed()
			}
			m.add(content)
		}
		if ending && len(p) > 0 {
			if p[0] != carriage || m.last != '\r' && m.last != '\n' {
				return malformed()
			}
			return m.join(), len(p) > 1, nil
		}
		if err != nil {
			if errors.Is(err, io.EOF) && first {
				err = io.ErrUnexpectedEOF
			}
			return nil, false, wire.SocketError(ctx, err, first)
		}
		if n == len(piece) && n < maxPiece {
			piece = make([]byte, min(4*n, maxPiece))
		}
	}
}

// pieces gathers a message whose length is not known before its end. A buffer that grows would need room for the message twice while it is being
// read; this needs it twice only when all is there.
type pieces struct {
	list [][]byte
	size int
	last byte
}

func (m *pieces) add(p []byte) {
	for len(p) > 0 {
		n := len(m.list)
		if n == 0 || len(m.list[n-1]) == cap(m.list[n-1]) {
			m.list = append(m.list, make([]byte, 0, min(max(m.size, 4<<10), 1<<20)))
			n++
		}
		l := m.list[n-1]
		k := min(len(p), cap(l)-len(l))
		m.list[n-1] = append(l, p[:k]...)
		m.size, m.last, p = m.size+k, p[k-1], p[k:]
	}
}

func (m *pieces) join() []byte {
	if len(m.list) == 1 {
		return m.list[0]
	}
	out := make([]byte, 0, m.size)
	for _, p := range m.list {
		out = append(out, p...)
	}
	return out
}
