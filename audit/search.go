package audit

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// Search is what an IG officer, or the person, asks of the ledger. Empty fields do not restrict.
type Search struct {
	Subjects     []record.NHSNumber // the person, and superseded numbers
	User         string             // SDS user id
	Organisation record.ODSCode     // of the requester
	From, Until  time.Time          // half-open
	Types        []EntryType
	Within       record.ODSCode        // only accesses by this organisation's staff, or of a record that this organisation holds; "" for no such bound
	Custodians   []record.CustodianKey // those that Within and Overseen hold
	Overseen     []record.ODSCode      // organisations beside Within
	Everywhere   bool                  // Within is kept with the question, and bounds nothing
	Limit        int                   // 1 to 1,000; 100 if 0
	Before       uint64                // positions below this; 0: from the newest
	Archive      string                // name of a file of Config.Archives: what stands in it is asked, and nothing else
}

// Found is one entry as a search shows it: what happened, never what was in the record.
type Found struct {
	Position   uint64
	Type       EntryType
	At         time.Time
	Leaf       [32]byte
	Opens      uint64 // position of the Begin that this closes or continues, 0 for none
	Subject    record.NHSNumber
	Access     *Access             // Begin, Refused alone, Override
	Disclosure *Disclosure         // Chunk, Released, Nothing, Refused, Cancelled
	Objection  *consent.Objection  // Objection
	Listed     Listing             // Objection: what became of the list that brought it, as of the search
	Delegation *consent.Delegation // Delegation
	Actor      *Actor              // Objection, Delegation, Read, Review, Handled; of a Limited entry and of an Alert the requester whom it is about
	Reason     string              // of a review its outcome
	Note       string              // of a review
	Expires    time.Time           // of an override
	Alert      *Alert              // Alert
	Handled    *Handling           // Handled
	Replaces   uint64              // Objection, Delegation: position of the state that it changes, 0 for a new one
	Count      int                 // Check, Limited
	Asked      string              // Read: which question, or its kind

	about   []record.NHSNumber // Read, Review and accesses: everybody whom it concerns
	list    uint64             // position of the Import that brings the objection in, 0 for none
	ofAlert uint64             // Read: position of the one alert that was looked at, 0 for none
}

// About reports whether it concerns a person who has any of the numbers.
func (f Found) About(numbers []record.NHSNumber) bool {
	return slices.ContainsFunc(numbers, func(n record.NHSNumber) bool { return !n.IsZero() && (n == f.Subject || slices.Contains(f.about, n)) })
}

// to turns what concerns several people to the one who was asked about, by the first of their numbers that it names. Nobody learns with whom they stand in a list.
func (f *Found) to(numbers []record.NHSNumber) {
	if f.Type != TypeRead || slices.Contains(numbers, f.Subject) {
		return
	}
	for _, n := range numbers {
		if slices.Contains(f.about, n) {
			f.Subject = n
			return
		}
	}
}

// Listing says what became of the list that an objection came with.
type Listing uint8

// The states of such a list.
const (
	NotListed Listing = iota // it came with none
	Incoming                 // it has not come in yet: the objection does not count so far
	CameIn                   // the objection counts from when it came in
	GivenUp                  // it never came in: the objection never counted
)

// listing looks up what became of the list that brings an entry's objection in.
func (m endings) listing(r Reader, k *Keys, f Found) (Listing, error) {
	if f.list == 0 {
		return NotListed, nil
	}
	end, err := m.of(r, k, f.list)
	switch {
	case err != nil:
		return NotListed, err
	case end.position == 0:
		return Incoming, nil
	case !end.applied:
		return GivenUp, nil
	}
	return CameIn, nil
}

// Bounds of a search. A page that would hold more bytes of entries is cut, and says that there is more.
const (
	maxFound      = 1000
	defaultFound  = 100
	maxFoundBytes = 32 << 20
	maxAsked      = 64 // subjects, types, outcomes, purposes
)

// Search records the question (L-6) and answers it, newest first. more is true if Limit, or the size of what was found, cut the answer: ask again with
// Before set to the last position. The answer holds what stood in the ledger before the question.
func (l *Ledger) Search(ctx context.Context, by Actor, q Search) (out []Found, more bool, r Receipt, err error) {
	from, err := l.archive(ctx, q.Archive)
	if err != nil {
		return nil, false, Receipt{}, err
	}
	defer l.archives.give(from)
	if r, err = l.ask(ctx, by, q, from); err != nil {
		return nil, false, Receipt{}, err
	}
	q.Limit = or(q.Limit, defaultFound)
	ctx, cancel := context.WithTimeout(ctx, max(l.deadline, searchTime))
	defer cancel()
	err = l.view(ctx, func(reader Reader) error {
		keys, err := l.keysFor(reader)
		if err != nil {
			return err
		}
		query := keys.query(q, r.Position)
		if from != nil {
			if reader, err = from.beside(reader, keys); err != nil {
				return err
			}
			query.Least, query.Before = from.From, min(query.Before, from.Until)
		}
		at, lists := answering{reader, keys, endings{}}, endings{}
		for size := 0; ; { // what is about the asker is left out, and a page is filled with what comes after it
			query.Limit = min(lastBatch, q.Limit+1-len(out))
			positions, err := reader.Search(query)
			if err != nil {
				return err
			}
			list, err := at.entries(positions)
			if err != nil {
				return err
			}
			if list, err = at.others(list, staff(by)); err != nil {
				return err
			}
			for _, s := range list {
				if size += s.bytes; len(out) == q.Limit || size > maxFoundBytes && len(out) > 0 {
					more = true
					return nil
				}
				f := s.Found
				f.to(q.Subjects)
				if f.Listed, err = lists.listing(reader, keys, f); err != nil {
					return err
				}
				out = append(out, f)
			}
			if len(positions) < query.Limit {
				return nil
			}
			query.Before = positions[len(positions)-1]
		}
	})
	if err != nil {
		return nil, false, r, err
	}
	return out, more, r, nil
}

// ask records the question.
func (l *Ledger) ask(ctx context.Context, by Actor, q Search, from *archive) (Receipt, error) {
	if err := checkSearch(by, q); err != nil {
		return Receipt{}, err
	}
	q.Limit = or(q.Limit, defaultFound)
	var receipt Receipt // not a result: the committer may still write it when the caller has left
	err := l.do(ctx, func(w *writer) (err error) {
		p := &payload{Actor: actorOut(by), Question: questionOut(q)}
		if from != nil {
			p.Question.Archive = from.Epoch
		}
		receipt, err = w.append(TypeRead, p, append(w.epoch.about(q.Subjects...), w.epoch.who(by.Requester)...))
		return err
	}, nil)
	if err != nil {
		return Receipt{}, err
	}
	return receipt, nil
}

// searchTime is how long the reading part of a search may take.
const searchTime = 5 * time.Second

// query says in marks what a search says in words. before is the position of the question's own entry.
func (k *Keys) query(q Search, before uint64) Query {
	out := Query{Types: q.Types, From: q.From, Until: q.Until, Before: before, Limit: q.Limit + 1}
	if q.Before != 0 {
		out.Before = min(before, q.Before)
	}
	if len(q.Subjects) > 0 {
		out.All = append(out.All, k.persons(q.Subjects))
	}
	if q.User != "" {
		out.All = append(out.All, k.hashes(MarkUser, q.User))
	}
	if q.Within != "" && !q.Everywhere {
		within := []Mark{{MarkOrganisation, string(q.Within)}}
		for _, o := range q.Overseen {
			within = append(within, Mark{MarkOrganisation, string(o)})
		}
		for _, c := range q.Custodians {
			within = append(within, Mark{MarkCustodian, string(c)})
		}
		out.All = append(out.All, within)
	}
	if q.Organisation != "" {
		out.All = append(out.All, []Mark{{MarkOrganisation, string(q.Organisation)}})
	}
	return out
}

func checkSearch(by Actor, q Search) error {
	if err := checkActor(by); err != nil {
		return err
	}
	invalid := func(what string) error { return fmt.Errorf("%w: %s", ErrInvalid, what) }
	if q.Limit < 0 || q.Limit > maxFound {
		return invalid("a search shows 1 to 1,000 entries")
	}
	if len(q.Subjects) > maxAsked || len(q.Types) > maxAsked { // how many custodians an asker oversees is not theirs to choose
		return invalid("a search names at most 64 numbers or types")
	}
	for _, n := range q.Subjects {
		if n.IsZero() {
			return invalid("a search for a person needs their number")
		}
	}
	for _, t := range q.Types {
		if !t.Valid() {
			return invalid("a search names types of the closed list")
		}
	}
	if !q.From.IsZero() && !q.Until.IsZero() && !q.From.Before(q.Until) {
		return invalid("a search ends after it begins")
	}
	return nil
}
