package documents_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mycarerecord/mycarerecord/adapters/adaptertest"
	"github.com/mycarerecord/mycarerecord/adapters/documents"
	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/test/simulator"
)

func TestMain(m *testing.M) { os.Exit(verify(m)) }

func verify(m *testing.M) int {
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// Invented people.
const (
	held    = "9990000034"
	unknown = "9990000050"
)

const marker = "MARKER-OF-A-LOCATOR"

func number(t testing.TB, s string) record.NHSNumber {
	t.Helper()
	n, err := record.ParseNHSNumber(s)
	if err != nil {
		t.Fatal("a number of the tests is not valid")
	}
	return n
}

func query(t testing.TB, s string) broker.Query {
	limits := broker.DefaultLimits
	limits.Bytes = 4 << 20
	return broker.Query{Subject: record.Subject{Number: number(t, s), Standing: record.Live, BirthDate: "1950-01-02", Family: "Ashworth"}, RequestID: "request-1", Limits: limits,
		Requester: record.Requester{Kind: record.Professional, User: "555000000001", RoleProfile: "555000000002", Organisation: "X9B01"}}
}

// report is a CDA R2 document about somebody.
func report(nhs, born, text string) []byte {
	id := ""
	if nhs != "" {
		id = `<id root="2.16.840.1.113883.2.1.4.1" extension="` + nhs + `"/>`
	}
	return []byte(`<?xml version="1.0" encoding="UTF-8"?>
<ClinicalDocument xmlns="urn:hl7-org:v3"><id root="7F8A1D6C-0000-4000-8000-000000000001"/>
<code code="819551000000100" codeSystem="2.16.840.1.113883.2.1.3.2.4.15" displayName="Ambulance report"/><title>Ambulance report</title><effectiveTime value="202405011230+01"/>
<confidentialityCode code="N"/><recordTarget><patientRole>` + id + `<patient><name><given>Ann</given><family>Ashworth</family></name><birthTime value="` + born + `"/></patient></patientRole></recordTarget>
<author><assignedAuthor><assignedPerson><name>Farida Quayle</name></assignedPerson><representedOrganization><name>Invented Ambulance</name></representedOrganization></assignedAuthor></author>
<component><structuredBody><component><section><code code="1" codeSystem="2.16.840.1.113883.6.1"/><title>What was found</title><text><paragraph>Pulse &lt; 60 <content styleCode="Bold" revised="delete">asleep</content></paragraph>
<table><tr><td colspan="2">` + text + `</td></tr></table><script>alert(1)</script><linkHtml href="javascript:1">more</linkHtml></text>
<component><section><title>Nothing here</title></section></component></section></component></structuredBody></component></ClinicalDocument>`)
}

// place is a locator and a library that listen.
type place struct {
	*simulator.Locator
	library *simulator.Library
	spine   *simulator.DocumentSpine // nil if the library is asked itself
	locator string
	holder  string
	hosts   *hits
}

// hits counts what reached a host that is not configured, and what credentials it saw.
type hits struct {
	mu     sync.Mutex
	n      int
	tokens int
	url    string
}

func elsewhere(t testing.TB) *hits {
	h := &hits{}
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.n++; r.Header.Get("Authorization") != "" {
			h.tokens++
		}
	}))
	t.Cleanup(s.Close)
	h.url = s.URL
	return h
}

func newPlace(t testing.TB, change ...func(*simulator.LocatorConfig, *simulator.LibraryConfig)) place {
	t.Helper()
	p := place{hosts: elsewhere(t)}
	lc := simulator.LibraryConfig{Documents: map[string]simulator.Stored{"plan.pdf": {Body: []byte("%PDF-1.7 a plan"), Type: "application/pdf"},
		"report.xml": {Body: report(held, "19500102", marker), Type: "text/xml; charset=utf-8"}}, PageSize: 3}
	cfg := simulator.LocatorConfig{PageSize: 3}
	listen := func(h http.Handler) string { return serve(t, h) }
	var later http.Handler
	p.holder = listen(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { later.ServeHTTP(w, r) }))
	var list, registry []simulator.Pointer
	for i := range 7 {
		list = append(list, simulator.Pointer{ID: fmt.Sprintf("X9C01-%d", i), Custodian: "X9C01", URL: p.holder + "/documents/plan.pdf", ContentType: "application/pdf",
			Date: fmt.Sprintf("2024-03-0%dT10:00:00Z", i+1), Title: marker})
		registry = append(registry, simulator.Pointer{ID: fmt.Sprintf("r-%d", i), Custodian: "X9F01", URL: "Binary/plan.pdf", ContentType: "application/pdf", Date: fmt.Sprintf("2024-03-0%dT10:00:00Z", i+1)})
	}
	list = append(list, simulator.Pointer{ID: "X9C01-report", Custodian: "X9C01", URL: p.holder + "/documents/report.xml", ContentType: "application/xml", Date: "2024-05-01T12:30:00Z"},
		simulator.Pointer{ID: "X9Z01-1", Custodian: "X9Z01", URL: "https://elsewhere.invalid/1", Date: "2024-05-01T12:30:00Z", Title: "of another trust"})
	cfg.People, lc.People = map[string][]simulator.Pointer{held: list}, map[string][]simulator.Pointer{held: registry}
	for _, f := range change {
		f(&cfg, &lc)
	}
	p.library, p.Locator = simulator.NewLibrary(lc), simulator.NewLocator(cfg)
	later = p.library
	p.locator = listen(p.Locator)
	return p
}

func serve(t testing.TB, h http.Handler) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func secretFile(t testing.TB, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func (p place) settings(t testing.TB) documents.Settings {
	return documents.Settings{Connection: wire.Connection{BaseURL: p.locator + "/record-locator/consumer/FHIR/R4", AllowPlainHTTP: true, BearerFile: secretFile(t, "token")},
		Custodians: []string{"X9C01"}, HolderURL: p.holder, HolderBearerFile: secretFile(t, "library-token")}
}

func (p place) source(t testing.TB, change ...func(*documents.Settings)) *documents.Source {
	t.Helper()
	s := p.settings(t)
	for _, f := range change {
		f(&s)
	}
	src, err := documents.New(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(src.Close)
	return src
}

func (p place) noNumberInAddresses(t *testing.T) {
	t.Helper()
	lines := append(p.Log(), p.library.Log()...)
	if p.spine != nil {
		lines = append(lines, p.spine.Log()...)
	}
	for _, line := range lines {
		if record.HoldsNHSNumber(line) {
			t.Fatal("an NHS number was in an address")
		}
	}
	if p.hosts.n != 0 {
		t.Errorf("%d requests to a host that is not configured", p.hosts.n)
	}
}

// Every fault of design section 9 ends in the state of section 6, at a locator and at a registry.
func TestFaults(t *testing.T) {
	p := newPlace(t)
	outside := []string{marker, p.locator, p.holder, "127.0.0.1", "elsewhere.invalid", simulator.StrangerTag, "library-token"}
	t.Run("nrl", func(t *testing.T) {
		s := p.settings(t)
		adaptertest.Run(t, adaptertest.Kit{
			New: func() (broker.Source, error) { return documents.New(s) },
			SetFault: func(f adaptertest.Fault, after, ms int) error {
				return p.SetFault(simulator.FaultSpec{Fault: simulator.Fault(f), After: after, Ms: ms})
			},
			Requests: func() int { return p.Requests().Record },
			Query:    query(t, held), Unknown: number(t, unknown), Outside: outside,
		})
	})
	t.Run("mhd", func(t *testing.T) {
		s := registry(p.settings(t), p)
		adaptertest.Run(t, adaptertest.Kit{
			New: func() (broker.Source, error) { return documents.New(s) },
			SetFault: func(f adaptertest.Fault, after, ms int) error {
				return p.library.SetFault(simulator.FaultSpec{Fault: simulator.Fault(f), After: after, Ms: ms})
			},
			Requests: func() int { return p.library.Requests().Record },
			Query:    query(t, held), Unknown: number(t, unknown), Outside: outside,
		})
	})
	p.noNumberInAddresses(t)
}

// registry makes settings of IHE MHD.
func registry(s documents.Settings, p place) documents.Settings {
	s.Locator, s.BaseURL, s.BearerFile, s.HolderURL, s.HolderBearerFile, s.Custodians = documents.LocatorMHD, p.holder+"/fhir", s.HolderBearerFile, "", "", nil
	return s
}

func TestCheckFindsNothingWrong(t *testing.T) {
	p := newPlace(t)
	for name, s := range map[string]documents.Settings{"nrl": p.settings(t), "mhd": registry(p.settings(t), p)} {
		src, err := documents.New(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := adaptertest.Check(t.Context(), src, query(t, held)); len(got) > 0 {
			t.Errorf("%s: %v", name, got)
		}
		src.Close()
	}
	p.noNumberInAddresses(t)
}

func prepared(t *testing.T, reply broker.Reply, opens func(string) bool) merge.Prepared {
	t.Helper()
	p, err := merge.Prepare(merge.Request{Base: "https://broker.example/fhir", CodeBase: "https://mycarerecord.example", Handle: "handle", Now: time.Now(), IDKey: []byte("k"),
		Subject: query(t, held).Subject}, merge.Rules{Permitted: record.AllSections, TellCounts: true, DocumentAddress: func(d merge.Document) string {
		if !opens(d.Address) {
			return ""
		}
		return "https://broker.example/fhir/Binary/mh-1?ctx=" + d.Address
	}}, merge.Reply{Custodian: record.Custodian{Key: "mh", ODS: "X9C01", Kind: record.KindMentalHealth}, Base: reply.Base, Entries: reply.Entries, Parts: reply.Parts, Adapter: reply.Adapter})
	if err != nil {
		t.Fatalf("the merge refuses it: %v", err)
	}
	return p
}

// A locator's pointers are listed as they are, and what can be read of the newest documents beside them, in sections.
func TestRecord(t *testing.T) {
	p := newPlace(t)
	src := p.source(t, func(s *documents.Settings) { s.Read = 2 })
	reply, err := src.Fetch(t.Context(), query(t, held))
	if err != nil {
		t.Fatal(err)
	}
	m := prepared(t, reply, src.Opens)
	if len(reply.Parts) > 0 || m.Counts.Shown != 1+8+1 || m.Status.State != record.Returned || m.Dangling != 0 || len(reply.Conversions) != 1 {
		t.Errorf("%+v, %s, %d lead nowhere, parts %v, %v", m.Counts, m.Status.State, m.Dangling, reply.Parts, reply.Conversions)
	}
	text := ""
	for _, e := range m.Entries {
		if e.Type == "Composition" {
			text = string(e.JSON)
		}
	}
	for _, want := range []string{`"title":"Ambulance report"`, `"date":"2024-05-01T12:30:00+01:00"`, `"display":"Farida Quayle, Invented Ambulance"`, `"code":"819551000000100","display":"Ambulance report","system":"http://snomed.info/sct"`,
		`"title":"What was found"`, `Pulse &lt; 60 [deleted: <span>asleep</span>]`, `<td colspan=\"2\">` + marker + `</td>`, `"title":"Nothing here"`, `"status":"final"`, `"value":"urn:uuid:7f8a1d6c-0000-4000-8000-000000000001"`,
		`"reference":"DocumentReference/mh-X9C01-report"`, `"confidentiality":"N"`, `more`} {
		if !strings.Contains(text, want) {
			t.Errorf("the Composition lacks %s", want)
		}
	}
	for _, bad := range []string{"alert(", "javascript", "<script", "styleCode", "href"} {
		if strings.Contains(text, bad) {
			t.Errorf("the Composition holds %s", bad)
		}
	}
	if strings.Contains(text, "X9Z01") || p.library.Requests().Record != 1 {
		t.Error("more was read than could be laid out")
	}
	p.noNumberInAddresses(t)
}

// A pointer of another custodian is dropped and counted, and an address that leads elsewhere is left out, also where nothing of the person's is there.
func TestOtherCustodians(t *testing.T) {
	p := newPlace(t, func(c *simulator.LocatorConfig, _ *simulator.LibraryConfig) { c.Lists = true })
	src := p.source(t)
	reply, err := src.Fetch(t.Context(), query(t, held))
	if err != nil {
		t.Fatal(err)
	}
	if len(reply.Parts) != 1 || reply.Parts[0] != (record.Part{Reason: record.PartOtherCustodian, Count: 1}) {
		t.Errorf("parts %v", reply.Parts)
	}
	for _, e := range prepared(t, reply, src.Opens).Entries {
		if strings.Contains(string(e.JSON), "another trust") || strings.Contains(string(e.JSON), "elsewhere.invalid") {
			t.Error("a pointer of another custodian is shown")
		}
	}
	src = p.source(t, func(s *documents.Settings) { s.Custodians = []string{"X9C01", "X9Z01"} })
	if reply, err = src.Fetch(t.Context(), query(t, held)); err != nil {
		t.Fatal(err)
	}
	absent := 0
	for _, e := range prepared(t, reply, src.Opens).Entries {
		if strings.Contains(string(e.JSON), "elsewhere.invalid") {
			t.Error("an address that cannot be asked is shown")
		}
		absent += strings.Count(string(e.JSON), `"_url":{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason","valueCode":"unsupported"}]}`)
	}
	if absent == 0 || len(reply.Conversions) != 1 {
		t.Error("that an address is left out is not said")
	}
	src = p.source(t, func(s *documents.Settings) { s.Custodians = []string{"X9Y01"} })
	if _, err = src.Fetch(t.Context(), query(t, held)); !errors.Is(err, broker.ErrNoRecord) {
		t.Errorf("a locator that lists others' pointers only: got %v", err)
	}
}

// The holder in trouble costs the documents, and never the pointers to them; and each fault of a document that is opened ends in its state.
func TestHolderFaults(t *testing.T) {
	t.Run("asked itself", func(t *testing.T) {
		p := newPlace(t)
		holderFaults(t, p, p.source(t, func(s *documents.Settings) { s.Read = 1 }), p.holder+"/documents/report.xml")
	})
	t.Run("behind the proxy", func(t *testing.T) {
		p, change := proxied(t, func(s string) string { return strings.Replace(s, "http://", "ssp://", 1) })
		holderFaults(t, p, p.source(t, change, func(s *documents.Settings) { s.Read = 1 }), strings.Replace(p.holder, "http://", "ssp://", 1)+"/documents/report.xml")
	})
}

func holderFaults(t *testing.T, p place, src *documents.Source, address string) {
	for _, c := range []struct {
		fault simulator.Fault
		opens error // when it is opened
		part  string
		ms    int
	}{
		{simulator.FaultNone, nil, "", 0}, {simulator.FaultSlow, nil, "", 20},
		{simulator.FaultNoRecord, broker.ErrNoRecord, record.PartSourceDown, 0}, {simulator.FaultNoConsent, broker.ErrWithheld, record.PartSourceDown, 0},
		{simulator.FaultHang, broker.ErrTimedOut, record.PartSourceDown, 0}, {simulator.FaultTrickle, broker.ErrTimedOut, record.PartSourceDown, 10},
		{simulator.FaultDown, broker.ErrUnavailable, record.PartSourceDown, 0}, {simulator.FaultThrottle429, broker.ErrThrottled, record.PartSourceDown, 0},
		{simulator.FaultError500, broker.ErrMalformed, record.PartSourceDown, 0}, {simulator.FaultGarbage, broker.ErrMalformed, record.PartSourceDown, 0},
		{simulator.FaultTruncated, broker.ErrMalformed, record.PartSourceDown, 0}, {simulator.FaultHuge, broker.ErrTooMuch, record.PartTooLong, 0},
		{simulator.FaultGzipBomb, broker.ErrTooMuch, record.PartTooLong, 0}, {simulator.FaultDeep, broker.ErrTooMuch, record.PartSourceDown, 0},
		{simulator.FaultDuplicateKeys, broker.ErrMalformed, record.PartSourceDown, 0}, {simulator.FaultBadUTF8, broker.ErrMalformed, record.PartSourceDown, 0},
		{simulator.FaultPageLoop, broker.ErrElsewhere, record.PartSourceDown, 0}, {simulator.FaultPageElsewhere, broker.ErrElsewhere, record.PartSourceDown, 0},
		{simulator.FaultUnauthorised, broker.ErrUnauthorised, record.PartSourceDown, 0}, {simulator.FaultWrongPatient, broker.ErrWrongSubject, record.PartStrangers, 0},
		{simulator.FaultMixedPatients, broker.ErrWrongSubject, record.PartStrangers, 0},
	} {
		t.Run(string(c.fault), func(t *testing.T) {
			if err := p.library.SetFault(simulator.FaultSpec{Fault: c.fault, Ms: c.ms}); err != nil {
				t.Fatal(err)
			}
			wait := 5 * time.Second
			if errors.Is(c.opens, broker.ErrTimedOut) {
				wait = time.Second // the pointers come before it, however busy the machine is
			}
			ctx, cancel := contextWith(t, wait)
			defer cancel()
			reply, err := src.Fetch(ctx, query(t, held))
			if err != nil {
				t.Fatalf("the pointers are lost: %v", err)
			}
			m := prepared(t, reply, src.Opens)
			pointers := 0
			for _, e := range m.Entries {
				if strings.Contains(string(e.JSON), simulator.StrangerTag) {
					t.Error("something of another person is shown")
				}
				if e.Type == "DocumentReference" {
					pointers++
				}
			}
			want, state := 8, record.ReturnedInPart
			if c.part == record.PartStrangers {
				want = 7
				if m.Counts.Strangers != 1 || !m.Alarm {
					t.Errorf("%+v, alarm %v", m.Counts, m.Alarm)
				}
			}
			if c.part == "" {
				state = record.Returned
			} else if len(reply.Parts) == 0 || reply.Parts[0].Reason != c.part || reply.Parts[0].Count != 1 {
				t.Errorf("parts %v", reply.Parts)
			}
			if pointers != want || m.Status.State != state {
				t.Errorf("%d pointers, %s", pointers, m.Status.State)
			}
			again, cancel := contextWith(t, wait)
			defer cancel()
			d, err := src.Document(again, query(t, held), address)
			if !errors.Is(err, c.opens) || c.opens == nil && !bytes.Equal(d.Bytes, report(held, "19500102", marker)) || c.opens != nil && len(d.Bytes) > 0 {
				t.Errorf("opening it: got %v, want %v", err, c.opens)
			}
			if err != nil && strings.ContainsAny(err.Error(), "9<:/") {
				t.Error("the error holds something from outside")
			}
		})
	}
	p.noNumberInAddresses(t)
}

// the caps of a document that is opened, and a caller who leaves.
func TestDocumentCaps(t *testing.T) {
	p := newPlace(t)
	src := p.source(t)
	at := p.holder + "/documents/plan.pdf"
	for name, change := range map[string]func(*broker.Limits){
		"bytes": func(l *broker.Limits) { l.Bytes = 10 }, "the request's": func(l *broker.Limits) { l.Take = func(int64) bool { return false } },
	} {
		q := query(t, held)
		change(&q.Limits)
		if _, err := src.Document(t.Context(), q, at); !errors.Is(err, broker.ErrTooMuch) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	d, err := src.Document(t.Context(), query(t, held), at)
	if err != nil || string(d.Bytes) != "%PDF-1.7 a plan" || d.Type != "application/pdf" {
		t.Errorf("%q of %s, %v", d.Bytes, d.Type, err)
	}
	mhd, err := documents.New(registry(p.settings(t), p))
	if err != nil {
		t.Fatal(err)
	}
	defer mhd.Close()
	d, err = mhd.Document(t.Context(), query(t, held), p.holder+"/fhir/Binary/plan.pdf")
	if err != nil || string(d.Bytes) != "%PDF-1.7 a plan" || d.Type != "application/pdf" {
		t.Errorf("in a Binary: %q of %s, %v", d.Bytes, d.Type, err)
	}
}

// T-08: nothing but the configured holder is ever asked, whatever an address looks like, and no credentials go anywhere else.
func TestAddresses(t *testing.T) {
	p := newPlace(t)
	src := p.source(t)
	host := strings.TrimPrefix(p.holder, "http://")
	other := strings.TrimPrefix(p.hosts.url, "http://")
	for _, at := range []string{"", "/documents/plan.pdf", "documents/plan.pdf", "//" + other + "/1", p.hosts.url, p.hosts.url + "/documents/plan.pdf", "https://" + host + "/documents/plan.pdf", "ssp://" + host + "/documents/plan.pdf",
		"file:///etc/passwd", "gopher://" + other, "http://user@" + host + "/documents/plan.pdf", "http://" + host + "@" + other + "/1", "http://" + host + ".attacker.invalid/1", "http://" + host + "\\@" + other,
		p.holder + "/documents/../../x", p.holder + "/documents/%2e%2e/x", p.holder + "/documents//plan.pdf", p.holder + "/documents/%2fplan.pdf", p.holder + "/documents/plan.pdf#x", p.holder + "/documents/plan.pdf\r\nHost: " + other,
		p.holder + "/documents/" + held + ".pdf", p.holder + "/documents/plan.pdf?nhs=" + held, "http://[::ffff:127.0.0.1]:1/x", "http://2130706433/x", "http://127.1/x", "http://localhost/x", "javascript:alert(1)", "data:text/plain,x",
		strings.ToUpper(p.holder) + "x/documents", "http://" + host + "./documents/plan.pdf", p.holder + ":80/documents/plan.pdf"} {
		if _, err := src.Document(t.Context(), query(t, held), at); !errors.Is(err, broker.ErrElsewhere) {
			t.Errorf("%.20q: got %v", at, err)
		}
		if src.Opens(at) && !strings.Contains(at, held) {
			t.Errorf("%.20q is said to open", at)
		}
	}
	if n := p.library.Requests(); n.Record != 0 || p.hosts.n != 0 || p.hosts.tokens != 0 {
		t.Errorf("%d requests to the holder, %d elsewhere", n.Record, p.hosts.n)
	}
}

// The locator's token goes to the locator, the holder's to the holder.
func TestCredentialsStayApart(t *testing.T) {
	p := newPlace(t)
	var mu sync.Mutex
	seen := map[string]map[string]bool{}
	record := func(of string, next http.Handler) *httptest.Server {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			if seen[of] == nil {
				seen[of] = map[string]bool{}
			}
			seen[of][r.Header.Get("Authorization")] = true
			mu.Unlock()
			next.ServeHTTP(w, r)
		}))
		t.Cleanup(s.Close)
		return s
	}
	l, h := record("locator", p.Locator), record("holder", p.library)
	s := p.settings(t)
	s.BaseURL, s.HolderURL = l.URL+"/record-locator/consumer/FHIR/R4", h.URL
	src, err := documents.New(s)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	if _, err := src.Fetch(t.Context(), query(t, held)); err != nil {
		t.Fatal(err)
	}
	if _, err := src.Document(t.Context(), query(t, held), h.URL+"/documents/plan.pdf"); err != nil {
		t.Fatal(err)
	}
	if len(seen["locator"]) != 1 || !seen["locator"]["Bearer token"] || len(seen["holder"]) != 1 || !seen["holder"]["Bearer library-token"] {
		t.Errorf("%d and %d different credentials", len(seen["locator"]), len(seen["holder"]))
	}
}

// A person has no organisation by which the locator could decide: without one in the settings their request does not go there.
func TestWhoAsks(t *testing.T) {
	p := newPlace(t)
	q := query(t, held)
	q.Requester, q.Purpose = record.Requester{Kind: record.Person, Own: q.Subject.Number}, record.PatientAccess
	if _, err := p.source(t).Fetch(t.Context(), q); !errors.Is(err, broker.ErrWithheld) || p.Requests().Record != 0 {
		t.Errorf("got %v", err)
	}
	if _, err := p.source(t, func(s *documents.Settings) { s.EndUserOrganisation = "X9A01" }).Fetch(t.Context(), q); err != nil {
		t.Error(err)
	}
}
