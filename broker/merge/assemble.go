package merge

import (
	"slices"
	"strings"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Assemble orders everything. statuses lists every configured custodian in order; those of prepared replies are replaced by theirs. Each
// that did not return all becomes one OperationOutcome (M-10); a status without a State is of a custodian not heard of yet and says
// nothing. If nothing is shown, there is no Patient of ours in it. The order of prepared does not matter.
func Assemble(req Request, prepared []Prepared, statuses []record.Status) Answer {
	return assemble(req, prepared, statuses, true)
}

// Authored returns only what we author (Patient, outcomes, Linkages, Provenance): the last chunk of a stream, whose custodians' entries have gone
// before. Total counts as in the whole answer.
func Authored(req Request, prepared []Prepared, statuses []record.Status) Answer {
	return assemble(req, prepared, statuses, false)
}

func assemble(req Request, prepared []Prepared, statuses []record.Status, whole bool) Answer {
	prepared = slices.Clone(prepared)
	slices.SortFunc(prepared, func(a, b Prepared) int {
		return strings.Compare(string(a.Status.Custodian.Key), string(b.Status.Custodian.Key))
	})
	a := Answer{Statuses: slices.Clone(statuses), Handle: req.Handle}
	size := 0
	for i := range prepared {
		s := prepared[i].Status
		if at := slices.IndexFunc(a.Statuses, func(x record.Status) bool { return x.Custodian.Key == s.Custodian.Key }); at >= 0 {
			a.Statuses[at] = s
		} else {
			a.Statuses = append(a.Statuses, s)
		}
		size += len(prepared[i].Entries)
		for j := range prepared[i].Entries {
			if prepared[i].Entries[j].Mode == Match {
				a.Total++
			}
		}
	}
	a.Groups = groups(prepared)
	if whole {
		a.Entries = make([]Entry, 0, size+len(a.Groups)+2*len(a.Statuses)+2)
	}
	for _, s := range a.Statuses {
		if s.State != record.Returned && s.State != "" {
			a.Entries = append(a.Entries, statusOutcome(req, s))
		}
	}
	if notes, any := notesOutcome(req, prepared); any {
		a.Entries = append(a.Entries, notes)
	}
	if size == 0 {
		return a
	}
	a.Entries = append(a.Entries, subjectPatient(req, prepared))
	a.Total++
	if whole {
		a.Entries = interleave(a.Entries, prepared)
	}
	for _, g := range a.Groups {
		a.Entries = append(a.Entries, linkage(req, g))
	}
	for i := range prepared {
		if prepared[i].Status.State.Showing() && len(prepared[i].Entries) > 0 {
			a.Entries = append(a.Entries, custodianProvenance(req, &prepared[i]))
		}
	}
	return a
}

// interleave appends the entries of all custodians in the order of M-8. Each custodian's are in that order already.
func interleave(out []Entry, prepared []Prepared) []Entry {
	heads := make([][]Entry, 0, len(prepared))
	for i := range prepared {
		if len(prepared[i].Entries) > 0 {
			heads = append(heads, prepared[i].Entries)
		}
	}
	for len(heads) > 0 {
		first := 0
		for i := 1; i < len(heads); i++ {
			if compare(&heads[i][0], &heads[first][0]) < 0 {
				first = i
			}
		}
		out = append(out, heads[first][0])
		if heads[first] = heads[first][1:]; len(heads[first]) == 0 {
			heads = slices.Delete(heads, first, first+1)
		}
	}
	return out
}
