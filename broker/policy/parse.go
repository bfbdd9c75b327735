package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// maxErrors is how many faults of a table are told at once.
const maxErrors = 20

// personCode stands where staff have a job role code.
const personCode = "person"

// A LineError says what is wrong with one line of a table, and what to write.
type LineError struct {
	Line int // from 1
	Want string
}

// Error returns the line and what to write.
func (e *LineError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Want) }

// Errors is all that is wrong with a table, at most 20 lines of it.
type Errors []*LineError

// Error returns one line for each.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, x := range e {
		lines[i] = "the policy table: " + x.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the errors of the lines.
func (e Errors) Unwrap() []error {
	list := make([]error, len(e))
	for i, x := range e {
		list[i] = x
	}
	return list
}

// parser reads one table, line by line.
type parser struct {
	table  *Table
	names  map[string]int  // of roles: the line
	stated map[string]bool // "may CODE": once each
	line   int
	errs   Errors
}

func parse(text []byte) (*Table, error) {
	sum := sha256.Sum256(text)
	p := parser{names: map[string]int{}, stated: map[string]bool{}, table: &Table{version: hex.EncodeToString(sum[:]),
		staff: map[string]*consent.Role{}, followers: map[string]*consent.Role{}, noPermission: map[record.ODSCode]bool{},
		oversight: map[record.ODSCode]oversight{}}}
	if !utf8.Valid(text) {
		return nil, Errors{{1, "the file is not UTF-8"}}
	}
	for line := range strings.Lines(string(text)) {
		p.line++
		line, _, _ = strings.Cut(line, "#")
		if fields := strings.Fields(line); len(fields) > 0 {
			p.statement(fields)
		}
		if len(p.errs) == maxErrors {
			break
		}
	}
	if len(p.errs) == 0 && len(p.names) == 0 {
		p.bad("the table names no role: nobody could do anything")
	}
	if len(p.errs) > 0 {
		return nil, p.errs
	}
	return p.table, nil
}

func (p *parser) bad(format string, args ...any) {
	p.errs = append(p.errs, &LineError{max(p.line, 1), fmt.Sprintf(format, args...)})
}

func (p *parser) statement(f []string) {
	form := map[string]string{"role": "role CODE NAME", "see": "see CODE PURPOSES SECTIONS", "may": "may CODE RIGHTS", "no-permission": "no-permission ODS", "follow": "follow ISSUER CLIENT NAME CUSTODIANS",
		"oversee": "oversee ODS ORGANISATIONS", "unasked": "unasked CUSTODIANS"}[f[0]]
	switch {
	case form == "":
		p.bad("unknown word %s: begin with role, see, may, no-permission, follow, oversee or unasked", show(f[0]))
	case len(f) != len(strings.Fields(form)):
		p.bad("write: %s (lists with commas and without blanks)", form)
	case f[0] == "role":
		p.role(f[1], f[2])
	case f[0] == "see":
		p.see(f[1], f[2], f[3])
	case f[0] == "may":
		p.may(f[1], f[2])
	case f[0] == "no-permission":
		p.permissionNotRequired(record.ODSCode(f[1]))
	case f[0] == "follow":
		p.follow(f[1], f[2], f[3], f[4])
	case f[0] == "oversee":
		p.oversee(record.ODSCode(f[1]), f[2])
	case f[0] == "unasked":
		p.unasked(f[1])
	}
}

func (p *parser) role(code, name string) {
	if !is(code, 'A', 'Z') && code != personCode || len(code) > 20 {
		p.bad("a job role code is of capital letters and digits, such as R8000, or it is %s", personCode)
		return
	}
	if !is(name, 'a', 'z') || len(name) > 40 || name == NoRole {
		p.bad("a role's name is of a-z, 0-9 and -, at most 40, and not %s", NoRole)
		return
	}
	if p.find(code) != nil {
		p.bad("the role %s was there before", code)
		return
	}
	if before, ok := p.names[name]; ok {
		p.bad("the name %s was given in line %d: each role needs its own, the ledger records it", name, before)
		return
	}
	p.names[name] = p.line
	r := &consent.Role{Name: name, Sections: map[record.Purpose]record.Sections{}}
	if code == personCode {
		p.table.person = r
		return
	}
	p.table.staff[code] = r
}

func (p *parser) see(code, purposes, sections string) {
	r := p.find(code)
	if r == nil {
		p.bad("no role %s yet: write its role line above", show(code))
		return
	}
	set, ok := p.sections(sections)
	if !ok {
		return
	}
	for _, word := range strings.Split(purposes, ",") {
		purpose := record.Purpose(word)
		switch {
		case !purpose.Valid():
			p.bad("unknown purpose %s: one of TREAT, ETREAT, BTG, PATRQT", show(word))
			return
		case (code == personCode) != (purpose == record.PatientAccess):
			p.bad("PATRQT is the person's purpose and no other is; staff have TREAT, ETREAT and BTG")
			return
		}
		if _, twice := r.Sections[purpose]; twice {
			p.bad("what %s sees for %s was said before", code, purpose)
			return
		}
		r.Sections[purpose] = set
	}
}

func (p *parser) sections(list string) (record.Sections, bool) {
	if list == "all" {
		return record.AllSections, true
	}
	var set record.Sections
	for _, word := range strings.Split(list, ",") {
		s, ok := record.ParseSection(word)
		if !ok {
			p.bad("unknown section %s: all, or some of %s", show(word), record.SectionCodes())
			return 0, false
		}
		if set.Has(s) {
			p.bad("the section %s is there twice", word)
			return 0, false
		}
		set = set.With(s)
	}
	return set, true
}

func (p *parser) may(code, rights string) {
	r := p.find(code)
	if r == nil {
		p.bad("no role %s yet: write its role line above", show(code))
		return
	}
	if p.stated[code] {
		p.bad("what %s may do was said before", code)
		return
	}
	p.stated[code] = true
	for _, word := range strings.Split(rights, ",") {
		right := map[string]*bool{"record-objections": &r.RecordsObjections, "see-objections": &r.SeesObjections, "search-ledger": &r.SearchesLedger,
			"move-objections": &r.MovesObjections, "see-staff-names": &r.SeesStaffNames}[word]
		switch {
		case right == nil:
			p.bad("unknown right %s: record-objections, see-objections, search-ledger, move-objections or see-staff-names", show(word))
			return
		case code != personCode && word == "see-staff-names":
			p.bad("see-staff-names is the person's: staff who search the ledger see names already")
			return
		case code == personCode && word == "move-objections":
			p.bad("move-objections is of everybody's objections: it is not the person's")
			return
		case *right:
			p.bad("the right %s is there twice", word)
			return
		}
		*right = true
	}
}

func (p *parser) permissionNotRequired(code record.ODSCode) {
	switch {
	case !code.Valid():
		p.bad("an ODS code is 3 to 10 capital letters and digits")
	case p.table.noPermission[code]:
		p.bad("the organisation %s was there before", string(code))
	default:
		p.table.noPermission[code] = true
	}
}

// oversee reads whose accesses a region's officers see.
func (p *parser) oversee(code record.ODSCode, list string) {
	if _, twice := p.table.oversight[code]; twice || !code.Valid() {
		p.bad("oversee names an organisation once, by an ODS code of 3 to 10 capital letters and digits")
		return
	}
	over := oversight{all: list == "all"}
	if !over.all {
		for _, word := range strings.Split(list, ",") {
			o := record.ODSCode(word)
			if !o.Valid() || o == code || slices.Contains(over.organisations, o) || len(over.organisations) == maxOverseen {
				p.bad("all, or at most %d other ODS codes with commas, each once: %s", maxOverseen, show(word))
				return
			}
			over.organisations = append(over.organisations, o)
		}
	}
	p.table.oversight[code] = over
}

// unasked reads which custodians' locators are believed. Each is named: there is no word for all, because each is a decision about how that custodian keeps
// its index.
func (p *parser) unasked(list string) {
	for _, word := range strings.Split(list, ",") {
		key := record.CustodianKey(word)
		if !key.Valid() || slices.Contains(p.table.unasked, key) {
			p.bad("keys of custodians with commas, each once: %s", show(word))
			return
		}
		p.table.unasked = append(p.table.unasked, key)
	}
}

// maxOverseen is how many organisations may be named; a larger region oversees all.
const maxOverseen = 50

// follow reads a system that must know of objections. It is a role of its own, under the issuer and the client id of the system's own token.
func (p *parser) follow(issuer, client, name, custodians string) {
	if u, err := url.Parse(issuer); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || len(issuer) > 200 {
		p.bad("the issuer of a system's tokens is a URL, as it stands in the configuration")
		return
	}
	if len(client) > 64 || strings.ContainsFunc(client, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_')
	}) {
		p.bad("the client id of a system is of letters, digits, - . and _, at most 64")
		return
	}
	if !is(name, 'a', 'z') || len(name) > 40 || name == NoRole {
		p.bad("the name of a system is of a-z, 0-9 and -, at most 40, and not %s", NoRole)
		return
	}
	if p.table.followers[client] != nil {
		p.bad("the system %s was there before", client)
		return
	}
	if before, ok := p.names[name]; ok {
		p.bad("the name %s was given in line %d: each role needs its own, the ledger records it", name, before)
		return
	}
	r := &consent.Role{Name: name, FollowsObjections: true}
	if custodians != "all" {
		for _, word := range strings.Split(custodians, ",") {
			key := record.CustodianKey(word)
			if !key.Valid() || slices.Contains(r.Follows, key) {
				p.bad("all, or keys of custodians with commas, each once: %s", show(word))
				return
			}
			r.Follows = append(r.Follows, key)
		}
	}
	p.names[name] = p.line
	p.table.followers[client] = r
	p.table.followed = append(p.table.followed, Follower{issuer, client, name, r.Follows})
}

func (p *parser) find(code string) *consent.Role {
	if code == personCode {
		return p.table.person
	}
	return p.table.staff[code]
}

// is reports whether s begins with a letter from lo to hi and goes on with those, digits and, in names, hyphens.
func is(s string, lo, hi byte) bool {
	for i := range len(s) {
		c := s[i]
		letter, digit, hyphen := c >= lo && c <= hi, c >= '0' && c <= '9', c == '-' && lo == 'a'
		if !letter && (i == 0 || !digit && !hyphen) {
			return false
		}
	}
	return s != ""
}

// show quotes a word of the table for a message, shortened. A table holds nothing of a person.
func show(word string) string {
	if len(word) > 40 {
		word = strings.ToValidUTF8(word[:40], "") + "…"
	}
	return fmt.Sprintf("%q", word)
}
