package broker

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// Follower is a system that must know of objections, a general practice's say: it is told of changes, and says that it adopted them.
type Follower struct {
	Issuer     string // of its tokens: a client id is a name among those of one issuer
	Client     string
	Name       string
	Custodians []record.CustodianKey // beside objections to all and to sections, those to these are told; nil: to every one
}

// tells reports whether somebody who follows these custodians is told of an objection. Who need not know of one is not told of it.
func tells(custodians []record.CustodianKey, o consent.Objection) bool {
	return custodians == nil || o.Scope != consent.ToCustodian || slices.Contains(custodians, o.Custodian)
}

// ObjectionChanges tells a following system what came to count after a place. The page is on record before it is returned. The error is always a
// [*Refusal].
func (b *Broker) ObjectionChanges(ctx context.Context, req ListRequest, from audit.Cursor, limit int) (audit.Page, error) {
	a, refusal := b.openFollower(ctx, req, "ListChanges")
	if refusal != nil {
		return audit.Page{}, refusal
	}
	defer a.end()
	people := newPeople(b)
	defer people.close()
	page, err := b.cfg.Ledger.ObjectionChanges(a.ctx, b.listActor(req), from, limit, audit.Telling{
		Objection: func(o consent.Objection) bool { return tells(req.Role.Follows, o) },
		People: func(ctx context.Context, about []record.NHSNumber) (map[record.NHSNumber]bool, error) {
			return people.mayBeTold(ctx, about, req.ID)
		},
	})
	if errors.Is(err, audit.ErrInvalid) {
		return audit.Page{}, a.invalidly("after: next_after and next_after_row of the page before, or 0")
	}
	return page, a.done(err, "list")
}

// mayBeTold returns those of whom a following system may be told (C-10): not somebody who is restricted, unknown, invalidated, or dead and closed. A number that
// another has superseded may be told: its objections bind the person who has the other now. An error says that somebody could not be asked for, and then nobody is told.
func (p *people) mayBeTold(ctx context.Context, about []record.NHSNumber, id string) (map[record.NHSNumber]bool, error) {
	if err := p.ask(ctx, about, id); err != nil {
		return nil, audit.ErrUnavailable
	}
	told := map[record.NHSNumber]bool{}
	for _, n := range about {
		if _, traced := p.known(n); !traced {
			return nil, audit.ErrUnavailable
		}
		told[n] = !p.hidden[n]
	}
	return told, nil
}

// AdoptChanges records that a following system honours all changes up to and with a position. The error is always a [*Refusal].
func (b *Broker) AdoptChanges(ctx context.Context, req ListRequest, through uint64) (audit.Receipt, error) {
	a, refusal := b.openFollower(ctx, req, "AcknowledgeChanges")
	if refusal != nil {
		return audit.Receipt{}, refusal
	}
	defer a.end()
	receipt, err := b.cfg.Ledger.Adopt(context.WithoutCancel(a.ctx), b.listActor(req), through)
	if errors.Is(err, audit.ErrInvalid) {
		return audit.Receipt{}, a.invalidly("through: a position that ListChanges gave as through, all pages up to which were read")
	}
	return receipt, a.done(err, "list")
}

// openFollower checks who asks: a system for itself. One that acts for somebody has that person's role, which follows nothing.
func (b *Broker) openFollower(ctx context.Context, req ListRequest, operation string) (*access, *Refusal) {
	a := b.start(ctx, Request{ID: req.ID, Face: req.Face, Operation: operation, Requester: req.Requester, Role: req.Role, Arrived: req.Arrived})
	reason := req.TokenProblem
	if reason == "" && (!req.Role.FollowsObjections || req.Requester.Kind != record.System) {
		reason = consent.ReasonRole
	}
	if reason != "" {
		r := a.refuse(Forbidden, reason, "C-10")
		a.outcome(string(r.Kind))
		a.end()
		return nil, r
	}
	return a, nil
}

// Adoption says of a following system whether it has adopted an objection. At is zero if it has not said so.
type Adoption struct {
	System string
	At     time.Time
}

// Adoptions says of each objection of a list which systems are told of it, and which have adopted it, for somebody who may see the objections: call it
// with what ShowObjections returned. nil if that cannot be found out now.
func (b *Broker) Adoptions(ctx context.Context, list []consent.Objection) [][]Adoption {
	var clients []string
	for _, f := range b.cfg.Followers {
		clients = append(clients, f.Client)
	}
	if len(clients) == 0 {
		return nil
	}
	out := make([][]Adoption, len(list))
	for i, o := range list {
		found, err := b.cfg.Ledger.Adoptions(ctx, o, clients)
		if err != nil || len(found) != len(clients) {
			return nil
		}
		for j, f := range b.cfg.Followers {
			if tells(f.Custodians, o) {
				out[i] = append(out[i], Adoption{f.Name, found[j].At})
			}
		}
	}
	return out
}

// ObjectionHistory is ShowObjections with all that the objections were before, newest first. The error is always a [*Refusal].
func (b *Broker) ObjectionHistory(ctx context.Context, req ObjectionRequest) (list, history []consent.Objection, r audit.Receipt, err error) {
	a, by, refusal := b.openObjections(ctx, req, "ObjectionHistory", ruleObjections, req.Role.SeesObjections)
	if refusal != nil {
		return nil, nil, audit.Receipt{}, refusal
	}
	defer a.end()
	ctx = context.WithoutCancel(a.ctx)
	list, r, err = b.cfg.Ledger.ReadObjections(ctx, by, a.numbers())
	if err == nil {
		history, err = b.cfg.Ledger.History(ctx, a.numbers())
	}
	return list, history, r, a.done(err, "objection")
}
