package daemon

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// mailServer takes mail as a small SMTP server does, and keeps it.
type mailServer struct {
	address   string
	ca        string // its certificate
	identity  *tls.Config
	startTLS  bool
	refuse    bool // of who is written to
	mu        sync.Mutex
	mails     []string
	signedIn  bool
	encrypted int
}

func newMailServer(t *testing.T, startTLS bool) *mailServer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	s := &mailServer{ca: filepath.Join(t.TempDir(), "ca.pem"), startTLS: startTLS, identity: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}}
	if err := os.WriteFile(s.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = l.Addr().String()
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { s.serve(c) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); serving.Wait() })
	return s
}

func (s *mailServer) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	in := bufio.NewReader(c)
	say := func(line string) { _, _ = io.WriteString(c, line+"\r\n") }
	say("220 mail ready")
	secure := false
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		word, _, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(line)), " ")
		switch word {
		case "EHLO", "HELO":
			if s.startTLS && !secure {
				say("250-mail\r\n250 STARTTLS")
			} else {
				say("250-mail\r\n250 AUTH PLAIN")
			}
		case "STARTTLS":
			say("220 go on")
			x := tls.Server(c, s.identity)
			if x.Handshake() != nil {
				return
			}
			c, in, secure = x, bufio.NewReader(x), true
			s.mu.Lock()
			s.encrypted++
			s.mu.Unlock()
		case "AUTH":
			s.mu.Lock()
			s.signedIn = true
			s.mu.Unlock()
			say("235 welcome")
		case "RCPT":
			if s.refuse {
				say("550 nobody of that name")
			} else {
				say("250 fine")
			}
		case "DATA":
			say("354 go on")
			var text strings.Builder
			for {
				l, err := in.ReadString('\n')
				if err != nil || l == ".\r\n" {
					break
				}
				text.WriteString(l)
			}
			s.mu.Lock()
			s.mails = append(s.mails, text.String())
			s.mu.Unlock()
			say("250 taken")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 fine")
		}
	}
}

func (s *mailServer) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mails
}

// waits has something waiting for one organisation.
type waits map[record.ODSCode]audit.Waiting

// Waiting implements waitingBook.
func (w waits) Waiting(_ context.Context, o record.ODSCode, _ func(record.Requester) bool, _ int) (audit.Waiting, error) {
	if o == "X9Z01" {
		return audit.Waiting{}, errors.New("away")
	}
	return w[o], nil
}

// Officers are mailed positions and nothing else, over TLS, each organisation its own; nobody for whom nothing waits.
func TestDigest(t *testing.T) {
	s := newMailServer(t, true)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	m := Mail{Server: s.address, TLS: mailStartTLS, CA: s.ca, User: "record", PasswordFile: password, From: "record@trust.example", At: "07:00",
		To: []Recipient{{"X9B01", "ig@trust.example"}, {"X9C01", "ig@minds.example"}, {"X9Z01", "ig@away.example"}}}
	d, err := newDigest(m, waits{"X9B01": {Alerts: []uint64{91, 1234}, Overrides: []uint64{77}, More: true}}, nil, broker.NewLogger(&log, 0))
	if err != nil {
		t.Fatal(err)
	}
	if failed := d.round(t.Context(), m.To, time.Now()); len(failed) != 1 || failed[0].Organisation != "X9Z01" {
		t.Errorf("%d could not be mailed, want the one whose alerts cannot be read", len(failed))
	}
	if len(s.got()) != 1 || !s.signedIn || s.encrypted != 1 {
		t.Fatalf("%d mails", len(s.got()))
	}
	x, err := mail.ReadMessage(strings.NewReader(s.got()[0]))
	if err != nil {
		t.Fatalf("it is no mail: %v", err)
	}
	body, _ := io.ReadAll(x.Body)
	if to, err := mail.ParseAddress(x.Header.Get("To")); err != nil || to.Address != "ig@trust.example" || x.Header.Get("Subject") != "My Care Record: 3 to look at" {
		t.Errorf("its head is %v", x.Header)
	}
	if _, err := x.Header.Date(); err != nil || x.Header.Get("Message-Id") == "" {
		t.Error("it has no date, or no id")
	}
	for _, want := range []string{"  91\r\n", "  1234\r\n", "  77\r\n", "X9B01", "There are more"} {
		if !strings.Contains(string(body), want) {
			t.Errorf("it lacks %q", want)
		}
	}
	// What cannot be delivered is not lost: a server that refuses, one without TLS, one whose certificate nobody vouches for, none.
	s.refuse = true
	if len(d.round(t.Context(), m.To[:1], time.Now())) != 1 {
		t.Error("a mail that was refused counts as sent")
	}
	for name, change := range map[string]func(*Mail){
		"no TLS":      func(m *Mail) { plain := newMailServer(t, false); m.Server = plain.address },
		"no voucher":  func(m *Mail) { m.CA = "" },
		"nobody home": func(m *Mail) { m.Server = "127.0.0.1:1" },
	} {
		other := m
		change(&other)
		d, err := newDigest(other, waits{"X9B01": {Alerts: []uint64{1}}}, nil, broker.NewLogger(&log, 0))
		if err != nil {
			t.Fatal(err)
		}
		if len(d.round(t.Context(), m.To[:1], time.Now())) != 1 {
			t.Errorf("%s: it counts as sent", name)
		}
	}
	if len(s.got()) != 1 {
		t.Errorf("%d mails", len(s.got()))
	}
}

// It comes once a day, at its time in London, winter and summer.
func TestDigestIsDue(t *testing.T) {
	d, err := newDigest(Mail{Server: "127.0.0.1:25", At: "07:00"}, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ now, want string }{
		{"2026-01-10T06:59:00Z", "2026-01-10T07:00:00Z"}, {"2026-01-10T07:00:00Z", "2026-01-11T07:00:00Z"}, {"2026-07-10T05:00:00Z", "2026-07-10T06:00:00Z"},
		{"2026-07-10T06:30:00Z", "2026-07-11T06:00:00Z"}, {"2026-03-28T08:00:00Z", "2026-03-29T06:00:00Z"}, // the clocks go forward
	} {
		now, _ := time.Parse(time.RFC3339, c.now)
		if got := d.next(now).UTC().Format(time.RFC3339); got != c.want {
			t.Errorf("after %s: %s, want %s", c.now, got, c.want)
		}
	}
}

// What waits is what is open, and whose it is.
func TestWaiting(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	breakGlass(t, p.Ledger, 1)
	breakGlass(t, p.Ledger, 2)
	list, _, err := p.Ledger.Follow(t.Context(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var begin uint64
	for _, f := range list {
		if f.Type == audit.TypeBegin {
			begin = f.Position
		}
	}
	a := audit.Alert{Of: begin, Requester: record.Requester{Kind: record.Professional, User: "555000000001", Organisation: "X9J01"}, Rules: []audit.Fired{{Rule: "volume", Weight: 100}}, Score: 100}
	if _, raised, err := p.Ledger.RaiseAlert(t.Context(), a, time.Now(), []string{"x"}, 0); err != nil || !raised {
		t.Fatal(err)
	}
	w, err := p.Ledger.Waiting(t.Context(), "X9J01", nobody, 10)
	if err != nil || len(w.Alerts) != 1 || len(w.Overrides) != 2 || w.More {
		t.Errorf("%+v waits: %v", w, err)
	}
	if w, err := p.Ledger.Waiting(t.Context(), "X9J01", nobody, 2); err != nil || len(w.Alerts)+len(w.Overrides) != 2 || !w.More {
		t.Errorf("%+v waits: %v", w, err)
	}
	if w, err := p.Ledger.Waiting(t.Context(), "X9K01", nobody, 10); err != nil || len(w.Alerts)+len(w.Overrides) != 0 {
		t.Errorf("%+v waits for another organisation: %v", w, err)
	}
	// An alert about somebody who may read the mail is not in it: by the policy, or because they have asked as an officer does.
	policy := func(r record.Requester) bool { return r.User == "555000000001" }
	if w, err := p.Ledger.Waiting(t.Context(), "X9J01", policy, 10); err != nil || len(w.Alerts) != 0 || len(w.Overrides) != 2 || w.More {
		t.Errorf("%+v waits, with an alert about an officer: %v", w, err)
	}
	by := audit.Actor{Requester: a.Requester, RoleName: "officer", RequestID: "r", Reason: "x", Face: "grpc"}
	if _, _, _, err := p.Ledger.Alerts(t.Context(), by, audit.Bounds{Organisation: "X9J01"}, false, 0, 10); err != nil {
		t.Fatal(err)
	}
	if w, err := p.Ledger.Waiting(t.Context(), "X9J01", nobody, 10); err != nil || len(w.Alerts) != 0 || len(w.Overrides) != 2 {
		t.Errorf("%+v waits, with an alert about somebody who asks as an officer does: %v", w, err)
	}
}

func nobody(record.Requester) bool { return false }
