package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	dialTimeout = 5 * time.Second  // of a caller that has more time than a service needs that is there
	idleTimeout = 30 * time.Second // shorter than servers' usual 60 s, so that we are the one to close
)

// Dialer opens connections to one configured service. It is safe for concurrent use.
type Dialer struct {
	base, address string
	dialer        net.Dialer
	config        *tls.Config
}

// newDialer makes the dialer of a host's port; config nil: without TLS. base is what Base returns.
func newDialer(base, host, port string, config *tls.Config) *Dialer {
	if config != nil {
		config.ServerName = host
	}
	return &Dialer{base, net.JoinHostPort(host, port), net.Dialer{Timeout: dialTimeout, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: idleTimeout / 2}}, config}
}

// Base returns the configured address.
func (d *Dialer) Base() string { return d.base }

// Dial opens a connection. The error is always an [*Error].
func (d *Dialer) Dial(ctx context.Context) (*Line, error) {
	raw, err := d.dialer.DialContext(ctx, "tcp", d.address)
	if err != nil {
		return nil, SocketError(ctx, err, false)
	}
	if d.config == nil {
		return newLine(raw, raw), nil
	}
	below := &records{Conn: raw}
	c := tls.Client(below, d.config)
	shaken, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if err := c.HandshakeContext(shaken); err != nil {
		_ = raw.Close() // the handshake's error is the news
		return nil, SocketError(ctx, err, false)
	}
	l := newLine(c, raw)
	l.records = below
	return l, nil
}

// Line is a connection to a service. One exchange uses it at a time.
type Line struct {
	net.Conn
	raw     net.Conn     // below TLS
	records *records     // between the two; nil without TLS
	written atomic.Int64 // of requests, not of handshakes: "no byte left" is known here and nowhere else
	since   time.Time    // it is idle

	// What looks at an idle one is made once.
	socket syscall.RawConn // nil where there is none
	look   func(fd uintptr) bool
	silent bool // what look found
}

func newLine(c, raw net.Conn) *Line {
	l := &Line{Conn: c, raw: raw}
	if s, ok := raw.(syscall.Conn); ok {
		l.socket, _ = s.SyscallConn() // nil where it is closed already
	}
	l.look = func(fd uintptr) bool { l.silent = silent(fd); return true }
	return l
}

// Written returns how many bytes may have left since the connection was made, handshakes aside.
func (l *Line) Written() int64 { return l.written.Load() }

// Write counts before it writes, and takes back what certainly did not leave: a connection that was closed here before. Of any other failure it is not
// known, so it counts as sent.
func (l *Line) Write(p []byte) (int, error) {
	l.written.Add(int64(len(p)))
	n, err := l.Conn.Write(p)
	if n == 0 && errors.Is(err, net.ErrClosed) {
		l.written.Add(-int64(len(p)))
	}
	return n, err //nolint:wrapcheck // reduced by SocketError
}

// Close says nothing to the service: with TLS that could wait for it, and what has been asked has been answered or is not wanted any more.
func (l *Line) Close() error { return l.raw.Close() } //nolint:wrapcheck // nobody looks at it

// cut ends whatever waits on the connection.
func (l *Line) cut() { _ = l.SetDeadline(time.Unix(1, 0)) } // one without deadlines has closed, and the next call says so

// fit reports whether an idle connection can be used: it has not been idle for long, and nothing came meanwhile. The service has nothing to say, so
// whatever came, an end or an answer that nobody waits for, makes the connection unfit. What came is not kept.
func (l *Line) fit() bool {
	if l.socket == nil || time.Since(l.since) >= idleTimeout {
		return false
	}
	l.silent = false
	return l.socket.Read(l.look) == nil && l.silent
}

// spent reports whether nothing that came is left above the socket: with TLS a record may hold an answer and more, and half of the next record may have been
// read with it, which no look at the socket finds. It does not wait. What came may have been for TLS itself, which then answers it and cannot: nothing can be
// written on such a connection any more.
func (l *Line) spent() bool {
	if l.records == nil {
		return true
	}
	var b [1]byte
	l.cut()
	n, err := l.Conn.Read(b[:])
	_ = l.SetDeadline(time.Time{}) // as in cut
	return n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && l.records.between() && !l.records.broken
}

// records counts the records of TLS that are read from a connection (RFC 8446, section 5.1, and RFC 5246, section 6.2.1: five bytes of header, the last two of
// which are the length of what follows).
type records struct {
	net.Conn
	header [5]byte
	seen   int  // of the header of the record that has begun
	left   int  // of what follows it
	broken bool // something could not be written
}

// Write writes, and notes where it could not: of its own answers crypto/tls says so at the next write only.
func (r *records) Write(p []byte) (int, error) {
	n, err := r.Conn.Write(p)
	r.broken = r.broken || err != nil
	return n, err //nolint:wrapcheck // crypto/tls looks at it
}

// Read reads, and follows the records.
func (r *records) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	for b := p[:n]; len(b) > 0; {
		if r.left > 0 {
			k := min(r.left, len(b))
			r.left, b = r.left-k, b[k:]
			continue
		}
		k := copy(r.header[r.seen:], b)
		if r.seen, b = r.seen+k, b[k:]; r.seen == len(r.header) {
			r.seen, r.left = 0, int(r.header[3])<<8|int(r.header[4])
		}
	}
	return n, err //nolint:wrapcheck // crypto/tls looks at it
}

// between reports whether no record has begun.
func (r *records) between() bool { return r.seen == 0 && r.left == 0 }

// SocketError reduces an error of a Line. first says whether any byte of an answer had come: before that, a connection that ends is one that
// cannot be reached; after it, what came is a truncated answer.
func SocketError(ctx context.Context, err error, first bool) error {
	if e := ended(ctx); e != nil {
		return e
	}
	switch {
	case refusesOurCertificate(err):
		return &Error{Kind: Unauthorised}
	case !first:
		return &Error{Kind: Unavailable}
	}
	return &Error{Kind: Malformed}
}

// ended returns the trouble of a context that is over, nil for one that is not. A connection that is being made has the context's deadline, and may give up a
// moment before the context says that it is over.
func ended(ctx context.Context) *Error {
	deadline, has := ctx.Deadline()
	switch err := ctx.Err(); {
	case errors.Is(err, context.DeadlineExceeded), err == nil && has && !time.Now().Before(deadline):
		return &Error{Kind: TimedOut}
	case err != nil:
		return &Error{Kind: Cancelled}
	}
	return nil
}
