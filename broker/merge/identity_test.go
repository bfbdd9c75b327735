package merge

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

const nhs = `{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000018"}`

func status(url, coding string) string {
	return `{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000018","extension":[{"url":"` + url + `","valueCodeableConcept":{"coding":[` + coding + `]}}]}`
}

func TestIdentity(t *testing.T) {
	const england = "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-NHSNumberVerificationStatus"
	const careConnect = "https://fhir.hl7.org.uk/STU3/StructureDefinition/Extension-CareConnect-GPC-NHSNumberVerificationStatus-1"
	patient := func(identifier, rest string) string {
		return `{"resourceType":"Patient","id":"p","identifier":[` + identifier + `]` + rest + `}`
	}
	for _, c := range []struct {
		name    string
		texts   []string
		change  func(*Request, *Rules)
		refused bool
	}{
		{"the number asked", []string{patient(nhs, "")}, nil, false},
		{"no Patient", []string{`{"resourceType":"Observation","id":"1"}`}, nil, true},
		{"nothing", nil, nil, true},
		{"another number", []string{patient(`{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000026"}`, "")}, nil, true},
		{"no number", []string{patient(`{"system":"urn:local","value":"9990000018"}`, "")}, nil, true},
		{"the number with spaces", []string{patient(`{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"999 000 0018"}`, "")}, nil, true},
		{"the number as a JSON number", []string{patient(`{"system":"https://fhir.nhs.uk/Id/nhs-number","value":9990000018}`, "")}, nil, true},
		{"two numbers", []string{patient(nhs+`,{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000026"}`, "")}, nil, true},
		{"an old number beside it", []string{patient(nhs+`,{"use":"old","system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000026"}`, "")}, nil, false},
		{"the number as an old one", []string{patient(`{"use":"old","system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000018"}`, "")}, nil, true},
		{"a superseded number beside it", []string{patient(nhs+`,{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000026"}`, "")},
			func(r *Request, _ *Rules) { r.Subject.Supersedes = []record.NHSNumber{number(t, theirs)} }, false},
		{"two Patients with the number", []string{patient(nhs, ""), strings.Replace(patient(nhs, ""), `"p"`, `"q"`, 1)}, nil, true},
		{"two Patients without ids", []string{strings.Replace(patient(nhs, ""), `"id":"p",`, "", 1), strings.Replace(patient(nhs, `,"active":true`), `"id":"p",`, "", 1)}, nil, true},
		{"the same Patient twice", []string{patient(nhs, ""), patient(nhs, "")}, nil, false},
		{"copies of the Patient that differ", []string{patient(nhs, ""), patient(nhs, `,"active":true`)}, nil, false},
		{"copies of the Patient, one without the number", []string{patient(nhs, ""), patient("", "")}, nil, true},
		{"another Patient beside", []string{patient(nhs, ""), `{"resourceType":"Patient","id":"q"}`}, nil, false},
		{"status 01", []string{patient(status(england, `{"code":"01"}`), "")}, nil, false},
		{"status in a word", []string{patient(status(careConnect, `{"code":"number-present-and-verified"}`), "")}, nil, false},
		{"status 02", []string{patient(status(england, `{"code":"02"}`), "")}, nil, true},
		{"status 02 at CareConnect", []string{patient(status(careConnect, `{"code":"02"}`), "")}, nil, true},
		{"status 01 and 02", []string{patient(status(england, `{"code":"01"},{"code":"02"}`), "")}, nil, true},
		{"status empty", []string{patient(status(england, ``), "")}, nil, true},
		{"status 02 accepted", []string{patient(status(england, `{"code":"02"}`), "")}, func(_ *Request, r *Rules) { r.AcceptUnverified = true }, false},
		{"another extension", []string{patient(status("https://example.org/Other", `{"code":"02"}`), "")}, nil, false},
		{"date of birth agrees", []string{patient(nhs, `,"birthDate":"1950-03-04"`)}, nil, false},
		{"date of birth differs", []string{patient(nhs, `,"birthDate":"1950-03-05"`)}, nil, true},
		{"date of birth and name differ", []string{patient(nhs, `,"birthDate":"1951","name":[{"family":"Bell"}]`)}, nil, true},
		{"year of birth agrees", []string{patient(nhs, `,"birthDate":"1950"`)}, nil, false},
		{"year of birth differs", []string{patient(nhs, `,"birthDate":"1949"`)}, nil, true},
		{"the trace knows the year only", []string{patient(nhs, `,"birthDate":"1950-03-04"`)}, func(r *Request, _ *Rules) { r.Subject.BirthDate = "1950" }, false},
		{"date of birth is no string", []string{patient(nhs, `,"birthDate":1950`)}, nil, true},
		{"the trace knows no date", []string{patient(nhs, `,"birthDate":"1930"`)}, func(r *Request, _ *Rules) { r.Subject.BirthDate = "" }, false},
		{"name changed, date agrees", []string{patient(nhs, `,"birthDate":"1950-03-04","name":[{"family":"Bell"}]`)}, nil, false},
		{"name differs, no date", []string{patient(nhs, `,"name":[{"family":"Bell"}]`)}, nil, true},
		{"one of the names agrees, no date", []string{patient(nhs, `,"name":[{"family":"Bell"},{"use":"maiden","family":"ASHWORTH"}]`)}, nil, false},
		{"given names only, no date", []string{patient(nhs, `,"name":[{"given":["Zoe"]}]`)}, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			req, rules := request(t), everything
			if c.change != nil {
				c.change(&req, &rules)
			}
			p, err := Prepare(req, rules, bare(t, c.texts...))
			if c.refused != errors.Is(err, ErrWrongSubject) || err != nil && !c.refused {
				t.Fatalf("got %v", err)
			}
			if c.refused != (p.Entries == nil) {
				t.Errorf("%d entries", len(p.Entries))
			}
		})
	}
}

func TestANumberThatWasReplacedIsTheirs(t *testing.T) {
	req := request(t)
	req.Subject.Supersedes = []record.NHSNumber{number(t, theirs)}
	for _, ref := range []string{`{"reference":"Patient/p","identifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000026"}}`,
		`{"identifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000026"}}`} {
		p := prepare(t, req, everything, replyOf(t, `{"resourceType":"AllergyIntolerance","id":"1","patient":`+ref+`}`))
		if !has(p, "AllergyIntolerance", "gp-1") || p.Alarm {
			t.Errorf("%s: %s, alarm %v", ref, list(p.Entries), p.Alarm)
		}
	}
}

func TestNoNumberAskedIsRefused(t *testing.T) {
	req := request(t)
	req.Subject.Number = record.NHSNumber{}
	if _, err := Prepare(req, everything, bare(t, `{"resourceType":"Patient","id":"p","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":""}]}`)); !errors.Is(err, ErrWrongSubject) {
		t.Errorf("got %v", err)
	}
}

func TestFamilyNamesArePlain(t *testing.T) {
	for _, c := range [][2]string{{"O'Brien", "OBRIEN"}, {"Müller", "muller"}, {"Łukasz-Żak", "lukaszzak"}, {"Mu\u0308ller", "muller"}, {"Smith  Jones", "smithjones"},
		{"Straße", "strasse"}, {"Ñandú", "nandu"}, {"李", "李"}, {"…", ""}} {
		if got := plain(c[0]); got != plain(c[1]) || c[1] == "" && got != "" {
			t.Errorf("%q: got %q", c[0], got)
		}
	}
	if plain("Bell") == plain("Ball") {
		t.Error("different names agree")
	}
}

// Each row is a resource in Ada's reply: whose it is, and what is said of it.
func TestWhoseAResourceIs(t *testing.T) {
	const other = `{"resourceType":"Patient","id":"q","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000026"}]}`
	observation := func(subject string) string {
		return `{"resourceType":"Observation","id":"1","subject":` + subject + `,"status":"final"}`
	}
	const kept, strange, vague = "", record.PartStrangers, record.PartUnreadable
	for _, c := range []struct{ name, text, want string }{
		{"relative", observation(`{"reference":"Patient/p"}`), kept},
		{"absolute", observation(`{"reference":"https://gp.example/fhir/Patient/p"}`), kept},
		{"absolute by http", observation(`{"reference":"http://gp.example/fhir/Patient/p"}`), kept},
		{"versioned", observation(`{"reference":"Patient/p/_history/3"}`), kept},
		{"logical", observation(`{"identifier":` + nhs + `}`), kept},
		{"both", observation(`{"reference":"Patient/p","identifier":` + nhs + `}`), kept},
		{"address elsewhere, number right", observation(`{"reference":"https://pds.example/Patient/x","identifier":` + nhs + `}`), kept},
		{"another relative", observation(`{"reference":"Patient/q"}`), strange},
		{"another dangling", observation(`{"reference":"Patient/unknown"}`), strange},
		{"another absolute", observation(`{"reference":"https://other.example/fhir/Patient/p"}`), strange},
		{"another by number", observation(`{"identifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000026"}}`), strange},
		{"another by one of several numbers", observation(`{"reference":"Patient/p","identifier":[` + nhs + `,{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000026"}]}`), strange},
		{"address right, number another's", observation(`{"reference":"Patient/p","identifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000026"}}`), strange},
		{"address right, number old", observation(`{"reference":"Patient/p","identifier":{"use":"old","system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000042"}}`), kept},
		{"number old only", observation(`{"type":"Patient","identifier":{"use":"old","system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000018"}}`), strange},
		{"address another's, number right", observation(`{"reference":"Patient/q","identifier":` + nhs + `}`), strange},
		{"typed only", observation(`{"type":"Patient","display":"Ada"}`), strange},
		{"display only", observation(`{"display":"Ada"}`), vague},
		{"a group", observation(`{"reference":"Group/1"}`), vague},
		{"a string", observation(`"Patient/p"`), vague},
		{"nobody", `{"resourceType":"Observation","id":"1"}`, vague},
		{"unknown urn", observation(`{"reference":"urn:uuid:1"}`), vague},
		{"conditional", observation(`{"reference":"Patient?identifier=https://fhir.nhs.uk/Id/nhs-number|9990000026"}`), strange},
		{"two subjects", observation(`[{"reference":"Patient/p"},{"reference":"Patient/q"}]`), strange},
		{"performed by another patient", `{"resourceType":"Observation","id":"1",` + toAda + `,"performer":[{"reference":"Patient/q"}]}`, strange},
		{"performed by a practitioner", `{"resourceType":"Observation","id":"1",` + toAda + `,"performer":[{"reference":"Practitioner/q"}]}`, kept},
		{"noted by another patient", `{"resourceType":"Observation","id":"1",` + toAda + `,"note":[{"text":"x","authorReference":{"reference":"Patient/q"}}]}`, strange},
		{"noted by her", `{"resourceType":"Observation","id":"1",` + toAda + `,"note":[{"text":"x","authorReference":{"reference":"Patient/p"}}]}`, kept},
		{"about an unborn child", `{"resourceType":"Observation","id":"1",` + toAda + `,"focus":[{"reference":"Patient/q"}]}`, strange},
		{"contained Patient with the number", `{"resourceType":"Observation","id":"1","contained":[{"resourceType":"Patient","id":"c","identifier":[` + nhs +
			`]}],"subject":{"reference":"#c"}}`, kept},
		{"contained Patient without", `{"resourceType":"Observation","id":"1","contained":[{"resourceType":"Patient","id":"c"}],"subject":{"reference":"#c"}}`, strange},
		{"contained Patient with the number that is not verified", `{"resourceType":"Observation","id":"1","contained":[{"resourceType":"Patient","id":"c","identifier":[` +
			status("https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-NHSNumberVerificationStatus", `{"code":"02"}`) + `]}],"subject":{"reference":"#c"}}`, strange},
		{"contained Patient with the number and another birth date", `{"resourceType":"Observation","id":"1","contained":[{"resourceType":"Patient","id":"c","identifier":[` + nhs +
			`],"birthDate":"1999-09-09"}],"subject":{"reference":"#c"}}`, strange},
		{"contained Patient with the number beside, and another name", `{"resourceType":"Observation","id":"1",` + toAda + `,"contained":[{"resourceType":"Patient","id":"c","identifier":[` + nhs +
			`],"name":[{"family":"Bell"}]}]}`, strange},
		{"a Patient in what is contained", `{"resourceType":"Observation","id":"1",` + toAda + `,"contained":[{"resourceType":"Organization","id":"o","contained":[{"resourceType":"Patient","id":"c"}]}]}`, vague},
		{"a Patient in a contained outcome", `{"resourceType":"Observation","id":"1",` + toAda + `,"contained":[{"resourceType":"OperationOutcome","id":"o","contained":[{"resourceType":"Patient","id":"c"}]}]}`, vague},
		{"a Patient in a member that R4 does not know", `{"resourceType":"Observation","id":"1",` + toAda + `,"thing":{"resourceType":"Patient","id":"c"}}`, vague},
		{"a Patient in an extension", `{"resourceType":"Observation","id":"1",` + toAda + `,"extension":[{"url":"u","valueReference":{"resource":{"resourceType":"Patient","id":"c"}}}]}`, vague},
		{"contained Coverage of another", `{"resourceType":"Observation","id":"1",` + toAda + `,"contained":[{"resourceType":"Coverage","id":"c","beneficiary":{"identifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000026"}}}]}`, strange},
		{"contained Coverage of hers", `{"resourceType":"Observation","id":"1",` + toAda + `,"contained":[{"resourceType":"Coverage","id":"c","identifier":[{"value":"1"}],"beneficiary":{"reference":"Patient/p"},"payor":[{"display":"x"}]}]}`, kept},
		{"contained message about another", `{"resourceType":"Observation","id":"1",` + toAda + `,"contained":[{"resourceType":"MessageHeader","id":"c","focus":[{"reference":"Patient/q"}]}]}`, strange},
		{"contained Questionnaire", `{"resourceType":"QuestionnaireResponse","id":"1",` + toAda + `,"contained":[{"resourceType":"Questionnaire","id":"c","identifier":[{"value":"1"}]}],"questionnaire":"#c"}`, kept},
		{"contained stranger beside", `{"resourceType":"Observation","id":"1",` + toAda + `,"contained":[{"resourceType":"Patient","id":"c"}]}`, strange},
		{"contained Condition of another", `{"resourceType":"Observation","id":"1",` + toAda + `,"contained":[{"resourceType":"Condition","id":"c","subject":{"reference":"Patient/q"}}]}`, strange},
		{"contained Condition of nobody", `{"resourceType":"Observation","id":"1",` + toAda + `,"contained":[{"resourceType":"Condition","id":"c"}]}`, kept},
		{"contained Bundle", `{"resourceType":"Observation","id":"1",` + toAda + `,"contained":[{"resourceType":"Bundle","id":"c"}]}`, vague},
		{"contained Parameters", `{"resourceType":"Observation","id":"1",` + toAda + `,"contained":[{"resourceType":"Parameters","id":"c"}]}`, vague},
		{"contained unknown", `{"resourceType":"Observation","id":"1",` + toAda + `,"contained":[{"resourceType":"Wonder","id":"c"}]}`, vague},
		{"contained practitioner", `{"resourceType":"Observation","id":"1",` + toAda + `,"contained":[{"resourceType":"Practitioner","id":"c"}],"performer":[{"reference":"#c"}]}`, kept},
		{"appointment with a practitioner", `{"resourceType":"Appointment","id":"1","participant":[{"actor":{"reference":"Patient/p"}},{"actor":{"reference":"Practitioner/d"}}]}`, kept},
		{"appointment with another patient", `{"resourceType":"Appointment","id":"1","participant":[{"actor":{"reference":"Patient/p"}},{"actor":{"reference":"Patient/q"}}]}`, strange},
		{"appointment of nobody", `{"resourceType":"Appointment","id":"1","participant":[{"actor":{"reference":"Practitioner/d"}}]}`, vague},
		{"consent naming another", `{"resourceType":"Consent","id":"1","patient":{"reference":"Patient/p"},"provision":{"provision":[{"actor":[{"reference":{"reference":"Patient/q"}}]}]}}`, strange},
		{"nested Bundle", `{"resourceType":"Bundle","id":"1","entry":[]}`, vague},
		{"a definition", `{"resourceType":"ValueSet","id":"1"}`, vague},
		{"a type that R4 does not know", `{"resourceType":"InventoryItem","id":"1",` + toAda + `}`, vague},
		{"a task", `{"resourceType":"Task","id":"1","for":{"reference":"Patient/p"}}`, kept},
		{"a device of hers", `{"resourceType":"Device","id":"1","patient":{"reference":"Patient/p"}}`, kept},
		{"a device of another", `{"resourceType":"Device","id":"1","patient":{"reference":"Patient/q"}}`, strange},
		{"a relative of hers", `{"resourceType":"RelatedPerson","id":"1","patient":{"reference":"Patient/p"}}`, kept},
		{"a schedule of another", `{"resourceType":"Schedule","id":"1","actor":[{"reference":"Patient/q"}]}`, strange},
		{"the other Patient", `{"resourceType":"Patient","id":"r","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000034"}]}`, strange},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := prepare(t, request(t), everything, replyOf(t, c.text))
			want := 2
			if c.want != "" {
				want = 1
			}
			if len(p.Entries) != want {
				t.Fatalf("shown: %s", list(p.Entries))
			}
			if c.want == "" {
				if p.Alarm || len(p.Status.Parts) != 0 || p.Status.State != record.Returned {
					t.Errorf("%v %v", p.Alarm, p.Status.Parts)
				}
				return
			}
			if got := reasons(p.Status); got != c.want+"=1" || p.Counts.Strangers != 1 || p.Status.State != record.ReturnedInPart {
				t.Errorf("got %s, %+v", got, p.Counts)
			}
			if p.Alarm != (c.want == strange) {
				t.Errorf("alarm %v", p.Alarm)
			}
		})
		// The same with the other Patient in the reply: they are a stranger too, and nothing changes for the rest.
		p := prepare(t, request(t), everything, replyOf(t, other, c.text))
		if has(p, "Patient", "gp-q") || !p.Alarm || (len(p.Entries) == 2) != (c.want == "") {
			t.Errorf("%s, with the other Patient: %s", c.name, list(p.Entries))
		}
		if b := string(bundle(t, Assemble(request(t), []Prepared{p}, nil), BundleMeta{})); strings.Contains(b, theirs) {
			t.Errorf("%s: the other's number is in the answer", c.name)
		}
	}
}

func TestURNsAndRoots(t *testing.T) {
	p := prepare(t, request(t), everything, bare(t, "urn:uuid:1 "+strings.Replace(ada, `"id":"p",`, "", 1),
		`urn:uuid:2 {"resourceType":"Observation","subject":{"reference":"urn:uuid:1"},"hasMember":[{"reference":"urn:uuid:3"}]}`,
		`urn:oid:1.2 {"resourceType":"Observation","id":"three","subject":{"reference":"urn:uuid:1"},"derivedFrom":[{"reference":"urn:uuid:2"},{"reference":"urn:oid:1.2"}]}`,
		`{"resourceType":"Observation","id":"four","subject":{"reference":"urn:uuid:9"}}`))
	if p.Counts.Shown != 3 || p.Counts.Strangers != 1 || p.Dangling != 1 {
		t.Fatalf("%s %+v dangling %d", list(p.Entries), p.Counts, p.Dangling)
	}
	if e := find(t, p, "Observation", "gp-three"); !strings.Contains(string(e.JSON), `"derivedFrom":[{"reference":"Observation/gp-`) ||
		!strings.Contains(string(e.JSON), `{"reference":"Observation/gp-three"}`) {
		t.Errorf("%s", e.JSON)
	}

	// A relative reference is about the server of the entry that it stands in.
	two := []string{"https://a.example/Patient/p " + ada, `https://b.example/Patient/p {"resourceType":"Patient","id":"p"}`}
	if _, err := Prepare(request(t), everything, bare(t, two...)); !errors.Is(err, ErrWrongSubject) {
		t.Errorf("one Patient id with and without the number: %v", err)
	}
	p = prepare(t, request(t), everything, bare(t, "https://a.example/Patient/p "+ada, `https://b.example/Observation/1 {"resourceType":"Observation","id":"1",`+toAda+`}`,
		`https://a.example/Observation/2 {"resourceType":"Observation","id":"2",`+toAda+`}`))
	if has(p, "Observation", "gp-1") || !has(p, "Observation", "gp-2") {
		t.Errorf("%s", list(p.Entries))
	}
	// The server may know itself by another name than we do.
	p = prepare(t, request(t), everything, bare(t, "http://inside:8080/fhir/Patient/p "+ada,
		`http://inside:8080/fhir/Observation/1 {"resourceType":"Observation","id":"1","subject":{"reference":"https://gp.example/fhir/Patient/p"}}`,
		`{"resourceType":"Observation","id":"2",`+toAda+`}`))
	if p.Counts.Shown != 3 {
		t.Errorf("%s", list(p.Entries))
	}
	// One address for two resources can be read in two ways.
	for _, second := range []string{`{"resourceType":"Observation","id":"1",` + toAda + `}`, `{"resourceType":"Patient","id":"q"}`, `{"resourceType":"Patient"}`} {
		if _, err := Prepare(request(t), everything, bare(t, "urn:uuid:1 "+ada, "urn:uuid:1 "+second)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %v", second, err)
		}
	}
}

func TestMalformed(t *testing.T) {
	for _, text := range []string{`{"id":"1"}`, `{"resourceType":1}`, `{"resourceType":""}`, `{"resourceType":"Observation","id":1,` + toAda + `}`,
		`{"resourceType":"Observation","meta":[],` + toAda + `}`, `{"resourceType":"Observation","meta":null,` + toAda + `}`,
		`{"resourceType":"Observation","meta":{"tag":{}},` + toAda + `}`, `{"resourceType":"Observation","meta":{"security":"R"},` + toAda + `}`,
		`{"resourceType":"Observation","meta":{"extension":{}},` + toAda + `}`, `{"resourceType":"Observation","meta":{"source":1},` + toAda + `}`,
		`{"resourceType":"Observation","ID":"1",` + toAda + `}`, `{"resourceType":"Observation","Meta":{},` + toAda + `}`,
		`{"resourceType":"Observation","meta":{"Tag":[]},` + toAda + `}`, `{"resourceType":"Observation","meta":{"SOURCE":"x"},` + toAda + `}`,
		`{"resourceType":"Observation","contained":{},` + toAda + `}`} {
		if p, err := Prepare(request(t), everything, replyOf(t, text)); !errors.Is(err, ErrMalformed) || p.Entries != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// For every type and every path of the table: a resource that names another person there is not shown, and one that names this one is.
// A fullUrl that names another resource of its type is no address of this one: what is about that one is not about her.
func TestAnAddressOfAnotherResourceIsNotBelieved(t *testing.T) {
	for _, url := range []string{"https://gp.example/fhir/Patient/q", "https://gp.example/fhir/Person/p"} {
		_, whom, _ := strings.Cut(url, "/fhir/")
		p := prepare(t, request(t), everything, bare(t, url+" "+ada, `{"resourceType":"Condition","id":"1","subject":{"reference":"`+whom+`"}}`,
			`{"resourceType":"Condition","id":"2","subject":{"reference":"Patient/p"}}`))
		if has(p, "Condition", "gp-1") || !has(p, "Condition", "gp-2") {
			t.Errorf("%s: %s", url, list(p.Entries))
		}
	}
}

func TestEveryPathThatNamesAPersonIsLookedAt(t *testing.T) {
	put := func(to map[string]any, path, reference string) {
		name, rest, more := strings.Cut(path, ".")
		for star := strings.HasSuffix(name, "*"); star; star = false {
			name = strings.TrimSuffix(name, "*")
			inner := map[string]any{}
			to[name] = []any{map[string]any{"x": []any{inner}}}
			to = inner
		}
		for more {
			inner := map[string]any{}
			if old, is := to[name].([]any); is { // beside what is there
				to[name] = append(old, inner)
			} else {
				to[name] = []any{inner}
			}
			to = inner
			name, rest, more = strings.Cut(rest, ".")
		}
		ref := map[string]any{"reference": reference}
		if old, is := to[name].([]any); is {
			to[name] = append(old, ref)
			return
		}
		to[name] = []any{ref}
	}
	tried := 0
	for typ, row := range subjects {
		if row.class != person && row.class != either && row.class != provenance || typ == "Patient" {
			continue
		}
		for _, path := range slices.Concat(row.about, row.among, row.also) {
			for _, whom := range []string{"Patient/p", "Patient/q"} {
				tried++
				r := map[string]any{"resourceType": typ, "id": "1"}
				for _, first := range slices.Concat(row.about, row.among, map[bool][]string{true: {"target"}}[row.class == provenance]) {
					put(r, first, "Patient/p")
				}
				put(r, path, whom)
				text, err := json.Marshal(r)
				if err != nil {
					t.Fatal(err)
				}
				p := prepare(t, request(t), everything, replyOf(t, string(text)))
				if shown := has(p, typ, "gp-1"); shown != (whom == "Patient/p") || p.Alarm == shown {
					t.Errorf("%s.%s names %s: shown %v, %+v", typ, path, whom, shown, p.Counts)
				}
			}
		}
	}
	if tried < 300 {
		t.Errorf("%d tried", tried)
	}
}
