package authn

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// A statement that another replica has taken is refused; where nobody says so, it is taken, and the others are told of it once, under its client's name.
func TestStatementsUsedElsewhere(t *testing.T) {
	k := testKeys()
	header := object{"alg": "ES256", "kid": "e1", "typ": "acting-person+jwt"}
	system := token(plainHeader, systemClaims())
	for _, elsewhere := range []bool{false, true} {
		v := newVerifier(t, servingAll())
		var asked []string
		v.used = func(id string, until time.Time) bool {
			if until.IsZero() {
				t.Error("asked about a statement that has expired")
			}
			asked = append(asked, id)
			return elsewhere
		}
		statement := compact(text(header), text(with(actingClaims(), object{"jti": "act-elsewhere"})), k.engine)
		got, err := verify(t, v, system, statement)
		if err != nil || errors.Is(got.Problem, ErrActingPerson) != elsewhere {
			t.Errorf("used elsewhere %v: %v, problem %v", elsewhere, err, got.Problem)
		}
		if _, err := verify(t, v, system, statement); err != nil { // its own memory refuses the second
			t.Error(err)
		}
		if len(asked) != 1 || !strings.HasSuffix(asked[0], "\x00act-elsewhere") {
			t.Errorf("asked %d times", len(asked))
		}
	}
}
