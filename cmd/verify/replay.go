package main

import (
	"maps"
	"math"
	"slices"
	"time"
)

// payload is as much of an entry's payload as a checker needs (audit/ENTRY.md).
type payload struct {
	Opens       uint64          `json:"opens"`
	Override    uint64          `json:"override"`
	Access      *accessBody     `json:"access"`
	Expires     string          `json:"expires"`
	Subject     string          `json:"subject"`
	Supersedes  []string        `json:"supersedes"`
	Reason      string          `json:"reason"`
	Preferences uint64          `json:"preferences"`
	Decision    *decisionBody   `json:"decision"`
	Disclosure  *disclosureBody `json:"disclosure"`
	Replaces    uint64          `json:"replaces"`
	Objection   *objectionBody  `json:"objection"`
	Epoch       *epochBody      `json:"epoch"`
	Import      uint64          `json:"import"`
	List        *listBody       `json:"list"`
	Redact      *redactBody     `json:"redact"`
	Delegation  *delegationBody `json:"delegation"`
	Alert       *alertBody      `json:"alert"`
	Handled     *handledBody    `json:"handled"`
}

type accessBody struct {
	RequestID  string   `json:"requestId"`
	Subject    string   `json:"subject"`
	Supersedes []string `json:"supersedes"`
	Requester  struct {
		Kind string `json:"kind"`
		Own  string `json:"own"`
	} `json:"requester"`
	Purpose  string       `json:"purpose"`
	Decision decisionBody `json:"decision"`
	Asked    []string     `json:"asked"`
	BudgetMS int64        `json:"budgetMs"`
}

type decisionBody struct {
	Custodians []struct {
		Key       string   `json:"key"`
		Permitted []string `json:"permitted"`
		Parts     []struct {
			Sections []string `json:"sections"`
			Reason   string   `json:"reason"`
		} `json:"parts"`
		Like bool `json:"like"` // decided as of the custodian in front
	} `json:"custodians"`
}

type disclosureBody struct {
	Custodians []shown `json:"custodians"`
}

type shown struct {
	Key      string   `json:"key"`
	Sections []string `json:"sections"`
	Count    int      `json:"count"`
	Digests  []byte   `json:"digests"`
}

type objectionBody struct {
	ID        string `json:"id"`
	Scope     string `json:"scope"`
	Custodian string `json:"custodian"`
	Section   string `json:"section"`
	Status    string `json:"status"`
	Absolute  bool   `json:"absolute"`
	From      string `json:"from"`
	Until     string `json:"until"`
}

type delegationBody struct {
	ID         string   `json:"id"`
	Carer      string   `json:"carer"`
	Sections   []string `json:"sections"`
	Custodians []string `json:"custodians"`
	Status     string   `json:"status"`
	From       string   `json:"from"`
	Until      string   `json:"until"`
}

type epochBody struct {
	Origin    string `json:"origin"`
	Number    uint32 `json:"number"`
	Signer    string `json:"signer"`
	Continues string `json:"continues"`
}

type listBody struct {
	New uint64 `json:"new"`
}

type alertBody struct {
	Of uint64 `json:"of"`
}

type handledBody struct {
	Alert uint64 `json:"alert"`
	Step  string `json:"step"`
}

type redactBody struct {
	Count  uint64 `json:"count"`
	Ranges []struct {
		From  uint64 `json:"from"`
		Count uint64 `json:"count"`
	} `json:"ranges"`
}

// replay goes through the entries in order and holds every release against what people had said before it. It knows the rules from ENTRY.md alone.
type replay struct {
	c           *checker
	on          bool // payloads can be read
	broken      bool // one of them could not: what follows may follow from that
	violations  int
	releases    int
	refusals    int
	open        map[uint64]*begun
	begins      []*begun // every one, for the custodians' logs
	overrides   map[uint64]time.Time
	preferences map[string]map[string]*preference // by person, by id
	byID        map[string]*preference
	imports     map[uint64]*list
	gone        map[uint64]bool // objections, delegations and alerts that were erased
	alerts      map[uint64]bool // whether each is closed
}

type begun struct {
	position uint64
	at       time.Time
	access   *accessBody
	override uint64
	claimed  map[string]int // requests in custodians' logs, by custodian
}

// preference is the newest state of an objection or a delegation.
type preference struct {
	position   uint64
	about      string
	objection  *objectionBody
	delegation *delegationBody
	list       uint64
}

type list struct {
	rows  uint64
	ended uint64
	stood bool
}

func newReplay(c *checker) *replay {
	return &replay{c: c, open: map[uint64]*begun{}, overrides: map[uint64]time.Time{}, preferences: map[string]map[string]*preference{}, byID: map[string]*preference{},
		imports: map[uint64]*list{}, gone: map[uint64]bool{}, alerts: map[uint64]bool{}}
}

// violation is a problem that says that somebody's choice was not kept.
func (r *replay) violation(position uint64, format string, args ...any) {
	r.violations++
	r.problem(position, format, args...)
}

func (r *replay) problem(position uint64, format string, args ...any) {
	if r.broken {
		r.c.derived(position, format, args...)
	} else {
		r.c.problem(position, format, args...)
	}
}

func (r *replay) erased(position uint64, kind uint8) {
	if kind == typeObjection || kind == typeDelegation || kind == typeAlert {
		r.gone[position] = true
	}
}

// lost notes an entry that should open and does not: what comes after cannot be replayed fully, and the checker has said so.
func (r *replay) lost() { r.on, r.broken = true, true }

func (r *replay) take(e *entry, p *payload) {
	r.on = true
	at, position := micros(e.Time), *e.Position
	switch {
	case e.Type == typeBegin && p.Access != nil:
		b := &begun{position, at, p.Access, p.Override, map[string]int{}}
		r.open[position] = b
		r.begins = append(r.begins, b)
		if _, known := r.overrides[p.Override]; p.Override != 0 && (!known || p.Override+1 != position) {
			r.problem(position, "its override does not stand directly before it")
		}
		if p.Access.Purpose == "BTG" && p.Override == 0 {
			r.violation(position, "the glass was broken without an override")
		}
	case e.Type == typeOverride && p.Access != nil:
		r.overrides[position] = moment(p.Expires)
	case e.Type == typeRefused && p.Access != nil:
		r.refusals++
	case e.Type == typeChunk, e.Type >= typeReleased && e.Type <= typeAbandoned:
		b := r.open[p.Opens]
		if b == nil {
			r.problem(position, "it continues an access that is not open: there is none at %d, or it was closed", p.Opens)
			return
		}
		if p.Subject != b.access.Subject || !slices.Equal(p.Supersedes, b.access.Supersedes) {
			r.problem(position, "it is about another person than the access at %d", p.Opens)
		}
		if e.Type == typeChunk || e.Type == typeReleased {
			r.release(position, at, p, b)
		}
		if e.Type != typeChunk {
			delete(r.open, p.Opens)
		}
	case e.Type == typeObjection && p.Objection != nil:
		r.state(position, p, &preference{position: position, about: p.Subject, objection: p.Objection, list: p.Import}, p.Objection.ID)
	case e.Type == typeDelegation && p.Delegation != nil:
		r.state(position, p, &preference{position: position, about: p.Subject, delegation: p.Delegation}, p.Delegation.ID)
	case e.Type == typeAlert && p.Alert != nil:
		if p.Alert.Of >= position {
			r.problem(position, "it is of no access in front of it")
		}
		r.alerts[position] = false
	case e.Type == typeHandled && p.Handled != nil:
		closed, known := r.alerts[p.Handled.Alert]
		switch step := p.Handled.Step; {
		case r.gone[p.Handled.Alert]:
		case !known:
			r.problem(position, "it is of no alert")
		case step != "taken" && step != "closed" && step != "reopened" || closed != (step == "reopened"):
			r.problem(position, "it was done to an alert that was not so")
		default:
			r.alerts[p.Handled.Alert] = step == "closed"
		}
	case e.Type == typeImport:
		r.imports[position] = &list{}
	case e.Type == typeImported:
		l := r.imports[p.Opens]
		if l == nil || l.ended != 0 {
			r.problem(position, "it ends a list that is not on its way in")
			return
		}
		if p.Reason == "" && (p.List == nil || p.List.New != l.rows) {
			r.problem(position, "it puts %d objections in force, and says another number", l.rows)
		}
		l.ended, l.stood = position, p.Reason == ""
	}
}

func (r *replay) state(position uint64, p *payload, now *preference, id string) {
	before := r.byID[id]
	switch {
	case before == nil && p.Replaces != 0 || before != nil && p.Replaces != before.position:
		r.problem(position, "it does not change the newest state of its objection or delegation")
	case before != nil && (before.about != now.about || (before.objection == nil) != (now.objection == nil)):
		r.problem(position, "it changes somebody else's objection or delegation, or one to the other")
	}
	if now.list != 0 {
		if l := r.imports[now.list]; l == nil || l.ended != 0 {
			r.problem(position, "it is of a list that is not on its way in")
		} else {
			l.rows++
		}
	}
	r.byID[id] = now
	if r.preferences[now.about] == nil {
		r.preferences[now.about] = map[string]*preference{}
	}
	r.preferences[now.about][id] = now
}

// counts returns where a preference came to count, and false if it does not.
func (r *replay) counts(p *preference) (uint64, bool) {
	if p.list == 0 {
		return p.position, true
	}
	l := r.imports[p.list]
	return max(p.position, or(l)), l != nil && l.stood
}

func or(l *list) uint64 {
	if l == nil {
		return 0
	}
	return l.ended
}

func (r *replay) release(position uint64, at time.Time, p *payload, b *begun) {
	r.releases++
	decision := &b.access.Decision
	if p.Decision != nil {
		decision = p.Decision
	}
	newest := uint64(0)
	var objections []*objectionBody
	var delegations []*delegationBody
	for _, number := range append([]string{b.access.Subject}, b.access.Supersedes...) {
		for _, s := range r.preferences[number] {
			counts, ok := r.counts(s)
			if !ok {
				continue
			}
			newest = max(newest, counts)
			if o := s.objection; o != nil && binds(o.Status, o.From, o.Until, at) {
				objections = append(objections, o)
			}
			if d := s.delegation; d != nil && d.Carer == b.access.Requester.Own && binds(d.Status, d.From, d.Until, at) {
				delegations = append(delegations, d)
			}
		}
	}
	if b.override != 0 && !at.Before(r.overrides[b.override]) {
		r.violation(position, "it was released after its override had expired")
	}
	if newest != p.Preferences && !(r.gone[p.Preferences] && p.Preferences > newest) {
		r.violation(position, "it was released under the choices of entry %d, and the newest were of %d", p.Preferences, newest)
	}
	if p.Disclosure == nil {
		r.problem(position, "it does not say what was shown")
		return
	}
	carer := b.access.Requester.Kind == "person" && b.access.Requester.Own != b.access.Subject
	for _, s := range p.Disclosure.Custodians {
		if s.Count == 0 && len(s.Sections) == 0 && len(s.Digests) == 0 {
			continue
		}
		if !slices.Contains(b.access.Asked, s.Key) {
			r.violation(position, "it shows a custodian that was not to be asked")
		}
		var permitted []string
		var excused []string // sections that may be shown over an objection
		for i, d := range decision.Custodians {
			if d.Key != s.Key {
				continue
			}
			for ; d.Like && i > 0; i-- {
				d = decision.Custodians[i-1]
			}
			permitted = d.Permitted
			for _, part := range d.Parts {
				if part.Reason == "own-record" || part.Reason == "objection-overridden" && b.override != 0 {
					excused = append(excused, part.Sections...)
				}
			}
		}
		if len(permitted) == 0 || len(without(s.Sections, permitted)) > 0 {
			r.violation(position, "it shows what its decision does not permit")
			continue
		}
		if carer && !covered(s, delegations) {
			r.violation(position, "it shows a carer what no delegation lets them see")
		}
		for _, o := range objections {
			if b.access.Purpose == "PATRQT" && !carer && !o.Absolute || o.Scope == "custodian" && o.Custodian != s.Key {
				continue
			}
			of := s.Sections
			if o.Scope == "section" {
				if of = without(of, without(of, []string{o.Section})); len(of) == 0 {
					continue
				}
			}
			if len(without(of, excused)) > 0 || len(s.Sections) == 0 {
				r.violation(position, "it shows what an objection in force forbids")
			}
		}
	}
}

// covered reports whether delegations let a carer see every section shown of a custodian.
func covered(s shown, delegations []*delegationBody) bool {
	left, some := s.Sections, false
	for _, d := range delegations {
		if len(d.Custodians) == 0 || slices.Contains(d.Custodians, s.Key) {
			left, some = without(left, d.Sections), true
		}
	}
	return some && len(left) == 0
}

// without returns what of a is not in b.
func without(a, b []string) (out []string) {
	for _, x := range a {
		if !slices.Contains(b, x) {
			out = append(out, x)
		}
	}
	return out
}

func binds(status, from, until string, at time.Time) bool {
	return status == "in-force" && (from == "" || !at.Before(moment(from))) && (until == "" || at.Before(moment(until)))
}

// moment reads a time as entries hold it; one that cannot be read is the zero time.
func moment(text string) time.Time {
	t, err := time.Parse("2006-01-02T15:04:05.000000Z", text)
	if err != nil {
		return time.Time{}
	}
	return t
}

const (
	ownBudget = 8 * time.Second // of an access that states none
	slack     = 2 * time.Minute // by which clocks of several processes may differ, and what closes what was forgotten may be late
)

// abandonedBy returns when an access that nobody closed must have been closed as abandoned.
func (b *begun) abandonedBy() time.Time {
	budget := ownBudget
	if n := b.access.BudgetMS; n > 0 && n < math.MaxInt64/int64(4*time.Millisecond) {
		budget = time.Duration(n) * time.Millisecond
	}
	return b.at.Add(2*budget + slack)
}

func (r *replay) finish() {
	for _, position := range slices.Sorted(maps.Keys(r.open)) {
		if r.open[position].abandonedBy().Before(micros(r.c.time)) {
			r.problem(position, "the access was never closed, although more was recorded after twice its budget")
		}
	}
	followed := map[uint64]bool{}
	for _, b := range r.begins {
		if b.override != 0 {
			if followed[b.override] {
				r.violation(b.position, "its override was used before")
			}
			followed[b.override] = true
		}
	}
	for _, position := range slices.Sorted(maps.Keys(r.overrides)) {
		if !followed[position] {
			r.problem(position, "no access follows the override")
		}
	}
}
