package audit

import (
	"slices"
	"strings"

	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// Explain says in plain words, to the person whose record it is, what an entry tells and why it came out as it did (C-9). It says nothing of what is in
// the record. It is "" for entries that concern no person.
func (f Found) Explain() string {
	switch f.Type {
	case TypeBegin:
		if f.Access.Requester.Kind == record.Person {
			return whoAsked(f.Access)
		}
		return whoAsked(f.Access) + " " + f.Access.Decision.Reason.TextForPerson()
	case TypeChunk, TypeReleased:
		return "What they were allowed to see was sent to them."
	case TypeRefused:
		switch {
		case f.Access == nil:
		case f.Access.Requester.Kind == record.Person && f.Access.Requester.Own == f.Access.Subject:
			return whoAsked(f.Access) + " It was not shown."
		default:
			return whoAsked(f.Access) + " " + f.Access.Reason.TextForPerson()
		}
		return consent.Reason(f.Reason).TextForPerson()
	case TypeNothing:
		return consent.Reason(f.Reason).TextForPerson()
	case TypeCancelled:
		return consent.ReasonCancelled.TextForPerson()
	case TypeAbandoned:
		return "It is not known how this request ended. Count it as one that may have been answered."
	case TypeOverride:
		return "They went ahead without your permission, with the reason that is given here. An officer is told and must review it."
	case TypeReview:
		return map[string]string{
			string(Justified):    "An officer looked into this emergency access and found that there was good reason for it.",
			string(NotJustified): "An officer looked into this emergency access and found no good reason for it.",
			string(Referred):     "An officer looked into this emergency access and passed it to whoever decides on it.",
		}[f.Reason]
	case TypeObjection:
		switch {
		case f.Listed == Incoming:
			return "This objection stands in a list that has not come in yet. It holds nothing back so far."
		case f.Listed == GivenUp:
			return "This objection stood in a list that never came in. It never held anything back."
		case f.Listed == CameIn && f.Objection.Status == consent.InForce:
			return "This objection came with a list. It holds from when the whole list came in."
		}
		return map[consent.Status]string{
			consent.Requested: "An objection was asked for. It holds nothing back until it is decided on.",
			consent.InForce:   "This objection holds from here on.",
			consent.Declined:  "This objection was declined. It holds nothing back.",
			consent.Withdrawn: "This objection was withdrawn. It holds nothing back from here on.",
		}[f.Objection.Status]
	case TypeDelegation:
		if f.Delegation.Status == consent.Withdrawn {
			return "This carer may no longer see your record."
		}
		return "You let this carer see your record, as far and as long as it says here."
	case TypeRead:
		return "Somebody looked at who has seen your record, or at your choices. They saw nothing of the record itself."
	case TypeCheck, TypeLimited, TypeKey, TypePolicy, TypeImport, TypeImported, TypeAdopted, TypeRedact, TypeAlert, TypeHandled:
	}
	return ""
}

// recordOperations are the calls that ask for a record, or for a document of one, as they are recorded; "unread" is the FHIR gateway's word for any call that it could not read.
var recordOperations = []string{"everything", "search", "read", "document", "unread", "GetRecord", "StreamRecord", "GetDocument"}

// AsksRecord reports whether an access, or an attempt at one, was for a record, and not for what the ledger holds or what people chose: questions of that kind that were refused are recorded
// like refused accesses, by their operation.
func (a *Access) AsksRecord() bool {
	return a.Operation == "" || slices.Contains(recordOperations, strings.TrimPrefix(a.Operation, "unread "))
}

// whoAsked names the sort of person who asked, never the person: whether names are shown is for whoever shows the entry.
func whoAsked(a *Access) string {
	switch {
	case !a.AsksRecord() && a.Requester.Kind == record.Person && a.Requester.Own == a.Subject:
		return "You asked who had looked at your record, or to see or change your choices."
	case !a.AsksRecord() && a.Requester.Kind == record.Person:
		return "Another person asked who had looked at your record, or to see or change your choices."
	case !a.AsksRecord():
		return "Somebody who works in health or care asked who had looked at your record, or to see or change your choices."
	case a.Requester.Kind != record.Person:
		return "Somebody who works in health or care asked for your record."
	case a.Requester.Own == a.Subject:
		return "You asked for your own record."
	}
	if a.Decision.Outcome == consent.Permitted {
		return "A carer whom you let see your record asked for it."
	}
	return "Another person asked for your record."
}
