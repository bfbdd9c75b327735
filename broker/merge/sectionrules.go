package merge

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Caps of a file of section rules. Rules are followed for every resource, so their number is bounded; codes are looked up, so theirs is not.
const (
	MaxSectionBytes  = 1 << 20
	maxSectionRules  = 500
	maxSectionLists  = 200
	maxTerms         = 1000 // of one list
	maxSectionFaults = 20   // told at once
)

// A LineError says what is wrong with one line of a file of section rules, and what to write.
type LineError struct {
	Line int // from 1
	Want string
}

// Error returns the line and what to write.
func (e *LineError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Want) }

// LineErrors is all that is wrong with a file of section rules, at most 20 lines of it.
type LineErrors []*LineError

// Error returns one line for each.
func (e LineErrors) Error() string {
	lines := make([]string, len(e))
	for i, x := range e {
		lines[i] = "the section rules: " + x.Error()
	}
	return strings.Join(lines, "\n")
}

// ParseSections reads section rules: sections.txt says how they are written. It is strict: what it does not understand, what is said twice and what
// could never hold is an error with its line. The error is a [LineErrors].
func ParseSections(text []byte) (*SectionRules, error) {
	switch {
	case len(text) > MaxSectionBytes:
		return nil, LineErrors{{1, "the file is larger than 1 MiB"}}
	case !utf8.Valid(text):
		return nil, LineErrors{{1, "the file is not UTF-8"}}
	}
	p := newSectionParser()
	p.read(string(text))
	p.complete()
	if len(p.errs) > 0 {
		return nil, p.errs
	}
	if p.extends {
		text = slices.Concat([]byte(shippedText), text)
	}
	sum := sha256.Sum256(text)
	p.rules.version = hex.EncodeToString(sum[:])
	p.rules.layOut()
	return p.rules, nil
}

// sectionParser reads one file, line by line, over the shipped rules if it extends them.
type sectionParser struct {
	rules   *SectionRules
	extends bool
	lists   map[string]*namedList
	instead []*sectionRule // of this file: they stand before those that it extends
	more    []*sectionRule
	said    map[string]int // what may be said once in a file: the line
	line    int
	errs    LineErrors
}

// namedList is a list while it grows.
type namedList struct {
	sectionList
	terms bool // else codes
	line  int  // where it begins in this file; 0: it is shipped
	used  bool
}

func newSectionParser() *sectionParser {
	r := &SectionRules{headings: map[string]record.Section{}, homes: map[record.CustodianKind]home{}, movable: map[string]bool{}}
	for i, k := range record.CustodianKinds {
		r.homes[k] = home{bit: 1 << i}
	}
	return &sectionParser{rules: r, lists: map[string]*namedList{}, said: map[string]int{}}
}

func (p *sectionParser) bad(format string, args ...any) {
	p.errs = append(p.errs, &LineError{max(p.line, 1), fmt.Sprintf(format, args...)})
}

// once reports whether something is said for the first time in this file.
func (p *sectionParser) once(what string) bool {
	if before, twice := p.said[what]; twice {
		p.bad("%s was there in line %d", quoted(what), before)
		return false
	}
	p.said[what] = p.line
	return true
}

func (p *sectionParser) read(text string) {
	for line := range strings.Lines(text) {
		p.line++
		if fields := strings.Fields(uncommented(line)); len(fields) > 0 {
			p.statement(fields)
		}
		if len(p.errs) >= maxSectionFaults {
			p.errs = p.errs[:maxSectionFaults]
			return
		}
	}
	p.rules.instead = append(p.instead, p.rules.instead...)
	p.rules.more = append(p.more, p.rules.more...)
}

// uncommented cuts a comment off: a # at the beginning or after a blank, because codes and their systems may have one within.
func uncommented(line string) string {
	for i := range len(line) {
		if line[i] == '#' && (i == 0 || line[i-1] == ' ' || line[i-1] == '\t') {
			return line[:i]
		}
	}
	return line
}

// forms are the statements, without those of when.
var forms = map[string]string{"extends": "extends default", "snomed": "snomed NAME CODE, CODE", "codes": "codes NAME CODE, CODE", "terms": "terms NAME TERM, TERM",
	"heading": "heading SECTION TYPES", "default": "default SECTION", "instead": "instead SECTION TYPES where PATHS in LIST from KINDS",
	"home": "home SECTION KINDS", "stay": "stay SECTIONS", "movable": "movable TYPES", "lead": "lead SECTION TYPES where PATHS in LIST from KINDS",
	"also": "also SECTION TYPES where PATHS in LIST from KINDS", "hand-down": "hand-down SECTIONS"}

func (p *sectionParser) statement(f []string) {
	form, known := forms[f[0]]
	when := f[0] == "instead" || f[0] == "lead" || f[0] == "also"
	list := f[0] == "snomed" || f[0] == "codes" || f[0] == "terms"
	switch words := len(strings.Fields(form)); {
	case !known:
		p.bad("unknown word %s: begin with extends, snomed, codes, terms, heading, default, instead, home, stay, movable, lead, also or hand-down", quoted(f[0]))
	case when && len(f) < 5, list && len(f) < 3, !when && !list && len(f) != words:
		p.bad("write: %s (lists with commas; of sections, types, paths and kinds without blanks)", form)
	case f[0] == "extends":
		p.extend(f[1])
	case list:
		p.list(f[0], f[1], strings.Split(strings.Join(f[2:], " "), ","))
	case when:
		p.rule(f)
	case f[0] == "heading":
		s, ok := p.section(f[1])
		for _, typ := range p.types(f[2]) {
			if ok && p.once("heading of "+typ) {
				p.rules.headings[typ] = s
			}
		}
	case f[0] == "default":
		if s, ok := p.section(f[1]); ok && p.once("default") {
			p.rules.fallback = s
		}
	case f[0] == "home":
		p.home(f[1], f[2])
	case f[0] == "stay":
		if s, ok := p.sections(f[1]); ok && p.once("stay") {
			p.rules.stays = s
		}
	case f[0] == "movable":
		if types := p.types(f[1]); types != nil && p.once("movable") {
			p.rules.movable = setOf(types)
		}
	case f[0] == "hand-down":
		if s, ok := p.sections(f[1]); ok && p.once("hand-down") {
			p.rules.handed = s
		}
	}
}

// extend puts the shipped rules under what the file says.
func (p *sectionParser) extend(what string) {
	if what != "default" || p.extends || len(p.said) > 0 {
		p.bad("only the default can be extended, and the first statement says so: extends default")
		return
	}
	base := newSectionParser()
	base.read(shippedText)
	for _, l := range base.lists {
		l.line = 0
	}
	p.rules, p.lists, p.extends = base.rules, base.lists, true
}

// list adds to a list. What is in a shipped one already may be said again, so that a release which takes up what a region has does not stop it.
func (p *sectionParser) list(word, name string, members []string) {
	if !isName(name) {
		p.bad("a list's name is of a-z, 0-9 and -, begins with a letter and has at most 40")
		return
	}
	l := p.lists[name]
	if l == nil {
		if len(p.lists) >= maxSectionLists {
			p.bad("there are more than %d lists", maxSectionLists)
			return
		}
		l = &namedList{terms: word == "terms", line: p.line, sectionList: sectionList{codes: map[string]bool{}}}
		p.lists[name] = l
	}
	if l.terms != (word == "terms") {
		p.bad("the list %s has codes or terms, not both", name)
		return
	}
	for _, m := range members {
		m = strings.TrimSpace(m)
		if m == "" {
			p.bad("a member is missing: part members with one comma, and end the line without one")
			return
		}
		if !p.once(name + ": " + m) {
			return
		}
		if l.terms {
			p.term(l, m)
		} else {
			p.code(l, m, word == "snomed")
		}
	}
}

func (p *sectionParser) code(l *namedList, text string, snomed bool) {
	system, code, has := strings.Cut(text, "|")
	switch {
	case strings.ContainsFunc(text, func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) }) || len(text) > 300:
		p.bad("%s is no code: part codes with commas, and give at most 300 bytes without blanks", quoted(text))
	case snomed && !isConcept(text):
		p.bad("%s is no concept of SNOMED CT: its digits do not agree with its check digit, or it is the id of something else", quoted(text))
	case !has:
		l.codes[text] = true
	case code == "" || !strings.Contains(system, ":"):
		p.bad("%s: write SYSTEM|CODE with the system's whole address, such as http://loinc.org", quoted(text))
	default:
		if l.coded == nil {
			l.coded = map[Code]bool{}
		}
		l.coded[Code{plainSystem(system), code}] = true
	}
}

func (p *sectionParser) term(l *namedList, text string) {
	term, whole := strings.CutPrefix(text, "=")
	term = strings.TrimSpace(term)
	into := &l.sectionList.terms
	if whole {
		into = &l.wholes
	}
	switch {
	case strings.ToLower(term) != term:
		p.bad("write %s in small letters: texts are compared in small letters", quoted(text))
	case utf8.RuneCountInString(term) < 3 || len(term) > 100 || strings.ContainsFunc(term, func(r rune) bool { return !unicode.IsPrint(r) }):
		p.bad("a term has 3 letters or more, and at most 100 bytes")
	case len(l.sectionList.terms)+len(l.wholes) >= maxTerms:
		p.bad("the list has more than %d terms", maxTerms)
	case !slices.Contains(*into, term):
		*into = append(*into, term)
	}
}

func (p *sectionParser) home(section, kinds string) {
	s, ok := record.Section(0), true
	if section != "none" {
		s, ok = p.section(section)
	}
	for _, k := range p.kinds(kinds) {
		if ok && p.once("home of "+string(k)) {
			p.rules.homes[k] = home{bit: p.rules.homes[k].bit, has: section != "none", section: s}
		}
	}
}

// rule reads a line of instead, lead or also.
func (p *sectionParser) rule(f []string) {
	s, ok := p.section(f[1])
	x := &sectionRule{section: s, leads: f[0] == "lead", text: strings.Join(f, " ")}
	var types []string
	if f[2] != "all" {
		if types = p.types(f[2]); types == nil {
			return
		}
		x.types = setOf(types)
	}
	rest := f[3:]
	if rest[0] == "where" {
		if len(rest) < 4 || rest[2] != "in" {
			p.bad("write: where PATHS in LIST")
			return
		}
		if !p.where(x, types, rest[1], rest[3]) {
			return
		}
		rest = rest[4:]
	}
	if len(rest) > 0 {
		if len(rest) != 2 || rest[0] != "from" {
			p.bad("after the types, write: where PATHS in LIST, or from KINDS, or both in this order")
			return
		}
		list := p.kinds(rest[1])
		if list == nil {
			return
		}
		for _, k := range list {
			x.from |= p.rules.homes[k].bit
		}
	}
	if !ok || !p.once(x.text) {
		return
	}
	if len(p.instead)+len(p.more) >= maxSectionRules {
		p.bad("there are more than %d lines of instead, lead and also", maxSectionRules)
		return
	}
	if f[0] == "instead" {
		p.instead = append(p.instead, x)
	} else {
		p.more = append(p.more, x)
	}
}

// where takes the paths and the list of a rule, if it can ever hold.
func (p *sectionParser) where(x *sectionRule, types []string, paths, name string) bool {
	l := p.lists[name]
	if l == nil {
		p.bad("there is no list %s yet: write it above", quoted(name))
		return false
	}
	l.used = true
	x.list, x.paths = &l.sectionList, p.separate(paths)
	for _, path := range x.paths {
		x.ways = append(x.ways, fhirjson.PathOf(path))
	}
	if x.paths == nil {
		return false
	}
	want, what := coding, "codes"
	if l.terms {
		want, what = wording, "terms"
	}
	for _, path := range x.paths {
		switch found := places.find(types, path); {
		case found == 0:
			p.bad("%s is no element of these types that holds a coding or a text, such as category.coding, code.text or meta.security", quoted(path))
			return false
		case found != want:
			p.bad("what stands at %s cannot be in a list of %s", path, what)
			return false
		}
	}
	for _, typ := range types {
		if !slices.ContainsFunc(x.paths, func(path string) bool { return places.has(typ, path) }) {
			p.bad("%s has no element at any of these paths", typ)
			return false
		}
	}
	return true
}

// complete checks what can only be known at the end. Whoever replaces the shipped rules says all: what is left out cannot fall back on anything.
func (p *sectionParser) complete() {
	if len(p.errs) > 0 {
		return
	}
	if !p.extends {
		for _, what := range []string{"default", "stay", "hand-down"} {
			if p.said[what] == 0 {
				p.bad("rules that do not extend the default need a line with %s", forms[what])
			}
		}
		for _, k := range record.CustodianKinds {
			if p.said["home of "+string(k)] == 0 {
				p.bad("rules that do not extend the default say the home of every kind of custodian; %s has none: home none %[1]s", k)
			}
		}
	}
	for name, l := range p.lists {
		if l.line > 0 && !l.used {
			p.errs = append(p.errs, &LineError{l.line, fmt.Sprintf("no line below looks into the list %s: is that its right name?", name)})
		}
	}
	slices.SortStableFunc(p.errs, func(a, b *LineError) int { return a.Line - b.Line })
	p.errs = p.errs[:min(len(p.errs), maxSectionFaults)]
}

// separate parts a list of words, none twice; nil where something is wrong.
func (p *sectionParser) separate(list string) []string {
	words := strings.Split(list, ",")
	for i, w := range words {
		if w == "" || slices.Contains(words[:i], w) {
			p.bad("in %s a word is missing or is there twice", quoted(list))
			return nil
		}
	}
	return words
}

func (p *sectionParser) section(word string) (record.Section, bool) {
	s, ok := record.ParseSection(word)
	if !ok {
		p.bad("unknown section %s: one of %s", quoted(word), record.SectionCodes())
	}
	return s, ok
}

func (p *sectionParser) sections(list string) (record.Sections, bool) {
	var set record.Sections
	if list == "none" {
		return set, true
	}
	words := p.separate(list)
	for _, w := range words {
		s, ok := p.section(w)
		if !ok {
			return 0, false
		}
		set = set.With(s)
	}
	return set, words != nil
}

// types are resource types that stand in sections; nil where something is wrong.
func (p *sectionParser) types(list string) []string {
	words := p.separate(list)
	for _, w := range words {
		switch subjects[w].class {
		case person, either:
		case unknownClass:
			p.bad("%s is no resource type of FHIR R4", quoted(w))
			return nil
		default:
			p.bad("%s stands in no section: it is not about a person", w)
			return nil
		}
	}
	return words
}

// kinds are kinds of custodians; nil where something is wrong.
func (p *sectionParser) kinds(list string) []record.CustodianKind {
	var out []record.CustodianKind
	for _, w := range p.separate(list) {
		k := record.CustodianKind(w)
		if !k.Valid() {
			p.bad("unknown kind of custodian %s: one of %s", quoted(w), strings.Trim(fmt.Sprint(record.CustodianKinds), "[]"))
			return nil
		}
		out = append(out, k)
	}
	return out
}

// isName reports whether s is of a-z, 0-9 and hyphens, and begins with a letter.
func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (i == 0 || (c < '0' || c > '9') && c != '-') {
			return false
		}
	}
	return s != "" && len(s) <= 40
}

// quoted quotes a word of the rules for a message, shortened. Rules hold nothing of a person.
func quoted(word string) string {
	if len(word) > 60 {
		word = strings.ToValidUTF8(word[:60], "") + "…"
	}
	return fmt.Sprintf("%q", word)
}

func setOf(list []string) map[string]bool {
	m := make(map[string]bool, len(list))
	for _, x := range list {
		m[x] = true
	}
	return m
}

// isConcept reports whether s is the id of a SNOMED CT concept: 6 to 18 digits, of the partition of concepts, the last one being the Verhoeff check digit of
// the others (SNOMED CT Release File Specifications, SNOMED CT identifiers).
func isConcept(s string) bool {
	if len(s) < 6 || len(s) > 18 || strings.Trim(s, "0123456789") != "" || s[0] == '0' {
		return false
	}
	if part := s[len(s)-3 : len(s)-1]; part != "00" && part != "10" {
		return false
	}
	return verhoeff(s)
}

// verhoeff reports whether the last of the digits is the check digit of the others.
func verhoeff(digits string) bool {
	multiply := func(a, b int) int { // in the dihedral group of order ten
		switch {
		case a < 5 && b < 5:
			return (a + b) % 5
		case a < 5:
			return 5 + (a+b-5)%5
		case b < 5:
			return 5 + (a-5-b+5)%5
		}
		return (a - b + 5) % 5
	}
	permute := [10]int{1, 5, 7, 6, 2, 8, 3, 0, 9, 4}
	check := 0
	for i := range len(digits) {
		d := int(digits[len(digits)-1-i] - '0')
		for range i % 8 {
			d = permute[d]
		}
		check = multiply(check, d)
	}
	return check == 0
}
