package optoutlist

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

const codeBase = "https://mycarerecord.example"

var names = Names{CodeBase: codeBase,
	Custodian: func(c record.ODSCode) (record.CustodianKey, bool) {
		key, ok := map[record.ODSCode]record.CustodianKey{"X9A01": "gp", "X9C01": "mentalhealth"}[c]
		return key, ok
	},
	ODS: func(k record.CustodianKey) (record.ODSCode, string, bool) {
		code, ok := map[record.CustodianKey]record.ODSCode{"gp": "X9A01", "mentalhealth": "X9C01"}[k]
		return code, "Invented", ok
	}}

func number(t testing.TB, digits string) record.NHSNumber {
	t.Helper()
	n, err := record.ParseNHSNumber(digits)
	if err != nil {
		t.Fatal("not an NHS number in a test")
	}
	return n
}

func read(t testing.TB, f Format, text string) ([]Row, error) {
	t.Helper()
	var rows []Row
	err := Read(strings.NewReader(text), f, names, func(r Row) error { rows = append(rows, r); return nil })
	return rows, err
}

// mustRead reads a list that can be taken whole.
func mustRead(t testing.TB, f Format, text string) []Row {
	t.Helper()
	rows, err := read(t, f, text)
	if err != nil {
		t.Fatalf("reading %s: %v", f, err)
	}
	for _, r := range rows {
		if len(r.Problems) > 0 {
			t.Fatalf("%s, row %d: %v", f, r.Number, r.Problems)
		}
	}
	return rows
}

const header = "nhs_number,birth_date,scope,custodian,section,status,absolute,from,until,method,responsible,source\n"

func TestCSV(t *testing.T) {
	rows := mustRead(t, CSV, "\ufeff"+"scope,method,birth_date,nhs_number,custodian,section,from,until,responsible,source,absolute,status\r\n"+
		"all,form,1950-02-03,9990000018,,,,,,form 7,,\r\n"+
		"\r\n"+
		"custodian,phone,1950-02-03,9990000026,gp,,2026-01-31,2026-02-01,\"mother, \"\"Ann\"\"\",,no,withdrawn\r\n"+
		"section,in-person,1950-02-03,9990000034,,mental-health,2026-01-31T09:30:00.123456Z,2026-07-01T00:00:00+01:00,self,'=2+2,yes,requested")
	day := time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)
	want := []Row{
		{Number: 1, Subject: number(t, "9990000018"), BirthDate: "1950-02-03", Objection: consent.Objection{Scope: consent.ToAll, Status: consent.InForce,
			Responsible: "self", Method: "form", Source: "form 7"}},
		{Number: 2, Subject: number(t, "9990000026"), BirthDate: "1950-02-03", Objection: consent.Objection{Scope: consent.ToCustodian, Custodian: "gp",
			Status: consent.Withdrawn, From: day, Until: day.AddDate(0, 0, 2), Responsible: `mother, "Ann"`, Method: "phone"}},
		{Number: 3, Subject: number(t, "9990000034"), BirthDate: "1950-02-03", Objection: consent.Objection{Scope: consent.ToSection, Section: record.MentalHealth,
			Status: consent.Requested, Absolute: true, From: day.Add(9*time.Hour + 30*time.Minute + 123456*time.Microsecond),
			Until: time.Date(2026, 6, 30, 23, 0, 1, 0, time.UTC), Responsible: "self", Method: "in-person", Source: "=2+2"}},
	}
	if len(rows) != len(want) {
		t.Fatalf("%d rows, want %d", len(rows), len(want))
	}
	for i := range want {
		if !same(rows[i], want[i]) {
			t.Errorf("row %d is not as it was written", i+1)
		}
	}
}

func same(a, b Row) bool {
	return a.Number == b.Number && a.Subject == b.Subject && a.BirthDate == b.BirthDate && a.Objection == b.Objection && len(a.Problems) == 0 && len(b.Problems) == 0
}

// Each row has one fault; the others are read all the same, and nothing of a row is repeated.
func TestCSVRowsThatAreRefused(t *testing.T) {
	for _, c := range []struct{ row, field string }{
		{"9990000017,1950-02-03,all,,,,,,,form,,", "nhs_number"},
		{"999 000 0018,1950-02-03,all,,,,,,,form,,", "nhs_number"},
		{",1950-02-03,all,,,,,,,form,,", "nhs_number"},
		{"9990000018,,all,,,,,,,form,,", "birth_date"},
		{"9990000018,1950-02,all,,,,,,,form,,", "birth_date"},
		{"9990000018,03/02/1950,all,,,,,,,form,,", "birth_date"},
		{"9990000018,1950-02-30,all,,,,,,,form,,", "birth_date"},
		{"9990000018,1950-02-03,,,,,,,,form,,", "scope"},
		{"9990000018,1950-02-03,ALL,,,,,,,form,,", "scope"},
		{"9990000018,1950-02-03,custodian,,,,,,,form,,", "custodian"},
		{"9990000018,1950-02-03,custodian,G P,,,,,,form,,", "custodian"},
		{"9990000018,1950-02-03,all,gp,,,,,,form,,", "custodian"},
		{"9990000018,1950-02-03,section,,,,,,,form,,", "section"},
		{"9990000018,1950-02-03,section,,sexual-health,,,,,form,,", "section"},
		{"9990000018,1950-02-03,all,,results,,,,,form,,", "section"},
		{"9990000018,1950-02-03,all,,,active,,,,form,,", "status"},
		{"9990000018,1950-02-03,all,,,,true,,,form,,", "absolute"},
		{"9990000018,1950-02-03,all,,,,,31/01/2026,,form,,", "from"},
		{"9990000018,1950-02-03,all,,,,,2026-01-31T09:30:00,,form,,", "from"},
		{"9990000018,1950-02-03,all,,,,,2026-01-31T09:30:00.1234567Z,,form,,", "from"},
		{"9990000018,1950-02-03,all,,,,,2026-02-01,2026-01-01,form,,", "until"},
		{"9990000018,1950-02-03,all,,,,,,,,,", "method"},
		{"9990000018,1950-02-03,all,,,,,,,letter,,", "method"},
		{"9990000018,1950-02-03,all,,,,,,,form," + strings.Repeat("x", record.MaxFreeText+1) + ",", "responsible"},
		{"9990000018,1950-02-03,all,,,,,,,form,,a\x00b", "source"},
		{"9990000018,1950-02-03,all,,,,,,,form,,a\rb", "source"},
		{"9990000018,1950-02-03,all,,,,,,,form,,\"a\nb\"", "source"},
		{"9990000018,1950-02-03,all,,,,,,,form,,\xff\xfe", "row"},
		{"9990000018,1950-02-03,all,,,,,,,form,", "row"},
		{"9990000018,1950-02-03,all,,,,,,,form,,,", "row"},
		{"9990000018,1950-02-03,all,,,,,,,form,\"a\"b,", "row"},
		{"9990000018,1950-02-03,all,,,,,,,form,a\"b\",", "row"},
		{strings.Repeat(",", 5000), "row"},
	} {
		rows, err := read(t, CSV, header+c.row+"\n9990000026,1950-02-03,all,,,,,,,form,,last\n")
		if err != nil || len(rows) != 2 {
			t.Errorf("%s: %d rows, %v", c.field, len(rows), err)
			continue
		}
		if len(rows[0].Problems) != 1 || rows[0].Problems[0].Field != c.field {
			t.Errorf("got the problems %v, want one of %s", rows[0].Problems, c.field)
		}
		if len(rows[1].Problems) != 0 || rows[1].Objection.Source != "last" || rows[1].Number != 2 {
			t.Errorf("%s: the row behind it is not read", c.field)
		}
		if text := fmt.Sprint(rows[0].Problems); record.HoldsNHSNumber(text) || strings.Contains(text, "letter") {
			t.Errorf("%s: a problem repeats what was given", c.field)
		}
	}
}

func TestListsThatAreRefused(t *testing.T) {
	row := "9990000018,1950-02-03,all,,,,,,,form,,\n"
	patient := `{"resourceType":"Patient","id":"p"}`
	for name, c := range map[string]struct {
		f    Format
		text string
	}{
		"empty":                     {CSV, ""},
		"no columns":                {CSV, "\n\n"},
		"unknown column":            {CSV, "nhs_number,birth_date,scope,method,surname\n"},
		"column in capitals":        {CSV, "NHS_Number,birth_date,scope,method\n"},
		"column twice":              {CSV, "nhs_number,birth_date,scope,method,scope\n"},
		"column missing":            {CSV, "nhs_number,birth_date,scope\n"},
		"blanks in columns":         {CSV, "nhs_number, birth_date,scope,method\n"},
		"UTF-16":                    {CSV, "\xff\xfen\x00h\x00s\x00"},
		"columns not UTF-8":         {CSV, "nhs_number,birth_date,scope,method,\xe9\n"},
		"a quote that stays open":   {CSV, header + row + "9990000026,1950-02-03,all,,,,,,,form,,\"open\n" + strings.Repeat(row, 10)},
		"a huge row":                {CSV, header + strings.Repeat("x", 10<<20) + "\n"},
		"a huge quoted row":         {CSV, header + "\"" + strings.Repeat("x\n", 5<<20) + "\"\n"},
		"old ends of lines":         {CSV, strings.ReplaceAll(header+strings.Repeat(row, 1000), "\n", "\r")},
		"too many rows":             {CSV, header + strings.Repeat("\"\"\n", MaxRows+1)},
		"a huge line":               {NDJSON, `{"resourceType":"Consent","id":"` + strings.Repeat("x", 1<<20) + `"}`},
		"no JSON":                   {Bundle, "nhs_number"},
		"a list of JSON":            {Bundle, "[]"},
		"another resource":          {Bundle, `{"resourceType":"Parameters","type":"collection"}`},
		"another Bundle":            {Bundle, `{"resourceType":"Bundle","type":"transaction","entry":[]}`},
		"no type":                   {Bundle, `{"resourceType":"Bundle"}`},
		"a page":                    {Bundle, `{"resourceType":"Bundle","type":"searchset","link":[{"relation":"next","url":"x"}]}`},
		"member twice":              {Bundle, `{"resourceType":"Bundle","type":"collection","entry":[],"entry":[]}`},
		"unknown member":            {Bundle, `{"resourceType":"Bundle","type":"collection","extra":1}`},
		"cut":                       {Bundle, `{"resourceType":"Bundle","type":"collection","entry":[{"resource":` + patient},
		"something behind":          {Bundle, `{"resourceType":"Bundle","type":"collection"}{}`},
		"a huge entry":              {Bundle, `{"resourceType":"Bundle","type":"collection","entry":[{"x":"` + strings.Repeat("x", 10<<20) + `"}]}`},
		"a large entry":             {Bundle, `{"resourceType":"Bundle","type":"collection","entry":[{"x":"` + strings.Repeat("x", maxResource) + `"}]}`},
		"deep beside the entries":   {Bundle, `{"resourceType":"Bundle","type":"collection","meta":` + strings.Repeat("[", 200_000)},
		"an unknown kind of a list": {"xml", "<x/>"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := read(t, c.f, c.text)
			var e *ListError
			if !errors.As(err, &e) || e.Field == "" || e.Want == "" || record.HoldsNHSNumber(err.Error()) || len(err.Error()) > 300 {
				t.Errorf("got %v, want a ListError that says what to give", err)
			}
		})
	}
	broken := errors.New("broken off")
	for _, f := range []Format{CSV, NDJSON, Bundle} {
		head := map[Format]string{CSV: header + row, NDJSON: patient + "\n", Bundle: `{"resourceType":"Bundle","type":"collection","entry":[`}[f]
		r := io.MultiReader(strings.NewReader(head), iotest.ErrReader(broken))
		if err := Read(r, f, names, func(Row) error { return nil }); !errors.Is(err, broken) {
			t.Errorf("%s: got %v from a reader that fails, want its error", f, err)
		}
		if err := Read(strings.NewReader(head+map[Format]string{Bundle: `]}`}[f]), f, names, func(Row) error { return broken }); f == CSV && !errors.Is(err, broken) {
			t.Errorf("%s: got %v, want the error of who takes the rows", f, err)
		}
	}
}

func TestTooLong(t *testing.T) {
	c := &cappedReader{r: strings.NewReader("12345"), left: 5}
	if text, err := io.ReadAll(c); string(text) != "12345" || err != nil {
		t.Errorf("exactly as long as allowed: %q, %v", text, err)
	}
	c = &cappedReader{r: strings.NewReader("123456"), left: 5}
	if _, err := io.ReadAll(c); err != errTooLong {
		t.Errorf("too long: %v", err)
	}
}

// anyRow draws a row that can be recorded.
func anyRow(rt *rapid.T) Row {
	people := []string{"9990000018", "9990000026", "9990000034", "9990000042"}
	text := rapid.Custom(func(rt *rapid.T) string {
		s := rapid.StringOf(rapid.OneOf(rapid.RuneFrom([]rune(`a ",';=+-@éß漢`)), rapid.Rune())).Draw(rt, "text")
		if record.CheckFreeText("", s) != nil {
			return "plain"
		}
		return s
	})
	at := rapid.Custom(func(rt *rapid.T) time.Time {
		return time.UnixMicro(rapid.Int64Range(0, 4_000_000_000_000_000).Draw(rt, "micros")).UTC()
	})
	n, _ := record.ParseNHSNumber(rapid.SampledFrom(people).Draw(rt, "who"))
	o := consent.Objection{Scope: rapid.SampledFrom([]consent.Scope{consent.ToAll, consent.ToCustodian, consent.ToSection}).Draw(rt, "scope"),
		Status:   rapid.SampledFrom([]consent.Status{consent.Requested, consent.InForce, consent.Declined, consent.Withdrawn}).Draw(rt, "status"),
		Absolute: rapid.Bool().Draw(rt, "absolute"), Method: rapid.SampledFrom([]string{"form", "phone", "in-person", "online"}).Draw(rt, "method"),
		Responsible: text.Draw(rt, "responsible"), Source: text.Draw(rt, "source")}
	if o.Responsible == "" {
		o.Responsible = "self"
	}
	switch o.Scope {
	case consent.ToCustodian:
		o.Custodian = rapid.SampledFrom([]record.CustodianKey{"gp", "mentalhealth", "gone"}).Draw(rt, "custodian")
	case consent.ToSection:
		o.Section = rapid.SampledFrom(record.AllSections.List()).Draw(rt, "section")
	case consent.ToAll:
	}
	if rapid.Bool().Draw(rt, "from") {
		o.From = at.Draw(rt, "from")
	}
	if rapid.Bool().Draw(rt, "until") {
		o.Until = at.Draw(rt, "until")
		if !o.From.IsZero() && !o.Until.After(o.From) {
			o.Until = o.From.Add(time.Microsecond)
		}
	}
	return Row{Subject: n, BirthDate: "1950-02-03", Objection: o}
}

// What is written is read again as it was, in every format.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		rows := rapid.SliceOfN(rapid.Custom(anyRow), 0, 5).Draw(rt, "rows")
		for i := range rows {
			rows[i].Number = i + 1
		}
		for _, f := range []Format{CSV, NDJSON, Bundle} {
			w := NewWriter(f, names)
			var text []byte
			for _, r := range rows {
				r.Objection.ID = fmt.Sprintf("id%d", r.Number)
				r.Objection.Recorded = time.UnixMicro(1_700_000_000_000_000)
				w.Add(r)
				text = append(text, w.Take()...)
			}
			w.End()
			text = append(text, w.Take()...)
			var got []Row
			if err := Read(bytes.NewReader(text), f, names, func(r Row) error { got = append(got, r); return nil }); err != nil {
				rt.Fatalf("%s: %v", f, err)
			}
			if !slices.EqualFunc(got, rows, same) {
				rt.Fatalf("%s: read other than written: %d rows, want %d", f, len(got), len(rows))
			}
		}
	})
}

// A text that no spreadsheet computes (CWE-1236).
func TestNoFormulaIsWritten(t *testing.T) {
	for _, s := range []string{"=1+1", "+1", "-1", "@x", "'=1", "''", "'", "'a", "''a", "=", ""} {
		if out := forSheet(s); s != "" && strings.Contains("=+-@", out[:1]) || fromSheet(out) != s {
			t.Errorf("%q is written %q and read %q", s, out, fromSheet(out))
		}
	}
}

func objectionTo(scope consent.Scope) consent.Objection {
	o := consent.Objection{ID: "abc", Scope: scope, Status: consent.InForce, Responsible: "self", Method: "form", Source: "form 7", AuthorODS: "X9B01",
		Recorded: time.Date(2026, 1, 31, 9, 30, 0, 0, time.UTC), From: time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)}
	switch scope {
	case consent.ToCustodian:
		o.Custodian = "gp"
	case consent.ToSection:
		o.Section = record.MentalHealth
	case consent.ToAll:
	}
	return o
}

// given reads the published PCF examples by name.
func given(t *testing.T) map[string]fhirjson.Value {
	t.Helper()
	dir := filepath.Join("..", "..", "..", "shared", "data", "ihe-pcf-consent")
	files, _ := filepath.Glob(filepath.Join(dir, "Consent-*.json"))
	if len(files) == 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("the PCF examples are not there")
		}
		t.Skip("the PCF examples are not there: this is a bare clone")
	}
	out := map[string]fhirjson.Value{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal("an example cannot be read")
		}
		doc, err := fhirjson.Parse(text, fhirjson.Limits{})
		if err != nil {
			t.Fatal("an example is not JSON")
		}
		out[filepath.Base(f)] = doc.Root()
	}
	return out
}

// shape lists the paths of a resource's values, without the places in lists.
func shape(v fhirjson.Value) map[string]bool {
	out := map[string]bool{}
	var walk func(path string, v fhirjson.Value)
	walk = func(path string, v fhirjson.Value) {
		if v.Kind() == fhirjson.Object {
			for key, m := range v.Members() {
				walk(path+"."+key, m)
			}
			return
		}
		if v.Kind() == fhirjson.Array {
			for e := range v.Elems() {
				walk(path, e)
			}
			return
		}
		out[path] = true
	}
	walk("", v)
	return out
}

// Our Consents are built as the published examples of the profile that they claim, with what the profile asks for, and nothing that it forbids.
func TestConsentIsBuiltAsPCF(t *testing.T) {
	examples := given(t)
	for scope, c := range map[consent.Scope]struct{ example, profile string }{
		consent.ToAll:       {"Consent-ex-consent-basic-reject.json", ProfileBasic},
		consent.ToCustodian: {"Consent-ex-consent-intermediate-authoredby.json", ProfileIntermediate},
		consent.ToSection:   {"", ""},
	} {
		text := Consent(objectionTo(scope), Subject{Handle: "habc"}, names)
		doc, err := fhirjson.Parse(text, fhirjson.Limits{})
		if err != nil {
			t.Fatalf("%s: %v", scope, err)
		}
		root := doc.Root()
		for path, want := range map[string][]string{"resourceType": {"Consent"}, "status": {"active"}, "provision.type": {"deny"}, "patient.reference": {"Patient/habc"}} {
			if !root.At(strings.Split(path, ".")...).Is(want[0]) {
				t.Errorf("%s: %s is not %s", scope, path, want[0])
			}
		}
		if got := root.At("meta", "profile"); c.profile == "" && got.Exists() || c.profile != "" && !got.First().Is(c.profile) {
			t.Errorf("%s: the profile claimed is not %q", scope, c.profile)
		}
		for _, forbidden := range []string{"verification", "policyRule"} {
			if root.Get(forbidden).Exists() {
				t.Errorf("%s: %s is not used in PCF", scope, forbidden)
			}
		}
		for _, forbidden := range []string{"action", "class", "code", "provision"} {
			if root.Get("provision").Get(forbidden).Exists() {
				t.Errorf("%s: provision.%s is not used in PCF", scope, forbidden)
			}
		}
		if c.example == "" {
			label := root.At("provision", "securityLabel")
			if !label.Get("code").Is("mental-health") && !label.First().Get("code").Is("mental-health") {
				t.Errorf("%s: no security label of ours", scope)
			}
			continue
		}
		example, ok := examples[c.example]
		if !ok {
			t.Fatalf("%s is not there", c.example)
		}
		if !example.At("meta", "profile").First().Is(c.profile) {
			t.Errorf("%s: the example is of another profile", scope)
		}
		theirs, ours := shape(example), shape(root)
		// Who somebody is, ours say by identifier and not by a resource that nobody can read.
		logical := func(p string) bool {
			return strings.HasSuffix(p, ".reference") || strings.HasSuffix(p, ".display") || strings.HasPrefix(p, ".meta.security")
		}
		for p := range maps.Keys(theirs) {
			if !ours[p] && !logical(p) {
				t.Errorf("%s: the example has %s, ours has not", scope, p)
			}
		}
		for p := range maps.Keys(ours) {
			known := theirs[p] || strings.Contains(p, ".identifier.") || strings.HasSuffix(p, ".type") || logical(p) || strings.HasPrefix(p, ".extension.") ||
				p == ".meta.lastUpdated" || strings.HasPrefix(p, ".provision.period.")
			if !known {
				t.Errorf("%s: ours has %s, the example has not", scope, p)
			}
		}
	}
}

// The published examples: what an objection can say is taken, all else is refused with its element.
func TestPCFExamples(t *testing.T) {
	patient := `{"resourceType":"Patient","id":"ex-patient","identifier":[{"system":"` + record.NHSNumberSystem + `","value":"9990000018"}],"birthDate":"1950-02-03"}`
	want := map[string]string{
		"Consent-ex-consent-basic-reject.json":            "",
		"Consent-ex-consent-basic-ink.json":               "provision.type",
		"Consent-ex-consent-basic-treat.json":             "provision.type",
		"Consent-ex-consent-basic-research.json":          "provision.type",
		"Consent-ex-consent-intermediate-authoredby.json": "provision.type",
		"Consent-ex-consent-intermediate-data.json":       "provision.type",
		"Consent-ex-consent-intermediate-encounter.json":  "provision.type",
		"Consent-ex-consent-intermediate-purpose.json":    "provision.type",
		"Consent-ex-consent-intermediate-timeframe.json":  "provision.type",
	}
	for name, example := range given(t) {
		var line bytes.Buffer
		if json.Compact(&line, example.Raw()) != nil {
			t.Fatal("an example is not JSON")
		}
		rows, err := read(t, NDJSON, line.String()+"\n"+patient+"\n")
		if err != nil || len(rows) != 1 {
			t.Errorf("%s: %d rows, %v", name, len(rows), err)
			continue
		}
		field, known := want[name]
		if !known {
			t.Errorf("%s: not in the table of this test", name)
		}
		if field == "" && (len(rows[0].Problems) > 0 || rows[0].Objection.Scope != consent.ToAll || rows[0].Objection.Method != "form") {
			t.Errorf("%s: %v, want an objection to all sharing", name, rows[0].Problems)
		}
		if field != "" && !slices.ContainsFunc(rows[0].Problems, func(p Problem) bool { return p.Field == field }) {
			t.Errorf("%s: %v, want a problem of %s", name, rows[0].Problems, field)
		}
	}
}

// Each change makes a Consent that says something that an objection cannot say, or does not say enough.
func TestConsentsThatAreRefused(t *testing.T) {
	row := Row{Subject: number(t, "9990000018"), BirthDate: "1950-02-03", Objection: objectionTo(consent.ToAll)}
	w := NewWriter(NDJSON, names)
	w.Add(row)
	good := strings.TrimSuffix(string(w.Take()), "\n")
	mustRead(t, NDJSON, good)
	for _, c := range []struct{ old, new, field string }{
		{`"status":"active"`, `"status":"draft"`, "status"},
		{`"status":"active",`, ``, "status"},
		{`"code":"patient-privacy"`, `"code":"research"`, "scope"},
		{`"type":"deny"`, `"type":"permit"`, "provision.type"},
		{`"code":"TREAT"`, `"code":"HRESCH"`, "provision.purpose"},
		{`"code":"TREAT"`, `"code":"BTG"`, "provision.purpose"},
		{`"type":"deny"`, `"type":"deny","actor":[{}]`, "provision.actor"},
		{`"type":"deny"`, `"type":"deny","provision":[{"type":"permit"}]`, "provision.provision"},
		{`"type":"deny"`, `"type":"deny","dataPeriod":{}`, "provision.dataPeriod"},
		{`"type":"deny"`, `"type":"deny","code":[{}]`, "provision.code"},
		{`"type":"deny"`, `"type":"deny","class":[{}]`, "provision.class"},
		{`"type":"deny"`, `"type":"deny","action":[{}]`, "provision.action"},
		{`"type":"deny"`, `"type":"deny","modifierExtension":[{}]`, "provision.modifierExtension"},
		{`"type":"deny"`, `"type":"deny","securityLabel":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"R"}]`, "provision.securityLabel"},
		{`"type":"deny"`, `"type":"deny","data":[{"meaning":"instance","reference":{"reference":"Observation/1"}}]`, "provision.data"},
		{`"type":"deny"`, `"type":"deny","data":[{"meaning":"authoredby","reference":{"identifier":{"system":"https://fhir.nhs.uk/Id/ods-organization-code","value":"X9Q99"}}}]`, "provision.data"},
		{`"start":"2026-02-01T00:00:00Z"`, `"start":"2026-02-01T00:00:00.0000001Z"`, "provision.period.start"},
		{`"resourceType":"Consent"`, `"resourceType":"Consent","verification":[{"verified":true}]`, "verification"},
		{`"resourceType":"Consent"`, `"resourceType":"Consent","modifierExtension":[{"url":"x"}]`, "modifierExtension"},
		{`"resourceType":"Consent"`, `"resourceType":"Consent","implicitRules":"x"`, "implicitRules"},
		{`"resourceType":"Consent"`, `"resourceType":"Consent","x-y z":"x"`, "(an element that is not shown)"},
		{`"valueCode":"form"`, `"valueCode":"letter"`, "method"},
		{`"value":"9990000018"`, `"value":"9990000017"`, "nhs_number"},
		{`,"birthDate":"1950-02-03"`, ``, "birth_date"},
		{`"patient":{"reference":"#person"}`, `"patient":{"reference":"#other"}`, "patient"},
		{`"patient":{"reference":"#person"}`, `"patient":{"reference":"Patient/nobody"}`, "patient"},
		{`"patient":{"reference":"#person"}`, `"patient":{"identifier":{"system":"` + record.NHSNumberSystem + `","value":"9990000018"}}`, "birth_date"},
		{`"performer":[{"reference":"#person"}]`, `"performer":[{"reference":"Practitioner/1"}]`, "performer"},
		{`"performer":[{"reference":"#person"}]`, `"performer":[{"reference":"#person"},{"reference":"#person"}]`, "performer"},
		{`"policy":[{"uri":"https://mycarerecord.example/policy/sharing-for-direct-care"}],`, ``, "policy"},
		{`"resourceType":"Consent"`, `"resourceType":"Consent","resourceType":"Consent"`, "row"},
		{`"resourceType":"Consent"`, `"resourceType":"Consent","meta":` + strings.Repeat("[", 17) + strings.Repeat("]", 17), "row"},
		{`"id":"abc"`, "\"id\":\"abc\xff\"", "row"},
		{`"resourceType":"Consent"`, `"resourceType":"Observation"`, "row"},
	} {
		if strings.Count(good, c.old) == 0 {
			t.Fatalf("%s: %s does not stand in what is written", c.field, c.old)
		}
		bad := strings.Replace(good, c.old, c.new, 1)
		for f, text := range map[Format]string{NDJSON: bad + "\n", Bundle: `{"resourceType":"Bundle","type":"collection","entry":[{"resource":` + bad + `}]}`} {
			rows, err := read(t, f, text)
			if err != nil || len(rows) != 1 || !slices.ContainsFunc(rows[0].Problems, func(p Problem) bool { return p.Field == c.field }) {
				var got []Problem
				if len(rows) > 0 {
					got = rows[0].Problems
				}
				t.Errorf("%s as %s: %d rows, %v, %v", c.field, f, len(rows), got, err)
			}
		}
	}
	rows, err := read(t, NDJSON, good+"\n"+good+"\n")
	if err != nil || len(rows) != 2 || len(rows[0].Problems) != 0 || len(rows[1].Problems) != 1 || rows[1].Problems[0].Field != "id" {
		t.Errorf("an id that is there twice: %v", err)
	}
}

// A Patient may stand before or after its Consents, by id or by fullUrl; two that are called the same are nobody.
func TestPatientsOfABundle(t *testing.T) {
	c := func(ref string) string {
		return `{"resource":{"resourceType":"Consent","status":"active","scope":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/consentscope","code":"patient-privacy"}]},` +
			`"category":[],"patient":{"reference":"` + ref + `"},"policyRule":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"OPTOUT"}]},` +
			`"sourceReference":{"reference":"DocumentReference/1"},"provision":{"type":"deny","purpose":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActReason","code":"TREAT"}]}}}`
	}
	p := func(url, id, digits string) string {
		return `{"fullUrl":"` + url + `","resource":{"resourceType":"Patient","id":"` + id + `","identifier":[{"system":"` + record.NHSNumberSystem + `","value":"` + digits + `"}],"birthDate":"1950-02-03"}}`
	}
	bundle := func(entries ...string) string {
		return `{"resourceType":"Bundle","entry":[` + strings.Join(entries, ",") + `],"type":"collection"}`
	}
	rows := mustRead(t, Bundle, bundle(c("Patient/1"), c("urn:uuid:2"), p("urn:uuid:1", "1", "9990000018"), p("urn:uuid:2", "2", "9990000026")))
	if len(rows) != 2 || rows[0].Subject != number(t, "9990000018") || rows[1].Subject != number(t, "9990000026") || rows[1].Objection.Source != "DocumentReference/1" {
		t.Error("the Consents are not those of their Patients")
	}
	rows, err := read(t, Bundle, bundle(p("urn:uuid:1", "1", "9990000018"), c("Patient/1"), p("urn:uuid:2", "1", "9990000026")))
	if err != nil || len(rows) != 1 || len(rows[0].Problems) == 0 {
		t.Errorf("two Patients with one id: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add("csv", header+"9990000018,1950-02-03,all,,,,,,,form,,\"x\"\"\"\r\n")
	w := NewWriter(NDJSON, names)
	n, _ := record.ParseNHSNumber("9990000018")
	w.Add(Row{Subject: n, BirthDate: "1950-02-03", Objection: objectionTo(consent.ToCustodian)})
	one := string(w.Take())
	f.Add("ndjson", one)
	f.Add("bundle", `{"resourceType":"Bundle","type":"collection","entry":[{"resource":`+one+`}]}`)
	f.Fuzz(func(t *testing.T, format, text string) {
		last := 0
		_ = Read(strings.NewReader(text), Format(format), names, func(r Row) error {
			if r.Number <= last {
				t.Error("rows are out of order")
			}
			last = r.Number
			if len(r.Problems) == 0 && (r.Subject.IsZero() || r.BirthDate == "" || r.Objection.Status == "" || r.Objection.Method == "" || r.Objection.Responsible == "") {
				t.Error("a row that says too little is taken")
			}
			for _, p := range r.Problems {
				if record.HoldsNHSNumber(p.Want) || record.HoldsNHSNumber(p.Field) || len(p.Want)+len(p.Field) > 300 {
					t.Error("a problem repeats what was given")
				}
			}
			return nil
		})
	})
}
