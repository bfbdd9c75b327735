package fhirrest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/authn"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/policy"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

const (
	ada      = "9990000018"
	bob      = "9990000026"
	base     = "https://broker.example/fhir"
	codeBase = "https://mycarerecord.example"
	issuer   = "https://issuer.example"
	audience = "https://mycarerecord.example/demo"
)

func number(t testing.TB, digits string) record.NHSNumber {
	t.Helper()
	n, err := record.ParseNHSNumber(digits)
	if err != nil {
		t.Fatal("not an NHS number in a test")
	}
	return n
}

// fakeBroker answers with what is prepared and keeps what it was asked.
type fakeBroker struct {
	mu     sync.Mutex
	unread atomic.Int64 // calls that could not be read, recorded
	asked  []broker.Request

	looked     []broker.ObjectionRequest
	objections []consent.Objection
	objecting  error
	answer     func(broker.Request) (*broker.Result, error)
}

func (f *fakeBroker) RefuseUnread(context.Context, broker.Request) (audit.Receipt, error) {
	f.unread.Add(1)
	return audit.Receipt{Origin: "mycarerecord.example/test", Position: 9}, nil
}

func (f *fakeBroker) ShowObjections(_ context.Context, req broker.ObjectionRequest) ([]consent.Objection, audit.Receipt, error) {
	f.mu.Lock()
	f.looked = append(f.looked, req)
	f.mu.Unlock()
	return f.objections, audit.Receipt{Origin: "mycarerecord.example/test", Position: 11, Leaf: [32]byte{0xcd}}, f.objecting
}

func (f *fakeBroker) ShowEvent(context.Context, broker.LedgerQuestion, uint64) (audit.Row, audit.Receipt, error) {
	return audit.Row{Found: audit.Found{Position: 7, Type: audit.TypeRead, At: time.Unix(1, 0), Asked: "refusals", Actor: &audit.Actor{}}}, audit.Receipt{Position: 8}, nil
}

func (f *fakeBroker) AskLedger(context.Context, broker.LedgerQuestion) (broker.LedgerAnswer, error) {
	return broker.LedgerAnswer{}, nil
}

func (f *fakeBroker) Custodians() (out []broker.CustodianHealth) {
	for _, c := range custodians {
		out = append(out, broker.CustodianHealth{Custodian: c})
	}
	return out
}

func (f *fakeBroker) Retrieve(_ context.Context, req broker.Request) (*broker.Result, error) {
	f.mu.Lock()
	f.asked = append(f.asked, req)
	f.mu.Unlock()
	return f.answer(req)
}

// OpenAddress opens the one address "good".
func (f *fakeBroker) OpenAddress(id, seal string) (broker.DocumentAddress, bool) {
	n, err := record.ParseNHSNumber(ada)
	return broker.DocumentAddress{ID: id, Subject: n}, err == nil && seal == "good"
}

// Document gives four bytes.
func (f *fakeBroker) Document(_ context.Context, req broker.Request) (*broker.DocumentResult, error) {
	f.mu.Lock()
	f.asked = append(f.asked, req)
	f.mu.Unlock()
	return &broker.DocumentResult{Document: broker.Document{Bytes: []byte("%PDF"), Type: "application/pdf"}, Receipt: audit.Receipt{Origin: "mycarerecord.example/test", Position: 12}}, nil
}

// fakeHandles are readable and reversible: no test may take them for the real ones.
type fakeHandles struct{}

var plainEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func (fakeHandles) Seal(n record.NHSNumber) string {
	return "h" + plainEncoding.EncodeToString([]byte(n.Reveal()))
}

func (fakeHandles) Open(handle string) (record.NHSNumber, bool) {
	raw, err := plainEncoding.DecodeString(strings.TrimPrefix(handle, "h"))
	if err != nil {
		return record.NHSNumber{}, false
	}
	n, err := record.ParseNHSNumber(string(raw))
	return n, err == nil
}

type fakeCounter struct {
	mu              sync.Mutex
	unauthenticated []netip.Addr
	limited         []record.Requester
}

func (f *fakeCounter) CountUnauthenticated(from netip.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unauthenticated = append(f.unauthenticated, from)
}

func (f *fakeCounter) CountLimited(r record.Requester) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.limited = append(f.limited, r)
}

type fixedKeys []byte

func (k fixedKeys) KeySet(context.Context, authn.Issuer) ([]byte, error) {
	if k == nil {
		return nil, authn.ErrKeysUnavailable
	}
	return k, nil
}

// kit is the whole gateway with the real verifier and policy before a broker that answers what a test prepares.
type kit struct {
	*testing.T
	h      http.Handler
	broker *fakeBroker
	counts *fakeCounter
	key    *ecdsa.PrivateKey
	engine *ecdsa.PrivateKey
	log    *strings.Builder
}

type option func(*Config, *fixedKeys)

func newKit(t *testing.T, options ...option) *kit {
	t.Helper()
	k := &kit{T: t, broker: &fakeBroker{answer: func(broker.Request) (*broker.Result, error) { return wholeAnswer(), nil }}, counts: &fakeCounter{}, log: &strings.Builder{}}
	public := func(at **ecdsa.PrivateKey, id string) []byte {
		var err error
		if *at, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: (*at).Public(), KeyID: id, Algorithm: "ES256", Use: "sig"}}})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	keys := fixedKeys(public(&k.key, "k1"))
	engineKeys := public(&k.engine, "e1")
	cfg := Config{Base: base, CodeBase: codeBase, Version: "1.2.3", Log: broker.NewLogger(k.log, slog.LevelDebug)}
	for _, o := range options {
		o(&cfg, &keys)
	}
	v, err := authn.New(authn.Config{Audience: audience,
		Issuers: []authn.Issuer{{URL: issuer, Algorithms: []string{"ES256"}, VouchesFor: []record.RequesterKind{record.Professional, record.Person, record.System}}},
		Clients: []authn.Client{{ID: "demo-engine", Organisations: []record.ODSCode{"X9B01"}, Keys: engineKeys}}}, keys)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	k.h = newHandler(cfg, k.broker, fakeHandles{}, v, policy.Default(), k.counts)
	return k
}

func (k *kit) sign(key *ecdsa.PrivateKey, id string, claims map[string]any) string {
	k.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: id}}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		k.Fatal(err)
	}
	text, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		k.Fatal(err)
	}
	return text
}

func (k *kit) token(as string, more map[string]any) string {
	now := time.Now()
	claims := map[string]any{"iss": issuer, "sub": "555000000102", "aud": audience, "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(), "jti": "t1", "client_id": "demo-epr"}
	switch as {
	case "ed-doctor":
		claims["nhsid_useruid"], claims["name"], claims["selected_roleid"] = "555000000102", "Dr Invented", "555000010102"
		claims["nhsid_nrbac_roles"] = []any{map[string]any{"person_roleid": "555000010102", "org_code": "X9B01", "role_code": "S8000:G8000:R8000"}}
	case "patient":
		claims["sub"] = "0123456789abcdef0123456789abcdef"
		claims["vot"], claims["vtm"], claims["nhs_number"] = "P9.Cp.Cd", issuer+"/trustmark", ada
	case "engine":
		claims["sub"], claims["client_id"] = "demo-engine", "demo-engine"
	default:
		k.Fatalf("no persona %q", as)
	}
	for name, v := range more {
		claims[name] = v
	}
	return k.sign(k.key, "k1", claims)
}

// ask makes a request as an ED doctor who treats, with changes: "Name: value" sets a header, "-Name" removes one, "+Name: value" adds another.
func (k *kit) ask(method, target, body string, changes ...string) *http.Request {
	k.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+k.token("ed-doctor", nil))
	r.Header.Set("X-Purpose-Of-Use", "TREAT")
	r.Header.Set("X-Permission-To-View", "asked-yes")
	r.Header.Set("X-Request-ID", "req-1")
	for _, c := range changes {
		if name, gone := strings.CutPrefix(c, "-"); gone {
			r.Header.Del(name)
			continue
		}
		name, value, ok := strings.Cut(c, ": ")
		if !ok {
			k.Fatalf("not a header: %q", c)
		}
		if name, more := strings.CutPrefix(name, "+"); more {
			r.Header.Add(name, value)
			continue
		}
		r.Header.Set(name, value)
	}
	return r
}

func (k *kit) do(r *http.Request) *http.Response {
	k.Helper()
	w := httptest.NewRecorder()
	k.h.ServeHTTP(w, r)
	return w.Result()
}

func (k *kit) get(target string, changes ...string) *http.Response {
	k.Helper()
	return k.do(k.ask(http.MethodGet, target, "", changes...))
}

func (k *kit) post(target, contentType, body string, changes ...string) *http.Response {
	k.Helper()
	return k.do(k.ask(http.MethodPost, target, body, append([]string{"Content-Type: " + contentType}, changes...)...))
}

// last is what the broker was asked last.
func (k *kit) last() broker.Request {
	k.Helper()
	if len(k.broker.asked) == 0 {
		k.Fatal("the broker was not asked")
	}
	return k.broker.asked[len(k.broker.asked)-1]
}

func bodyOf(t testing.TB, resp *http.Response) string {
	t.Helper()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

type (
	coding struct{ System, Code string }
	issues []struct {
		Severity, Code, Diagnostics string
		Details                     struct {
			Text   string
			Coding []coding
		}
	}
	resource struct {
		ResourceType, ID string
		Type             any // of a Bundle its type as text
		Total            *int
		Issue            issues
		Meta             struct {
			LastUpdated string
			Tag         []coding
		}
		Link  []struct{ Relation, URL string }
		Entry []struct {
			FullURL  string
			Resource resource
			Search   struct{ Mode string }
		}
	}
)

// read reads an answer, and holds what every answer must be: strict JSON without nulls or empty values, no NHS number, never to be stored.
func read(t testing.TB, resp *http.Response) resource {
	t.Helper()
	text := bodyOf(t, resp)
	if got := resp.Header.Get("Content-Type"); got != mediaType {
		t.Errorf("got Content-Type %q, want %q", got, mediaType)
	}
	for name, want := range map[string]string{"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("got %s %q, want %q", name, got, want)
		}
	}
	if resp.Header.Get("ETag") != "" || resp.Header.Get("Last-Modified") != "" {
		t.Error("an answer has no version")
	}
	doc, err := fhirjson.Parse([]byte(text), fhirjson.Default)
	if err != nil {
		t.Fatalf("status %d: %v", resp.StatusCode, err)
	}
	doc.Root().Walk(func(key string, v fhirjson.Value) bool {
		if v.Kind() == fhirjson.Null || v.Kind() == fhirjson.Object && v.Len() == 0 || v.Kind() == fhirjson.Array && v.Len() == 0 || v.Is("") || v.Is("<unknown>") {
			t.Errorf("%s is empty", key)
		}
		return true
	})
	for name, values := range resp.Header {
		if name != "Date" && record.SpellsNHSNumber(strings.Join(values, " ")) { // a year and a time of day are ten digits in groups
			t.Errorf("the header %s holds an NHS number", name)
		}
	}
	var r resource
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// wantProblem holds a refusal.
func wantProblem(t testing.TB, resp *http.Response, status int, code string) resource {
	t.Helper()
	r := read(t, resp)
	if resp.StatusCode != status || r.ResourceType != "OperationOutcome" || len(r.Issue) == 0 || r.Issue[0].Code != code {
		t.Fatalf("got %d %s %v, want %d with the issue %s", resp.StatusCode, r.ResourceType, r.Issue, status, code)
	}
	if r.Issue[0].Details.Text == "" {
		t.Error("no text says what to do")
	}
	return r
}

var custodians = []record.Custodian{
	{Key: "gp", ODS: "X9A01", Name: "Rivermead Surgery", Kind: record.KindGP, Contact: "ring the surgery"},
	{Key: "acute", ODS: "X9B01", Name: "Invented Hospital", Kind: record.KindAcute, Contact: "records office"},
}

func statuses(states ...record.State) []record.Status {
	var out []record.Status
	for i, s := range states {
		out = append(out, record.Status{Custodian: custodians[i], State: s, Adapter: "fhirr4/1"})
	}
	return out
}

// patientJSON is written by hand, white space and all, to see that nothing here rewrites it.
const patientJSON = `{"resourceType":"Patient", "id":"habc","name":[{"family":"O'Ex<ample"}]}`

func wholeAnswer() *broker.Result {
	return &broker.Result{
		Answer: merge.Answer{Handle: "habc", Total: 2, Statuses: statuses(record.Returned, record.NoRecord), Entries: []merge.Entry{
			{FullURL: base + "/Patient/habc", Type: "Patient", ID: "habc", Mode: merge.Match, JSON: []byte(patientJSON)},
			{FullURL: base + "/Observation/gp-1", Type: "Observation", ID: "gp-1", Mode: merge.Match, Custodian: "gp",
				JSON: []byte(`{"resourceType":"Observation","id":"gp-1","valueQuantity":{"value":1.10}}`)},
			{FullURL: base + "/Patient/gp-1", Type: "Patient", ID: "gp-1", Mode: merge.Include, Custodian: "gp", JSON: []byte(`{"resourceType":"Patient","id":"gp-1"}`)},
		}},
		Receipt: audit.Receipt{Origin: "ledger.example", Position: 42, Leaf: [32]byte{0xab, 0xcd}},
	}
}

func handleOf(t testing.TB, digits string) string { return fakeHandles{}.Seal(number(t, digits)) }

func everything(t testing.TB, digits string) string {
	return "/fhir/Patient/" + handleOf(t, digits) + "/$everything"
}

func search(digits string) string {
	return "/fhir/Patient?identifier=" + url.QueryEscape(record.NHSNumberSystem+"|"+digits)
}

func parameters(list ...string) string {
	return fmt.Sprintf(`{"resourceType":"Parameters","parameter":[%s]}`, strings.Join(list, ","))
}

func identifierParameter(digits string) string {
	return fmt.Sprintf(`{"name":"identifier","valueIdentifier":{"system":%q,"value":%q}}`, record.NHSNumberSystem, digits)
}
