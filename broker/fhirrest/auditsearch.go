package fhirrest

import (
	"errors"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/samply/golang-fhir-models/fhir-models/fhir"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/authn"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// searchAuditEvent serves GET AuditEvent? and POST AuditEvent/_search: the questions of AuditService, with the same answers. Which question is asked is said by _query, or
// follows from what is given: patient, agent (a user or an organisation), or entity (an organisation whose records were asked for).

// auditParameters are those that are known here. NHS numbers are taken by POST alone.
var auditParameters = []string{"patient", "patient.identifier", "patient:identifier", "entity:identifier", "agent:identifier", "date", "outcome", "purpose", "_query", "reason", "_count", "page"}

// maxAuditCount is how many events one page holds at most.
const maxAuditCount = 1000

func (x *exchange) searchAuditEvent() *problem {
	parameters := x.query
	if x.isPost() {
		var p *problem
		if parameters, p = x.form(); p != nil {
			return p
		}
	} else {
		for _, name := range []string{"patient.identifier", "patient:identifier", "reason"} {
			if parameters.Has(name) {
				return bad(fhir.IssueTypeInvalid, "Send an NHS number, or a reason, in a form by POST AuditEvent/_search, not in the address. The reason may stand in the header X-Audit-Reason.")
			}
		}
	}
	q, used, ignored, p := x.readAuditQuestion(parameters)
	if p != nil {
		return p
	}
	x.asked = true
	answer, err := x.h.broker.AskLedger(x.r.Context(), q)
	if err != nil {
		return x.refused(err)
	}
	m := merge.BundleMeta{ID: x.id, Links: []merge.Link{{Relation: "self", URL: x.h.base + "/AuditEvent?" + used.Encode()}}, CodeBase: x.h.codeBase,
		Now: x.arrived.UTC().Format("2006-01-02T15:04:05.000Z"), Pretty: x.pretty}
	if answer.Next != "" {
		next := url.Values{"page": {answer.Next}}
		if n := q.Question.Limit; n != 0 {
			next.Set("_count", strconv.Itoa(n))
		}
		m.Links = append(m.Links, merge.Link{Relation: "next", URL: x.h.base + "/AuditEvent?" + next.Encode()})
	}
	a := merge.Answer{Entries: slices.Concat(x.h.notes(question{ignored: ignored}), x.h.followedNote(answer.Followed)), TotalUnknown: answer.Next != "" || q.Page != ""}
	for _, row := range answer.Rows {
		id := auditEventID(row.Position)
		a.Entries = append(a.Entries, merge.Entry{FullURL: x.h.base + "/AuditEvent/" + id, Type: "AuditEvent", ID: id, Mode: merge.Match, JSON: x.h.auditEvent(row)})
		a.Total++
	}
	x.sendBundle(a, m, answer.Receipt)
	return nil
}

// followedNote says where somebody was not looked for under earlier numbers, or was. It names no number.
func (h *handler) followedNote(f broker.Followed) []merge.Entry {
	text, severity := "", fhir.IssueSeverityInformation
	switch {
	case !f.Named:
		return nil
	case !f.Answered:
		text, severity = "The demographics service could not be asked just now: events under earlier numbers, if there were any, are not here.", fhir.IssueSeverityWarning
	case len(f.Superseded) > 0:
		text = "Events under the " + strconv.Itoa(len(f.Superseded)) + " earlier numbers that the demographics service confirms are here too."
	default:
		return nil
	}
	id := "outcome-numbers"
	return []merge.Entry{{FullURL: h.base + "/OperationOutcome/" + id, Type: "OperationOutcome", ID: id, Mode: merge.Outcome,
		JSON: outcome(&id, []fhir.OperationOutcomeIssue{issue(severity, fhir.IssueTypeInformational, text)})}}
}

// readAuditQuestion reads parameters as readQuestion does: what is not known is ignored and told, or refused where the caller asked for that.
func (x *exchange) readAuditQuestion(parameters url.Values) (q broker.LedgerQuestion, used url.Values, ignored []string, p *problem) {
	used = url.Values{}
	q = broker.LedgerQuestion{ID: x.id, Face: "rest", Requester: x.caller.Requester, Role: x.h.roles.Role(x.caller.Requester), Arrived: time.Now(), Reason: x.r.Header.Get("X-Audit-Reason")}
	if x.caller.Problem != nil {
		q.TokenProblem = consent.ReasonNoActingPerson
	}
	if len(parameters) > maxParameters {
		return q, used, nil, bad(fhir.IssueTypeTooLong, "There are too many parameters.")
	}
	one := map[string]string{}
	var dates []string
	for name, values := range parameters {
		values = slices.DeleteFunc(slices.Clone(values), func(v string) bool { return v == "" })
		switch {
		case name == "_format" || name == "_pretty" || len(values) == 0:
		case name == "date":
			dates = values
		case slices.Contains(auditParameters, name):
			if slices.ContainsFunc(values, func(v string) bool { return v != values[0] }) {
				return q, used, nil, bad(fhir.IssueTypeInvalid, "The parameter "+name+" is given more than once, with different values: give one.")
			}
			one[name] = values[0]
		case strings.Contains(name, ":"):
			return q, used, nil, bad(fhir.IssueTypeNotSupported, "Modifiers of parameters are not supported, but for :identifier of patient, agent and entity.")
		case x.strict:
			return q, used, nil, bad(fhir.IssueTypeNotSupported, "The parameter "+showName(name)+" is not supported. Known here: "+strings.Join(auditParameters, ", ")+".")
		default:
			ignored = append(ignored, showName(name))
		}
	}
	slices.Sort(ignored)
	if r := one["reason"]; r != "" {
		q.Reason = r
	}
	if record.CheckFreeText("reason", q.Reason) != nil {
		return q, used, nil, bad(fhir.IssueTypeValue, "The reason is text of at most 500 bytes.")
	}
	if n := one["_count"]; n != "" {
		limit, err := strconv.Atoi(n)
		if err != nil || limit < 1 || limit > maxAuditCount {
			return q, used, nil, bad(fhir.IssueTypeValue, "_count is 1 to 1000.")
		}
		q.Question.Limit = limit
		used.Set("_count", n)
	}
	if q.Page = one["page"]; q.Page != "" {
		for name := range one {
			if name != "page" && name != "_count" || dates != nil {
				return q, used, nil, bad(fhir.IssueTypeInvalid, "A page holds its question: beside page, only _count is read.")
			}
		}
		used.Set("page", q.Page)
		return q, used, ignored, nil
	}
	if p := x.auditFilters(&q, one, dates, used); p != nil {
		return q, used, nil, p
	}
	kind, p := auditKind(&q.Question, one["_query"])
	if p != nil {
		return q, used, nil, p
	}
	q.Question.Kind = kind
	if !kind.OfAccesses() && (one["outcome"] != "" || one["purpose"] != "") {
		return q, used, nil, bad(fhir.IssueTypeInvalid, "outcome and purpose go with questions about accesses.")
	}
	used.Set("_query", string(kind))
	return q, used, ignored, nil
}

// auditKind is the question that is asked.
func auditKind(q *audit.Question, named string) (audit.QuestionKind, *problem) {
	if named != "" {
		if kind := audit.QuestionKind(named); kind.Valid() {
			return kind, nil
		}
		return "", bad(fhir.IssueTypeValue, "_query is one of who-looked, by-user, by-staff, of-records, refusals, break-glass, consent-changes, ledger-reads.")
	}
	switch {
	case len(q.Subjects) > 0:
		return audit.WhoLooked, nil
	case q.User != "":
		return audit.ByUser, nil
	case q.Organisation != "":
		return audit.ByStaff, nil
	case q.Holder != "":
		return audit.OfRecords, nil
	}
	return "", bad(fhir.IssueTypeRequired, "Say what is asked: patient, agent:identifier, entity:identifier, or _query for a question that names nobody.")
}

// auditFilters reads what the question is restricted to.
func (x *exchange) auditFilters(q *broker.LedgerQuestion, one map[string]string, dates []string, used url.Values) *problem {
	var who consentQuestion
	if p := who.person(x.h, map[string]string{"patient": one["patient"], "patient.identifier": one["patient.identifier"], "patient:identifier": one["patient:identifier"]}); p != nil {
		return p
	}
	if who.nobody {
		return bad(fhir.IssueTypeValue, "patient is the id of a Patient that this service returned: search Patient by identifier first.")
	}
	if !who.subject.IsZero() {
		asked, err := x.caller.Stated.Reconcile(authn.Asked{Subject: who.subject})
		if err != nil {
			return bad(fhir.IssueTypeInvalid, disagreement(err))
		}
		q.Question.Subjects = []record.NHSNumber{asked.Subject}
		used.Set("patient", x.h.handles.Seal(asked.Subject))
	}
	for _, name := range []string{"agent:identifier", "entity:identifier"} {
		id := one[name]
		if id == "" {
			continue
		}
		system, value, _ := strings.Cut(id, "|")
		code := record.ODSCode(value)
		switch {
		case system == record.ODSSystem && code.Valid() && name == "agent:identifier":
			q.Question.Organisation = code
		case system == record.ODSSystem && code.Valid():
			q.Question.Holder = code
		case system == systemSDSUser && name == "agent:identifier" && isID(value):
			q.Question.User = value
		default:
			return bad(fhir.IssueTypeValue, "agent:identifier is "+systemSDSUser+"| and a user id, or "+record.ODSSystem+"| and an ODS code; entity:identifier is the latter, of the organisation whose records were asked for.")
		}
		used.Set(name, id)
	}
	for _, d := range dates {
		if p := dateBound(&q.Question, d); p != nil {
			return p
		}
		used.Add("date", d)
	}
	if from, until := q.Question.From, q.Question.Until; !from.IsZero() && !until.IsZero() && !from.Before(until) {
		return bad(fhir.IssueTypeValue, "The dates leave no time between them.")
	}
	for code := range strings.SplitSeq(one["outcome"], ",") {
		switch {
		case one["outcome"] == "":
		case code == "0":
			q.Question.Outcomes = append(q.Question.Outcomes, audit.TypeReleased, audit.TypeNothing)
		case code == "4":
			q.Question.Outcomes = append(q.Question.Outcomes, audit.TypeRefused, audit.TypeCancelled)
		case code == "8":
			q.Question.Outcomes = append(q.Question.Outcomes, audit.TypeAbandoned)
		default:
			return bad(fhir.IssueTypeCodeInvalid, "outcome is 0 (shown, or nothing to show), 4 (refused, or the caller left) or 8 (not known), with commas.")
		}
	}
	for code := range strings.SplitSeq(one["purpose"], ",") {
		p := record.Purpose(strings.TrimPrefix(code, systemActReason+"|"))
		switch {
		case one["purpose"] == "":
		case !p.Valid() || slices.Contains(q.Question.Purposes, p):
			return bad(fhir.IssueTypeCodeInvalid, "purpose is TREAT, ETREAT, BTG or PATRQT, each once, with commas.")
		default:
			q.Question.Purposes = append(q.Question.Purposes, p)
		}
	}
	for _, name := range []string{"outcome", "purpose"} {
		if one[name] != "" {
			used.Set(name, one[name])
		}
	}
	return nil
}

// dateBound reads one date with its prefix: ge, gt, le, lt, or none for within it (FHIR R4, search, 3.1.1.4.7). Bounds that were read before stay the tighter ones.
func dateBound(q *audit.Question, text string) *problem {
	prefix, rest := "eq", text
	if len(text) > 2 && text[0] >= 'a' && text[0] <= 'z' {
		prefix, rest = text[:2], text[2:]
	}
	t, err := record.ParseClinicalTime(rest)
	if err != nil {
		return bad(fhir.IssueTypeValue, "date is a FHIR date or time with a prefix of ge, gt, le, lt, or none: YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss with a zone.")
	}
	from, until := time.Time{}, time.Time{}
	switch prefix {
	case "eq":
		from, until = t.Lo, t.Hi
	case "ge":
		from = t.Lo
	case "gt":
		from = t.Hi
	case "le":
		until = t.Hi
	case "lt":
		until = t.Lo
	default:
		return bad(fhir.IssueTypeNotSupported, "date takes the prefixes ge, gt, le and lt, or none.")
	}
	if !from.IsZero() && from.After(q.From) {
		q.From = from
	}
	if !until.IsZero() && (q.Until.IsZero() || until.Before(q.Until)) {
		q.Until = until
	}
	return nil
}

// readAuditEvent serves GET AuditEvent/{id}: the event that a search shows under this id, to whoever may see it there.
func readAuditEvent(id string) func(*exchange) *problem {
	return func(x *exchange) *problem {
		q := broker.LedgerQuestion{ID: x.id, Face: "rest", Requester: x.caller.Requester, Role: x.h.roles.Role(x.caller.Requester), Arrived: time.Now(), Reason: x.r.Header.Get("X-Audit-Reason")}
		if x.caller.Problem != nil {
			q.TokenProblem = consent.ReasonNoActingPerson
		}
		if record.CheckFreeText("reason", q.Reason) != nil {
			return bad(fhir.IssueTypeValue, "The reason is text of at most 500 bytes.")
		}
		position, ok := isAuditEventID(id)
		if !ok {
			position = math.MaxInt64 // where nothing stands: the question is on record all the same, and answered alike
		}
		x.asked = true
		row, receipt, err := x.h.broker.ShowEvent(x.r.Context(), q, position)
		var refusal *broker.Refusal
		if errors.As(err, &refusal) && refusal.Kind == broker.NotFound {
			return notFoundHere("No AuditEvent that you may see has this id. Search AuditEvent, and use the id in the answer.")
		}
		if err != nil {
			return x.refused(err)
		}
		x.send(http.StatusOK, receipt, x.h.auditEvent(row))
		return nil
	}
}

// isAuditEventID reads the position out of an id that auditEventID made.
func isAuditEventID(id string) (position uint64, ok bool) {
	position, err := strconv.ParseUint(strings.TrimPrefix(id, "entry-"), 10, 63)
	return position, err == nil && auditEventID(position) == id
}
