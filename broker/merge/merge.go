// Package merge turns custodians' replies into one chronological answer. It is pure: it reads no clock, no network and no file,
// and the same input gives the same bytes (design section 7).
//
// [Prepare] takes one custodian's reply: whose it is (M-4), what may be shown (C-4, C-5), new ids and references (M-5, M-6), tags.
// [Assemble] puts prepared replies, our own Patient, outcomes and provenance in the order of M-8. A custodian's bytes change only
// as the closed list of M-3 says.
//
// The rules that people argue about are tables, one a file: subjects.go says which elements name a person, dates.go where a clinical
// time stands, sections.txt what belongs where, references.go what is a reference and what becomes of it, grouping.go what is likely to be the
// same thing at two custodians. DESIGN.md says why things are as they are.
//
// Where the design leaves a choice, this was chosen. A reply must have exactly one Patient with the number asked for; Patients with other
// numbers are strangers like any other (a reply of mixed people is returned in part, design section 6). meta.lastUpdated is never a
// clinical time. A reference to a stranger's resource is masked like one to a withheld one. An entry that names a withheld one in a string that is no
// reference, where nothing can be masked, is withheld too; free text and narrative are not searched (C-4). _type narrows the matches only: what
// they refer to comes along. The sections that a permit leaves out are parts of every answer under it, whether or not anything stands in
// them, so that naming them tells nothing.
package merge

import (
	"time"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Request is what is the same for every custodian of one request.
type Request struct {
	Base        string // our FHIR base address, no trailing slash; begins every fullUrl
	CodeBase    string // base of our own code systems, e.g. "https://mycarerecord.example"
	Subject     record.Subject
	Handle      string    // id of the Patient that we author (M-7)
	PatientView bool      // the person's own view (C-5)
	Carer       bool      // with PatientView: it is their carer's (C-6), and what the person entered is not shown either
	Now         time.Time // decides future and past, once per request
	IDKey       []byte    // key of the HMAC in ids (M-5)
	Filter      Filter
	RequestID   string
	Sections    *SectionRules // nil: those that are built in
}

// Filter is what the caller asked to see less of (M-12).
type Filter struct {
	Types      []string  // nil: all
	Start, End time.Time // half-open; zero: open. Undated entries stay, marked
	Since      time.Time // meta.lastUpdated; zero: none. Entries without one stay, marked
}

// Rules is what is configured or decided for one custodian.
type Rules struct {
	Permitted        record.Sections // what the permit leaves; an entry is withheld if any of its sections is not among them (C-4)
	TellCounts       bool            // whether the number of withheld entries may be told
	PatientEntered   bool            // all that it holds was entered by the person (C-5)
	LabelsEntered    bool            // its meta.security PATAST means patient-entered (C-5)
	LabelsNoPatient  bool            // it labels NOPAT: in the person's view, what carries no label at all is still not cleared
	Excluded         CodeList        // entries with such a code are withheld, counted, never described (C-2.5)
	AcceptUnverified bool            // accepts NHS numbers whose status is not 01 (M-4)
	// DocumentAddress makes the sealed address of a document (M-3), wherever it is, or returns "" for one that the custodian's adapter cannot open.
	// Such a one stays as it is, dangling if it is on the custodian's own server; so do all where this is nil.
	DocumentAddress func(d Document) string
}

// Document is what an Attachment says of the document that it leads to.
type Document struct {
	Address  string          // in full
	Type     string          // Attachment.contentType, "" if it does not say
	Sections record.Sections // those of the entry that it stands in, none for one that stands in no section
}

// Code is a coding's system and code.
type Code struct{ System, Code string }

// Reply is what one custodian sent.
type Reply struct {
	Custodian   record.Custodian
	Base        string
	Entries     []fhirjson.Entry
	Parts       []record.Part
	Adapter     string
	Conversions []string
	Asked       time.Time
	Took        time.Duration
	Beside      []Beside // what further sources of the same custodian returned, each from a server of its own
}

// Beside is what one more source of a custodian returned.
type Beside struct {
	Base    string
	Entries []fhirjson.Entry
}

// Mode is an entry's search.mode.
type Mode string

// The modes.
const (
	Match   Mode = "match"
	Include Mode = "include"
	Outcome Mode = "outcome"
)

// Entry is one entry of an answer, ready to send.
type Entry struct {
	FullURL   string
	Type      string
	ID        string
	Mode      Mode
	Custodian record.CustodianKey // "" for what we author
	Section   record.Section      // primary; of matches only
	Others    record.Sections     // further ones
	Time      record.ClinicalTime
	JSON      []byte   // the resource
	Digest    [32]byte // SHA-256 of JSON; of custodians' entries only

	marksFrom, marksTo int32 // its marks in those of its Prepared
}

// EntryLimits are those under which an entry of ours is read again: a mask may reach deeper than what it stands for.
var EntryLimits = fhirjson.Limits{Depth: fhirjson.Default.Depth + 2}

// Counts is the conservation sum of one custodian (M-11): Received = Shown + all the others. It is for the ledger and for operators: what
// a requester may know of it is in the Status.
type Counts struct {
	Received  int // resources, OperationOutcomes aside
	Shown     int
	Folded    int // byte-identical copies
	Strangers int // other people's, or nobody's for certain
	Withheld  int
	Filtered  int // the caller asked not to see them
	Financial int
	Unlinked  int // supporting resources that nothing shown refers to
}

// Sum returns all counts but Received.
func (c Counts) Sum() int {
	return c.Shown + c.Folded + c.Strangers + c.Withheld + c.Filtered + c.Financial + c.Unlinked
}

// Prepared is one custodian's part of an answer.
type Prepared struct {
	Status    record.Status // its Received is 0 where it could tell how much is withheld, whether or not something is
	Entries   []Entry       // matches and includes in the order of M-8
	PatientID string        // new id of the custodian's Patient; "" if nothing is shown
	also      []string      // and of those of its further sources, where they are others
	Counts    Counts
	Dangling  int             // references that lead nowhere at the custodian
	Sections  record.Sections // of the entries shown
	Digest    [32]byte        // SHA-256 over the digests of the entries, in order
	Alarm     bool            // an operator must look: other people's resources, or a sum that is wrong
	reply     Reply           // without its entries

	lateUnknown int // matches kept although _since was given and they do not say when they changed
	undated     int // matches without a clinical time
	foldedShown int // copies of entries that are shown
	marks       []mark
}

// Answer is all of it, in the order of M-8.
type Answer struct {
	Entries  []Entry
	Statuses []record.Status // one per configured custodian, in the order given
	Total    int             // matches
	// TotalUnknown leaves the total out: the answer is a page, and how many there are in all is not known.
	TotalUnknown bool
	Groups       []Group // what looks like the same thing at several custodians (M-9), in the order of their first members
	Handle       string
}
