package hl7v2

import (
	"context"
	"sync"
	"time"

	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
)

// idleTimeout is how long a connection is kept without a query.
const idleTimeout = 30 * time.Second

// link is a connection, with the one query that is under way on it, or idle.
type link struct {
	*wire.Line
	// An idle link is read by a goroutine of its own: the engine has nothing to say, so whatever comes, its closing included, makes the link
	// unfit. resting is closed when that goroutine has ended.
	resting chan struct{}
	fit     bool // written before resting is closed
	expiry  *time.Timer
}

// pool holds the connections to one engine. MLLP knows no answer but to the last message, so a connection carries one query at a time.
type pool struct {
	dialer *wire.Dialer
	slots  chan struct{} // one for each connection that may be in use

	mu     sync.Mutex
	idle   []*link
	closed bool
}

func newPool(d *wire.Dialer, most int) *pool {
	return &pool{dialer: d, slots: make(chan struct{}, most)}
}

// exchange sends a message and returns the answer. It is sent again at most once, and only if no byte of it left.
func (p *pool) exchange(ctx context.Context, text []byte, budget *wire.Budget) ([]byte, error) {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return nil, wire.SocketError(ctx, ctx.Err(), false)
	}
	answer, sent, err := p.once(ctx, text, budget)
	if e, ok := err.(*wire.Error); ok && !sent && e.Kind == wire.Unavailable && ctx.Err() == nil { //nolint:errorlint // once returns no other
		answer, _, err = p.once(ctx, text, budget)
	}
	return answer, err
}

func (p *pool) once(ctx context.Context, text []byte, budget *wire.Budget) (answer []byte, sent bool, err error) {
	l := p.take()
	if l == nil {
		line, err := p.dialer.Dial(ctx)
		if err != nil {
			return nil, false, err //nolint:wrapcheck // a wire.Error
		}
		l = &link{Line: line}
	}
	answer, sent, reusable, err := l.ask(ctx, text, budget)
	if reusable {
		p.put(l)
	} else {
		_ = l.Close() // its trouble has been reported
	}
	return answer, sent, err
}

// take returns an idle connection that is still good, nil if there is none.
func (p *pool) take() *link {
	for {
		p.mu.Lock()
		n := len(p.idle)
		if n == 0 {
			p.mu.Unlock()
			return nil
		}
		l := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		if l.wake() {
			return l
		}
		_ = l.Close() // it was closed by the other side, or said something unasked
	}
}

// put keeps a connection for the next query.
func (p *pool) put(l *link) {
	l.resting, l.fit = make(chan struct{}), false
	_ = l.SetDeadline(time.Time{}) // as in ask
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		_ = l.Close() // nobody asks any more
		return
	}
	p.idle = append(p.idle, l)
	l.expiry = time.AfterFunc(idleTimeout, func() { p.expire(l) })
	go l.rest()
	p.mu.Unlock()
}

// rest waits for a byte that must not come.
func (l *link) rest() {
	defer close(l.resting)
	n, err := l.Read(make([]byte, 1))
	timeout, ok := err.(interface{ Timeout() bool }) //nolint:errorlint // net's own errors
	l.fit = n == 0 && ok && timeout.Timeout()
}

// wake ends the rest and reports whether the connection is fit.
func (l *link) wake() bool {
	l.expiry.Stop()
	_ = l.SetReadDeadline(time.Unix(1, 0)) // as in ask
	<-l.resting
	return l.fit
}

// expire closes a connection that has been idle too long.
func (p *pool) expire(l *link) {
	p.mu.Lock()
	for i, x := range p.idle {
		if x == l {
			p.idle = append(p.idle[:i], p.idle[i+1:]...)
			_ = l.Close() // idle
			break
		}
	}
	p.mu.Unlock()
}

// close closes idle connections, and those under way when they are done.
func (p *pool) close() {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.closed = nil, true
	p.mu.Unlock()
	for _, l := range idle {
		l.wake()
		_ = l.Close() // idle
	}
}
