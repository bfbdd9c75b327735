package audit_test

import (
	"errors"
	"os"
	"testing"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
)

// A ledger that was begun before there was a tree gets one when it is opened, of its entries as they stand, and goes on; one whose entries are not what
// they were does not.
func TestOldLedgersGetATree(t *testing.T) {
	p := filled(t, audit.Config{})
	old := []string{"UPDATE head SET frontier = x''", "DELETE FROM nodes", "DELETE FROM checkpoints"}
	unsigned := func() *audittest.Place { // before there were checkpoints, none was kept either
		q := copyOf(t, p)
		if err := os.RemoveAll(audittest.Checkpoints(q.Path)); err != nil {
			t.Fatal(err)
		}
		return q
	}
	q := unsigned()
	tamper(t, q, old...)
	if err := open(t, q, nil); err != nil {
		t.Fatalf("opening a ledger without a tree: %v", err)
	}
	q = q.Reopen(t)
	object(t, q.Ledger, number(t, "9990000034"), "all")
	sound(t, q.Ledger)

	q = unsigned()
	tamper(t, q, append(old, "UPDATE entries SET leaf = zeroblob(32) WHERE position = 1")...)
	if err := open(t, q, nil); !errors.Is(err, audit.ErrDamaged) {
		t.Errorf("a tree was made of entries that are not what they were: %v", err)
	}
}
