package test

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
)

// told keeps what information governance, or the person, is told in a test: by webhook, mail, terminal, report and gateway. Nothing of a record may be in any of it, and an
// NHS number only where whoever is told had asked about that person.
type told struct {
	t    *testing.T
	seen []saying
}

type saying struct {
	what, text string
	about      []string // whose numbers may be in it
}

func (x *told) say(what, text string, about ...string) string {
	if text == "" {
		x.t.Errorf("%s: nothing was said, so nothing is shown by searching it", what)
	}
	x.seen = append(x.seen, saying{what, text, about})
	return text
}

// check searches everything that was told.
func (x *told) check() {
	x.t.Helper()
	for _, s := range x.seen {
		lower := strings.ToLower(s.text)
		for _, mark := range []string{markFamily, markGiven, markStreet, markText, markValue, "ZQ9 9ZQ"} {
			if strings.Contains(lower, strings.ToLower(mark)) {
				x.t.Errorf("%s holds a marker of kind %.6s: something of a record, or of the person", s.what, mark)
			}
		}
		bare := strings.NewReplacer(" ", "", "\u00a0", "").Replace(s.text) // numbers are written in groups too
		for i, number := range markedNumbers {
			if strings.Contains(bare, number) && !slices.Contains(s.about, number) {
				x.t.Errorf("%s holds the NHS number of person %d, about whom nobody asked there", s.what, i+1)
			}
		}
	}
	x.t.Logf("%d things that were told were searched", len(x.seen))
}

// desk is mcr as somebody uses it against a product.
type desk struct {
	t             *testing.T
	server, token string // host:port; a file
	home          string
}

func newDesk(t *testing.T, server, token string) *desk {
	t.Helper()
	d := &desk{t, server, filepath.Join(t.TempDir(), "token"), t.TempDir()}
	if err := os.WriteFile(d.token, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	return d
}

// do runs mcr, which must go well, and returns what it prints.
func (d *desk) do(args ...string) string {
	d.t.Helper()
	cmd := exec.Command(neighbourhood.Program(d.t, "mcr"), append(args, "-server", d.server, "-token-file", d.token)...)
	cmd.Env, cmd.Dir = append(os.Environ(), "HOME="+d.home, "XDG_CONFIG_HOME="+d.home), d.home
	out, err := cmd.CombinedOutput()
	if err != nil {
		d.t.Fatalf("mcr %s: %v\n%s", strings.Join(args[:min(3, len(args))], " "), err, out)
	}
	return string(out)
}

// file reads what mcr wrote.
func (d *desk) file(parts ...string) string {
	d.t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{d.home}, parts...)...))
	if err != nil {
		d.t.Fatal(err)
	}
	return string(text)
}

// personReport has mcr write the person's report and returns its three forms.
func (d *desk) personReport(number string, more ...string) (page, paper, data string) {
	d.t.Helper()
	dir := "report"
	if err := os.Mkdir(filepath.Join(d.home, dir), 0o700); err != nil {
		d.t.Fatal(err)
	}
	d.do(append([]string{"audit", "report", "-for-patient", number, "-out", dir}, more...)...)
	return d.file(dir, "report.html"), paperText(d.t, d.file(dir, "report.pdf")), d.file(dir, "report.json")
}

// paperText returns the text of a PDF: that of its streams, which are compressed.
func paperText(t *testing.T, pdf string) string {
	t.Helper()
	var out strings.Builder
	for rest := pdf; ; {
		_, after, ok := strings.Cut(rest, "stream\n")
		if !ok {
			break
		}
		stream, next, ok := strings.Cut(after, "\nendstream")
		if !ok {
			t.Fatal("a stream of the PDF has no end")
		}
		rest = next
		r, err := zlib.NewReader(strings.NewReader(stream))
		if err != nil {
			continue // not compressed: a font, say
		}
		text, err := io.ReadAll(io.LimitReader(r, 16<<20))
		if err != nil {
			t.Fatal("a stream of the PDF cannot be read")
		}
		out.Write(text)
	}
	if !strings.Contains(out.String(), "Who has looked") {
		t.Fatal("the PDF has no text: searching it would show nothing")
	}
	return out.String()
}

// receiptsOf are the receipts of the accesses in a report's data.
func receiptsOf(t *testing.T, data string) (list []string) {
	t.Helper()
	var r struct{ Looked, Refused, Carers, Own []struct{ Receipt string } }
	if json.Unmarshal([]byte(data), &r) != nil {
		t.Fatal("the report's data cannot be read")
	}
	for _, x := range slices.Concat(r.Looked, r.Refused, r.Carers, r.Own) {
		list = append(list, x.Receipt)
	}
	return list
}

// post takes mail as a small SMTP server on this machine does, and keeps it.
type post struct {
	address string
	arrived chan string
}

func newPost(t *testing.T) *post {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &post{l.Addr().String(), make(chan string, 10)}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); serving.Wait() })
	return p
}

func (p *post) serve(c net.Conn) {
	defer func() { _ = c.Close() }() // all was said
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	in := bufio.NewReader(c)
	say := func(line string) { _, _ = io.WriteString(c, line+"\r\n") }
	say("220 mail ready")
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		switch verb := strings.ToUpper(line[:min(4, len(line))]); verb {
		case "EHLO", "HELO", "MAIL", "RCPT":
			say("250 ok")
		case "DATA":
			say("354 go on")
			var mail bytes.Buffer
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				mail.WriteString(line)
			}
			p.arrived <- mail.String()
			say("250 kept")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("502 not here")
		}
	}
}
