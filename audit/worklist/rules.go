package worklist

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mycarerecord/mycarerecord/audit"
)

//go:embed rules.txt
var shipped string

// The rules. The list is closed: what each looks for is code, how heavy it is and what explains it is the file's to say.
const (
	OwnRecord      audit.AlertKind = "own-record"
	NextOfKin      audit.AlertKind = "next-of-kin"
	SameAddress    audit.AlertKind = "same-address"
	SameSurname    audit.AlertKind = "same-surname"
	Colleague      audit.AlertKind = "colleague"
	WatchList      audit.AlertKind = "watch-list"
	NoContact      audit.AlertKind = "no-contact"
	SelfClaimed    audit.AlertKind = "self-claimed"
	OutOfHours     audit.AlertKind = "out-of-hours"
	Volume         audit.AlertKind = "volume"
	Sequential     audit.AlertKind = "sequential"
	CheckDigit     audit.AlertKind = "check-digit"
	IncidentWatch  audit.AlertKind = "incident-watch"
	Repeat         audit.AlertKind = "repeat"
	Deceased       audit.AlertKind = "deceased"
	NoFollowUp     audit.AlertKind = "no-follow-up"
	AfterObjection audit.AlertKind = "after-objection"
	AfterNo        audit.AlertKind = "after-no"
)

// settings are the numbers that a rule needs, each from 1 to its greatest.
var settings = map[audit.AlertKind]map[string]int{
	OwnRecord: {}, NextOfKin: {}, SameAddress: {}, Colleague: {}, WatchList: {}, NoContact: {}, SelfClaimed: {}, AfterNo: {},
	SameSurname:    {"common": 1000, "very-common": 1000},
	OutOfHours:     {"quiet": 100, "least": 1_000_000},
	Volume:         {"least": maxPeople, "deviations": 100, "days": 10_000},
	Sequential:     {"least": maxRecent, "gap": 1000},
	CheckDigit:     {"least": maxRecent},
	IncidentWatch:  {"least": maxViewers},
	Repeat:         {"least": 28},
	Deceased:       {"days": 3650},
	NoFollowUp:     {"hours": 168},
	AfterObjection: {"least": 100},
}

// Rules are a file of rules. They do not change and are safe for concurrent use.
type Rules struct {
	version  string
	at       int
	again    time.Duration
	rules    map[audit.AlertKind]*rule
	surnames map[string]int // in capital letters: 1 very common, 2 common
}

type rule struct {
	weight   int
	set      map[string]int
	explains []explanation
}

// explanation is one word that explains an access.
type explanation struct {
	word string         // as it is written
	kind audit.NearKind // "" for care-team and registered
	days int
}

const (
	careTeam   = "care-team"
	registered = "registered"
)

// MaxBytes is how large a file of rules may be.
const MaxBytes = 1 << 20

// LineError says what is wrong with one line of a file of rules, and what to write.
type LineError struct {
	Line int
	Want string
}

// Error returns the line and what to write.
func (e *LineError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Want) }

// Shipped returns the rules that are built in. It panics if they cannot be read, which the tests of this package rule out.
func Shipped() *Rules {
	r, err := ParseRules([]byte(shipped))
	if err != nil {
		panic("the built-in rules of the worklist: " + err.Error())
	}
	return r
}

// ParseRules reads a file of rules. It is strict: what it does not understand, what is said twice and what is missing is a [*LineError].
func ParseRules(text []byte) (*Rules, error) {
	sum := sha256.Sum256(text)
	r := &Rules{version: hex.EncodeToString(sum[:]), rules: map[audit.AlertKind]*rule{}, surnames: map[string]int{}}
	if len(text) > MaxBytes || !utf8.Valid(text) {
		return nil, &LineError{1, "a file of rules is UTF-8 text of at most 1 MiB"}
	}
	line := 0
	for l := range strings.Lines(string(text)) {
		line++
		f := strings.Fields(l)
		for i, word := range f {
			if strings.HasPrefix(word, "#") {
				f = f[:i]
				break
			}
		}
		if len(f) == 0 {
			continue
		}
		if want := r.statement(f); want != "" {
			return nil, &LineError{line, want}
		}
	}
	switch {
	case r.at == 0:
		return nil, &LineError{max(line, 1), "say at which score an access is an alert: at 100"}
	case r.again == 0:
		return nil, &LineError{max(line, 1), "say for how long the same matter makes no second alert: again 24h"}
	}
	return r, nil
}

// Version returns the SHA-256 of the file's bytes, as 64 hex digits.
func (r *Rules) Version() string { return r.version }

// Names returns the rules that the file has, in the order of the alphabet.
func (r *Rules) Names() []audit.AlertKind {
	var out []audit.AlertKind
	for name := range r.rules {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// statement reads one line, and returns what to write instead, "" if it is well.
func (r *Rules) statement(f []string) string {
	switch {
	case f[0] == "at" && len(f) == 2 && r.at == 0:
		n, ok := number(f[1], 10_000)
		if r.at = n; !ok {
			return "at takes a number from 1 to 10000"
		}
	case f[0] == "again" && len(f) == 2 && r.again == 0:
		d, err := time.ParseDuration(f[1])
		if r.again = d; err != nil || d < time.Minute || d > remembered {
			return "again takes a time from 1m to 672h"
		}
	case f[0] == "rule" && len(f) >= 3:
		return r.rule(audit.AlertKind(f[1]), f[2], f[3:])
	case f[0] == "explain" && len(f) == 3:
		return r.explain(audit.AlertKind(f[1]), f[2])
	case f[0] == "surnames" && len(f) == 3:
		band := map[string]int{"very-common": 1, "common": 2}[f[1]]
		if band == 0 {
			return "surnames takes very-common or common, and a list with commas and without blanks"
		}
		for name := range strings.SplitSeq(f[2], ",") {
			if key := surname(name); key == "" {
				return "surnames takes names with commas and without blanks"
			} else if _, twice := r.surnames[key]; twice {
				return "a surname stands in one list, once"
			} else {
				r.surnames[key] = band
			}
		}
	default:
		return "a line is: at SCORE, again TIME, rule NAME WEIGHT SETTINGS, explain NAME WORDS, or surnames BAND NAMES; at and again once"
	}
	return ""
}

func (r *Rules) rule(name audit.AlertKind, weight string, rest []string) string {
	needs, known := settings[name]
	w, ok := number(weight, 1000)
	switch {
	case !known:
		return "there is no such rule: " + names()
	case r.rules[name] != nil:
		return "a rule stands once"
	case !ok:
		return "a weight is a number from 1 to 1000"
	}
	out := &rule{weight: w, set: map[string]int{}}
	for _, word := range rest {
		key, value, _ := strings.Cut(word, "=")
		most, known := needs[key]
		n, ok := number(value, most)
		if _, twice := out.set[key]; !known || !ok || twice {
			return fmt.Sprintf("the settings of %s are %s", name, wanted(needs))
		}
		out.set[key] = n
	}
	if len(out.set) != len(needs) {
		return fmt.Sprintf("the settings of %s are %s", name, wanted(needs))
	}
	r.rules[name] = out
	return ""
}

func (r *Rules) explain(name audit.AlertKind, list string) string {
	x := r.rules[name]
	if x == nil || x.explains != nil {
		return "explain stands once, below the line of its rule"
	}
	for word := range strings.SplitSeq(list, ",") {
		kind, days, near := strings.Cut(word, "<=")
		n, ok := number(days, 3650)
		switch k := audit.NearKind(kind); {
		case !near && (word == careTeam || word == registered):
			x.explains = append(x.explains, explanation{word: word})
		case near && ok && (k == audit.NearEncounter || k == audit.NearAppointment || k == audit.NearReferral || k == audit.NearCaseload):
			x.explains = append(x.explains, explanation{word, k, n})
		default:
			return "what explains is of care-team, registered, encounter<=DAYS, appointment<=DAYS, referral<=DAYS and caseload<=DAYS, with commas and without blanks"
		}
	}
	return ""
}

// by returns the word that explains an access, "" for none.
func (x *rule) by(e *audit.Evidence) string {
	for _, y := range x.explains {
		switch {
		case y.word == careTeam && e.CareTeam, y.word == registered && e.Registered:
			return y.word
		case y.kind == "":
			continue
		}
		for _, n := range e.Near {
			if n.Kind == y.kind && n.Days <= y.days {
				return y.word
			}
		}
	}
	return ""
}

// Rarity says how rare a surname is: 1 very common, 2 common, 3 rare; 0 for none.
func (r *Rules) Rarity(name string) int {
	key := surname(name)
	if key == "" {
		return 0
	}
	if band := r.surnames[key]; band != 0 {
		return band
	}
	return 3
}

// surname is a surname as it is compared: its letters alone, in capitals.
func surname(s string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsLetter(c) {
			return unicode.ToUpper(c)
		}
		return -1
	}, s)
}

func number(s string, most int) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= 1 && n <= most
}

func names() string {
	var out []string
	for name := range settings {
		out = append(out, string(name))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func wanted(needs map[string]int) string {
	var out []string
	for key, most := range needs {
		out = append(out, fmt.Sprintf("%s=1 to %d", key, most))
	}
	if slices.Sort(out); len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ", ")
}
