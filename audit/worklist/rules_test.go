package worklist

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// The shipped rules are whole: every rule that there is stands in them.
func TestShippedRules(t *testing.T) {
	if got, want := len(Shipped().Names()), len(settings); got != want {
		t.Errorf("the shipped file has %d rules of %d", got, want)
	}
}

// What is wrong with a file is told by its line, and what to write.
func TestBadRules(t *testing.T) {
	const good = "at 100\nagain 24h\n"
	if _, err := ParseRules([]byte(good + "rule volume 10 least=1 deviations=2 days=3 # all\n")); err != nil {
		t.Errorf("a good file: %v", err)
	}
	for name, c := range map[string]struct {
		text string
		line int
	}{
		"nothing":                  {"", 1},
		"no score":                 {"again 1h\n", 1},
		"another score":            {good + "at 5\n", 3},
		"no such rule":             {good + "rule nosy 10\n", 3},
		"a rule twice":             {good + "rule own-record 10\nrule own-record 10\n", 4},
		"no weight":                {good + "rule own-record\n", 3},
		"a weight of nothing":      {good + "rule own-record 0\n", 3},
		"a setting too many":       {good + "rule own-record 10 least=3\n", 3},
		"a setting missing":        {good + "rule volume 10 least=3 days=2\n", 3},
		"a setting twice":          {good + "rule repeat 10 least=3 least=3\n", 3},
		"explain before its rule":  {good + "explain own-record care-team\n", 3},
		"explain twice":            {good + "rule own-record 1\nexplain own-record care-team\nexplain own-record registered\n", 5},
		"explained by a statement": {good + "rule own-record 1\nexplain own-record admission\n", 4},
		"no days":                  {good + "rule own-record 1\nexplain own-record encounter\n", 4},
		"too short again":          {"at 1\nagain 1s\n", 2},
		"a name twice":             {good + "surnames common Lee,lee\n", 3},
		"not UTF-8":                {"\xff", 1},
		"another word":             {good + "weigh own-record\n", 3},
	} {
		var line *LineError
		if _, err := ParseRules([]byte(c.text)); !errors.As(err, &line) || line.Line != c.line || line.Want == "" {
			t.Errorf("%s: %v, want line %d", name, err, c.line)
		}
	}
}

func FuzzParseRules(f *testing.F) {
	f.Add(shipped)
	f.Add("at 1\nagain 1h\nrule repeat 1 least=1\nexplain repeat encounter<=1\n")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRules([]byte(text))
		if err == nil && (r.at < 1 || r.again <= 0) {
			t.Error("a file without a score was taken")
		}
	})
}

func nhs(t testing.TB, s string) record.NHSNumber {
	t.Helper()
	n, err := record.ParseNHSNumber(s)
	if err != nil {
		t.Fatal("a test number is not valid")
	}
	return n
}

// Lists tell by hashes alone who is who, whose kin they are and where they live.
func TestLists(t *testing.T) {
	key := []byte(strings.Repeat("k", 32))
	const staff = "user,organisation,nhs_number,surname,postcode,address,kin\n" +
		"555000000001,X9B01,9990000018,Ashdown-Lee,XX1 2AB,\"Flat 2, 17 Rook Lane\",9990000026 9990000034\n" +
		"555000000002,X9B01,9990000042,Smith,,,\n555000000003,X9C01,9990000050,Okafor,XX1 2AB,Rook House,\n"
	var out, watched bytes.Buffer
	if rows, err := WriteStaff(strings.NewReader(staff), &out, key); rows != 3 || err != nil {
		t.Fatalf("%d rows: %v", rows, err)
	}
	if rows, err := WriteWatched(strings.NewReader("nhs_number\n9990000069\n"), &watched, key); rows != 1 || err != nil {
		t.Fatalf("%d rows: %v", rows, err)
	}
	for _, word := range []string{"9990000018", "Ashdown", "ASHDOWN", "Rook", "XX1", "9990000069"} {
		if strings.Contains(out.String(), word) || strings.Contains(watched.String(), word) {
			t.Error("a list holds what it must not")
		}
	}
	l := NewLists(key, Shipped())
	if err := l.Load(bytes.NewReader(out.Bytes()), bytes.NewReader(watched.Bytes())); err != nil {
		t.Fatal(err)
	}
	ann := record.Requester{User: "555000000001", Name: "Dr Ann Other", Organisation: "X9B01"}
	unlisted := record.Requester{User: "555000000009", Name: "Dr Bo Smith", Organisation: "X9B01"}
	for name, c := range map[string]struct {
		who   record.Requester
		about record.Subject
		want  audit.Evidence
	}{
		"herself":            {ann, record.Subject{Number: nhs(t, "9990000018"), Family: "ASHDOWN LEE"}, audit.Evidence{Staff: true, Own: true, Surname: 3}},
		"her kin":            {ann, record.Subject{Number: nhs(t, "9990000026")}, audit.Evidence{Staff: true, Kin: true}},
		"a colleague":        {ann, record.Subject{Number: nhs(t, "9990000042"), Family: "Smith"}, audit.Evidence{Staff: true, Colleague: true}},
		"somebody else's":    {ann, record.Subject{Number: nhs(t, "9990000050"), Family: "Okafor"}, audit.Evidence{Staff: true}},
		"her flat":           {ann, record.Subject{Number: nhs(t, "9990000077"), Postcode: "xx12ab", Address: "flat 2 17, ROOK LANE"}, audit.Evidence{Staff: true, SameAddress: true}},
		"the flat below":     {ann, record.Subject{Number: nhs(t, "9990000077"), Postcode: "XX1 2AB", Address: "Flat 1, 17 Rook Lane"}, audit.Evidence{Staff: true}},
		"no address":         {ann, record.Subject{Number: nhs(t, "9990000077")}, audit.Evidence{Staff: true}},
		"watched":            {ann, record.Subject{Number: nhs(t, "9990000069")}, audit.Evidence{Staff: true, Watched: true}},
		"a name in a token":  {unlisted, record.Subject{Number: nhs(t, "9990000077"), Family: "Smith"}, audit.Evidence{Surname: 1}},
		"a colleague of one": {unlisted, record.Subject{Number: nhs(t, "9990000042"), Family: "Jones"}, audit.Evidence{Colleague: true}},
	} {
		if got := l.Compare(c.who, c.about); got.With(nil).Surname != c.want.Surname || got.Own != c.want.Own || got.Kin != c.want.Kin || got.Colleague != c.want.Colleague ||
			got.SameAddress != c.want.SameAddress || got.Staff != c.want.Staff || got.Watched != c.want.Watched {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
	if err := NewLists([]byte("another key"), Shipped()).Load(bytes.NewReader(out.Bytes()), nil); err == nil {
		t.Error("a list that was made with another key is taken")
	}
	if err := l.Load(bytes.NewReader(watched.Bytes()), nil); err == nil {
		t.Error("a watch list is taken for a staff list")
	}
	if !l.Compare(ann, record.Subject{Number: nhs(t, "9990000018")}).Own {
		t.Error("a list that was refused replaced another")
	}
	for _, bad := range []string{"", "user\n", staff + "555000000001,X9B01,,,,,\n", staff + "5,x,,,,,\n", staff + "5,X9B01,9990000019,,,,\n", staff + "5,X9B01,,,,,12\n", staff + "5,X9B01\n"} {
		var row *RowError
		if _, err := WriteStaff(strings.NewReader(bad), &bytes.Buffer{}, key); !errors.As(err, &row) || strings.Contains(err.Error(), "9990000019") {
			t.Errorf("a bad list: %v", err)
		}
	}
}
