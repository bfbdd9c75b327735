package merge

import (
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

const depression = `{"resourceType":"Condition","id":"secret-condition",` + toAda + `,"identifier":[{"system":"urn:s","value":"secret-number"}],"code":{"text":"Major depression, secret-text"}}`

const maskJSON = `{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason","valueCode":"masked"}]}`

func without(sections ...record.Section) Rules {
	return Rules{Permitted: record.AllSections.Without(record.SectionsOf(sections...))}
}

// member returns the JSON of a member of an entry, for comparison.
func member(t *testing.T, p Prepared, typ, id string, keys ...string) string {
	t.Helper()
	return string(parsed(t, string(find(t, p, typ, id).JSON)).At(keys...).Raw())
}

func TestReferencesToWithheldEntriesAreMasked(t *testing.T) {
	const ref = `{"reference":"Condition/secret-condition","display":"secret-display"}`
	p := prepare(t, request(t), without(record.MentalHealth), replyOf(t, depression,
		`{"resourceType":"Encounter","id":"e",`+toAda+`,"diagnosis":[{"condition":`+ref+`,"rank":1}], "reasonReference" : [ `+ref+` , {"reference":"Observation/o"} ]}`,
		`{"resourceType":"Observation","id":"o",`+toAda+`,"extension":[{"url":"u","valueReference":{"reference":"https://gp.example/fhir/Condition/secret-condition/_history/2","type":"Condition"}}]}`,
		`{"resourceType":"MedicationRequest","id":"m",`+toAda+`,"reasonReference":[{"identifier":{"system":"urn:s","value":"secret-number"},"display":"secret-display"}]}`,
		`{"resourceType":"MedicationStatement","id":"c",`+toAda+`,"contained":[{"resourceType":"Observation","id":"in","focus":[`+ref+`]}],"derivedFrom":[{"reference":"#in"}]}`,
		`{"resourceType":"Provenance","id":"all","target":[`+ref+`],"recorded":"2020-01-01T00:00:00Z","agent":[{"who":{"display":"secret-agent"}}]}`,
		`{"resourceType":"Provenance","id":"some","target":[`+ref+`,{"reference":"Encounter/e"}]}`,
		`{"resourceType":"Basic","id":"uri",`+toAda+`,"extension":[{"url":"u","valueUri":"Condition/secret-condition"}]}`,
		`{"resourceType":"Task","id":"chain","for":{"reference":"Patient/p"},"instantiatesUri":"https://gp.example/fhir/Basic/uri"}`,
		`{"resourceType":"DocumentReference","id":"d",`+toAda+`,"content":[{"attachment":{"url":"Condition/secret-condition","title":"secret-title"}}]}`))
	for _, c := range []struct {
		typ, id, want string
		path          []string
	}{
		{"Encounter", "gp-e", maskJSON, []string{"diagnosis", "condition"}},
		{"Encounter", "gp-e", `[ ` + maskJSON + ` , {"reference":"Observation/gp-o"} ]`, []string{"reasonReference"}},
		{"Observation", "gp-o", `[{"url":"u","valueReference":` + maskJSON + `}]`, []string{"extension"}},
		{"MedicationRequest", "gp-m", `[` + maskJSON + `]`, []string{"reasonReference"}},
		{"MedicationStatement", "gp-c", `[` + maskJSON + `]`, []string{"contained", "focus"}},
		{"MedicationStatement", "gp-c", `[{"reference":"#in"}]`, []string{"derivedFrom"}},
		{"Provenance", "gp-some", `[` + maskJSON + `,{"reference":"Encounter/gp-e"}]`, []string{"target"}},
		{"DocumentReference", "gp-d", maskJSON, []string{"content", "attachment"}},
	} {
		if got := member(t, p, c.typ, c.id, c.path...); got != c.want {
			t.Errorf("%s %v: got %s, want %s", c.id, c.path, got, c.want)
		}
	}
	for _, gone := range [][2]string{{"Provenance", "gp-all"}, {"Basic", "gp-uri"}, {"Task", "gp-chain"}, {"Condition", "gp-secret-condition"}} {
		if has(p, gone[0], gone[1]) {
			t.Errorf("%s is shown", gone[1])
		}
	}
	if p.Counts.Withheld != 4 {
		t.Errorf("%+v", p.Counts)
	}
	whole := string(bundle(t, Assemble(request(t), []Prepared{p}, nil), BundleMeta{}))
	if i := strings.Index(whole, "secret"); i >= 0 {
		t.Errorf("left: …%s…", whole[max(0, i-80):i+40])
	}
}

func TestMasksTakeWhatIsWithinThem(t *testing.T) {
	const within = `{"reference":"Condition/secret-condition?x=1","extension":[{"url":"u","valueReference":{"reference":"Observation/o"}}],"display":"secret"}`
	p := prepare(t, request(t), without(record.MentalHealth), replyOf(t, depression, `{"resourceType":"Observation","id":"o",`+toAda+`}`,
		`{"resourceType":"Encounter","id":"e",`+toAda+`,"reasonReference":[`+within+`]}`,
		`{"resourceType":"List","id":"l",`+toAda+`,"entry":[{"item":`+within+`},{"item":{"reference":"Observation/o"}}]}`))
	if got := member(t, p, "Encounter", "gp-e", "reasonReference"); got != `[`+maskJSON+`]` {
		t.Errorf("got %s", got)
	}
	if got := member(t, p, "List", "gp-l", "entry"); got != `[{"item":{"reference":"Observation/gp-o"}}]` {
		t.Errorf("got %s", got)
	}
}

// However it is spelt, and by whatever else it is told.
func TestWhatLeadsToWithheldEntriesIsMasked(t *testing.T) {
	const id = `{"system":"urn:s","value":"secret-number"}`
	for _, reference := range []string{`"reference":"Condition/secret%2dcondition"`, `"reference":"https://GP.example/fhir/Condition/secret-condition"`,
		`"reference":"https://gp.example:443/fhir/Condition/secret-condition"`, `"reference":"Condition/secret-condition/"`, `"reference":"Condition/secret-condition/_history"`,
		`"reference":"https://gp.example./fhir/Condition/secret-condition"`, `"reference":"https://u@gp.example:0443/fhir/Condition/secret-condition"`,
		`"reference":"https://gp.example:/fhir/Condition/secret-condition"`, `"reference":"../fhir/Condition/secret-condition"`, `"reference":"/fhir/Condition/secret-condition"`,
		`"reference":"//gp.example/fhir/Condition/secret-condition"`, `"reference":" https://gp.example/fhir/Condition/secret-condition"`,
		`"reference":"Condition/secret-condition%2F_history%2F1"`, `"reference":"Condition/secret-condition%23x"`,
		`"reference":"Condition?_id=x,secret-condition"`, `"reference":"Condition?_id:exact=secret-condition"`, `"reference":"Condition?identifier=urn:x|y,urn:s%7Csecret-number"`,
		`"reference":"Condition?` + strings.Repeat("a&", 20000) + `_id=secret-condition"`,
		`"reference":"Condition?identifier=urn:s|secret-number"`, `"reference":"Condition?code=%zz&_id=another"`, `"reference":"Condition?_id=secret-condition"`, `"reference":"https://gp.example/fhir/Condition?_id=secret-condition&x=%zz"`,
		`"reference":"https://elsewhere.example/Condition/9","identifier":` + id, `"identifier":` + id + `,"reference":"Observation/o"`,
		`"reference":"#x","identifier":` + id, `"reference":"","identifier":` + id, `"reference":null,"identifier":` + id} {
		p := prepare(t, request(t), without(record.MentalHealth), replyOf(t, depression, `{"resourceType":"Observation","id":"o",`+toAda+`}`,
			`{"resourceType":"Encounter","id":"e",`+toAda+`,"diagnosis":[{"condition":{`+reference+`,"display":"secret-display"}}]}`))
		if got := member(t, p, "Encounter", "gp-e", "diagnosis"); got != `[{"condition":`+maskJSON+`}]` {
			t.Errorf("%s: got %s", reference, got)
		}
	}
	p := prepare(t, request(t), without(record.MentalHealth), replyOf(t, "urn:uuid:0C3151BD-1CBF-4D64-B04D-CD9187A4C6E0 "+depression,
		`{"resourceType":"Encounter","id":"e",`+toAda+`,"diagnosis":[{"condition":{"reference":"urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0","display":"secret"}}]}`,
		`{"resourceType":"Composition","id":"c",`+toAda+`,"relatesTo":[{"code":"appends","targetIdentifier":`+id+`}]}`))
	if got := member(t, p, "Encounter", "gp-e", "diagnosis"); got != `[{"condition":`+maskJSON+`}]` {
		t.Errorf("got %s", got)
	}
	if got := member(t, p, "Composition", "gp-c", "relatesTo"); got != `[{"code":"appends","targetIdentifier":`+maskJSON+`}]` {
		t.Errorf("got %s", got)
	}
	// Where an Identifier is no Reference's, it alone goes: what stands around it stays what it is.
	p = prepare(t, request(t), without(record.MentalHealth), replyOf(t, depression,
		`{"resourceType":"Observation","id":"1",`+toAda+`,"extension":[{"url":"u","valueIdentifier":`+id+`}],"meta":{"xIdentifier":`+id+`}}`,
		`{"resourceType":"Specimen","id":"3",`+toAda+`,"parentOf":{"identifier":`+id+`,"quantity":1}}`,
		`{"resourceType":"ServiceRequest","id":"2",`+toAda+`,"requisition":`+id+`,"identifier":[{"system":"urn:s","value":"its own"}]}`))
	if got := member(t, p, "Observation", "gp-1", "extension"); got != `[{"url":"u","valueIdentifier":`+maskJSON+`}]` {
		t.Errorf("got %s", got)
	}
	if got := string(find(t, p, "Observation", "gp-1").JSON); !strings.Contains(got, `"xIdentifier":`+maskJSON) || !strings.Contains(got, `"source":"https://mycarerecord.example/custodian/gp"`) {
		t.Errorf("got %s", got)
	}
	if got := member(t, p, "Specimen", "gp-3", "parentOf"); got != `{"identifier":`+maskJSON+`,"quantity":1}` {
		t.Errorf("got %s", got)
	}
	if got := member(t, p, "ServiceRequest", "gp-2", "requisition"); got != maskJSON {
		t.Errorf("got %s", got)
	}
	p = prepare(t, request(t), without(record.MentalHealth), replyOf(t, `{"resourceType":"DocumentReference","id":"d",`+toAda+`,"masterIdentifier":`+id+`,"type":{"coding":[{"code":"736253002"}]}}`,
		`{"resourceType":"Observation","id":"o",`+toAda+`,"derivedFrom":[{"identifier":`+id+`,"display":"secret crisis plan"}]}`,
		`{"resourceType":"DocumentReference","id":"other",`+toAda+`,"masterIdentifier":{"system":"urn:s","value":"its own"}}`))
	if got := member(t, p, "Observation", "gp-o", "derivedFrom"); got != `[`+maskJSON+`]` {
		t.Errorf("got %s", got)
	}
}

// What is shown beside does not tell whether something is withheld: what only a question asks for is not shown for it, and it is looked at only then.
func TestAQuestionShowsNothing(t *testing.T) {
	texts := []string{`{"resourceType":"Observation","id":"o",` + toAda + `,"performer":[{"reference":"Practitioner?_id=d"}]}`, `{"resourceType":"Practitioner","id":"d"}`,
		`{"resourceType":"Provenance","id":"v","target":[{"reference":"Observation?_id=o"}]}`}
	for _, more := range [][]string{nil, {depression}} {
		p := prepare(t, request(t), without(record.MentalHealth), replyOf(t, append(more, texts...)...))
		if got := list(p.Entries); got != "Patient/gp-p Observation/gp-o" || p.Counts.Unlinked != 2 {
			t.Errorf("%d more: %s %+v", len(more), got, p.Counts)
		}
	}
}

// An identifier that something shown carries too says nothing of what is withheld.
func TestASharedIdentifierIsNotMasked(t *testing.T) {
	p := prepare(t, request(t), without(record.MentalHealth), replyOf(t, depression,
		`{"resourceType":"Observation","id":"o",`+toAda+`,"identifier":[{"system":"urn:s","value":"secret-number"}]}`,
		`{"resourceType":"DiagnosticReport","id":"r",`+toAda+`,"result":[{"identifier":{"system":"urn:s","value":"secret-number"}}]}`))
	if got := member(t, p, "DiagnosticReport", "gp-r", "result"); got != `[{"identifier":{"system":"urn:s","value":"secret-number"}}]` {
		t.Errorf("got %s", got)
	}
}

func TestLinesOfListsAndCompositionsGo(t *testing.T) {
	const gone, stays = `{"reference":"Condition/secret-condition"}`, `{"reference":"Observation/o"}`
	const kept = `{"reference":"Observation/gp-o"}`
	for _, c := range []struct{ name, before, after string }{
		{"first line", `{"entry":[{"item":GONE,"flag":{"text":"secret"}}, {"item":STAYS}]}`, `{"entry":[{"item":KEPT}]}`},
		{"last line", `{"entry":[ {"item":STAYS} ,{"item":GONE} ]}`, `{"entry":[ {"item":KEPT} ]}`},
		{"lines between", `{"entry":[{"item":STAYS},{"item":GONE},{"item":GONE},{"item":STAYS}]}`, `{"entry":[{"item":KEPT},{"item":KEPT}]}`},
		{"first lines", `{"entry":[{"item":GONE},{"item":GONE},{"item":STAYS}]}`, `{"entry":[{"item":KEPT}]}`},
		{"all lines", `{"mode":"working","entry":[{"item":GONE},{"item":GONE}],"title":"x"}`, `{"mode":"working","title":"x"}`},
		{"all lines of a list that ends with them", `{"mode":"working","entry":[{"item":GONE}]}`, `{"mode":"working"}`},
		{"a line within a line is masked", `{"mode":"working","entry":{"entry":{"item":GONE}}}`, `{"mode":"working","entry":{"entry":{"item":` + maskJSON + `}}}`},
		{"one line that is no array is masked", `{"mode":"working","entry":{"item":GONE}}`, `{"mode":"working","entry":{"item":` + maskJSON + `}}`},
	} {
		fill := strings.NewReplacer("GONE", gone, "STAYS", stays, "KEPT", kept)
		text := `{"resourceType":"List","id":"l",` + toAda + `,` + strings.TrimPrefix(fill.Replace(c.before), "{")
		p := prepare(t, request(t), without(record.MentalHealth), replyOf(t, depression, `{"resourceType":"Observation","id":"o",`+toAda+`}`, text))
		got := string(find(t, p, "List", "gp-l").JSON)
		if want := strings.TrimPrefix(fill.Replace(c.after), "{"); !strings.HasSuffix(got, `,`+want) || strings.Contains(got, "secret") {
			t.Errorf("%s: got %s, want …%s", c.name, got, want)
		}
		parsed(t, got)
	}
	for _, c := range []struct{ name, before, after string }{
		{"a line", `[{"title":"A","entry":[GONE,STAYS]}]`, `[{"title":"A","entry":[KEPT]}]`},
		{"all lines of a section, which goes", `[{"title":"secret A","entry":[GONE]},{"title":"B","entry":[STAYS]}]`, `[{"title":"B","entry":[KEPT]}]`},
		{"all lines of a section with text, which stays", `[{"title":"A","text":{"div":"x"},"entry":[GONE]}]`, `[{"title":"A","text":{"div":"x"}}]`},
		{"a section within", `[{"title":"A","section":[{"title":"secret B","entry":[GONE]},{"title":"C","entry":[STAYS,GONE]}]}]`, `[{"title":"A","section":[{"title":"C","entry":[KEPT]}]}]`},
		{"sections that are empty then", `[{"title":"secret A","section":[{"title":"secret B","entry":[GONE]}]},{"title":"C"}]`, `[{"title":"C"}]`},
		{"a section that was empty stays", `[{"title":"A"},{"title":"secret","entry":[GONE]}]`, `[{"title":"A"}]`},
		{"all lines and all sections of one with text", `[{"section":[{"title":"secret B","entry":[GONE]}],"entry":[GONE],"text":{"div":"x"}},{"title":"C"}]`, `[{"text":{"div":"x"}},{"title":"C"}]`},
		{"the same the other way round, and at the end", `[{"text":{"div":"x"},"entry":[GONE], "section":[{"title":"secret B","entry":[GONE]}]}]`, `[{"text":{"div":"x"}}]`},
		{"lines and sections, some of each", `[{"entry":[GONE,STAYS],"section":[{"entry":[GONE]},{"title":"C"}],"title":"A"}]`, `[{"entry":[KEPT],"section":[{"title":"C"}],"title":"A"}]`},
		{"a line where no line may stand is masked", `[{"title":"A","extension":[{"entry":[GONE]}]}]`, `[{"title":"A","extension":[{"entry":[` + maskJSON + `]}]}]`},
		{"focus is masked, not a line", `[{"title":"A","focus":GONE,"text":{"div":"x"}}]`, `[{"title":"A","focus":` + maskJSON + `,"text":{"div":"x"}}]`},
	} {
		fill := strings.NewReplacer("GONE", gone, "STAYS", stays, "KEPT", kept)
		for _, id := range []string{`"id":"l",`, ``} {
			text := `{"resourceType":"Composition",` + id + toAda + `,"identifier":{"system":"urn:c","value":"1"},"section":` + fill.Replace(c.before) + `}`
			p := prepare(t, request(t), without(record.MentalHealth), replyOf(t, depression, `{"resourceType":"Observation","id":"o",`+toAda+`}`, text))
			for _, e := range p.Entries {
				if e.Type == "Composition" {
					if got := string(parsed(t, string(e.JSON)).Get("section").Raw()); got != fill.Replace(c.after) {
						t.Errorf("%s: got %s, want %s", c.name, got, fill.Replace(c.after))
					}
				}
			}
			if p.Counts.Shown != 3 {
				t.Errorf("%s: %s", c.name, list(p.Entries))
			}
		}
	}
	// Sections all gone, directly after the member where we put our own.
	p := prepare(t, request(t), without(record.MentalHealth), replyOf(t, depression,
		`{`+toAda+`,"resourceType":"Composition","section":[{"title":"secret","entry":[`+gone+`]}]}`))
	for _, e := range p.Entries {
		if v := parsed(t, string(e.JSON)); !v.Get("id").Is(e.ID) || !v.At("meta", "source").Exists() || strings.Contains(string(e.JSON), "secret") {
			t.Errorf("%s", e.JSON)
		}
	}
	// A List within another resource.
	p = prepare(t, request(t), without(record.MentalHealth), replyOf(t, depression, `{"resourceType":"Observation","id":"o",`+toAda+`}`,
		`{"resourceType":"CarePlan","id":"l",`+toAda+`,"contained":[{"resourceType":"List","id":"in","entry":[{"item":`+gone+`},{"item":`+stays+`}]}]}`))
	if got := member(t, p, "CarePlan", "gp-l", "contained", "entry"); got != `[{"item":`+kept+`}]` {
		t.Errorf("got %s", got)
	}
}

func TestAContainerOfWithheldContentIsWithheldWhole(t *testing.T) {
	p := prepare(t, request(t), without(record.MentalHealth), replyOf(t,
		`{"resourceType":"MedicationRequest","id":"1",`+toAda+`,"contained":[{"resourceType":"Condition","id":"c","code":{"text":"Anxiety"}}]}`))
	if has(p, "MedicationRequest", "gp-1") || p.Counts.Withheld != 1 {
		t.Errorf("%s", list(p.Entries))
	}
}

// A label withholds whatever bears it, and what holds that (C-4; FHIR R4 dom-5: what is contained has no label of its own, but some has).
func TestLabelsWithholdWhatStandsInNoSection(t *testing.T) {
	const psy = `"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"PSY"}]}`
	prescribed := `{"resourceType":"MedicationRequest","id":"1",` + toAda + `,"medicationReference":{"reference":"Medication/m","display":"secret"},"contained":[CONTAINED]}`
	document := `{"resourceType":"DocumentReference","id":"1",` + toAda + `,"content":[{"attachment":{"url":"Binary/b"}}]}`
	for _, c := range []struct {
		name, gone string
		texts      []string
	}{
		{"a Medication", "Medication/gp-m", []string{strings.Replace(prescribed, `,"contained":[CONTAINED]`, "", 1), `{"resourceType":"Medication","id":"m",` + psy + `,"code":{"text":"secret"}}`}},
		{"a Medication by our own section", "Medication/gp-m", []string{strings.Replace(prescribed, `,"contained":[CONTAINED]`, "", 1),
			`{"resourceType":"Medication","id":"m","meta":{"tag":[{"system":"https://mycarerecord.example` + record.SectionSystemPath + `","code":"mental-health"}]},"code":{"text":"secret"}}`}},
		{"a Binary", "Binary/gp-b", []string{document, `{"resourceType":"Binary","id":"b",` + psy + `,"data":"secret"}`}},
		{"a Binary of what is withheld", "Binary/gp-b", []string{depression, document, `{"resourceType":"Binary","id":"b","securityContext":{"reference":"Condition/secret-condition"},"data":"secret"}`}},
		{"a Binary of a Binary of what is withheld", "Binary/gp-b", []string{depression, document, `{"resourceType":"Binary","id":"b","securityContext":{"reference":"Binary/c"},"data":"secret"}`,
			`{"resourceType":"Binary","id":"c","securityContext":{"reference":"Condition/secret-condition"},"data":"secret"}`}},
		{"a Binary of what goes for naming it", "Binary/gp-b", []string{depression, document, `{"resourceType":"Binary","id":"b","securityContext":{"reference":"Basic/u"},"data":"secret"}`,
			`{"resourceType":"Basic","id":"u",` + toAda + `,"extension":[{"url":"u","valueUri":"Condition/secret-condition"}]}`}},
		{"a copy of such a Binary", "Binary/gp-b", []string{depression, document, `{"resourceType":"Binary","id":"b","securityContext":{"reference":"Condition/secret-condition"},"data":"secret"}`,
			`{"resourceType":"Binary","id":"b","meta":{"lastUpdated":"2021-01-01T00:00:00Z"},"data":"secret"}`}},
		{"what is contained in an Encounter that is part of one", "MedicationRequest/gp-1", []string{
			strings.Replace(prescribed, "CONTAINED", `{"resourceType":"Encounter","id":"c","partOf":{"reference":"Encounter/e"}}`, 1),
			`{"resourceType":"Encounter","id":"e",` + toAda + `,"reasonCode":[{"coding":[{"code":"35489007"}]}]}`}},
		{"a Provenance", "Provenance/gp-v", []string{document, `{"resourceType":"Provenance","id":"v",` + psy + `,"target":[{"reference":"DocumentReference/1"}],"reason":[{"text":"secret"}]}`}},
		{"a Medication within", "MedicationRequest/gp-1", []string{strings.Replace(prescribed, "CONTAINED", `{"resourceType":"Medication","id":"c",`+psy+`}`, 1)}},
		{"a Claim within", "MedicationRequest/gp-1", []string{strings.Replace(prescribed, "CONTAINED", `{"resourceType":"Claim","id":"c",`+psy+`}`, 1)}},
		{"a Device within a Device that supports", "Device/gp-d", []string{`{"resourceType":"Observation","id":"1",` + toAda + `,"device":{"reference":"Device/d","display":"secret"}}`,
			`{"resourceType":"Device","id":"d","contained":[{"resourceType":"DeviceDefinition","id":"c",` + psy + `}],"note":[{"text":"secret"}]}`}},
		{"an entry within, of an Encounter", "MedicationRequest/gp-1", []string{
			strings.Replace(prescribed, "CONTAINED", `{"resourceType":"Observation","id":"c","encounter":{"reference":"Encounter/e"},"valueString":"secret"}`, 1),
			`{"resourceType":"Encounter","id":"e",` + toAda + `,"reasonCode":[{"coding":[{"code":"35489007"}]}]}`}},
	} {
		typ, id, _ := strings.Cut(c.gone, "/")
		if p := prepare(t, request(t), everything, replyOf(t, c.texts...)); !has(p, typ, id) {
			t.Errorf("%s: nobody would see it: %s", c.name, list(p.Entries))
		}
		p := prepare(t, request(t), without(record.MentalHealth), replyOf(t, c.texts...))
		if has(p, typ, id) || strings.Contains(string(bundle(t, Assemble(request(t), []Prepared{p}, nil), BundleMeta{})), "secret") {
			t.Errorf("%s: %s", c.name, list(p.Entries))
		}
	}
}

// When a specimen was taken is told by the Observation of it only where the Specimen may be seen.
func TestTheTimeOfWhatIsHiddenIsNotBorrowed(t *testing.T) {
	observation := `{"resourceType":"Observation","id":"o",` + toAda + `,"specimen":{"reference":"Specimen/s"}}`
	specimen := `{"resourceType":"Specimen","id":"s",` + toAda + `,"meta":{"security":[{"code":"PSY"}]},"collection":{"collectedDateTime":"2019-01-02"}}`
	for _, c := range []struct {
		name, specimen string
		rules          Rules
		dated          bool
	}{
		{"seen", specimen, everything, true},
		{"withheld", specimen, without(record.MentalHealth), false},
		{"another's", strings.Replace(specimen, "Patient/p", "Patient/q", 1), everything, false},
	} {
		p := prepare(t, request(t), c.rules, replyOf(t, observation, c.specimen))
		if e := find(t, p, "Observation", "gp-o"); e.Time.Dated() != c.dated || strings.Contains(string(e.JSON), `"code":"dated"`) != c.dated {
			t.Errorf("%s: %+v", c.name, e.Time)
		}
	}
}

func TestALabelWithinIsNoLabelOfTheWhole(t *testing.T) {
	req, rules := request(t), everything
	req.PatientView, rules.LabelsNoPatient = true, true
	p := prepare(t, req, rules, replyOf(t, `{"resourceType":"Observation","id":"1",`+toAda+`,"contained":[{"resourceType":"Practitioner","id":"c","meta":{"security":[{"code":"N"}]}}]}`,
		`{"resourceType":"Observation","id":"2",`+toAda+`,"meta":{"security":[{"code":"N"}]}}`))
	if has(p, "Observation", "gp-1") || !has(p, "Observation", "gp-2") {
		t.Errorf("%s", list(p.Entries))
	}
}

func TestCopiesAreWithheldTogether(t *testing.T) {
	p := prepare(t, request(t), without(record.MentalHealth), replyOf(t, depression, strings.Replace(depression, "Major depression, secret-text", "Cough", 1)))
	if len(p.Entries) != 1 || p.Counts.Withheld != 2 {
		t.Errorf("%s %+v", list(p.Entries), p.Counts)
	}
}

// What names a withheld entry where nothing can be masked goes, and with it its copies, and the text of the document that it is.
func TestWhatCannotBeMaskedGoesWithItsCopiesAndItsText(t *testing.T) {
	const cites = `"extension":[{"url":"u","valueUri":"Condition/secret-condition"}]`
	for _, year := range []string{"2020", "2022"} {
		p := prepare(t, request(t), without(record.MentalHealth), replyOf(t, depression,
			`{"resourceType":"Observation","id":"1","meta":{"lastUpdated":"`+year+`-01-01T00:00:00Z"},`+toAda+`,`+cites+`}`,
			`{"resourceType":"Observation","id":"1","meta":{"lastUpdated":"2021-01-01T00:00:00Z"},`+toAda+`,"valueString":"secret"}`,
			`{"resourceType":"DocumentReference","id":"d",`+toAda+`,`+cites+`}`,
			`{"resourceType":"Composition","id":"c",`+toAda+`,"extension":[{"url":"https://mycarerecord.example/StructureDefinition/document-reference","valueReference":{"reference":"DocumentReference/d"}}],"title":"secret"}`))
		if len(p.Entries) != 1 || p.Counts.Withheld != 5 || strings.Contains(reasons(p.Status), "copies") {
			t.Errorf("%s %+v %s", list(p.Entries), p.Counts, reasons(p.Status))
		}
	}
}

// However long an address is, and whatever comes behind it.
func TestALongAddressOfAWithheldEntryIsOneToo(t *testing.T) {
	long := strings.Repeat("a", 3000)
	far := "https://gp.example/" + long + "/fhir/Condition/far"
	reply := replyOf(t, depression,
		`{"resourceType":"Basic","id":"query",`+toAda+`,"extension":[{"url":"u","valueUri":"Condition/secret-condition?`+long+`"}]}`,
		`{"resourceType":"Basic","id":"fragment",`+toAda+`,"extension":[{"url":"u","valueUri":"Condition/secret-condition#`+long+`"}]}`,
		`{"resourceType":"Basic","id":"far",`+toAda+`,"extension":[{"url":"u","valueUri":"`+far+`"}]}`,
		`{"resourceType":"Basic","id":"none",`+toAda+`,"extension":[{"url":"u","valueUri":"Condition/`+long+`"}]}`,
		far+" "+strings.Replace(depression, "secret-condition", "far", 1))
	p := prepare(t, request(t), without(record.MentalHealth), reply)
	if list(p.Entries) != "Patient/gp-p Basic/gp-none" || p.Counts.Withheld != 5 {
		t.Errorf("%s %+v", list(p.Entries), p.Counts)
	}
}

func TestCopiesOfAProvenanceGoTogether(t *testing.T) {
	p := prepare(t, request(t), without(record.MentalHealth), replyOf(t, depression, `{"resourceType":"Observation","id":"o",`+toAda+`}`,
		`{"resourceType":"Provenance","id":"v","target":[{"reference":"Condition/secret-condition"}]}`,
		`{"resourceType":"Provenance","id":"v","target":[{"reference":"Condition/secret-condition"},{"reference":"Observation/o"}]}`))
	if list(p.Entries) != "Patient/gp-p Observation/gp-o" || p.Counts.Withheld != 3 || strings.Contains(reasons(p.Status), "copies") {
		t.Errorf("%s %+v %s", list(p.Entries), p.Counts, reasons(p.Status))
	}
}

func TestWithheldCountsAreToldOnlyWhereTheyMay(t *testing.T) {
	reply := replyOf(t, depression, `{"resourceType":"MedicationRequest","id":"1",`+toAda+`}`)
	rules := without(record.MentalHealth, record.Ambulance)
	p := prepare(t, request(t), rules, reply)
	if got := reasons(p.Status); got != "withheld:ambulance withheld:mental-health" {
		t.Errorf("got %s", got)
	}
	if p.Status.Received != 0 || p.Status.Shown != 2 || p.Status.State != record.ReturnedInPart {
		t.Errorf("%+v", p.Status)
	}
	same := prepare(t, request(t), rules, replyOf(t, `{"resourceType":"MedicationRequest","id":"1",`+toAda+`}`))
	if reasons(same.Status) != reasons(p.Status) {
		t.Errorf("the parts tell whether there was something: %s", reasons(same.Status))
	}
	rules.TellCounts = true
	p = prepare(t, request(t), rules, reply)
	if got := reasons(p.Status); got != "withheld:ambulance withheld:mental-health=1" || p.Status.Received != 3 {
		t.Errorf("got %s, received %d", got, p.Status.Received)
	}
	// Nothing left to show: withheld, and no sign of how much.
	p = prepare(t, request(t), Rules{}, reply)
	if p.Status.State != record.Withheld || p.Status.Received != 0 || len(p.Entries) != 0 || p.PatientID != "" || p.Counts.Withheld != 3 {
		t.Errorf("%+v %+v", p.Status, p.Counts)
	}
}

func TestAWithheldPatientIsMaskedEverywhere(t *testing.T) {
	p := prepare(t, request(t), without(record.Demographics), replyOf(t, `{"resourceType":"Observation","id":"1",`+toAda+`}`))
	if p.PatientID != "" || len(p.Entries) != 1 {
		t.Fatalf("%s", list(p.Entries))
	}
	if got := member(t, p, "Observation", "gp-1", "subject"); got != maskJSON {
		t.Errorf("got %s", got)
	}
	a := Assemble(request(t), []Prepared{p}, nil)
	for _, e := range a.Entries {
		if e.Type == "Provenance" && !strings.Contains(string(e.JSON), `"target":[{"reference":"Patient/handle"}]`) {
			t.Errorf("%s", e.JSON)
		}
		if e.Type == "Patient" && strings.Contains(string(e.JSON), "link") {
			t.Errorf("%s", e.JSON)
		}
	}
}

func TestThePatientEnteredFence(t *testing.T) {
	labelled := func(code string) string {
		security := ""
		if code != "" {
			security = `"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"` + code + `"}]},`
		}
		return `{"resourceType":"AllergyIntolerance","id":"1",` + security + `"patient":{"reference":"Patient/p"},"asserter":{"reference":"Patient/p"}}`
	}
	for _, c := range []struct {
		name  string
		rules Rules
		own   bool // the person's own view
		label string
		shown bool
	}{
		{"asserted by the person, recorded by a clinician", Rules{}, false, "", true},
		{"patient-entered source, clinician's view", Rules{PatientEntered: true}, false, "", false},
		{"patient-entered source, own view", Rules{PatientEntered: true}, true, "", true},
		{"PATAST where labels count", Rules{LabelsEntered: true}, false, "PATAST", false},
		{"PATAST where labels count, own view", Rules{LabelsEntered: true}, true, "PATAST", true},
		{"PATAST where they do not", Rules{}, false, "PATAST", true},
		{"NOPAT, own view", Rules{}, true, "NOPAT", false},
		{"NOPAT, clinician's view", Rules{}, false, "NOPAT", true},
		{"no label where labels are used, own view", Rules{LabelsNoPatient: true}, true, "", false},
		{"a label where labels are used, own view", Rules{LabelsNoPatient: true}, true, "N", true},
		{"no label where labels are used, clinician's view", Rules{LabelsNoPatient: true}, false, "", true},
	} {
		req := request(t)
		req.PatientView = c.own
		c.rules.Permitted = record.AllSections
		patient := strings.Replace(ada, `"id":"p",`, `"id":"p","meta":{"security":[{"code":"N"}]},`, 1)
		p := prepare(t, req, c.rules, bare(t, patient, labelled(c.label)))
		if has(p, "AllergyIntolerance", "gp-1") != c.shown {
			t.Errorf("%s: %s", c.name, list(p.Entries))
		}
		if !c.shown && !strings.Contains(reasons(p.Status), record.PartWithheld) {
			t.Errorf("%s: not said: %s", c.name, reasons(p.Status))
		}
	}
	// A label in a contained resource, or on a document, counts for the whole.
	req := request(t)
	req.PatientView = true
	p := prepare(t, req, everything, replyOf(t, `{"resourceType":"Observation","id":"1",`+toAda+`,"contained":[{"resourceType":"Observation","id":"c","meta":{"security":[{"code":"NOPAT"}]}}]}`,
		`{"resourceType":"DocumentReference","id":"2",`+toAda+`,"securityLabel":[{"coding":[{"code":"NOPAT"}]}]}`))
	if len(p.Entries) != 1 {
		t.Errorf("%s", list(p.Entries))
	}
}

func TestExcludedCodesAreWithheldAndNeverDescribed(t *testing.T) {
	rules := Rules{Permitted: record.AllSections, Excluded: CodesOf(Code{"http://snomed.info/sct", "111"}, Code{"", "LOCAL"})}
	p := prepare(t, request(t), rules, replyOf(t,
		`{"resourceType":"Condition","id":"1",`+toAda+`,"code":{"coding":[{"system":"http://snomed.info/sct","code":"111"}]}}`,
		`{"resourceType":"Condition","id":"2",`+toAda+`,"code":{"coding":[{"system":"http://other","code":"111"}]}}`,
		`{"resourceType":"Observation","id":"3",`+toAda+`,"component":[{"code":{"coding":[{"code":"LOCAL","system":"x"}]}}]}`,
		`{"resourceType":"Observation","id":"4",`+toAda+`,"hasMember":[{"reference":"Observation/3"}],"note":[{"text":"111 LOCAL"}]}`))
	if got := list(p.Entries); got != "Patient/gp-p Condition/gp-2 Observation/gp-4" {
		t.Errorf("got %s", got)
	}
	if got := reasons(p.Status); got != "withheld" || p.Counts.Withheld != 2 {
		t.Errorf("got %s %+v", got, p.Counts)
	}
	if got := member(t, p, "Observation", "gp-4", "hasMember"); got != `[`+maskJSON+`]` {
		t.Errorf("got %s", got)
	}
	// However its system is written, or if it has none.
	for _, coding := range []string{`{"code":"111"}`, `{"system":"http://snomed.info/sct/","code":"111"}`, `{"system":"http://snomed.info/sct|2026","code":"111"}`, `{"system":"http://snomed.info/sct","code":" 111"}`} {
		if p := prepare(t, request(t), rules, replyOf(t, `{"resourceType":"Condition","id":"1",`+toAda+`,"code":{"coding":[`+coding+`]}}`)); p.Counts.Withheld != 1 {
			t.Errorf("%s: %s", coding, list(p.Entries))
		}
	}
	for _, c := range []struct {
		code Code
		hide bool
	}{{Code{"http://snomed.info/sct", "111"}, true}, {Code{"", "111"}, true}, {Code{"x", "LOCAL"}, true}, {Code{"http://other", "111"}, false}, {Code{"http://snomed.info/sct", "112"}, false}} {
		if rules.Hide(request(t), []Code{c.code}) != c.hide {
			t.Errorf("%v of a document: hidden %v", c.code, !c.hide)
		}
	}
}

func TestReferencesToStrangersAreMasked(t *testing.T) {
	p := prepare(t, request(t), everything, replyOf(t, `{"resourceType":"Observation","id":"s","subject":{"reference":"Patient/q"}}`,
		`{"resourceType":"Observation","id":"1",`+toAda+`,"derivedFrom":[{"reference":"Observation/s","display":"somebody's"}]}`))
	if got := member(t, p, "Observation", "gp-1", "derivedFrom"); got != `[`+maskJSON+`]` {
		t.Errorf("got %s", got)
	}
}

// The text of a document and the DocumentReference at which it is opened are one: what withholds either for its section, its label or its code withholds both.
func TestADocumentAndItsTextAreWithheldTogether(t *testing.T) {
	pointer := func(more string) string { return `{"resourceType":"DocumentReference","id":"d",` + toAda + more + `}` }
	text := func(of, more string) string {
		return `{"resourceType":"Composition","id":"c` + of + `",` + toAda + `,"extension":[{"url":"https://mycarerecord.example/StructureDefinition/document-reference","valueReference":{"reference":"DocumentReference/` + of + `"}}]` + more + `}`
	}
	const plan, report = `,"type":{"coding":[{"system":"http://snomed.info/sct","code":"736253002"}]}`, `,"type":{"coding":[{"system":"http://loinc.org","code":"11502-2"}]}`
	const label = `,"meta":{"security":[{"code":"NOPAT"}]}`
	excluded := Rules{Permitted: record.AllSections, Excluded: CodesOf(Code{"http://snomed.info/sct", "736253002"})}
	for _, c := range []struct {
		name          string
		pointer, text string
		rules         Rules
		own           bool
		shown         bool
	}{
		{"neither", plan, report, without(record.Pharmacy), false, true},
		{"a section of the pointer", plan, report, without(record.MentalHealth), false, false},
		{"another section of the pointer", plan, report, without(record.PlansAlerts), false, false},
		{"a section of the text", plan, report, without(record.Results), false, false},
		{"a section of the text alone", ``, plan, without(record.MentalHealth), false, false},
		{"a category of the pointer", strings.Replace(plan, "type", "category", 1), report, without(record.MentalHealth), false, false},
		{"the pointer's code", plan, report, excluded, false, false},
		{"the text's code", report, plan, excluded, false, false},
		{"the pointer's label", plan + label, report, everything, true, false},
		{"the pointer's label, to staff", plan + label, report, everything, false, true},
		{"the text's label", plan, report + label, everything, true, false},
		{"a security label of the pointer", plan + `,"securityLabel":[{"coding":[{"code":"NOPAT"}]}]`, report, everything, true, false},
	} {
		req := request(t)
		req.PatientView = c.own
		other := pointer("")
		p := prepare(t, req, c.rules, replyOf(t, text("d", c.text), pointer(c.pointer), text("e", ""), strings.Replace(other, `"id":"d"`, `"id":"e"`, 1)))
		if a, b := has(p, "DocumentReference", "gp-d"), has(p, "Composition", "gp-cd"); a != c.shown || b != c.shown {
			t.Errorf("%s: the pointer is shown: %t, its text: %t", c.name, a, b)
		}
		if !has(p, "DocumentReference", "gp-e") || !has(p, "Composition", "gp-ce") {
			t.Errorf("%s: another document goes with it", c.name)
		}
	}
	// Two texts of one pointer, and two copies of a pointer that differ: all or none.
	p := prepare(t, request(t), without(record.MentalHealth), replyOf(t, text("d", plan), strings.Replace(text("d", report), `"cd"`, `"second"`, 1), pointer("")))
	if has(p, "DocumentReference", "gp-d") || has(p, "Composition", "gp-second") {
		t.Errorf("shown: %s", list(p.Entries))
	}
	p = prepare(t, request(t), without(record.MentalHealth), replyOf(t, text("d", report), pointer(plan), pointer(report)))
	if len(p.Entries) != 1 {
		t.Errorf("shown: %s", list(p.Entries))
	}
}

// What names nobody is left out; what names it by a profile or a code system stays.
func TestDefinitionsHideNothing(t *testing.T) {
	p := prepare(t, request(t), everything, bare(t, strings.Replace(ada, `"id":"p"`, `"id":"p","meta":{"profile":["https://gp.example/fhir/StructureDefinition/s"]}`, 1),
		`{"resourceType":"StructureDefinition","id":"s"}`, `{"resourceType":"CodeSystem","id":"local"}`,
		`{"resourceType":"AllergyIntolerance","id":"a","patient":{"reference":"Patient/p"},"code":{"coding":[{"system":"https://gp.example/fhir/CodeSystem/local","code":"penicillin"}]}}`))
	if p.Counts.Withheld != 0 || !has(p, "AllergyIntolerance", "gp-a") {
		t.Errorf("%+v, %s: %s %s %s", p.Counts, list(p.Entries), p.Status.State, p.Status.Reason, p.Status.Rule)
	}
}

func TestWhatOnlyAWithheldLineNames(t *testing.T) {
	p := prepare(t, request(t), without(record.MentalHealth), replyOf(t, depression, `{"resourceType":"Practitioner","id":"psych"}`,
		`{"resourceType":"Composition","id":"c",`+toAda+`,"section":[{"title":"Mental health","author":[{"reference":"Practitioner/psych"}],"entry":[{"reference":"Condition/secret-condition"}]},{"title":"x","text":{"div":"x"}}]}`))
	if has(p, "Practitioner", "gp-psych") {
		t.Error(list(p.Entries))
	}
}

func TestTextsOfSeveralDocuments(t *testing.T) {
	const x = `{"url":"https://mycarerecord.example/StructureDefinition/document-reference","valueReference":{"reference":"DocumentReference/%"}}`
	to := func(id string) string { return strings.Replace(x, "%", id, 1) }
	for _, texts := range [][]string{{`{"resourceType":"Composition","id":"c",` + toAda + `,"extension":[` + to("secret") + `,` + to("other") + `]}`},
		{`{"resourceType":"Composition","id":"c",` + toAda + `,"extension":[` + to("secret") + `]}`, `{"resourceType":"Composition","id":"c","title":"2",` + toAda + `,"extension":[` + to("other") + `]}`}} {
		p := prepare(t, request(t), without(record.MentalHealth), replyOf(t, append(texts, `{"resourceType":"DocumentReference","id":"secret",`+toAda+`,"type":{"coding":[{"code":"736253002"}]}}`, `{"resourceType":"DocumentReference","id":"other",`+toAda+`}`)...))
		if has(p, "DocumentReference", "gp-other") {
			t.Error(list(p.Entries))
		}
	}
}

func TestAMaskIsNotTooDeepForUs(t *testing.T) {
	p := prepare(t, request(t), without(record.MentalHealth), replyOf(t, depression, `{"resourceType":"Observation","id":"o",`+toAda+`,"x":`+strings.Repeat(`{"x":`, 61)+`{"reference":"Condition/secret-condition"}`+strings.Repeat(`}`, 61)+`}`))
	if _, err := fhirjson.Parse(find(t, p, "Observation", "gp-o").JSON, EntryLimits); err != nil {
		t.Error(err)
	}
}

// The content of a withheld document is not shown for another that has it too.
func TestTheContentOfAWithheldDocument(t *testing.T) {
	const binary = `{"resourceType":"Binary","id":"b","contentType":"text/plain","data":"c2VjcmV0"}`
	withBinary := func(id, code string) string {
		return `{"resourceType":"DocumentReference","id":"` + id + `",` + toAda + `,"type":{"coding":[{"code":"` + code + `"}]},"content":[{"attachment":{"url":"Binary/b"}}]}`
	}
	p := prepare(t, request(t), without(record.MentalHealth), replyOf(t, binary, withBinary("secret", "736253002"), withBinary("open", "1")))
	if list(p.Entries) != "Patient/gp-p DocumentReference/gp-open" || member(t, p, "DocumentReference", "gp-open", "content", "attachment") != maskJSON {
		t.Errorf("%s", list(p.Entries))
	}
}

// textOf is all that is shown.
func textOf(p Prepared) (s string) {
	for _, e := range p.Entries {
		s += string(e.JSON) + "\n"
	}
	return s
}

func TestVersionsThatAreNoIDs(t *testing.T) {
	for _, v := range []string{"a_b", "1/", "1 ", "1/x", "W%2F1", "1/_history/2", strings.Repeat("9", 65)} {
		p := prepare(t, request(t), without(record.MentalHealth), replyOf(t, depression,
			`{"resourceType":"Observation","id":"o",`+toAda+`,"derivedFrom":[{"reference":"Condition/secret-condition/_history/`+v+`","display":"Depression"}]}`))
		if strings.Contains(textOf(p), "secret-condition") {
			t.Errorf("withheld and named, version %q", v)
		}
		q := prepare(t, request(t), everything, replyOf(t, `{"resourceType":"AllergyIntolerance","id":"a","patient":{"reference":"Patient/p/_history/`+v+`"}}`))
		if !has(q, "AllergyIntolerance", "gp-a") {
			t.Errorf("version %q: %s", v, reasons(q.Status))
		}
	}
}

// What many entries were made of may be what a withheld one was made of too.
func TestWhatEntriesWereMadeOfTakesNoneAlong(t *testing.T) {
	const made = `,"meta":{"source":"https://gp.example/fhir/Binary/cda"}`
	p := prepare(t, request(t), without(record.MentalHealth), replyOf(t, depression, `{"resourceType":"Binary","id":"cda","contentType":"application/xml","data":"aa=="}`,
		`{"resourceType":"AllergyIntolerance","id":"al"`+made+`,"patient":{"reference":"Patient/p"}}`,
		`{"resourceType":"DocumentReference","id":"d",`+toAda+`,"type":{"coding":[{"code":"736253002"}]},"content":[{"attachment":{"url":"Binary/cda"}}]}`,
		`{"resourceType":"Provenance","id":"v","target":[{"reference":"Condition/secret-condition"}],"entity":[{"role":"source","what":{"reference":"Binary/cda"}}]}`))
	if !has(p, "AllergyIntolerance", "gp-al") || has(p, "Binary", "gp-cda") {
		t.Errorf("%s %+v", list(p.Entries), p.Counts)
	}
}

// A uri that asks by an identifier names a withheld entry only if all that carry it are withheld.
func TestWhatAsksForAnIdentifierOfSeveral(t *testing.T) {
	shared := strings.Replace(depression, `{"system":"urn:s","value":"secret-number"}`, `{"system":"https://gp.example/spell","value":"S1"}`, 1)
	const asks = `{"resourceType":"AllergyIntolerance","id":"a","patient":{"reference":"Patient/p"},"extension":[{"url":"u","valueUri":"Encounter?identifier=https://gp.example/spell|S1"}]}`
	encounter := `{"resourceType":"Encounter","id":"e",` + toAda + `,"identifier":[{"system":"https://gp.example/spell","value":"S1"}]}`
	if p := prepare(t, request(t), without(record.MentalHealth), replyOf(t, shared, encounter, asks)); !has(p, "AllergyIntolerance", "gp-a") {
		t.Errorf("%s %+v", list(p.Entries), p.Counts)
	}
	if p := prepare(t, request(t), without(record.MentalHealth), replyOf(t, shared, asks)); has(p, "AllergyIntolerance", "gp-a") {
		t.Errorf("%s", list(p.Entries))
	}
}

func TestAddressesOfDocumentsThatLookLikeQuestions(t *testing.T) {
	for _, u := range []string{"https://files.example/Binary?name=50%", "https://files.example/Binary?" + strings.Repeat("a=1&", 17), "Media?x=" + strings.Repeat("a,", 20)} {
		doc := `{"resourceType":"DocumentReference","id":"d",` + toAda + `,"content":[{"attachment":{"contentType":"text/plain","url":"` + u + `"}}]}`
		p, q := prepare(t, request(t), without(record.MentalHealth), replyOf(t, doc)), prepare(t, request(t), without(record.MentalHealth), replyOf(t, doc, depression))
		if a, b := string(find(t, p, "DocumentReference", "gp-d").JSON), string(find(t, q, "DocumentReference", "gp-d").JSON); a != b || strings.Contains(a, "masked") {
			t.Errorf("%s\n%s", a, b)
		}
	}
}

func TestIdentifiersWithoutASystem(t *testing.T) {
	bare := strings.Replace(depression, `{"system":"urn:s","value":"secret-number"}`, `{"value":"S1"}`, 1)
	for _, id := range []string{`{"system":"x","value":"S1"}`, `{"value":"S1"}`} {
		p := prepare(t, request(t), without(record.MentalHealth), replyOf(t, bare, `{"resourceType":"Observation","id":"o",`+toAda+`,"focus":[{"identifier":`+id+`,"display":"Depression"}]}`))
		if strings.Contains(textOf(p), "Depression") {
			t.Errorf("%s: %s", id, textOf(p))
		}
	}
}

func TestLabelsWithBlanks(t *testing.T) {
	req := request(t)
	req.PatientView = true
	if !everything.Hide(req, []Code{{"", " NOPAT"}}) {
		t.Error("a document")
	}
	if p := prepare(t, req, everything, replyOf(t, `{"resourceType":"Observation","id":"o","meta":{"security":[{"code":"NOPAT "}]},`+toAda+`}`)); has(p, "Observation", "gp-o") {
		t.Error("an entry")
	}
}
