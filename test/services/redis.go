//go:build unix

package services

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// RedisServer is a Redis server of a test. It keeps nothing on disk.
type RedisServer struct {
	Port int // on 127.0.0.1

	path, log string
	as        *syscall.Credential
	args      []string
	process   *process
}

// Redis starts a server; args are added to its command line. It is stopped when the test ends.
func Redis(t testing.TB, args ...string) *RedisServer {
	t.Helper()
	path, ok := program("redis-server", "")
	if !ok {
		missing(t, "redis-server", "redis-server")
	}
	as := owner()
	dir := folder(t, as)
	s := &RedisServer{path: path, log: filepath.Join(dir, "log"), as: as, args: args}
	s.Start(t)
	return s
}

// Start starts the server, or starts it again, empty, on the port that it had.
func (s *RedisServer) Start(t testing.TB) {
	t.Helper()
	first := s.Port == 0
	for try := range 3 {
		if first {
			s.Port = freePort(t)
		}
		args := append([]string{"--port", fmt.Sprint(s.Port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", filepath.Dir(s.log)}, s.args...)
		var err error
		if s.process, err = run(s.as, s.log, s.path, args...); err != nil {
			t.Fatalf("starting Redis: %v", err)
		}
		p := s.process
		t.Cleanup(func() {
			_ = p.cmd.Process.Signal(syscall.SIGCONT) // one that a test stalled could not end
			if err := p.end(syscall.SIGKILL); err != nil {
				t.Errorf("stopping Redis: %v", err)
			}
		})
		if err = s.answers(); err == nil {
			return
		}
		if try == 2 || !first {
			t.Fatalf("Redis does not answer: %v\n%s", err, tail(s.log))
		}
	}
}

// answers waits until the server answers.
func (s *RedisServer) answers() (err error) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline) && !s.process.gone(); time.Sleep(10 * time.Millisecond) {
		var reply string
		if reply, err = s.do("PING"); err == nil && reply == "+PONG" {
			return nil
		}
	}
	return errorOr(err, errors.New("it ended"))
}

// Do sends one command without spaces in its parts, and returns the first line of the reply.
func (s *RedisServer) Do(t testing.TB, command string) string {
	t.Helper()
	reply, err := s.do(command)
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	return reply
}

func (s *RedisServer) do(command string) (string, error) {
	c, err := net.DialTimeout("tcp", s.Address(), time.Second)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }() // one command, one reply
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(c, "%s\r\n", command); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line), err
}

// Address is the server's host and port.
func (s *RedisServer) Address() string { return fmt.Sprintf("127.0.0.1:%d", s.Port) }

// Folder is where the server keeps what it says of itself, and what SAVE writes.
func (s *RedisServer) Folder() string { return filepath.Dir(s.log) }

// PID is the server's process id.
func (s *RedisServer) PID() int { return s.process.pid() }

// Kill ends the server at once.
func (s *RedisServer) Kill(t testing.TB) {
	t.Helper()
	if err := s.process.end(syscall.SIGKILL); err != nil {
		t.Fatalf("killing Redis: %v", err)
	}
}

// Stall stops the server without closing anything: it accepts, and answers nothing. The function that is returned lets it go on.
func (s *RedisServer) Stall(t testing.TB) (goOn func()) {
	t.Helper()
	if err := s.process.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatalf("stalling Redis: %v", err)
	}
	p := s.process
	return func() { _ = p.cmd.Process.Signal(syscall.SIGCONT) } // it may have been killed since
}

// Overhear writes down every command that the server is sent from now on, values and messages included, until the test ends or the server does. What is not
// text stands as bytes.
func (s *RedisServer) Overhear(t testing.TB) (heard func() []byte) {
	t.Helper()
	c, err := net.DialTimeout("tcp", s.Address(), time.Second)
	if err == nil {
		_, err = c.Write([]byte("MONITOR\r\n"))
	}
	if err != nil {
		t.Fatalf("overhearing Redis: %v", err)
	}
	t.Cleanup(func() { _ = c.Close() }) // ends the reading
	var mu sync.Mutex
	var all []byte
	go func() {
		b := make([]byte, 64<<10)
		for {
			n, err := c.Read(b)
			mu.Lock()
			all = append(all, b[:n]...)
			mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return func() []byte {
		mu.Lock()
		defer mu.Unlock()
		return escaped.ReplaceAllFunc(all, func(e []byte) []byte {
			out, _ := hex.DecodeString(string(e[2:])) // two hexadecimal digits, as it matched
			return out
		})
	}
}

// escaped is a byte as MONITOR writes it down.
var escaped = regexp.MustCompile(`\\x[0-9a-f]{2}`)
