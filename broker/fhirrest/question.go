package fhirrest

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/samply/golang-fhir-models/fhir-models/fhir"

	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/authn"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// question is what a caller asks, read.
type question struct {
	operation string // "search", "read", "everything"
	subject   record.NHSNumber
	birthDate string
	filter    merge.Filter
	used      url.Values // parameters that were used, for the self link: never an identifier or a date of birth
	ignored   []string   // names of parameters that were not
	paging    bool       // _count was given
	nobody    string     // an _id that is no handle of ours: it matches nobody, whatever else is said
}

// The parameters. birthdate is the second identifier: as a search parameter in FHIR's spelling, as an operation parameter in ours.
var (
	personParameters     = []string{"identifier", "_id", "birthdate"}
	everythingParameters = []string{"start", "end", "_type", "_since", "identifier", "birthDate", "birthdate"}
)

// readQuestion reads parameters, from query and body together. Those that are not among known are ignored and remembered, or refused where
// the caller asked for strict handling; a name with a modifier is always refused (FHIR R4, search, 3.1.1.5.5).
func (x *exchange) readQuestion(operation string, parameters url.Values, known []string) (question, *problem) {
	q := question{operation: operation, used: url.Values{}}
	if len(parameters) > maxParameters {
		return q, bad(fhir.IssueTypeTooLong, "There are too many parameters.")
	}
	one := map[string]string{}
	for name, values := range parameters {
		values = slices.DeleteFunc(slices.Clone(values), func(v string) bool { return v == "" }) // an empty parameter is none (search, 3.1.1.3)
		switch {
		case name == "_format" || name == "_pretty":
		case strings.Contains(name, ":"):
			return q, bad(fhir.IssueTypeNotSupported, "Modifiers of parameters are not supported: give the name alone.")
		case name == "_count":
			if len(values) > 0 {
				if len(values) > 1 || len(values[0]) > 9 || strings.Trim(values[0], "0123456789") != "" {
					return q, bad(fhir.IssueTypeValue, "_count is a number of entries, given once.")
				}
				if strings.Trim(values[0], "0") == "" { // "the same as _summary=count" (hl7.org/fhir/R4/search.html#count)
					return q, bad(fhir.IssueTypeNotSupported, "_count=0 asks how many there are and for none of them: answers with a number alone are not offered. Leave _count out.")
				}
				q.paging = true
			}
		case !slices.Contains(known, name):
			if x.strict {
				return q, bad(fhir.IssueTypeNotSupported, "The parameter "+showName(name)+" is not supported. Known here: "+strings.Join(known, ", ")+".")
			}
			q.ignored = append(q.ignored, showName(name))
		case name == "_type":
			if p := q.types(values); p != nil {
				return q, p
			}
		case len(values) > 0:
			key := strings.ToLower(name) // birthDate and birthdate are one parameter
			if other, given := one[key]; given {
				values = append(values, other)
			}
			if slices.ContainsFunc(values, func(v string) bool { return v != values[0] }) {
				return q, bad(fhir.IssueTypeInvalid, "The parameter "+key+" is given more than once, with different values: give one.")
			}
			one[key] = values[0]
		}
	}
	slices.Sort(q.ignored)
	if p := q.person(x.h, one); p != nil {
		return q, p
	}
	return q, q.period(one)
}

// showName returns a parameter's name if it is one that FHIR could know, so that nothing odd is repeated.
func showName(name string) string {
	plain := len(name) >= 1 && len(name) <= 64 && !strings.ContainsFunc(name, func(r rune) bool { return !isIDRune(r) && r != '_' })
	if !plain || record.SpellsNHSNumber(name) {
		return "(a name that is not shown)"
	}
	return name
}

// types reads _type: names of resource types with commas, in one value or several.
func (q *question) types(values []string) *problem {
	for _, v := range values {
		for t := range strings.SplitSeq(v, ",") {
			if !merge.IsType(t) {
				return bad(fhir.IssueTypeCodeInvalid, "_type is one or more names of FHIR R4 resource types, with commas.")
			}
			if !slices.Contains(q.filter.Types, t) {
				q.filter.Types = append(q.filter.Types, t)
			}
		}
	}
	if len(q.filter.Types) > 0 {
		q.used.Set("_type", strings.Join(q.filter.Types, ","))
	}
	return nil
}

// person reads who the question is about, if it says so here.
func (q *question) person(h *handler, one map[string]string) *problem {
	if id := one["identifier"]; id != "" {
		system, value, both := strings.Cut(id, "|")
		if !both {
			return bad(fhir.IssueTypeValue, "identifier is "+record.NHSNumberSystem+"|, then the NHS number.")
		}
		if system != record.NHSNumberSystem {
			return bad(fhir.IssueTypeCodeInvalid, "People are found by NHS number: the system of identifier is "+record.NHSNumberSystem+".")
		}
		n, err := record.ParseNHSNumber(value)
		if err != nil {
			return badNumber("identifier: " + err.Error() + ".")
		}
		q.subject = n
	}
	if id := one["_id"]; id != "" {
		n, ok := h.handles.Open(id)
		switch {
		case !ok && (!isID(id) || record.SpellsNHSNumber(id)): // who takes an NHS number for an id must not read that there is no such person
			return bad(fhir.IssueTypeValue, "_id is the id of a Patient that this service returned: an NHS number is searched for by identifier.")
		case !ok:
			q.nobody = id
		case !q.subject.IsZero() && q.subject != n:
			return bad(fhir.IssueTypeInvalid, "identifier and _id are of different people: give one.")
		default:
			q.subject = n
		}
	}
	if day := one["birthdate"]; day != "" {
		day = strings.TrimPrefix(day, "eq")
		if _, err := time.Parse(time.DateOnly, day); err != nil {
			return bad(fhir.IssueTypeValue, "birthdate is the day of birth, YYYY-MM-DD.")
		}
		q.birthDate = day
	}
	return nil
}

// period reads start, end and _since. Both days count whole; an instant needs its zone.
func (q *question) period(one map[string]string) *problem {
	for _, name := range []string{"start", "end"} {
		text := one[name]
		if text == "" {
			continue
		}
		day, err := record.ParseClinicalTime(text)
		if err != nil || day.Precision > record.Day {
			return bad(fhir.IssueTypeValue, name+" is a date: YYYY, YYYY-MM or YYYY-MM-DD.")
		}
		if name == "start" {
			q.filter.Start = day.Lo
		} else {
			q.filter.End = day.Hi
		}
		q.used.Set(name, text)
	}
	if !q.filter.Start.IsZero() && !q.filter.End.IsZero() && !q.filter.Start.Before(q.filter.End) {
		return bad(fhir.IssueTypeValue, "end is before start.")
	}
	if text := one["_since"]; text != "" {
		at, err := record.ParseClinicalTime(text)
		zoned := strings.HasSuffix(text, "Z") || len(text) > 6 && (text[len(text)-6] == '+' || text[len(text)-6] == '-') && strings.Contains(text, "T")
		// Hour 24 is what custodians write and FHIR forbids (hl7.org/fhir/R4/datatypes.html#instant): who asks is told.
		if err != nil || at.Precision < record.Second || !zoned || text[10:13] == "T24" {
			return bad(fhir.IssueTypeValue, "_since is an instant with a zone, YYYY-MM-DDThh:mm:ssZ, and midnight is 00:00:00; in an address, + is written %2B.")
		}
		q.filter.Since = at.Lo
		q.used.Set("_since", text)
	}
	return nil
}

// request makes the broker's request: the question, what the headers say of it, and who asks. What token and request both state must agree.
func (x *exchange) request(q question) (broker.Request, *problem) {
	var asked authn.Asked
	reason := ""
	asked.Subject = q.subject
	var p *problem
	for _, header := range []struct {
		name string
		read func(string) error
	}{
		{"X-Purpose-Of-Use", func(s string) error {
			asked.Purpose = record.Purpose(s)
			if s != "" && !asked.Purpose.Valid() {
				return &record.FieldError{Want: "one of TREAT, ETREAT, BTG, PATRQT"}
			}
			return nil
		}},
		{"X-Permission-To-View", func(s string) (err error) {
			asked.Permission, err = record.ParsePermission(s)
			return err
		}},
		{"X-Care-Relationship", func(s string) (err error) {
			asked.Relationship, err = record.ParseRelationship(s)
			return err
		}},
		{"X-Break-Glass-Reason", func(s string) error {
			reason = s
			return record.CheckFreeText("", s)
		}},
	} {
		values := x.r.Header.Values(header.name)
		if len(values) > 1 {
			return broker.Request{}, bad(fhir.IssueTypeInvalid, header.name+": give it once.")
		}
		text := ""
		if len(values) == 1 {
			text = values[0]
		}
		if err := header.read(text); err != nil {
			p = bad(fhir.IssueTypeValue, header.name+": "+want(err)+".")
		}
	}
	if p != nil {
		return broker.Request{}, p
	}
	asked, err := x.caller.Stated.Reconcile(asked)
	if err != nil {
		return broker.Request{}, bad(fhir.IssueTypeInvalid, disagreement(err))
	}
	if q.nobody != "" { // neither whom the token names nor oneself
		asked.Subject = q.subject
	} else if asked.Subject.IsZero() {
		asked.Subject = x.caller.Requester.Own
	}
	if asked.Subject.IsZero() && q.nobody == "" {
		return broker.Request{}, bad(fhir.IssueTypeRequired, "Say whose record: identifier="+record.NHSNumberSystem+"|, then the NHS number.")
	}
	if asked.Purpose == "" {
		return broker.Request{}, bad(fhir.IssueTypeRequired, "Say what for in X-Purpose-Of-Use: TREAT, ETREAT, BTG or PATRQT.")
	}
	if reason != "" && asked.Purpose != record.BreakGlass {
		return broker.Request{}, bad(fhir.IssueTypeInvalid, "X-Break-Glass-Reason goes with the purpose BTG only.")
	}
	if asked.Relationship.Kind == record.RelationshipNone && x.caller.Requester.Kind != record.Person {
		asked.Relationship.Kind = record.SelfClaimed
	}
	req := broker.Request{ID: x.id, Face: "rest", Operation: q.operation, Subject: asked.Subject, BirthDate: q.birthDate, Requester: x.caller.Requester,
		Role: x.h.roles.Role(x.caller.Requester), Purpose: asked.Purpose, Permission: asked.Permission, Relationship: asked.Relationship,
		BreakGlassReason: reason, Filter: q.filter, Demographics: q.operation != "everything", Arrived: time.Now()}
	if x.caller.Problem != nil {
		req.TokenProblem = consent.ReasonNoActingPerson
	}
	req.Meta = merge.BundleMeta{ID: x.id, Links: []merge.Link{{Relation: "self", URL: x.self(q, asked.Subject)}}, CodeBase: x.h.codeBase,
		Now: x.arrived.UTC().Format("2006-01-02T15:04:05.000Z"), Pretty: x.pretty}
	return req, nil
}

// self is the address of the answer with the parameters that were used. Whose record it is, it says by the handle.
func (x *exchange) self(q question, n record.NHSNumber) string {
	if q.nobody != "" {
		return x.h.base + "/Patient?_id=" + q.nobody
	}
	handle := x.h.handles.Seal(n)
	address := x.h.base + "/Patient/" + handle
	switch q.operation {
	case "search":
		return x.h.base + "/Patient?_id=" + handle
	case "everything":
		address += "/$everything"
	}
	if len(q.used) > 0 {
		address += "?" + q.used.Encode()
	}
	return address
}

// want returns what a [record.FieldError] says to give. No other error has a text that may be repeated.
func want(err error) string {
	var f *record.FieldError
	if errors.As(err, &f) {
		return f.Want
	}
	return "cannot be read"
}

func disagreement(err error) string {
	var d *authn.DisagreementError
	if errors.As(err, &d) {
		return d.Error() + "."
	}
	return "The token and the request state different things."
}

// form reads a body of form fields and adds the query's (search by POST, FHIR R4 3.1.1.1).
func (x *exchange) form() (url.Values, *problem) {
	if p := x.bodyIs("application/x-www-form-urlencoded"); p != nil {
		return nil, p
	}
	body, p := x.body()
	if p != nil {
		return nil, p
	}
	fields, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, bad(fhir.IssueTypeStructure, "The body cannot be read: write name=value, joined by &, with other characters escaped.")
	}
	if p := x.presentation(fields); p != nil {
		return nil, p
	}
	return joined(fields, x.query), nil
}

// joined returns the values of both.
func joined(a, b url.Values) url.Values {
	out := url.Values{}
	for _, from := range []url.Values{a, b} {
		for name, values := range from {
			out[name] = append(out[name], values...)
		}
	}
	return out
}

// isPost reports whether the request has a body to be read.
func (x *exchange) isPost() bool { return x.r.Method == http.MethodPost }
