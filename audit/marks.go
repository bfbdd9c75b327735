package audit

import (
	"encoding/binary"
	"fmt"

	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// What an entry is found by follows from its payload and its epoch alone, so that the whole index can be rebuilt and compared (Verify).

// accessKey are the marks of what makes an access safe to repeat, under every epoch.
func (k *Keys) accessKey(key string) []Mark { return k.hashes(MarkKey, "access", key) }

// recordKey and withdrawKey include who and about whom: somebody else's key finds nothing.
func (k *Keys) recordKey(user string, about record.NHSNumber, key string) []Mark {
	return k.hashes(MarkKey, "objection", user, about.Reveal(), key)
}

// delegationKey, delegationWithdrawKey and reviewKey are likewise those of delegations and reviews.
func (k *Keys) delegationKey(user string, about record.NHSNumber, key string) []Mark {
	return k.hashes(MarkKey, "delegation", user, about.Reveal(), key)
}

func (k *Keys) delegationWithdrawKey(user, id, key string) []Mark {
	return k.hashes(MarkKey, "delegation-withdrawal", user, id, key)
}

func (k *Keys) reviewKey(user, key string) []Mark { return k.hashes(MarkKey, "review", user, key) }

func (k *Keys) handledKey(user, key string) []Mark { return k.hashes(MarkKey, "handled", user, key) }

// alertMarks are those by which an alert is found from its access, and from what it is about.
func alertMarks(b *alertBody) []Mark {
	out := []Mark{positionMark(MarkAlertOf, b.Of)}
	if len(b.Topic) > 0 {
		out = append(out, Mark{MarkTopic, string(b.Topic)})
	}
	return out
}

func positionMark(kind MarkKind, position uint64) Mark {
	return Mark{kind, string(binary.BigEndian.AppendUint64(nil, position))}
}

// change is the mark of a new thing (replaces is 0), or of a change to one that is there.
func (e *epoch) change(made, changed, user string, about record.NHSNumber, id, key string, replaces uint64) Mark {
	if replaces != 0 {
		return e.hash(MarkKey, changed, user, id, key)
	}
	return e.hash(MarkKey, made, user, about.Reveal(), key)
}

func (k *Keys) withdrawKey(user, id, key string) []Mark {
	return k.hashes(MarkKey, "withdrawal", user, id, key)
}

// askedNo are the marks of a person who said no to a user, under every epoch.
func (k *Keys) askedNo(numbers []record.NHSNumber, user string) []Mark {
	var out []Mark
	for _, n := range numbers {
		out = append(out, k.hashes(MarkAskedNo, n.Reveal(), user)...)
	}
	return out
}

func (e *epoch) who(r record.Requester) []Mark { return e.addWho(nil, r) }

func (e *epoch) addWho(out []Mark, r record.Requester) []Mark {
	if r.User != "" {
		out = append(out, e.hash(MarkUser, r.User))
	}
	if r.Organisation != "" {
		out = append(out, Mark{MarkOrganisation, plain(string(r.Organisation))})
	}
	return out
}

func (e *epoch) about(numbers ...record.NHSNumber) []Mark {
	out := make([]Mark, 0, len(numbers)+usualMarks)
	for _, n := range numbers {
		if !n.IsZero() {
			out = append(out, e.hash(MarkPerson, n.Reveal()))
		}
	}
	return out
}

// usualMarks is how many marks most entries have beside those of the person.
const usualMarks = 12

// subjects returns the numbers of the person that an access is about, the number asked for first.
func (a *Access) subjects() []record.NHSNumber {
	if a.Subject.IsZero() {
		return nil
	}
	return append([]record.NHSNumber{a.Subject}, a.Supersedes...)
}

// access are the marks that every entry of one access carries: whose record, who asks, and which custodians were asked. A request that was refused
// before anybody was asked is an access to no custodian's record: those who may see the accesses to a record have no business with it.
func (e *epoch) access(a *Access) []Mark {
	return addCustodians(e.request(a), a.Asked)
}

// closing are the marks of the entry that closes an access.
func (e *epoch) closing(a *Access, reason consent.Reason) []Mark {
	return append(append(e.access(a), e.saidNo(a, reason)...), purposeMarks(namedPurpose(a.Purpose))...)
}

// opening are those of the entry that opens one.
func (e *epoch) opening(a *Access) []Mark {
	return append(append(e.access(a), e.saidNo(a, a.Reason)...), e.hash(MarkKey, "access", a.Key))
}

// refusing are those of the entry that refuses to.
func (e *epoch) refusing(a *Access) []Mark {
	return append(e.opening(a), purposeMarks(namedPurpose(a.Purpose))...)
}

// namedPurpose is what the entry that ends an access says of its purpose, and is found by. What nearly every access is for, direct care, needs neither: whoever asks for that finds it in
// most of what there is.
func namedPurpose(p record.Purpose) string {
	if p == record.Treatment {
		return ""
	}
	return string(p)
}

func purposeMarks(names ...string) []Mark {
	var out []Mark
	for _, n := range names {
		if n != "" {
			out = append(out, Mark{MarkPurpose, plain(n)})
		}
	}
	return out
}

// chunk are the marks of a part of a stream: each custodian's part is its own affair.
func (e *epoch) chunk(a *Access, d Disclosure) []Mark {
	var shown []record.CustodianKey
	for _, s := range d.Custodians {
		shown = append(shown, s.Key)
	}
	return append(addCustodians(e.request(a), shown), e.saidNo(a, "")...)
}

// request are the marks of an access but for its custodians.
func (e *epoch) request(a *Access) []Mark {
	return e.addWho(e.about(a.subjects()...), a.Requester)
}

func custodians(keys []record.CustodianKey) []Mark { return addCustodians(nil, keys) }

func addCustodians(out []Mark, keys []record.CustodianKey) []Mark {
	for _, k := range keys {
		out = append(out, Mark{MarkCustodian, plain(string(k))})
	}
	return out
}

// saidNo are the marks by which a later break-glass finds that the person had said no (design section 3, C-3).
func (e *epoch) saidNo(a *Access, reason consent.Reason) []Mark {
	if a.Requester.User == "" || a.Permission.Kind != record.AskedNo && reason != consent.ReasonAskedNo {
		return nil
	}
	var out []Mark
	for _, n := range a.subjects() {
		out = append(out, e.hash(MarkAskedNo, n.Reveal(), a.Requester.User))
	}
	return out
}

// marksOf works out what an entry is found by. begin is the access that a closing or a chunk belongs to, nil for other entries.
func marksOf(k *Keys, e *Entry, p *payload, begin *Access) ([]Mark, error) {
	epoch, ok := k.epoch(e.Epoch)
	if !ok {
		return nil, fmt.Errorf("%w: entry %d: the keys of its epoch are missing", ErrDamaged, e.Position)
	}
	r := &reading{}
	var out []Mark
	switch {
	case p.Access != nil:
		a := r.access(*p.Access)
		out = epoch.access(a)
		switch e.Type {
		case TypeBegin, TypeRefused:
			out = append(append(out, epoch.saidNo(a, a.Reason)...), epoch.hash(MarkKey, "access", a.Key))
		}
	case begin != nil && e.Type == TypeChunk && p.Disclosure != nil:
		out = epoch.chunk(begin, *r.disclosure(*p.Disclosure))
	case begin != nil:
		out = append(epoch.access(begin), epoch.saidNo(begin, consent.Reason(p.Reason))...)
	case p.Objection != nil:
		by, about := r.requester(p.Actor.Requester), r.number(p.Subject)
		out = append(epoch.about(about), epoch.who(by)...)
		if p.Objection.Custodian != "" {
			out = append(out, Mark{MarkCustodian, p.Objection.Custodian})
		}
		if p.Import == 0 || p.Replaces != 0 { // a row of a list is found again by whose it is
			out = append(out, epoch.change("objection", "withdrawal", by.User, about, p.Objection.ID, p.Key, p.Replaces))
		}
	case p.Question != nil:
		by := r.requester(p.Actor.Requester)
		out = append(epoch.about(r.numbers(p.Question.Subjects)...), epoch.who(by)...)
		if p.Question.Kind == questionChanges {
			out = append(out, followerMark(MarkFollower, by.Client))
		}
	case e.Type == TypeImport:
		out = append(epoch.who(r.requester(p.Actor.Requester)), Mark{Kind: MarkImport})
	case e.Type == TypeImported:
		out = append(epoch.who(r.requester(p.Actor.Requester)), endMark(p.Opens))
	case e.Type == TypeAdopted:
		by := r.requester(p.Actor.Requester)
		out = append(epoch.who(by), followerMark(MarkAdopted, by.Client))
	case p.Delegation != nil:
		by, about := r.requester(p.Actor.Requester), r.number(p.Subject)
		out = append(append(epoch.about(about), epoch.who(by)...), epoch.change("delegation", "delegation-withdrawal", by.User, about, p.Delegation.ID, p.Key, p.Replaces))
		for _, k := range p.Delegation.Custodians {
			out = append(out, Mark{MarkCustodian, k})
		}
	case p.Review != nil: // found by the person too: what was done over their head is theirs to see
		by := r.requester(p.Actor.Requester)
		out = append(epoch.about(append([]record.NHSNumber{r.number(p.Subject)}, r.numbers(p.Supersedes)...)...), epoch.who(by)...)
		if p.Key != "" {
			out = append(out, epoch.hash(MarkKey, "review", by.User, p.Key))
		}
	case p.Alert != nil: // found by who asked, never by the person: it is about somebody's conduct, and not yet judged
		out = append(epoch.who(r.requester(*p.Requester)), alertMarks(p.Alert)...)
	case p.Handled != nil:
		by := r.requester(p.Actor.Requester)
		out = append(epoch.who(by), positionMark(MarkHandled, p.Handled.Alert))
		if p.Key != "" {
			out = append(out, epoch.hash(MarkKey, "handled", by.User, p.Key))
		}
	case p.Requester != nil:
		out = epoch.who(r.requester(*p.Requester))
	case p.Epoch != nil:
		out = p.Epoch.marks()
	case p.Redact != nil:
		out = epoch.who(r.requester(p.Actor.Requester))
	case p.Policy != nil:
		out = []Mark{{Kind: MarkPolicy}}
	}
	out = append(out, purposeMarks(p.Purpose)...)
	if r.bad {
		return nil, fmt.Errorf("%w: entry %d holds a word that was never written", ErrDamaged, e.Position)
	}
	return out, nil
}

// marks are those of a Key entry: of the epoch, of the signing key, or of both.
func (b *epochBody) marks() []Mark {
	var out []Mark
	if b.Number != 0 {
		out = append(out, epochMark(b.Number))
	}
	if b.Signer != "" {
		out = append(out, signerMark(b.Signer))
	}
	return out
}
