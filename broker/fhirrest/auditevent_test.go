package fhirrest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
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
			profile, trouble := balpSlices(e.Resource)
			if trouble != "" {
				t.Errorf("question %d, %s: %s", i, id.ID, trouble)
			}
			profiles[profile]++
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
	t.Logf("%d questions, %d without an answer, %d events, by profile %v", questions, empty, events, profiles)
	for _, p := range []string{"PatientQuery", "PatientCreate", ""} {
		if profiles[p] == 0 {
			t.Errorf("no event of the profile %q came", p)
		}
	}
	if events < 2*questions || empty > questions*3/4 {
		t.Error("too little was asked to show anything")
	}
}

func position(id string) uint64 {
	n, err := strconv.ParseUint(strings.TrimPrefix(id, "entry-"), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// balpSlices checks an AuditEvent against the profile that it claims, written here from the profiles' own text (IHE BALP 1.1): what each slice must have.
func balpSlices(text []byte) (profile, trouble string) {
	type concept struct{ Coding []coding }
	var e struct {
		Meta     struct{ Profile []string }
		Type     coding
		Subtype  []coding
		Action   string
		Recorded time.Time
		Outcome  string
		Agent    []struct {
			Type      concept
			Who       map[string]any
			Requestor *bool
			Network   map[string]any
			Media     any
		}
		Source struct{ Observer map[string]any }
		Entity []struct {
			What   map[string]any
			Type   coding
			Role   coding
			Query  string
			Detail []any
			Name   string
		}
	}
	if err := json.Unmarshal(text, &e); err != nil {
		return "", "it cannot be read"
	}
	if e.Recorded.IsZero() || len(e.Agent) == 0 || e.Source.Observer == nil || e.Type.Code == "" {
		return "", "R4 needs type, recorded, an agent and a source"
	}
	if len(e.Meta.Profile) == 0 {
		return "", ""
	}
	profile = strings.TrimPrefix(e.Meta.Profile[0], profileBALP)
	subtypes := map[string][]string{"Query": {"search", "search-type", "search-system"}, "PatientQuery": {"search", "search-type", "search-system"}, "PatientCreate": {"create"}, "PatientUpdate": {"update"}}[profile]
	action := map[string]string{"Query": "E", "PatientQuery": "E", "PatientCreate": "C", "PatientUpdate": "U"}[profile]
	if e.Type.Code != "rest" || e.Action != action || e.Outcome != "0" || !slices.ContainsFunc(e.Subtype, func(c coding) bool { return slices.Contains(subtypes, c.Code) && c.System == systemInteraction }) {
		return profile, "type, subtype, action or outcome are not those of " + profile
	}
	count := map[string]int{}
	for _, a := range e.Agent {
		code := ""
		if len(a.Type.Coding) == 1 {
			code = a.Type.Coding[0].Code
		}
		count["agent "+code]++
		if a.Who == nil || a.Requestor == nil || a.Media != nil {
			return profile, "an agent has no who or no requestor, or has media"
		}
		if (code == "110153" || code == "110152") != (a.Network != nil) {
			return profile, "systems have a network and users have none"
		}
		if (code == "IRCP" || code == "AUT") != *a.Requestor {
			return profile, "the user is the requestor"
		}
	}
	user := "IRCP"
	if strings.HasPrefix(profile, "PatientC") || strings.HasPrefix(profile, "PatientU") {
		user = "AUT"
	}
	if count["agent 110153"] != 1 || count["agent 110152"] != 1 || count["agent "+user] != 1 {
		return profile, "client, server and user are not there once each"
	}
	for _, x := range e.Entity {
		switch {
		case x.Type.System == systemBALPEntity:
			id, _ := x.What["identifier"].(map[string]any)
			if id["value"] == nil {
				return profile, "the transaction has no value"
			}
			count["transaction"]++
		case x.Type.Code == "2" && x.Role.Code == "24":
			if raw, err := base64.StdEncoding.DecodeString(x.Query); err != nil || len(raw) == 0 || x.What != nil || x.Detail != nil || x.Name != "" {
				return profile, "the query is not one"
			}
			count["query"]++
		case x.Type.Code == "2":
			if x.What == nil {
				return profile, "the data has no what"
			}
			count["data"]++
		case x.Type.Code == "1" && x.Role.Code == "1":
			if x.What["type"] != "Patient" {
				return profile, "the patient is none"
			}
			count["patient"]++
		}
	}
	want := map[string]int{"query": 1, "data": 0, "patient": 1}
	switch profile {
	case "Query":
		want["patient"] = 0
	case "PatientCreate", "PatientUpdate":
		want["query"], want["data"] = 0, 1
	}
	for slice, n := range want {
		if count[slice] != n {
			return profile, fmt.Sprintf("%d of the slice %s, want %d", count[slice], slice, n)
		}
	}
	if count["transaction"] > 1 {
		return profile, "more than one transaction"
	}
	return profile, ""
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
		"by id":                 {"/fhir/AuditEvent/entry-1", []string{officer, reason}, 404},
		"the person, of theirs": {"/fhir/AuditEvent?_query=who-looked", []string{"Authorization: Bearer " + f.token("patient", nil), "-X-Purpose-Of-Use", "-X-Permission-To-View"}, 200},
	} {
		resp := f.get(c.target, c.more...)
		if text := bodyOf(t, resp); resp.StatusCode != c.status || resp.StatusCode != 200 && strings.Contains(text, "9990000018") {
			t.Errorf("%s: %d, want %d", name, resp.StatusCode, c.status)
		}
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
