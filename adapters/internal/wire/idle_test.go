package wire

import (
	"bufio"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A service that gives up an idle connection with a 408, just when it is taken for the next request and before a byte of that has left, is asked again on
// another: nothing was sent, and nothing is said against it.
func TestIdleConnectionGivenUpWhenTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var taken atomic.Int32
	first := make(chan net.Conn, 1)
	serve := func(c net.Conn) {
		defer func() { _ = c.Close() }()
		r := bufio.NewReader(c)
		for {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			if _, err := c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\nContent-Length: 2\r\n\r\n{}")); err != nil {
				return
			}
		}
	}
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if taken.Add(1) == 1 {
				first <- c
			}
			all.Go(func() { serve(c) })
		}
	})
	c, err := New(Connection{BaseURL: "http://" + l.Addr().String() + "/r4", AllowPlainHTTP: true})
	if err != nil {
		t.Fatal(err)
	}
	defer all.Wait()
	defer func() { _ = l.Close() }()
	defer c.Close()
	if _, err := c.Do(t.Context(), Request{Target: c.At("metadata")}, NewBudget(1000, 100, nil)); err != nil {
		t.Fatal(err)
	}
	idle := <-first
	given := false
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
		if !given {
			given = true
			_, _ = idle.Write([]byte("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"))
			_ = idle.Close()
			time.Sleep(50 * time.Millisecond) // until it has been read
		}
	}})
	a, trouble := c.Do(ctx, Request{Target: c.At("metadata")}, NewBudget(1000, 100, nil))
	if trouble != nil || a.Status != http.StatusOK || taken.Load() != 2 {
		t.Errorf("status %d, %v, %d connections", a.Status, trouble, taken.Load())
	}
}
