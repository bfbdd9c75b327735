package consent

import (
	"time"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// MaxDelegation is how long a delegation may last: after that the person says anew whether they still want it (C-6).
const MaxDelegation = 366 * 24 * time.Hour

// Delegation lets a carer see what the person would see of their own record, within a scope and for a time (C-6). The person writes it, nobody
// else. The carer asks with their own token, and what they do is recorded as theirs.
//
// A carer's view is not the person's own: every objection in force binds it, absolute or not, and what the person entered themselves stays out of it.
type Delegation struct {
	ID          string                // opaque, from the ledger; as an objection's
	Carer       record.NHSNumber      // the number of the carer's own token
	Name        string                // what the person calls the carer: "my daughter"
	Sections    record.Sections       // what may be seen; never none
	Custodians  []record.CustodianKey // whose record may be seen; none named: everybody's
	Status      Status                // InForce or Withdrawn
	From, Until time.Time             // UTC, half-open; both set
	AuthorUser  string                // who wrote it, or withdrew it
	Recorded    time.Time             // UTC, when the change that made it so was recorded
	Position    uint64                // ledger position of that change
}

// Binds reports whether d lets its carer see anything at that instant.
func (d Delegation) Binds(now time.Time) bool {
	return d.Status == InForce && !now.Before(d.From) && now.Before(d.Until)
}

// Covers reports whether d speaks of a section of a custodian's record.
func (d Delegation) Covers(k record.CustodianKey, s record.Section) bool {
	if !d.Sections.Has(s) {
		return false
	}
	for _, named := range d.Custodians {
		if named == k {
			return true
		}
	}
	return len(d.Custodians) == 0
}

// readable reports whether d says what it must.
func (d Delegation) readable() bool {
	if d.Status != InForce && d.Status != Withdrawn {
		return false
	}
	if d.Carer.IsZero() || d.Sections == 0 || d.Sections.Without(record.AllSections) != 0 || d.From.IsZero() || !d.Until.After(d.From) {
		return false
	}
	for _, k := range d.Custodians {
		if !k.Valid() {
			return false
		}
	}
	return true
}
