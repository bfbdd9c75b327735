package wire

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// Pool holds the connections to one service, at most as many as may be open; whoever comes when all are in use waits within their time. A connection
// carries one question at a time. Nothing reads one that is idle: whether it is still fit is looked at when it is taken, and the one that was used last is
// taken first. It is safe for concurrent use.
type Pool struct {
	dialer *Dialer
	room   chan struct{} // one for each question that is under way

	mu     sync.Mutex
	idle   []*Line // by when they became idle
	expiry *time.Timer
	closed bool
}

// NewPool makes a pool of at most so many connections.
func NewPool(d *Dialer, most int) *Pool {
	return &Pool{dialer: d, room: make(chan struct{}, most)}
}

// Ask lends a connection to ask, which writes one question to it and reads the whole answer. When the caller's time is over or the caller leaves,
// whatever waits on the connection ends. ask reports whether the connection can carry another question. It is called again at most once, with another
// connection, and only if the service was [Unavailable] and no byte of the question left. The error is ask's, or an [*Error].
func (p *Pool) Ask(ctx context.Context, ask func(l *Line) (fit bool, err error)) error {
	select {
	case p.room <- struct{}{}:
		defer func() { <-p.room }()
	case <-ctx.Done():
		return ended(ctx)
	}
	sent, err := p.once(ctx, ask)
	var trouble *Error
	if !sent && errors.As(err, &trouble) && trouble.Kind == Unavailable && ended(ctx) == nil {
		_, err = p.once(ctx, ask)
	}
	return err
}

// once asks one time. sent reports whether any byte may have left.
func (p *Pool) once(ctx context.Context, ask func(l *Line) (bool, error)) (sent bool, err error) {
	if e := ended(ctx); e != nil {
		return false, e
	}
	l := p.take()
	if l == nil {
		if l, err = p.dialer.Dial(ctx); err != nil {
			return false, err
		}
	}
	fit, before := false, l.Written()
	stop := context.AfterFunc(ctx, l.cut)
	defer func() { // after a panic too
		if stop() && fit && l.spent() {
			p.put(l)
		} else {
			_ = l.Close() // not fit
		}
	}()
	fit, err = ask(l)
	return l.Written() > before, err
}

// take returns an idle connection that is still fit, nil if there is none.
func (p *Pool) take() *Line {
	for {
		p.mu.Lock()
		n := len(p.idle)
		if n == 0 {
			p.mu.Unlock()
			return nil
		}
		l := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		if l.fit() {
			return l
		}
		_ = l.Close() // unfit
	}
}

// put keeps a connection for the next question.
func (p *Pool) put(l *Line) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || !canLook {
		_ = l.Close() // nobody asks any more, or nobody could tell whether it is fit
		return
	}
	l.since = time.Now()
	if p.idle = append(p.idle, l); p.expiry == nil {
		p.expiry = time.AfterFunc(idleTimeout, p.expire)
	}
}

// expire closes what has been idle too long, and comes back for the rest.
func (p *Pool) expire() {
	p.mu.Lock()
	n := 0
	for n < len(p.idle) && time.Since(p.idle[n].since) >= idleTimeout {
		n++
	}
	old := slices.Clone(p.idle[:n])
	p.idle = slices.Delete(p.idle, 0, n)
	p.expiry = nil
	if len(p.idle) > 0 {
		p.expiry = time.AfterFunc(idleTimeout-time.Since(p.idle[0].since), p.expire)
	}
	p.mu.Unlock()
	for _, l := range old {
		_ = l.Close() // idle
	}
}

// Close closes idle connections, and those under way when they are done.
func (p *Pool) Close() {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.closed = nil, true
	if p.expiry != nil {
		p.expiry.Stop()
	}
	p.mu.Unlock()
	for _, l := range idle {
		_ = l.Close() // idle
	}
}
