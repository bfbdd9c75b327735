package wire

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
)

// A service that asks for new keys right behind an answer (TLS 1.3, RFC 8446, section 4.6.3) is answered by crypto/tls while it is looked at whether anything is left. That does not wait,
// so the answer cannot be written, and the connection can carry no other question.
func TestNewKeysBehindAnAnswer(t *testing.T) {
	a := newAuthority(t)
	pair, err := tls.LoadX509KeyPair(a.issue(t))
	if err != nil {
		t.Fatal(err)
	}
	var keys bytes.Buffer // written in the handshake, read after it
	var seen lines
	var asked atomic.Bool
	config := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true, KeyLogWriter: &keys}
	base, _ := scriptTLS(t, config, func(n int, c net.Conn, _ *http.Request) {
		seen.add(c)
		s := c.(*tls.Conn)
		g := s.NetConn().(*gathered)
		g.on = true
		_, _ = io.WriteString(c, good)
		if n == 1 && s.ConnectionState().CipherSuite == tls.TLS_AES_128_GCM_SHA256 { // what Go chooses wherever the processor knows AES
			g.text = append(g.text, keyUpdate(t, keys.String(), 1)...)
			asked.Store(true)
		}
		g.on = false
		_, _ = g.Write(g.text)
		g.text = nil
	})
	c := clientOf(t, base, func(c *Connection) { c.CAFile = a.file })
	defer c.Close()
	for n := range 3 {
		if got, err := get(t, c, NewBudget(100, 100, nil)); err != nil || string(got.Body) != "{}" {
			t.Errorf("request %d: %q, %v", n, got.Body, err)
		}
	}
	if !asked.Load() {
		if os.Getenv("CI") != "" {
			t.Fatal("CI is set, and Go chose another cipher than the one in which this test can ask for new keys: run it on a processor that knows AES")
		}
		t.Skip("Go chose another cipher than the one in which this test can ask for new keys: the processor does not know AES")
	}
	if n := seen.count(); n != 2 {
		t.Errorf("%d connections, though the first alone was unfit", n)
	}
}

// keyUpdate is the record, the n-th that the service sends under its first keys, in which it asks for new ones.
func keyUpdate(t *testing.T, log string, n uint64) []byte {
	_, line, _ := strings.Cut(log, "SERVER_TRAFFIC_SECRET_0 ")
	line, _, _ = strings.Cut(line, "\n")
	_, text, _ := strings.Cut(line, " ")
	secret, err := hex.DecodeString(text)
	if err != nil || len(secret) != sha256.Size {
		t.Error("no secret of the service's was logged")
		return nil
	}
	expanded := func(label string, length int) []byte { // RFC 8446, section 7.1: HKDF-Expand-Label without a context
		label = "tls13 " + label
		out, err := hkdf.Expand(sha256.New, secret, string([]byte{0, byte(length), byte(len(label))})+label+"\x00", length)
		if err != nil {
			t.Error(err)
		}
		return out
	}
	block, err := aes.NewCipher(expanded("key", 16))
	if err != nil {
		t.Error(err)
		return nil
	}
	sealer, err := cipher.NewGCM(block)
	if err != nil {
		t.Error(err)
		return nil
	}
	nonce := expanded("iv", sealer.NonceSize())
	tail := nonce[len(nonce)-8:]
	binary.BigEndian.PutUint64(tail, binary.BigEndian.Uint64(tail)^n)
	const handshake, applicationData, update, requested = 22, 23, 24, 1
	plain := []byte{update, 0, 0, 1, requested, handshake}
	header := []byte{applicationData, 3, 3, 0, byte(len(plain) + sealer.Overhead())}
	return sealer.Seal(header, nonce, plain, header)
}
