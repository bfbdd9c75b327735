// Package consent decides who may see what. [Evaluate] is a pure function from a question and the person's preferences to
// a [Decision]; [Decide] reads the preferences first, and not being able to find out is a refusal, never an error (C-2.1).
//
// Only this package can make a [Permit], so a forgotten check does not compile.
//
// The national data opt-out and Type 1 opt-outs are not looked at anywhere here, on purpose: they concern uses beyond direct
// care, and such uses are refused by rule C-2.2 (C-7; NHS Digital, national data opt-out operational policy).
package consent

import (
	"context"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Registry knows people's preferences. The ledger is one.
//
// Preferences returns the preferences recorded under any of the numbers (a number and those that it supersedes), as of the
// last acknowledged change. It MUST NOT answer from a copy that may lag behind an acknowledgement. It is called concurrently.
type Registry interface {
	Preferences(ctx context.Context, numbers []record.NHSNumber) (Preferences, error)
}

// Scope says how far an objection reaches.
type Scope string

// The scopes.
const (
	ToAll       Scope = "all"       // to all sharing
	ToCustodian Scope = "custodian" // to one custodian's record being shown
	ToSection   Scope = "section"   // to one section, wherever it is held
)

// Status is where an objection stands. Only InForce withholds (C-1).
type Status string

// The statuses.
const (
	Requested Status = "requested"
	InForce   Status = "in-force"
	Declined  Status = "declined"
	Withdrawn Status = "withdrawn"
)

// Objection is one choice of a person not to have something shown.
type Objection struct {
	ID          string // opaque, from the ledger; 1 to 64 of A-Z a-z 0-9 - .
	Scope       Scope
	Custodian   record.CustodianKey // ToCustodian
	Section     record.Section      // ToSection
	Status      Status
	Absolute    bool      // binds the person's own view too
	From        time.Time // UTC, inclusive; zero: from ever
	Until       time.Time // UTC, exclusive; zero: without end
	AuthorUser  string    // who recorded it
	AuthorName  string
	AuthorRole  string
	AuthorODS   record.ODSCode
	Responsible string    // on whose behalf: "self", or free text such as "mother, parental responsibility"
	Method      string    // form, phone, in-person, online
	Source      string    // where the wish is on file: the reference of a form, a letter, a list's row; may be empty
	Recorded    time.Time // UTC, when the change that made it so was recorded
	Position    uint64    // ledger position of that change
}

// Binds reports whether o withholds at that instant.
func (o Objection) Binds(now time.Time) bool {
	return o.Status == InForce && !now.Before(o.From) && (o.Until.IsZero() || now.Before(o.Until))
}

// Preferences is all that a person has chosen.
type Preferences struct {
	Position    uint64 // ledger position of the newest change under any of the numbers, 0 for none: the version (C-9)
	Objections  []Objection
	Delegations []Delegation // to carers, in any status
}

// Role is what a requester's role may do, as the policy table says. The zero Role may do nothing.
type Role struct {
	Name              string                             // the row that applied
	Version           string                             // of the table: its hash
	Sections          map[record.Purpose]record.Sections // what may be seen for which purpose; a purpose that is missing may not be asked
	RecordsObjections bool                               // C-10
	SeesObjections    bool                               // C-10: IG, and those who may record
	SearchesLedger    bool                               // IG
	SeesStaffNames    bool                               // the person: the names of staff who asked for their record, beside role and organisation
	Oversees          []record.ODSCode                   // IG of a region: organisations whose accesses they see as if their own
	OverseesAll       bool                               // IG of a region: all organisations
	MovesObjections   bool                               // IG: brings whole lists of objections in and takes them out
	FollowsObjections bool                               // a system that must know: reads changes, and says that it adopted them
	Follows           []record.CustodianKey              // the custodians whose objections a follower is told of beside those to all and to sections; nil: every one
	NoPermission      bool                               // the requester's organisation is configured for permission not-required
}

// CustodianRules is what a custodian is configured to allow.
type CustodianRules struct {
	Custodian         record.Custodian
	EmergencyOverride bool            // break-glass overrides an objection here (C-3); default no
	Excluded          record.Sections // never shared by this custodian (C-2.5)
	PatientEntered    bool            // all that it holds was entered by the person (C-5)
}

// Question is all that a decision rests on, but for the preferences.
type Question struct {
	Subject          record.Subject
	Requester        record.Requester
	Role             Role
	Purpose          record.Purpose
	Permission       record.Permission
	Relationship     record.Relationship
	BreakGlassReason string
	Custodians       []CustodianRules
	DeceasedWindow   time.Duration // how long after death a record may still be asked for
	Now              time.Time
}

// Outcome is the decision on a request as a whole.
type Outcome string

// The outcomes.
const (
	Permitted  Outcome = "permit"     // at least one custodian may be asked, or each is withheld for a reason of its own
	Refused    Outcome = "refuse"     // permission, relationship, role or purpose missing, or cannot find out
	Suppressed Outcome = "suppressed" // an objection to all sharing leaves nothing
	Neutral    Outcome = "neutral"    // unknown, superseded, invalidated, restricted, deceased and closed: one answer for all
)

// Part is what one custodian may or may not give, for one reason.
type Part struct {
	Sections record.Sections
	Allowed  bool
	Outcome  Outcome // Permitted, Refused, or Suppressed for withheld
	Reason   Reason
	Rule     string    // "C-2.7"
	Position uint64    // of the objection that decided, 0 if none
	Recorded time.Time // when that objection was recorded
}

// CustodianDecision is the decision on one custodian: its Parts cover every section exactly once.
type CustodianDecision struct {
	Key       record.CustodianKey
	Permitted record.Sections
	Parts     []Part
}

// Decision says whether, what and why. It is recorded whole.
type Decision struct {
	Outcome    Outcome
	Reason     Reason // of the whole request
	Rule       string
	Position   uint64    // version of the preferences that it rests on (C-9)
	Preference uint64    // of the objection that decided the request as a whole, 0 if none did
	Recorded   time.Time // when that objection was recorded
	Custodians []CustodianDecision
	permit     Permit
}

// Permit is proof that a decision allowed a request. Only this package makes a valid one.
type Permit struct {
	question *Question // nil: no permit
	decision *Decision
}
