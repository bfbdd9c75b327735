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
	"github.com/mycarerecord/mycarerecord/broker/optoutlist"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// A Consent here is one objection of a person, in any status. Who may see it is C-10, and each look is an entry. Its id is that of the person's Patient,
// a dot, and the objection's: so that a read says whose it is, and grants nothing.

// consentQuestion is what a caller asks of somebody's objections.
type consentQuestion struct {
	subject   record.NHSNumber
	birthDate string
	statuses  []string // of FHIR; nil: all
	id        string   // the objection's; "" for all
	used      url.Values
	ignored   []string
	paging    bool
	nobody    bool // a handle that is none of ours: it matches nothing
}

var consentParameters = []string{"patient", "patient.identifier", "patient:identifier", "patient.birthdate", "status", "_id"}

// consentStatuses are those of FHIR and ours.
var consentStatuses = map[string]consent.Status{"proposed": consent.Requested, "active": consent.InForce, "rejected": consent.Declined, "inactive": consent.Withdrawn}

// searchConsent serves GET Consent?patient= and POST Consent/_search.
func (x *exchange) searchConsent() *problem {
	parameters := x.query
	if x.isPost() {
		var p *problem
		if parameters, p = x.form(); p != nil {
			return p
		}
	} else if parameters.Has("patient.identifier") || parameters.Has("patient:identifier") {
		return bad(fhir.IssueTypeInvalid, "Send an NHS number in a form by POST Consent/_search, not in the address.")
	}
	q, p := x.readConsentQuestion(parameters)
	if p != nil {
		return p
	}
	if q.nobody {
		return bad(fhir.IssueTypeValue, "patient is the id of a Patient that this service returned: search Patient by identifier first.")
	}
	req, p := x.objectionRequest(&q)
	if p != nil {
		return p
	}
	m := merge.BundleMeta{ID: x.id, Links: []merge.Link{{Relation: "self", URL: x.h.base + "/Consent?" + q.used.Encode()}}, CodeBase: x.h.codeBase,
		Now: x.arrived.UTC().Format("2006-01-02T15:04:05.000Z"), Pretty: x.pretty}
	notes := x.h.notes(question{ignored: q.ignored, paging: q.paging})
	x.asked = true
	list, receipt, err := x.h.broker.ShowObjections(x.r.Context(), req)
	var r *broker.Refusal
	if errors.As(err, &r) && r.Kind == broker.NotFound {
		// One answer for all of whom nothing may be said. It must not read as if there were no objections.
		x.sendBundle(merge.Answer{Entries: slices.Concat(notes, x.h.nothingOfConsents(), x.h.custodianOutcomes(r.Statuses))}, m, noReceipt)
		return nil
	}
	if err != nil {
		return x.refused(err)
	}
	a := merge.Answer{Entries: notes}
	handle := x.h.handles.Seal(req.Subject)
	for _, o := range list {
		if q.id != "" && o.ID != q.id || q.statuses != nil && !slices.ContainsFunc(q.statuses, func(s string) bool { return consentStatuses[s] == o.Status }) {
			continue
		}
		id := consentID(handle, o.ID)
		a.Entries = append(a.Entries, merge.Entry{FullURL: x.h.base + "/Consent/" + id, Type: "Consent", ID: id, Mode: merge.Match, JSON: x.h.consent(o, handle)})
		a.Total++
	}
	x.sendBundle(a, m, receipt)
	return nil
}

// readConsent serves GET Consent/{id}.
func readConsent(handle, objection string) func(*exchange) *problem {
	return func(x *exchange) *problem {
		for name := range x.query {
			if strings.HasPrefix(name, "patient") && name != "patient.birthdate" || name == "status" || name == "_id" {
				return bad(fhir.IssueTypeInvalid, "The id says whose Consent it is: beside it, patient.birthdate is read, and nothing else.")
			}
		}
		q, p := x.readConsentQuestion(joined(x.query, url.Values{"patient": {handle}}))
		if p != nil {
			return p
		}
		if q.nobody {
			return notFoundHere("No Consent has this id here. Search Consent by patient, and use the id in the answer.")
		}
		req, p := x.objectionRequest(&q)
		if p != nil {
			return p
		}
		x.asked = true
		list, receipt, err := x.h.broker.ShowObjections(x.r.Context(), req)
		if err != nil {
			return x.refused(err)
		}
		for _, o := range list {
			if o.ID == objection {
				x.send(http.StatusOK, receipt, x.h.consent(o, handle))
				return nil
			}
		}
		p = notFoundHere("This person has no Consent with this id. Search Consent by patient, and use the id in the answer.")
		p.receipt = receipt
		return p
	}
}

func consentID(handle, objection string) string { return handle + "." + objection }

// isConsentID parts the id of a Consent.
func isConsentID(id string) (handle, objection string, ok bool) {
	handle, objection, ok = strings.Cut(id, ".")
	return handle, objection, ok && isID(handle) && isID(objection)
}

// consent authors the Consent of an objection.
func (h *handler) consent(o consent.Objection, handle string) []byte {
	return optoutlist.Consent(o, optoutlist.Subject{Handle: handle, ID: consentID(handle, o.ID)}, optoutlist.Names{CodeBase: h.codeBase, ODS: h.ods})
}

// ods returns the code and name of a configured custodian.
func (h *handler) ods(key record.CustodianKey) (record.ODSCode, string, bool) {
	for _, c := range h.broker.Custodians() {
		if c.Custodian.Key == key {
			return c.Custodian.ODS, c.Custodian.Name, c.Custodian.ODS != ""
		}
	}
	return "", "", false
}

// nothingOfConsents says in an answer without a match what must not follow from it.
func (h *handler) nothingOfConsents() []merge.Entry {
	id := "outcome-nothing"
	text := outcome(&id, []fhir.OperationOutcomeIssue{issue(fhir.IssueSeverityWarning, fhir.IssueTypeNotFound,
		"Nothing can be shown for this request. It does not say that there is no objection: trace the person again with the demographics service.")})
	return []merge.Entry{{FullURL: h.base + "/OperationOutcome/" + id, Type: "OperationOutcome", ID: id, Mode: merge.Outcome, JSON: text}}
}

// readConsentQuestion reads parameters as readQuestion does: what is not known is ignored and told, or refused where the caller asked for that.
func (x *exchange) readConsentQuestion(parameters url.Values) (consentQuestion, *problem) {
	q := consentQuestion{used: url.Values{}}
	if len(parameters) > maxParameters {
		return q, bad(fhir.IssueTypeTooLong, "There are too many parameters.")
	}
	one := map[string]string{}
	for name, values := range parameters {
		values = slices.DeleteFunc(slices.Clone(values), func(v string) bool { return v == "" })
		switch {
		case name == "_format" || name == "_pretty":
		case name == "_count":
			if len(values) > 1 || len(values) == 1 && (len(values[0]) > 9 || strings.Trim(values[0], "0123456789") != "" || strings.Trim(values[0], "0") == "") {
				return q, bad(fhir.IssueTypeValue, "_count is a number of entries above 0, given once.")
			}
			q.paging = q.paging || len(values) > 0
		case slices.Contains(consentParameters, name):
			if slices.ContainsFunc(values, func(v string) bool { return v != values[0] }) {
				return q, bad(fhir.IssueTypeInvalid, "The parameter "+name+" is given more than once, with different values: give one.")
			}
			if len(values) > 0 {
				one[name] = values[0]
			}
		case strings.Contains(name, ":"):
			return q, bad(fhir.IssueTypeNotSupported, "Modifiers of parameters are not supported, but for patient:identifier.")
		case x.strict:
			return q, bad(fhir.IssueTypeNotSupported, "The parameter "+showName(name)+" is not supported. Known here: "+strings.Join(consentParameters, ", ")+".")
		default:
			q.ignored = append(q.ignored, showName(name))
		}
	}
	slices.Sort(q.ignored)
	if p := q.person(x.h, one); p != nil {
		return q, p
	}
	if list := one["status"]; list != "" {
		for s := range strings.SplitSeq(list, ",") {
			if _, known := consentStatuses[s]; !known && !slices.Contains([]string{"draft", "entered-in-error"}, s) {
				return q, bad(fhir.IssueTypeCodeInvalid, "status is one or more of proposed, active, rejected, inactive, with commas.")
			}
			q.statuses = append(q.statuses, s)
		}
		q.used.Set("status", list)
	}
	if id := one["_id"]; id != "" {
		handle, objection, ok := isConsentID(id)
		n, ours := x.h.handles.Open(handle)
		if !ok || !ours {
			return q, bad(fhir.IssueTypeValue, "_id is the id of a Consent that this service returned.")
		}
		if !q.subject.IsZero() && q.subject != n {
			return q, bad(fhir.IssueTypeInvalid, "_id and patient are of different people: give one.")
		}
		q.subject, q.id = n, objection
		q.used.Set("_id", id)
	}
	return q, nil
}

// person reads whose Consents are asked for.
func (q *consentQuestion) person(h *handler, one map[string]string) *problem {
	if reference := one["patient"]; reference != "" {
		handle := strings.TrimPrefix(strings.TrimPrefix(reference, h.base+"/"), "Patient/")
		n, ok := h.handles.Open(handle)
		if !ok {
			if record.SpellsNHSNumber(reference) {
				return bad(fhir.IssueTypeValue, "patient is the id of a Patient that this service returned: an NHS number is given as patient.identifier, by POST.")
			}
			q.nobody = true
		}
		q.subject = n
	}
	for _, name := range []string{"patient.identifier", "patient:identifier"} {
		id := one[name]
		if id == "" {
			continue
		}
		system, value, both := strings.Cut(id, "|")
		if !both || system != record.NHSNumberSystem {
			return bad(fhir.IssueTypeCodeInvalid, name+" is "+record.NHSNumberSystem+"|, then the NHS number.")
		}
		n, err := record.ParseNHSNumber(value)
		if err != nil {
			return badNumber(name + ": " + err.Error() + ".")
		}
		if !q.subject.IsZero() && q.subject != n || q.nobody {
			return bad(fhir.IssueTypeInvalid, "patient and "+name+" are of different people: give one.")
		}
		q.subject = n
	}
	if day := one["patient.birthdate"]; day != "" {
		day = strings.TrimPrefix(day, "eq")
		if _, err := time.Parse(time.DateOnly, day); err != nil {
			return bad(fhir.IssueTypeValue, "patient.birthdate is the day of birth, YYYY-MM-DD.")
		}
		q.birthDate = day
	}
	return nil
}

// objectionRequest makes the broker's request. Staff give the date of birth, people see their own.
func (x *exchange) objectionRequest(q *consentQuestion) (broker.ObjectionRequest, *problem) {
	asked, err := x.caller.Stated.Reconcile(authn.Asked{Subject: q.subject})
	if err != nil {
		return broker.ObjectionRequest{}, bad(fhir.IssueTypeInvalid, disagreement(err))
	}
	if asked.Subject.IsZero() {
		asked.Subject = x.caller.Requester.Own
	}
	if asked.Subject.IsZero() {
		return broker.ObjectionRequest{}, bad(fhir.IssueTypeRequired, "Say whose: patient={id of a Patient}, or by POST patient.identifier="+record.NHSNumberSystem+"|, then the NHS number.")
	}
	if q.birthDate == "" && x.caller.Requester.Kind != record.Person && x.caller.Problem == nil {
		return broker.ObjectionRequest{}, bad(fhir.IssueTypeRequired, "patient.birthdate: give the person's date of birth, YYYY-MM-DD.")
	}
	q.used.Set("patient", x.h.handles.Seal(asked.Subject))
	req := broker.ObjectionRequest{ID: x.id, Face: "rest", Requester: x.caller.Requester, Role: x.h.roles.Role(x.caller.Requester), Subject: asked.Subject,
		BirthDate: q.birthDate, Arrived: time.Now()}
	if x.caller.Problem != nil {
		req.TokenProblem = consent.ReasonNoActingPerson
	}
	return req, nil
}
