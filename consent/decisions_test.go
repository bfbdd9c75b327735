package consent_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// TestDecisions runs the files of testdata/decisions: the rules as an information-governance lead reads them. The words that
// they may use are in the README beside them.
func TestDecisions(t *testing.T) {
	said := map[string]bool{} // reasons and rules that some case expects
	files, err := filepath.Glob("testdata/decisions/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("there are no decision files")
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		t.Run(name, func(t *testing.T) { runFile(t, string(text), said) })
	}

	t.Run("every rule and reason has a case", func(t *testing.T) {
		for _, r := range consent.Rules() {
			if !said[r] {
				t.Errorf("no case expects the rule %s", r)
			}
		}
		// These are reasons of the broker and its ledger, for requests that a decision had permitted or never saw.
		elsewhere := []consent.Reason{consent.ReasonMismatch, consent.ReasonChanged, consent.ReasonTooLarge, consent.ReasonNobody,
			consent.ReasonTrouble, consent.ReasonBudget, consent.ReasonCancelled, consent.ReasonUnread}
		for _, r := range consent.Reasons() {
			if said[string(r)] == slices.Contains(elsewhere, r) {
				t.Errorf("reason %s: a case expects it: %t, it is not of a decision: %t", r, said[string(r)], !said[string(r)])
			}
		}
	})
}

func runFile(t *testing.T, text string, said map[string]bool) {
	archive := txtar.Parse([]byte(text))
	if header := string(archive.Comment); !strings.HasPrefix(header, "# ") || !strings.Contains(header, "How to read") {
		t.Error("the file lacks its header: what it is about, and how to read it")
	}
	world := newNeighbourhood()
	cases := 0
	lineNo := 1 + strings.Count(string(archive.Comment), "\n")
	for _, f := range archive.Files {
		lineNo++
		switch f.Name {
		case "custodians":
			world.custodians = newNeighbourhood().custodians
		case "preferences":
			world.preferences = consent.Preferences{}
		}
		for i, line := range strings.Split(strings.TrimSuffix(string(f.Data), "\n"), "\n") {
			words, err := words(line)
			if len(words) == 0 && err == nil {
				continue
			}
			if err == nil {
				switch f.Name {
				case "custodians":
					err = world.custodian(words)
				case "preferences":
					err = world.preference(words)
				case "cases":
					cases++
					err = world.check(words, said)
				default:
					err = fmt.Errorf("unknown block %q: custodians, preferences or cases", f.Name)
				}
			}
			if err != nil {
				t.Errorf("line %d: %s\n\t%v", lineNo+i, strings.TrimSpace(line), err)
			}
		}
		lineNo += strings.Count(string(f.Data), "\n")
	}
	if cases == 0 {
		t.Error("the file has no case")
	}
}

// words splits a line at blanks; what stands in quotation marks stays together, without them. A # ends the line.
func words(line string) ([]string, error) {
	var list []string
	var word strings.Builder
	quoted, any := false, false
	for _, r := range line {
		switch {
		case r == '"':
			quoted, any = !quoted, true
		case r == '#' && !quoted && !any:
			return list, nil
		case (r == ' ' || r == '\t') && !quoted:
			if any {
				list = append(list, word.String())
			}
			word.Reset()
			any = false
		default:
			word.WriteRune(r)
			any = true
		}
	}
	if quoted {
		return nil, errors.New("close the quotation mark")
	}
	if any {
		list = append(list, word.String())
	}
	return list, nil
}

// neighbourhood is what the cases of a file are asked in: the neighbourhood, and what the person chose.
type neighbourhood struct {
	custodians  []consent.CustodianRules
	preferences consent.Preferences
}

func newNeighbourhood() *neighbourhood {
	w := &neighbourhood{}
	for _, c := range []struct {
		key  record.CustodianKey
		ods  record.ODSCode
		kind record.CustodianKind
	}{
		{"gp", "X9A01", record.KindGP}, {"acute", "X9B01", record.KindAcute}, {"mentalhealth", "X9C01", record.KindMentalHealth},
		{"community", "X9D01", record.KindCommunity}, {"socialcare", "X9E01", record.KindSocialCare}, {"ambulance", "X9F01", record.KindAmbulance},
		{"pharmacy", "X9G01", record.KindPharmacy}, {"nhs111", "X9H01", record.Kind111}, {"outofhours", "X9J01", record.KindOutOfHours},
	} {
		w.custodians = append(w.custodians, consent.CustodianRules{Custodian: record.Custodian{Key: c.key, ODS: c.ods, Kind: c.kind}})
	}
	return w
}

// custodian reads `KEY name=value ...`: what is configured for one custodian, or one more of them.
func (w *neighbourhood) custodian(words []string) error {
	key := record.CustodianKey(words[0])
	i := slices.IndexFunc(w.custodians, func(c consent.CustodianRules) bool { return c.Custodian.Key == key })
	if i < 0 {
		i = len(w.custodians)
		w.custodians = append(w.custodians, consent.CustodianRules{Custodian: record.Custodian{Key: key}})
	}
	c := &w.custodians[i]
	for _, word := range words[1:] {
		name, value, _ := strings.Cut(word, "=")
		var err error
		switch name {
		case "excluded":
			c.Excluded, err = sections(value)
		case "emergency-override":
			c.EmergencyOverride, err = yes(value)
		case "patient-entered":
			c.PatientEntered, err = yes(value)
		case "kind":
			if c.Custodian.Kind = record.CustodianKind(value); !c.Custodian.Kind.Valid() {
				err = fmt.Errorf("unknown kind %q", value)
			}
		default:
			err = fmt.Errorf("unknown word %q", word)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// preference reads `none`, `objection SCOPE STATUS ...` or `delegation STATUS sections=... ...`. They have the positions 1, 2, 3 in the order of the lines.
func (w *neighbourhood) preference(words []string) error {
	switch {
	case len(words) == 1 && words[0] == "none":
		return nil
	case len(words) >= 3 && words[0] == "objection":
		return w.objection(words)
	case len(words) >= 3 && words[0] == "delegation":
		return w.delegation(words)
	}
	return errors.New("write: none, or: objection all|custodian=KEY|section=CODE STATUS [absolute] [from=TIME] [until=TIME], " +
		"or: delegation STATUS sections=CODES [custodians=KEYS] [to=another] [from=TIME] [until=TIME]")
}

// delegation reads what the person lets a carer see. Without times it holds for the whole of 2026.
func (w *neighbourhood) delegation(words []string) error {
	w.preferences.Position++
	d := consent.Delegation{ID: fmt.Sprint(w.preferences.Position), Position: w.preferences.Position, Carer: somebodyElse, Status: consent.Status(words[1]),
		From: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Until: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)}
	for _, word := range words[2:] {
		name, value, _ := strings.Cut(word, "=")
		var err error
		switch name {
		case "sections":
			d.Sections, err = sections(value)
		case "custodians":
			for _, key := range strings.Split(value, ",") {
				d.Custodians = append(d.Custodians, record.CustodianKey(key))
			}
		case "to":
			if value != "another" {
				err = errors.New("to=another, or leave it out")
			}
			d.Carer = stranger
		case "from":
			d.From, err = instant(value)
		case "until":
			d.Until, err = instant(value)
		default:
			err = fmt.Errorf("unknown word %q", word)
		}
		if err != nil {
			return err
		}
	}
	w.preferences.Delegations = append(w.preferences.Delegations, d)
	return nil
}

func (w *neighbourhood) objection(words []string) error {
	w.preferences.Position++
	o := consent.Objection{ID: fmt.Sprint(w.preferences.Position), Position: w.preferences.Position, Status: consent.Status(words[2])}
	scope, value, _ := strings.Cut(words[1], "=")
	o.Scope = consent.Scope(scope)
	switch o.Scope {
	case consent.ToCustodian:
		o.Custodian = record.CustodianKey(value)
	case consent.ToSection:
		var ok bool
		if o.Section, ok = record.ParseSection(value); !ok {
			return fmt.Errorf("unknown section %q", value)
		}
	}
	for _, word := range words[3:] {
		name, value, _ := strings.Cut(word, "=")
		var err error
		switch name {
		case "absolute":
			o.Absolute = true
		case "from":
			o.From, err = instant(value)
		case "until":
			o.Until, err = instant(value)
		default:
			err = fmt.Errorf("unknown word %q", word)
		}
		if err != nil {
			return err
		}
	}
	w.preferences.Objections = append(w.preferences.Objections, o)
	return nil
}

// registry answers with these preferences, or does not answer.
type registry struct {
	preferences consent.Preferences
	err         error
}

func (r registry) Preferences(context.Context, []record.NHSNumber) (consent.Preferences, error) {
	return r.preferences, r.err
}

// The person, somebody else (who may be their carer), and a third who is neither.
var subject, somebodyElse, stranger = number("9990000018"), number("9990000026"), number("9990000034")

func number(s string) record.NHSNumber {
	n, err := record.ParseNHSNumber(s)
	if err != nil {
		panic(err)
	}
	return n
}

// question is one that would be permitted by itself, once it states its purpose, permission and relationship.
func (w *neighbourhood) question() consent.Question {
	return consent.Question{
		Subject:        record.Subject{Number: subject, Standing: record.Live},
		Requester:      record.Requester{Kind: record.Professional, User: "555000000001", JobRole: "R8000", Organisation: "X9Z99"},
		Custodians:     w.custodians,
		DeceasedWindow: 28 * 24 * time.Hour,
		Now:            time.Date(2026, 11, 2, 10, 0, 0, 0, time.UTC),
	}
}

// check reads one case, asks, and compares.
func (w *neighbourhood) check(words []string, said map[string]bool) error {
	q, reg := w.question(), registry{preferences: w.preferences}
	var want []string
	var custodian record.CustodianKey
	var section *record.Section
	role, by := record.AllSections, ""
	for _, word := range words {
		name, value, pair := strings.Cut(word, "=")
		if !pair {
			want = append(want, word)
			continue
		}
		var err error
		switch name {
		case "purpose":
			q.Purpose = record.Purpose(value)
		case "permission":
			if value != "none" {
				q.Permission, err = record.ParsePermission(requote(value))
			}
		case "relationship":
			if value != "none" {
				q.Relationship, err = record.ParseRelationship(requote(value))
			}
		case "break-glass":
			q.BreakGlassReason = value
		case "asker":
			switch q.Requester.Kind = record.RequesterKind(value); q.Requester.Kind {
			case record.Person:
				q.Requester = record.Requester{Kind: record.Person, User: "p1", Own: subject}
			case "carer":
				q.Requester = record.Requester{Kind: record.Person, User: "p2", Own: somebodyElse}
			case record.System:
				q.Requester = record.Requester{Kind: record.System, Client: "engine"}
			}
		case "about":
			if value != "somebody-else" {
				err = errors.New("about=somebody-else, or leave it out")
			}
			q.Requester.Own = somebodyElse
		case "from":
			i := slices.IndexFunc(w.custodians, func(c consent.CustodianRules) bool { return string(c.Custodian.Key) == value })
			if i < 0 {
				return fmt.Errorf("no custodian %q", value)
			}
			q.Requester.Organisation = w.custodians[i].Custodian.ODS
		case "role":
			if role = 0; value != "none" {
				role, err = sections(value)
			}
		case "not-required":
			q.Role.NoPermission, err = yes(value)
		case "standing":
			q.Subject.Standing = record.Standing(value)
		case "died":
			q.Subject.Standing, q.Subject.Deceased = record.Deceased, value
		case "trace":
			q.Subject.Standing = ""
		case "registry":
			reg.err = errors.New("down")
		case "now":
			q.Now, err = instant(value)
		case "custodian":
			custodian = record.CustodianKey(value)
		case "section":
			s, ok := record.ParseSection(value)
			if section = &s; !ok {
				err = fmt.Errorf("unknown section %q", value)
			}
		case "by":
			by = value
		default:
			err = fmt.Errorf("unknown word %q", word)
		}
		if err != nil {
			return err
		}
	}
	q.Role.Sections = map[record.Purpose]record.Sections{q.Purpose: role}

	d := consent.Decide(context.Background(), reg, q)
	p, permitted := d.Permit()
	var got []string
	if custodian == "" && section == nil {
		got = []string{word(d, p), string(d.Reason), d.Rule}
	} else {
		part, err := find(d, custodian, section)
		if err != nil {
			return err
		}
		outcome := string(part.Outcome)
		if part.Outcome == consent.Suppressed {
			outcome = "withheld"
		}
		got = []string{outcome, string(part.Reason), part.Rule}
		if by != "" && by != fmt.Sprint(part.Position) {
			return fmt.Errorf("got objection %d, want %s", part.Position, by)
		}
	}
	if permitted != (d.Outcome == consent.Permitted) {
		return errors.New("the outcome and the permit disagree")
	}
	if p.BreaksGlass() {
		got = append(got, "alert")
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("got %s", strings.Join(got, " "))
	}
	for _, x := range want[1:] {
		said[x] = true
	}
	return nil
}

// word gives the outcome of a whole request as the files say it.
func word(d consent.Decision, p consent.Permit) string {
	if d.Outcome != consent.Permitted {
		return string(d.Outcome)
	}
	for _, c := range d.Custodians {
		if p.Sections(c.Key) != 0 {
			return "permit"
		}
	}
	return "nothing"
}

// find returns the one part that a case asks for; without a section, the one that is the same for all sections.
func find(d consent.Decision, k record.CustodianKey, s *record.Section) (consent.Part, error) {
	for _, c := range d.Custodians {
		if c.Key != k {
			continue
		}
		if s == nil {
			if len(c.Parts) != 1 {
				return consent.Part{}, errors.New("the sections differ: name one")
			}
			return c.Parts[0], nil
		}
		for _, p := range c.Parts {
			if p.Sections.Has(*s) {
				return p, nil
			}
		}
	}
	return consent.Part{}, fmt.Errorf("nothing was decided about custodian %q", k)
}

func sections(list string) (record.Sections, error) {
	if list == "all" {
		return record.AllSections, nil
	}
	var set record.Sections
	for _, code := range strings.Split(list, ",") {
		s, ok := record.ParseSection(code)
		if !ok {
			return 0, fmt.Errorf("unknown section %q", code)
		}
		set = set.With(s)
	}
	return set, nil
}

// requote puts back the quotation marks of the wire form, which words took away.
func requote(s string) string {
	for _, name := range []string{"reason=", "ref="} {
		if before, value, ok := strings.Cut(s, name); ok {
			return before + name + `"` + value + `"`
		}
	}
	return s
}

func yes(s string) (bool, error) {
	if s != "yes" {
		return false, fmt.Errorf("write yes, not %q", s)
	}
	return true, nil
}

func instant(s string) (time.Time, error) {
	t, err := time.Parse("2006-01-02T15:04Z", s)
	if err != nil {
		return time.Time{}, errors.New("a time is written 2026-11-02T10:00Z")
	}
	return t, nil
}
