package consent

import (
	"context"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Decide reads the person's preferences and evaluates the question. It returns no error: a registry that cannot be read is a
// refusal (C-2.1, C-8).
func Decide(ctx context.Context, r Registry, q Question) Decision { panic("contract") }

// Evaluate decides. It is pure: the time is q.Now.
func Evaluate(q Question, p Preferences) Decision { panic("contract") }

// Permit returns the proof of a permitting decision, and false for any other.
func (d Decision) Permit() (Permit, bool) { panic("contract") }

// Valid reports whether p came from a permitting decision.
func (p Permit) Valid() bool { panic("contract") }

// Sections returns what may be shown of a custodian's record, none for an unknown custodian or an invalid permit.
func (p Permit) Sections(k record.CustodianKey) record.Sections { panic("contract") }

// Numbers returns the numbers under which preferences count: the subject's, and those that it supersedes.
func (p Permit) Numbers() []record.NHSNumber { panic("contract") }

// Position returns the version of the preferences that the permit rests on.
func (p Permit) Position() uint64 { panic("contract") }

// BreaksGlass reports whether break-glass was used: an Override entry is due before Begin (C-3).
func (p Permit) BreaksGlass() bool { panic("contract") }

// Decision returns the decision that made p.
func (p Permit) Decision() Decision { panic("contract") }

// Again evaluates the same question with other preferences and a later time.
func (p Permit) Again(prefs Preferences, now time.Time) Decision { panic("contract") }

// Holds reports whether everything that p permits is still permitted: the check that a release makes inside its transaction.
func (p Permit) Holds(prefs Preferences, now time.Time) bool { panic("contract") }
