package hl7v2_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/adapters/hl7v2"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/test/simulator"
)

// everything is the text of all that a message became.
func everything(t *testing.T, segments ...string) string {
	t.Helper()
	out, _, err := hl7v2.Convert([]byte(`MSH|^~\&|A|B|C|D|20260101||ORU^R01|1|P|2.5.1||||||UNICODE UTF-8`+"\r"+strings.Join(segments, "\r")+"\r"), "", number(t, held))
	if err != nil {
		t.Fatalf("not read: %v", err)
	}
	return string(out)
}

// The Patient is made of the PID that says most. What hangs on the others, and what they say that it does not, is in the Patient too, each thing once.
func TestOnePatientOfManyPIDs(t *testing.T) {
	const (
		full  = `PID|1||9990000034^^^NHS^NH~77^^^X9B01^MR||Ashworth^Ada^May||19500304|F|||1 Hill^^Town^^ZZ99 9ZZ||01632960123`
		short = `PID|2||9990000034^^^NHS^NH||Ashworth^Ada||1950|M||||||||||A55`
		note  = `NTE|1||Needs an interpreter`
	)
	hanging := strings.Join([]string{note, `NK1|1|Ashworth^Bo|SPO^Spouse||01632960999`, `PD1||||G123^Field^Gail`, `ZPX|a thing of the site`, `ORC|NW|ORDER77`}, "\r")
	said := everything(t, full, note, short, hanging, short, hanging)
	for _, want := range []string{"female", "May", note, "ZPX|a thing of the site", "ORC|NW|ORDER77", "PID-8: M", "PID-18: A55", "01632960999", "Gail Field"} {
		if n := strings.Count(said, `"`+want+`"`); n != 1 {
			t.Errorf("%q stands there %d times", want, n)
		}
	}
	for _, spare := range []string{"PID-2: ", "PID-5: ", "PID-7: "} {
		if strings.Contains(said, spare) {
			t.Errorf("%s says less than the Patient, and is kept beside it", spare)
		}
	}
}

// The same over the wire, and in the answers of several queries.
func TestOnePatientOfManyAnswers(t *testing.T) {
	e := newEvil(t, func(n int) string {
		if n == 0 {
			return block(good)
		}
		return block(mshGood + ackGood + "PID|1||{NHS}^^^NHS^NH\rNTE|1||Needs an interpreter\r" + labGood)
	})
	s := source(t, e.address, func(s *hl7v2.Settings) {
		s.Queries, s.Connections = []string{simulator.QueryResults, simulator.QueryDocuments}, 1
	})
	reply, err := s.Fetch(t.Context(), query(t, held))
	if err != nil {
		t.Fatal(err)
	}
	if p := string(reply.Entries[0].Resource.Raw()); !strings.Contains(p, "Needs an interpreter") || !strings.Contains(p, "Ashworth") {
		t.Error("what hangs on the shorter PID of another answer is lost")
	}
}

// What hangs on the PIDs of one person goes into one resource, and is held to its cap however many PIDs there are.
func TestManyPIDsAreOneResource(t *testing.T) {
	var hanging, fields strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&hanging, "PID|||{NHS}^^^NHS^NH\rZPX|%d%s\r", i, strings.Repeat("x", 1000))
		fmt.Fprintf(&fields, "PID|||{NHS}^^^NHS^NH|||||||||||||||%d%s\r", i, strings.Repeat("x", 1000))
	}
	for name, text := range map[string]string{"segments": hanging.String(), "fields": fields.String()} {
		e := newEvil(t, func(int) string { return block(good + text) })
		s := source(t, e.address, func(s *hl7v2.Settings) { s.Queries = []string{simulator.QueryResults} })
		q := query(t, held)
		q.Limits = broker.DefaultLimits
		q.Limits.ResourceBytes = 1 << 20
		if _, err := s.Fetch(t.Context(), q); !errors.Is(err, broker.ErrTooMuch) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// What comes before the person whose it is is kept with that person, orders and events too; what nobody follows cannot be read.
func TestWhatComesBeforeThePerson(t *testing.T) {
	const pid = "PID|1||9990000034^^^NHS^NH"
	said := everything(t, "EVN|A28|20240101", "EVN|A31|20240102", "ORC|NW|ORDER77", "TQ1|1", pid, "EVN|A08|20240103", "ORC|NW|ORDER78", pid)
	for _, want := range []string{"EVN|A28|20240101", "EVN|A31|20240102", "ORC|NW|ORDER77", "TQ1|1", "EVN|A08|20240103", "ORC|NW|ORDER78"} {
		if n := strings.Count(said, `"`+want+`"`); n != 1 {
			t.Errorf("%q stands there %d times", want, n)
		}
	}
	for _, last := range []string{"EVN|A31|20240102", "EVN|A31|20240102\rORC|NW|ORDER77"} {
		_, _, err := hl7v2.Convert([]byte(`MSH|^~\&|A|B|C|D|20260101||ORU^R01|1|P|2.5.1||||||UNICODE UTF-8`+"\r"+pid+"\r"+last+"\r"), "", number(t, held))
		if !errors.Is(err, broker.ErrMalformed) {
			t.Errorf("%q of nobody: got %v", last, err)
		}
	}
}
