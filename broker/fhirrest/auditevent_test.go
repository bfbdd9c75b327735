package fhirrest

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/brokertest"
	"github.com/mycarerecord/mycarerecord/broker/grpcapi"
	"github.com/mycarerecord/mycarerecord/broker/policy"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// bothFaces is one real broker behind the gateway and behind AuditService, with a history.
type bothFaces struct {
	*kit
	audit v1.AuditServiceClient
	b     *broker.Broker
}

func newBothFaces(t *testing.T) *bothFaces {
	t.Helper()
	var ledger *audit.Ledger
	k := newKit(t)
	b := brokertest.Open(t, func(c *broker.Config) {
		c.NeutralWait, c.Reserve, c.Minimum, ledger = 250*time.Millisecond, 10*time.Millisecond, 20*time.Millisecond, c.Ledger
		for i := range c.Custodians {
			c.Custodians[i].Timeout = 200 * time.Millisecond
		}
	})
	h := k.h.(*handler)
	h.broker, h.handles = b, b.Handles()
	server := grpcapi.New(grpcapi.Config{Broker: b, Verifier: h.verifier, Policy: policy.Default(), Ledger: ledger})
	listener := bufconn.Listen(1 << 20)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return listener.Dial() }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &bothFaces{k, v1.NewAuditServiceClient(conn), b}
}

var askers = []string{"X9A01", "X9B01", "X9D01"}

// officer is the token of an information-governance officer.
func (f *bothFaces) officer(org string) string {
	return f.token("ed-doctor", map[string]any{"sub": "555000009" + org[3:], "nhsid_useruid": "555000009" + org[3:], "selected_roleid": "555000010109",
		"nhsid_nrbac_roles": []any{map[string]any{"person_roleid": "555000010109", "org_code": org, "role_code": "S8000:G8000:R8024"}}})
}

// live makes a history: whole and streamed accesses, refusals, break-glass, choices, carers, own views.
func (f *bothFaces) live(acts int) {
	rng := rand.New(rand.NewPCG(11, 2))
	all := map[record.Purpose]record.Sections{record.Treatment: record.AllSections, record.UrgentCare: record.AllSections, record.BreakGlass: record.AllSections}
	for i := range acts {
		org := askers[rng.IntN(3)]
		digits := []string{"9990000018", "9990000085", "9990000093"}[rng.IntN(3)]
		req := broker.Request{ID: fmt.Sprintf("act-%d", i), Face: "rest", Operation: "everything", Subject: number(f.T, digits), Purpose: record.Treatment,
			Permission: record.Permission{Kind: record.AskedYes}, Relationship: record.Relationship{Kind: record.Admission}, Arrived: time.Now(),
			Requester: record.Requester{Kind: record.Professional, User: "55500000" + org[3:] + strconv.Itoa(rng.IntN(2)), Name: "Dr Invented", RoleProfile: "555000000200", JobRole: "R8000",
				Organisation: record.ODSCode(org), Client: "epr", Issuer: "i"}, Role: consent.Role{Name: "clinical", Version: "v", Sections: all, RecordsObjections: true}}
		switch rng.IntN(9) {
		case 0:
			req.Purpose, req.Permission, req.BreakGlassReason = record.BreakGlass, record.Permission{}, "unconscious, nobody to ask"
		case 1:
			req.Role.Sections = nil
		case 2:
			req.Purpose = record.UrgentCare
		case 3:
			req.Subject = number(f.T, brokertest.Neutral()["held by nobody"])
		case 4:
			req.Requester = record.Requester{Kind: record.Person, User: "login", Own: req.Subject, Client: "app", Issuer: "i"}
			req.Role, req.Purpose, req.Permission = consent.Role{Name: "person", Version: "v", Sections: map[record.Purpose]record.Sections{record.PatientAccess: record.AllSections}}, record.PatientAccess, record.Permission{Kind: record.PatientSelf}
		case 5:
			o, _, err := f.b.RecordObjection(f.Context(), broker.ObjectionRequest{ID: req.ID, Face: "grpc", Requester: req.Requester, Role: req.Role, Subject: req.Subject, BirthDate: brokertest.AnnBirthDate, Arrived: time.Now()},
				consent.Objection{Scope: consent.ToCustodian, Custodian: "community", Responsible: "self", Method: "form"})
			if err == nil && rng.IntN(2) == 0 {
				_, _, err = f.b.WithdrawObjection(f.Context(), broker.ObjectionRequest{ID: req.ID, Face: "grpc", Requester: req.Requester, Role: req.Role, Subject: req.Subject, BirthDate: brokertest.AnnBirthDate, Arrived: time.Now()}, o.ID)
			}
			if err != nil {
				f.Fatal(err)
			}
			continue
		}
		res, _ := f.b.Retrieve(f.Context(), req) // refusals are part of it
		res.Done()
	}
}

// twice is one question, as each face is asked it.
type twice struct {
	grpc *v1.AskRequest
	rest url.Values
	org  string
}

func (f *bothFaces) ask(rng *rand.Rand, began time.Time) twice {
	a := twice{grpc: &v1.AskRequest{Reason: "an inquiry", Limit: 1000}, rest: url.Values{"_count": {"1000"}}, org: askers[rng.IntN(3)]}
	some := func(n int) bool { return rng.IntN(n) == 0 }
	kinds := []audit.QuestionKind{audit.WhoLooked, audit.ByUser, audit.ByStaff, audit.OfRecords, audit.Refusals, audit.Overrides, audit.ConsentChanges, audit.LedgerReads}
	n := rng.IntN(len(kinds))
	kind := kinds[n]
	a.grpc.Question = v1.Question(n + 1)
	if some(2) || n > 3 { // else it follows from what is given
		a.rest.Set("_query", string(kind))
	}
	if kind == audit.WhoLooked || n > 3 && some(2) {
		digits := []string{"9990000018", "9990000085", "9990000093", "9990000077", "9990000107"}[rng.IntN(5)]
		a.grpc.NhsNumber = digits
		a.rest.Set("patient.identifier", record.NHSNumberSystem+"|"+digits)
	}
	if kind == audit.ByUser || kind != audit.ByStaff && n != 3 && some(5) {
		user := "55500000" + askers[rng.IntN(3)][3:] + strconv.Itoa(rng.IntN(2))
		a.grpc.User = user
		a.rest.Set("agent:identifier", systemSDSUser+"|"+user)
	} else if kind == audit.ByStaff || n > 3 && some(5) {
		org := askers[rng.IntN(3)]
		a.grpc.Organisation = org
		a.rest.Set("agent:identifier", record.ODSSystem+"|"+org)
	}
	if kind == audit.OfRecords || kind != audit.LedgerReads && some(5) {
		org := askers[rng.IntN(3)]
		a.grpc.Holder = org
		a.rest.Set("entity:identifier", record.ODSSystem+"|"+org)
	}
	if some(3) {
		day := began.In(record.London).Format(time.DateOnly)
		a.grpc.From = day
		a.rest.Add("date", "ge"+day)
	}
	if some(3) {
		day := began.In(record.London).AddDate(0, 0, rng.IntN(3)-1).Format(time.DateOnly)
		if a.grpc.From == "" || day >= a.grpc.From {
			a.grpc.Until = day
			a.rest.Add("date", "le"+day)
		}
	}
	if kind.OfAccesses() && some(3) {
		code := []string{"0", "4", "8"}[rng.IntN(3)]
		a.rest.Set("outcome", code)
		a.grpc.Outcomes = map[string][]v1.AccessOutcome{"0": {1, 2}, "4": {3, 4}, "8": {5}}[code]
	}
	if kind.OfAccesses() && some(3) {
		p := v1.Purpose(1 + rng.IntN(3))
		a.grpc.Purposes = []v1.Purpose{p}
		a.rest.Set("purpose", strings.TrimPrefix(p.String(), "PURPOSE_"))
	}
	return a
}

// Both faces give the same answer to the same question, and each AuditEvent has the slices of the pattern that it claims. The promise is of 1,000 questions; MCR_TORTURE asks them.
func TestAuditEventsAgreeWithTheAuditService(t *testing.T) {
	questions, acts := 120, 60
	switch {
	case os.Getenv("MCR_TORTURE") != "":
		questions, acts = 1000, 150
	case testing.Short():
		questions = 60
	}
	f := newBothFaces(t)
	began := time.Now()
	f.live(acts)
	rng := rand.New(rand.NewPCG(12, 3))
	events, empty := 0, 0
	profiles := map[string]int{}
	byID := map[string]json.RawMessage{} // each event once, by its officer's organisation and its id
	for i := range questions {
		a := f.ask(rng, began)
		token := f.officer(a.org)
		ctx := metadata.NewOutgoingContext(t.Context(), metadata.Pairs("authorization", "Bearer "+token, "x-request-id", fmt.Sprintf("q-%d", i)))
		want, err := f.audit.Ask(ctx, a.grpc)
		if err != nil {
			t.Fatalf("question %d, %v: %v", i, a.grpc.GetQuestion(), err)
		}
		resp := f.post("/fhir/AuditEvent/_search", formType, a.rest.Encode(), "Authorization: Bearer "+token, "X-Audit-Reason: an inquiry")
		text := bodyOf(t, resp)
		var bundle struct {
			Link  []struct{ Relation, URL string }
			Entry []struct {
				Search   struct{ Mode string }
				Resource json.RawMessage
			}
		}
		if resp.StatusCode != 200 || json.Unmarshal([]byte(text), &bundle) != nil {
			t.Fatalf("question %d, %v: %d", i, a.grpc.GetQuestion(), resp.StatusCode)
		}
		for _, l := range bundle.Link {
			if record.HoldsNHSNumber(l.URL) {
				t.Errorf("question %d: a link holds an NHS number", i)
			}
		}
		var got, rows []string
		for _, e := range bundle.Entry {
			if e.Search.Mode != "match" {
				continue
			}
			var id struct{ ID string }
			if json.Unmarshal(e.Resource, &id) != nil {
				t.Fatal("an entry cannot be read")
			}
			if position(id.ID) < want.GetReceipt().GetPosition() { // what the first question itself left behind is news to the second alone
				got = append(got, id.ID)
			}
			pattern, trouble := balpPattern(e.Resource)
			if trouble != "" {
				t.Errorf("question %d, %s: %s", i, id.ID, trouble)
			}
			profiles[pattern]++
			byID[a.org+" "+id.ID] = e.Resource
		}
		for _, r := range want.GetRows() {
			rows = append(rows, auditEventID(r.GetEntry().GetPosition()))
		}
		if !slices.Equal(got, rows) {
			t.Errorf("question %d, %v: %d events and %d rows, or others: %v and %v", i, a.grpc.GetQuestion(), len(got), len(rows), got, rows)
		}
		if events += len(got); len(got) == 0 {
			empty++
		}
	}
	t.Logf("%d questions, %d without an answer, %d events, by pattern %v, %d apart", questions, empty, events, profiles, len(byID))
	f.readEach(byID)
	f.keep(byID)
	for _, p := range []string{"PatientQuery", "PatientCreate", "PatientUpdate", "Query", "an access that was not answered", "break-glass"} {
		if profiles[p] == 0 && !testing.Short() {
			t.Errorf("no event of the pattern %q came", p)
		}
	}
	if events < 2*questions || empty > questions*3/4 {
		t.Error("too little was asked to show anything")
	}
}

// readEach reads each event by its id: it is what the search showed, to that officer; and another officer reads it just if a search would show it to them.
func (f *bothFaces) readEach(byID map[string]json.RawMessage) {
	f.Helper()
	hidden := 0
	for at, shown := range byID {
		org, id, _ := strings.Cut(at, " ")
		var of struct{ ResourceType string }
		if json.Unmarshal(shown, &of) != nil || of.ResourceType != "AuditEvent" {
			f.Fatal("an event is none")
		}
		resp := f.get("/fhir/AuditEvent/"+id, "Authorization: Bearer "+f.officer(org), "X-Audit-Reason: an inquiry")
		if text := bodyOf(f.T, resp); resp.StatusCode != 200 || resp.Header.Get("X-Access-Receipt") == "" || text != string(shown) {
			f.Errorf("%s, read by %s: %d, or another event than the search shows", id, org, resp.StatusCode)
		}
		if hidden >= 60 {
			continue
		}
		for _, other := range askers {
			if _, sees := byID[other+" "+id]; sees {
				continue
			}
			hidden++
			resp := f.get("/fhir/AuditEvent/"+id, "Authorization: Bearer "+f.officer(other), "X-Audit-Reason: an inquiry")
			text := bodyOf(f.T, resp)
			if resp.StatusCode == 200 && !slices.Contains(f.seen(other, shown), id) {
				f.Errorf("%s is shown to %s, whom no search shows it", id, other)
			}
			if resp.StatusCode != 200 && (resp.StatusCode != 404 || record.HoldsNHSNumber(text) || strings.Contains(text, id)) {
				f.Errorf("%s, refused to %s: %d, or it tells of it", id, other, resp.StatusCode)
			}
		}
	}
	if hidden == 0 {
		f.Error("every officer was shown every event: the refusals were not tried")
	}
}

// seen are the events that a search shows an officer about the person of an event; about what names nobody, of lists that they were asked for.
func (f *bothFaces) seen(org string, event json.RawMessage) (ids []string) {
	var e struct {
		Entity []struct {
			What struct {
				Type       string
				Identifier struct{ Value string }
			}
		}
	}
	if json.Unmarshal(event, &e) != nil {
		f.Fatal("an event is none")
	}
	person := ""
	for _, x := range e.Entity {
		if x.What.Type == "Patient" {
			person = x.What.Identifier.Value
		}
	}
	for _, question := range []string{"who-looked", "consent-changes", "ledger-reads", "break-glass", "refusals"} {
		form := url.Values{"_query": {question}, "_count": {"1000"}}
		if person != "" {
			form.Set("patient.identifier", record.NHSNumberSystem+"|"+person)
		} else if question == "who-looked" {
			continue
		}
		resp := f.post("/fhir/AuditEvent/_search", formType, form.Encode(), "Authorization: Bearer "+f.officer(org), "X-Audit-Reason: an inquiry")
		var bundle struct {
			Entry []struct{ Resource struct{ ID string } }
		}
		if json.Unmarshal([]byte(bodyOf(f.T, resp)), &bundle) != nil {
			f.Fatal("an answer is none")
		}
		for _, x := range bundle.Entry {
			ids = append(ids, x.Resource.ID)
		}
	}
	return ids
}

// keep writes each event on a line of its own to the file that MCR_EVENTS names, for validators that are no part of this module: test/validate asks for them.
func (f *bothFaces) keep(byID map[string]json.RawMessage) {
	f.Helper()
	path := os.Getenv("MCR_EVENTS")
	if path == "" {
		return
	}
	var b strings.Builder
	for _, at := range slices.Sorted(maps.Keys(byID)) {
		b.Write(byID[at])
		b.WriteByte('\n')
	}
	if os.WriteFile(path, []byte(b.String()), 0o600) != nil {
		f.Error("the events cannot be written")
	}
}

func position(id string) uint64 {
	n, err := strconv.ParseUint(strings.TrimPrefix(id, "entry-"), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// What an address may hold, and what is refused.
func TestAuditEventSearchRefusals(t *testing.T) {
	f := newBothFaces(t)
	f.live(12)
	officer := "Authorization: Bearer " + f.officer("X9A01")
	reason := "X-Audit-Reason: an inquiry"
	handle := f.h.(*handler).handles.Seal(number(t, "9990000018"))
	for name, c := range map[string]struct {
		target string
		more   []string
		status int
	}{
		"by handle":             {"/fhir/AuditEvent?patient=" + handle, []string{officer, reason}, 200},
		"without a reason":      {"/fhir/AuditEvent?patient=" + handle, []string{officer}, 400},
		"a number in it":        {"/fhir/AuditEvent?patient.identifier=" + url.QueryEscape(record.NHSNumberSystem+"|9990000018"), []string{officer, reason}, 400},
		"a reason in it":        {"/fhir/AuditEvent?_query=refusals&reason=x", []string{officer, reason}, 400},
		"nothing asked":         {"/fhir/AuditEvent", []string{officer, reason}, 400},
		"no such question":      {"/fhir/AuditEvent?_query=everything", []string{officer, reason}, 400},
		"no such outcome":       {"/fhir/AuditEvent?_query=refusals&outcome=12", []string{officer, reason}, 400},
		"no such purpose":       {"/fhir/AuditEvent?_query=refusals&purpose=HRESCH", []string{officer, reason}, 400},
		"no such date":          {"/fhir/AuditEvent?_query=refusals&date=ap2026", []string{officer, reason}, 400},
		"no time between":       {"/fhir/AuditEvent?_query=refusals&date=ge2026&date=lt2025", []string{officer, reason}, 400},
		"a made-up page":        {"/fhir/AuditEvent?page=AAAA", []string{officer, reason}, 400},
		"a page and more":       {"/fhir/AuditEvent?page=AAAA&_query=refusals", []string{officer, reason}, 400},
		"a clinician":           {"/fhir/AuditEvent?_query=refusals", []string{reason}, 403},
		"one of no id":          {"/fhir/AuditEvent/entry-x", []string{officer, reason}, 404},
		"one of another form":   {"/fhir/AuditEvent/entry-007", []string{officer, reason}, 404},
		"one that is not there": {"/fhir/AuditEvent/entry-9999999", []string{officer, reason}, 404},
		"one that is no event":  {"/fhir/AuditEvent/entry-0", []string{officer, reason}, 404}, // keys
		"one without a reason":  {"/fhir/AuditEvent/entry-1", []string{officer}, 400},
		"one, a clinician":      {"/fhir/AuditEvent/entry-1", []string{reason}, 403},
		"the person, of theirs": {"/fhir/AuditEvent?_query=who-looked", []string{"Authorization: Bearer " + f.token("patient", nil), "-X-Purpose-Of-Use", "-X-Permission-To-View"}, 200},
	} {
		resp := f.get(c.target, c.more...)
		if text := bodyOf(t, resp); resp.StatusCode != c.status || resp.StatusCode != 200 && strings.Contains(text, "9990000018") {
			t.Errorf("%s: %d, want %d", name, resp.StatusCode, c.status)
		}
	}
	// A person reads what is about them, and nothing else.
	person := []string{"Authorization: Bearer " + f.token("patient", nil), "-X-Purpose-Of-Use", "-X-Permission-To-View"}
	own, others := 0, 0
	for id := range uint64(60) {
		resp := f.get("/fhir/AuditEvent/"+auditEventID(id), person...)
		switch text := bodyOf(t, resp); {
		case resp.StatusCode == 200 && strings.Contains(text, `"value":"9990000018"`):
			own++
			if strings.Contains(text, "9990000085") || strings.Contains(text, "9990000093") {
				t.Errorf("event %d tells a person of another", id)
			}
		case resp.StatusCode == 404:
			others++
		default:
			t.Errorf("event %d, read by a person: %d", id, resp.StatusCode)
		}
	}
	if own == 0 || others == 0 {
		t.Errorf("a person read %d events, and %d not", own, others)
	}
	// Pages: the link next holds the question, for its asker alone.
	seen := map[string]bool{}
	next := "/fhir/AuditEvent?_query=of-records&_count=2&entity:identifier=" + url.QueryEscape(record.ODSSystem+"|X9A01")
	for pages := 0; next != ""; pages++ {
		resp := f.get(next, officer, reason)
		var r struct {
			Total *int
			Link  []struct{ Relation, URL string }
			Entry []struct {
				Resource struct{ ResourceType, ID string }
			}
		}
		if err := json.Unmarshal([]byte(bodyOf(t, resp)), &r); err != nil {
			t.Fatal(err)
		}
		if next = ""; resp.StatusCode != 200 || pages > 20 {
			t.Fatalf("page %d: %d", pages, resp.StatusCode)
		}
		for _, e := range r.Entry {
			if seen[e.Resource.ID] && e.Resource.ResourceType == "AuditEvent" {
				t.Errorf("page %d: an event comes twice", pages)
			}
			seen[e.Resource.ID] = true
		}
		for _, l := range r.Link {
			if l.Relation == "next" {
				next = strings.TrimPrefix(l.URL, strings.TrimSuffix(base, "/fhir"))
				if r.Total != nil {
					t.Error("a page tells a total")
				}
				if other := f.get(next, "Authorization: Bearer "+f.officer("X9D01"), reason); other.StatusCode != 400 {
					t.Errorf("another officer follows the link: %d", other.StatusCode)
				}
			}
		}
	}
	if len(seen) < 4 {
		t.Errorf("%d events over all pages", len(seen))
	}
}
