package wire

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// lines are the connections that a scripted service has seen.
type lines struct {
	mu   sync.Mutex
	list []net.Conn
}

// add notes the connection of a request, and returns which it is, counted from 1.
func (l *lines) add(c net.Conn) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, x := range l.list {
		if x == c {
			return i + 1
		}
	}
	l.list = append(l.list, c)
	return len(l.list)
}

func (l *lines) last() net.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.list[len(l.list)-1]
}

func (l *lines) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.list)
}

// resting returns how many connections are idle.
func (p *Pool) resting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.idle)
}

// A service that gives an idle connection up has been sent nothing: the next request is asked on another, and nothing is said against it. What it said
// meanwhile is nobody's answer.
func TestIdleConnectionsThatWereGivenUp(t *testing.T) {
	for name, giveUp := range map[string]func(c net.Conn){
		"closed": func(c net.Conn) { _ = c.Close() },
		"408": func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
			_ = c.Close()
		},
		"an answer":  func(c net.Conn) { _, _ = io.WriteString(c, strings.Replace(good, "{}", "[]", 1)) },
		"one byte":   func(c net.Conn) { _, _ = io.WriteString(c, "\n") },
		"write side": func(c net.Conn) { _ = c.(*net.TCPConn).CloseWrite() },
		"reset":      func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0); _ = c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			var seen lines
			base, _ := script(t, func(_ int, c net.Conn, _ *http.Request) { seen.add(c); _, _ = io.WriteString(c, good) })
			c := clientOf(t, base)
			defer c.Close()
			for round := range 3 {
				if a, err := get(t, c, NewBudget(100, 100, nil)); err != nil || string(a.Body) != "{}" || seen.count() != round+1 {
					t.Fatalf("round %d: %q, %v, %d connections", round, a.Body, err, seen.count())
				}
				giveUp(seen.last())
				time.Sleep(20 * time.Millisecond) // until it is here
			}
		})
	}
}

func TestIdleConnectionsThatWereGivenUpWithTLS(t *testing.T) {
	a := newAuthority(t)
	var connections atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fhir(w); _, _ = io.WriteString(w, `{}`) }))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	cert, key := a.issue(t)
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13}
	s.StartTLS()
	defer s.Close()
	c := clientOf(t, s.URL, func(c *Connection) { c.CAFile = a.file })
	defer c.Close()
	for round := range 3 {
		for range 4 {
			if _, err := get(t, c, NewBudget(100, 100, nil)); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		if got := connections.Load(); got != int32(round+1) {
			t.Errorf("round %d: %d connections", round, got)
		}
		s.CloseClientConnections()
		time.Sleep(20 * time.Millisecond)
	}
}

// nextRecord stands where a record of TLS ends.
const nextRecord = "|"

// A connection on which anything of an answer may be left is not used again: it would be the beginning of the next person's.
func TestWhatIsLeftIsNobodysAnswer(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\n"
	a := newAuthority(t)
	pair, err := tls.LoadX509KeyPair(a.issue(t))
	if err != nil {
		t.Fatal(err)
	}
	with := func(version uint16) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: version, MaxVersion: version, DynamicRecordSizingDisabled: true}
	}
	// With TLS what is left may have been read and be nowhere but in the TLS connection: a record holds an answer and more.
	ways := map[string]*tls.Config{"plain": nil, "TLS 1.2": with(tls.VersionTLS12), "TLS 1.3": with(tls.VersionTLS13)}
	for _, c := range []struct {
		name, first string
		want        Kind
		again       bool // the connection is used again
	}{
		{"whole", head + "Content-Length: 2\r\n\r\n{}", 0, true},
		{"whole, in chunks", head + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 0, true},
		{"whole, with trailers", head + "Trailer: X\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX: y\r\n\r\n", 0, true},
		{"whole, after interim answers", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + head + "Content-Length: 2\r\n\r\n{}", 0, true},
		{"whole, with gzip", head + "Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n1a\r\n" + string(zipped([]byte("{}"))) + "\r\n0\r\n\r\n", 0, true},
		{"whole, of an error", "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", 0, true},
		{"nothing to read", "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", 0, true},
		{"more than it said", head + "Content-Length: 2\r\n\r\n{} ", 0, false},
		{"another answer", good + good, 0, false},
		{"another answer, after one that is not short", head + "Content-Length: 9500\r\n\r\n" + strings.Repeat(" ", 9498) + "{}" + good, 0, false},
		{"another answer, in a record of its own", good + nextRecord + good, 0, false},
		{"another answer, after one that is read in one piece", head + "Content-Length: " + strconv.Itoa(4096-len(head)-len("Content-Length: 0000\r\n\r\n")) + "\r\n\r\n" +
			strings.Repeat(" ", 4096-len(head)-len("Content-Length: 0000\r\n\r\n")-2) + "{}" + good, 0, false},
		{"another answer, after chunks", head + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n" + good, 0, false},
		{"its last", head + "Connection: close\r\nContent-Length: 2\r\n\r\n{}", 0, false},
		{"old", "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", 0, false},
		{"an error that is not read", "HTTP/1.1 500 Oh\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\n{}", 0, false},
		{"an error that is too long", "HTTP/1.1 500 Oh\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat(" ", 100000), 0, false},
		{"too much", head + "Content-Length: 10001\r\n\r\n{}", TooMuch, false},
		{"the wrong type", "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\n{}", Malformed, false},
		{"bad gzip", head + "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", Malformed, false},
		{"no content", "HTTP/1.1 204 No Content\r\n\r\n", 0, false},
		{"no content, of some length", "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n", 0, false},
		{"no content, in chunks", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", 0, false},
		{"what has not changed, of some length", "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", 0, false},
		{"another protocol", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n" + good, 0, false},
		{"an odd status", "HTTP/1.1 099 Oh\r\nContent-Length: 0\r\n\r\n", 0, false},
	} {
		for name, config := range ways {
			t.Run(c.name+", "+name, func(t *testing.T) {
				var seen lines
				base, _ := scriptTLS(t, config, func(n int, conn net.Conn, _ *http.Request) {
					seen.add(conn)
					if n == 1 {
						writeAtOnce(conn, strings.Split(c.first, nextRecord)...)
						return
					}
					_, _ = io.WriteString(conn, strings.Replace(good, "{}", "[]", 1))
				})
				cl := clientOf(t, base, func(c *Connection) { c.CAFile = a.file })
				defer cl.Close()
				if _, err := get(t, cl, NewBudget(10_000, 100, nil)); kindOf(t, err) != c.want {
					t.Errorf("the first: %v, want %v", err, c.want)
				}
				if a, err := get(t, cl, NewBudget(10_000, 100, nil)); err != nil || string(a.Body) != "[]" {
					t.Errorf("the second: %q, %v", a.Body, err)
				}
				if again := seen.count() == 1; again != c.again {
					t.Errorf("used again: %v, want %v", again, c.again)
				}
			})
		}
	}
}

// Half a record that was read with an answer is the beginning of something: its other half would come in front of the next answer.
func TestHalfARecordIsNobodysAnswer(t *testing.T) {
	a := newAuthority(t)
	pair, err := tls.LoadX509KeyPair(a.issue(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, cut := range []int{1, 4, 5, 30} { // how much of the record comes with the answer; its header has five bytes
		var seen lines
		var rest []byte
		config := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, DynamicRecordSizingDisabled: true}
		base, _ := scriptTLS(t, config, func(n int, c net.Conn, _ *http.Request) {
			g := c.(*tls.Conn).NetConn().(*gathered)
			if n == 1 {
				seen.add(c)
				g.on = true
				_, _ = io.WriteString(c, good)
				end := len(g.text) + cut
				_, _ = io.WriteString(c, good)
				g.on = false
				_, _ = g.Write(g.text[:end])
				rest = g.text[end:]
				return
			}
			if seen.add(c) == 1 {
				_, _ = g.Write(rest)
			}
			_, _ = io.WriteString(c, strings.Replace(good, "{}", "[]", 1))
		})
		c := clientOf(t, base, func(c *Connection) { c.CAFile = a.file })
		for n, want := range []string{"{}", "[]", "[]"} {
			if got, err := get(t, c, NewBudget(100, 100, nil)); err != nil || string(got.Body) != want {
				t.Errorf("%d bytes of the record, request %d: %q, %v", cut, n, got.Body, err)
			}
		}
		if seen.count() != 2 {
			t.Errorf("%d bytes of the record: %d connections, want 2", cut, seen.count())
		}
		c.Close()
	}
}

// Of an answer nothing is in the memory of the next on the same connection, not even behind its end; and it stays as it is while that is read.
func TestNoAnswerIsInTheMemoryOfTheNext(t *testing.T) {
	var seen lines
	long := `{"x":"` + strings.Repeat(marker, 500) + `"}`
	base, _ := script(t, func(n int, c net.Conn, _ *http.Request) {
		seen.add(c)
		text := "{}"
		if n == 1 {
			text = long
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"+strconv.FormatInt(int64(len(text)), 16)+"\r\n"+text+"\r\n0\r\n\r\n")
	})
	c := clientOf(t, base)
	defer c.Close()
	first, err := get(t, c, NewBudget(1<<20, 100, nil))
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		a, err := get(t, c, NewBudget(1<<20, 100, nil))
		if err != nil || string(a.Body) != "{}" || strings.Contains(string(a.Body[:cap(a.Body)]), marker) {
			t.Fatalf("%d bytes with room for %d, %v: something of the one before is there", len(a.Body), cap(a.Body), err)
		}
	}
	if string(first.Body) != long || seen.count() != 1 {
		t.Errorf("the first has changed: %v; %d connections", string(first.Body) != long, seen.count())
	}
}

// Interim answers count as header, and are not read without end.
func TestInterimAnswersEnd(t *testing.T) {
	base, _ := script(t, func(_ int, c net.Conn, _ *http.Request) {
		for err := error(nil); err == nil; {
			_, err = io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </"+marker+">\r\n\r\n")
		}
	})
	c := clientOf(t, base)
	if _, err := get(t, c, NewBudget(100, 100, nil)); kindOf(t, err) != Malformed {
		t.Errorf("got %v", err)
	}
	c.Close()
}

// A connection that was cut is not used again, even if the answer came all the same.
func TestACutConnectionIsNotUsedAgain(t *testing.T) {
	var seen lines
	var leave context.CancelFunc
	base, _ := script(t, func(n int, c net.Conn, _ *http.Request) {
		seen.add(c)
		if n == 1 {
			leave()
			time.Sleep(500 * time.Millisecond)
		}
		_, _ = io.WriteString(c, good)
	})
	c := clientOf(t, base)
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	leave = cancel
	if _, err := c.Do(ctx, Request{Target: c.At("x")}, NewBudget(100, 100, nil)); kindOf(t, err) != Cancelled {
		t.Errorf("got %v", err)
	}
	if _, err := c.Do(ctx, Request{Target: c.At("x")}, NewBudget(100, 100, nil)); kindOf(t, err) != Cancelled || seen.count() != 1 {
		t.Errorf("whoever has left asks nothing: %v, %d connections", err, seen.count())
	}
	if _, err := get(t, c, NewBudget(100, 100, nil)); err != nil || seen.count() != 2 {
		t.Errorf("%v, %d connections", err, seen.count())
	}
}

// The same where the answer was whole before the cut.
func TestACutConnectionIsNotKept(t *testing.T) {
	p := NewPool(somewhere(t), 1)
	defer p.Close()
	ctx, cancel := context.WithCancel(t.Context())
	if err := p.Ask(ctx, func(*Line) (bool, error) { cancel(); return true, nil }); err != nil || p.resting() != 0 {
		t.Errorf("%v, %d connections are kept", err, p.resting())
	}
}

// Whoever waits for a connection waits within their time, and takes none.
func TestWaitingForAConnectionEnds(t *testing.T) {
	let, arrived := make(chan struct{}), make(chan struct{}, 2)
	c := client(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-let
		fhir(w)
		_, _ = io.WriteString(w, `{}`)
	}), func(c *Connection) { c.MaxConnections = 1 })
	first := make(chan error)
	go func() { _, err := get(t, c, NewBudget(100, 100, nil)); first <- err }()
	<-arrived
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := c.Do(ctx, Request{Target: c.At("x")}, NewBudget(100, 100, nil)); kindOf(t, err) != TimedOut {
		t.Errorf("the second: %v", err)
	}
	close(let)
	if err := <-first; err != nil {
		t.Errorf("the first: %v", err)
	}
	if _, err := get(t, c, NewBudget(100, 100, nil)); err != nil {
		t.Errorf("the third: %v", err)
	}
	if len(arrived) != 1 {
		t.Errorf("%d requests arrived after the first, want 1", len(arrived))
	}
}

// What has been idle too long is closed, though nobody asks; what has not, is kept. What is idle too long when it is taken is not used.
func TestIdleConnectionsExpire(t *testing.T) {
	const many = 4
	var seen lines
	var all sync.WaitGroup
	all.Add(many)
	base, requests := script(t, func(n int, c net.Conn, _ *http.Request) {
		seen.add(c)
		if n <= many { // they are there at once
			all.Done()
			all.Wait()
		}
		_, _ = io.WriteString(c, good)
	})
	c := clientOf(t, base)
	defer c.Close()
	var done sync.WaitGroup
	for range many {
		done.Go(func() {
			if _, err := get(t, c, NewBudget(100, 100, nil)); err != nil {
				t.Error(err)
			}
		})
	}
	done.Wait()
	p := c.pool
	if n := p.resting(); n != many || p.expiry == nil {
		t.Fatalf("%d are idle, want %d; they expire: %v", n, many, p.expiry != nil)
	}
	old := time.Now().Add(-idleTimeout)
	p.idle[0].since, p.idle[1].since = old, old
	gone := p.idle[0]
	p.expire()
	if n := p.resting(); n != 2 || p.expiry == nil {
		t.Errorf("%d are idle, want 2; they expire: %v", n, p.expiry != nil)
	}
	if _, err := gone.Conn.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("it is not closed: %v", err)
	}
	p.idle[0].since, p.idle[1].since = old, old
	if _, err := get(t, c, NewBudget(100, 100, nil)); err != nil || seen.count() != many+1 || requests.Load() != many+1 {
		t.Errorf("%v, %d connections, %d requests", err, seen.count(), requests.Load())
	}
	p.idle[0].since = old
	p.expire()
	if n := p.resting(); n != 0 || p.expiry != nil {
		t.Errorf("%d are idle, want none; something is awaited: %v", n, p.expiry != nil)
	}
}

// What is under way when the client is closed ends as it would have, and its connection is not kept.
func TestCloseCutsNothing(t *testing.T) {
	arrived, let := make(chan struct{}), make(chan struct{})
	c := client(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-let
		fhir(w)
		_, _ = io.WriteString(w, `{}`)
	}))
	done := make(chan error)
	go func() { _, err := get(t, c, NewBudget(100, 100, nil)); done <- err }()
	<-arrived
	c.Close()
	close(let)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := c.pool.resting(); n != 0 {
		t.Errorf("%d connections are kept", n)
	}
}

// somewhere is where a connection can be had on which nothing is ever said, until the test ends.
func somewhere(t *testing.T) *Dialer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	host, port, _ := net.SplitHostPort(l.Addr().String())
	return newDialer("", host, port, nil)
}

// A question is asked again at most once, and only if the service could not be reached and no byte of it left.
func TestWhatIsAskedAgain(t *testing.T) {
	to := somewhere(t)
	var ended *Error
	for _, c := range []struct {
		name  string
		err   error
		write bool
		want  int
	}{
		{"not reached", &Error{Kind: Unavailable}, false, 2},
		{"not reached, after it left", &Error{Kind: Unavailable}, true, 1},
		{"malformed", &Error{Kind: Malformed}, false, 1},
		{"refused", &Error{Kind: Unauthorised}, false, 1},
		{"good", nil, false, 1},
	} {
		p := NewPool(to, 1)
		asked := 0
		err := p.Ask(t.Context(), func(l *Line) (bool, error) {
			if asked++; c.write {
				_, _ = l.Write([]byte("x"))
			}
			return true, c.err
		})
		if asked != c.want || c.err != nil && !errors.As(err, &ended) || c.err == nil && err != nil {
			t.Errorf("%s: asked %d times, want %d: %v", c.name, asked, c.want, err)
		}
		p.Close()
	}
}

// A panic leaves no connection open and no room taken.
func TestAPanicLeavesNothingOpen(t *testing.T) {
	p := NewPool(somewhere(t), 1)
	defer p.Close()
	var line *Line
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic did not arrive")
			}
		}()
		_ = p.Ask(t.Context(), func(l *Line) (bool, error) { line = l; panic(marker) })
	}()
	if _, err := line.Conn.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the connection is open: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := p.Ask(ctx, func(*Line) (bool, error) { return true, nil }); err != nil || p.resting() != 1 {
		t.Errorf("%v, %d connections are idle", err, p.resting())
	}
}

// Making a connection ends by itself at the caller's deadline, perhaps a moment before the context says that it is over: that is the caller's time and says
// nothing about the service.
func TestADeadlineThatIsNoticedFirst(t *testing.T) {
	if err := SocketError(nearlyOver{t.Context()}, errors.New(marker), false); kindOf(t, err) != TimedOut {
		t.Errorf("got %v", err)
	}
}

// nearlyOver is a context whose time has passed and that does not say so yet.
type nearlyOver struct{ context.Context }

func (nearlyOver) Deadline() (time.Time, bool) { return time.Now().Add(-time.Microsecond), true }

// A service that reads nothing does not hold up those whose connection it was: not who comes next, and not who closes.
func TestClosingWaitsForNobody(t *testing.T) {
	a := newAuthority(t)
	pair, err := tls.LoadX509KeyPair(a.issue(t))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13})
	if err != nil {
		t.Fatal(err)
	}
	speak := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		c, err := ln.Accept() // and no other
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			_, _ = io.WriteString(c, good)
		}
		<-speak
		_, _ = io.WriteString(c, "x")
		<-speak
	})
	defer all.Wait()
	defer close(speak)
	defer func() { _ = ln.Close() }()
	c := clientOf(t, "https://"+ln.Addr().String(), func(c *Connection) { c.CAFile = a.file })
	if _, err := get(t, c, NewBudget(100, 100, nil)); err != nil {
		t.Fatal(err)
	}
	line := c.pool.idle[0]
	for _, size := range []int{64 << 10, 64 << 10, 1 << 10, 1, 1} { // as much as there is room for on the way, and what becomes free while it is filled
		_ = line.raw.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		for err := error(nil); err == nil; {
			_, err = line.raw.Write(make([]byte, size))
		}
	}
	_ = line.raw.SetWriteDeadline(time.Time{})
	speak <- struct{}{}
	time.Sleep(20 * time.Millisecond) // until it is here
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if _, err := c.Do(ctx, Request{Target: c.At("x")}, NewBudget(100, 100, nil)); kindOf(t, err) != TimedOut || time.Since(begun) > 2*time.Second {
		t.Errorf("%v after %v", err, time.Since(begun))
	}
}
