package record

import "testing"

func TestForms(t *testing.T) {
	for c, want := range map[ODSCode]bool{"A81": true, "X9A01": true, "0123456789": true, "": false, "A8": false, "A8100100000": false,
		"a81001": false, "A81-01": false, " A81": false, "A81\n": false, "Ä8100": false} {
		if c.Valid() != want {
			t.Errorf("ODS code %q: want valid %t", string(c), want)
		}
	}
	for k, want := range map[CustodianKey]bool{"g": true, "nhs111": true, "111": true, "mentalhealth": true, "": false, "mentalhealths": false,
		"GP": false, "g-p": false, "g p": false, "gp\x00": false, "gé": false} {
		if k.Valid() != want {
			t.Errorf("custodian key %q: want valid %t", string(k), want)
		}
	}
	for _, k := range CustodianKinds {
		if !k.Valid() {
			t.Errorf("kind %s is not valid", k)
		}
	}
	if CustodianKind("").Valid() || CustodianKind("GP").Valid() {
		t.Error("what is no kind is valid")
	}
	for _, p := range Purposes {
		if !p.Valid() {
			t.Errorf("purpose %s is not valid", p)
		}
	}
	for _, p := range []Purpose{"", "treat", "HRESCH", "TREAT "} {
		if p.Valid() {
			t.Errorf("purpose %q is valid", string(p))
		}
	}
}

// TestStates: no state both shows something and is in trouble, and each is one of the eight of design section 6.
func TestStates(t *testing.T) {
	shows := map[State]bool{Returned: true, ReturnedInPart: true}
	trouble := map[State]bool{TimedOut: true, Unavailable: true, Failed: true}
	if len(States) != 8 {
		t.Errorf("got %d states, want 8", len(States))
	}
	for _, s := range States {
		if s.Showing() != shows[s] || s.InTrouble() != trouble[s] {
			t.Errorf("%s: showing %t, in trouble %t", s, s.Showing(), s.InTrouble())
		}
	}
}
