package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

func TestSafeTextMovesNoCursor(t *testing.T) {
	for given, want := range map[string]string{
		"plain":                 "plain",
		"two\nlines\tand  more": "two lines and more",
		"\x1b[31mred\x1b[0m":    "\uFFFD[31mred\uFFFD[0m",
		"\x9b2Jc1":              "\uFFFD2Jc1",
		"bell\x07 del\x7f":      "bell\uFFFD del\uFFFD",
		"abc\u202edef\u2066":    "abc\uFFFDdef\uFFFD",
		"bad\xff":               "bad\uFFFD",
		"Siân Ó Néill 李":        "Siân Ó Néill 李",
		"نام\u200cها":           "نام\u200cها", // a joiner that names need
	} {
		if got := safe(given); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		s := safe(rapid.String().Draw(t, "s"))
		if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 || invisible(r) }) || safe(s) != s {
			t.Fatal("something invisible is left")
		}
	})
}

func TestWrapLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := safe(rapid.String().Draw(t, "s"))
		width := rapid.IntRange(10, 60).Draw(t, "width")
		lines := wrap(s, width)
		if strings.ReplaceAll(strings.Join(lines, ""), " ", "") != strings.Join(strings.Fields(s), "") {
			t.Fatal("text was lost")
		}
		for _, l := range lines {
			if cells(l) > width || !utf8.ValidString(l) {
				t.Fatal("a line is too wide, or was cut within a character")
			}
		}
	})
}

func TestDatesAtTheirOwnPrecision(t *testing.T) {
	for given, want := range map[string]string{
		"2019": "2019", "2020-03": "March 2020", "2020-03-04": "4 March 2020", "2020-03-04T09:30:00Z": "4 March 2020, 09:30", "2020-07-04T09:30:15.123+01:00": "4 July 2020, 09:30",
		"2020-07-04T09:30:00Z": "4 July 2020, 10:30", "2020-03-04T09:30": "4 March 2020, 09:30", "2020-03-04T23:30:00-05:00": "5 March 2020, 04:30", "tomorrow\x1b": "tomorrow\uFFFD",
	} {
		if got := showDate(given); got != want {
			t.Errorf("%s: got %q, want %q", given, got, want)
		}
	}
	for _, c := range []struct{ start, end, want string }{
		{"2019", "", "from 2019"}, {"", "2020-03", "until March 2020"}, {"2019", "2019", "2019"}, {"2019-01", "2020-03-04", "January 2019 to 4 March 2020"},
		{"2020-03-04T09:30:00Z", "2020-03-04T10:15:00Z", "4 March 2020, 09:30 to 10:15"}, {"2020-03-04", "2020-03-05", "4 March 2020 to 5 March 2020"},
	} {
		if got := strings.Join(showSpan(c.start, c.end), " "); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

// When summer time ends an hour is there twice: two instants in it must not look like one, nor in the wrong order. Elsewhere no zone is named, and none
// where the record names none.
func TestTheHourThatIsThereTwice(t *testing.T) {
	for given, want := range map[string]string{
		"2025-10-26T00:59:59Z": "26 October 2025, 01:59 BST", "2025-10-26T01:00:00Z": "26 October 2025, 01:00 GMT", "2025-10-26T00:00:00Z": "26 October 2025, 01:00 BST",
		"2025-10-26T01:30:00+00:00": "26 October 2025, 01:30 GMT", "2025-10-26T01:30:00+01:00": "26 October 2025, 01:30 BST", "2025-10-26T01:30": "26 October 2025, 01:30",
		"2025-10-25T23:59:59Z": "26 October 2025, 00:59", "2025-10-26T02:00:00Z": "26 October 2025, 02:00", "2025-03-30T00:59:00Z": "30 March 2025, 00:59",
		"2025-03-30T01:00:00Z": "30 March 2025, 02:00", "1944-09-17T00:30:00Z": "17 September 1944, 02:30 BDST", "2025-10-26": "26 October 2025",
	} {
		if got := showDate(given); got != want {
			t.Errorf("%s: got %q, want %q", given, got, want)
		}
	}
	for _, c := range []struct{ start, end, want string }{
		{"2025-10-26T01:30:00+01:00", "2025-10-26T01:30:00Z", "26 October 2025, 01:30 BST to 01:30 GMT"},
		{"2025-10-26T01:50:00+01:00", "2025-10-26T02:10:00Z", "26 October 2025, 01:50 BST to 02:10"},
	} {
		if got := strings.Join(showSpan(c.start, c.end), " "); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

// The date that is shown is of the element by which the broker orders, for every type.
func TestDatesAreThoseOfTheOrder(t *testing.T) {
	const person, day = `{"reference":"Patient/p"}`, "2020-03-04"
	n, err := record.ParseNHSNumber("9990000018")
	if err != nil {
		t.Fatal("not a valid test number")
	}
	patient := `{"resourceType":"Patient","id":"p","birthDate":"1980-01-01","name":[{"family":"Test"}],"identifier":[{"system":"` + record.NHSNumberSystem + `","value":"9990000018",` +
		`"extension":[{"url":"https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-NHSNumberVerificationStatus","valueCodeableConcept":{"coding":[{"code":"01"}]}}]}]}`
	for typ, elements := range dateElements {
		for _, element := range elements {
			var value any = day
			last := element[strings.LastIndexByte(element, '.')+1:]
			switch {
			case strings.HasSuffix(strings.ToLower(last), "period"):
				value = map[string]any{"start": day}
			case strings.HasSuffix(strings.ToLower(last), "timing"):
				value = map[string]any{"event": []any{day}}
			}
			names := strings.Split(element, ".")
			for _, name := range slices.Backward(names) {
				value = map[string]any{name: value}
			}
			r := value.(map[string]any)
			r["resourceType"], r["id"] = typ, "x"
			for _, path := range []string{"subject", "patient", "for", "individual", "sender"} {
				r[path] = json.RawMessage(person)
			}
			switch typ {
			case "Appointment":
				r["participant"] = []any{map[string]any{"actor": json.RawMessage(person)}}
			case "AppointmentResponse":
				r["actor"] = json.RawMessage(person)
			case "SupplyRequest":
				r["deliverTo"] = json.RawMessage(person)
			case "BiologicallyDerivedProduct":
				r["collection"].(map[string]any)["source"] = json.RawMessage(person)
			case "AuditEvent":
				r["entity"] = []any{map[string]any{"what": json.RawMessage(person)}}
			}
			text, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			reply := merge.Reply{Custodian: record.Custodian{Key: "gp", ODS: "X9A01", Name: "Test", Kind: record.KindGP}, Base: "http://gp.example/fhir"}
			for _, x := range []string{patient, string(text)} {
				doc, err := fhirjson.Parse([]byte(x), fhirjson.Limits{})
				if err != nil {
					t.Fatal(err)
				}
				reply.Entries = append(reply.Entries, fhirjson.Entry{Resource: doc.Root()})
			}
			req := merge.Request{Base: "http://x.example/fhir", CodeBase: "http://x.example", Subject: record.Subject{Number: n, Standing: record.Live, BirthDate: "1980-01-01", Family: "Test"},
				Handle: "h", Now: time.Now(), IDKey: make([]byte, 32)}
			prepared, err := merge.Prepare(req, merge.Rules{Permitted: record.AllSections}, reply)
			if err != nil {
				t.Fatalf("%s: %v", typ, err)
			}
			i := slices.IndexFunc(prepared.Entries, func(e merge.Entry) bool { return e.Type == typ })
			if i < 0 {
				t.Errorf("%s is not in the answer, so nothing holds its dates together", typ)
				continue
			}
			e := prepared.Entries[i]
			shown, err := decode(e.JSON)
			if err != nil {
				t.Fatal(err)
			}
			date, at := when(shown, "")
			if e.Time.Element != element || len(date) == 0 || !at.Equal(e.Time.Lo) {
				t.Errorf("%s.%s: ordered by %q, shown %v", typ, element, e.Time.Element, date)
			}
			if again, _ := when(shown, e.Time.Element); !slices.Equal(again, date) {
				t.Errorf("%s.%s: with the element named, another date is shown", typ, element)
			}
		}
	}
}

// Whatever a custodian sends, it is shown, or not, without a panic and without a control character.
func TestDisplayOfAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		types := []string{"Observation", "MedicationRequest", "QuestionnaireResponse", "Encounter", "CarePlan", "Immunization", "Appointment", "Unheard"}
		names := []string{"code", "text", "coding", "display", "status", "value", "valueQuantity", "unit", "component", "item", "answer", "period", "start", "end", "name", "given",
			"family", "contained", "id", "medicationReference", "reference", "note", "effectiveDateTime", "reaction", "doNotPerform", "modifierExtension"}
		var value func(depth int) any
		value = func(depth int) any {
			switch k := rapid.IntRange(0, 5).Draw(t, "kind"); {
			case k == 0 && depth > 0:
				o := map[string]any{}
				for range rapid.IntRange(0, 5).Draw(t, "n") {
					o[rapid.SampledFrom(names).Draw(t, "name")] = value(depth - 1)
				}
				return o
			case k == 1 && depth > 0:
				return []any{value(depth - 1), value(depth - 1)}
			case k == 2:
				return json.Number("1.50")
			case k == 3:
				return rapid.Bool().Draw(t, "b")
			case k == 4:
				return nil
			}
			return rapid.SampledFrom([]string{"2020", "2020-03-04T10:00:00Z", "\x1b[2J", "#x", "x", "entered-in-error", ""}).Draw(t, "s")
		}
		r := object{"resourceType": rapid.SampledFrom(types).Draw(t, "type")}
		for _, name := range names {
			r[name] = value(4)
		}
		tl := &timeline{entries: []item{{mode: modeOf("match"), custodian: "gp", resource: r}}, person: r, number: "1"}
		if out := tl.text(rapid.IntRange(1, 200).Draw(t, "width"), false); strings.ContainsAny(out, "\x1b\x07") || out == "" {
			t.Fatal("a control character is left, or nothing is shown")
		}
	})
}
