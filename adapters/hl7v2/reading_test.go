package hl7v2_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/adapters/hl7v2"
)

// Times keep their precision and zone; what FHIR cannot say exactly is marked, and never said more exactly than it was.
func TestTimes(t *testing.T) {
	for raw, want := range map[string]struct {
		text  string
		exact bool
	}{
		"2024":                    {"2024", true},
		"202402":                  {"2024-02", true},
		"20240229":                {"2024-02-29", true},
		"20240229+0000":           {"2024-02-29", false}, // the zone of a day
		"2024022913":              {"2024-02-29", false}, // FHIR knows no hour without minutes
		"202402291305":            {"2024-02-29T13:05:00+00:00", false},
		"202402291305+0100":       {"2024-02-29T13:05:00+01:00", false},
		"20240229130507":          {"2024-02-29T13:05:07+00:00", false}, // London, winter
		"20240629130507":          {"2024-06-29T13:05:07+01:00", false}, // London, summer
		"20240629130507+0000":     {"2024-06-29T13:05:07+00:00", true},
		"20240629130507-0500":     {"2024-06-29T13:05:07-05:00", true},
		"20240629130507.1+0100":   {"2024-06-29T13:05:07.1+01:00", true},
		"20240629130507.1200+010": {"", false},
		"20240629130507.1234567":  {"2024-06-29T13:05:07.1234567+01:00", false},
		"20240629000000+0100":     {"2024-06-29T00:00:00+01:00", true},
		"20241027013000":          {"2024-10-27", false}, // clocks in London showed it twice
		"20240331013000":          {"2024-03-31", false}, // clocks in London never showed it
		"20241027013000+0000":     {"2024-10-27T01:30:00+00:00", true},
		"20240229240000":          {"2024-02-29", false}, // no hour 24 in FHIR
		"20240229136000":          {"2024-02-29", false},
		"20230229":                {"", false}, // no such day
		"202413":                  {"", false},
		"0000":                    {"", false},
		"20240":                   {"", false},
		"2024-02-29":              {"", false},
		"20240229130507+1500":     {"", false},
		"20240229130507.":         {"", false},
		"yesterday":               {"", false},
		"":                        {"", false},
	} {
		if text, exact := hl7v2.ReadTime(raw); text != want.text || exact != want.exact {
			t.Errorf("%q: got %q, exact %v; want %q, %v", raw, text, exact, want.text, want.exact)
		}
	}
}

// A time without a zone is London's, unless the message's own time is by another clock and the two would differ: then it is the day.
func TestZoneOfTheMessage(t *testing.T) {
	for _, c := range []struct{ sent, raw, want string }{
		{"20260701120000", "20260701100000", "2026-07-01T10:00:00+01:00"},
		{"20260701120000+0100", "20260701100000", "2026-07-01T10:00:00+01:00"},
		{"20260701120000+0100", "20260101100000", "2026-01-01T10:00:00+00:00"}, // a clock of London's, which was set back in between
		{"20260101120000+0000", "20260701100000", "2026-07-01T10:00:00+01:00"},
		{"202610250130+0000", "20260701100000", "2026-07-01T10:00:00+01:00"}, // clocks showed it twice, and one of the two is meant
		{"202610250130+0100", "20260101100000", "2026-01-01T10:00:00+00:00"},
		{"20260701120000+0000", "20260701100000", "2026-07-01"},
		{"20260701120000.123+0000", "202607011000", "2026-07-01"},
		{"20260701120000+0000", "20260101100000", "2026-01-01T10:00:00+00:00"}, // here they agree
		{"20260101120000-0500", "20260101100000", "2026-01-01"},
		{"20260101120000-0500", "20260101100000+0100", "2026-01-01T10:00:00+01:00"},
		{"20260101120000-0500", "20260101", "2026-01-01"},
		{"20260701+0000", "20260701100000", "2026-07-01T10:00:00+01:00"}, // no time, and so no clock
		{"2026070112+0100", "20260701100000", "2026-07-01T10:00:00+01:00"},
		{"2026070112-0500", "20260701100000", "2026-07-01"}, // London never has it, at whatever time
		{"20260701-0500", "20260701100000", "2026-07-01"},
		{"202610251260+0200", "20260701100000", "2026-07-01"},
		{"-0500", "20260701100000", "2026-07-01"},
	} {
		all, _ := converted(t, []byte(`MSH|^~\&|A|B|C|D|`+c.sent+`||ORU^R01|1|P|2.5.1`+"\rPID|1||9990000034^^^NHS^NH\rOBX|1|NM|1^A^L||5||||||F|||"+c.raw+"\r"))
		for _, r := range all {
			if r.text("resourceType") == "Observation" && (r.text("effectiveDateTime") != c.want || !r.sameTime("effectiveDateTime", c.raw)) {
				t.Errorf("%s in a message of %s: got %s beside %q, want %s", c.raw, c.sent, r.text("effectiveDateTime"), r.kept("effectiveDateTime"), c.want)
			}
		}
	}
}

// Escapes become what they stand for; what stands for no character stays as it came.
func TestEscapes(t *testing.T) {
	for field, want := range map[string]string{
		`plain`:                     "plain",
		`a\F\b\S\c\T\d\R\e\E\f`:     `a|b^c&d~e\f`,
		`one\.br\two`:               "one\ntwo",
		`\X41\\X42\`:                "AB",
		`\X0D0A\`:                   "\n",
		`Zo\XC3AB\`:                 "Zoë",
		`\XC3\`:                     `\XC3\`, // half a character
		`\X4\`:                      `\X4\`,
		`\X00\`:                     `\X00\`, // no character that FHIR may hold
		`\H\loud\N\`:                `\H\loud\N\`,
		`\Zlocal\`:                  `\Zlocal\`,
		`\.sp2\`:                    `\.sp2\`,
		`C:\dir\file`:               `C:\dir\file`,
		`a\`:                        `a\`,
		`\`:                         `\`,
		`\\`:                        `\\`,
		`10\S\9/L`:                  "10^9/L",
		`""`:                        "",
		"bell\x07":                  `bell\X07\`,
		`\F`:                        `\F`,
		`\T\\T\`:                    "&&",
		`\E\T\E\`:                   `\T\`, // what was escaped once is not unescaped twice
		strings.Repeat(`\E\`, 1000): strings.Repeat(`\`, 1000),
	} {
		if got := hl7v2.Unescape(field); got != want {
			t.Errorf("%.40q: got %.40q, want %.40q", field, got, want)
		}
	}
}

// Each character set is read as what it is, and refuses what it does not have.
func TestCharacterSets(t *testing.T) {
	for _, c := range []struct{ set, bytes, want string }{
		{"ASCII", "Ada", "Ada"}, {"ASCII", "Ad\xe4", "!"}, {"", "Ada", "Ada"}, {"", "Ad\xc3\xa4", "!"},
		{"8859/1", "M\xfcller \xa4", "Müller ¤"}, {"8859/15", "M\xfcller \xa4", "Müller €"}, {"8859/1", "O\x92Neill", "!"},
		{"WINDOWS-1252", "O\x92Neill", "O\u2019Neill"}, {"windows-1252", "\x80", "€"}, {"CP1252", "\x81", "!"},
		{"UNICODE UTF-8", "Müller €", "Müller €"}, {"unicode utf-8", "M\xfcller", "!"}, {"UNICODE UTF-8", "\xed\xa0\x80", "!"},
		{"UNICODE UTF-8~ASCII", "ü", "ü"}, {"UNICODE", "ü", "!"}, {"8859/2", "ü", "!"}, {"UTF-16", "ü", "!"},
	} {
		got, err := hl7v2.Decode(c.set, []byte(c.bytes))
		if want := c.want; want == "!" && err == nil || want != "!" && (err != nil || got != want) {
			t.Errorf("%s %q: got %q, %v; want %q", c.set, c.bytes, got, err, c.want)
		}
	}
}

// one converts a message of one result and returns the Observation.
func one(t *testing.T, obx string) resource {
	t.Helper()
	all, _ := converted(t, []byte(`MSH|^~\&|A|B|C|D|20260101||ORU^R01|1|P|2.5.1||||||UNICODE UTF-8`+"\rPID|1||9990000034^^^NHS^NH\rOBR|1||F1|X^Y^L|||20240101080000+0000||||||||||||||||||F\r"+obx+"\r"))
	for _, r := range all {
		if r.text("resourceType") == "Observation" {
			return r
		}
	}
	t.Fatal("no Observation")
	return nil
}

// Values of each type, as JSON: members value[x], component, dataAbsentReason and note.
func TestValues(t *testing.T) {
	const ext = `"extension":[{"url":"https://mycarerecord.example/StructureDefinition/hl7v2-original","valueString":`
	for _, c := range []struct{ kind, value, unit, want string }{
		{"NM", "135", "g/L", `{"valueQuantity":{"value":135,"unit":"g/L"}}`},
		{"NM", "1.50", "mmol/L^mmol per litre^UCUM", `{"valueQuantity":{"value":1.50,"unit":"mmol per litre","system":"http://unitsofmeasure.org","code":"mmol/L"}}`},
		{"NM", "0.0100", "", `{"valueQuantity":{"value":0.0100}}`},
		{"NM", "-2.0", "", `{"valueQuantity":{"value":-2.0}}`},
		{"NM", "12345678901234567890.12345678901234567890", "", `{"valueQuantity":{"value":12345678901234567890.12345678901234567890}}`},
		{"NM", "<0.01", "ng/L", `{"valueQuantity":{"value":0.01,"comparator":"<","unit":"ng/L"}}`},
		{"NM", ">=100", "", `{"valueQuantity":{"value":100,"comparator":">="}}`},
		{"NM", "+5", "mg", `{"valueString":"+5","note":[{"text":"Units: mg"}]}`},
		{"NM", "05", "", `{"valueString":"05"}`},
		{"NM", ".5", "", `{"valueString":".5"}`},
		{"NM", "5.", "", `{"valueString":"5."}`},
		{"NM", "1e3", "", `{"valueString":"1e3"}`},
		{"NM", "1,5", "", `{"valueString":"1,5"}`},
		{"NM", "NaN", "", `{"valueString":"NaN"}`},
		{"NM", "haemolysed", "g/L", `{"valueString":"haemolysed","note":[{"text":"Units: g/L"}]}`},
		{"NM", "27~25.0", "mm", `{"component":[{"valueQuantity":{"value":27,"unit":"mm"}},{"valueQuantity":{"value":25.0,"unit":"mm"}}]}`},
		{"NM", "", "", `{}`},
		{"NM", `""`, "", `{"dataAbsentReason":{"text":"The custodian sent an explicit nothing."},"_valueString":{` + ext + `"\"\""}]}}`},
		{"NM", "7", `10\S\9/L`, `{"valueQuantity":{"value":7,"unit":"10^9/L"}}`},
		{"NM", "7", "lb^pound^L", `{"valueQuantity":{` + ext + `"lb^pound^L"}],"value":7,"unit":"lb"}}`},
		{"SN", "<^0.01", "ng/L", `{"valueQuantity":{"value":0.01,"comparator":"<","unit":"ng/L"}}`},
		{"SN", "=^5", "", `{"valueQuantity":{"value":5}}`},
		{"SN", "^5", "", `{"valueQuantity":{"value":5}}`},
		{"SN", "<>^5", "", `{"valueString":"<>5"}`},
		{"SN", "^1.0^-^2.50", "g", `{"valueRange":{"low":{"value":1.0,"unit":"g"},"high":{"value":2.50,"unit":"g"}}}`},
		{"SN", "^5^-^2", "", `{"valueString":"5-2"}`},
		{"SN", "^1^:^128", "", `{"valueRatio":{` + ext + `"^1^:^128"}],"numerator":{"value":1},"denominator":{"value":128}}}`},
		{"SN", ">^1^:^128", "", `{"valueString":">1:128"}`},
		{"SN", "^1^/^2", "mg", `{"valueString":"1/2","note":[{"text":"Units: mg"}]}`},
		{"SN", "^2^+", "", `{"valueString":"2+"}`},
		{"SN", "^100^.^3", "", `{"valueString":"100.3"}`},
		{"ST", "7.2", "mmol/L", `{"valueQuantity":{"value":7.2,"unit":"mmol/L"}}`},
		{"ST", "<0.01", "ng/L", `{"valueQuantity":{"value":0.01,"comparator":"<","unit":"ng/L"}}`},
		{"ST", "7.2", "", `{"valueString":"7.2"}`},
		{"ST", "1-2", "/ul", `{"valueString":"1-2","note":[{"text":"Units: /ul"}]}`},
		{"ST", "a^b", "", `{"valueString":"a^b"}`},
		{"TX", `one~two\.br\three`, "", `{"valueString":"one\ntwo\nthree"}`},
		{"FT", `\H\loud\N\`, "", `{"valueString":"\\H\\loud\\N\\"}`},
		{"CWE", "260415000^not detected^SCT^N^None^L^^^None seen", "", `{"valueCodeableConcept":{"coding":[{"system":"http://snomed.info/sct","code":"260415000","display":"not detected"},` +
			`{"extension":[{"url":"https://mycarerecord.example/StructureDefinition/hl7v2-coding-system","valueString":"L"}],"code":"N","display":"None"}],"text":"None seen"}}`},
		{"CE", "^Positive", "", `{"valueCodeableConcept":{"text":"Positive"}}`},
		{"CE", "1^SNOMED of old^SNM3", "", `{"valueCodeableConcept":{"coding":[{"extension":[{"url":"https://mycarerecord.example/StructureDefinition/hl7v2-coding-system","valueString":"SNM3"}],"code":"1","display":"SNOMED of old"}],"text":"SNOMED of old"}}`},
		{"CE", "A^B^HL70078", "", `{"valueCodeableConcept":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v2-0078","code":"A","display":"B"}],"text":"B"}}`},
		{"DT", "20240229", "", `{"valueDateTime":"2024-02-29"}`},
		{"TS", "202402291305", "", `{"valueDateTime":"2024-02-29T13:05:00+00:00","_valueDateTime":{` + ext + `"202402291305"}]}}`},
		{"DTM", "soon", "", `{"valueString":"soon"}`},
		{"TM", "130507", "", `{"valueTime":"13:05:07"}`},
		{"TM", "1305", "", `{"valueString":"1305"}`},
		{"DR", "20240101^20240103", "", `{"valuePeriod":{"start":"2024-01-01","end":"2024-01-03"}}`},
		{"CQ", "54^lb", "", `{"valueQuantity":{"value":54,"unit":"lb"}}`},
		{"IS", "Y", "", `{"valueString":"Y"}`},
		{"ZZ", "what^ever", "", `{"valueString":"what^ever"}`},
	} {
		r := one(t, "OBX|1|"+c.kind+"|1^A^L||"+c.value+"|"+c.unit+"|||||F")
		got := resource{}
		for k, v := range r {
			if strings.HasPrefix(strings.TrimPrefix(k, "_"), "value") || k == "component" || k == "dataAbsentReason" || k == "note" {
				got[k] = v
			}
		}
		if parts, ok := got["component"].([]any); ok {
			for _, p := range parts {
				if m, ok := p.(map[string]any); ok {
					delete(m, "code")
				}
			}
		}
		var want any
		d := json.NewDecoder(strings.NewReader(c.want))
		d.UseNumber()
		if err := d.Decode(&want); err != nil {
			t.Fatal(err)
		}
		a, errA := json.Marshal(got)
		b, errB := json.Marshal(want)
		if errA != nil || errB != nil || string(a) != string(b) {
			t.Errorf("%s %s %s:\ngot  %s\nwant %s", c.kind, c.value, c.unit, a, b)
		}
	}
}

// Every code of HL7 table 0085 has the meaning that the standard gives it, and any other is shown as it came.
func TestResultStatus(t *testing.T) {
	for code, want := range map[string]string{"F": "final", "P": "preliminary", "S": "preliminary", "R": "preliminary", "C": "corrected", "A": "amended", "B": "amended",
		"U": "final", "I": "registered", "X": "cancelled", "D": "entered-in-error", "W": "entered-in-error", "N": "unknown", "O": "unknown", "V": "unknown", "?": "unknown", "": "unknown"} {
		r := one(t, "OBX|1|NM|1^A^L||5||||||"+code)
		if r.text("status") != want || want == "unknown" && r.kept("status") != code {
			t.Errorf("%q: got %s beside %q, want %s", code, r.text("status"), r.kept("status"), want)
		}
	}
}

// Every code of HL7 table 0123; Y and Z are no report.
func TestReportStatus(t *testing.T) {
	for code, want := range map[string]string{"O": "registered", "I": "registered", "S": "registered", "A": "partial", "P": "preliminary", "R": "preliminary",
		"C": "corrected", "F": "final", "X": "cancelled", "M": "unknown", "N": "unknown", "?": "unknown", "": "unknown", "Y": "", "Z": ""} {
		all, _ := converted(t, []byte(`MSH|^~\&|A|B|C|D|20260101||ORU^R01|1|P|2.5.1`+"\rPID|1||9990000034^^^NHS^NH\rOBR|1||F1|X^Y^L|||20240101||||||||||||||||||"+code+"\r"))
		got := ""
		for _, r := range all {
			if r.text("resourceType") == "DiagnosticReport" {
				got = r.text("status")
				if got == "unknown" && r.kept("status") != code {
					t.Errorf("%q is not kept", code)
				}
			}
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", code, got, want)
		}
	}
}

// The tables lead to codes that FHIR R4 has, and to no other.
func TestTablesLeadToFHIR(t *testing.T) {
	valid := map[string]string{
		"0085": "registered preliminary final amended corrected cancelled entered-in-error",
		"0123": "registered partial preliminary final amended corrected appended cancelled entered-in-error",
		"0001": "male female other unknown", "0004": "AMB EMER FLD HH IMP ACUTE NONAC OBSENC PRENC SS VR", "0273": "current superseded entered-in-error",
		"0271": "preliminary final amended entered-in-error", "0272": "U L M N R V", "0074": "laboratory imaging",
	}
	for table, m := range hl7v2.Tables {
		for code, meaning := range m {
			if !strings.Contains(" "+valid[table]+" ", " "+meaning+" ") {
				t.Errorf("table %s: %s leads to %s", table, code, meaning)
			}
		}
	}
}

// A document: its text is whole, its codes mean what HL7's mean, and one that is not available does not read as current.
func TestDocument(t *testing.T) {
	read := func(txa string, obx ...string) resource {
		all, _ := converted(t, []byte(`MSH|^~\&|A|B|C|D|20260101||MDM^T02|1|P|2.5.1||||||UNICODE UTF-8`+"\rPID|1||9990000034^^^NHS^NH\r"+txa+"\r"+strings.Join(obx, "\r")+"\r"))
		for _, r := range all {
			if r.text("resourceType") == "DocumentReference" {
				return r
			}
		}
		t.Fatal("no document")
		return nil
	}
	d := read("TXA|1|DS^Discharge summary^L|TX|20240303||20240304||||||D1^X9B01||||summary.txt|AU|V|AV", "OBX|1|TX|1^Text^L||One||||||F", "OBX|2|TX|1^Text^L||||||||F", "OBX|3|TX|1^Text^L||Two~Three||||||F")
	for path, want := range map[string]string{"status": "current", "docStatus": "final"} {
		if d.text(path) != want {
			t.Errorf("%s: got %s", path, d.text(path))
		}
	}
	if got := d.text("content", 0, "attachment", "data"); got != "T25lCgpUd28KVGhyZWU=" { // One, an empty line, Two, Three
		t.Errorf("the text is %s", got)
	}
	if d.text("securityLabel", 0, "coding", 0, "code") != "V" || d.text("masterIdentifier", "value") != "D1" || d.text("context", "period", "start") != "2024-03-03" {
		t.Error("label, number or time are lost")
	}
	d = read("TXA|1|DS|TX||||||||||||||ZZ||UN")
	if d.text("status") != "" || d.get("_status") == nil || d.kept("docStatus") != "ZZ" {
		t.Error("codes that are not known are guessed")
	}
	for code, want := range map[string]string{"AV": "current", "OB": "superseded", "CA": "entered-in-error", "": "current"} {
		if got := read("TXA|1|DS|TX||||||||||||||AU||" + code).text("status"); got != want {
			t.Errorf("TXA-19 %s: got %s, want %s", code, got, want)
		}
	}
}

// Data and pointers come whole, below a TXA and below an OBR: every repetition is an attachment, and what FHIR has no word for stands beside it. Data
// stands there once.
func TestAttachments(t *testing.T) {
	for _, c := range []struct{ kind, value, want string }{
		{"ED", "^application^pdf^Base64^SGVsbG8=", `[{"contentType":"application/pdf","data":"SGVsbG8="}]`},
		{"ED", "^application^pdf^Base64^SGVsbG8=~^text^plain^A^World", `[{"contentType":"application/pdf","data":"SGVsbG8="},{"contentType":"text/plain","data":"V29ybGQ="}]`},
		{"ED", "^IM^DICOM^Base64^SGVsbG8=", `[{"kept":["^IM^DICOM"],"data":"SGVsbG8="}]`},
		{"ED", "PACS&1.2.3&ISO^AP^PDF^Base64^SGVsbG8=^more", `[{"kept":["PACS&1.2.3&ISO^AP^PDF^^^more"],"contentType":"application/pdf","data":"SGVsbG8="}]`},
		{"ED", "^AP^PDF^Hex^48^", `[{"kept":["Hex: 48","^AP^PDF"],"contentType":"application/pdf"}]`},
		{"ED", "AAA1^BBB2^CCC3^DDD4", `[{"kept":["AAA1^BBB2^CCC3^DDD4"]}]`},
		{"ED", "^AP^PDF^Base64", `[{"kept":["^AP^PDF^Base64"],"contentType":"application/pdf"}]`},
		{"ED", "^AP^PDF^Base64&DDD4^SGVsbG8=", `[{"kept":["^AP^PDF^Base64&DDD4"],"contentType":"application/pdf","data":"SGVsbG8="}]`},
		{"ED", `^AP^PDF^A^""`, `[{"kept":["^AP^PDF^A^\"\""],"contentType":"application/pdf"}]`},
		{"ED", "Nothing of the kind", `[{"kept":["Nothing of the kind"]}]`},
		{"RP", "https://a.example/1^^application^pdf~https://a.example/2^PACS^IM^DICOM", `[{"contentType":"application/pdf","url":"https://a.example/1"},{"kept":["^PACS^IM^DICOM"],"url":"https://a.example/2"}]`},
	} {
		for _, above := range []string{"TXA|1|DS|AP|||||||||D1|||||AU", "OBR|1||F1|X^Y^L"} {
			said := everything(t, "PID|1||9990000034^^^NHS^NH", above, "OBX|1|"+c.kind+"|L^Letter||"+c.value+"||||||F")
			var list []map[string]any
			if json.Unmarshal([]byte(said), &list) != nil {
				t.Fatal("no list of resources")
			}
			var got []map[string]any
			for _, r := range list {
				contents, _ := r["content"].([]any)
				for _, x := range contents {
					a, _ := x.(map[string]any)["attachment"].(map[string]any)
					delete(a, "title")
					if l, _ := a["extension"].([]any); l != nil {
						var kept []any
						for _, e := range l {
							kept = append(kept, e.(map[string]any)["valueString"])
						}
						delete(a, "extension")
						a["kept"] = kept
					}
					got = append(got, a)
				}
			}
			var want []map[string]any
			if json.Unmarshal([]byte(c.want), &want) != nil {
				t.Fatal("a case is no JSON")
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%.3s, %s:\ngot  %v\nwant %v", above, c.value, got, want)
			}
			if strings.Count(said, "SGVsbG8=") > 1 || strings.Contains(said, "OBX-5") {
				t.Errorf("%.3s, %s: the data stands there twice", above, c.value)
			}
		}
	}
}

// A visit: class and status as HL7 has them; what is not said is not known.
func TestVisit(t *testing.T) {
	read := func(event, pv1 string) resource {
		all, _ := converted(t, []byte(`MSH|^~\&|A|B|C|D|20260101||ADT^`+event+`|1|P|2.5.1`+"\rEVN|"+event+"\rPID|1||9990000034^^^NHS^NH\r"+pv1+"\r"))
		for _, r := range all {
			if r.text("resourceType") == "Encounter" {
				return r
			}
		}
		t.Fatal("no Encounter")
		return nil
	}
	const dates = "|20240301100000+0000|20240303120000+0000"
	pv1 := func(class, end string) string { return "PV1|1|" + class + strings.Repeat("|", 42) + end }
	for _, c := range []struct{ event, pv1, class, status string }{
		{"A01", pv1("I", "20240301"), "IMP", "in-progress"},
		{"A08", pv1("I", "20240301"), "IMP", "in-progress"},
		{"A08", pv1("O", "20240301"), "AMB", "unknown"},
		{"A08", pv1("E", "20240301"), "EMER", "unknown"},
		{"A08", pv1("I", dates[1:]), "IMP", "finished"},
		{"A03", pv1("E", "20240301"), "EMER", "finished"},
		{"A05", pv1("P", ""), "PRENC", "planned"},
		{"A11", pv1("I", dates[1:]), "IMP", "cancelled"},
		{"A13", pv1("I", "20240301"), "IMP", "in-progress"},
		{"A08", pv1("R", ""), "R", "unknown"},
		{"A08", pv1("", "20240301"), "", "unknown"},
	} {
		e := read(c.event, c.pv1)
		if e.text("class", "code") != c.class || e.text("status") != c.status {
			t.Errorf("%s %s: got %s, %s; want %s, %s", c.event, c.class, e.text("class", "code"), e.text("status"), c.class, c.status)
		}
	}
}

// A PV1 with a set id alone is a visit if its PV2 says something, and what belongs to it refers to it. If nothing is stated of a visit, there is no
// Encounter, and what hangs on it is the person's.
func TestVisitOfFewWords(t *testing.T) {
	read := func(pv2 ...string) (all []resource, said string) {
		message := append([]string{"EVN|A31|20240101", "PID|1||9990000034^^^NHS^NH", "PV1|1"}, pv2...)
		message = append(message, "NTE|1||A note on the visit", "OBX|1|NM|1^Weight^L||70|kg|||||F")
		all, _ = converted(t, []byte(`MSH|^~\&|A|B|C|D|20260101||ADT^A31|1|P|2.5.1`+"\r"+strings.Join(message, "\r")+"\r"))
		return all, everything(t, message...)
	}
	of := func(all []resource, typ string) (out []resource) {
		for _, r := range all {
			if r.text("resourceType") == typ {
				out = append(out, r)
			}
		}
		return out
	}
	all, said := read("PV2|||CP^Chest pain on admission")
	visits := of(all, "Encounter")
	if len(visits) != 1 || visits[0].text("reasonCode", 0, "text") != "Chest pain on admission" {
		t.Fatalf("%d visits, want one with its reason", len(visits))
	}
	if of(all, "Observation")[0].text("encounter", "reference") != "Encounter/"+visits[0].text("id") {
		t.Error("what belongs to the visit does not refer to it")
	}
	other, _ := read("PV2|||CP^A fall")
	if of(other, "Encounter")[0].text("id") == visits[0].text("id") {
		t.Error("two visits have one id")
	}
	for _, pv2 := range [][]string{nil, {"PV2|"}, {`PV2|||""`}} {
		all, none := read(pv2...)
		if len(of(all, "Encounter")) != 0 || of(all, "Observation")[0].get("encounter") != nil {
			t.Error("an Encounter says that there was a visit")
		}
		said += none
	}
	for _, want := range []string{"NTE|1||A note on the visit", "EVN|A31|20240101"} {
		if n := strings.Count(said, `"`+want+`"`); n != 4 {
			t.Errorf("%q stands there %d times of 4", want, n)
		}
	}
}

// Sex and death as they are stated.
func TestPatient(t *testing.T) {
	for _, c := range []struct{ pid, key, want string }{
		{"PID|1||9990000034^^^NHS^NH|||||M", "gender", "male"}, {"PID|1||9990000034^^^NHS^NH|||||F", "gender", "female"},
		{"PID|1||9990000034^^^NHS^NH|||||U", "gender", "unknown"}, {"PID|1||9990000034^^^NHS^NH|||||O", "gender", "other"},
		{"PID|1||9990000034^^^NHS^NH|||||A", "gender", ""}, {"PID|1||9990000034^^^NHS^NH|||||", "gender", ""},
		{"PID|1||9990000034^^^NHS^NH||||19500304101500|M", "birthDate", "1950-03-04"}, {"PID|1||9990000034^^^NHS^NH||||1950|M", "birthDate", "1950"},
		{"PID|1||9990000034^^^NHS^NH||||unknown|M", "birthDate", ""},
		{"PID|1||9990000034^^^NHS^NH" + strings.Repeat("|", 26) + "20240101|Y", "deceasedDateTime", "2024-01-01"},
	} {
		all, _ := converted(t, []byte(`MSH|^~\&|A|B|C|D|20260101||ADT^A08|1|P|2.5.1`+"\r"+c.pid+"\r"))
		if got := all[len(all)-1].text(c.key); got != c.want {
			t.Errorf("%s: got %q, want %q", c.pid, got, c.want)
		}
	}
	all, _ := converted(t, []byte(`MSH|^~\&|A|B|C|D|20260101||ADT^A08|1|P|2.5.1`+"\rPID|1||9990000034^^^NHS^NH|||||A"+strings.Repeat("|", 24)+"NSTS04\r"))
	p := all[len(all)-1]
	if p.kept("gender") != "A" || p.text("identifier", 0, "extension", 0, "valueCodeableConcept", "coding", 0, "code") != "04" {
		t.Error("an unknown sex or the status of the NHS number is lost")
	}
	all, _ = converted(t, []byte(`MSH|^~\&|A|B|C|D|20260101||ADT^A08|1|P|2.5.1`+"\rPID|1||9990000034^^^NHS^NH"+strings.Repeat("|", 27)+"Y\r"))
	if all[len(all)-1].get("deceasedBoolean") != true {
		t.Error("a death without a day is lost")
	}
}

// The block of the lower layer is found whatever pieces it comes in.
func TestBlocks(t *testing.T) {
	for text, want := range map[string]string{"\x0bMSH|\r\x1c\r": "MSH|\r", "\n\r\x0bA\n\x1c\r": "A\n", "\x0b" + strings.Repeat("x", 10_000) + "\r\x1c\rrest": strings.Repeat("x", 10_000) + "\r"} {
		if got, err := hl7v2.ReadBlock(text); err != nil || got != want {
			t.Errorf("%.20q: got %d bytes, %v", text, len(got), err)
		}
	}
	for _, text := range []string{"", "\x0b", "\x0bA\x1c\r", "\x0bA\r\x1c", "\x0bA\r\x1cA", "A\r\x1c\r", "\x0b\x1c\r"} {
		if _, err := hl7v2.ReadBlock(text); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}
