// Package simulator stands in for everything outside the broker: custodians that answer as FHIR R4 servers, the demographics
// service (PDS FHIR), and an issuer of access tokens. All of them are real servers over HTTP, made for the demo and for tests:
// they hold invented people in memory, and each can be told to go wrong in the ways that real systems do.
//
// Nothing of the broker is imported, so that a misunderstanding in the broker cannot hide in its own counterparty.
// Everything here is safe for concurrent use.
package simulator

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"time"
)

// Server is a simulator that is listening.
type Server struct {
	url  string
	http *http.Server
	done chan struct{}
}

// Start serves h on ln until [Server.Close]. It takes ln over.
func Start(ln net.Listener, h http.Handler) *Server {
	s := &Server{
		url: "http://" + ln.Addr().String(),
		http: &http.Server{
			Handler:           h,
			ReadHeaderTimeout: 5 * time.Second,
			IdleTimeout:       60 * time.Second,
			MaxHeaderBytes:    32 << 10,
			ErrorLog:          log.New(io.Discard, "", 0), // resets and half-written answers are what a simulator is for
		},
		done: make(chan struct{}),
	}
	go func() {
		defer close(s.done)
		_ = s.http.Serve(ln) // always ends with an error, by Close
	}()
	return s
}

// Listen starts h on a TCP address of this machine; port 0 is any free one.
func Listen(address string, h http.Handler) (*Server, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, errors.New("simulator: cannot listen on " + address + ": is the port taken?")
	}
	return Start(ln, h), nil
}

// URL returns the origin, "http://host:port".
func (s *Server) URL() string { return s.url }

// Close cuts every connection, hanging ones included, and returns when the server has stopped.
func (s *Server) Close() {
	_ = s.http.Close() // its only error is that the listener was closed before
	<-s.done
}
