package daemon

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mycarerecord/mycarerecord/adapters"
	"github.com/mycarerecord/mycarerecord/adapters/adaptertest"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/policy"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// SourceQuestion is what a source check is asked.
type SourceQuestion struct {
	Custodian  string // key or ODS code
	Source     string // name of one of its sources; "" for all
	Number     string // NHS number of a test person whom it holds; "" for nobody
	NumberFile string // or the file that it stands in, - for standard input
	JSON       bool   // write JSON
}

// checkTime is how long the check of one source may take.
const checkTime = time.Minute

// ErrUse is the error of a command that was used wrongly.
var ErrUse = errors.New("wrong use")

// sourceReport is what a check says of one source. It holds nothing of a person, no address and no text of the custodian's.
type sourceReport struct {
	Custodian record.CustodianKey  `json:"custodian"`
	ODS       record.ODSCode       `json:"ods"`
	Name      string               `json:"name"`
	Source    string               `json:"source,omitempty"`
	Adapter   string               `json:"adapter"`
	Version   string               `json:"version,omitempty"` // of the adapter, as a reply gives it
	Person    bool                 `json:"person"`            // whether there was a test person
	Passed    int                  `json:"passed"`
	Failed    int                  `json:"failed"`
	Notes     int                  `json:"notes"`
	Skipped   int                  `json:"skipped"`
	Rules     []adaptertest.Result `json:"rules"`
}

// SourceCheck asks the sources of one custodian, with a test person or without, and writes a report: every rule, how it came out, what was seen, and what
// to do. The error says that something failed; it wraps ErrUse if nothing could be asked. It needs no ledger, because it is for test people: the
// custodian's administrators choose them.
func SourceCheck(ctx context.Context, cfg Config, q SourceQuestion, w io.Writer) error {
	i := slices.IndexFunc(cfg.Custodians, func(c Custodian) bool { return q.Custodian == string(c.Key) || q.Custodian == string(c.ODS) })
	if i < 0 {
		return fmt.Errorf("%w: source check: -custodian must be the key or the ODS code of a configured custodian", ErrUse)
	}
	x := &cfg.Custodians[i]
	subject := record.Subject{}
	if q.Number != "" || q.NumberFile != "" {
		n, err := testNumber(q)
		if err != nil {
			return err
		}
		subject = record.Subject{Number: n, Standing: record.Live}
	}
	var reports []sourceReport
	for _, s := range x.read() {
		if q.Source != "" && q.Source != s.Name {
			continue
		}
		r, err := checkSource(ctx, cfg, x, s, subject)
		if err != nil {
			return err
		}
		reports = append(reports, r)
	}
	if x.Locator != nil && (q.Source == "" || q.Source == locatorName) {
		r, err := checkLocator(ctx, x, i, subject)
		if err != nil {
			return err
		}
		reports = append(reports, r)
	}
	if len(reports) == 0 {
		return fmt.Errorf("%w: source check: -source must be the name of one of the custodian's sources", ErrUse)
	}
	write := writeReports
	if q.JSON {
		write = writeReportsJSON
	}
	if err := write(w, reports); err != nil {
		return err
	}
	failed := 0
	for _, r := range reports {
		failed += r.Failed
	}
	if failed > 0 {
		return fmt.Errorf("source check: %d rules failed", failed)
	}
	return nil
}

// testNumber reads the number of a test person.
func testNumber(q SourceQuestion) (record.NHSNumber, error) {
	text, flag := q.Number, "-nhs-number"
	if q.NumberFile != "" {
		flag = "-nhs-number-file"
		if q.Number != "" {
			return record.NHSNumber{}, fmt.Errorf("%w: source check: -nhs-number or -nhs-number-file, not both", ErrUse)
		}
		var err error
		if text, err = readSmall(q.NumberFile); err != nil {
			return record.NHSNumber{}, fmt.Errorf("%w: source check: -nhs-number-file cannot be read: name a file that holds ten digits, or - for standard input", ErrUse)
		}
	}
	n, err := record.ParseNHSNumber(strings.TrimSpace(text))
	if err != nil {
		return n, fmt.Errorf("%w: source check: %s: %w", ErrUse, flag, err)
	}
	if !n.IsTest() {
		return record.NHSNumber{}, fmt.Errorf("%w: source check: this asks outside the ledger, so it takes numbers of the test range only, 999 000 0000 up", ErrUse)
	}
	return n, nil
}

func checkSource(ctx context.Context, cfg Config, x *Custodian, s Source, subject record.Subject) (sourceReport, error) {
	source, err := adapters.New(s.Adapter, &s.Settings)
	if err != nil {
		return sourceReport{}, fmt.Errorf("%w: %ssettings: %w", ErrUse, s.of(), err)
	}
	defer adapters.Close(source)
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	e := adaptertest.Examine(ctx, source, broker.Query{Subject: subject, Purpose: record.Treatment, RequestID: "source-check",
		Sections: record.AllSections, Limits: broker.DefaultLimits,
		Requester: record.Requester{Kind: record.Professional, User: "source-check", Organisation: x.ODS}}, time.Duration(x.Timeout))
	r := sourceReport{Custodian: x.Key, ODS: x.ODS, Name: x.Name, Source: s.Name, Adapter: s.Adapter, Version: e.Reply.Adapter, Person: !subject.Number.IsZero(),
		Rules: append(e.Results, shown(cfg, x, subject, e.Reply)...)}
	r.count()
	return r, nil
}

// count counts how the rules came out.
func (r *sourceReport) count() {
	for _, rule := range r.Rules {
		switch rule.Outcome {
		case adaptertest.Pass:
			r.Passed++
		case adaptertest.Fail:
			r.Failed++
		case adaptertest.Note:
			r.Notes++
		default:
			r.Skipped++
		}
	}
}

// locatorName is how a report calls a custodian's locator.
const locatorName = "Locator"

// checkLocator asks a custodian's locator about somebody unknown and about the test person.
func checkLocator(ctx context.Context, x *Custodian, i int, subject record.Subject) (sourceReport, error) {
	index, err := x.index(i)
	if err != nil {
		return sourceReport{}, fmt.Errorf("%w: %w", ErrUse, err)
	}
	defer adapters.Close(index)
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	r := sourceReport{Custodian: x.Key, ODS: x.ODS, Name: x.Name, Source: locatorName, Adapter: x.Locator.Adapter, Person: !subject.Number.IsZero(),
		Rules: adaptertest.ExamineIndex(ctx, index, broker.Query{Subject: subject, Purpose: record.Treatment, RequestID: "source-check", Sections: record.AllSections, Limits: broker.DefaultLimits,
			Requester: record.Requester{Kind: record.Professional, User: "source-check", Organisation: x.ODS}}, time.Duration(x.Locator.FreshFor), time.Duration(x.Locator.Timeout))}
	r.count()
	return r, nil
}

// Rules about what the broker makes of a reply.
const (
	ruleShown      = "the broker can show it"
	ruleStrangers  = "nothing in it is about other people"
	ruleUnreadable = "everything in it says whom it is about"
	ruleDangling   = "every reference in it leads somewhere"
)

// shown prepares a reply as a request would, and says what would be left out.
func shown(cfg Config, x *Custodian, subject record.Subject, reply broker.Reply) []adaptertest.Result {
	rules := []string{ruleShown, ruleStrangers, ruleUnreadable, ruleDangling}
	skipped := func(why string) (out []adaptertest.Result) {
		for _, rule := range rules {
			out = append(out, adaptertest.Result{Rule: rule, Outcome: adaptertest.Skipped, Evidence: why})
		}
		return out
	}
	if len(reply.Entries) == 0 {
		return skipped("no record was returned")
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails (Go 1.24)
	binding := bind(x, []broker.NamedSource{{}}, policy.Exclusions{})
	binding.Merge.Permitted, binding.Merge.TellCounts, binding.Merge.PatientEntered = record.AllSections, true, binding.Rules.PatientEntered
	sections, err := sectionRules(cfg)
	if err != nil {
		return skipped("the section rules cannot be read")
	}
	p, err := merge.Prepare(merge.Request{Base: cfg.PublicBase, CodeBase: cfg.CodeBase, Handle: "source-check", Now: time.Now(), IDKey: key, Subject: subject, Sections: sections},
		binding.Merge, merge.Reply{Custodian: binding.Rules.Custodian, Base: reply.Base, Entries: reply.Entries, Parts: reply.Parts, Adapter: reply.Adapter})
	if err != nil {
		out := skipped("it cannot be shown")
		out[0] = adaptertest.Result{Rule: ruleShown, Outcome: adaptertest.Fail, Evidence: cause(err), Advice: "Nothing of this custodian would be shown. " + remedyOf(err)}
		return out
	}
	c := p.Counts
	n := func(rule string, count int, what adaptertest.Outcome, evidence, advice string) adaptertest.Result {
		if count == 0 {
			return adaptertest.Result{Rule: rule, Outcome: adaptertest.Pass}
		}
		return adaptertest.Result{Rule: rule, Outcome: what, Evidence: fmt.Sprintf(evidence, count), Advice: advice}
	}
	unreadable := 0
	for _, part := range p.Status.Parts {
		if part.Reason == record.PartUnreadable {
			unreadable += part.Count
		}
	}
	return []adaptertest.Result{
		{Rule: ruleShown, Outcome: adaptertest.Pass, Evidence: fmt.Sprintf("%d of %d resources: %d are copies, %d support nothing that is shown, %d are financial, %d are withheld by the custodian's own labels or rules",
			c.Shown, c.Received, c.Folded, c.Unlinked, c.Financial, c.Withheld)},
		n(ruleStrangers, c.Strangers-unreadable, adaptertest.Fail, "%d resources name somebody else",
			"They would be dropped, and operators told. Tell the custodian's supplier and its information governance lead: it hands out other people's records."),
		n(ruleUnreadable, unreadable, adaptertest.Fail, "%d resources name nobody for certain",
			"They would be dropped, and the answer would say so every time. Ask the supplier to give every resource its subject, and to refer to the Patient that it returns."),
		n(ruleDangling, p.Dangling, adaptertest.Note, "%d lead to what was not returned",
			"Readers would see a reference that they cannot follow. Ask the supplier to return what its resources refer to, or to offer _include for it."),
	}
}

func cause(err error) string {
	switch {
	case errors.Is(err, merge.ErrWrongSubject):
		return merge.ErrWrongSubject.Error()
	case errors.Is(err, merge.ErrMalformed):
		return merge.ErrMalformed.Error()
	}
	return merge.ErrSum.Error()
}

func remedyOf(err error) string {
	switch {
	case errors.Is(err, merge.ErrWrongSubject):
		return "Check that its Patient carries this NHS number and no other, once, and as verified (status 01), or set acceptUnverified."
	case errors.Is(err, merge.ErrMalformed):
		return "Two of its resources claim one address, or a field has a shape that FHIR R4 does not allow: ask its supplier."
	}
	return "This is a fault of ours: report it."
}

func writeReportsJSON(w io.Writer, reports []sourceReport) error {
	text, err := json.MarshalIndent(reports, "", "  ")
	if err != nil {
		return errors.New("source check: the report cannot be written")
	}
	_, err = w.Write(append(text, '\n'))
	return err //nolint:wrapcheck // of standard output
}

// writeReports writes what a person reads.
func writeReports(w io.Writer, reports []sourceReport) error {
	var b bytes.Buffer
	for i, r := range reports {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s (%s, %s)", r.Name, r.ODS, r.Custodian)
		if r.Source != "" {
			fmt.Fprintf(&b, ", %s", r.Source)
		}
		fmt.Fprintf(&b, ", by adapter %s\n", r.Adapter)
		for _, rule := range r.Rules {
			word := string(rule.Outcome)
			if rule.Outcome == adaptertest.Fail {
				word = "FAIL" // found at a glance
			}
			fmt.Fprintf(&b, "  %-7s  %s", word, rule.Rule)
			if rule.Evidence != "" {
				fmt.Fprintf(&b, ": %s", rule.Evidence)
			}
			b.WriteByte('\n')
			if rule.Advice != "" {
				fmt.Fprintf(&b, "             %s\n", rule.Advice)
			}
		}
		fmt.Fprintf(&b, "  %d passed, %d failed, %d notes, %d skipped\n", r.Passed, r.Failed, r.Notes, r.Skipped)
	}
	_, err := w.Write(b.Bytes())
	return err //nolint:wrapcheck // of standard output
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
