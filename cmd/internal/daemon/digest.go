package daemon

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/mail"
	"net/smtp"
	"strings"
	"time"
	_ "time/tzdata" // Europe/London on any machine

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// waitingBook says what waits for an organisation's officers. The ledger does.
type waitingBook interface {
	Waiting(ctx context.Context, organisation record.ODSCode, officer func(record.Requester) bool, limit int) (audit.Waiting, error)
}

var _ waitingBook = (*audit.Ledger)(nil)

// digest mails each organisation's officers once a day where in the ledger stands what waits for them: positions, and nothing else. Who and why is for those who
// may ask for it, and that there is one about themselves is for none of them. No request waits for it; what cannot be delivered is tried again until the next one is due.
type digest struct {
	book     waitingBook
	officer  func(record.Requester) bool // whether somebody is of those who read it: alerts about them are not in it
	mail     Mail
	password string
	trust    *tls.Config
	log      *slog.Logger
	zone     *time.Location
	retry    time.Duration
}

const (
	digestPositions = 200 // in one mail
	digestTime      = 30 * time.Second
	digestRetry     = 10 * time.Minute
)

func newDigest(m Mail, book waitingBook, officer func(record.Requester) bool, log *slog.Logger) (*digest, error) {
	d := &digest{book: book, officer: officer, mail: m, log: log, trust: &tls.Config{MinVersion: tls.VersionTLS12}, retry: digestRetry}
	var err error
	if d.zone, err = time.LoadLocation("Europe/London"); err != nil {
		return nil, errors.New("the embedded zone database lacks Europe/London")
	}
	d.trust.ServerName, _, _ = net.SplitHostPort(m.Server) // checked by Load
	if m.PasswordFile != "" {
		text, err := readCapped(m.PasswordFile)
		if d.password = strings.TrimRight(string(text), "\r\n"); err != nil || d.password == "" {
			return nil, errors.New("alerts.mail.passwordFile: it must be a readable file with one password")
		}
	}
	if m.CA != "" {
		pem, err := readCapped(m.CA)
		if d.trust.RootCAs = x509.NewCertPool(); err != nil || !d.trust.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("alerts.mail.ca: no certificate can be read from it")
		}
	}
	return d, nil
}

// run mails at the configured time of each day until ctx ends.
func (d *digest) run(ctx context.Context) {
	for {
		due := d.next(time.Now())
		if !sleep(ctx, time.Until(due)) {
			return
		}
		next := d.next(due)
		for todo := d.mail.To; len(todo) > 0; {
			if todo = d.round(ctx, todo, due); len(todo) == 0 {
				break
			}
			d.log.Warn("the digest of alerts could not be delivered; it is tried again", "problem", "mail", "count", len(todo))
			if time.Now().Add(d.retry).After(next) || !sleep(ctx, d.retry) {
				break
			}
		}
	}
}

// sleep waits, and reports whether ctx has not ended.
func sleep(ctx context.Context, t time.Duration) bool {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// next is when the next mail after a time is due.
func (d *digest) next(now time.Time) time.Time {
	at, _ := time.Parse("15:04", d.mail.At) // checked by Load
	l := now.In(d.zone)
	due := time.Date(l.Year(), l.Month(), l.Day(), at.Hour(), at.Minute(), 0, 0, d.zone)
	if !due.After(now) {
		due = time.Date(l.Year(), l.Month(), l.Day()+1, at.Hour(), at.Minute(), 0, 0, d.zone)
	}
	return due
}

// round mails everybody of a list for whom something waits, and returns those who could not be mailed.
func (d *digest) round(ctx context.Context, list []Recipient, due time.Time) (failed []Recipient) {
	for _, to := range list {
		w, err := d.book.Waiting(ctx, to.Organisation, d.officer, digestPositions)
		if err == nil && len(w.Alerts)+len(w.Overrides) > 0 {
			err = d.deliver(ctx, to.Address, d.compose(to, w, due))
		}
		if err != nil {
			failed = append(failed, to)
		}
	}
	return failed
}

// compose writes the mail. It holds positions, and the name of the organisation that it is for.
func (d *digest) compose(to Recipient, w audit.Waiting, due time.Time) []byte {
	var id [16]byte
	_, _ = rand.Read(id[:]) // crypto/rand.Read never fails (Go 1.24)
	host := d.mail.From[strings.LastIndexByte(d.mail.From, '@')+1:]
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\r\n", args...) }
	line("From: My Care Record <%s>", d.mail.From)
	line("To: <%s>", to.Address)
	line("Subject: My Care Record: %d to look at", len(w.Alerts)+len(w.Overrides))
	line("Date: %s", due.UTC().Format("Mon, 02 Jan 2006 15:04:05 -0700"))
	line("Message-ID: <%s@%s>", hex.EncodeToString(id[:]), host)
	line("Auto-Submitted: auto-generated")
	line("MIME-Version: 1.0")
	line("Content-Type: text/plain; charset=us-ascii")
	line("")
	line("This is for information governance at %s. It names nobody, on purpose.", to.Organisation)
	for _, part := range []struct {
		positions []uint64
		head, how string
	}{{w.Alerts, "Alerts that nobody has closed", "mcr audit worklist show POSITION -reason ..."}, {w.Overrides, "Uses of break-glass that nobody has reviewed", "mcr audit overrides -reason ..."}} {
		if len(part.positions) == 0 {
			continue
		}
		line("")
		line("%s: %d. To look at them: %s", part.head, len(part.positions), part.how)
		for _, p := range part.positions {
			line("  %d", p)
		}
	}
	line("")
	line("Alerts about those who look at alerts are never in this mail: the worklist shows them to the others.") // whether there are any or not
	if w.More {
		line("")
		line("There are more than this mail holds.")
	}
	return []byte(b.String())
}

// What a delivery may fail for. What a mail server says goes nowhere.
var (
	errMailAway    = errors.New("the mail server could not be reached, or did not answer in time")
	errMailPlain   = errors.New("the mail server offers no TLS")
	errMailRefused = errors.New("the mail server did not take the mail")
)

// deliver hands one mail to the server.
func (d *digest) deliver(ctx context.Context, to string, message []byte) error {
	ctx, cancel := context.WithTimeout(ctx, digestTime)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", d.mail.Server)
	if err != nil {
		return errMailAway
	}
	defer func() { _ = conn.Close() }() // of a connection that has said its last
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline) // a socket takes one
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if d.mail.TLS == mailTLS {
		conn = tls.Client(conn, d.trust)
	}
	c, err := smtp.NewClient(conn, d.trust.ServerName)
	if err != nil {
		return errMailAway
	}
	if d.mail.TLS == mailStartTLS {
		if ok, _ := c.Extension("STARTTLS"); !ok {
			return errMailPlain
		}
		if c.StartTLS(d.trust) != nil {
			return errMailAway
		}
	}
	if d.mail.User != "" {
		if c.Auth(smtp.PlainAuth("", d.mail.User, d.password, d.trust.ServerName)) != nil {
			return errMailRefused
		}
	}
	if c.Mail(d.mail.From) != nil || c.Rcpt(to) != nil {
		return errMailRefused
	}
	w, err := c.Data()
	if err != nil {
		return errMailRefused
	}
	_, err = io.Copy(w, strings.NewReader(string(message)))
	if errors.Join(err, w.Close()) != nil {
		return errMailRefused
	}
	_ = c.Quit() // it has been taken
	return nil
}

// mailAddress reports whether s is one plain address.
func mailAddress(s string) bool {
	a, err := mail.ParseAddress(s)
	return err == nil && a.Address == s && !strings.ContainsAny(s, "\r\n<>\" ") && len(s) <= 254
}
