package record

import (
	"fmt"
	"log/slog"
)

// RequesterKind says in what capacity somebody asks.
type RequesterKind string

// The kinds of requester.
const (
	Professional RequesterKind = "professional" // a member of staff with a selected role
	Person       RequesterKind = "person"       // the person themselves (NHS login)
	System       RequesterKind = "system"       // an engine that names no acting person; may be told nothing about anybody
)

// Requester is who asks, as the token says it: never as the request says it.
type Requester struct {
	Kind         RequesterKind
	User         string    // SDS user id; for a person the issuer's subject
	Name         string    // as the token gave it; for the ledger only
	RoleProfile  string    // SDS role profile id of the selected role
	JobRole      string    // job role code of the selected role, e.g. "R8000"
	Organisation ODSCode   // of the selected role
	Client       string    // the system that asked, as the token issuer knows it
	Issuer       string    // who vouches for this
	TokenID      string    // jti
	Own          NHSNumber // the person's own number; zero for staff
}

const redactedRequester = "Requester(redacted)"

// Format writes a fixed word for every verb: a requester may be the person themselves. As with [Subject.Format], it is not
// called for unexported fields.
func (r Requester) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redactedRequester)) }

// MarshalText returns a fixed word, so that no encoder writes a requester by accident.
func (r Requester) MarshalText() ([]byte, error) { return []byte(redactedRequester), nil }

// LogValue returns a fixed word.
func (r Requester) LogValue() slog.Value { return slog.StringValue(redactedRequester) }

// Purpose is the purpose of use, from HL7 v3 ActReason.
type Purpose string

// The purposes. Nothing else is accepted: the national data opt-out and Type 1 opt-outs concern uses beyond direct care,
// which this product refuses, so they have no place in any decision here (C-7).
const (
	Treatment     Purpose = "TREAT"
	UrgentCare    Purpose = "ETREAT"
	BreakGlass    Purpose = "BTG"
	PatientAccess Purpose = "PATRQT"
)

// Purposes lists all purposes.
var Purposes = [...]Purpose{Treatment, UrgentCare, BreakGlass, PatientAccess}

// Valid reports whether p is of the closed list.
func (p Purpose) Valid() bool {
	return p == Treatment || p == UrgentCare || p == BreakGlass || p == PatientAccess
}

// PermissionKind is what the person said when asked, or why they were not.
type PermissionKind string

// The kinds of permission.
const (
	PermissionNone      PermissionKind = ""
	AskedYes            PermissionKind = "asked-yes"
	AskedEarlier        PermissionKind = "asked-earlier"
	ImpliedByReferral   PermissionKind = "implied-by-referral"
	CannotAsk           PermissionKind = "cannot-ask"
	BestInterests       PermissionKind = "best-interests"
	PermissionNotNeeded PermissionKind = "not-required"
	AskedNo             PermissionKind = "asked-no"
	PatientSelf         PermissionKind = "patient-self"
	Delegated           PermissionKind = "delegated" // a carer asks, whom the person lets see their record (C-6)
)

// Permission is the permission to view, as the request states it.
type Permission struct {
	Kind   PermissionKind
	On     string // asked-earlier: the day, YYYY-MM-DD
	Ref    string // implied-by-referral
	Reason string // cannot-ask, best-interests
}

// RelationshipKind is how the requester is involved in the person's care.
type RelationshipKind string

// The kinds of relationship.
const (
	RelationshipNone RelationshipKind = ""
	Registered       RelationshipKind = "registered"
	Referral         RelationshipKind = "referral"
	Admission        RelationshipKind = "admission"
	Appointment      RelationshipKind = "appointment"
	Attendance       RelationshipKind = "attendance"
	Caseload         RelationshipKind = "caseload"
	SelfClaimed      RelationshipKind = "self-claimed"
)

// Relationship is the legitimate relationship, as the request states it.
type Relationship struct {
	Kind RelationshipKind
	Ref  string
}

// MaxFreeText is the cap, in bytes, of any free text that a request may carry.
const MaxFreeText = 500
