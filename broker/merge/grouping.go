package merge

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash/maphash"
	"slices"
	"strconv"
	"strings"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// What looks like the same event or item at two custodians (M-9). Two entries of one type belong together if
//
//   - they carry the same business identifier, system and value (the NHS number and others that several things share aside), or the same digest of a
//     document: for certain, or
//   - one of their codings is the same, system and code, and so is their time, as the table says: probably.
//
// Where one custodian has two of a group, the group is not certain: an identifier that it gave to both may be that of a sample or an order.
// Entries that belong together through a third one are one group. A group has entries of at least two custodians; those of one custodian
// alone are its own affair. Nothing is dropped, merged or changed: a group is a Linkage that we author, and what the custodians say stays
// side by side, with the names of the elements in which they differ. Withheld entries take no part, because this looks at what is shown only.

// identifying are the elements that tell one thing from all others, for every type.
var identifying = [...]fhirjson.Path{fhirjson.PathOf("identifier"), fhirjson.PathOf("masterIdentifier")}

// shared are the types of identifiers that several things have by what they are: the accession number of all results of a sample, the numbers of groups of orders,
// a person's number at a hospital (terminology.hl7.org/CodeSystem/v2-0203). They count in whatever system they are said.
var shared = map[string]bool{"ACSN": true, "FGN": true, "PGN": true, "MR": true, "PI": true}

var identifierTypes = fhirjson.PathOf("type.coding.code")

// isShared reports whether an identifier says that it is not of one thing alone.
func isShared(id fhirjson.Value) bool {
	for code := range id.Along(identifierTypes) {
		if shared[code.View()] {
			return true
		}
	}
	return false
}

// pointedTo are a DocumentReference's documents, and codings those of a Medication.
var (
	pointedTo  = fhirjson.PathOf("content.attachment")
	hashMember = fhirjson.PathOf("hash")
	sizeMember = fhirjson.PathOf("size")
	codings    = fhirjson.PathOf("code.coding")
)

// ofNothing are the digests of no bytes at all, by SHA-1 as R4 has it and by SHA-256 as some do: two documents whose content is missing are not one.
var ofNothing = map[string]bool{"2jmj7l5rSw0yVb/vlWAYkK/YBwk=": true, "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=": true}

// digest is that of a document as its Attachment states it, "" if it does not or is empty.
func digest(attachment fhirjson.Value) string {
	h := attachment.To(hashMember).View()
	if ofNothing[h] || string(attachment.To(sizeMember).Raw()) == "0" {
		return ""
	}
	return h
}

// sameness says which codings and which time make two entries of a type probably the same.
type sameness struct {
	codes []string // paths of codings, or of one uri; any in common will do
	time  grain
}

// codePath is where codings of a type stand that make things probably the same.
type codePath struct {
	path       fhirjson.Path
	medication bool // a reference to a Medication, which has them
}

// ready makes the paths of a row ready to be followed.
func (s sameness) ready() []codePath {
	out := make([]codePath, len(s.codes))
	for i, path := range s.codes {
		out[i] = codePath{fhirjson.PathOf(path), path == "medicationReference"}
	}
	return out
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
	mostCodings        = 32 // of a Medication that an entry refers to
	maxDifferences     = 64 // beyond that many only the outermost elements are named, and beyond that many of these the resource alone
	maxElementNameSize = 64
	maxPathSize        = 128 // what is written in R4 has shorter ones
)

// Group is some entries that look like the same thing at several custodians. In an answer it is a Linkage.
type Group struct {
	Number  int      // counts from 1 in the order of the answer
	Members []string // fullUrls, in the order of the answer
	Certain bool     // all share business identifiers, and each is of another custodian; else codes and times, or one custodian gave an identifier to several
	Differs []string // paths of the elements that differ, sorted; never their values
}

// mark is one thing by which an entry can be recognised at another custodian, as a digest under keys that this process has made for itself: nobody
// outside can make two things look alike, and what is compared is never kept or sent.
type mark struct {
	sum     [2]uint64
	certain bool
}

var markKeys = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

// marks appends those of a match to list.
func (p *preparing) marks(list []mark, it *item) []mark {
	put := func(certain bool, what, a, b string) {
		p.scratch = p.scratch[:0]
		for _, s := range [...]string{it.typ, what, a, b} {
			p.scratch = append(binary.BigEndian.AppendUint32(p.scratch, uint32(len(s))), s...)
		}
		if !certain {
			var told bool
			if p.scratch, told = appendGrained(p.scratch, it.time, it.kind.alike.time); !told {
				return
			}
		}
		list = append(list, mark{[2]uint64{maphash.Bytes(markKeys[0], p.scratch), maphash.Bytes(markKeys[1], p.scratch)}, certain})
	}
	for _, path := range identifying {
		for id := range it.layout.Along(path) {
			if s, v := id.To(systemMember), id.To(valueMember); s.Kind() == fhirjson.String && !s.Is("") && !s.Is(record.NHSNumberSystem) && !v.Is("") && v.Exists() && !isShared(id) {
				put(true, byIdentifier, s.View(), v.View())
			}
		}
	}
	if it.typ == "DocumentReference" {
		for attachment := range it.layout.Along(pointedTo) {
			if s := digest(attachment); s != "" {
				put(true, "hash", s, "")
			}
		}
	}
	rule := it.kind.alike
	if rule == nil {
		return list
	}
	coded := func(c fhirjson.Value) {
		if s, code := c.To(systemMember).View(), c.To(codeMember).View(); s != "" && code != "" && !sayNothing[s] {
			put(false, byCodeAndTime, s, code)
		}
	}
	for i := range it.kind.codes {
		of := &it.kind.codes[i]
		for c := range it.layout.Along(of.path) {
			switch {
			case of.medication:
				n := 0
				for c := range p.medication(c, it).Along(codings) {
					if n++; n > mostCodings {
						break // many may refer to one that has many
					}
					coded(c)
				}
			case c.Kind() == fhirjson.Object:
				coded(c)
			case !c.Is(""):
				put(false, byCodeAndTime, "", c.View())
			}
		}
	}
	return list
}

// sayNothing are the systems of codes that say why there is no code: what is not known twice is not the same thing.
var sayNothing = map[string]bool{
	"http://terminology.hl7.org/CodeSystem/data-absent-reason": true,
	"http://terminology.hl7.org/CodeSystem/v3-NullFlavor":      true,
	"http://hl7.org/fhir/data-absent-reason":                   true, // before R4
	"http://hl7.org/fhir/v3/NullFlavor":                        true,
}

// medication returns the Medication that a Reference leads to, contained or in the reply; absent if there is none.
func (p *preparing) medication(r fhirjson.Value, it *item) fhirjson.Value {
	address := r.Get("reference").View()
	if id, within := strings.CutPrefix(address, "#"); within {
		c, _ := p.contained(it, id)
		return c.v
	}
	if i := p.resolve(address, it); i >= 0 && !p.items[i].absent() {
		return p.items[i].v
	}
	return fhirjson.Value{}
}

// appendGrained writes a time as closely as it must agree; told is false where there is none and one is needed.
func appendGrained(out []byte, t record.ClinicalTime, g grain) (with []byte, told bool) {
	if g == anyTime {
		return out, true
	}
	if !t.Dated() || t.OpenLo {
		return out, false
	}
	what, number := byte(record.Day), int64(0)
	switch written := t.StartPrecision(); {
	case written < record.Day:
		what, number = byte(written), t.Lo.Unix()
	case g == byDay || written == record.Day:
		year, month, day := t.Lo.In(record.London).Date()
		number = int64(year)<<16 | int64(month)<<8 | int64(day)
	default:
		what, number = byte(record.Minute), t.Lo.Unix()
		number -= ((number % 60) + 60) % 60
	}
	return binary.BigEndian.AppendUint64(append(out, what), uint64(number)), true
}

// markSet is a set of marks that may hold a few more than were put into it.
type markSet struct {
	bits []uint64
	mask uint64
}

func newMarkSet(bits int) markSet { return markSet{make([]uint64, bits/64), uint64(bits - 1)} }

func (s markSet) has(m mark) bool { return s.bits[(m.sum[0]&s.mask)/64]&(1<<(m.sum[0]%64)) != 0 }

func (s markSet) put(m mark) { s.bits[(m.sum[0]&s.mask)/64] |= 1 << (m.sum[0] % 64) }

// repeated returns the marks that come more than once, and a few more. Most marks of a record are nobody else's: they need not be sorted.
func repeated(prepared []Prepared, marks int) markSet {
	size := 64
	for size < 16*marks {
		size *= 2
	}
	once, again := newMarkSet(size), newMarkSet(size)
	for i := range prepared {
		for _, m := range prepared[i].marks {
			if once.has(m) {
				again.put(m)
			}
			once.put(m)
		}
	}
	return again
}

// groups finds what belongs together. prepared is in the order of custodians' keys. The work is that of sorting the marks that come more than once.
func groups(prepared []Prepared) []Group {
	if len(prepared) < 2 {
		return nil
	}
	total, size := 0, 0
	for i := range prepared {
		total += len(prepared[i].Entries)
		size += len(prepared[i].marks)
	}
	again := repeated(prepared, size)
	type place struct {
		mark
		of *Entry
		n  int // number of the entry among all
	}
	var places []place
	entries := make([]*Entry, 0, total)
	for i := range prepared {
		for j := range prepared[i].Entries {
			e := &prepared[i].Entries[j]
			for _, m := range prepared[i].marks[e.marksFrom:e.marksTo] {
				if again.has(m) {
					places = append(places, place{m, e, len(entries)})
				}
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
		return cmp.Or(cmp.Compare(a.sum[0], b.sum[0]), cmp.Compare(a.sum[1], b.sum[1]), a.n-b.n)
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
		g := Group{Number: i + 1, Members: make([]string, 0, len(members)), Certain: true} // as long as it is, those seen are of as many custodians
		same := make([]*Entry, len(members))
		for j, n := range members {
			same[j] = entries[n]
			g.Members = append(g.Members, entries[n].FullURL)
			g.Certain = g.Certain && sure.root(n) == sure.root(members[0]) &&
				!slices.ContainsFunc(same[:j], func(e *Entry) bool { return e.Custodian == entries[n].Custodian })
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
	about := make([]byte, 0, 1<<10)
	for _, url := range g.Members {
		about = append(append(about, strings.TrimPrefix(url, req.Base+"/")...), '\n')
	}
	sum := sha256.Sum256(about)
	id := "linkage-" + hex.EncodeToString(sum[:16])
	w := paper{make([]byte, 0, 1<<10)}
	w.text(`{"resourceType":"Linkage","id":"`, id, `","meta":{"tag":[{"system":`)
	w.quote(req.CodeBase, GroupSystemPath)
	w.text(`,"code":"`)
	w.out = strconv.AppendInt(w.out, int64(g.Number), 10)
	w.text(`"}]},"extension":[{"url":`)
	w.quote(req.CodeBase, ExtensionPath, groupedByName)
	w.text(`,"valueCode":"`, by, `"}`)
	for _, path := range g.Differs {
		w.text(`,{"url":`)
		w.quote(req.CodeBase, ExtensionPath, differsName)
		w.text(`,"valueString":`)
		w.quote(path)
		w.text(`}`)
	}
	w.text(`],"active":true,"item":[`)
	for i, url := range g.Members {
		if i > 0 {
			w.text(`,`)
		}
		w.text(`{"type":"alternate","resource":{"reference":`)
		w.quote(strings.TrimPrefix(url, req.Base+"/"))
		w.text(`}}`)
	}
	w.text(`]}`)
	return w.entry(req, "Linkage", id, Include)
}

// differences lists the paths of the elements that are not the same in all entries, sorted: id, meta, and where references lead aside, which
// differ between any two custodians. Arrays count as one element at their path, and so do extensions. Numbers are compared as they are
// written: 1.50 is not 1.5. No text of a custodian is in it but names of
// elements; where there are too many of them, a path is too long, or one is no name of an element, only what holds it is named.
//
// Each entry is compared with the one before it: what is the same in any two neighbours is the same in all. So the work is linear in the size of the
// group, however many entries it has and however large one of them is. Where an entry lacks an element the element is named, and what differs within
// it among the others need not be.
func differences(entries []*Entry) []string {
	c := comparing{path: make([]byte, 0, maxPathSize)}
	var before fhirjson.Value
	for _, e := range entries {
		d, err := fhirjson.Parse(e.JSON, EntryLimits)
		if err != nil {
			continue // its bytes were read before and are ours since; a test holds that they can be read
		}
		if before.Exists() {
			c.path = append(c.path[:0], e.Type...)
			c.objects(before, d.Root())
		}
		before = d.Root()
	}
	return c.differs
}

// comparing is a comparison of entries of one type. It never holds more than a few short paths, whatever differs.
type comparing struct {
	path    []byte   // of those that are compared now
	differs []string // sorted
	naming  depth
}

// depth is how far into a resource what differs is named.
type depth uint8

const (
	everyElement   depth = iota
	outermostOnly        // more than maxDifferences differ
	resourceItself       // more than maxDifferences outermost ones do: nothing is left to be found out
)

// objects notes the paths at which two objects differ.
func (c *comparing) objects(a, b fhirjson.Value) {
	deepest := everyElement // at which this object is looked into
	if bytes.IndexByte(c.path, '.') < 0 {
		deepest = outermostOnly
	}
	inA, inB := a.Finder(), b.Finder()
	for k, x := range a.Members() {
		if c.naming > deepest {
			return
		}
		c.members(k, x, inB.Get(k))
	}
	for k, y := range b.Members() {
		if c.naming > deepest {
			return
		}
		if !inA.Get(k).Exists() {
			c.members(k, fhirjson.Value{}, y)
		}
	}
}

// members compares what two objects have under one key.
func (c *comparing) members(key string, x, y fhirjson.Value) {
	around := len(c.path)
	outermost := bytes.IndexByte(c.path, '.') < 0
	if outermost && (key == "id" || key == "meta") || key == "reference" && !outermost {
		return
	}
	if isElementName(key) && around+len(".")+len(key) <= maxPathSize {
		c.path = append(append(c.path, '.'), key...)
	} else if outermost {
		c.path = append(c.path, ".other"...)
	}
	switch {
	case c.naming == everyElement && x.Kind() == fhirjson.Object && y.Kind() == fhirjson.Object && len(c.path) > around && !strings.HasPrefix(key, "_") && key != "text":
		c.objects(x, y) // without a look at the whole first: objects in objects would be read once for each that they are in
	case !fhirjson.Same(x, y, "reference"):
		c.note()
	}
	c.path = c.path[:around]
}

// note notes the path as one that differs.
func (c *comparing) note() {
	at, noted := slices.BinarySearchFunc(c.differs, c.path, func(have string, path []byte) int {
		switch {
		case have < string(path):
			return -1
		case have > string(path):
			return 1
		}
		return 0
	})
	if noted {
		return
	}
	if c.differs == nil {
		c.differs = make([]string, 0, 8)
	}
	if c.differs = slices.Insert(c.differs, at, string(c.path)); len(c.differs) <= maxDifferences {
		return
	}
	typ := c.path[:bytes.IndexByte(c.path, '.')]
	if c.naming == everyElement {
		c.naming = outermostOnly
		for i, path := range c.differs {
			if n := strings.IndexByte(path[len(typ)+1:], '.'); n >= 0 {
				c.differs[i] = path[:len(typ)+1+n]
			}
		}
		c.differs = slices.Compact(c.differs) // still sorted: a dot comes before all that names are made of
	}
	if len(c.differs) > maxDifferences {
		c.naming, c.differs = resourceItself, []string{string(typ)}
	}
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
