package merge

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/samply/golang-fhir-models/fhir-models/fhir"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// What looks like the same event or item at two custodians (M-9). Two entries of one type belong together if
//
//   - they carry the same business identifier, system and value (the NHS number aside), or the same digest of a document: for certain, or
//   - one of their codings is the same, system and code, and so is their time, as the table says: probably.
//
// Entries that belong together through a third one are one group. A group has entries of at least two custodians; those of one custodian
// alone are its own affair. Nothing is dropped, merged or changed: a group is a Linkage that we author, and what the custodians say stays
// side by side, with the names of the elements in which they differ. Withheld entries take no part, because this looks at what is shown only.

// identifying are the elements that tell one thing from all others, for every type.
var identifying = []string{"identifier", "masterIdentifier"}

// sameness says which codings and which time make two entries of a type probably the same.
type sameness struct {
	codes []string // paths of codings, or of one uri; any in common will do
	time  grain
}

// grain is how closely times must agree.
type grain uint8

const (
	anyTime  grain = iota // an item that lasts: when it was written down does not matter
	byDay                 // the same day in London; partial dates with the same text
	byMinute              // the same minute; dates without a time of day with the same text
)

// groupings is the table of M-9. A type that is not in it is grouped by identifier alone. The Patient is in no group: ours links to each.
var groupings = map[string]sameness{
	"AdverseEvent":             {[]string{"event.coding"}, byDay},
	"AllergyIntolerance":       {[]string{"code.coding"}, anyTime},
	"Appointment":              {[]string{"serviceType.coding", "appointmentType.coding"}, byMinute},
	"CarePlan":                 {[]string{"category.coding"}, byDay},
	"ClinicalImpression":       {[]string{"code.coding"}, byMinute},
	"Composition":              {[]string{"type.coding"}, byMinute},
	"Condition":                {[]string{"code.coding"}, byDay},
	"DetectedIssue":            {[]string{"code.coding"}, byDay},
	"DiagnosticReport":         {[]string{"code.coding"}, byMinute},
	"DocumentReference":        {[]string{"type.coding"}, byMinute},
	"Encounter":                {[]string{"type.coding", "class"}, byMinute},
	"EpisodeOfCare":            {[]string{"type.coding"}, byDay},
	"Flag":                     {[]string{"code.coding"}, byDay},
	"Goal":                     {[]string{"description.coding"}, byDay},
	"ImagingStudy":             {[]string{"procedureCode.coding"}, byMinute},
	"Immunization":             {[]string{"vaccineCode.coding"}, byDay},
	"MedicationAdministration": {[]string{"medicationCodeableConcept.coding", "medicationReference"}, byMinute},
	"MedicationDispense":       {[]string{"medicationCodeableConcept.coding", "medicationReference"}, byDay},
	"MedicationRequest":        {[]string{"medicationCodeableConcept.coding", "medicationReference"}, byDay},
	"MedicationStatement":      {[]string{"medicationCodeableConcept.coding", "medicationReference"}, byDay},
	"Observation":              {[]string{"code.coding"}, byMinute},
	"Procedure":                {[]string{"code.coding"}, byDay},
	"QuestionnaireResponse":    {[]string{"questionnaire"}, byMinute},
	"RiskAssessment":           {[]string{"code.coding"}, byDay},
	"ServiceRequest":           {[]string{"code.coding"}, byDay},
	"Specimen":                 {[]string{"type.coding"}, byMinute},
}

// Addresses of what a group says.
const (
	GroupSystemPath    = "/CodeSystem/group" // Linkage.meta.tag: the group's number in this answer
	groupedByName      = "grouped-by"        // extension: identifier, or code-and-time
	differsName        = "differs"           // extension, repeated: the path of an element that is not the same in all
	byIdentifier       = "identifier"
	byCodeAndTime      = "code-and-time"
	maxDifferences     = 64 // beyond that many only the outermost elements are named
	maxElementNameSize = 64
)

// Group is some entries that look like the same thing at several custodians. In an answer it is a Linkage.
type Group struct {
	Number  int      // counts from 1 in the order of the answer
	Members []string // fullUrls, in the order of the answer
	Certain bool     // all share business identifiers; else codes and times
	Differs []string // paths of the elements that differ, sorted; never their values
}

// mark is one thing by which an entry can be recognised at another custodian, as a digest.
type mark struct {
	sum     [16]byte
	certain bool
}

// marks appends those of a match to list.
func (p *preparing) marks(list []mark, it *item) []mark {
	if p.marking == nil {
		p.marking = sha256.New()
	}
	put := func(certain bool, parts ...string) {
		list = append(list, mark{digest(p.marking, it.typ, parts), certain})
	}
	for _, path := range identifying {
		for id := range it.v.Get(path).Elems() {
			if s, v := id.Get("system"), id.Get("value"); s.Kind() == fhirjson.String && !s.Is("") && !s.Is(record.NHSNumberSystem) && !v.Is("") && v.Exists() {
				put(true, byIdentifier, s.Text(), v.Text())
			}
		}
	}
	if it.typ == "DocumentReference" {
		for h := range it.v.Each("content.attachment.hash") {
			if s := h.Text(); s != "" {
				put(true, "hash", s)
			}
		}
	}
	rule, has := groupings[it.typ]
	if !has {
		return list
	}
	when, told := grained(it.time, rule.time)
	if !told {
		return list
	}
	for _, path := range rule.codes {
		for c := range it.v.Each(path) {
			if path == "medicationReference" {
				for c := range p.medication(c, it).Each("code.coding") {
					if s, code := c.Get("system").Text(), c.Get("code").Text(); s != "" && code != "" {
						put(false, s, code, when)
					}
				}
				continue
			}
			if s := c.Text(); s != "" {
				put(false, "", s, when)
			} else if s, code := c.Get("system").Text(), c.Get("code").Text(); s != "" && code != "" {
				put(false, s, code, when)
			}
		}
	}
	return list
}

// medication returns the Medication that a Reference leads to, contained or in the reply; absent if there is none.
func (p *preparing) medication(r fhirjson.Value, it *item) fhirjson.Value {
	address := r.Get("reference").Text()
	if id, within := strings.CutPrefix(address, "#"); within {
		return p.contained(it, id)
	}
	if i := p.resolve(address, it); i >= 0 && !p.items[i].hidden() {
		return p.items[i].v
	}
	return fhirjson.Value{}
}

// grained writes a time as closely as it must agree; told is false where there is none and one is needed.
func grained(t record.ClinicalTime, g grain) (when string, told bool) {
	if g == anyTime {
		return "", true
	}
	if !t.Dated() || t.OpenLo {
		return "", false
	}
	switch {
	case t.Precision < record.Day:
		return t.Lo.UTC().Format(time.RFC3339) + "/" + strconv.Itoa(int(t.Precision)), true
	case g == byDay || t.Precision == record.Day:
		return t.Lo.In(record.London).Format(time.DateOnly), true
	}
	return t.Lo.UTC().Format("2006-01-02T15:04Z"), true
}

func digest(h hash.Hash, typ string, parts []string) (out [16]byte) {
	h.Reset()
	var size [4]byte
	put := func(s string) {
		binary.BigEndian.PutUint32(size[:], uint32(len(s)))
		h.Write(size[:])
		h.Write([]byte(s))
	}
	put(typ)
	for _, s := range parts {
		put(s)
	}
	var sum [sha256.Size]byte
	copy(out[:], h.Sum(sum[:0]))
	return out
}

// groups finds what belongs together. prepared is in the order of custodians' keys. The work is that of sorting all marks.
func groups(prepared []Prepared) []Group {
	if len(prepared) < 2 {
		return nil
	}
	type place struct {
		mark
		of *Entry
		n  int // number of the entry among all
	}
	total, size := 0, 0
	for i := range prepared {
		total += len(prepared[i].Entries)
		size += len(prepared[i].marks)
	}
	places := make([]place, 0, size)
	entries := make([]*Entry, 0, total)
	for i := range prepared {
		for j := range prepared[i].Entries {
			e := &prepared[i].Entries[j]
			for _, m := range prepared[i].marks[e.marksFrom:e.marksTo] {
				places = append(places, place{m, e, len(entries)})
			}
			entries = append(entries, e)
		}
	}
	slices.SortFunc(places, func(a, b place) int {
		if a.certain != b.certain {
			if a.certain {
				return -1
			}
			return 1
		}
		return cmp.Or(slices.Compare(a.sum[:], b.sum[:]), a.n-b.n)
	})
	with := joined(make([]int32, len(entries)))
	for i := range with {
		with[i] = int32(i)
	}
	var sure joined // as it stood when all certain marks were used
	for from := 0; from < len(places); {
		to := from + 1
		for to < len(places) && places[to].mark == places[from].mark {
			to++
		}
		if sure == nil && !places[from].certain {
			sure = slices.Clone(with)
		}
		if places[from].of.Custodian != places[to-1].of.Custodian { // places of one mark are in the order of custodians
			for _, x := range places[from+1 : to] {
				with.join(places[from].n, x.n)
			}
		}
		from = to
	}
	if sure == nil {
		sure = with
	}
	byRoot := map[int][]int{}
	for n := range entries {
		if root := with.root(n); root != n {
			if byRoot[root] == nil {
				byRoot[root] = []int{root}
			}
			byRoot[root] = append(byRoot[root], n)
		}
	}
	found := make([][]int, 0, len(byRoot))
	for _, members := range byRoot {
		slices.SortFunc(members, func(a, b int) int { return compare(entries[a], entries[b]) })
		found = append(found, members)
	}
	slices.SortFunc(found, func(a, b []int) int { return compare(entries[a[0]], entries[b[0]]) })
	out := make([]Group, len(found))
	for i, members := range found {
		g := Group{Number: i + 1, Certain: true}
		same := make([]*Entry, len(members))
		for j, n := range members {
			same[j] = entries[n]
			g.Members = append(g.Members, entries[n].FullURL)
			g.Certain = g.Certain && sure.root(n) == sure.root(members[0])
		}
		g.Differs = differences(same)
		out[i] = g
	}
	return out
}

// joined is a forest: each number leads to a smaller one of its group, the smallest to itself.
type joined []int32

func (j joined) root(n int) int {
	for int(j[n]) != n {
		j[n] = j[j[n]]
		n = int(j[n])
	}
	return n
}

func (j joined) join(a, b int) {
	a, b = j.root(a), j.root(b)
	j[max(a, b)] = int32(min(a, b))
}

// linkage is what we author of a group: its members, by what they were found, and the elements in which they differ. The members themselves
// carry no tag of it: a stream has sent them before the group is known, and all faces say the same.
func linkage(req Request, g Group) Entry {
	by := byCodeAndTime
	if g.Certain {
		by = byIdentifier
	}
	sum := sha256.New()
	l := fhir.Linkage{Active: some(true), Meta: &fhir.Meta{Tag: []fhir.Coding{{System: some(req.CodeBase + GroupSystemPath), Code: some(strconv.Itoa(g.Number))}}},
		Extension: []fhir.Extension{{Url: req.CodeBase + ExtensionPath + groupedByName, ValueCode: some(by)}}}
	for _, path := range g.Differs {
		l.Extension = append(l.Extension, fhir.Extension{Url: req.CodeBase + ExtensionPath + differsName, ValueString: some(path)})
	}
	for _, url := range g.Members {
		to := strings.TrimPrefix(url, req.Base+"/")
		sum.Write([]byte(to + "\n"))
		l.Item = append(l.Item, fhir.LinkageItem{Type: fhir.LinkageTypeAlternate, Resource: fhir.Reference{Reference: some(to)}})
	}
	l.Id = some("linkage-" + hex.EncodeToString(sum.Sum(nil)[:16]))
	return author(req, "Linkage", *l.Id, Include, l)
}

// differences lists the paths of the elements that are not the same in all entries, sorted: id, meta, and where references lead aside, which
// differ between any two custodians. Arrays count as one element at their path, and so do extensions. No text of a custodian is in it but names of
// elements; where there are too many of them, or one is no name of an element, only what holds it is named.
func differences(entries []*Entry) []string {
	var first fhirjson.Value
	paths := map[string]bool{}
	for i, e := range entries {
		d, err := fhirjson.Parse(e.JSON, fhirjson.Limits{})
		if err != nil {
			continue // its bytes were read before and are ours since; a test holds that they can be read
		}
		if i == 0 {
			first = d.Root()
			continue
		}
		compareObjects(first, d.Root(), e.Type, func(path string) { paths[path] = true })
	}
	if len(paths) > maxDifferences {
		outer := map[string]bool{}
		for path := range paths {
			parts := strings.SplitN(path, ".", 3)
			if len(parts) > 1 && len(outer) < maxDifferences {
				outer[parts[0]+"."+parts[1]] = true
			}
		}
		paths = outer
	}
	out := make([]string, 0, len(paths))
	for path := range paths {
		out = append(out, path)
	}
	slices.Sort(out)
	return out
}

// compareObjects reports the paths at which two objects differ.
func compareObjects(a, b fhirjson.Value, path string, differs func(path string)) {
	outermost := !strings.Contains(path, ".")
	look := func(key string, x, y fhirjson.Value) {
		if outermost && (key == "id" || key == "meta") || key == "reference" && !outermost {
			return
		}
		at := path
		if isElementName(key) {
			at += "." + key
		} else if outermost {
			at += ".other"
		}
		switch {
		case same(x, y):
		case x.Kind() == fhirjson.Object && y.Kind() == fhirjson.Object && at != path && !strings.HasPrefix(key, "_") && key != "text":
			compareObjects(x, y, at, differs)
		default:
			differs(at)
		}
	}
	inA, inB := finder(a), finder(b)
	for k, x := range a.Members() {
		look(k, x, inB(k))
	}
	for k, y := range b.Members() {
		if !inA(k).Exists() {
			look(k, fhirjson.Value{}, y)
		}
	}
}

// finder finds an object's members by key: where there are many, by an index, so that hostile objects cost no more than others.
func finder(v fhirjson.Value) func(key string) fhirjson.Value {
	if v.Len() <= 32 {
		return v.Get
	}
	index := make(map[string]fhirjson.Value, v.Len())
	for k, m := range v.Members() {
		index[k] = m
	}
	return func(key string) fhirjson.Value { return index[key] }
}

// same reports whether two values say the same, whatever the order of members and the white space. Numbers are compared as they are written:
// 1.50 is not 1.5. Where references lead does not count.
func same(a, b fhirjson.Value) bool {
	if a.Kind() != b.Kind() {
		return false
	}
	switch a.Kind() {
	case fhirjson.Object:
		if a.Len() != b.Len() {
			return false
		}
		find := finder(b)
		for k, x := range a.Members() {
			y := find(k)
			if !y.Exists() || k != "reference" && !same(x, y) {
				return false
			}
		}
		return true
	case fhirjson.Array:
		var others []fhirjson.Value
		for y := range b.Elems() {
			others = append(others, y)
		}
		i := 0
		for x := range a.Elems() {
			if i >= len(others) || !same(x, others[i]) {
				return false
			}
			i++
		}
		return i == len(others)
	case fhirjson.String:
		return a.Text() == b.Text()
	}
	return string(a.Raw()) == string(b.Raw())
}

// isElementName reports whether a key has the form of an element's name: what is said of a difference must hold no other text.
func isElementName(key string) bool {
	if key == "" || len(key) > maxElementNameSize {
		return false
	}
	for i := range len(key) {
		if c := key[i]; !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || i > 0 && c >= '0' && c <= '9' || i == 0 && c == '_') {
			return false
		}
	}
	return true
}
