package grpcapi

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker/authn"
	"github.com/mycarerecord/mycarerecord/broker/record"
	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// codeOf is the rule of words.proto: a code is the value's name without its prefix, in lower case with hyphens.
func codeOf(e protoreflect.Enum) string {
	d := e.Descriptor()
	name := string(d.Values().ByNumber(e.Number()).Name())
	var prefix strings.Builder
	for i, r := range string(d.Name()) {
		if i > 0 && r >= 'A' && r <= 'Z' {
			prefix.WriteByte('_')
		}
		prefix.WriteRune(r)
	}
	code := strings.TrimPrefix(name, strings.ToUpper(prefix.String())+"_")
	return strings.ReplaceAll(strings.ToLower(code), "_", "-")
}

type word interface {
	comparable
	protoreflect.Enum
}

// holdsAll checks that a table has every value of the wire but the unspecified one, once, under the code that its name says.
func holdsAll[W word, O interface {
	comparable
	~string
}](t *testing.T, p pairs[W, O]) {
	t.Helper()
	values := p[0].wire.Descriptor().Values()
	if len(p) != values.Len()-1 {
		t.Errorf("%s: the table has %d words, the interface %d", p[0].wire.Descriptor().Name(), len(p), values.Len()-1)
	}
	for _, x := range p {
		if got := codeOf(x.wire); !strings.EqualFold(got, string(x.ours)) {
			t.Errorf("%s stands for %q", got, x.ours)
		}
		if back, ok := p.toOurs(x.wire); !ok || back != x.ours || p.toWire(x.ours) != x.wire {
			t.Errorf("%s does not come back", x.ours)
		}
	}
	var unspecified W
	if _, ok := p.toOurs(unspecified); ok {
		t.Errorf("%s: the unspecified word means something", values.ByNumber(0).Name())
	}
}

func TestEveryWordIsInItsTable(t *testing.T) {
	holdsAll(t, purposes)
	holdsAll(t, permissions)
	holdsAll(t, relationships)
	holdsAll(t, states)
	holdsAll(t, modes)
	holdsAll(t, breakers)
	holdsAll(t, scopes)
	holdsAll(t, listFormats)
	holdsAll(t, listStages)
	holdsAll(t, verdicts)
	holdsAll(t, listOutcomes)
	holdsAll(t, questions)
	holdsAll(t, objectionStatuses)
	holdsAll(t, methods)
	if len(purposes) != len(record.Purposes) || len(states) != len(record.States) {
		t.Error("a list of ours has more words than its table")
	}
}

func TestSectionsHaveTheirCodesAndOrder(t *testing.T) {
	all := record.AllSections.List()
	if len(all) != len(v1.Section_name)-1 {
		t.Fatalf("got %d sections on the wire, want %d", len(v1.Section_name)-1, len(all))
	}
	for _, s := range all {
		if got := codeOf(section(s)); got != s.Code() {
			t.Errorf("got %s, want %s", got, s.Code())
		}
		if back, ok := parseSection(section(s)); !ok || back != s {
			t.Errorf("%s does not come back", s.Code())
		}
	}
	for _, bad := range []v1.Section{-1, 0, v1.Section(len(all)) + 1, 256, 257, 1 << 30} {
		if s, ok := parseSection(bad); ok {
			t.Errorf("%d is read as %s", bad, s)
		}
	}
}

func TestNumbersThatTheLedgerAndTheClockFix(t *testing.T) {
	for ours, wire := range map[audit.EntryType]string{audit.TypeBegin: "begin", audit.TypeChunk: "chunk", audit.TypeReleased: "released",
		audit.TypeRefused: "refused", audit.TypeNothing: "nothing", audit.TypeCancelled: "cancelled", audit.TypeAbandoned: "abandoned",
		audit.TypeObjection: "objection", audit.TypeOverride: "override", audit.TypeReview: "review", audit.TypeRead: "read",
		audit.TypeCheck: "check", audit.TypeLimited: "limited", audit.TypeKey: "key", audit.TypePolicy: "policy",
		audit.TypeImport: "import", audit.TypeImported: "imported", audit.TypeAdopted: "adopted", audit.TypeRedact: "redact",
		audit.TypeDelegation: "delegation", audit.TypeAlert: "alert", audit.TypeHandled: "handled"} {
		if got := codeOf(v1.EntryType(ours)); got != wire {
			t.Errorf("entry type %d is %q on the wire, want %q", ours, got, wire)
		}
	}
	for ours, wire := range map[record.Precision]string{record.Year: "year", record.Month: "month", record.Day: "day", record.Minute: "minute",
		record.Second: "second", record.Fraction: "fraction", record.Span: "span"} {
		if got := codeOf(v1.Precision(ours)); got != wire {
			t.Errorf("precision %d is %q on the wire, want %q", ours, got, wire)
		}
	}
}

func TestClinicalTimes(t *testing.T) {
	if clinicalTime(record.ClinicalTime{}) != nil {
		t.Error("what is undated has a time")
	}
	year, err := record.ParseClinicalTime("9999")
	if err != nil {
		t.Fatal(err)
	}
	if got := clinicalTime(year); got.GetHi().CheckValid() != nil || got.GetLo().CheckValid() != nil {
		t.Error("the last year cannot be said as timestamps")
	}
	open := year
	open.OpenHi = true
	if got := clinicalTime(open); got.GetHi() != nil || got.GetLo() == nil {
		t.Error("an open end is closed")
	}
	early, err := record.ParseClinicalTime("0001-01-01T00:00:00+14:00")
	if err != nil {
		t.Fatal(err)
	}
	if got := clinicalTime(early); got.GetLo().CheckValid() != nil {
		t.Error("the first instant cannot be said as a timestamp")
	}
	if instant(time.Time{}) != nil {
		t.Error("no time is a time")
	}
}

// A permission and a relationship on the wire are read exactly where their text form is, and come to the same.
func TestStatedFieldsHaveOneRule(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SampledFrom([]string{"", "x", "2026-01-31", "no next of kin, asleep", `say "yes"`, "a;b=c", "ünïcode", "tab\there", " padded "})
		m := &v1.Permission{Kind: v1.PermissionKind(rapid.IntRange(1, 9).Draw(t, "kind")), On: text.Draw(t, "on"), Ref: text.Draw(t, "ref"), Reason: text.Draw(t, "reason")}
		var p problems
		got := p.permission(m)
		kind, _ := permissions.toOurs(m.GetKind())
		ours := record.Permission{Kind: kind, On: m.GetOn(), Ref: m.GetRef(), Reason: m.GetReason()}
		again, err := record.ParsePermission(ours.String())
		if want := err == nil && again == ours; want != (len(p) == 0) {
			t.Fatalf("accepted %v, want %v", len(p) == 0, want)
		}
		if len(p) == 0 && got != ours {
			t.Fatal("a permission changed on the way")
		}
		if len(p) == 0 { // and what was accepted agrees with a token that states the same, and with no other
			for stated, agrees := range map[string]bool{"": true, ours.String(): true, "asked-no": kind == record.AskedNo} {
				var q problems
				q.reconcile(authn.Caller{Stated: authn.Stated{Permission: stated}}, authn.Asked{Permission: got})
				if (len(q) == 0) != agrees {
					t.Fatalf("agrees %v, want %v", len(q) == 0, agrees)
				}
			}
		}
	})
}

func TestReadNeverRepeatsWhatWasGiven(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		marked := rapid.Custom(func(t *rapid.T) string { return "ZEBRA" + rapid.String().Draw(t, "s") })
		in := &v1.GetRecordRequest{NhsNumber: marked.Draw(t, "n"), BirthDate: marked.Draw(t, "b"), Purpose: 99,
			Permission:   &v1.Permission{Kind: 2, On: marked.Draw(t, "on"), Ref: marked.Draw(t, "ref")},
			Relationship: &v1.Relationship{Kind: 99, Ref: marked.Draw(t, "rref")}, BreakGlassReason: "\x00" + marked.Draw(t, "bg"),
			Types: []string{"zebra", marked.Draw(t, "t")}, Start: marked.Draw(t, "start"), End: marked.Draw(t, "end"), Since: marked.Draw(t, "since")}
		_, p := read(in, authn.Caller{})
		if len(p) < 9 {
			t.Fatalf("got %d problems, want one for each field", len(p))
		}
		if strings.Contains(strings.ToUpper(p.text()), "ZEBRA") {
			t.Fatal("a problem repeats what was given")
		}
	})
}
