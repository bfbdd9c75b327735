package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/mycarerecord/mycarerecord/adapters"
	"github.com/mycarerecord/mycarerecord/adapters/adaptertest"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// PolicyExplain writes what somebody with a job role at an organisation may see and do.
func PolicyExplain(cfg Config, jobRole, org string, w io.Writer) error {
	if jobRole == "" || !record.ODSCode(org).Valid() {
		return errors.New("policy explain: give -job-role CODE and -org ODS")
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
		{role.MovesObjections, "may bring whole lists of objections in and take them out"}, {role.NoPermission, "organisation is configured for permission not-required"}} {
		if right.has {
			fmt.Fprintln(w, "  "+right.text)
		}
	}
	return nil
}

// SourceCheck asks one custodian about a test person, whose NHS number stands in a file (- for standard input), and writes what is wrong. It needs no
// ledger, because it is for test people: the custodian's administrators choose them.
func SourceCheck(ctx context.Context, cfg Config, key, numberFile string, w io.Writer) error {
	var x *Custodian
	for i := range cfg.Custodians {
		if string(cfg.Custodians[i].Key) == key {
			x = &cfg.Custodians[i]
		}
	}
	if x == nil {
		return errors.New("source check: -custodian must be the key of a configured custodian")
	}
	text, err := readSmall(numberFile)
	if err != nil {
		return errors.New("source check: -nhs-number-file cannot be read: name a file that holds ten digits, or - for standard input")
	}
	n, err := record.ParseNHSNumber(strings.TrimSpace(text))
	if err != nil {
		return fmt.Errorf("source check: -nhs-number-file: %w", err)
	}
	if !n.IsTest() {
		return errors.New("source check: this asks outside the ledger, so it takes numbers of the test range only, 999 000 0000 up")
	}
	source, err := adapters.New(x.Adapter, &x.Settings)
	if err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	findings := adaptertest.Check(ctx, source, broker.Query{Subject: record.Subject{Number: n, Standing: record.Live}, Purpose: record.Treatment, RequestID: "source-check",
		Sections: record.AllSections, Limits: broker.DefaultLimits,
		Requester: record.Requester{Kind: record.Professional, User: "source-check", Organisation: x.ODS}})
	bad := 0
	for _, f := range findings {
		fmt.Fprintln(w, f)
		bad++
	}
	if bad > 0 {
		return fmt.Errorf("source check: %d findings", bad)
	}
	fmt.Fprintf(w, "%s: answers as an adapter must\n", x.Key)
	return nil
}

func readSmall(path string) (string, error) {
	f := os.Stdin
	if path != "-" {
		var err error
		if f, err = os.Open(path); err != nil {
			return "", err
		}
		defer f.Close()
	}
	b, err := io.ReadAll(io.LimitReader(f, 64))
	return string(b), err
}
