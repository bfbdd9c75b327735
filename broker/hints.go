package broker

import (
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Hints is what replicas tell each other, sooner than each would find out. A hint is never believed: one about a person makes the broker look into the ledger
// again, one about a custodian makes the next failure count for more. It MUST NOT wait, it may lose or repeat anything, and it is called concurrently.
type Hints interface {
	// Watch returns a channel that receives when the objections of a person may have changed, until end is called.
	Watch(numbers []record.NHSNumber) (changed <-chan struct{}, end func())

	// Opened says that the breaker of a custodian opened here, and until when.
	Opened(custodian record.CustodianKey, until time.Time)

	// Suspected reports whether it is open elsewhere.
	Suspected(custodian record.CustodianKey) bool
}

// noHints is what one process alone is told.
type noHints struct{}

func (noHints) Watch([]record.NHSNumber) (<-chan struct{}, func()) { return nil, func() {} }
func (noHints) Opened(record.CustodianKey, time.Time)              {}
func (noHints) Suspected(record.CustodianKey) bool                 { return false }

// maxLooks is how often hints make one request look into the ledger: whoever repeats them must not make it slow.
const maxLooks = 3

// watch begins before the decision, so that no change falls between the two.
func (a *access) watch() { a.hinted, a.unwatch = a.b.cfg.Hints.Watch(a.numbers()) }

// wasHinted reports whether preferences may have changed since the decision.
func (a *access) wasHinted() bool {
	select {
	case <-a.hinted:
		a.looks++
		return true
	default:
		return false
	}
}

// lookAgain reads the preferences after a hint. If the permit is gone, what is under way is given up: its answer would be refused all the same. Everything
// else, a ledger that cannot be read included, is found out by the release.
func (a *access) lookAgain() {
	if a.looks++; a.looks > maxLooks {
		a.hinted = nil
		return
	}
	prefs, err := a.b.cfg.Ledger.Preferences(a.ctx, a.numbers())
	if err != nil {
		return
	}
	if _, still := a.permit.Again(prefs, time.Now().UTC()).Permit(); still {
		return
	}
	a.newer, a.hinted = &audit.ConsentChangedError{Preferences: prefs}, nil
	a.overtaken.Store(true)
	a.cancel()
}
