package hl7v2_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/adapters/hl7v2"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/test/simulator"
)

// evil is an engine that answers each query with whatever a test says: bytes as they go over the wire. In them {CTL}, {TAG}, {QPD} and {NHS} stand for
// what the query had.
type evil struct {
	address string
	mu      sync.Mutex
	conns   int
	queries []string
}

func newEvil(t testing.TB, answer func(n int) string) *evil {
	t.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &evil{address: "mllp://" + ln.Addr().String()}
	var wait sync.WaitGroup
	var open sync.Map
	wait.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			e.mu.Lock()
			e.conns++
			e.mu.Unlock()
			open.Store(conn, true)
			wait.Go(func() { e.serve(conn, answer) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		open.Range(func(c, _ any) bool { _ = c.(net.Conn).Close(); return true })
		wait.Wait()
	})
	return e
}

// count returns how many connections and queries there have been.
func (e *evil) count() (conns, queries int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.conns, len(e.queries)
}

func (e *evil) serve(conn net.Conn, answer func(n int) string) {
	defer func() { _ = conn.Close() }()
	r := bufio.NewReader(conn)
	for {
		text, err := r.ReadString(0x1c)
		if err != nil {
			return
		}
		if _, err := r.ReadByte(); err != nil {
			return
		}
		e.mu.Lock()
		n := len(e.queries)
		e.queries = append(e.queries, text)
		e.mu.Unlock()
		l := strings.Split(strings.Trim(text, "\x0b\x1c"), "\r")
		msh, qpd := strings.Split(l[0], "|"), strings.Split(l[1], "|")
		tag := 2
		if qpd[0] == "QRD" {
			tag = 4
		}
		fill := strings.NewReplacer("{CTL}", msh[9], "{TAG}", qpd[tag], "{QPD}", l[1], "{NHS}", held)
		out, closing := strings.CutSuffix(answer(n), "{CLOSE}")
		for len(out) > 0 && err == nil { // in pieces, so that a large answer is not copied whole
			k := min(len(out), 64<<10)
			if end := strings.LastIndexByte(out[:k], '\r'); end >= 0 && k < len(out) {
				k = end + 1
			}
			_, err = conn.Write([]byte(fill.Replace(out[:k])))
			out = out[k:]
		}
		if err != nil || closing {
			return
		}
	}
}

const (
	mshGood  = `MSH|^~\&|E|X9B01|||20260101||RSP^K11^RSP_K11|1|P|2.5.1||||||UNICODE UTF-8` + "\r"
	ackGood  = "MSA|AA|{CTL}\rQAK|{TAG}|OK\r{QPD}\r"
	pidGood  = "PID|1||{NHS}^^^NHS^NH||Ashworth^Ada||19500304|F\r"
	pidOther = "PID|1||9990000018^^^NHS^NH||Strangeways^Quentin||19550505|M\r"
	labGood  = "OBR|1||F1^L|FBC^Full blood count^L|||20240101||||||||||||||||||F\r" + obxGood
	obxGood  = "OBX|1|NM|718-7^Haemoglobin^LN||135.0|g/L|130-170|N|||F\r"
	good     = mshGood + ackGood + pidGood + labGood
)

func block(text string) string { return "\x0b" + text + "\x1c\r" }

func errorAnswer(ack, errs string) string {
	return block(mshGood + "MSA|" + ack + "|{CTL}\r" + errs + "QAK|{TAG}|AE\r{QPD}\r")
}

// Hostile and broken answers of an engine, each with what becomes of it. nil is a reply.
func TestHostile(t *testing.T) {
	change := func(from, to string) string {
		if !strings.Contains(good, from) {
			t.Fatal("nothing to change: the case would be the good answer")
		}
		return block(strings.Replace(good, from, to, 1))
	}
	malformed, wrong, tooMuch := broker.ErrMalformed, broker.ErrWrongSubject, broker.ErrTooMuch
	for _, c := range []struct {
		name   string
		answer string
		want   error
	}{
		{"a good one", block(good), nil},
		{"line ends of three kinds", block(strings.Replace(strings.Replace(good, "\rMSA", "\r\nMSA", 1), "\rQAK", "\nQAK", 1)), nil},
		{"line ends before the block", "\r\n" + block(good), nil},
		{"no start of block", good + "\x1c\r", malformed},
		{"two starts of block", "\x0b" + block(good), malformed},
		{"a start of block within", change("Ashworth", "Ash\x0bworth"), malformed},
		{"an end of block within", change("Ashworth", "Ash\x1cworth"), malformed},
		{"no carriage return after the end", "\x0b" + good + "\x1c\x1c\r", malformed},
		{"the last segment is not closed", block(strings.TrimSuffix(good, "\r")), malformed},
		{"cut off within a segment", block(good[:len(good)-20]), malformed},
		{"the connection ends within the message", "\x0b" + good[:len(good)/2] + "{CLOSE}", malformed},
		{"the connection ends before the end of block", "\x0b" + good + "{CLOSE}", malformed},
		{"the connection ends after half the end of block", "\x0b" + good + "\x1c{CLOSE}", malformed},
		{"the connection ends unanswered", "{CLOSE}", broker.ErrUnavailable},
		{"an empty block", block(""), malformed},
		{"nothing but line ends", block("\r\r\r"), malformed},
		{"a web page", "HTTP/1.1 400 Bad Request\r\n\r\n<html>", malformed},
		{"JSON", block(`{"resourceType":"Bundle"}` + "\r"), malformed},
		{"zero bytes", "\x00\x00\x00\x00", malformed},
		{"another control id", change("MSA|AA|{CTL}", "MSA|AA|1"), malformed},
		{"no control id", change("MSA|AA|{CTL}", "MSA|AA"), malformed},
		{"no MSA", change("MSA|AA|{CTL}\r", ""), malformed},
		{"two MSA", change("MSA|AA|{CTL}\r", "MSA|AA|{CTL}\rMSA|AE|{CTL}\r"), malformed},
		{"two MSH", change("MSA|", mshGood+"MSA|"), malformed},
		{"two QAK", change("QAK|{TAG}|OK\r", "QAK|{TAG}|OK\rQAK|{TAG}|NF\r"), malformed},
		{"two QPD", change("{QPD}\r", "{QPD}\r{QPD}\r"), malformed},
		{"MSA before MSH", block("MSA|AA|{CTL}\r" + good), malformed},
		{"MSA after the record", block(mshGood + "QAK|{TAG}|OK\r{QPD}\r" + pidGood + labGood + "MSA|AA|{CTL}\r"), malformed},
		{"the record before the echo", block(mshGood + "MSA|AA|{CTL}\rQAK|{TAG}|OK\r" + pidGood + labGood + "{QPD}\r"), malformed},
		{"the record in two places", block(good + "DSC|\r" + pidGood), malformed},
		{"another tag in QAK", change("QAK|{TAG}|OK", "QAK|1|OK"), malformed},
		{"another tag in QPD", block(strings.Replace(good, "{QPD}", "QPD|Z71^Results of a person^LOCAL|1|{NHS}^^^NHS^NH", 1)), malformed},
		{"another query in QPD", block(strings.Replace(good, "{QPD}", "QPD|Z99^All^LOCAL|{TAG}|{NHS}^^^NHS^NH", 1)), malformed},
		{"another person in QPD", block(strings.Replace(good, "{QPD}", "QPD|Z71^Results of a person^LOCAL|{TAG}|9990000018^^^NHS^NH", 1)), wrong},
		{"no QAK", change("QAK|{TAG}|OK\r", ""), malformed},
		{"no QPD", block(strings.Replace(good, "{QPD}\r", "", 1)), malformed},
		{"a status that is none", change("|OK\r", "|YES\r"), malformed},
		{"found, and nothing there", block(mshGood + ackGood), malformed},
		{"found, and no person", block(mshGood + ackGood + "ZZZ|1\r"), malformed},
		{"nothing found", block(mshGood + "MSA|AA|{CTL}\rQAK|{TAG}|NF\r{QPD}\r"), broker.ErrNoRecord},
		{"nothing found, in words", block(mshGood + "MSA|AA|{CTL}\rQAK|{TAG}|NF\r{QPD}\rNTE|1||Nothing was found.\r"), broker.ErrNoRecord},
		{"nothing found, and a record", change("|OK\r", "|NF\r"), malformed},
		{"nothing found, and a line that is no segment", block(mshGood + "MSA|AA|{CTL}\rQAK|{TAG}|NF\r{QPD}\rand so on\r"), malformed},
		{"protected", block(mshGood + "MSA|AA|{CTL}\rQAK|{TAG}|PD\r{QPD}\r"), broker.ErrWithheld},
		{"too many", block(mshGood + "MSA|AA|{CTL}\rQAK|{TAG}|TM\r{QPD}\r"), tooMuch},
		{"an error beside AA", change("|OK\r", "|AE\r"), malformed},
		{"application error", errorAnswer("AE", "ERR||QPD^1^3|207^Application internal error^HL70357|E\r"), malformed},
		{"rejected", errorAnswer("AR", ""), malformed},
		{"an error beside a record", block(mshGood + "MSA|AE|{CTL}\rERR|||207|E\rQAK|{TAG}|AE\r{QPD}\r" + pidGood + labGood), malformed},
		{"the person is not known", errorAnswer("AE", "ERR||QPD^1^3|204^Unknown key identifier^HL70357|E\r"), broker.ErrNoRecord},
		{"the person is not known, as version 2.3 says it", errorAnswer("AE", "ERR|QPD^1^3^204&Unknown key identifier&HL70357\r"), broker.ErrNoRecord},
		{"the sender is not known", errorAnswer("AR", "ERR||MSH^1^3|103^Table value not found^HL70357|E\r"), broker.ErrUnauthorised},
		{"the facility is not known, as version 2.3 says it", errorAnswer("AR", "ERR|MSH^1^4^103&Table value not found\r"), broker.ErrUnauthorised},
		{"security", block(strings.Replace(mshGood, "RSP^K11^RSP_K11", "ACK^Q11^ACK", 1) + "MSA|AR|{CTL}\rERR||MSH^1^8|207|E\r"), broker.ErrUnauthorised},
		{"an acknowledgement and no answer", block(strings.Replace(mshGood, "RSP^K11^RSP_K11", "ACK^Q11^ACK", 1) + "MSA|AA|{CTL}\r"), malformed},
		{"a commit and no answer", block(strings.Replace(mshGood, "RSP^K11^RSP_K11", "ACK^Q11^ACK", 1) + "MSA|CA|{CTL}\r"), malformed},
		{"a message of another kind", change("RSP^K11^RSP_K11", "ORU^R01^ORU_R01"), malformed},
		{"another version of HL7", change("|2.5.1|", "|3.0|"), malformed},
		{"a test system's answer", change("|P|2.5.1", "|T|2.5.1"), malformed},
		{"a trigger of the site", change("RSP^K11^RSP_K11", "RSP^Z71^RSP_K11"), nil},
		{"separators that are letters", change(`MSH|^~\&|`, `MSH|AB\&|`), malformed},
		{"separators that are the same", change(`MSH|^~\&|`, `MSH|^^\&|`), malformed},
		{"separators that are missing", change(`MSH|^~\&|`, `MSH|^~|`), malformed},
		{"another person", block(mshGood + ackGood + pidOther + labGood), wrong},
		{"a person without a number", change("{NHS}^^^NHS^NH", "77^^^X9B01^MR"), wrong},
		{"a number of another authority", change("{NHS}^^^NHS^NH", "{NHS}^^^X9B01^NH"), wrong},
		{"two NHS numbers", change("{NHS}^^^NHS^NH", "{NHS}^^^NHS^NH~9990000018^^^NHS^NH"), wrong},
		{"a number with a wrong check digit", change("{NHS}^^^NHS^NH", "9990000035^^^NHS^NH"), wrong},
		{"a number with spaces", change("{NHS}^^^NHS^NH", "999 000 0034^^^NHS^NH"), nil},
		{"one number, two dates of birth", block(good + "PID|1||{NHS}^^^NHS^NH||Ashworth^Ada||19510304|F\r" + labGood), wrong},
		{"one number, a date of birth and its year", block(good + "PID|1||{NHS}^^^NHS^NH||Ashworth^Ada||1950|F\r" + labGood), nil},
		{"a result before any person", block(mshGood + ackGood + labGood + pidGood), malformed},
		{"a line that is no segment", change(obxGood, "and so on\r"+obxGood), malformed},
		{"a segment of 100,000 fields", change(obxGood, "OBX"+strings.Repeat("|", 100_000)+"\r"), malformed},
		{"a field of a million repetitions", change("135.0", strings.Repeat("1~", 1_000_000)), malformed},
		{"not ASCII and called ASCII", block(strings.Replace(strings.Replace(good, "UNICODE UTF-8", "ASCII", 1), "Ashworth", "Ashwörth", 1)), malformed},
		{"not ASCII and nothing said", block(strings.Replace(strings.Replace(good, "||||||UNICODE UTF-8", "", 1), "Ashworth", "Ashwörth", 1)), malformed},
		{"not UTF-8 and called so", change("Ashworth", "Ashw\xf6rth"), malformed},
		{"an overlong form of UTF-8", change("Ashworth", "Ash\xc0\xafworth"), malformed},
		{"windows-1252 called 8859/1", block(strings.Replace(strings.Replace(good, "UNICODE UTF-8", "8859/1", 1), "Ashworth", "Ash\x92worth", 1)), malformed},
		{"a character set that is not known", change("UNICODE UTF-8", "ISO IR87"), malformed},
		{"an escape that does not end", change("Ashworth", `Ash\X41worth`), nil},
		{"an escape of half a character", change("Ashworth", `Ash\XC3\worth`), nil},
		{"a million escapes", change("Ashworth", strings.Repeat(`\`, 1_000_000)), nil},
		{"a million empty lines", change(obxGood, obxGood+strings.Repeat("\r", 1_000_000)), nil},
		{"a string over the cap", change("135.0", strings.Repeat("1", 5<<20)), tooMuch},
		{"a document over the cap", change("|NM|718-7^Haemoglobin^LN||135.0|", "|ED|1^Scan^L||^AP^PDF^Base64^"+strings.Repeat("QUFB", 2<<20)+"|"), tooMuch},
		{"more results than the cap", change(obxGood, strings.Repeat(obxGood, 21_000)), tooMuch},
		{"more visits than the cap", change(obxGood, strings.Repeat("PV1|||A\r", 21_000)), tooMuch},
		{"more people than the cap", change(obxGood, strings.Repeat("PID|||{NHS}^^^NHS^NH\r", 21_000)), tooMuch},
		{"a million attached segments", change(obxGood, strings.Repeat("ZZZ\r", 1_000_000)), tooMuch},
		{"a million notes", change(obxGood, strings.Repeat("NTE|\r", 1_000_000)), tooMuch},
		{"a million unconverted segments", change(obxGood, strings.Repeat("RXA\r", 1_000_000)), tooMuch},
		{"a million segments of an order", change(obxGood, "ORC\r"+strings.Repeat("TQ1\r", 1_000_000)), tooMuch},
		{"a continuation that leads to itself", block(good + "DSC|A|I\r"), malformed},
		{"segments after the continuation", block(good + "DSC|A|I\rZZZ|1\r"), malformed},
		{"two continuations", block(good + "DSC|A|I\rDSC|B|I\r"), malformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEvil(t, func(int) string { return c.answer })
			s := source(t, e.address, func(s *hl7v2.Settings) { s.Queries = []string{simulator.QueryResults} })
			q := query(t, held)
			q.Limits = broker.DefaultLimits
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			reply, err := s.Fetch(ctx, q)
			switch {
			case c.want == nil && err != nil || !errors.Is(err, c.want):
				t.Fatalf("got %v, want %v", err, c.want)
			case err != nil && (len(reply.Entries) > 0 || err.Error() != c.want.Error()):
				t.Error("an error with entries, or with a text of its own")
			case err == nil:
				if n := patients(reply); n != 1 {
					t.Errorf("%d Patients", n)
				}
			}
		})
	}
}

func patients(r broker.Reply) int {
	n := 0
	for _, e := range r.Entries {
		if e.Resource.Get("resourceType").Is("Patient") {
			n++
		}
	}
	return n
}

// An authority of the site's own is one of NHS numbers where that is configured, and not otherwise.
func TestFurtherAuthorities(t *testing.T) {
	e := newEvil(t, func(int) string { return block(strings.Replace(good, "^^^NHS^NH", "^^^SPINE^NH", 1)) })
	only := func(s *hl7v2.Settings) { s.Queries = []string{simulator.QueryResults} }
	if _, err := source(t, e.address, only).Fetch(t.Context(), query(t, held)); !errors.Is(err, broker.ErrWrongSubject) {
		t.Errorf("not configured: got %v", err)
	}
	reply, err := source(t, e.address, only, func(s *hl7v2.Settings) { s.NHSAuthorities = []string{"SPINE"} }).Fetch(t.Context(), query(t, held))
	if err != nil || !reply.Entries[0].Resource.At("identifier", "system").Is(record.NHSNumberSystem) {
		t.Errorf("configured: got %v", err)
	}
}

// Where the right person and others are in one answer, all come: the merge drops and counts the others'. They are Patients of their own, and what is
// theirs says so.
func TestMixedPeople(t *testing.T) {
	e := newEvil(t, func(int) string { return block(good + pidOther + labGood + pidGood + labGood) })
	s := source(t, e.address, func(s *hl7v2.Settings) { s.Queries = []string{simulator.QueryResults} })
	reply, err := s.Fetch(t.Context(), query(t, held))
	if err != nil {
		t.Fatal(err)
	}
	theirs := 0
	for _, x := range reply.Entries {
		if strings.HasPrefix(x.Resource.At("subject", "reference").Text(), "urn:mycarerecord:stranger:") {
			theirs++
		}
	}
	if patients(reply) != 2 || theirs != 2 {
		t.Errorf("%d Patients and %d resources of the other, want 2 and 2", patients(reply), theirs)
	}
}

// A continuation without end stops at the cap on pages.
func TestEndlessContinuation(t *testing.T) {
	e := newEvil(t, func(n int) string { return block(good + fmt.Sprintf("DSC|%d|I\r", n)) })
	s := source(t, e.address, func(s *hl7v2.Settings) { s.Queries = []string{simulator.QueryResults} })
	q := query(t, held)
	q.Limits.Pages = 20
	if _, err := s.Fetch(t.Context(), q); !errors.Is(err, broker.ErrTooMuch) {
		t.Errorf("got %v", err)
	}
	if _, n := e.count(); n != 20 {
		t.Errorf("asked %d times, want 20", n)
	}
}

// An engine that promised more and then knows nobody: what came is returned, and says that it is not all.
func TestBrokenPromise(t *testing.T) {
	e := newEvil(t, func(n int) string {
		if n == 0 {
			return block(good + "DSC|A|I\r")
		}
		return block(mshGood + "MSA|AA|{CTL}\rQAK|{TAG}|NF\r{QPD}\r")
	})
	s := source(t, e.address, func(s *hl7v2.Settings) { s.Queries = []string{simulator.QueryResults} })
	reply, err := s.Fetch(t.Context(), query(t, held))
	if err != nil || len(reply.Parts) != 1 || reply.Parts[0] != (record.Part{Source: "Z71", Reason: record.PartTruncated}) {
		t.Errorf("got %v, %v", reply.Parts, err)
	}
}

// An engine that counts more hits than it sent, and names no continuation: what came is returned, and says that it is not all.
func TestCountsOfHits(t *testing.T) {
	for _, c := range []struct {
		first, second string // QAK-4 to QAK-6
		whole         bool
	}{
		{first: "20|8|12"}, {first: "20|8|0"}, {first: "20|8|"}, {first: "||12"}, {first: "||some"},
		{first: "8|8|0", whole: true}, {first: "||", whole: true}, {first: `""|""|""`, whole: true}, {first: "20||", whole: true}, {first: "||00", whole: true}, {first: "all|8|", whole: true},
		{first: "20|8|12", second: "20|12|0", whole: true}, {first: "20|8|12", second: "20|12|", whole: true}, {first: "20|8|12", second: "20|11|0"}, {first: "20|8|12", second: "20||1"},
		{first: "20||12", second: "20|12|0", whole: true},
	} {
		e := newEvil(t, func(n int) string {
			counts, next := c.first, ""
			switch {
			case n > 0:
				counts = c.second
			case c.second != "":
				next = "DSC|A|I\r"
			}
			return block(strings.Replace(good, "QAK|{TAG}|OK", "QAK|{TAG}|OK|Z71|"+counts, 1) + next)
		})
		s := source(t, e.address, func(s *hl7v2.Settings) { s.Queries = []string{simulator.QueryResults} })
		reply, err := s.Fetch(t.Context(), query(t, held))
		var want []record.Part
		if !c.whole {
			want = []record.Part{{Source: "Z71", Reason: record.PartTruncated}}
		}
		if err != nil || !slices.Equal(reply.Parts, want) {
			t.Errorf("%s, then %s: got %v, %v, want %v", c.first, c.second, reply.Parts, err, want)
		}
	}
}

// An engine that sends a record, and says that there was an error: what came is returned, and says that it is not all. A warning is none.
func TestErrorsBesideARecord(t *testing.T) {
	for severity, whole := range map[string]bool{"E": false, "F": false, "X": false, "W": true, "I": true, "": true} {
		e := newEvil(t, func(int) string {
			return block(strings.Replace(good, "QAK|", "ERR|||207^x^HL70357|"+severity+"\rQAK|", 1))
		})
		s := source(t, e.address, func(s *hl7v2.Settings) { s.Queries = []string{simulator.QueryResults} })
		reply, err := s.Fetch(t.Context(), query(t, held))
		var want []record.Part
		if !whole {
			want = []record.Part{{Source: "Z71", Reason: record.PartTruncated}}
		}
		if err != nil || !slices.Equal(reply.Parts, want) {
			t.Errorf("severity %q: got %v, %v, want %v", severity, reply.Parts, err, want)
		}
	}
}

// A connection on which anything came unasked, or the answer to something else, or that the engine closed, carries no other query; a good one does.
func TestConnections(t *testing.T) {
	for _, c := range []struct {
		name, answer string
		want         int
		err          error
	}{
		{"good", block(good), 1, nil},
		{"nothing found", block(mshGood + "MSA|AA|{CTL}\rQAK|{TAG}|NF\r{QPD}\r"), 1, broker.ErrNoRecord},
		{"a second answer at once", block(good) + block(good), 4, nil},
		{"a byte too many", block(good) + "\x0b", 4, nil},
		{"closed after each answer", block(good) + "{CLOSE}", 4, nil},
		{"the answer to something else", block(strings.Replace(good, "{CTL}", "1", 1)), 4, broker.ErrMalformed},
		{"what cannot be read", block("MSH"), 4, broker.ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEvil(t, func(int) string { return c.answer })
			s := source(t, e.address, func(s *hl7v2.Settings) { s.Queries = []string{simulator.QueryResults} })
			for range 4 {
				if _, err := s.Fetch(t.Context(), query(t, held)); !errors.Is(err, c.err) {
					t.Fatal(err)
				}
				time.Sleep(20 * time.Millisecond) // what comes unasked is on its way
			}
			if n, _ := e.count(); n != c.want {
				t.Errorf("%d connections, want %d", n, c.want)
			}
		})
	}
}

// Never more queries are under way than there are connections, and one connection carries one at a time: the engine would answer a second before the
// first is answered with a refusal.
func TestOneQueryAConnection(t *testing.T) {
	e := newEngine(t)
	s := source(t, e.address, func(s *hl7v2.Settings) { s.Connections = 2 })
	var wait sync.WaitGroup
	for range 12 {
		wait.Go(func() {
			if _, err := s.Fetch(t.Context(), query(t, held)); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	noNumberInLog(t, e)
}

// A query is sent once, whatever happens to it after the first byte.
func TestNothingIsSentTwice(t *testing.T) {
	e := newEvil(t, func(int) string { return "{CLOSE}" })
	s := source(t, e.address, func(s *hl7v2.Settings) { s.Queries = []string{simulator.QueryResults} })
	if _, err := s.Fetch(t.Context(), query(t, held)); !errors.Is(err, broker.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if _, n := e.count(); n != 1 {
		t.Errorf("sent %d times", n)
	}
}

// Where nobody listens, the custodian cannot be reached.
func TestNobodyListens(t *testing.T) {
	e := newEngine(t)
	s := source(t, e.address)
	e.Close()
	if _, err := s.Fetch(t.Context(), query(t, held)); !errors.Is(err, broker.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

// A query is answered for the number that a subject's number replaced, too, if both stand in the PID.
func TestReplacedNumber(t *testing.T) {
	e := newEvil(t, func(int) string {
		return block(strings.Replace(good, "{NHS}^^^NHS^NH", "{NHS}^^^NHS^NH~9990000018^^^NHS^NH", 1))
	})
	s := source(t, e.address, func(s *hl7v2.Settings) { s.Queries = []string{simulator.QueryResults} })
	q := query(t, held)
	q.Subject.Supersedes = append([]record.NHSNumber(nil), number(t, other))
	if _, err := s.Fetch(t.Context(), q); err != nil {
		t.Error(err)
	}
}
