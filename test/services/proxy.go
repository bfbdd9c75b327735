//go:build unix

package services

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy stands between a PostgreSQL client and its server, passes every message on, and loses the connection when it is told to: before a message,
// or after the server has done what the message says and before the client hears of it. It speaks no TLS.
type Proxy struct {
	target   string
	listener net.Listener

	mu    sync.Mutex
	rule  *rule
	pairs map[*pair]bool
	down  bool
}

// rule says at which message of a client the connection is lost, once.
type rule struct {
	text   []byte // the message holds it
	skip   int    // so many messages pass first
	after  bool   // the server gets the message, and its replies are lost
	silent bool   // the connection is not closed: it says nothing any more
	done   chan struct{}
}

type pair struct {
	client, server net.Conn
	lose           *rule // the replies of the server are lost, and with its next "ready" the connection
}

// NewProxy starts a proxy in front of an address.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("starting a proxy: %v", err)
	}
	p := &Proxy{target: target, listener: l, pairs: map[*pair]bool{}}
	go p.accept()
	t.Cleanup(func() {
		_ = l.Close()
		p.CutAll()
	})
	return p
}

// Address is where the proxy listens.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// CutBefore loses the connection instead of passing on the next message that holds the text, after skip such messages. The channel is closed when it has.
func (p *Proxy) CutBefore(text string, skip int) <-chan struct{} {
	return p.set(&rule{text: []byte(text), skip: skip})
}

// CutAfter passes the message on, waits until the server has answered, and loses answer and connection.
func (p *Proxy) CutAfter(text string, skip int) <-chan struct{} {
	return p.set(&rule{text: []byte(text), skip: skip, after: true})
}

// Silence passes the message on, and nothing after it in either direction, with the connection open.
func (p *Proxy) Silence(text string, skip int) <-chan struct{} {
	return p.set(&rule{text: []byte(text), skip: skip, after: true, silent: true})
}

func (p *Proxy) set(r *rule) <-chan struct{} {
	r.done = make(chan struct{})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rule = r
	return r.done
}

// Heal forgets what was not done yet.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rule = nil
}

// Refuse makes the proxy refuse new connections, or take them again.
func (p *Proxy) Refuse(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
}

// Retarget leads to another server from now on, as a name does after a failover. All connections are lost.
func (p *Proxy) Retarget(address string) {
	p.mu.Lock()
	p.target = address
	p.mu.Unlock()
	p.CutAll()
}

// CutAll loses all connections.
func (p *Proxy) CutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.pairs {
		c.cut()
	}
}

func (c *pair) cut() { _, _ = c.client.Close(), c.server.Close() }

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		down, target := p.down, p.target
		p.mu.Unlock()
		server, err := net.DialTimeout("tcp", target, time.Second)
		if err != nil || down {
			_ = client.Close()
			if err == nil {
				_ = server.Close()
			}
			continue
		}
		c := &pair{client: client, server: server}
		p.mu.Lock()
		p.pairs[c] = true
		p.mu.Unlock()
		go p.upstream(c)
		go p.downstream(c)
	}
}

func (p *Proxy) end(c *pair) {
	c.cut()
	p.mu.Lock()
	delete(p.pairs, c)
	p.mu.Unlock()
}

// message reads one message: a type (but for a client's first) and a length that counts itself.
func message(from io.Reader, typed bool) ([]byte, error) {
	head := make([]byte, 4, 512)
	if typed {
		head = append(head, 0)
	}
	if _, err := io.ReadFull(from, head); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint32(head[len(head)-4:])) - 4
	if n < 0 || n > 1<<28 {
		return nil, io.ErrUnexpectedEOF
	}
	m := append(head, make([]byte, n)...)
	_, err := io.ReadFull(from, m[len(head):])
	return m, err
}

func (p *Proxy) upstream(c *pair) {
	defer p.end(c)
	for typed := false; ; typed = true {
		m, err := message(c.client, typed)
		if err != nil {
			return
		}
		p.mu.Lock()
		r := p.rule
		hit := r != nil && typed && bytes.Contains(m, r.text)
		if hit && r.skip > 0 {
			r.skip--
			hit = false
		}
		if hit {
			p.rule = nil
			if r.after {
				c.lose = r
			}
		}
		p.mu.Unlock()
		if hit && !r.after {
			close(r.done) // first: whoever sees the connection lost sees why
			c.cut()
			return
		}
		if _, err := c.server.Write(m); err != nil {
			return
		}
		if hit && r.silent {
			close(r.done)
			_, _ = io.Copy(io.Discard, c.client) // until somebody gives up
			return
		}
	}
}

func (p *Proxy) downstream(c *pair) {
	defer p.end(c)
	for {
		m, err := message(c.server, true)
		p.mu.Lock()
		r := c.lose
		p.mu.Unlock()
		if r != nil && r.silent {
			if err != nil {
				return
			}
			continue
		}
		if r != nil && (err != nil || m[0] == 'Z') {
			close(r.done)
			c.cut()
			return
		}
		if err != nil {
			return
		}
		if r == nil {
			if _, err := c.client.Write(m); err != nil {
				return
			}
		}
	}
}
