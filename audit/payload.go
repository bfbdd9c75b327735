package audit

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// payload is what an entry says. One struct serves all types; ENTRY.md says which members each type has. The order of the fields is
// the order of the bytes: it is final. New members go at the end of their object, and are left out where they are empty, so that the
// bytes of what is written already do not change.
type payload struct {
	Opens       uint64          `json:"opens"`       // closings and chunks: position of the Begin
	Override    uint64          `json:"override"`    // Begin: position of its Override. Review: the Override reviewed
	Access      *accessBody     `json:"access"`      // Begin, Refused alone, Override
	Expires     string          `json:"expires"`     // Override
	Subject     string          `json:"subject"`     // closings, chunks, objections
	Supersedes  []string        `json:"supersedes"`  // closings, chunks
	Reason      string          `json:"reason"`      // closings
	Preferences uint64          `json:"preferences"` // chunk, Released: position of the newest preference read by this transaction
	Decision    *decisionBody   `json:"decision"`    // chunk, Released: if it is not the one in the Begin
	Disclosure  *disclosureBody `json:"disclosure"`  // closings, chunks
	Actor       *actorBody      `json:"actor"`       // objections, Read, Review
	Key         string          `json:"key"`         // objections: what makes the write safe to repeat
	Replaces    uint64          `json:"replaces"`    // objections: position of the entry whose state this one changes
	Objection   *objectionBody  `json:"objection"`   // objections
	Question    *questionBody   `json:"question"`    // Read
	Review      *reviewBody     `json:"review"`      // Review
	Minute      string          `json:"minute"`      // Check, Limited: which minute
	Count       uint64          `json:"count"`       // Check, Limited: how many calls
	Addresses   []addressBody   `json:"addresses"`   // Check
	Requester   *requesterBody  `json:"requester"`   // Limited
	Epoch       *epochBody      `json:"epoch"`       // Key
	Policy      *policyBody     `json:"policy"`      // Policy
	Import      uint64          `json:"import"`      // objections: position of the Import that brings it in; it stands from that one's Imported
	List        *listBody       `json:"list"`        // Import, Imported, Read of a list that was only checked
	Adopted     uint64          `json:"adopted"`     // Adopted: all changes up to and with this position
	Redact      *redactBody     `json:"redact"`      // Redact
	Delegation  *delegationBody `json:"delegation"`  // delegations
	Alert       *alertBody      `json:"alert"`       // Alert
	Handled     *handledBody    `json:"handled"`     // Handled
	Purpose     string          `json:"purpose"`     // closings, Refused alone: what the access was for, where it is not the usual; see namedPurpose
}

type accessBody struct {
	Key              string           `json:"key"`
	RequestID        string           `json:"requestId"`
	Face             string           `json:"face"`
	Operation        string           `json:"operation"`
	Subject          string           `json:"subject"`
	Supersedes       []string         `json:"supersedes"`
	Standing         string           `json:"standing"`
	Requester        requesterBody    `json:"requester"`
	RoleName         string           `json:"roleName"`
	Purpose          string           `json:"purpose"`
	Permission       permissionBody   `json:"permission"`
	Relationship     relationshipBody `json:"relationship"`
	BreakGlassReason string           `json:"breakGlassReason"`
	Filter           string           `json:"filter"`
	Decision         decisionBody     `json:"decision"`
	Reason           string           `json:"reason"`
	Rule             string           `json:"rule"`
	Asked            []string         `json:"asked"`
	Configuration    string           `json:"configuration"`
	Policy           string           `json:"policy"`
	At               string           `json:"at"`
	BudgetMS         int64            `json:"budgetMs"`
	Evidence         evidenceBody     `json:"evidence"`
}

type requesterBody struct {
	Kind         string `json:"kind"`
	User         string `json:"user"`
	Name         string `json:"name"`
	RoleProfile  string `json:"roleProfile"`
	JobRole      string `json:"jobRole"`
	Organisation string `json:"organisation"`
	Client       string `json:"client"`
	Issuer       string `json:"issuer"`
	TokenID      string `json:"tokenId"`
	Own          string `json:"own"`
}

type permissionBody struct {
	Kind   string `json:"kind"`
	On     string `json:"on"`
	Ref    string `json:"ref"`
	Reason string `json:"reason"`
}

type relationshipBody struct {
	Kind string `json:"kind"`
	Ref  string `json:"ref"`
}

type decisionBody struct {
	Outcome    string                  `json:"outcome"`
	Reason     string                  `json:"reason"`
	Rule       string                  `json:"rule"`
	Position   uint64                  `json:"position"`
	Custodians []custodianDecisionBody `json:"custodians"`
}

type custodianDecisionBody struct {
	Key       string     `json:"key"`
	Permitted []string   `json:"permitted"`
	Parts     []partBody `json:"parts"`
	Like      bool       `json:"like"` // decided as of the custodian in front: nearly all are, and a list of sections for each was half of what a ledger holds
}

type partBody struct {
	Sections []string `json:"sections"`
	Allowed  bool     `json:"allowed"`
	Outcome  string   `json:"outcome"`
	Reason   string   `json:"reason"`
	Rule     string   `json:"rule"`
	Position uint64   `json:"position"`
}

type disclosureBody struct {
	Custodians []shownBody  `json:"custodians"`
	Total      int          `json:"total"`
	Bytes      int64        `json:"bytes"`
	Evidence   evidenceBody `json:"evidence"`
}

type shownBody struct {
	Key      string        `json:"key"`
	State    string        `json:"state"`
	Reason   string        `json:"reason"`
	Parts    []missingBody `json:"parts"`
	Sections []string      `json:"sections"`
	Count    int           `json:"count"`
	Digests  []byte        `json:"digests"` // 32 bytes each, one after the other
}

type missingBody struct {
	Section string `json:"section"`
	Source  string `json:"source"`
	Reason  string `json:"reason"`
	Count   int    `json:"count"`
}

type actorBody struct {
	Requester requesterBody `json:"requester"`
	RoleName  string        `json:"roleName"`
	RequestID string        `json:"requestId"`
	Reason    string        `json:"reason"`
	Face      string        `json:"face"`

	Configuration string `json:"configuration"`
	Policy        string `json:"policy"`
}

type objectionBody struct {
	ID          string `json:"id"`
	Scope       string `json:"scope"`
	Custodian   string `json:"custodian"`
	Section     string `json:"section"`
	Status      string `json:"status"`
	Absolute    bool   `json:"absolute"`
	From        string `json:"from"`
	Until       string `json:"until"`
	AuthorUser  string `json:"authorUser"`
	AuthorName  string `json:"authorName"`
	AuthorRole  string `json:"authorRole"`
	AuthorODS   string `json:"authorOds"`
	Responsible string `json:"responsible"`
	Method      string `json:"method"`
	Source      string `json:"source"`
}

type delegationBody struct {
	ID         string   `json:"id"`
	Carer      string   `json:"carer"`
	Name       string   `json:"name"`
	Sections   []string `json:"sections"`
	Custodians []string `json:"custodians"`
	Status     string   `json:"status"`
	From       string   `json:"from"`
	Until      string   `json:"until"`
	AuthorUser string   `json:"authorUser"`
}

type questionBody struct {
	Kind         string   `json:"kind"` // see the list below
	Subjects     []string `json:"subjects"`
	User         string   `json:"user"`
	Organisation string   `json:"organisation"`
	From         string   `json:"from"`
	Until        string   `json:"until"`
	Types        []string `json:"types"`
	Within       string   `json:"within"`
	Custodians   []string `json:"custodians"`
	Limit        int      `json:"limit"`
	Before       uint64   `json:"before"`
	After        uint64   `json:"after"`    // export and changes: where the page begins
	AfterRow     uint64   `json:"afterRow"` // changes: the last row told of the import whose Imported stands behind After
	Through      uint64   `json:"through"`  // export and changes: everything up to here has now been told
	Asks         string   `json:"asks"`     // answers and totals: which question
	Purposes     []string `json:"purposes"`
	Holder       string   `json:"holder"`
	Overseen     []string `json:"overseen"` // organisations beside within; "*" for all
	Of           uint64   `json:"of"`       // view and event: the position asked for
	Archive      uint32   `json:"archive"`  // the key epoch whose archive was asked, or written
}

// The kinds of question.
const (
	questionLedger      = "ledger"
	questionObjections  = "objections"
	questionList        = "list"    // a list to be imported was held against what is recorded
	questionExport      = "export"  // a page of all objections
	questionEntries     = "entries" // every entry, sealed
	questionChanges     = "changes" // a page of changes, for a following system
	questionDelegations = "delegations"
	questionOverrides   = "overrides" // uses of break-glass
	questionAlerts      = "alerts"    // the worklist
	questionAlert       = "alert"     // one alert, with the access that it is about
	questionActivity    = "activity"  // counts of a time
	questionAnswers     = "answers"   // a page of what answers a question of the list
	questionTotals      = "totals"    // counts of it
	questionView        = "view"      // what was shown in one view
	questionEvent       = "event"     // one row, by its position
	questionForesight   = "foresight" // what somebody would be shown
)

type listBody struct {
	Digest      string `json:"digest"`
	Format      string `json:"format"`
	Rows        uint64 `json:"rows"`
	New         uint64 `json:"new"`
	Present     uint64 `json:"present"`
	LeftOut     uint64 `json:"leftOut"`
	Unconfirmed uint64 `json:"unconfirmed"`
}

type reviewBody struct {
	Outcome string `json:"outcome"`
	Note    string `json:"note"`
}

type addressBody struct {
	Address string `json:"address"` // "" for all that were over the bound
	Count   uint64 `json:"count"`
}

type epochBody struct {
	Origin      string `json:"origin"`
	Number      uint32 `json:"number"`
	Fingerprint string `json:"fingerprint"`
	Signer      string `json:"signer"`    // a key that signs checkpoints from now on: its verifier key (C2SP signed-note); where it is alone there is no number and no fingerprint
	Continues   string `json:"continues"` // of the first entry: the last good checkpoint of the ledger that this one continues
	Purposes    bool   `json:"purposes"`  // what ends an access, or refuses one, from here on says what it was for where that is not the usual: see namedPurpose
}

type alertBody struct {
	Of      uint64      `json:"of"`      // position of the access: its Begin, its Refused where it was not opened, or its Override
	Topic   []byte      `json:"topic"`   // keyed hash of user, person and rule: a second alert about the same thing is found by it
	Rules   []firedBody `json:"rules"`   // heaviest first
	Score   int         `json:"score"`   // sum of the weights of those that nothing explains
	Version string      `json:"version"` // hash of the rules
}

type firedBody struct {
	Rule      string `json:"rule"`
	Weight    int    `json:"weight"`
	Count     int    `json:"count"`
	Usual     int    `json:"usual"`
	Explained string `json:"explained"`
}

type handledBody struct {
	Alert   uint64 `json:"alert"` // position of the Alert
	Step    string `json:"step"`
	Outcome string `json:"outcome"`
	Note    string `json:"note"`
	Rule    string `json:"rule"` // the alert's heaviest rule, so that its precision is counted without it
}

type redactBody struct {
	Basis     string      `json:"basis"`
	Reference string      `json:"reference"`
	Count     uint64      `json:"count"`
	Ranges    []rangeBody `json:"ranges"`
}

type rangeBody struct {
	From  uint64 `json:"from"`
	Count uint64 `json:"count"`
}

type policyBody struct {
	Configuration string `json:"configuration"`
	Policy        string `json:"policy"`
}

// typeNames are the names of the types, in ENTRY.md, in questions and in what people are shown.
var typeNames = [...]string{TypeBegin: "begin", TypeChunk: "chunk", TypeReleased: "released", TypeRefused: "refused", TypeNothing: "nothing",
	TypeCancelled: "cancelled", TypeAbandoned: "abandoned", TypeObjection: "objection", TypeOverride: "override", TypeReview: "review",
	TypeRead: "read", TypeCheck: "check", TypeLimited: "limited", TypeKey: "key", TypePolicy: "policy",
	TypeImport: "import", TypeImported: "imported", TypeAdopted: "adopted", TypeRedact: "redact", TypeDelegation: "delegation",
	TypeAlert: "alert", TypeHandled: "handled"}

// Valid reports whether t is of the closed list.
func (t EntryType) Valid() bool { return t >= TypeBegin && t <= TypeHandled }

// String returns the type's name, such as "released".
func (t EntryType) String() string {
	if !t.Valid() {
		return fmt.Sprintf("type-%d", uint8(t))
	}
	return typeNames[t]
}

// ParseEntryType returns the type of a name.
func ParseEntryType(name string) (EntryType, bool) {
	i := slices.Index(typeNames[:], name)
	return EntryType(max(i, 0)), i > 0
}

// Closes reports whether t can close an access.
func (t EntryType) Closes() bool { return t >= TypeReleased && t <= TypeAbandoned }

// timeForm is RFC 3339 in UTC with exactly six digits of a second.
const timeForm = "2006-01-02T15:04:05.000000Z"

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Truncate(time.Microsecond).Format(timeForm)
}

// texts converts lists of words; an empty list is nil.
func texts[T ~string](in []T) []string {
	out := roomFor[string](len(in))
	for _, x := range in {
		out = append(out, string(x))
	}
	return out
}

// roomFor is an empty list with room for n, nil for none.
func roomFor[T any](n int) []T {
	if n == 0 {
		return nil
	}
	return make([]T, 0, n)
}

func words[T ~string](in []string) []T {
	out := roomFor[T](len(in))
	for _, x := range in {
		out = append(out, T(x))
	}
	return out
}

func reveal(numbers []record.NHSNumber) []string {
	out := roomFor[string](len(numbers))
	for _, n := range numbers {
		out = append(out, n.Reveal())
	}
	return out
}

// codes are those of sections. They are not changed: nearly every entry holds all of them, many times.
func codes(s record.Sections) []string {
	if s == record.AllSections {
		return allCodes
	}
	return s.Codes()
}

var allCodes = slices.Clip(record.AllSections.Codes())

func requesterOut(r record.Requester) requesterBody {
	return requesterBody{string(r.Kind), r.User, r.Name, r.RoleProfile, r.JobRole, string(r.Organisation), r.Client, r.Issuer, r.TokenID, r.Own.Reveal()}
}

func decisionOut(d consent.Decision) decisionBody {
	out := decisionBody{Outcome: string(d.Outcome), Reason: string(d.Reason), Rule: d.Rule, Position: d.Position, Custodians: roomFor[custodianDecisionBody](len(d.Custodians))}
	for i, c := range d.Custodians {
		if i > 0 && c.Permitted == d.Custodians[i-1].Permitted && slices.Equal(c.Parts, d.Custodians[i-1].Parts) {
			out.Custodians = append(out.Custodians, custodianDecisionBody{Key: string(c.Key), Like: true})
			continue
		}
		cd := custodianDecisionBody{Key: string(c.Key), Permitted: codes(c.Permitted), Parts: roomFor[partBody](len(c.Parts))}
		for _, p := range c.Parts {
			cd.Parts = append(cd.Parts, partBody{codes(p.Sections), p.Allowed, string(p.Outcome), string(p.Reason), p.Rule, p.Position})
		}
		out.Custodians = append(out.Custodians, cd)
	}
	return out
}

func accessOut(a Access) *accessBody {
	return &accessBody{
		Key: a.Key, RequestID: a.RequestID, Face: a.Face, Operation: a.Operation, Subject: a.Subject.Reveal(), Supersedes: reveal(a.Supersedes),
		Standing: string(a.Standing), Requester: requesterOut(a.Requester), RoleName: a.RoleName, Purpose: string(a.Purpose),
		Permission:   permissionBody{string(a.Permission.Kind), a.Permission.On, a.Permission.Ref, a.Permission.Reason},
		Relationship: relationshipBody{string(a.Relationship.Kind), a.Relationship.Ref}, BreakGlassReason: a.BreakGlassReason, Filter: a.Filter,
		Decision: decisionOut(a.Decision), Reason: string(a.Reason), Rule: a.Rule, Asked: texts(a.Asked), Configuration: a.Configuration,
		Policy: a.Policy, At: stamp(a.At), BudgetMS: a.Budget.Milliseconds(), Evidence: evidenceOut(a.Evidence),
	}
}

func disclosureOut(d Disclosure) *disclosureBody {
	out := &disclosureBody{Total: d.Total, Bytes: d.Bytes, Evidence: evidenceOut(d.Evidence), Custodians: roomFor[shownBody](len(d.Custodians))}
	for _, c := range d.Custodians {
		s := shownBody{Key: string(c.Key), State: string(c.State), Reason: c.Reason, Sections: codes(c.Sections), Count: c.Count, Parts: roomFor[missingBody](len(c.Parts)),
			Digests: roomFor[byte](32 * len(c.Digests))}
		for _, p := range c.Parts {
			s.Parts = append(s.Parts, missingBody{p.Section, p.Source, p.Reason, p.Count})
		}
		for _, digest := range c.Digests {
			s.Digests = append(s.Digests, digest[:]...)
		}
		out.Custodians = append(out.Custodians, s)
	}
	return out
}

func actorOut(a Actor) *actorBody {
	return &actorBody{requesterOut(a.Requester), a.RoleName, a.RequestID, a.Reason, a.Face, a.Configuration, a.Policy}
}

func objectionOut(o consent.Objection) *objectionBody {
	section := ""
	if o.Scope == consent.ToSection {
		section = o.Section.Code()
	}
	return &objectionBody{o.ID, string(o.Scope), string(o.Custodian), section, string(o.Status), o.Absolute, stamp(o.From), stamp(o.Until),
		o.AuthorUser, o.AuthorName, o.AuthorRole, string(o.AuthorODS), o.Responsible, o.Method, o.Source}
}

func delegationOut(d consent.Delegation) *delegationBody {
	return &delegationBody{d.ID, d.Carer.Reveal(), d.Name, codes(d.Sections), texts(d.Custodians), string(d.Status), stamp(d.From), stamp(d.Until), d.AuthorUser}
}

func questionOut(q Search) *questionBody {
	out := &questionBody{Kind: questionLedger, Subjects: reveal(q.Subjects), User: q.User, Organisation: string(q.Organisation), From: stamp(q.From),
		Until: stamp(q.Until), Within: string(q.Within), Custodians: texts(q.Custodians), Limit: q.Limit, Before: q.Before, Overseen: texts(q.Overseen)}
	if q.Everywhere {
		out.Overseen = []string{"*"}
	}
	for _, t := range q.Types {
		out.Types = append(out.Types, t.String())
	}
	return out
}

// reading turns bodies back into words. It remembers the first thing that cannot be, which is damage: nothing of the kind was written.
type reading struct{ bad bool }

func (r *reading) time(s string) time.Time {
	if s == "" {
		return time.Time{}
	}
	t, err := time.Parse(timeForm, s)
	r.bad = r.bad || err != nil
	return t
}

func (r *reading) number(s string) record.NHSNumber {
	if s == "" {
		return record.NHSNumber{}
	}
	n, err := record.ParseNHSNumber(s)
	r.bad = r.bad || err != nil
	return n
}

func (r *reading) numbers(in []string) []record.NHSNumber {
	out := roomFor[record.NHSNumber](len(in))
	for _, s := range in {
		out = append(out, r.number(s))
	}
	return out
}

func (r *reading) section(code string) record.Section {
	s, ok := record.ParseSection(code)
	r.bad = r.bad || !ok
	return s
}

func (r *reading) sections(in []string) record.Sections {
	if len(in) == len(allCodes) && &in[0] == &allCodes[0] { // read as one
		return record.AllSections
	}
	var out record.Sections
	for _, code := range in {
		out = out.With(r.section(code))
	}
	return out
}

func (r *reading) requester(b requesterBody) record.Requester {
	return record.Requester{Kind: record.RequesterKind(b.Kind), User: b.User, Name: b.Name, RoleProfile: b.RoleProfile, JobRole: b.JobRole,
		Organisation: record.ODSCode(b.Organisation), Client: b.Client, Issuer: b.Issuer, TokenID: b.TokenID, Own: r.number(b.Own)}
}

func (r *reading) decision(b decisionBody) consent.Decision {
	out := consent.Decision{Outcome: consent.Outcome(b.Outcome), Reason: consent.Reason(b.Reason), Rule: b.Rule, Position: b.Position, Custodians: roomFor[consent.CustodianDecision](len(b.Custodians))}
	for i, c := range b.Custodians {
		if c.Like {
			if i == 0 || len(c.Permitted)+len(c.Parts) > 0 {
				r.bad = true
				return out
			}
			like := out.Custodians[i-1]
			like.Key = record.CustodianKey(c.Key)
			out.Custodians = append(out.Custodians, like)
			continue
		}
		cd := consent.CustodianDecision{Key: record.CustodianKey(c.Key), Permitted: r.sections(c.Permitted), Parts: roomFor[consent.Part](len(c.Parts))}
		for _, p := range c.Parts {
			cd.Parts = append(cd.Parts, consent.Part{Sections: r.sections(p.Sections), Allowed: p.Allowed, Outcome: consent.Outcome(p.Outcome),
				Reason: consent.Reason(p.Reason), Rule: p.Rule, Position: p.Position})
		}
		out.Custodians = append(out.Custodians, cd)
	}
	return out
}

func (r *reading) access(b accessBody) *Access {
	return &Access{
		Key: b.Key, RequestID: b.RequestID, Face: b.Face, Operation: b.Operation, Subject: r.number(b.Subject), Supersedes: r.numbers(b.Supersedes),
		Standing: record.Standing(b.Standing), Requester: r.requester(b.Requester), RoleName: b.RoleName, Purpose: record.Purpose(b.Purpose),
		Permission:   record.Permission{Kind: record.PermissionKind(b.Permission.Kind), On: b.Permission.On, Ref: b.Permission.Ref, Reason: b.Permission.Reason},
		Relationship: record.Relationship{Kind: record.RelationshipKind(b.Relationship.Kind), Ref: b.Relationship.Ref}, BreakGlassReason: b.BreakGlassReason,
		Filter: b.Filter, Decision: r.decision(b.Decision), Reason: consent.Reason(b.Reason), Rule: b.Rule, Asked: words[record.CustodianKey](b.Asked),
		Configuration: b.Configuration, Policy: b.Policy, At: r.time(b.At), Budget: time.Duration(b.BudgetMS) * time.Millisecond,
		Evidence: r.evidence(b.Evidence),
	}
}

func (r *reading) disclosure(b disclosureBody) *Disclosure {
	out := &Disclosure{Total: b.Total, Bytes: b.Bytes, Evidence: r.evidence(b.Evidence), Custodians: roomFor[Shown](len(b.Custodians))}
	for _, c := range b.Custodians {
		s := Shown{Key: record.CustodianKey(c.Key), State: record.State(c.State), Reason: c.Reason, Sections: r.sections(c.Sections), Count: c.Count, Parts: roomFor[record.Part](len(c.Parts)),
			Digests: roomFor[[32]byte](len(c.Digests) / 32)}
		for _, p := range c.Parts {
			s.Parts = append(s.Parts, record.Part{Section: p.Section, Source: p.Source, Reason: p.Reason, Count: p.Count})
		}
		r.bad = r.bad || len(c.Digests)%32 != 0
		for d := range slices.Chunk(c.Digests[:len(c.Digests)/32*32], 32) {
			s.Digests = append(s.Digests, [32]byte(d))
		}
		out.Custodians = append(out.Custodians, s)
	}
	return out
}

func (r *reading) actor(b actorBody) *Actor {
	return &Actor{Requester: r.requester(b.Requester), RoleName: b.RoleName, RequestID: b.RequestID, Reason: b.Reason, Face: b.Face,
		Configuration: b.Configuration, Policy: b.Policy}
}

// objection reads an objection; when and where it was recorded is the entry's to say.
func (r *reading) objection(b objectionBody, e *Entry) *consent.Objection {
	o := &consent.Objection{ID: b.ID, Scope: consent.Scope(b.Scope), Custodian: record.CustodianKey(b.Custodian), Status: consent.Status(b.Status),
		Absolute: b.Absolute, From: r.time(b.From), Until: r.time(b.Until), AuthorUser: b.AuthorUser, AuthorName: b.AuthorName, AuthorRole: b.AuthorRole,
		AuthorODS: record.ODSCode(b.AuthorODS), Responsible: b.Responsible, Method: b.Method, Source: b.Source, Recorded: e.Time, Position: e.Position}
	if o.Scope == consent.ToSection {
		o.Section = r.section(b.Section)
	}
	return o
}

// delegation reads a delegation; when and where it was recorded is the entry's to say.
func (r *reading) delegation(b delegationBody, e *Entry) *consent.Delegation {
	return &consent.Delegation{ID: b.ID, Carer: r.number(b.Carer), Name: b.Name, Sections: r.sections(b.Sections), Custodians: words[record.CustodianKey](b.Custodians),
		Status: consent.Status(b.Status), From: r.time(b.From), Until: r.time(b.Until), AuthorUser: b.AuthorUser, Recorded: e.Time, Position: e.Position}
}

// decode opens an entry and reads its payload. The error wraps ErrDamaged.
func decode(k *Keys, e *Entry) (*payload, error) {
	text, err := e.open(k)
	if err != nil {
		return nil, err
	}
	return decodeText(text, e)
}

// decodeText is decode for an entry that was opened.
func decodeText(text []byte, e *Entry) (*payload, error) {
	p := &payload{}
	if err := parseCanonical(text, p); err != nil {
		return nil, fmt.Errorf("entry %d: %w", e.Position, err)
	}
	if !p.fits(e.Type) {
		return nil, fmt.Errorf("%w: the payload of entry %d is not that of its type", ErrDamaged, e.Position)
	}
	return p, nil
}

// opensOf reads of a payload which access it ends or continues, 0 for none, and nothing else: where it is said, it is said first.
func opensOf(text []byte) (position uint64) {
	digits, is := bytes.CutPrefix(text, []byte(`{"opens":`))
	for i := 0; is && i < len(digits) && digits[i] >= '0' && digits[i] <= '9'; i++ {
		position = 10*position + uint64(digits[i]-'0')
	}
	return position
}

// fits reports whether p has the members that its type must have, by the table in ENTRY.md.
func (p *payload) fits(t EntryType) bool {
	closing := p.Access == nil && p.Opens != 0 && p.Subject != ""
	if p.Purpose != "" && !t.Closes() {
		return false
	}
	switch t {
	case TypeBegin:
		return p.Access != nil && p.Access.Subject != ""
	case TypeOverride:
		return p.Access != nil && p.Access.Subject != "" && p.Expires != ""
	case TypeRefused:
		return p.Access != nil || closing && p.Disclosure != nil
	case TypeChunk, TypeReleased, TypeNothing, TypeCancelled:
		return closing && (p.Disclosure != nil || t == TypeCancelled)
	case TypeAbandoned:
		return closing
	case TypeObjection:
		return p.Subject != "" && p.Actor != nil && p.Objection != nil
	case TypeReview:
		return p.Override != 0 && p.Actor != nil && p.Review != nil
	case TypeRead:
		return p.Actor != nil && p.Question != nil
	case TypeCheck:
		return p.Minute != ""
	case TypeLimited:
		return p.Minute != "" && p.Requester != nil
	case TypeKey:
		return p.Epoch != nil && (p.Epoch.Number != 0 || p.Epoch.Signer != "")
	case TypePolicy:
		return p.Policy != nil
	case TypeImport:
		return p.Actor != nil && p.List != nil
	case TypeImported:
		return p.Opens != 0 && p.Actor != nil && p.List != nil
	case TypeAdopted:
		return p.Actor != nil && p.Adopted != 0
	case TypeRedact:
		return p.Actor != nil && p.Redact != nil && len(p.Redact.Ranges) > 0
	case TypeDelegation:
		return p.Subject != "" && p.Actor != nil && p.Delegation != nil
	case TypeAlert:
		return p.Requester != nil && p.Alert != nil && len(p.Alert.Rules) > 0
	case TypeHandled:
		return p.Actor != nil && p.Handled != nil && p.Handled.Alert != 0
	}
	return false
}

// found turns an entry into what a search shows.
func found(k *Keys, e *Entry) (Found, error) {
	text, err := e.open(k)
	if err != nil {
		return Found{}, err
	}
	return foundIn(text, e)
}

// foundIn is found for an entry that was opened.
func foundIn(text []byte, e *Entry) (Found, error) {
	p, err := decodeText(text, e)
	if err != nil {
		return Found{}, err
	}
	r := &reading{}
	f := Found{about: r.numbers(p.Supersedes), Replaces: p.Replaces, Position: e.Position, Type: e.Type, At: e.Time, Leaf: e.Leaf, Opens: p.Opens, Subject: r.number(p.Subject), Reason: p.Reason, Count: int(p.Count), list: p.Import}
	if p.Access != nil {
		f.Access = r.access(*p.Access)
		f.about = f.Access.subjects()
		f.Subject, f.Reason = f.Access.Subject, string(f.Access.Reason)
		if e.Type == TypeOverride {
			f.Reason, f.Expires = f.Access.BreakGlassReason, r.time(p.Expires)
		}
	}
	if p.Disclosure != nil {
		f.Disclosure = r.disclosure(*p.Disclosure)
	}
	if p.Objection != nil {
		f.Objection = r.objection(*p.Objection, e)
	}
	if p.Delegation != nil {
		f.Delegation = r.delegation(*p.Delegation, e)
	}
	if p.Actor != nil {
		f.Actor = r.actor(*p.Actor)
		f.Reason = f.Actor.Reason
	}
	if p.Requester != nil {
		f.Actor = &Actor{Requester: r.requester(*p.Requester)}
	}
	if p.List != nil {
		f.Count = int(p.List.Rows)
	}
	if e.Type == TypeImported {
		f.Reason = p.Reason
	}
	if p.Adopted != 0 {
		f.Opens = p.Adopted
	}
	if p.Question != nil {
		if f.Asked = p.Question.Asks; f.Asked == "" {
			f.Asked = p.Question.Kind
		}
		if p.Question.Kind == questionAlert {
			f.ofAlert = p.Question.Before
		}
		if f.about = r.numbers(p.Question.Subjects); len(f.about) > 0 {
			f.Subject = f.about[0]
		}
	}
	if p.Review != nil {
		f.Opens, f.Reason, f.Note = p.Override, p.Review.Outcome, p.Review.Note
	}
	if p.Alert != nil {
		f.Alert = alertIn(p.Alert, f.Actor.Requester)
		f.Opens, f.Reason = p.Alert.Of, string(f.Alert.Rules[0].Rule)
	}
	if p.Handled != nil {
		f.Handled = &Handling{Alert: p.Handled.Alert, Step: AlertStep(p.Handled.Step), Outcome: ReviewOutcome(p.Handled.Outcome), Note: p.Handled.Note, Rule: AlertKind(p.Handled.Rule)}
		f.Opens, f.Reason, f.Note = p.Handled.Alert, cmp.Or(p.Handled.Outcome, p.Handled.Step), p.Handled.Note
	}
	if p.Redact != nil {
		f.Reason, f.Count = p.Redact.Basis, int(p.Redact.Count)
	}
	if r.bad {
		return Found{}, fmt.Errorf("%w: entry %d holds a word that was never written", ErrDamaged, e.Position)
	}
	return f, nil
}
