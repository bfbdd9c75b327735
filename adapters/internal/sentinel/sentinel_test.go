package sentinel

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

// Every kind of trouble that the wire knows has a sentinel of its own choosing; none is left to be malformed by accident.
func TestEveryKind(t *testing.T) {
	for k := wire.Kind(1); k.String() != "unknown"; k++ {
		err := OfWire(&wire.Error{Kind: k, After: 7 * time.Second})
		if throttled, ok := errors.AsType[*broker.ThrottledError](err); ok {
			if k != wire.Throttled || throttled.After != 7*time.Second {
				t.Errorf("%s: %v", k, err)
			}
			continue
		}
		if kinds[k] == nil || !errors.Is(err, kinds[k]) {
			t.Errorf("%s has no sentinel", k)
		}
	}
	if err := OfWire(errors.New("else")); !errors.Is(err, broker.ErrMalformed) {
		t.Errorf("trouble that is not the wire's: %v", err)
	}
}

// A text that reaches a cap is too much, each cap by itself; a text that cannot be read is malformed.
func TestTexts(t *testing.T) {
	for name, c := range map[string]struct {
		text   string
		limits fhirjson.Limits
		want   error
	}{
		"deep":   {strings.Repeat("[", 100) + strings.Repeat("]", 100), fhirjson.Limits{}, broker.ErrTooMuch},
		"string": {`"` + strings.Repeat("x", 100) + `"`, fhirjson.Limits{StringBytes: 10}, broker.ErrTooMuch},
		"number": {strings.Repeat("1", 10_000), fhirjson.Limits{}, broker.ErrTooMuch},
		"values": {"[" + strings.Repeat("0,", 100_000) + "0]", fhirjson.Limits{}, broker.ErrTooMuch},
		"cut":    {`{"a":`, fhirjson.Limits{}, broker.ErrMalformed},
		"twice":  {`{"a":1,"a":2}`, fhirjson.Limits{}, broker.ErrMalformed},
	} {
		_, err := fhirjson.Parse([]byte(c.text), c.limits)
		if got := OfText(err); err == nil || !errors.Is(got, c.want) {
			t.Errorf("%s: %v is %v, want %v", name, err, got, c.want)
		}
	}
}

func TestEnds(t *testing.T) {
	late, done := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer done()
	left, leave := context.WithCancel(t.Context())
	leave()
	if OfEnd(t.Context()) != nil || !errors.Is(OfEnd(late), broker.ErrTimedOut) || !errors.Is(OfEnd(left), context.Canceled) {
		t.Errorf("%v %v %v", OfEnd(t.Context()), OfEnd(late), OfEnd(left))
	}
}

// What says that a search was not done to its end says so with any severity; what is merely said does not.
func TestIssues(t *testing.T) {
	for issue, want := range map[string]struct{ unfinished, grave bool }{
		`{"severity":"information","code":"incomplete"}`: {true, false}, `{"severity":"warning","code":"too-costly"}`: {true, false}, `{"code":"timeout"}`: {true, false},
		`{"severity":"fatal","code":"exception"}`: {true, true}, `{"severity":"error","code":"not-found"}`: {false, true},
		`{"severity":"warning","code":"informational"}`: {false, false}, `{"severity":"warning"}`: {false, false}, `{}`: {false, false}, `[]`: {false, false}, `"incomplete"`: {false, false},
	} {
		d, err := fhirjson.Parse([]byte(issue), fhirjson.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if unfinished, grave := Unfinished(d.Root()), Grave(d.Root()); unfinished != want.unfinished || grave != want.grave {
			t.Errorf("%s: unfinished %t, grave %t", issue, unfinished, grave)
		}
	}
}
