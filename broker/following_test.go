package broker_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// officerAt is an information-governance officer of an organisation.
func officerAt(ods record.ODSCode) record.Requester {
	return record.Requester{Kind: record.Professional, User: "7770001", JobRole: "R8024", Organisation: ods, Client: "ig", Issuer: "i"}
}

// A question is on record before the demographics service hears the number, and again, with the numbers that it knows beside it, before anything is looked for under
// those.
func TestAQuestionIsOnRecordBeforeItIsFollowed(t *testing.T) {
	h := open(t, audittest.Open(t), quick)
	now, old := number(t, "9990000018"), number(t, "9990000042")
	h.tracer.supersedes = map[record.NHSNumber][]record.NHSNumber{now: {old}}
	looks := func(about record.NHSNumber) (n int) {
		found, _, _, err := h.ledger.Search(t.Context(), audit.Actor{Requester: officerAt("X9B01"), Face: "test"}, audit.Search{Subjects: []record.NHSNumber{about}, Types: []audit.EntryType{audit.TypeRead}})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if f.Actor.RequestID == "q" {
				n++
			}
		}
		return n
	}
	heard, before := 0, 0
	h.tracer.heard = func(n record.NHSNumber) { heard, before = heard+1, looks(n) }
	ask := func(page string, limit int) broker.LedgerAnswer {
		t.Helper()
		out, err := h.AskLedger(t.Context(), broker.LedgerQuestion{ID: "q", Face: "grpc", Requester: officerAt("X9B01"), Role: officerRole, Reason: "an inquiry", Page: page, Arrived: time.Now(),
			Question: audit.Question{Kind: audit.LedgerReads, Subjects: []record.NHSNumber{now}, Limit: limit}})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if ask("", 100); heard != 1 || before != 1 || looks(now) != 1 || looks(old) != 1 {
		t.Errorf("the service heard the number %d times, with %d entries before; %d about the number and %d about the earlier one: want 1 each", heard, before, looks(now), looks(old))
	}
	first := ask("", 1)
	if first.Next == "" || heard != 2 {
		t.Fatal("there is no second page")
	}
	if second := ask(first.Next, 1); heard != 2 || len(second.Followed.Superseded) != 1 || looks(now) != 3 || looks(old) != 3 {
		t.Errorf("a second page: heard %d times, followed to %d; %d and %d entries, want 2, 1, 3, 3", heard, len(second.Followed.Superseded), looks(now), looks(old))
	}
	verified(t, h.ledger)
}

// C-2.3: who asks the ledger by a number learns nothing of the number. What an answer says of it is the same for one that is restricted, that somebody has, and that
// nobody has; only that the service is away is said.
func TestAQuestionTellsNothingOfTheNumber(t *testing.T) {
	h := open(t, audittest.Open(t), quick)
	old := number(t, "9990000042")
	standings := []record.Standing{record.Live, record.Deceased, record.Restricted, record.Superseded, record.Invalidated, record.Unknown}
	ask := func(n record.NHSNumber) broker.Followed {
		t.Helper()
		out, err := h.AskLedger(t.Context(), broker.LedgerQuestion{ID: "q", Face: "grpc", Requester: officerAt("X9B01"), Role: officerRole, Reason: "an inquiry", Arrived: time.Now(),
			Question: audit.Question{Kind: audit.WhoLooked, Subjects: []record.NHSNumber{n}}})
		if err != nil {
			t.Fatal(err)
		}
		return out.Followed
	}
	said := map[string][]record.Standing{}
	for _, s := range standings {
		h.tracer.standing[number(t, "9990000018")] = s
		f := ask(number(t, "9990000018"))
		said[fmt.Sprint(f.Named, f.Answered, len(f.Superseded))] = append(said[fmt.Sprint(f.Named, f.Answered, len(f.Superseded))], s)
	}
	if len(said) != 1 {
		t.Errorf("they are told apart: %v", said)
	}
	h.tracer.supersedes = map[record.NHSNumber][]record.NHSNumber{number(t, "9990000018"): {old}}
	for _, s := range []record.Standing{record.Live, record.Restricted} {
		h.tracer.standing[number(t, "9990000018")] = s
		if s == record.Live {
			delete(h.tracer.standing, number(t, "9990000018"))
		}
		if f := ask(number(t, "9990000018")); !f.Answered || !slices.Equal(f.Superseded, []record.NHSNumber{old}) {
			t.Errorf("%s: followed to %d numbers", s, len(f.Superseded))
		}
	}
	h.tracer.fail.Store(true)
	if f := ask(number(t, "9990000018")); f.Answered || len(f.Superseded) != 0 {
		t.Error("the service is away, and that is not said")
	}
}

// One access or event that a person asks for by its position is on record too before the demographics service hears their number; what is about them under the number that
// they have now needs no asking.
func TestALookIsOnRecordBeforeItIsFollowed(t *testing.T) {
	now, old, other := number(t, "9990000018"), number(t, "9990000042"), number(t, "9990000026")
	for _, operation := range []string{"ShowView", "ShowEvent"} {
		for _, c := range []struct {
			name           string
			about          record.NHSNumber
			shown          bool
			heard          int
			present, under int // entries of the look that name the present number, and the earlier one
		}{
			{"the present number", now, true, 0, 1, 0},
			{"an earlier number", old, true, 1, 1, 1},
			{"somebody else", other, false, 1, 1, 0},
			{"nothing", record.NHSNumber{}, false, 1, 1, 0},
		} {
			h := open(t, audittest.Open(t), quick)
			looks := func(about record.NHSNumber) (n int) {
				found, _, _, err := h.ledger.Search(t.Context(), audit.Actor{Requester: officerAt("X9B01"), Face: "test"}, audit.Search{Subjects: []record.NHSNumber{about}, Types: []audit.EntryType{audit.TypeRead}})
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range found {
					if f.Actor.RequestID == "look" {
						n++
					}
				}
				return n
			}
			position := uint64(1 << 40)
			if !c.about.IsZero() {
				res, err := h.Retrieve(t.Context(), question(c.about))
				if err != nil {
					t.Fatal(err)
				}
				position = res.Receipt.Position
			}
			h.tracer.supersedes = map[record.NHSNumber][]record.NHSNumber{now: {old}}
			heard, before := 0, 0
			h.tracer.heard = func(n record.NHSNumber) { heard, before = heard+1, looks(n) }
			req := broker.LedgerQuestion{ID: "look", Face: "grpc", Requester: record.Requester{Kind: record.Person, User: "login", Own: now, Issuer: "i", Client: "app"}, Role: personal, Arrived: time.Now()}
			var row audit.Row
			var err error
			if operation == "ShowView" {
				row, _, _, err = h.ShowView(t.Context(), req, position)
			} else {
				row, _, err = h.ShowEvent(t.Context(), req, position)
			}
			if shown := err == nil && row.Position == position; shown != c.shown {
				t.Errorf("%s, %s: shown %t", operation, c.name, shown)
			}
			if heard != c.heard || heard > 0 && before != 1 {
				t.Errorf("%s, %s: the service heard the number %d times, with %d entries before", operation, c.name, heard, before)
			}
			if looks(now) != c.present || looks(old) != c.under || looks(other) != 0 {
				t.Errorf("%s, %s: %d entries about the number, %d about the earlier one, %d about somebody else", operation, c.name, looks(now), looks(old), looks(other))
			}
			verified(t, h.ledger)
		}
	}
}
