package record

import (
	"errors"
	"strings"
	"testing"
)

func TestParsePermission(t *testing.T) {
	for text, want := range map[string]Permission{
		"":                                      {},
		"   ":                                   {},
		"asked-yes":                             {Kind: AskedYes},
		"  asked-yes  ":                         {Kind: AskedYes},
		"asked-no":                              {Kind: AskedNo},
		"not-required":                          {Kind: PermissionNotNeeded},
		"patient-self":                          {Kind: PatientSelf},
		"asked-earlier; on=2026-01-31":          {Kind: AskedEarlier, On: "2026-01-31"},
		"asked-earlier;on=2024-02-29":           {Kind: AskedEarlier, On: "2024-02-29"},
		`asked-earlier ; on = "2026-01-31"`:     {Kind: AskedEarlier, On: "2026-01-31"},
		`implied-by-referral; ref="a; b=c"`:     {Kind: ImpliedByReferral, Ref: "a; b=c"},
		"implied-by-referral; ref=UBRN 12 34":   {Kind: ImpliedByReferral, Ref: "UBRN 12 34"},
		`cannot-ask; reason="asleep"`:           {Kind: CannotAsk, Reason: "asleep"},
		`best-interests; reason="a = b, c"`:     {Kind: BestInterests, Reason: "a = b, c"},
		`cannot-ask; reason="yn cysgu, nôs da"`: {Kind: CannotAsk, Reason: "yn cysgu, nôs da"},
		"cannot-ask; reason=a=b":                {Kind: CannotAsk, Reason: "a=b"},
	} {
		got, err := ParsePermission(text)
		if err != nil || got != want {
			t.Errorf("%q: got %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"yes", "ASKED-YES", "asked-yes; on=2026-01-31", "asked-yes;", "asked-yes; ", "; on=2026-01-31", "asked-earlier", "asked-earlier; on=",
		`asked-earlier; on=""`, "asked-earlier; on=31/01/2026", "asked-earlier; on=2026-02-30", "asked-earlier; on=2026-01-31T10:00:00Z",
		"asked-earlier; on=2026-01-31; on=2026-01-30", "asked-earlier; on=2026-01-31; ref=x", "asked-earlier; On=2026-01-31",
		"implied-by-referral", `implied-by-referral; ref="x`, `implied-by-referral; ref="x" y`, `implied-by-referral; ref=x"y"`, `implied-by-referral; ref=x"`,
		`implied-by-referral; ref="x";`, "cannot-ask", `cannot-ask; reason="   "`, "cannot-ask; reason", "cannot-ask; =x", "cannot-ask reason=x",
		"cannot-ask; reason=\x00", "cannot-ask; reason=\u0085", "cannot-ask; reason=\xff", "cannot-ask; reason=a\nb",
		"cannot-ask; reason=" + strings.Repeat("x", MaxFreeText),
	} {
		got, err := ParsePermission(text)
		checkFieldError(t, text, "permission", got == Permission{}, err)
	}
}

func TestParseRelationship(t *testing.T) {
	for text, want := range map[string]Relationship{
		"":                       {},
		"registered":             {Kind: Registered},
		"referral":               {Kind: Referral},
		"admission":              {Kind: Admission},
		"appointment":            {Kind: Appointment},
		"attendance":             {Kind: Attendance},
		"caseload":               {Kind: Caseload},
		"self-claimed":           {Kind: SelfClaimed},
		`admission; ref="spell"`: {Kind: Admission, Ref: "spell"},
		"admission; ref=a b":     {Kind: Admission, Ref: "a b"},
	} {
		got, err := ParseRelationship(text)
		if err != nil || got != want {
			t.Errorf("%q: got %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"friend", "Admission", "admission; on=2026-01-01", "admission; ref=a; ref=b", "admission; ref=", `admission; ref=" "`,
		"admission; ref=a; x=y", "admission;", "; ref=a", "admission, referral", "admission; ref=\x7f"} {
		got, err := ParseRelationship(text)
		checkFieldError(t, text, "relationship", got == Relationship{}, err)
	}
}

// checkFieldError holds every refusal to what is promised of it: nothing is kept, the field is named, the value is not repeated.
func checkFieldError(t *testing.T, text, field string, nothing bool, err error) {
	t.Helper()
	var f *FieldError
	if !nothing || !errors.As(err, &f) || f.Field != field || f.Want == "" {
		t.Errorf("%q: got %v, want a FieldError of %s and nothing else", text, err, field)
		return
	}
	for _, value := range []string{"31/01", "02-30", "x y", "friend", "yes; on", "\x00", "xxxx"} {
		if strings.Contains(text, value) && strings.Contains(err.Error(), value) {
			t.Errorf("%q: the error repeats the value", text)
		}
	}
}

func TestCheckFreeText(t *testing.T) {
	for text, ok := range map[string]bool{
		"": true, "plain": true, "Llŷr, 3½ – “said”": true, strings.Repeat("x", MaxFreeText): true, strings.Repeat("x", MaxFreeText+1): false,
		strings.Repeat("ŷ", MaxFreeText/2): true, strings.Repeat("ŷ", MaxFreeText/2+1): false,
		"a\tb": false, "a\nb": false, "a\x00b": false, "a\x7fb": false, "a\u009bb": false, "\xc3": false,
	} {
		if err := CheckFreeText("reason", text); (err == nil) != ok {
			t.Errorf("%.20q: got %v, want accepted: %t", text, err, ok)
		}
	}
}

// FuzzStated: what is read can be written, and read again as the same.
func FuzzStated(f *testing.F) {
	for _, s := range []string{"asked-yes", "asked-earlier; on=2026-01-31", `implied-by-referral; ref="a; b"`, "admission; ref=x", `cannot-ask; reason=" a`, `admission; ref=a"b`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := ParsePermission(s); err == nil {
			if len(p.String()) > MaxFreeText {
				return // quotation marks made it too long
			}
			if again, err := ParsePermission(p.String()); err != nil || again != p {
				t.Errorf("%q is written as %q and not read as the same: %v", s, p.String(), err)
			}
		}
		if r, err := ParseRelationship(s); err == nil {
			if len(r.String()) > MaxFreeText {
				return
			}
			if again, err := ParseRelationship(r.String()); err != nil || again != r {
				t.Errorf("%q is written as %q and not read as the same: %v", s, r.String(), err)
			}
		}
	})
}
