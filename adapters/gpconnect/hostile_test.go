package gpconnect_test

import (
	"compress/gzip"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// canary stands in everything of another person's: it may never be shown.
const canary = "CANARY-OF-ANOTHER-PERSON"

const (
	me    = `{"resourceType":"Patient","id":"p1","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000034"}]}`
	other = `{"resourceType":"Patient","id":"p2","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000018"}],"name":[{"family":"` + canary + `"}]}`
	mine  = `{"resourceType":"Condition","id":"c1","code":{"text":"mine"},"subject":{"reference":"Patient/p1"}}`
	text  = `"code":{"text":"` + canary + `"}`
)

func collection(resources ...string) string {
	return `{"resourceType":"Bundle","type":"collection","entry":[{"resource":` + strings.Join(resources, `},{"resource":`) + `}]}`
}

// TestHostileAnswers gives the adapter what no practice should send, and the merge what comes of it: either the whole answer is refused, with the
// right error, or nothing of another person is shown and the answer says that it is not whole.
func TestHostileAnswers(t *testing.T) {
	var body atomic.Value
	at := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		fhir(w)
		_, _ = w.Write([]byte(body.Load().(string))) //nolint:forcetypeassert // stored below
	})
	src := source(t, settings(at))
	deep := strings.Repeat(`{"a":`, 80) + `1` + strings.Repeat(`}`, 80)
	type hostile struct {
		name, body string
		want       error // nil: a reply, in part
	}
	cases := []hostile{
		{"nothing", ``, broker.ErrMalformed},
		{"null", `null`, broker.ErrMalformed},
		{"a list", `[]`, broker.ErrMalformed},
		{"a byte order mark", "\ufeff" + collection(me), broker.ErrMalformed},
		{"trailing data", collection(me) + `{}`, broker.ErrMalformed},
		{"a lone surrogate", strings.Replace(collection(me, mine), `mine`, `\ud800`, 1), broker.ErrMalformed},
		{"a zero byte", strings.Replace(collection(me, mine), `mine`, "\x00", 1), broker.ErrMalformed},
		{"keys of two cases", strings.Replace(collection(me, mine), `"subject"`, `"Subject":{},"subject"`, 1), broker.ErrMalformed},
		{"a key twice", strings.Replace(collection(me, mine), `"subject"`, `"subject":{},"subject"`, 1), broker.ErrMalformed},
		{"an escaped key", strings.Replace(collection(me, mine), `"subject"`, `"\u0073ubject"`, 1), broker.ErrMalformed},
		{"a number of 1,000 digits", strings.Replace(collection(me, mine), `"id":"c1"`, `"id":"c1","x":`+strings.Repeat("9", 1000), 1), broker.ErrTooMuch},
		{"deep", strings.Replace(collection(me, mine), `"id":"c1"`, `"id":"c1","x":`+deep, 1), broker.ErrTooMuch},
		{"not a Bundle", me, broker.ErrMalformed},
		{"a message", strings.Replace(collection(me), "collection", "message", 1), broker.ErrMalformed},
		{"an id that is a number", collection(me, strings.Replace(mine, `"c1"`, `1`, 1)), broker.ErrMalformed},
		{"an entry that is null", `{"resourceType":"Bundle","type":"collection","entry":[null]}`, broker.ErrMalformed},
		{"entries in an object", `{"resourceType":"Bundle","type":"collection","entry":{"resource":` + me + `}}`, broker.ErrMalformed},
		{"a page more", `{"resourceType":"Bundle","type":"collection","link":[{"relation":"next","url":"` + at + `/Patient/$gpc.getstructuredrecord"}],"entry":[{"resource":` + me + `}]}`, broker.ErrMalformed},
		{"a page elsewhere", `{"resourceType":"Bundle","type":"collection","link":[{"relation":"next","url":"https://elsewhere.invalid/x"}],"entry":[{"resource":` + me + `}]}`, broker.ErrElsewhere},
		{"a page more, of a relation in another case", `{"resourceType":"Bundle","type":"collection","link":[{"relation":"Next","url":"` + at + `/Patient/$gpc.getstructuredrecord"}],"entry":[{"resource":` + me + `}]}`, broker.ErrMalformed},
		{"links in other case", `{"resourceType":"Bundle","type":"collection","Link":[{"relation":"next","url":"` + at + `"}],"entry":[{"resource":` + me + `}]}`, broker.ErrMalformed},
		{"links that are no list", `{"resourceType":"Bundle","type":"collection","link":"` + at + `","entry":[{"resource":` + me + `}]}`, broker.ErrMalformed},
		{"nobody's", collection(mine), broker.ErrMalformed},
		{"somebody else's", collection(other, `{"resourceType":"Condition","id":"c2",`+text+`,"subject":{"reference":"Patient/p2"}}`), broker.ErrWrongSubject},
		{"my Patient and others' entries only", collection(me, `{"resourceType":"Condition","id":"c2",`+text+`,"subject":{"reference":"Patient/p2"}}`), broker.ErrWrongSubject},
		{"two numbers in one Patient", collection(strings.Replace(me, `"identifier":[`, `"identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000018"},`, 1)), broker.ErrWrongSubject},
		{"a number that is no number", collection(strings.Replace(me, "9990000034", "999000003", 1)), broker.ErrWrongSubject},
		{"two Patients with my number", collection(me, strings.Replace(me, "p1", "p3", 1)), broker.ErrWrongSubject},
		{"a Patient without an id", collection(strings.Replace(me, `"id":"p1",`, ``, 1)), broker.ErrMalformed},
		{"a refusal among the entries is no refusal of the whole", collection(me, mine, `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"exception"}]}`), nil},
	}
	// Another person's, wherever a resource or a reference may hide, beside what is mine.
	for name, stranger := range map[string]string{
		"a Patient":                                   other,
		"a Condition":                                 `{"resourceType":"Condition","id":"x",` + text + `,"subject":{"reference":"Patient/p2"}}`,
		"an Immunization":                             `{"resourceType":"Immunization","id":"x","vaccineCode":{"text":"` + canary + `"},"patient":{"reference":"Patient/p2"},"date":"2020"}`,
		"a ReferralRequest":                           `{"resourceType":"ReferralRequest","id":"x","description":"` + canary + `","subject":{"reference":"Patient/p2"}}`,
		"a ProcedureRequest of nobody":                `{"resourceType":"ProcedureRequest","id":"x",` + text + `}`,
		"a subject by number":                         `{"resourceType":"Condition","id":"x",` + text + `,"subject":{"identifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000018"}}}`,
		"a contained Patient":                         `{"resourceType":"Condition","id":"x",` + text + `,"subject":{"reference":"Patient/p1"},"contained":[` + other + `]}`,
		"a contained Observation":                     `{"resourceType":"Condition","id":"x","subject":{"reference":"Patient/p1"},"contained":[{"resourceType":"Observation","id":"o",` + text + `,"subject":{"reference":"Patient/p2"}}]}`,
		"a contained ended allergy":                   `{"resourceType":"List","id":"x","subject":{"reference":"Patient/p1"},"contained":[{"resourceType":"AllergyIntolerance","id":"r","clinicalStatus":"resolved",` + text + `,"patient":{"reference":"Patient/p2"}}],"entry":[{"item":{"reference":"#r"}}]}`,
		"a nested Bundle":                             `{"resourceType":"Bundle","type":"collection","entry":[{"resource":` + other + `}]}`,
		"a nested Bundle about me":                    `{"resourceType":"Bundle","subject":{"reference":"Patient/p1"},"entry":[{"resource":` + other + `}]}`,
		"Parameters about me":                         `{"resourceType":"Parameters","subject":{"reference":"Patient/p1"},"parameter":[{"resource":` + other + `}]}`,
		"a type that nobody knows":                    `{"resourceType":"Secret","subject":{"reference":"Patient/p1"},"text":"` + canary + `"}`,
		"a CarePlan":                                  `{"resourceType":"CarePlan","id":"x","title":"` + canary + `","subject":{"reference":"Patient/p2"}}`,
		"a CarePlan with a Patient in it":             `{"resourceType":"CarePlan","id":"x","subject":{"reference":"Patient/p1"},"contained":[` + other + `]}`,
		"a CarePlan with a Patient where none may be": `{"resourceType":"CarePlan","id":"x","subject":{"reference":"Patient/p1"},"activity":[{"detail":` + other + `}]}`,
		"a Patient in an unknown element":             `{"resourceType":"Condition","id":"x","subject":{"reference":"Patient/p1"},"attached":` + other + `}`,
		"a Patient deep in an unknown element":        `{"resourceType":"Condition","id":"x","subject":{"reference":"Patient/p1"},"attached":[[{"a":{"b":[` + other + `]}}]]}`,
		"a Patient in place of a code":                `{"resourceType":"Condition","id":"x","subject":{"reference":"Patient/p1"},"clinicalStatus":` + other + `}`,
		"an Appointment of several":                   `{"resourceType":"Appointment","id":"x","status":"booked","description":"` + canary + `","participant":[{"actor":{"reference":"Patient/p2"},"status":"accepted"}]}`,
		"a Composition that holds theirs":             `{"resourceType":"Composition","id":"x","title":"` + canary + `","subject":{"reference":"Patient/p1"},"section":[{"entry":[{"reference":"Patient/p2"}]}]}`,
		"a questionnaire that they answered":          `{"resourceType":"QuestionnaireResponse","id":"x","subject":{"reference":"Patient/p1"},"source":{"reference":"Patient/p2"},"item":[{"linkId":"1","text":"` + canary + `"}]}`,
		"a Basic":                                     `{"resourceType":"Basic","id":"x",` + text + `,"subject":{"reference":"Patient/p2"}}`,
		"a type of R4":                                `{"resourceType":"ServiceRequest","id":"x",` + text + `,"subject":{"reference":"Patient/p1"}}`,
		"a Claim":                                     `{"resourceType":"Claim","id":"x","use":"` + canary + `","patient":{"reference":"Patient/p1"}}`,
		"two subjects":                                `{"resourceType":"Condition","id":"x",` + text + `,"subject":[{"reference":"Patient/p2"},{"reference":"Patient/p1"}]}`,
	} {
		cases = append(cases, hostile{name + " of another's", collection(me, mine, stranger), nil}, hostile{name + " of another's, first", collection(stranger, me, mine), nil})
	}
	shown, refused := 0, 0
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			body.Store(c.body)
			q := query(t, held)
			r, err := src.Fetch(t.Context(), q)
			if err != nil || c.want != nil {
				refused++
				if c.want == nil || !errors.Is(err, c.want) {
					t.Errorf("got %v, want %v", err, c.want)
				}
				return
			}
			p, err := merge.Prepare(merge.Request{Base: "https://broker.example/fhir", CodeBase: "https://mycarerecord.example", Handle: "h", IDKey: []byte("k"), Now: time.Now(), Subject: q.Subject},
				merge.Rules{Permitted: record.AllSections, TellCounts: true}, merge.Reply{Custodian: record.Custodian{Key: "gp", Kind: record.KindGP}, Base: r.Base, Entries: r.Entries, Parts: r.Parts})
			if err != nil {
				t.Fatalf("the merge refuses it: %v", err)
			}
			mineShown := false
			for _, e := range p.Entries {
				if strings.Contains(string(e.JSON), canary) {
					t.Errorf("something of another person is shown, in a %s", e.Type)
				}
				mineShown = mineShown || strings.Contains(string(e.JSON), `"mine"`)
			}
			if shown += len(p.Entries); !mineShown {
				t.Error("what is mine is not shown")
			}
			if p.Status.State != record.ReturnedInPart || p.Counts.Sum() != p.Counts.Received {
				t.Errorf("state %s, counts %+v", p.Status.State, p.Counts)
			}
		})
	}
	t.Logf("%d hostile answers: %d refused, %d resources of the others shown, none of them another person's", len(cases), refused, shown)
}

// A small answer that becomes a large one in conversion ends at the cap, and takes no more memory than it asked for.
func TestConversionKeepsToTheCap(t *testing.T) {
	at := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		fhir(w)
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = z.Write([]byte(collection(me, `{"resourceType":"Condition","id":"x","subject":{"reference":"Patient/p1"},"y":[`+strings.Repeat(`{"a":1},`, 200_000)+`1]}`)))
		_ = z.Close()
	})
	q := query(t, held) // 4 MiB
	took := int64(0)
	q.Limits.Take = func(n int64) bool {
		took += n
		return true
	}
	if _, err := source(t, settings(at)).Fetch(t.Context(), q); !errors.Is(err, broker.ErrTooMuch) || took > 2*q.Limits.Bytes {
		t.Errorf("%v after %d bytes", err, took)
	}
}
