package daemon

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// PolicyExplain writes what somebody with a job role at an organisation may see and do; without both, what each custodian is configured to allow, and the
// rules in plain words.
func PolicyExplain(cfg Config, jobRole, org string, w io.Writer) error {
	if jobRole == "" && org == "" {
		return rulesExplain(cfg, w)
	}
	if jobRole == "" || !record.ODSCode(org).Valid() {
		return errors.New("policy explain: give -job-role CODE and -org ODS, or neither for the custodians' rules")
	}
	table, err := policyTable(cfg)
	if err != nil {
		return err
	}
	role := table.Role(record.Requester{Kind: record.Professional, JobRole: jobRole, Organisation: record.ODSCode(org)})
	fmt.Fprintf(w, "job role %s at %s: row %q of policy table %.12s\n", jobRole, org, role.Name, role.Version)
	if len(role.Sections) == 0 {
		fmt.Fprintln(w, "  may ask for no record")
	}
	for _, p := range record.Purposes {
		if s := role.Sections[p]; s != 0 {
			fmt.Fprintf(w, "  %-6s sees %s\n", p, strings.Join(s.Codes(), ", "))
			if missing := record.AllSections.Without(s); missing != 0 {
				fmt.Fprintf(w, "         not  %s\n", strings.Join(missing.Codes(), ", "))
			}
		}
	}
	for _, right := range []struct {
		has  bool
		text string
	}{{role.RecordsObjections, "may record and withdraw objections"}, {role.SeesObjections, "may see objections"}, {role.SearchesLedger, "may search the ledger"},
		{role.OverseesAll, "sees the accesses of all organisations"}, {role.MovesObjections, "may bring whole lists of objections in and take them out"}, {role.NoPermission, "organisation is configured for permission not-required"}} {
		if right.has {
			fmt.Fprintln(w, "  "+right.text)
		}
	}
	return nil
}

// rulesExplain writes the custodians' rules, and under which hash the ledger knows them.
func rulesExplain(cfg Config, w io.Writer) error {
	list, err := exclusions(cfg)
	if err != nil {
		return err
	}
	sections, err := sectionRules(cfg)
	if err != nil {
		return err
	}
	hash, err := cfg.hash(sections)
	if err != nil {
		return err
	}
	table, err := policyTable(cfg)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "configuration %.12s: the ledger names it in every entry\n", hash)
	if list.Date == "" {
		fmt.Fprintln(w, "exclusion list: none")
	} else {
		fmt.Fprintf(w, "exclusion list of %s (%.12s), %d codes that nobody shares here, to be confirmed by the region\n", list.Date, list.Version, len(list.Codes))
	}
	if cfg.SectionsFile != "" {
		fmt.Fprintf(w, "section rules of the region's own (%.12s): broker sections explain\n", sections.Version())
	}
	fmt.Fprintf(w, "a break-glass override lasts %s\n", time.Duration(cfg.Limits.Override))
	for _, c := range cfg.Custodians {
		fmt.Fprintf(w, "%s (%s, %s)\n  contact: %s\n", c.Key, c.ODS, c.Kind, c.Contact)
		if len(c.ExcludedSections) > 0 {
			fmt.Fprintf(w, "  never shares the sections %s\n", strings.Join(c.ExcludedSections, ", "))
		}
		if len(c.ExcludedCodes) > 0 {
			fmt.Fprintf(w, "  never shares %d codes of its own list\n", len(c.ExcludedCodes))
		}
		switch unasked := slices.Contains(table.Unasked(), c.Key); {
		case unasked:
			fmt.Fprintf(w, "  is not asked about a person of whom its locator lists nothing, as long as that is at most %s behind\n", time.Duration(c.Locator.FreshFor))
		case c.Locator != nil:
			fmt.Fprintln(w, "  has a locator, and is asked about everybody: the policy table does not name it under unasked")
		}
		for _, rule := range []struct {
			is       bool
			yes, not string
		}{
			{c.EmergencyOverride, "break-glass overrides an objection here", "break-glass overrides no objection here"},
			{c.PatientEntered || c.Kind == record.KindPatientEntered, "all that it holds was entered by the person: shown in their own view only", ""},
			{c.LabelsEntered, "labels what the person entered (PATAST)", ""},
			{c.LabelsNoPatient, "labels what the person must not see (NOPAT); what has no label is not shown to them", ""},
			{c.TellCounts, "tells how many entries are withheld", "does not tell how many entries are withheld"},
		} {
			if text := map[bool]string{true: rule.yes, false: rule.not}[rule.is]; text != "" {
				fmt.Fprintln(w, "  "+text)
			}
		}
	}
	fmt.Fprintln(w, "rules, in the order in which they decide but for the last four:")
	for _, r := range consent.Rules() {
		fmt.Fprintf(w, "  %-6s %s\n", r, consent.RuleText(r))
	}
	return nil
}

// SectionsExplain writes the section rules that are followed for a resource type from a kind of custodian, in their order.
func SectionsExplain(cfg Config, typ, kind string, w io.Writer) error {
	if !merge.IsType(typ) || !record.CustodianKind(kind).Valid() {
		return errors.New("sections explain: give -type, a resource type of FHIR R4 such as Observation, and -kind, a kind of custodian such as gp")
	}
	rules, err := sectionRules(cfg)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%s from a custodian of kind %s: section rules %.12s, in this order\n", typ, kind, rules.Version())
	lines := rules.Explain(typ, record.CustodianKind(kind))
	for _, line := range lines {
		fmt.Fprintln(w, "  "+line)
	}
	if len(lines) == 0 {
		fmt.Fprintln(w, "  stands in no section: it is not about a person")
	}
	return nil
}
