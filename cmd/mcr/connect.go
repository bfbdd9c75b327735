package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// defaultServer is where the demo listens.
const defaultServer = "127.0.0.1:9090"

// maxToken is how large a token may be, in bytes.
const maxToken = 32 << 10

// server is how to reach the broker, and as whom.
type server struct {
	address, ca, cert, key, tokenFile, actingFile string
	plaintext                                     optional
	timeout                                       time.Duration
}

// optional is a bool flag that knows whether it was given.
type optional struct{ given, value bool }

// String returns the value.
func (o *optional) String() string {
	if o == nil || !o.given {
		return ""
	}
	return map[bool]string{true: "true", false: "false"}[o.value]
}

// Set takes true or false.
func (o *optional) Set(s string) error {
	switch s {
	case "true":
		o.given, o.value = true, true
	case "false":
		o.given, o.value = true, false
	default:
		return errors.New("true or false")
	}
	return nil
}

// IsBoolFlag lets the flag stand alone.
func (o *optional) IsBoolFlag() bool { return true }

// serverFlags defines the flags that every command has which calls the broker.
func serverFlags(fs *flag.FlagSet, timeout time.Duration) *server {
	s := &server{}
	addressFlags(fs, &s.address, &s.ca, &s.cert, &s.key)
	fs.Var(&s.plaintext, "plaintext", "no TLS; the default, and allowed, only for this machine")
	fs.StringVar(&s.tokenFile, "token-file", "", "`file` that holds the token; default: the one that mcr login wrote")
	fs.StringVar(&s.actingFile, "acting-person-file", "", "`file` that holds an engine's signed statement of the acting person")
	fs.DurationVar(&s.timeout, "timeout", timeout, "longest wait for the whole answer")
	return s
}

// addressFlags defines those that mcr login has too, and remembers.
func addressFlags(fs *flag.FlagSet, address, ca, cert, key *string) {
	fs.StringVar(address, "server", "", "`host:port` of the broker's gRPC services; default: as at sign-in, or "+defaultServer)
	fs.StringVar(ca, "ca", "", "PEM `file` of the authorities that vouch for the server; default: as at sign-in, or the system's")
	fs.StringVar(cert, "cert", "", "PEM `file` of a client certificate, where the server asks for one")
	fs.StringVar(key, "client-key", "", "PEM `file` of its key")
}

// fill takes from the sign-in what this call does not say: the address, and with it how to trust it.
func (s *server) fill(at session) {
	if s.address != "" {
		return
	}
	if s.address = at.Server; s.address == "" {
		s.address = defaultServer
		return
	}
	if s.ca == "" {
		s.ca = at.CA
	}
	if s.cert == "" && s.key == "" {
		s.cert, s.key = at.Cert, at.Key
	}
}

// dial connects, and returns a context that carries the token. Close the connection when done.
func (a *app) dial(ctx context.Context, s *server) (context.Context, context.CancelFunc, *grpc.ClientConn, error) {
	token, err := a.token(s.tokenFile)
	if err != nil {
		return nil, nil, nil, err
	}
	pairs := []string{"authorization", "Bearer " + token}
	if s.actingFile != "" {
		acting, err := readToken(s.actingFile)
		if err != nil {
			return nil, nil, nil, err
		}
		pairs = append(pairs, "acting-person", acting)
	}
	s.fill(a.session())
	creds, err := s.credentials()
	if err != nil {
		return nil, nil, nil, err
	}
	conn, err := grpc.NewClient("passthrough:///"+s.address, grpc.WithTransportCredentials(creds), grpc.WithNoProxy())
	if err != nil {
		return nil, nil, nil, useError("-server: give host:port")
	}
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(ctx, pairs...), s.timeout)
	return ctx, cancel, conn, nil
}

// credentials chooses TLS, or plain text for this machine: a token, and a record, never cross a network unencrypted.
func (s *server) credentials() (credentials.TransportCredentials, error) {
	host, port, err := net.SplitHostPort(s.address)
	if err != nil || port == "" {
		return nil, useError("-server: give host:port")
	}
	if s.timeout <= 0 {
		return nil, useError("-timeout: give a time above zero, such as 15s")
	}
	local := isLoopback(host)
	plain := local && s.ca == "" && s.cert == "" // by default
	if s.plaintext.given {
		plain = s.plaintext.value
	}
	if plain {
		if !local {
			return nil, useError("-plaintext: only for this machine; to reach another, leave it out (and give -ca if its authority is your own)")
		}
		return insecure.NewCredentials(), nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if s.ca != "" {
		pem, err := readFile(s.ca, 1<<20)
		if err != nil {
			return nil, err
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, useError("-ca: the file holds no certificate in PEM form")
		}
	}
	if s.cert != "" || s.key != "" {
		pair, err := tls.LoadX509KeyPair(s.cert, s.key)
		if err != nil {
			return nil, useError("-cert and -client-key: give both, as PEM files that belong together")
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return credentials.NewTLS(cfg), nil
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// signInError means that there is no token to use.
type signInError string

// Error returns the text.
func (e signInError) Error() string { return string(e) }

// token returns the token of a file, or the one that login wrote.
func (a *app) token(file string) (string, error) {
	if file != "" {
		return readToken(file)
	}
	path, err := a.tokenPath()
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return "", signInError("you are not signed in: mcr login -as PERSONA (with the demo), or mcr login -token-file FILE")
	}
	return readToken(path)
}

func (a *app) tokenPath() (string, error) {
	if a.configDir == "" {
		return "", useError("there is no folder for settings (is $HOME set?): give -token-file")
	}
	return filepath.Join(a.configDir, "token"), nil
}

// readToken reads a signed token: three parts with dots between them.
func readToken(file string) (string, error) {
	text, err := readFile(file, maxToken)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(text))
	if !looksSigned(token) {
		return "", useError("the token file does not hold a signed token (three parts with dots between them)")
	}
	return token, nil
}

// staffToken reports whether the token that will be sent is that of staff: it names a role in use, as CIS2's do (standards: selected_roleid). The broker decides what a token says; here it
// serves to catch what staff forget before it is asked, and what cannot be read is nobody's.
func (a *app) staffToken(s *server) bool {
	token, err := a.token(s.tokenFile)
	if err != nil {
		return false
	}
	body, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	var claims struct {
		Role string `json:"selected_roleid"`
	}
	return err == nil && json.Unmarshal(body, &claims) == nil && claims.Role != ""
}

func looksSigned(s string) bool {
	parts := strings.Split(s, ".")
	for _, p := range parts {
		if p == "" || strings.Trim(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
			return false
		}
	}
	return len(parts) == 3
}

// readFile reads a small file whole.
func readFile(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, useError("a file cannot be opened: " + safe(name))
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil || int64(len(text)) > limit {
		return nil, useError("a file cannot be read, or is too large: " + safe(name))
	}
	return text, nil
}
