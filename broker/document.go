package broker

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// A document that a record leads to has an address of ours in place of its own (M-3): {base}/Binary/{key}-{hash}?ctx={seal}. The id is the same whoever
// asks and whenever, and says which document it is to whoever has seen it before. The seal holds what is needed to fetch it: whose record it stood in,
// where it is, its sections, and for whose eyes the address was made. It grants nothing: whoever shows it is asked everything again, decided about again,
// and recorded. It only bounds what may be asked, so that no caller can make us fetch anything but what a custodian listed for that person and that view.

// DocumentAddress is an opened address.
type DocumentAddress struct {
	Subject      record.NHSNumber
	Custodian    record.CustodianKey
	Locator      string           // where its holder keeps it
	Type         string           // the media type that the record gives
	Sections     record.Sections  // of the entry that it stood in; none where that stands in no section
	Organisation record.ODSCode   // of whom the address was made for
	View         view             // in which it was shown
	Expires      time.Time        // from then on the record is asked for again
	ID           string           // the id in the address
	For          record.NHSNumber // the person whose own view it was; zero for staff
}

// view is in whose view an address was shown. What one is not shown, no address of another opens for them (C-5).
type view uint8

const (
	staffView view = iota
	ownView
	carersView
)

// Times and sizes of an address.
const (
	addressLife  = 15 * time.Minute // at least; at most twice that, so that two answers in a row have the same addresses
	maxLocator   = 4 << 10
	sealVersion  = 1
	maxMediaType = 128
)

// wantAddress is what is said of an address that is not, or no longer, one that this caller may use. It is one text for all reasons.
const wantAddress = "ctx: the address of a document holds for a quarter of an hour, for the organisation and the view that it was made for. Ask for the record again, " +
	"and use the address that stands there now"

// WantAddress is that text for the faces, for an address that cannot be opened.
func WantAddress() string { return wantAddress }

// viewOf is the view that a request is for.
func (a *access) viewOf() view {
	switch {
	case a.req.Purpose != record.PatientAccess:
		return staffView
	case a.carer():
		return carersView
	}
	return ownView
}

// sealing returns what makes addresses of a custodian's documents in this answer, nil where its adapter knows none.
func (a *access) sealing(c *custodian) func(merge.Document) string {
	if !slices.ContainsFunc(c.sources, func(e *endpoint) bool { _, has := e.Source.(documents); return has }) {
		return nil
	}
	view := a.viewOf()
	expires := a.req.Arrived.UTC().Add(2 * addressLife).Truncate(addressLife)
	return func(d merge.Document) string {
		if strings.Contains(d.Address, a.subject.Number.Reveal()) { // it would be asked for by that address
			return ""
		}
		if len(d.Address) > maxLocator || len(d.Type) > maxMediaType || c.opener(d.Address) == nil {
			return ""
		}
		sealed := DocumentAddress{Subject: a.subject.Number, Custodian: c.Rules.Custodian.Key, Locator: d.Address, Type: d.Type, Sections: d.Sections,
			Organisation: a.req.Requester.Organisation, View: view, Expires: expires, For: a.req.Requester.Own}
		id, seal := a.b.sealAddress(sealed)
		if seal == "" {
			return ""
		}
		return a.b.cfg.Base + "/Binary/" + id + "?ctx=" + seal
	}
}

// opener is the first of a custodian's sources that opens the document at an address, nil for none.
func (c *custodian) opener(address string) *endpoint {
	for _, e := range c.sources {
		if source, has := e.Source.(documents); has && source.Opens(address) {
			return e
		}
	}
	return nil
}

// sealAddress returns the id and the seal of an address.
func (b *Broker) sealAddress(d DocumentAddress) (id, seal string) {
	id = b.documentID(d.Custodian, d.Locator)
	plain := []byte{sealVersion, byte(d.View)}
	plain = binary.BigEndian.AppendUint64(plain, numeral(d.Subject))
	plain = binary.BigEndian.AppendUint64(plain, numeral(d.For))
	plain = binary.BigEndian.AppendUint64(plain, uint64(d.Expires.Unix())) //nolint:gosec // after 1970
	plain = binary.BigEndian.AppendUint16(plain, uint16(d.Sections))
	for _, s := range [...]string{string(d.Custodian), string(d.Organisation), d.Type, d.Locator} {
		plain = binary.BigEndian.AppendUint16(plain, uint16(len(s))) //nolint:gosec // all are bounded
		plain = append(plain, s...)
	}
	sealed, err := b.handles.aead.EncryptDeterministically(plain, []byte("document\x00"+id))
	if err != nil {
		return "", ""
	}
	return id, base64.RawURLEncoding.EncodeToString(sealed)
}

// documentID is the id of a document of one custodian: its key, and an HMAC of where it is (M-5).
func (b *Broker) documentID(key record.CustodianKey, locator string) string {
	h := hmac.New(sha256.New, b.cfg.IDKey)
	h.Write([]byte("document\x00" + string(key) + "\x00" + locator)) // a hash never fails
	return string(key) + "-" + hex.EncodeToString(h.Sum(nil)[:16])
}

func numeral(n record.NHSNumber) uint64 {
	v, _ := strconv.ParseUint(n.Reveal(), 10, 64) // the zero number is no digits, and 0
	return v
}

func numbered(v uint64) (record.NHSNumber, bool) {
	if v == 0 {
		return record.NHSNumber{}, true
	}
	n, err := record.ParseNHSNumber(fmt.Sprintf("%010d", v))
	return n, err == nil
}

// OpenAddress opens the address of a document, by its id and its seal, and reports whether it is one of ours. Whether this caller may use it is found out
// by [Broker.Document].
func (b *Broker) OpenAddress(id, seal string) (DocumentAddress, bool) {
	var d DocumentAddress
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(seal)
	if err != nil || len(sealed) > 2*maxLocator {
		return d, false
	}
	plain, err := b.handles.aead.DecryptDeterministically(sealed, []byte("document\x00"+id))
	if err != nil || len(plain) < 28 || plain[0] != sealVersion {
		return d, false
	}
	var good, own bool
	d.ID, d.View = id, view(plain[1])
	d.Subject, good = numbered(binary.BigEndian.Uint64(plain[2:]))
	d.For, own = numbered(binary.BigEndian.Uint64(plain[10:]))
	d.Expires = time.Unix(int64(binary.BigEndian.Uint64(plain[18:])), 0).UTC() //nolint:gosec // as it was sealed
	d.Sections = record.Sections(binary.BigEndian.Uint16(plain[26:]))
	plain = plain[28:]
	var texts [4]string
	for i := range texts {
		if len(plain) < 2 {
			return DocumentAddress{}, false
		}
		n := int(binary.BigEndian.Uint16(plain))
		if len(plain) < 2+n {
			return DocumentAddress{}, false
		}
		texts[i], plain = string(plain[2:2+n]), plain[2+n:]
	}
	d.Custodian, d.Organisation, d.Type, d.Locator = record.CustodianKey(texts[0]), record.ODSCode(texts[1]), texts[2], texts[3]
	if !good || !own || len(plain) > 0 || d.Subject.IsZero() {
		return DocumentAddress{}, false
	}
	return d, true
}

// takesAddress refuses the address of a document that is over, was made for other eyes, or leads to a custodian that there is no more. The entry says whose
// record it was meant for. It does nothing for a request that is for no document.
func (a *access) takesAddress() *Refusal {
	d := a.req.Document
	if d.Locator == "" {
		return nil
	}
	a.entry.Filter = "document=" + d.ID
	for _, c := range a.b.custodians {
		if c.Rules.Custodian.Key == d.Custodian {
			a.only = c
		}
	}
	opens := a.only != nil && a.only.opener(d.Locator) != nil // settings may have changed since
	if !opens || !time.Now().Before(d.Expires) || d.Subject != a.req.Subject || d.Organisation != a.req.Requester.Organisation || d.For != a.req.Requester.Own ||
		d.View != a.viewOf() {
		return a.invalid(wantAddress)
	}
	return nil
}

// covered reports whether the permit in force leaves all sections of the document's entry, or, where that stands in none, any.
func (a *access) covered() bool {
	may := a.may(a.only)
	return may != 0 && a.req.Document.Sections.Without(may) == 0
}

// mayOpen refuses a document of which the permit leaves nothing, or not all sections: as the record would not have named it, this does not either, and the
// answer is the neutral one. The ledger has the reason.
func (a *access) mayOpen() *Refusal {
	if a.only == nil || a.covered() {
		return nil
	}
	reason, rule := a.withheldFor()
	return a.refuse(NotFound, reason, rule)
}

// withheldFor returns why the document's sections are not all permitted.
func (a *access) withheldFor() (consent.Reason, string) {
	missing := a.req.Document.Sections.Without(a.may(a.only))
	for _, c := range a.permit.Decision().Custodians {
		if c.Key != a.only.Rules.Custodian.Key {
			continue
		}
		for _, p := range c.Parts {
			if p.Outcome != consent.Permitted && (missing == 0 || p.Sections.Without(missing) != p.Sections) {
				return p.Reason, p.Rule
			}
		}
	}
	return consent.ReasonWithheld, consent.RuleNeutral
}

// DocumentResult is a released document. From the moment it is returned its entry is durable, and the first byte may leave. Whoever gets one MUST call
// Done when it has been written or dropped.
type DocumentResult struct {
	Document  Document
	Listed    string // the media type that the record gave
	Digest    [32]byte
	Custodian record.Custodian
	Receipt   audit.Receipt
	done      func()
}

// Done gives back the room that the document takes. It may be called more than once, and on a nil DocumentResult.
func (r *DocumentResult) Done() {
	if r != nil && r.done != nil {
		r.done()
	}
}

// Document fetches one document at an address that a record gave. It is one more access of its own, in the same order as any: trace, decide, record, ask,
// record again, release. req.Document is what [Broker.OpenAddress] returned. The error is always a [*Refusal].
func (b *Broker) Document(ctx context.Context, req Request) (*DocumentResult, error) {
	if req.Document.Locator == "" {
		req.Document.Locator = "none" // a caller who skipped OpenAddress gets the refusal of an address that leads nowhere
	}
	a, refusal := b.open(ctx, req)
	if refusal != nil {
		return nil, refusal
	}
	defer a.end()
	document, status := a.fetchDocument(a.permit, a.opened)
	statuses := []record.Status{status}
	if a.caller.Err() != nil {
		return nil, a.close(audit.TypeCancelled, consent.ReasonCancelled, statuses, &Refusal{Kind: Gone})
	}
	switch {
	case status.State == record.Returned:
	case a.bytes.gaveUp():
		return nil, a.close(audit.TypeRefused, consent.ReasonBudget, statuses, &Refusal{Kind: Overloaded, RetryAfter: b.room.comeBack()})
	case status.State == record.NoRecord: // a pointer is no proof that the document is still there
		return nil, a.close(audit.TypeNothing, consent.ReasonNobody, statuses, &Refusal{Kind: NotFound})
	case status.State == record.Withheld:
		return nil, a.close(audit.TypeNothing, consent.ReasonWithheld, statuses, &Refusal{Kind: NotFound})
	default:
		return nil, a.close(audit.TypeNothing, consent.ReasonTrouble, statuses, &Refusal{Kind: Transient, Statuses: statuses, RetryAfter: 5 * time.Second})
	}
	digest := sha256.Sum256(document.Bytes)
	shown := audit.Disclosure{Total: 1, Bytes: int64(len(document.Bytes)), Custodians: []audit.Shown{{Key: status.Custodian.Key, State: status.State,
		Sections: req.Document.Sections, Count: 1, Digests: [][32]byte{digest}}}}
	for rebuilt := false; ; rebuilt = true {
		// From here on the document is in memory, and nothing of it may leave before Release says so.
		receipt, err := a.release(shown)
		if err == nil {
			a.outcome("released")
			return &DocumentResult{Document: document, Listed: req.Document.Type, Digest: digest, Custodian: status.Custodian, Receipt: receipt, done: a.keepBytes()}, nil
		}
		if refusal := a.changed(err, rebuilt, statuses); refusal != nil {
			return nil, refusal
		}
		if !a.covered() {
			reason, _ := a.withheldFor()
			return nil, a.close(audit.TypeRefused, reason, []record.Status{{Custodian: status.Custodian, State: record.Withheld, Reason: string(reason)}}, &Refusal{Kind: NotFound})
		}
	}
}

// fetchDocument asks the one custodian for the document, over its breaker and within its time, as gather does for records.
func (a *access) fetchDocument(p consent.Permit, o audit.Opened) (Document, record.Status) {
	c := a.only
	now := time.Now()
	status := record.Status{Custodian: c.Rules.Custodian, Adapter: c.Adapter, Asked: now.UTC()}
	if !p.Valid() || !o.Valid() {
		status.State, status.Reason, status.Asked = record.NotAsked, record.NotAskedPermit, time.Time{}
		return Document{}, status
	}
	e := c.opener(a.req.Document.Locator) // takesAddress saw that there is one
	status.Adapter = e.Adapter
	left := min(time.Until(a.deadline)-a.b.cfg.Reserve, a.untilNeutral())
	switch {
	case left <= 0:
		status.State, status.Reason, status.Asked = record.NotAsked, record.NotAskedBudget, time.Time{}
		return Document{}, status
	case e.throttled(now):
		status.State, status.Reason, status.Asked = record.Unavailable, reasonThrottled, time.Time{}
		return Document{}, status
	}
	done, err := e.breaker.Allow()
	if err != nil {
		status.State, status.Reason, status.Asked = record.Unavailable, reasonBreaker, time.Time{}
		return Document{}, status
	}
	ctx, span := a.b.spans.Start(a.ctx, "custodian", trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.String(keyCustodian, string(c.Rules.Custodian.Key))))
	defer span.End()
	ctx, cancel := context.WithTimeout(ctx, min(left, c.Timeout))
	defer cancel()
	holds := a.bytes.part()
	limits := a.b.cfg.Limits
	limits.Take = func(n int64) bool { return ctx.Err() == nil && holds.take(n) }
	source, _ := e.Source.(documents)
	document, err := fetchSafely(ctx, source, a.query(ctx, c, p, limits), a.req.Document.Locator)
	if err == nil && a.hides(c, document) {
		document, err = Document{}, ErrWithheld
	}
	timedOut := err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded)
	full := false
	if err != nil {
		denied, waited := holds.fail()
		full = denied && errors.Is(err, ErrTooMuch) || waited && timedOut
	}
	a.bytes.settle()
	starved := timedOut && time.Since(now) > min(left, c.Timeout)+late
	callerLeft := err != nil && a.caller.Err() != nil
	v := judge(err, callerLeft, timedOut, left < c.Timeout*3/4 || starved)
	if full && !callerLeft {
		v = verdict{record.Failed, reasonRequestFull, errNothingLearnt, false}
	}
	for _, aboutIt := range [...]error{ErrWrongSubject, ErrMalformed, ErrTooMuch, ErrElsewhere} {
		if v.breaker != nil && errors.Is(err, aboutIt) {
			v.breaker = errNothingLearnt // one document is at fault: whoever opens it again and again must not cut everybody off from the record
		}
	}
	done(v.breaker)
	status.State, status.Took = record.Returned, time.Since(now)
	if err != nil {
		status.State, status.Reason = v.state, v.reason
	}
	e.throttleFor(now, err)
	if callerLeft {
		return Document{}, status
	}
	c.answered(status.State)
	span.SetAttributes(attribute.String(keyState, string(status.State)), attribute.String(keyReason, status.Reason))
	a.b.metrics.custodian(a.caller, c, status.State, status.Took)
	if v.alarm {
		a.b.metrics.alarm(a.caller, c, status.Reason)
		a.b.log.ErrorContext(a.caller, "custodian needs an operator", keyRequest, a.req.ID, keyCustodian, c.Rules.Custodian.Key, keyState, status.State, keyReason, status.Reason)
	} else if status.State.InTrouble() {
		a.b.log.WarnContext(a.caller, "custodian in trouble", keyRequest, a.req.ID, keyCustodian, c.Rules.Custodian.Key, keyState, status.State, keyReason, status.Reason,
			keyDuration, status.Took)
	}
	return document, status
}

// hides reports whether what stands in a document keeps it from whoever asks, although the entry that led to it did not.
func (a *access) hides(c *custodian, d Document) bool {
	rules := c.Merge
	rules.PatientEntered = c.Rules.PatientEntered
	return rules.Hide(a.merging, d.Codes)
}

// fetchSafely calls the source in a goroutine of its own, as fetch does.
func fetchSafely(ctx context.Context, s documents, q Query, address string) (Document, error) {
	type answer struct {
		document Document
		err      error
	}
	ch := make(chan answer, 1)
	go func() {
		var x answer
		defer func() {
			if v := recover(); v != nil {
				x = answer{err: fmt.Errorf("%w: %T", ErrPanicked, v)} // the type only: the value may hold patient data
			}
			ch <- x
		}()
		x.document, x.err = s.Document(ctx, q, address)
	}()
	select {
	case x := <-ch:
		return x.document, x.err
	case <-ctx.Done():
		return Document{}, ErrTimedOut
	}
}
