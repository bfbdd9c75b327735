package merge

import (
	"cmp"
	"slices"
	"strings"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// compare is the order of M-8 among custodians' entries: Patients; dated matches, the latest start first, then the latest end, then the
// more precise; undated matches; includes. Custodian key, type and id decide the rest, so the order is total and does not depend on
// who answered first. An unknown start counts as the earliest, an unknown end as the latest.
func compare(a, b *Entry) int {
	ga, gb := group(a), group(b)
	if ga != gb {
		return cmp.Compare(ga, gb)
	}
	if ga == datedMatches {
		if c := compareTimes(a.Time, b.Time); c != 0 {
			return c
		}
	}
	return cmp.Or(strings.Compare(string(a.Custodian), string(b.Custodian)), strings.Compare(a.Type, b.Type), strings.Compare(a.ID, b.ID))
}

// place is an entry while entries are sorted, with what nearly always decides.
type place struct {
	lo    int64 // the second of its start
	at    int32 // its number
	group int8
}

// sortEntries puts entries into the order of M-8. They are long, so their places are sorted first, and each is moved once.
func sortEntries(entries []Entry) {
	places := make([]place, len(entries))
	for i := range places {
		e := &entries[i]
		places[i] = place{at: int32(i), group: int8(group(e))}
		if places[i].group == datedMatches && !e.Time.OpenLo {
			places[i].lo = e.Time.Lo.Unix()
		}
	}
	slices.SortFunc(places, func(a, b place) int {
		if a.group == b.group && a.lo != b.lo && !entries[a.at].Time.OpenLo && !entries[b.at].Time.OpenLo {
			return cmp.Compare(b.lo, a.lo) // nearly always: the second of the start decides
		}
		return compare(&entries[a.at], &entries[b.at])
	})
	from := make([]int32, len(entries)) // from where the entry of each place comes
	for i := range from {
		from[i] = places[i].at
	}
	for i := range from {
		if int(from[i]) == i {
			continue
		}
		first, at := entries[i], i // a ring of entries that change places
		for {
			next := int(from[at])
			from[at] = int32(at)
			if next == i {
				entries[at] = first
				break
			}
			entries[at] = entries[next]
			at = next
		}
	}
}

const (
	patients = iota
	datedMatches
	undatedMatches
	includes
)

func group(e *Entry) int {
	switch {
	case e.Mode == Match && e.Time.Dated():
		return datedMatches
	case e.Mode == Match:
		return undatedMatches
	case e.Type == "Patient":
		return patients
	}
	return includes
}

func compareTimes(a, b record.ClinicalTime) int {
	if a.OpenLo != b.OpenLo {
		if a.OpenLo {
			return 1
		}
		return -1
	}
	if c := b.Lo.Compare(a.Lo); c != 0 {
		return c
	}
	if a.OpenHi != b.OpenHi {
		if a.OpenHi {
			return -1
		}
		return 1
	}
	if c := b.Hi.Compare(a.Hi); c != 0 {
		return c
	}
	return cmp.Compare(width(a.Precision), width(b.Precision))
}

// width orders precisions, the narrowest first.
func width(p record.Precision) int {
	if p == record.Span {
		return 0x100
	}
	return int(record.Fraction) - int(p)
}
