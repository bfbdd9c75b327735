package broker_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// fact is one thing that this test did, as it knows it itself: it reads nothing of the ledger, and shares no code with what decides who may see what.
type fact struct {
	id, kind  string // request id; access, override, consent, read
	user      string
	org       string
	people    []string // under which numbers it is found
	purpose   string
	outcome   string
	custodian []string // whose record was asked for, or whom a change names
	at        int      // which moment it came before
}

// chronicle makes a history before a broker, and keeps what it made.
type chronicle struct {
	*house
	t       testing.TB
	rng     *rand.Rand
	mu      sync.Mutex
	fetched map[string][]string // by request id
	facts   []fact
	moments []time.Time
	n       int
	merged  map[string]string // number -> the one that it supersedes
}

var officerRole = consent.Role{Name: "ig-officer", Version: "v", SearchesLedger: true, SeesObjections: true, RecordsObjections: true}

func newChronicle(t testing.TB, seed uint64) *chronicle {
	return chronicleOn(t, seed, audittest.Open(t))
}

func chronicleOn(t testing.TB, seed uint64, ledger *audit.Ledger) *chronicle {
	c := &chronicle{t: t, rng: rand.New(rand.NewPCG(seed, 1)), fetched: map[string][]string{}, merged: map[string]string{}}
	c.house = open(t, ledger, quick)
	for _, s := range c.sources {
		s.answer = func(_ context.Context, q broker.Query) (broker.Reply, error) {
			c.mu.Lock()
			c.fetched[q.RequestID] = append(c.fetched[q.RequestID], string(s.key))
			c.mu.Unlock()
			if q.Subject.Number.Reveal() == "9990000077" {
				return broker.Reply{}, broker.ErrNoRecord
			}
			return reply(string(s.key), q.Subject.Number, observation("o1", "2024-05-01", "marker")), nil
		}
	}
	c.tracer.supersedes = map[record.NHSNumber][]record.NHSNumber{}
	return c
}

var (
	organisations = []string{"X9A01", "X9B01", "X9C01", "X9D01", "X9E01", "X9F01", "X9G01", "X9H01", "X9J01", "X9Z01", "X9Z02", "X9Z03", "X9Z04", "X9Z05", "X9Z06"}
	somebody      = []string{"9990000018", "9990000026", "9990000042", "9990000050", "9990000069", "9990000077"}
)

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

func (c *chronicle) staff() (record.Requester, string) {
	org := pick(c.rng, organisations)
	user := fmt.Sprintf("5550000%s%d", org[3:], c.rng.IntN(3))
	return record.Requester{Kind: record.Professional, User: user, Name: "Dr " + user[6:], JobRole: "R8000", Organisation: record.ODSCode(org), Client: "epr", Issuer: "i"}, org
}

func (c *chronicle) id() string {
	c.n++
	return fmt.Sprintf("act-%d", c.n)
}

// people are the numbers under which an act about somebody is found.
func (c *chronicle) people(number string) []string {
	if old := c.merged[number]; old != "" {
		return []string{number, old}
	}
	return []string{number}
}

// act does one thing.
func (c *chronicle) act() {
	who, org := c.staff()
	about := pick(c.rng, somebody)
	f := fact{id: c.id(), kind: "access", user: who.User, org: org, people: c.people(about), at: len(c.moments)}
	req := question(number(c.t, about))
	req.ID, req.Requester = f.id, who
	what := c.rng.IntN(12)
	switch what {
	case 0: // a no
		req.Permission = record.Permission{Kind: record.AskedNo}
	case 1:
		req.Role = consent.Role{Name: "front-desk", Version: "v"}
	case 2, 3:
		req.Purpose, req.Permission, req.BreakGlassReason = record.BreakGlass, record.Permission{}, "unconscious, nobody to ask"
		req.Role.Sections = maps.Clone(clinical.Sections)
	case 4:
		req.Purpose = record.UrgentCare
	case 5, 6:
		c.consent(f, who, about)
		return
	}
	f.purpose = string(req.Purpose)
	var err error
	nothing := false
	if what == 7 {
		req.Face = "stream"
		var sent recorder
		err = c.Stream(c.t.Context(), req, &sent)
		nothing = err == nil && len(sent.entries) == 0
	} else {
		var res *broker.Result
		res, err = c.Retrieve(c.t.Context(), req)
		nothing = err == nil && res.Nothing
	}
	c.mu.Lock()
	f.custodian = slices.Clone(c.fetched[f.id])
	c.mu.Unlock()
	switch {
	case err == nil && !nothing:
		f.outcome = "shown"
	case len(f.custodian) > 0:
		f.outcome = "nothing"
	default:
		f.outcome = "refused"
	}
	own := what == 0 && len(f.custodian) == 1 && holderOf[f.custodian[0]] == org // C-2.6: a no does not bind an organisation's own record
	if what < 2 != (f.outcome == "refused") && !own {
		c.t.Fatalf("%s of kind %d was %s: %v", f.id, what, f.outcome, err)
	}
	c.facts = append(c.facts, f)
	if req.Purpose == record.BreakGlass {
		f.kind = "override"
		c.facts = append(c.facts, f)
	}
}

// consent records an objection, to a custodian or to a section that nobody holds here, so that it hides nothing that another act counts on.
func (c *chronicle) consent(f fact, who record.Requester, about string) {
	o := consent.Objection{Scope: consent.ToSection, Section: record.SocialCare, Responsible: "self", Method: "phone"}
	f.kind = "consent"
	if c.rng.IntN(2) == 0 {
		to := nine[c.rng.IntN(4)]
		o.Scope, o.Section, o.Custodian = consent.ToCustodian, 0, to.Key
		f.custodian = []string{string(to.Key)}
	}
	f.people = []string{about} // a change is found under the number that it was made under
	req := objecting(number(c.t, about))
	req.ID, req.Requester = f.id, who
	if _, _, err := c.RecordObjection(c.t.Context(), req, o); err != nil {
		c.t.Fatalf("objecting: %v", err)
	}
	c.facts = append(c.facts, f)
}

// moment marks a point in time between what was done and what comes.
func (c *chronicle) moment() {
	time.Sleep(20 * time.Microsecond) // entries hold whole microseconds
	c.moments = append(c.moments, time.Now())
	time.Sleep(20 * time.Microsecond)
}

// inquirer is an officer who asks: of an organisation, and perhaps of a region.
type inquirer struct {
	who    record.Requester
	role   consent.Role
	orgs   map[string]bool // whose accesses they may see; nil: everybody's
	region string
}

func (c *chronicle) officer(i int) inquirer {
	org := pick(c.rng, organisations)
	o := inquirer{who: record.Requester{Kind: record.Professional, User: fmt.Sprintf("77700%04d", i), JobRole: "R8024", Organisation: record.ODSCode(org), Client: "ig", Issuer: "i"},
		role: officerRole, orgs: map[string]bool{org: true}}
	switch i % 10 {
	case 8:
		o.region = "some"
		for range 3 {
			if x := pick(c.rng, organisations); x != org && !o.orgs[x] {
				o.orgs[x] = true
				o.role.Oversees = append(o.role.Oversees, record.ODSCode(x))
			}
		}
	case 9:
		if i%20 == 9 {
			o.region, o.role.OverseesAll, o.orgs = "all", true, nil
		}
	}
	return o
}

// may is the policy as people say it: an officer sees accesses by their own organisation's staff to anyone, and by anyone to their own organisation's records.
func (o inquirer) may(f fact) bool {
	return o.orgs == nil || o.orgs[f.org] || slices.ContainsFunc(f.custodian, func(k string) bool { return o.orgs[holderOf[k]] })
}

var holderOf = func() map[string]string {
	out := map[string]string{}
	for _, c := range nine {
		out[string(c.Key)] = string(c.ODS)
	}
	return out
}()

var kindsOfFacts = map[audit.QuestionKind]string{audit.WhoLooked: "access", audit.ByUser: "access", audit.ByStaff: "access", audit.OfRecords: "access",
	audit.Refusals: "access", audit.Overrides: "override", audit.ConsentChanges: "consent", audit.LedgerReads: "read"}

var entryOf = map[string]audit.EntryType{"shown": audit.TypeReleased, "nothing": audit.TypeNothing, "refused": audit.TypeRefused}

// asking is a question in the test's own words, and as the broker is asked it.
type asking struct {
	kind               audit.QuestionKind
	person, user       string
	org, holder        string
	from, until        int // moments; -1 for none
	outcomes, purposes []string
}

func (c *chronicle) ask() asking {
	kinds := slices.Sorted(maps.Keys(kindsOfFacts))
	a := asking{kind: pick(c.rng, kinds), from: -1, until: -1}
	some := func(chance int) bool { return c.rng.IntN(chance) == 0 }
	if a.kind == audit.WhoLooked || some(3) {
		a.person = pick(c.rng, append(slices.Clone(somebody), "9990000085"))
	}
	if a.kind == audit.ByUser || some(6) {
		who, _ := c.staff()
		a.user = who.User
	}
	if a.kind == audit.ByStaff || some(6) {
		a.org = pick(c.rng, organisations)
	}
	if a.kind == audit.OfRecords || a.kind != audit.LedgerReads && some(6) {
		a.holder = pick(c.rng, organisations)
	}
	if some(3) {
		a.from = c.rng.IntN(len(c.moments))
	}
	if some(3) {
		a.until = c.rng.IntN(len(c.moments))
	}
	if a.from >= 0 && a.until >= 0 && a.from >= a.until {
		a.until = -1
	}
	if kindsOfFacts[a.kind] == "access" || a.kind == audit.Overrides {
		if some(4) {
			a.outcomes = []string{pick(c.rng, []string{"shown", "nothing", "refused"})}
		}
		if some(4) {
			a.purposes = []string{pick(c.rng, []string{"TREAT", "ETREAT", "BTG"})}
		}
	}
	return a
}

func (c *chronicle) question(a asking) audit.Question {
	q := audit.Question{Kind: a.kind, User: a.user, Organisation: record.ODSCode(a.org), Holder: record.ODSCode(a.holder), Limit: 1 + c.rng.IntN(60)}
	if a.kind == audit.LedgerReads { // there are thousands by the end
		q.Limit += 400
	}
	if a.person != "" {
		q.Subjects = []record.NHSNumber{number(c.t, a.person)}
	}
	if a.from >= 0 {
		q.From = c.moments[a.from]
	}
	if a.until >= 0 {
		q.Until = c.moments[a.until]
	}
	for _, o := range a.outcomes {
		q.Outcomes = append(q.Outcomes, entryOf[o])
	}
	for _, p := range a.purposes {
		q.Purposes = append(q.Purposes, record.Purpose(p))
	}
	return q
}

// expected are the request ids that answer a question to an officer.
func (c *chronicle) expected(o inquirer, a asking) map[string]int {
	numbers := c.people(a.person)
	out := map[string]int{}
	for _, f := range c.facts {
		switch {
		case f.kind != kindsOfFacts[a.kind], !o.may(f),
			a.kind == audit.Refusals && f.outcome != "refused",
			a.person != "" && !slices.ContainsFunc(numbers, func(n string) bool { return slices.Contains(f.people, n) }),
			a.user != "" && f.user != a.user,
			a.org != "" && f.org != a.org,
			a.holder != "" && !slices.ContainsFunc(f.custodian, func(k string) bool { return holderOf[k] == a.holder }),
			a.holder != "" && o.orgs != nil && !o.orgs[a.holder] && !o.orgs[f.org], // whom else others asked is not theirs to know
			a.from >= 0 && f.at <= a.from,
			a.until >= 0 && f.at > a.until,
			a.outcomes != nil && !slices.Contains(a.outcomes, f.outcome),
			a.purposes != nil && !slices.Contains(a.purposes, f.purpose):
			continue
		}
		out[f.id]++
	}
	return out
}

// Item 2: over a matrix of officers and questions, each answer is all that policy allows and nothing else, and of other organisations' accesses nothing but what
// concerns the officer's own records. The question of each is itself found by the next.
func TestOfficersSeeWhatTheyMay(t *testing.T) {
	officers, questions, acts := 40, 300, 200
	switch {
	case os.Getenv("MCR_TORTURE") != "":
		officers, questions, acts = 200, 2000, 400
	case testing.Short():
		officers, questions, acts = 20, 100, 100
	}
	c := newChronicle(t, 7)
	merged := number(t, "9990000018")
	for i := range acts {
		if i == acts/2 { // the demographics service finds that two numbers were one person's: what was recorded before stays under the old one
			c.merged["9990000018"], c.tracer.supersedes[merged] = "9990000042", []record.NHSNumber{number(t, "9990000042")}
		}
		c.act()
		if i%10 == 9 {
			c.moment()
		}
	}
	c.moment()
	all := make([]inquirer, officers)
	for i := range all {
		all[i] = c.officer(i)
	}
	var sum tally
	put := func(i int, o inquirer, a asking, q audit.Question) {
		id := fmt.Sprintf("question-%d", i)
		c.mu.Lock()
		want := c.expected(o, a)
		c.mu.Unlock()
		got, foreign, pages := c.told(o, a, q, id)
		sum.Lock()
		defer sum.Unlock()
		sum.pages, sum.foreign = sum.pages+pages, sum.foreign+foreign
		for x, n := range got {
			sum.rows += n
			if n > want[x] {
				sum.forbidden += n - want[x]
				t.Errorf("question %d, %s: %s was told %d times, want %d", i, a.kind, x, n, want[x])
			}
		}
		for x, n := range want {
			if n > got[x] {
				sum.missing += n - got[x]
				t.Errorf("question %d, %s: %s was told %d times, want %d", i, a.kind, x, got[x], n)
			}
		}
		if len(want) == 0 {
			sum.empty++
		}
	}
	// Those that do not ask about questions are put side by side; the others come after them, one by one, because each changes what the next must say.
	var last []func()
	var side sync.WaitGroup
	room := make(chan struct{}, 8)
	for i := range questions {
		o, a := all[i%officers], c.ask()
		q := c.question(a)
		if a.kind == audit.LedgerReads {
			last = append(last, func() { put(i, o, a, q) })
			continue
		}
		room <- struct{}{}
		side.Go(func() {
			put(i, o, a, q)
			<-room
		})
	}
	side.Wait()
	for _, f := range last {
		f()
	}
	t.Logf("%d officers, %d questions, %d pages, %d rows (%d by other organisations' staff, %d questions without any): %d rows that policy does not allow, %d missing",
		officers, questions, sum.pages, sum.rows, sum.foreign, sum.empty, sum.forbidden, sum.missing)
	if sum.rows < questions || sum.foreign < questions/10 || sum.empty > questions*4/5 {
		t.Error("too little was asked to show anything")
	}
	verified(t, c.ledger)
}

type tally struct {
	sync.Mutex
	rows, forbidden, missing, pages, foreign, empty int
}

// told puts a question, page by page, and returns how often it was told of each act, and how often of another organisation's.
func (c *chronicle) told(o inquirer, a asking, q audit.Question, id string) (got map[string]int, foreign, pages int) {
	f := fact{id: id, kind: "read", user: o.who.User, org: string(o.who.Organisation), at: len(c.moments)}
	got = map[string]int{}
	req := broker.LedgerQuestion{ID: id, Face: "grpc", Requester: o.who, Role: o.role, Reason: "an inquiry", Question: q, Arrived: time.Now()}
	for {
		answer, err := c.AskLedger(c.t.Context(), req)
		if err != nil {
			c.t.Errorf("%s, %s: %v", id, a.kind, err)
			return got, foreign, pages
		}
		pages++
		c.mu.Lock()
		if f.people = nil; a.person == "" || pages > 1 {
			if a.person != "" {
				f.people = c.people(a.person)
			}
			c.facts = append(c.facts, f)
		} else { // it is on record before the demographics service hears of the number, and again with what that knows
			f.people = c.people(a.person)[:1]
			c.facts = append(c.facts, f)
			if f.people = c.people(a.person)[1:]; len(f.people) > 0 {
				c.facts = append(c.facts, f)
			}
		}
		c.mu.Unlock()
		if a.person != "" && (!answer.Followed.Answered || len(answer.Followed.Superseded) != len(c.people(a.person))-1) {
			c.t.Errorf("%s: followed %d numbers, want %d", id, len(answer.Followed.Superseded), len(c.people(a.person))-1)
		}
		for _, row := range answer.Rows {
			id, by := "", record.ODSCode("")
			if row.Access != nil {
				id, by = row.Access.RequestID, row.Access.Requester.Organisation
			} else {
				id, by = row.Actor.RequestID, row.Actor.Requester.Organisation
			}
			got[id]++
			if o.orgs != nil && !o.orgs[string(by)] {
				foreign++
				if s := strangers(o, row); s != "" {
					c.t.Errorf("%s: another organisation's access tells of %s, which is not the officer's", id, s)
				}
			}
		}
		if answer.Next == "" {
			return got, foreign, pages
		}
		req = broker.LedgerQuestion{ID: id, Face: "grpc", Requester: o.who, Role: o.role, Page: answer.Next, Question: audit.Question{Limit: q.Limit}, Arrived: time.Now()}
	}
}

// strangers names a custodian in a row that is not of the officer's organisations.
func strangers(o inquirer, row audit.Row) string {
	var keys []record.CustodianKey
	if row.Access != nil {
		keys = append(keys, row.Access.Asked...)
		for _, d := range row.Access.Decision.Custodians {
			keys = append(keys, d.Key)
		}
	}
	if row.Disclosure != nil {
		for _, s := range row.Disclosure.Custodians {
			keys = append(keys, s.Key)
		}
	}
	if row.Objection != nil && row.Objection.Custodian != "" {
		keys = append(keys, row.Objection.Custodian)
	}
	for _, k := range keys {
		if !o.orgs[holderOf[string(k)]] {
			return string(k)
		}
	}
	return ""
}

// Whoever is no officer and no person with a token of their own is told nothing, and each attempt is on record; what an officer is told of needs a reason, and each
// question what it asks about.
func TestWhoMayAsk(t *testing.T) {
	c := newChronicle(t, 3)
	for range 10 {
		c.act()
	}
	officer := record.Requester{Kind: record.Professional, User: "7770001", JobRole: "R8024", Organisation: "X9A01", Client: "ig", Issuer: "i"}
	ask := func(r record.Requester, role consent.Role, q audit.Question, reason string) error {
		_, err := c.AskLedger(t.Context(), broker.LedgerQuestion{ID: "q", Face: "grpc", Requester: r, Role: role, Reason: reason, Question: q, Arrived: time.Now()})
		return err
	}
	about := audit.Question{Kind: audit.WhoLooked, Subjects: []record.NHSNumber{number(t, "9990000018")}}
	person := themselves(number(t, "9990000018"), number(t, "9990000018"))
	other := themselves(number(t, "9990000026"), number(t, "9990000026"))
	system := record.Requester{Kind: record.System, Client: "engine", Issuer: "i"}
	nowhere := officer
	nowhere.Organisation = ""
	for name, x := range map[string]struct {
		err  error
		want broker.Kind
	}{
		"an officer":                      {ask(officer, officerRole, about, "an inquiry"), ""},
		"without a reason":                {ask(officer, officerRole, about, ""), broker.Invalid},
		"a clinician":                     {ask(clinician, clinical, about, "curious"), broker.Forbidden},
		"an engine":                       {ask(system, officerRole, about, "curious"), broker.Forbidden},
		"an officer of no organisation":   {ask(nowhere, officerRole, about, "curious"), broker.Forbidden},
		"the person":                      {ask(person.Requester, personal, about, ""), ""},
		"another person":                  {ask(other.Requester, personal, about, ""), broker.Forbidden},
		"the person, by user":             {ask(person.Requester, personal, audit.Question{Kind: audit.ByUser, User: "555"}, ""), broker.Forbidden},
		"the person, narrowed to a user":  {ask(person.Requester, personal, audit.Question{Kind: audit.Refusals, User: "555"}, ""), broker.Forbidden},
		"about nobody":                    {ask(officer, officerRole, audit.Question{Kind: audit.WhoLooked}, "an inquiry"), broker.Invalid},
		"by no user":                      {ask(officer, officerRole, audit.Question{Kind: audit.ByUser}, "an inquiry"), broker.Invalid},
		"by no organisation":              {ask(officer, officerRole, audit.Question{Kind: audit.ByStaff}, "an inquiry"), broker.Invalid},
		"of no organisation's records":    {ask(officer, officerRole, audit.Question{Kind: audit.OfRecords}, "an inquiry"), broker.Invalid},
		"no such question":                {ask(officer, officerRole, audit.Question{Kind: "all"}, "an inquiry"), broker.Forbidden},
		"a page that nobody was given":    {c.page(officer, officerRole, "AAAA"), broker.Invalid},
		"purposes of what has no purpose": {ask(officer, officerRole, audit.Question{Kind: audit.LedgerReads, Purposes: []record.Purpose{"TREAT"}}, "an inquiry"), broker.Invalid},
	} {
		got := broker.Kind("")
		if x.err != nil {
			got = refusal(t, x.err).Kind
		}
		if got != x.want {
			t.Errorf("%s: %q, want %q", name, got, x.want)
		}
	}
	verified(t, c.ledger)
}

func (c *chronicle) page(r record.Requester, role consent.Role, token string) error {
	_, err := c.AskLedger(c.t.Context(), broker.LedgerQuestion{ID: "q", Face: "grpc", Requester: r, Role: role, Page: token, Arrived: time.Now()})
	return err
}

// A page token is its asker's alone, cannot be altered, and holds its question: nothing that comes with it counts.
func TestPageTokens(t *testing.T) {
	c := newChronicle(t, 5)
	for range 40 {
		c.act()
	}
	one := record.Requester{Kind: record.Professional, User: "7770001", JobRole: "R8024", Organisation: "X9A01", Client: "ig", Issuer: "i"}
	first, err := c.AskLedger(t.Context(), broker.LedgerQuestion{ID: "q", Face: "grpc", Requester: one, Role: officerRole, Reason: "an inquiry",
		Question: audit.Question{Kind: audit.OfRecords, Holder: "X9A01", Limit: 2}, Arrived: time.Now()})
	if err != nil || first.Next == "" || len(first.Rows) != 2 {
		t.Fatalf("%v, %d rows, next %q", err, len(first.Rows), first.Next)
	}
	if err := c.page(one, officerRole, first.Next); err != nil {
		t.Errorf("the asker: %v", err)
	}
	for name, change := range map[string]func(*record.Requester){
		"another user":         func(r *record.Requester) { r.User = "7770002" },
		"another organisation": func(r *record.Requester) { r.Organisation = "X9B01" },
		"another role":         func(r *record.Requester) { r.JobRole = "R8000" },
		"another system":       func(r *record.Requester) { r.Client = "other" },
		"another issuer":       func(r *record.Requester) { r.Issuer = "other" },
	} {
		r := one
		change(&r)
		if err := c.page(r, officerRole, first.Next); err == nil || refusal(t, err).Kind != broker.Invalid {
			t.Errorf("%s: %v, want that it is refused", name, err)
		}
	}
	altered := 0
	for i := range first.Next {
		for _, by := range []byte{'A', 'b', '_'} {
			if first.Next[i] == by {
				continue
			}
			token := first.Next[:i] + string(by) + first.Next[i+1:]
			if err := c.page(one, officerRole, token); err == nil {
				t.Fatalf("with its character %d altered it is taken", i)
			}
			altered++
		}
		if testing.Short() && i > 20 {
			break
		}
	}
	t.Logf("%d altered tokens refused", altered)
	for _, token := range []string{first.Next + "A", first.Next[1:], first.Next + "=", strings.Repeat("A", 9000)} {
		if c.page(one, officerRole, token) == nil {
			t.Error("a longer or shorter token is taken")
		}
	}
	_, _, _, err = c.CountLedger(t.Context(), broker.LedgerQuestion{ID: "q", Face: "grpc", Requester: one, Role: officerRole, Page: first.Next, Arrived: time.Now()}, func(audit.Row) {})
	if err == nil {
		t.Error("a token of pages is taken for totals")
	}
}
