package fhirrest

import (
	"errors"
	"net/http"
	"slices"

	"github.com/samply/golang-fhir-models/fhir-models/fhir"

	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// searchPatient serves GET Patient?identifier= and POST Patient/_search. For whom the neutral answer is due, it is no match: 200 with a total
// of nothing, the same bytes for every neutral class; the broker has waited already.
func (x *exchange) searchPatient() *problem {
	parameters := x.query
	if x.isPost() {
		var p *problem
		if parameters, p = x.form(); p != nil {
			return p
		}
	}
	q, p := x.readQuestion("search", parameters, personParameters)
	if p != nil {
		return p
	}
	req, p := x.request(q)
	if p != nil {
		return p
	}
	if q.nobody != "" && req.TokenProblem == "" {
		return x.matchNobody(q, req)
	}
	result, err := x.retrieve(req)
	defer result.Done() // when it has been written
	var r *broker.Refusal
	if errors.As(err, &r) && r.Kind == broker.NotFound {
		x.sendNoMatch(q, req.Meta, r.Statuses)
		return nil
	}
	if err != nil {
		return x.refused(err)
	}
	x.sendResult(q, req.Meta, result)
	return nil
}

// matchNobody answers a search by an id that is no handle of ours: no match, and no error (hl7.org/fhir/R4/search.html). There is nobody to trace or to
// ask about, and nothing to hide: handles cannot be made up, so it does not wait as a neutral answer does. It is on record as a request of which
// whose record it meant could not be read (L-6).
func (x *exchange) matchNobody(q question, req broker.Request) *problem {
	x.asked = true
	if _, err := x.h.broker.RefuseUnread(x.r.Context(), req); err != nil {
		return x.refused(err)
	}
	x.sendNoMatch(q, req.Meta, nil)
	return nil
}

// sendNoMatch sends the neutral answer to a search. It names custodians in trouble, as the broker knew them before this request.
func (x *exchange) sendNoMatch(q question, m merge.BundleMeta, troubled []record.Status) {
	x.sendBundle(merge.Answer{Entries: slices.Concat(x.h.notes(q), x.h.custodianOutcomes(troubled))}, m, noReceipt)
}

// sendResult sends a released answer, and what of the question was not done on top.
func (x *exchange) sendResult(q question, m merge.BundleMeta, result *broker.Result) {
	a := result.Answer
	a.Entries = slices.Concat(x.h.notes(q), a.Entries)
	x.sendBundle(a, m, result.Receipt)
}

// readPatient serves GET Patient/{handle}: the demographics request. The answer is the Patient that we author; its links lead to custodians'.
func readPatient(handle string) func(*exchange) *problem {
	return func(x *exchange) *problem {
		q, p := x.readQuestion("read", x.query, []string{"birthdate"})
		if p != nil {
			return p
		}
		if p := x.open(handle, &q); p != nil {
			return p
		}
		req, p := x.request(q)
		if p != nil {
			return p
		}
		result, err := x.retrieve(req)
		defer result.Done() // when it has been written
		if err != nil {
			return x.refused(err)
		}
		for _, e := range result.Answer.Entries {
			if e.Type == "Patient" && e.Custodian == "" && e.Mode == merge.Match {
				// A resource has no room for outcomes. Whoever needs to know which custodian is missing, and why, searches.
				x.w.Header().Set("X-Answer-Complete", completeText(result.Answer.Statuses))
				x.send(http.StatusOK, result.Receipt, e.JSON)
				return nil
			}
		}
		return x.h.withheldWhole(result)
	}
}

// withheldWhole is the answer to a read where all that there is, is withheld: a search answers the same with a Bundle without matches.
func (h *handler) withheldWhole(result *broker.Result) *problem {
	p := refusal(http.StatusForbidden, fhir.IssueSeverityError, fhir.IssueTypeSuppressed,
		"There is nothing that may be shown here. Each organisation can be asked itself, where that is right.")
	p.issues = append(p.issues, h.custodianIssues(result.Answer.Statuses)...)
	p.receipt = result.Receipt
	return p
}

// completeText says whether every custodian answered with all that it holds.
func completeText(statuses []record.Status) string {
	for _, s := range statuses {
		if s.State != record.Returned && s.State != record.NoRecord {
			return "false"
		}
	}
	return "true"
}

// retrieve asks the broker, which records whatever comes of it.
func (x *exchange) retrieve(req broker.Request) (*broker.Result, error) {
	x.asked = true
	return x.h.broker.Retrieve(x.r.Context(), req)
}

// open finds out whose handle it is. Handles cannot be made up, so who shows another text has not got it from here.
func (x *exchange) open(handle string, q *question) *problem {
	n, ok := x.h.handles.Open(handle)
	if !ok {
		return notFoundHere("No Patient has this id here. Search Patient by identifier, and use the id in the answer.")
	}
	if !q.subject.IsZero() && q.subject != n {
		return bad(fhir.IssueTypeInvalid, "identifier is of another person than the address: give one.")
	}
	q.subject = n
	return nil
}

// everythingByHandle serves GET and POST Patient/{handle}/$everything.
func everythingByHandle(handle string) func(*exchange) *problem {
	return func(x *exchange) *problem { return x.everything(handle) }
}

// everythingByIdentifier serves Patient/$everything. By POST it takes the identifier in the body, so that no address holds it. Without one
// it is the record of the one person whom the token names, and never everybody's.
func (x *exchange) everythingByIdentifier() *problem { return x.everything("") }

func (x *exchange) everything(handle string) *problem {
	if x.query.Has("identifier") || x.query.Has("birthdate") || x.query.Has("birthDate") {
		return bad(fhir.IssueTypeInvalid, "Send identifier and birthDate in a Parameters body by POST, not in the address.")
	}
	parameters := x.query
	if x.isPost() {
		var p *problem
		if parameters, p = x.parameters(); p != nil {
			return p
		}
	}
	q, p := x.readQuestion("everything", parameters, everythingParameters)
	if p != nil {
		return p
	}
	if handle != "" {
		if p := x.open(handle, &q); p != nil {
			return p
		}
	}
	req, p := x.request(q)
	if p != nil {
		return p
	}
	result, err := x.retrieve(req)
	defer result.Done() // when it has been written
	if err != nil {
		return x.refused(err)
	}
	x.sendResult(q, req.Meta, result)
	return nil
}
