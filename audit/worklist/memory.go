package worklist

import (
	"maps"
	"slices"
	"time"
	_ "time/tzdata" // Europe/London on any machine

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// What is remembered, and how much of it at most. What is over a bound is forgotten, oldest first where that is known: a rule may then find less, never something
// that was not.
const (
	remembered = 28 * 24 * time.Hour // the longest that anything is remembered; a restart reads so much of the ledger again
	maxOpen    = 65_536              // accesses whose end is not known
	maxUsers   = 100_000
	maxPeople  = 5_000   // that one user saw in a day
	maxRecent  = 64      // newest numbers of one user, and newest failures
	maxPairs   = 500_000 // a user and a person
	maxPersons = 500_000 // whom somebody saw within a day although nothing explains it
	maxViewers = 64      // of one person
	maxWaiting = 10_000  // uses of break-glass that wait for a follow-up
	maxMatters = 100_000 // that were alerts
	maxGroups  = 10_000
	history    = 28 // days
)

var london = func() *time.Location {
	l, err := time.LoadLocation("Europe/London")
	if err != nil {
		panic("the embedded zone database lacks Europe/London")
	}
	return l
}()

// memory is what a Judge has read.
type memory struct {
	today   int // days since 1970 in London
	open    map[uint64]begin
	order   []uint64 // positions of open, oldest first
	users   map[string]*user
	groups  map[group]*peers
	pairs   map[pairKey]*pair
	persons map[record.NHSNumber][]viewer
	waiting []begin // uses of break-glass, oldest first
	matters map[matter]time.Time
}

type begin struct {
	position uint64
	at       time.Time
	access   *audit.Access
	until    time.Time // of break-glass
	override uint64
}

type group struct {
	organisation record.ODSCode // "": the role everywhere
	role         string
}

type pairKey struct {
	user   string
	person record.NHSNumber
}

type matter struct {
	user, about string
	rule        audit.AlertKind
}

func newMemory() memory {
	return memory{open: map[uint64]begin{}, users: map[string]*user{}, groups: map[group]*peers{}, pairs: map[pairKey]*pair{},
		persons: map[record.NHSNumber][]viewer{}, matters: map[matter]time.Time{}}
}

func dayOf(t time.Time) int {
	l := t.In(london)
	return int(time.Date(l.Year(), l.Month(), l.Day(), 0, 0, 0, 0, time.UTC).Unix() / 86_400)
}

// advance forgets what is too old, once for each new day.
func (m *memory) advance(now time.Time) {
	today := dayOf(now)
	if today <= m.today {
		return
	}
	for id, u := range m.users {
		for _, g := range []group{{u.organisation, u.role}, {"", u.role}} {
			if p := m.peers(g); p != nil && len(u.people) > 0 {
				p.days(m.today)[len(u.people)]++
			}
		}
		u.people = nil
		if today-u.last > 7 {
			delete(m.users, id)
		}
	}
	for _, p := range m.groups {
		p.forget(today)
	}
	maps.DeleteFunc(m.pairs, func(_ pairKey, p *pair) bool { return now.Sub(p.last) > remembered })
	maps.DeleteFunc(m.persons, func(_ record.NHSNumber, list []viewer) bool { return now.Sub(list[len(list)-1].at) > 24*time.Hour })
	maps.DeleteFunc(m.matters, func(_ matter, at time.Time) bool { return now.Sub(at) > remembered })
	m.today = today
}

// begun remembers an access until it is closed.
func (m *memory) begun(f audit.Found) {
	if len(m.open) >= maxOpen {
		delete(m.open, m.order[0])
		m.order = m.order[1:]
	}
	m.open[f.Position] = begin{position: f.Position, at: f.At, access: f.Access}
	m.order = append(m.order, f.Position)
	for len(m.order) > 0 { // those in front that are closed
		if _, ok := m.open[m.order[0]]; ok {
			break
		}
		m.order = m.order[1:]
	}
}

func (m *memory) closed(position uint64) (begin, bool) {
	b, ok := m.open[position]
	delete(m.open, position)
	return b, ok
}

// awaitFollowUp remembers a use of break-glass until a time.
func (m *memory) awaitFollowUp(f audit.Found, within time.Duration) {
	if within > 0 && len(m.waiting) < maxWaiting {
		// The Override entry stands directly before its Begin.
		m.waiting = append(m.waiting, begin{f.Position, f.At, f.Access, f.At.Add(within), f.Position - 1})
	}
}

// followedUp forgets those that an access with the person's permission, from the same organisation, follows up.
func (m *memory) followedUp(a *audit.Access) {
	if a.Requester.Kind != record.Professional || len(m.waiting) == 0 {
		return
	}
	m.waiting = slices.DeleteFunc(m.waiting, func(b begin) bool {
		return b.access.Subject == a.Subject && b.access.Requester.Organisation == a.Requester.Organisation
	})
}

func (m *memory) reviewed(override uint64) {
	m.waiting = slices.DeleteFunc(m.waiting, func(b begin) bool { return b.override == override })
}

// due returns those whose time is over.
func (m *memory) due(now time.Time) (out []begin) {
	for len(m.waiting) > 0 && !m.waiting[0].until.After(now) {
		out, m.waiting = append(out, m.waiting[0]), m.waiting[1:]
	}
	return out
}

// fresh reports whether a matter was no alert within a time, and remembers that it is one now.
func (m *memory) fresh(x matter, at time.Time, again time.Duration) bool {
	if last, ok := m.matters[x]; ok && at.Sub(last) < again {
		return false
	}
	if len(m.matters) < maxMatters {
		m.matters[x] = at
	}
	return true
}

// user is what is remembered of one user.
type user struct {
	organisation record.ODSCode
	role         string
	last         int
	people       map[record.NHSNumber]bool // today
	recent       recent
	bad          times
}

func (m *memory) user(r record.Requester) *user {
	u := m.users[r.User]
	if u == nil {
		u = &user{}
		if len(m.users) < maxUsers {
			m.users[r.User] = u
		}
	}
	u.organisation, u.role, u.last = r.Organisation, r.JobRole, m.today
	return u
}

// sees returns how many people the user has seen today, with this one.
func (u *user) sees(n record.NHSNumber) int {
	if u.people == nil {
		u.people = map[record.NHSNumber]bool{}
	}
	if len(u.people) < maxPeople {
		u.people[n] = true
	}
	return len(u.people)
}

// times are the newest times of something.
type times []time.Time

// within adds a time, and returns how many there were in the time before it.
func (t *times) within(at time.Time, d time.Duration) int {
	if *t = append(*t, at); len(*t) > maxRecent {
		*t = (*t)[1:]
	}
	*t = slices.DeleteFunc(*t, func(x time.Time) bool { return at.Sub(x) > d })
	return len(*t)
}

// recent are the newest people of one user, by what numbers are counted by: ten digits less the check digit.
type recent []visit

type visit struct {
	stem int
	at   time.Time
}

// row adds a person, and returns how many of those within a day stand in a row with them, no further apart than gap.
func (v *recent) row(n record.NHSNumber, at time.Time, gap int) int {
	stem := 0
	for _, c := range n.Reveal()[:9] {
		stem = 10*stem + int(c-'0')
	}
	*v = slices.DeleteFunc(*v, func(x visit) bool { return at.Sub(x.at) > 24*time.Hour || x.stem == stem })
	if *v = append(*v, visit{stem, at}); len(*v) > maxRecent {
		*v = (*v)[1:]
	}
	stems := make([]int, 0, len(*v))
	for _, x := range *v {
		stems = append(stems, x.stem)
	}
	slices.Sort(stems)
	i, _ := slices.BinarySearch(stems, stem)
	first, last := i, i
	for first > 0 && stems[first]-stems[first-1] <= gap {
		first--
	}
	for last+1 < len(stems) && stems[last+1]-stems[last] <= gap {
		last++
	}
	return last - first + 1
}

// pair is what is remembered of a user and a person.
type pair struct {
	last     time.Time
	no       time.Time // the person said no
	refused  time.Time // an objection refused the user
	attempts int       // since then
	days     uint32    // bit n: n days before last, nothing explained it
}

func (m *memory) pair(user string, n record.NHSNumber, at time.Time) *pair {
	k := pairKey{user, n}
	p := m.pairs[k]
	if p == nil {
		p = &pair{last: at}
		if len(m.pairs) < maxPairs {
			m.pairs[k] = p
		}
	}
	if gone := dayOf(at) - dayOf(p.last); gone > 0 {
		p.days <<= min(gone, 32)
	}
	p.last = at
	return p
}

// attempt counts an attempt after an objection refused the user within a day, and returns how many there were.
func (p *pair) attempt(at time.Time, breaksGlass bool, most int, refused bool) int {
	after := !p.refused.IsZero() && at.Sub(p.refused) <= 24*time.Hour
	if refused && !after {
		p.refused, p.attempts = at, 0
		return 0
	}
	if !after {
		return 0
	}
	if p.attempts++; breaksGlass {
		p.attempts = max(p.attempts, most)
	}
	return p.attempts
}

func (p *pair) saidNo(at time.Time) bool { return !p.no.IsZero() && at.Sub(p.no) <= 24*time.Hour }

// day notes that nothing explains an access, and returns on how many days of four weeks that was so.
func (p *pair) day(unexplained bool) int {
	if unexplained {
		p.days |= 1
	}
	n := 0
	for i := range history {
		n += int(p.days >> i & 1)
	}
	return n
}

// viewer is one who saw a person although nothing explains it.
type viewer struct {
	requester record.Requester
	position  uint64
	at        time.Time
}

// viewers adds one, each user once, and returns those within a day; none where something explains the access.
func (m *memory) viewers(n record.NHSNumber, v viewer, unexplained bool) []viewer {
	if !unexplained {
		return nil
	}
	list := slices.DeleteFunc(m.persons[n], func(x viewer) bool {
		return v.at.Sub(x.at) > 24*time.Hour || x.requester.User == v.requester.User
	})
	if list = append(list, v); len(list) > maxViewers {
		list = list[1:]
	}
	if _, known := m.persons[n]; known || len(m.persons) < maxPersons {
		m.persons[n] = list
	}
	return list
}

// peers are those of one role in one organisation: how many people each saw in a day, and at which hours.
type peers struct {
	seen  [history]map[int]int // by day: how many users saw so many people
	hours [history][24]int     // by day: accesses in each hour
	day   [history]int         // which day each is of
}

func (m *memory) peers(g group) *peers {
	p := m.groups[g]
	if p == nil && len(m.groups) < maxGroups {
		p = &peers{}
		m.groups[g] = p
	}
	return p
}

// slot makes room for a day.
func (p *peers) slot(day int) int {
	i := day % history
	if p.day[i] != day {
		p.day[i], p.seen[i], p.hours[i] = day, nil, [24]int{}
	}
	return i
}

func (p *peers) days(day int) map[int]int {
	i := p.slot(day)
	if p.seen[i] == nil {
		p.seen[i] = map[int]int{}
	}
	return p.seen[i]
}

func (p *peers) forget(today int) {
	for i := range p.day {
		if p.day[i] != 0 && today-p.day[i] >= history {
			p.day[i], p.seen[i], p.hours[i] = 0, nil, [24]int{}
		}
	}
}

// learn counts the hour of an access among its peers'.
func (m *memory) learn(r record.Requester, at time.Time) {
	if p := m.peers(group{r.Organisation, r.JobRole}); p != nil {
		p.hours[p.slot(m.today)][at.In(london).Hour()]++
	}
}

// quiet reports whether an hour is one in which the peers of who asks hardly ever ask: fewer than so many per cent of what would be even over the hours of such
// days. known is false where there are too few accesses to tell.
func (m *memory) quiet(r record.Requester, at time.Time, percent, least int) (quiet, known bool) {
	p := m.groups[group{r.Organisation, r.JobRole}]
	if p == nil {
		return false, false
	}
	weekend := func(day int) bool { w := (day + 4) % 7; return w == 0 || w == 6 } // 1 January 1970 was a Thursday
	hour, all, here, days, alike := at.In(london).Hour(), 0, 0, 0, 0
	for i, day := range p.day {
		if day == 0 {
			continue
		}
		days++
		if weekend(day) == weekend(m.today) {
			alike++
			here += p.hours[i][hour]
		}
		for _, n := range p.hours[i] {
			all += n
		}
	}
	if all < least || days < history/4 {
		return false, false
	}
	even := float64(all) * float64(alike) / float64(days) / 24
	return float64(here)*100 < even*float64(percent), true
}

// usual returns the median of how many people the peers of who asks see in a day, and how far from it is usual: those in the same organisation, or where these
// are few, in the same role anywhere. known is false where even these are fewer than so many days of one user.
func (m *memory) usual(r record.Requester, least int) (median, deviation int, known bool) {
	for _, g := range []group{{r.Organisation, r.JobRole}, {"", r.JobRole}} {
		p := m.groups[g]
		if p == nil {
			continue
		}
		counts, total := map[int]int{}, 0
		for _, day := range p.seen {
			for people, users := range day {
				counts[people] += users
				total += users
			}
		}
		if total < least || total == 0 {
			continue
		}
		median = middle(counts, total)
		away := map[int]int{}
		for people, users := range counts {
			away[max(people-median, median-people)] += users
		}
		// The median deviation, as of a normal distribution a standard one; at least a tenth of the median, so that few alike days make no outlier of the next.
		return median, max(middle(away, total)*3/2, median/10, 1), true
	}
	return 0, 0, false
}

// middle returns the median of counted values.
func middle(counts map[int]int, total int) int {
	before := 0
	for _, v := range slices.Sorted(maps.Keys(counts)) {
		if before += counts[v]; 2*before >= total {
			return v
		}
	}
	return 0
}
