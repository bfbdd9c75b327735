package record

import "time"

// ODSCode is an organisation's code of the Organisation Data Service: 3 to 10 upper-case letters and digits.
type ODSCode string

// ODSSystem is the identifier system of ODS codes.
const ODSSystem = "https://fhir.nhs.uk/Id/ods-organization-code"

// Valid reports whether c has the form of an ODS code.
func (c ODSCode) Valid() bool {
	if len(c) < 3 || len(c) > 10 {
		return false
	}
	for i := range len(c) {
		if b := c[i]; !(b >= 'A' && b <= 'Z' || b >= '0' && b <= '9') {
			return false
		}
	}
	return true
}

// CustodianKey is the short name of a custodian in configuration, ids and tags: 1 to 12 of a-z and 0-9 (M-5).
type CustodianKey string

// Valid reports whether k has the form of a key.
func (k CustodianKey) Valid() bool {
	if len(k) < 1 || len(k) > 12 {
		return false
	}
	for i := range len(k) {
		if b := k[i]; !(b >= 'a' && b <= 'z' || b >= '0' && b <= '9') {
			return false
		}
	}
	return true
}

// CustodianKind says what sort of organisation a custodian is. It is configuration; a protocol is code.
type CustodianKind string

// The kinds.
const (
	KindGP             CustodianKind = "gp"
	KindAcute          CustodianKind = "acute"
	KindMentalHealth   CustodianKind = "mental-health"
	KindCommunity      CustodianKind = "community"
	KindSocialCare     CustodianKind = "social-care"
	KindAmbulance      CustodianKind = "ambulance"
	KindPharmacy       CustodianKind = "pharmacy"
	Kind111            CustodianKind = "111"
	KindOutOfHours     CustodianKind = "out-of-hours"
	KindPatientEntered CustodianKind = "patient-entered" // a personal health record: shown to the person only (C-5)
)

// CustodianKinds lists all kinds.
var CustodianKinds = [...]CustodianKind{KindGP, KindAcute, KindMentalHealth, KindCommunity, KindSocialCare, KindAmbulance,
	KindPharmacy, Kind111, KindOutOfHours, KindPatientEntered}

// Valid reports whether k is one of the closed list.
func (k CustodianKind) Valid() bool {
	for _, x := range CustodianKinds {
		if x == k {
			return true
		}
	}
	return false
}

// Custodian is an organisation that holds a record and answers for it.
type Custodian struct {
	Key     CustodianKey
	ODS     ODSCode
	Name    string
	Kind    CustodianKind
	Neutral string // what it is called in a person's report, where its name would tell too much; "" for its name
	Contact string // who to ring or to ask for a copy; goes with every state
}

// State is how a custodian's part of an answer stands (design section 6). The list is closed.
type State string

// The states.
const (
	Returned       State = "returned"         // all that it holds
	ReturnedInPart State = "returned-in-part" // some, with Parts that say what is missing
	NoRecord       State = "no-record"
	Withheld       State = "withheld"
	TimedOut       State = "timed-out"
	Unavailable    State = "unavailable"
	Failed         State = "failed"
	NotAsked       State = "not-asked"
)

// States lists all states.
var States = [...]State{Returned, ReturnedInPart, NoRecord, Withheld, TimedOut, Unavailable, Failed, NotAsked}

// InTrouble reports whether the state is for want of an answer that might have held something.
func (s State) InTrouble() bool { return s == TimedOut || s == Unavailable || s == Failed }

// Showing reports whether content of this custodian is in the answer.
func (s State) Showing() bool { return s == Returned || s == ReturnedInPart }

// Part is a piece of a custodian's answer that is missing, and why. Reason is of a closed list per producer, never free text of a custodian.
type Part struct {
	Section string // a section code, or ""
	Source  string // a source's own name for the piece (a list, a system), or ""
	Reason  string // see the Part reasons
	Count   int    // how many resources, 0 where that is unknown or may not be told
}

// Part reasons.
const (
	PartWithheld          = "withheld"           // a section or entry the requester may not see; Count is 0 where policy forbids telling
	PartStrangers         = "other-people"       // resources about others, dropped and counted (P4)
	PartConflictingCopies = "conflicting-copies" // same type and id, different bytes (M-5)
	PartUnreadable        = "unreadable"         // resources that are not what they say
	PartConfidential      = "confidential-items" // the custodian says that it held something back
	PartInTransit         = "data-in-transit"
	PartAwaitingFiling    = "data-awaiting-filing"
	PartSourceDown        = "source-down" // one of several sources of this custodian gave nothing
	PartTruncated         = "truncated"
	PartFiltered          = "filter-not-applied"
	PartTooLong           = "too-long"        // documents that are too long to be shown with the record, and are listed only
	PartOtherCustodian    = "other-custodian" // pointers that are listed under another organisation, dropped and counted
)

// NotAsked reasons, carried in Status.Reason.
const (
	NotAskedPermit  = "permit"
	NotAskedBudget  = "budget"
	NotAskedLocator = "locator"
)

// Status is the state of one custodian in one answer, with what a reader needs to judge it.
type Status struct {
	Custodian Custodian
	State     State
	Reason    string // of a closed list: a consent reason, a NotAsked reason, a source error kind, or ""
	Rule      string // rule id when withheld or not asked, else ""
	Parts     []Part
	Asked     time.Time     // zero if not asked
	Took      time.Duration // 0 if not asked
	Adapter   string        // kind and version, "fhirr4/1"
	Shown     int           // resources of the custodian in the answer
	Received  int           // resources that it sent

	Explanation string    // where it is withheld or not asked: why, in plain words for whoever asked
	Preference  uint64    // ledger position of the person's choice that decided, 0 if none did
	Recorded    time.Time // when that choice was recorded
}

// SourceStatusSystemPath follows the configured base address in the code system of states.
const SourceStatusSystemPath = "/CodeSystem/source-status"
