package grpcapi

import (
	"errors"
	"strings"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/authn"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/record"
	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// What to give, where a field cannot be read.
const (
	wantNumber    = "ten digits that are an NHS number"
	wantSame      = "the token states another: they must agree"
	wantBreaking  = "only with purpose PURPOSE_BTG"
	wantBirthDate = "the person's date of birth, YYYY-MM-DD"
	wantUser      = "an SDS user id, digits: the number that stands beside a name in every answer, never the name"
	wantOrder     = "later than from: the two are the wrong way round"
	wantTime      = "a FHIR date or time: YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss with a zone; midnight is 00:00:00"
	wantInstant   = "a FHIR date and time with seconds and a zone, YYYY-MM-DDThh:mm:ssZ; midnight is 00:00:00"
	wantPurpose   = "one of PURPOSE_TREAT, PURPOSE_ETREAT, PURPOSE_BTG, PURPOSE_PATRQT"
	wantKind      = "one of the kinds that the interface lists"
	wantOneField  = "the one further field that its kind needs, and no other; no quotation marks"
	wantTypes     = "names of FHIR resource types (R4, such as AllergyIntolerance), each once"
)

// recordRequest is what GetRecord and StreamRecord have in common.
type recordRequest interface {
	GetNhsNumber() string
	GetBirthDate() string
	GetPurpose() v1.Purpose
	GetPermission() *v1.Permission
	GetRelationship() *v1.Relationship
	GetBreakGlassReason() string
	GetTypes() []string
	GetStart() string
	GetEnd() string
	GetSince() string
}

// question is the readable part of a record request.
type question struct {
	authn.Asked
	birthDate string
	reason    string
	filter    merge.Filter
}

// read reads a record request. What the token states about the request must agree with it, and stands where the request says nothing.
func read(r recordRequest, caller authn.Caller) (question, problems) {
	var p problems
	q := question{
		Asked: authn.Asked{Subject: p.number(r.GetNhsNumber()), Purpose: p.purpose(r.GetPurpose()), Permission: p.permission(r.GetPermission()),
			Relationship: p.relationship(r.GetRelationship())},
		birthDate: p.birthDate(r.GetBirthDate()),
		reason:    p.freeText("break_glass_reason", r.GetBreakGlassReason()),
	}
	q.Asked = p.reconcile(caller, q.Asked)
	q.Subject = p.orOwn(caller, q.Subject, r.GetNhsNumber())
	if q.Purpose == "" && r.GetPurpose() == v1.Purpose_PURPOSE_UNSPECIFIED {
		p.add("purpose", wantPurpose)
	}
	if r.GetBreakGlassReason() != "" && q.Purpose != "" && q.Purpose != record.BreakGlass {
		p.add("break_glass_reason", wantBreaking)
	}
	if q.Relationship.Kind == record.RelationshipNone && caller.Requester.Kind != record.Person {
		q.Relationship.Kind = record.SelfClaimed
	}
	q.filter.Types = p.types(r.GetTypes())
	q.filter.Start = p.time("start", r.GetStart()).Lo
	q.filter.End = p.time("end", r.GetEnd()).Hi
	q.filter.Since = p.instant("since", r.GetSince())
	if !q.filter.Start.IsZero() && !q.filter.End.IsZero() && !q.filter.Start.Before(q.filter.End) {
		p.add("end", "not before start")
	}
	return q, p
}

// reconcile fills from the token what the request leaves out, and holds that the two agree.
func (p *problems) reconcile(caller authn.Caller, asked authn.Asked) authn.Asked {
	both, err := caller.Stated.Reconcile(asked)
	if err == nil {
		return both
	}
	field := "authorization"
	var d *authn.DisagreementError
	if errors.As(err, &d) {
		field = strings.ReplaceAll(d.Field, " ", "_")
	}
	p.add(field, wantSame)
	return asked
}

// orOwn returns whom a request is about: a person who names nobody means themselves, as in the other faces, and anybody else must say.
func (p *problems) orOwn(caller authn.Caller, subject record.NHSNumber, given string) record.NHSNumber {
	if subject.IsZero() && given == "" {
		if subject = caller.Requester.Own; subject.IsZero() {
			p.add("nhs_number", wantNumber)
		}
	}
	return subject
}

// number reads the person, the zero number for empty text.
func (p *problems) number(s string) record.NHSNumber {
	if s == "" {
		return record.NHSNumber{}
	}
	n, err := record.ParseNHSNumber(s)
	if err != nil {
		p.add("nhs_number", wantNumber)
	}
	return n
}

func (p *problems) birthDate(s string) string {
	if s == "" {
		return ""
	}
	if _, err := time.Parse(time.DateOnly, s); err != nil {
		p.add("birth_date", wantBirthDate)
	}
	return s
}

func (p *problems) purpose(w v1.Purpose) record.Purpose {
	ours, ok := purposes.toOurs(w)
	if !ok && w != v1.Purpose_PURPOSE_UNSPECIFIED {
		p.add("purpose", wantPurpose)
	}
	return ours
}

// permission reads a permission by way of its text form, so that the three faces and the token hold one rule for it.
func (p *problems) permission(m *v1.Permission) record.Permission {
	const field = "permission"
	if m.GetKind() == 0 && m.GetOn() == "" && m.GetRef() == "" && m.GetReason() == "" {
		return record.Permission{}
	}
	kind, ok := permissions.toOurs(m.GetKind())
	if !ok {
		p.add(field+".kind", wantKind)
		return record.Permission{}
	}
	ours := record.Permission{Kind: kind, On: m.GetOn(), Ref: m.GetRef(), Reason: m.GetReason()}
	again, err := record.ParsePermission(ours.String())
	switch {
	case err != nil:
		p.add(field, want(err))
	case again != ours:
		p.add(field, wantOneField)
	default:
		return ours
	}
	return record.Permission{}
}

func (p *problems) relationship(m *v1.Relationship) record.Relationship {
	const field = "relationship"
	if m.GetKind() == 0 && m.GetRef() == "" {
		return record.Relationship{}
	}
	kind, ok := relationships.toOurs(m.GetKind())
	if !ok {
		p.add(field+".kind", wantKind)
		return record.Relationship{}
	}
	ours := record.Relationship{Kind: kind, Ref: m.GetRef()}
	again, err := record.ParseRelationship(ours.String())
	switch {
	case err != nil:
		p.add(field, want(err))
	case again != ours:
		p.add(field, wantOneField)
	default:
		return ours
	}
	return record.Relationship{}
}

// want returns what a [record.FieldError] says to give. No other error has a text that may be repeated.
func want(err error) string {
	var f *record.FieldError
	if errors.As(err, &f) {
		return f.Want
	}
	return "cannot be read"
}

func (p *problems) freeText(field, s string) string {
	if err := record.CheckFreeText(field, s); err != nil {
		p.add(field, want(err))
		return ""
	}
	return s
}

// time reads a date or time as an interval, the zero one for empty text.
func (p *problems) time(field, s string) record.ClinicalTime {
	if s == "" {
		return record.ClinicalTime{}
	}
	c, err := record.ParseClinicalTime(s)
	if err != nil || endOfDay(s) {
		p.add(field, wantTime)
	}
	return c
}

// instant reads a FHIR instant: seconds and a zone are there (hl7.org/fhir/R4/datatypes.html#instant). It returns the zero time for empty text.
func (p *problems) instant(field, s string) time.Time {
	if s == "" {
		return time.Time{}
	}
	c, err := record.ParseClinicalTime(s)
	zoned := strings.HasSuffix(s, "Z") || len(s) > 6 && (s[len(s)-6] == '+' || s[len(s)-6] == '-')
	if err != nil || c.Precision < record.Second || !zoned || endOfDay(s) {
		p.add(field, wantInstant)
	}
	return c.Lo
}

// endOfDay reports whether a time is written as hour 24, which FHIR forbids (hl7.org/fhir/R4/datatypes.html#dateTime). Custodians write it, and are
// understood; who asks is told.
func endOfDay(s string) bool { return len(s) >= len("YYYY-MM-DDThh") && s[10:13] == "T24" }

func (p *problems) types(list []string) []string {
	seen := map[string]bool{}
	for _, t := range list {
		if !merge.IsType(t) || seen[t] { // a type that does not exist would match nothing, and look like a record without any
			p.add("types", wantTypes)
			return nil
		}
		seen[t] = true
	}
	return list
}
