package broker_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// library is a custodian with documents.
type library struct {
	*source
	fetched  atomic.Int64
	locator  atomic.Value
	document func(ctx context.Context, q broker.Query) (broker.Document, error)
}

var letter = []byte("%PDF-1.7 \x00\xff the letter, byte for byte")

const (
	letterAt  = "https://letters.example/2024/1.pdf"
	elsewhere = "https://elsewhere.example/2024/1.pdf"
)

// Opens says which addresses Document takes.
func (l *library) Opens(address string) bool {
	return strings.HasPrefix(address, "https://letters.example/")
}

// Document gives the letter, or what a test says.
func (l *library) Document(ctx context.Context, q broker.Query, address string) (broker.Document, error) {
	l.fetched.Add(1)
	l.locator.Store(address)
	if l.document != nil {
		return l.document(ctx, q)
	}
	return broker.Document{Bytes: letter, Type: "application/pdf"}, nil
}

func withLibrary(t *testing.T, ledger *audit.Ledger, change func(*broker.Config)) (*house, *library) {
	t.Helper()
	var l *library
	h := open(t, ledger, func(c *broker.Config) {
		for i := range c.Custodians {
			if s, is := c.Custodians[i].Source.(*source); is && s.key == "acute" {
				l = &library{source: s}
				c.Custodians[i].Source = l
			}
		}
		quick(c)
		if change != nil {
			change(c)
		}
	})
	l.answer = func(_ context.Context, q broker.Query) (broker.Reply, error) {
		return reply("acute", q.Subject.Number, `{"resourceType":"DocumentReference","id":"d1","status":"current","type":{"text":"Letter"},"subject":{"reference":"Patient/p1"},"date":"2024-05-01T10:00:00Z",`+
			`"content":[{"attachment":{"contentType":"application/pdf","url":"`+letterAt+`"}},{"attachment":{"url":"`+elsewhere+`"}}]}`,
			`{"resourceType":"Condition","id":"c1","category":[{"coding":[{"system":"https://mycarerecord.example/CodeSystem/section","code":"mental-health"}]}],"subject":{"reference":"Patient/p1"},`+
				`"extension":[{"url":"https://x.example","valueAttachment":{"url":"`+letterAt+`?of=mind"}}]}`), nil
	}
	return h, l
}

// addressed asks for the record and returns the question for the document of one of its entries.
func (h *house) addressed(t *testing.T, req broker.Request, entry string) broker.Request {
	t.Helper()
	res, err := h.Retrieve(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if text := bundle(t, res.Answer); strings.Contains(text, letterAt) || !strings.Contains(text, elsewhere) {
		t.Error("the holder's address is in the answer, or one that cannot be opened is not as the custodian wrote it")
	}
	for _, e := range res.Answer.Entries {
		_, address, has := strings.Cut(string(e.JSON), "https://record.example/fhir/Binary/")
		if e.ID != entry || !has {
			continue
		}
		address, _, _ = strings.Cut(address, `"`)
		id, seal, _ := strings.Cut(address, "?ctx=")
		d, opens := h.OpenAddress(id, seal)
		if !opens || d.Subject != req.Subject {
			t.Fatal("the address does not open")
		}
		req.Document, req.Operation, req.Arrived = d, "document", time.Now()
		return req
	}
	t.Fatal("no address of a document in the answer")
	return req
}

// entries are the ledger's about a person, the newest first.
func (h *house) entries(t *testing.T, n record.NHSNumber) []audit.Found {
	t.Helper()
	list, _, _, err := h.ledger.Search(t.Context(), audit.Actor{Requester: clinician}, audit.Search{Subjects: []record.NHSNumber{n},
		Types: []audit.EntryType{audit.TypeBegin, audit.TypeReleased, audit.TypeRefused, audit.TypeNothing, audit.TypeCancelled}})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// A document that a record lists is fetched as it is, from whoever holds it, and is on record before and after, with its digest.
func TestDocument(t *testing.T) {
	h, l := withLibrary(t, audittest.Open(t), nil)
	req := h.addressed(t, question(number(t, ann)), "acute-d1")
	asked := h.asked()
	res, err := h.Document(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	res.Done()
	if !bytes.Equal(res.Document.Bytes, letter) || res.Document.Type != "application/pdf" || res.Listed != "application/pdf" || res.Custodian.Key != "acute" || res.Receipt.Position == 0 {
		t.Errorf("%q of %s for %s", res.Document.Bytes, res.Document.Type, res.Custodian.Key)
	}
	if l.locator.Load() != letterAt || h.asked() != asked || l.fetched.Load() != 1 {
		t.Error("more was asked than the one document")
	}
	list := h.entries(t, req.Subject)
	end, begin := list[0], list[1]
	if begin.Type != audit.TypeBegin || begin.Access.Filter != "document="+req.Document.ID || !slices.Equal(begin.Access.Asked, []record.CustodianKey{"acute"}) {
		t.Error("the entry before does not say what is asked for, and of whom")
	}
	if end.Type != audit.TypeReleased || end.Opens != begin.Position || end.Position != res.Receipt.Position || len(end.Disclosure.Custodians) != 1 ||
		end.Disclosure.Custodians[0].Digests[0] != sha256.Sum256(letter) || !end.Disclosure.Custodians[0].Sections.Has(record.Correspondence) || end.Disclosure.Bytes != int64(len(letter)) {
		t.Errorf("the entry after does not say what was shown: %+v", end.Disclosure)
	}
	verified(t, h.ledger)
}

// C-1, C-2: an objection binds a document whose address is out already, and one that comes while it is fetched. What the record would not have named, the
// answer does not either.
func TestDocumentObjections(t *testing.T) {
	for _, c := range []struct {
		name string
		o    consent.Objection
		kind broker.Kind
		part string
	}{
		{"to all", consent.Objection{Scope: consent.ToAll}, broker.Suppressed, "acute-d1"},
		{"to the custodian", consent.Objection{Scope: consent.ToCustodian, Custodian: "acute"}, broker.NotFound, "acute-d1"},
		{"to its section", consent.Objection{Scope: consent.ToSection, Section: record.Correspondence}, broker.NotFound, "acute-d1"},
		{"to one of its sections", consent.Objection{Scope: consent.ToSection, Section: record.MentalHealth}, broker.NotFound, "acute-c1"},
		{"to another section", consent.Objection{Scope: consent.ToSection, Section: record.Pharmacy}, "", "acute-d1"},
		{"to another custodian", consent.Objection{Scope: consent.ToCustodian, Custodian: "gp"}, "", "acute-d1"},
	} {
		for _, when := range []string{"before", "meanwhile"} {
			t.Run(c.name+" "+when, func(t *testing.T) {
				h, l := withLibrary(t, audittest.Open(t), nil)
				n := number(t, ann)
				req := h.addressed(t, question(n), c.part)
				object := func(ctx context.Context) {
					if _, _, err := h.RecordObjection(ctx, objecting(n), c.o); err != nil {
						t.Error(err)
					}
				}
				if when == "before" {
					object(t.Context())
				} else {
					l.document = func(ctx context.Context, _ broker.Query) (broker.Document, error) {
						object(context.WithoutCancel(ctx))
						return broker.Document{Bytes: letter}, nil
					}
				}
				req.Arrived = time.Now()
				res, err := h.Document(t.Context(), req)
				defer res.Done()
				if c.kind == "" {
					if err != nil || res == nil || !bytes.Equal(res.Document.Bytes, letter) {
						t.Fatalf("got %v", err)
					}
				} else {
					r := refusal(t, err)
					if r.Kind != c.kind || res != nil {
						t.Errorf("got %s, want %s", r.Kind, c.kind)
					}
					if r.Kind == broker.NotFound && (r.Reason != "" || r.Receipt.Position != 0 || time.Since(req.Arrived) < 250*time.Millisecond) {
						t.Error("the neutral answer says why, or came too soon")
					}
					if when == "before" && l.fetched.Load() != 0 {
						t.Error("the holder was asked")
					}
					if end := h.entries(t, n)[0]; end.Type != audit.TypeRefused || end.Reason != string(consent.ReasonObjection) && (end.Access == nil || end.Access.Reason != consent.ReasonObjection) {
						t.Errorf("the last entry is a %v for %q", end.Type, end.Reason)
					}
				}
				verified(t, h.ledger)
			})
		}
	}
}

// C-10, C-6: a carer is told nothing by a document's address: what the person has come to object to reads as what they no longer let the carer see.
func TestDocumentTellsCarersNothing(t *testing.T) {
	for _, how := range []string{"an objection", "less delegated"} {
		h, l := withLibrary(t, audittest.Open(t), nil)
		person, carer := number(t, ann), number(t, "9990000026")
		wish := consent.Delegation{Carer: carer, Name: "my daughter", Sections: record.AllSections, Until: time.Now().Add(time.Hour)}
		d, _, err := h.RecordDelegation(t.Context(), choosing(person), wish)
		if err != nil {
			t.Fatal(err)
		}
		req := h.addressed(t, themselves(carer, person), "acute-d1")
		if how == "an objection" {
			_, _, err = h.RecordObjection(t.Context(), choosing(person), consent.Objection{Scope: consent.ToSection, Section: record.Correspondence, Method: "online"})
		} else if _, _, err = h.WithdrawDelegation(t.Context(), choosing(person), d.ID); err == nil {
			wish.Sections = record.SectionsOf(record.Results)
			_, _, err = h.RecordDelegation(t.Context(), choosing(person), wish)
		}
		if err != nil {
			t.Fatal(err)
		}
		req.Arrived = time.Now()
		_, err = h.Document(t.Context(), req)
		r := refusal(t, err)
		if r.Kind != broker.NotFound || r.Reason != "" || r.Rule != "" || r.Explanation != (consent.Explanation{}) || r.Receipt.Position != 0 {
			t.Errorf("%s: got %s %s", how, r.Kind, r.Reason)
		}
		if took := time.Since(req.Arrived); took < 250*time.Millisecond {
			t.Errorf("%s: answered after %v, before neutral answers leave", how, took)
		}
		if l.fetched.Load() != 0 {
			t.Errorf("%s: the holder was asked", how)
		}
	}
}

// T-07: an address serves those for whom it was made, and only for a while; and no other can be made up.
func TestDocumentAddressesAreBound(t *testing.T) {
	h, l := withLibrary(t, audittest.Open(t), nil)
	n := number(t, ann)
	good := h.addressed(t, question(n), "acute-d1")
	own := themselves(n, n)
	own.Document = good.Document
	for name, change := range map[string]func(*broker.Request){
		"another organisation": func(r *broker.Request) { r.Requester.Organisation = "X9Y99" },
		"another person":       func(r *broker.Request) { r.Subject = number(t, "9990000026") },
		"the person's view":    func(r *broker.Request) { *r = own },
		"over":                 func(r *broker.Request) { r.Document.Expires = time.Now().Add(-time.Second) },
		"elsewhere":            func(r *broker.Request) { r.Document.Locator = elsewhere },
		"a custodian without":  func(r *broker.Request) { r.Document.Custodian = "gp" },
		"no such custodian":    func(r *broker.Request) { r.Document.Custodian = "none" },
		"no address":           func(r *broker.Request) { r.Document = broker.DocumentAddress{} },
	} {
		req := good
		change(&req)
		req.Arrived = time.Now()
		_, err := h.Document(t.Context(), req)
		if r := refusal(t, err); r.Kind != broker.Invalid || r.Field != broker.WantAddress() || r.Receipt.Position == 0 {
			t.Errorf("%s: got %s", name, r.Kind)
		}
	}
	if l.fetched.Load() != 0 {
		t.Error("the holder was asked")
	}
	id, seal := h.SealAddress(good.Document)
	if d, ok := h.OpenAddress(id, seal); !ok || d != good.Document {
		t.Errorf("%+v is not what was sealed", d)
	}
	for i := range seal {
		for _, c := range []byte{'A', 'z', '-'} {
			if seal[i] != c {
				if _, ok := h.OpenAddress(id, seal[:i]+string(c)+seal[i+1:]); ok {
					t.Fatal("a seal that was changed opens")
				}
			}
		}
	}
	for _, x := range [][2]string{{id + "0", seal}, {"gp-" + id, seal}, {id, seal + "A"}, {id, seal[:len(seal)-1]}, {id, ""}, {"", seal}, {id, seal + "="}, {id, h.Handles().Seal(n)}} {
		if _, ok := h.OpenAddress(x[0], x[1]); ok {
			t.Error("an address that is not ours opens")
		}
	}
	if _, ok := h.Handles().Open(seal); ok {
		t.Error("a seal opens as a handle")
	}
	if strings.Contains(id+seal, ann) || strings.Contains(id+seal, "letters") {
		t.Error("the address can be read")
	}
	again := h.addressed(t, question(n), "acute-d1")
	if again.Document.ID != good.Document.ID {
		t.Error("one document has two ids")
	}
	other := h.addressed(t, question(number(t, "9990000026")), "acute-d1")
	if _, ok := h.OpenAddress(other.Document.ID, seal); !ok || other.Document.ID != id {
		t.Error("the id depends on the person") // the seal does: it opens as what it was made for
	}
}

// Design section 6: what becomes of a document when its holder is in trouble.
func TestDocumentTrouble(t *testing.T) {
	for _, c := range []struct {
		err  error
		kind broker.Kind
	}{
		{broker.ErrNoRecord, broker.NotFound}, {broker.ErrWithheld, broker.NotFound}, {broker.ErrUnavailable, broker.Transient}, {broker.ErrTimedOut, broker.Transient},
		{broker.ErrUnauthorised, broker.Transient}, {broker.ErrMalformed, broker.Transient}, {broker.ErrTooMuch, broker.Transient}, {broker.ErrWrongSubject, broker.Transient},
		{broker.ErrElsewhere, broker.Transient}, {&broker.ThrottledError{After: time.Second}, broker.Transient}, {nil, broker.Transient},
	} {
		h, l := withLibrary(t, audittest.Open(t), nil)
		req := h.addressed(t, question(number(t, ann)), "acute-d1")
		l.document = func(ctx context.Context, _ broker.Query) (broker.Document, error) {
			if c.err == nil {
				<-ctx.Done()
				panic("Zqsecrettext")
			}
			return broker.Document{Bytes: letter}, c.err
		}
		req.Arrived = time.Now()
		res, err := h.Document(t.Context(), req)
		if r := refusal(t, err); r.Kind != c.kind || res != nil {
			t.Errorf("%v: got %s, want %s", c.err, r.Kind, c.kind)
		}
		verified(t, h.ledger)
		for _, health := range h.Custodians() {
			if ill := health.LastState == record.Unavailable || health.LastState == record.Failed || health.LastState == record.TimedOut; ill && c.kind == broker.NotFound {
				t.Errorf("%v: a clinical no counts as trouble", c.err)
			}
		}
	}
}

// A document that is misfiled, too large or not to be read is one document: however often it is opened, the record stays to be had. A holder that cannot be
// reached is ill.
func TestDocumentsAndTheBreaker(t *testing.T) {
	for _, c := range []struct {
		err  error
		open bool
	}{{broker.ErrWrongSubject, false}, {broker.ErrMalformed, false}, {broker.ErrTooMuch, false}, {broker.ErrElsewhere, false}, {broker.ErrNoRecord, false}, {broker.ErrWithheld, false},
		{broker.ErrUnauthorised, false}, {broker.ErrUnavailable, true}} {
		h, l := withLibrary(t, audittest.Open(t), func(cfg *broker.Config) { cfg.NeutralWait = 220 * time.Millisecond })
		req := h.addressed(t, question(number(t, ann)), "acute-d1")
		l.document = func(context.Context, broker.Query) (broker.Document, error) { return broker.Document{}, c.err }
		for range 6 {
			req.Arrived = time.Now()
			if _, err := h.Document(t.Context(), req); err == nil {
				t.Fatal("a document came")
			}
		}
		for _, health := range h.Custodians() {
			if health.Custodian.Key == "acute" && (health.Breaker == "open") != c.open {
				t.Errorf("%v: the breaker is %s", c.err, health.Breaker)
			}
		}
	}
}

// P1, L-8 of documents: a ledger that cannot record lets nobody be asked at Begin, and no byte leave at Release.
func TestDocumentLedgerFaults(t *testing.T) {
	for _, mode := range audittest.Faults() {
		for _, at := range []string{"begin", "release"} {
			t.Run(mode.String()+" at "+at, func(t *testing.T) {
				place := audittest.New(t, audit.Config{})
				h, l := withLibrary(t, place.Ledger, nil)
				req := h.addressed(t, question(number(t, ann)), "acute-d1")
				if at == "begin" {
					place.Store.FailAll(mode)
				} else {
					l.document = func(context.Context, broker.Query) (broker.Document, error) {
						place.Store.FailAll(mode)
						return broker.Document{Bytes: letter}, nil
					}
				}
				req.Arrived = time.Now()
				res, err := h.Document(t.Context(), req)
				if res != nil {
					t.Fatal("a document was released that the ledger did not acknowledge")
				}
				if r := refusal(t, err); r.Kind != broker.Transient {
					t.Errorf("got %s, want transient", r.Kind)
				}
				if at == "begin" && l.fetched.Load() != 0 {
					t.Error("the holder was asked without an entry")
				}
			})
		}
	}
}

// A caller who leaves while the document is fetched gets nothing, and that is on record.
func TestDocumentCallerLeaves(t *testing.T) {
	h, l := withLibrary(t, audittest.Open(t), nil)
	req := h.addressed(t, question(number(t, ann)), "acute-d1")
	ctx, leave := context.WithCancel(t.Context())
	l.document = func(ctx context.Context, _ broker.Query) (broker.Document, error) {
		leave()
		<-ctx.Done()
		return broker.Document{Bytes: letter}, nil
	}
	req.Arrived = time.Now()
	res, err := h.Document(ctx, req)
	if r := refusal(t, err); r.Kind != broker.Gone || res != nil || errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	verified(t, h.ledger)
}

// The text of a document goes where its pointer goes, and the other way round: an objection to a section of either leaves no byte of the text in an answer, by any
// face, and no address at which the original is opened; one that was given before opens nothing any more.
func TestObjectionsToADocumentAndToItsText(t *testing.T) {
	const pointer = `{"resourceType":"DocumentReference","id":"d1","status":"current","type":{"coding":[{"system":"http://snomed.info/sct","code":"736253002"}]},"subject":{"reference":"Patient/p1"},"content":[{"attachment":{"contentType":"application/pdf","url":"` + letterAt + `"}},{"attachment":{"url":"` + elsewhere + `"}}]}`
	const text = `{"resourceType":"Composition","id":"c1","status":"final","type":{"coding":[{"system":"http://loinc.org","code":"59258-4"}]},"subject":{"reference":"Patient/p1"},"date":"2024-05-01",` +
		`"extension":[{"url":"https://mycarerecord.example/StructureDefinition/document-reference","valueReference":{"reference":"DocumentReference/d1"}}],"section":[{"title":"Zqtext"}]}`
	for section, withheld := range map[record.Section]bool{record.MentalHealth: true, record.PlansAlerts: true, record.Emergency: true, record.Pharmacy: false, record.Medications: false} {
		h, l := withLibrary(t, audittest.Open(t), nil)
		l.answer = func(_ context.Context, q broker.Query) (broker.Reply, error) {
			return reply("acute", q.Subject.Number, pointer, text), nil
		}
		n := number(t, ann)
		req := h.addressed(t, question(n), "acute-d1")
		if _, _, err := h.RecordObjection(t.Context(), objecting(n), consent.Objection{Scope: consent.ToSection, Section: section}); err != nil {
			t.Fatal(err)
		}
		res, err := h.Retrieve(t.Context(), question(n))
		if err != nil {
			t.Fatal(err)
		}
		stream := &recorder{}
		if err := h.Stream(t.Context(), question(n), stream); err != nil {
			t.Fatal(err)
		}
		streamed := ""
		for _, e := range stream.entries {
			streamed += string(e.JSON)
		}
		for face, answer := range map[string]string{"whole": bundle(t, res.Answer), "stream": streamed} {
			if got := !strings.Contains(answer, "Zqtext"); got != withheld {
				t.Errorf("%s, %s: the text is withheld: %t, want %t", section.Code(), face, got, withheld)
			}
			if got := !strings.Contains(answer, "/Binary/"); got != withheld {
				t.Errorf("%s, %s: the document is withheld: %t, want %t", section.Code(), face, got, withheld)
			}
		}
		req.Arrived = time.Now()
		opened, err := h.Document(t.Context(), req)
		opened.Done()
		if got := err != nil; got != withheld {
			t.Errorf("%s: the original is not opened: %t, want %t", section.Code(), got, withheld)
		}
		verified(t, h.ledger)
	}
}

// What a document says of itself keeps it from whoever may not see it, also where the entry that led to it said nothing of it: codes that its custodian never shares, and
// labels. The answer is the neutral one.
func TestDocumentsAreHiddenForTheirCodes(t *testing.T) {
	never := broker.Code{System: "http://snomed.info/sct", Code: "15628003"}
	for _, c := range []struct {
		name  string
		codes []broker.Code
		rules merge.Rules
		own   bool
		shown bool
	}{
		{"nothing", nil, merge.Rules{Excluded: merge.CodesOf(never), LabelsEntered: true}, false, true},
		{"a code that is never shared", []broker.Code{{Code: "1"}, never}, merge.Rules{Excluded: merge.CodesOf(never)}, false, false},
		{"a code that is never shared, whatever its system", []broker.Code{never}, merge.Rules{Excluded: merge.CodesOf(broker.Code{Code: "15628003"})}, false, false},
		{"another system's code", []broker.Code{{System: "http://loinc.org", Code: "15628003"}}, merge.Rules{Excluded: merge.CodesOf(never)}, false, true},
		{"not for the person, to the person", []broker.Code{{Code: "NOPAT"}}, merge.Rules{}, true, false},
		{"not for the person, to staff", []broker.Code{{Code: "NOPAT"}}, merge.Rules{}, false, true},
		{"entered by the person, to staff", []broker.Code{{Code: "PATAST"}}, merge.Rules{LabelsEntered: true}, false, false},
		{"entered by the person, to the person", []broker.Code{{Code: "PATAST"}}, merge.Rules{LabelsEntered: true}, true, true},
	} {
		h, l := withLibrary(t, audittest.Open(t), func(cfg *broker.Config) {
			for i := range cfg.Custodians {
				if cfg.Custodians[i].Rules.Custodian.Key == "acute" {
					cfg.Custodians[i].Merge = c.rules
				}
			}
		})
		l.document = func(context.Context, broker.Query) (broker.Document, error) {
			return broker.Document{Bytes: letter, Type: "application/pdf", Codes: c.codes}, nil
		}
		n := number(t, ann)
		req := question(n)
		if c.own {
			req = themselves(n, n)
		}
		req = h.addressed(t, req, "acute-d1")
		res, err := h.Document(t.Context(), req)
		res.Done()
		if shown := err == nil && bytes.Equal(res.Document.Bytes, letter); shown != c.shown {
			t.Errorf("%s: shown %t, %v", c.name, shown, err)
		}
		if err != nil {
			if r := refusal(t, err); r.Kind != broker.NotFound || r.Reason != "" {
				t.Errorf("%s: %s for %q: %v", c.name, r.Kind, r.Reason, r)
			}
		}
		verified(t, h.ledger)
	}
}
