package merge

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// fate is what becomes of a resource. Every resource of a reply has exactly one in the end, and their counts are the sum of M-11.
type fate uint8

const (
	undecided fate = iota
	shown
	folded    // byte for byte a copy of another
	dropped   // another person's, or nobody's for certain
	withheld  // C-2.5, C-4, C-5
	filtered  // M-12
	financial // M-4
	unlinked  // supports nothing that is shown
	fateCount
)

// item is one resource of a reply.
type item struct {
	v           fhirjson.Value
	layout      fhirjson.Layout // of v
	typ, id     string
	origin      int32  // which source it came from: its place in preparing.origins
	root        string // canonical root of the server that its relative references are about
	kind        *kind
	fate        fate
	isSubject   bool            // the Patient that the reply is about
	stranger    bool            // dropped because it names somebody else
	conflicting bool            // another resource has the same type and id
	keeper      int32           // the copy that keeps the id, itself where there are no copies
	stands      int32           // of one that is folded: the resource of the same bytes that stands for it
	sections    record.Sections // all of them
	primary     record.Section  // one of them
	unnamed     bool            // withheld for a reason that is no section: a label, an excluded code
	time        record.ClinicalTime
	saysTime    bool     // it means to say a time, in a way that can be read or not
	lateUnknown bool     // kept although _since was given and it has no lastUpdated
	url         string   // our fullUrl, and at its end
	newID       string   // our id
	refs        [2]int32 // from and to in preparing.refs
}

// typeID is what an id is unique for.
type typeID struct{ typ, id string }

// origin is one source of the custodian's, with a server of its own. What an address means depends on it; an id does not, where two sources hold the
// same: M-5 speaks of the custodian.
type origin struct {
	given string // base of its server, as it was configured
	base  string // canonical
	sole  string // the only root that fullUrls have, "" if they have none or several
	mark  string // what sets its urn: addresses apart from those of other sources
}

// copies are the resources of one type and id whose bytes differ.
type copies struct {
	list   []int32
	digest map[[sha256.Size]byte]int32 // so that many copies stay linear
}

// preparing is the work of one Prepare.
type preparing struct {
	req           Request
	rules         Rules
	reply         Reply
	number        string // the digits asked for
	sectionSystem string // of codings that name our sections

	items      []item
	addresses  map[string]int32            // canonical address -> item
	firsts     map[typeID]int32            // the first item of a type and id
	copies     map[typeID]*copies          // where there are several
	texts      [][2]int32                  // Compositions, and the DocumentReferences that they are the text of
	nameless   map[[sha256.Size]byte]int32 // items without an id, by their bytes
	origins    []origin                    // the sources that the reply came from; nearly always one
	servers    map[string]server
	spelt      map[string]string // canonical root -> as it was written, where that is not the same
	here       *url.URL          // our base: see leadsHere
	plainBase  bool              // nothing in our base or in the custodian's key needs an escape in JSON
	legalKey   bool              // the custodian's key may be in an id
	parts      []record.Part     // from OperationOutcomes and Lists
	received   int
	strangers  int // dropped because they name somebody else
	unreadable int // dropped because they name nobody for certain
	extra      int // copies with different bytes beyond the first, withheld ones aside
	dangling   int
	within     fhirjson.Value // see typeWithin
	withinType string
	inside     map[string]inner // see contained
	insideOf   *item
	secret     map[string]bool           // whether all that carry an identifier are hidden, asked when every fate is settled
	cited      map[string][]int32        // business identifier -> items: see carriers
	bare       map[string][]int32        // those that carry one without a system
	places     map[addressed]int32       // of what has copies, when they are settled: which of them an address leads to
	asked      bool                      // a Reference asks for anything
	elsewhere  map[int32][]int32         // item -> what was folded into it from another root or source
	masks      map[int32][]fhirjson.Edit // see mask

	// Memory that is used again from resource to resource of this one reply, so that a large reply costs few allocations. What a resource
	// keeps of it is never written again.
	refs     []ref
	around   []fhirjson.Value
	edits    []fhirjson.Edit
	scratch  []byte
	key      []byte
	words    text
	out      memory
	source   []byte // our meta.source, quoted
	tagged   map[tagging][]byte
	tagTexts []byte // the memory of those
}

// index reads the reply's resources: types, ids, addresses, copies. Its errors are of kind ErrMalformed.
func (p *preparing) index() error {
	if p.misshapen() {
		return ErrMalformed
	}
	n := len(p.reply.Entries)
	for _, b := range p.reply.Beside {
		n += len(b.Entries)
	}
	p.items = make([]item, 0, n)
	p.addresses = make(map[string]int32, 2*n)
	p.firsts = make(map[typeID]int32, n)
	p.refs = make([]ref, 0, min(p.mayRefer(), 8*n)) // few resources have more; what is hostile takes its memory as it goes
	urls, err := p.read(p.reply.Base, p.reply.Entries, make([]string, 0, n))
	for _, b := range p.reply.Beside {
		if err == nil {
			urls, err = p.read(b.Base, b.Entries, urls)
		}
	}
	if err != nil {
		return err
	}
	for i := range p.items {
		it := &p.items[i]
		it.keeper = int32(i)
		if it.root == "" {
			it.root = p.from(it).sole
		}
		if it.root == "" {
			it.root = p.from(it).base
		}
		if same, is := p.fold(int32(i)); is {
			stays, goes := same, int32(i)
			if p.bySource(it, &p.items[same]) < 0 { // which of the two stands for both must not depend on which came first
				stays, goes = goes, stays
				p.replace(goes, stays)
			}
			x := &p.items[goes]
			x.fate, x.keeper, x.stands = folded, stays, stays
		}
		id := segment(it.id)
		root, is := rootOf(urls[i], it.typ, id)
		if urls[i] != "" && (is || !ofAnother(urls[i], it)) {
			if err := p.register(urls[i], int32(i)); err != nil {
				return err
			}
		}
		if it.id != "" && !(is && root == it.root) {
			if err := p.register(p.words.join(it.root, "/", it.typ, "/", id), int32(i)); err != nil {
				return err
			}
		}
	}
	for i := range p.items {
		if it := &p.items[i]; it.fate == folded {
			it.stands = p.standing(int32(i))
			it.keeper = it.stands
		}
	}
	return nil
}

// standing is the item that stands for item i: itself, or what it was folded into, and that into.
func (p *preparing) standing(i int32) int32 {
	for p.items[i].fate == folded {
		it := &p.items[i]
		if next := &p.items[it.stands]; next.fate == folded {
			it.stands = next.stands // so that a long way is gone once
		}
		i = it.stands
	}
	return i
}

// bySource orders copies of one resource by where they came from, whenever they did.
func (p *preparing) bySource(a, b *item) int {
	return cmp.Or(cmp.Compare(a.origin, b.origin), cmp.Compare(a.root, b.root))
}

// misshapen reports whether any text of the reply holds what stands nowhere in FHIR: what is not to be shown could not be known by it.
func (p *preparing) misshapen() bool {
	var last *fhirjson.Doc
	bad := func(e fhirjson.Entry) bool {
		d := e.Resource.Doc()
		known := d == last // the entries of a page stand together
		last = d
		return !known && d.Misshapen()
	}
	return slices.ContainsFunc(p.reply.Entries, bad) || slices.ContainsFunc(p.reply.Beside, func(b Beside) bool { return slices.ContainsFunc(b.Entries, bad) })
}

// mayRefer is how many references there may be in the reply at most, those that an identifier makes aside.
func (p *preparing) mayRefer() (n int) {
	var last *fhirjson.Doc
	count := func(entries []fhirjson.Entry) {
		for _, e := range entries {
			if d := e.Resource.Doc(); d != last { // the entries of a page stand together
				n, last = n+d.References(), d
			}
		}
	}
	count(p.reply.Entries)
	for _, b := range p.reply.Beside {
		count(b.Entries)
	}
	return n
}

// read takes what one source returned into the items, and appends the canonical fullUrl of each to urls.
func (p *preparing) read(base string, entries []fhirjson.Entry, urls []string) ([]string, error) {
	o := origin{given: base, base: canonical(base)}
	if len(p.origins) > 0 {
		o.mark = strconv.Itoa(len(p.origins)) + " "
	}
	roots, last := 0, "" // roots that were seen, as far as that is one or several; the one that was noted last
	for _, e := range entries {
		p.items = append(p.items, item{origin: int32(len(p.origins))})
		it := &p.items[len(p.items)-1]
		if err := it.read(e.Resource); err != nil {
			return nil, err
		}
		if it.kind.row.class == outcome {
			p.warnings(it.v)
			p.items = p.items[:len(p.items)-1]
			continue
		}
		p.received++
		url := ""
		if e.FullURL != "" {
			head, _ := splitAddress(e.FullURL)
			url = canonical(head)
			if isURN(url) {
				url = o.mark + url
			}
			if root, is := rootOf(url, it.typ, segment(it.id)); is {
				it.root = root
				if root != last || roots == 0 { // nearly always it is that of the one before
					last, roots = root, roots+1
					p.noteSpelling(root, head, it)
				}
			}
		}
		urls = append(urls, url)
	}
	if roots == 1 {
		o.sole = last
	}
	p.origins = append(p.origins, o)
	return urls, nil
}

// from is the source that an item came from.
func (p *preparing) from(it *item) *origin { return &p.origins[it.origin] }

// updated is meta.lastUpdated. What cannot be read is none.
func (it *item) updated() record.ClinicalTime {
	t, _ := record.ParseClinicalTime(it.get(metaMember).Get("lastUpdated").View())
	return t
}

// Members that are looked for in every resource.
var (
	typeMember       = fhirjson.PathOf("resourceType")
	idMember         = fhirjson.PathOf("id")
	metaMember       = fhirjson.PathOf("meta")
	containedMember  = fhirjson.PathOf("contained")
	extensionMember  = fhirjson.PathOf("extension")
	identifierMember = fhirjson.PathOf("identifier")
	encounterMember  = fhirjson.PathOf("encounter")
	contextMember    = fhirjson.PathOf("context")
	partOfMember     = fhirjson.PathOf("partOf")
	patientMember    = fhirjson.PathOf("patient")
	specimenMember   = fhirjson.PathOf("specimen")
	targetMember     = fhirjson.PathOf("target")
	masterMember     = fhirjson.PathOf("masterIdentifier") // of DocumentReference and DocumentManifest
	securityMember   = fhirjson.PathOf("securityContext")

	systemMember    = fhirjson.PathOf("system") // of what stands in them
	codeMember      = fhirjson.PathOf("code")
	valueMember     = fhirjson.PathOf("value")
	referenceMember = fhirjson.PathOf("reference")
)

// get returns a member of a resource.
func (it *item) get(member fhirjson.Path) fhirjson.Value { return it.layout.Get(member) }

// read takes a resource's own fields, strictly.
func (it *item) read(v fhirjson.Value) error {
	bad := func(v fhirjson.Value, kind fhirjson.Kind) bool { return v.Exists() && v.Kind() != kind }
	it.v, it.layout = v, v.Layout()
	typ, id, meta := it.get(typeMember).View(), it.get(idMember), it.get(metaMember)
	if v.Kind() != fhirjson.Object || typ == "" || bad(id, fhirjson.String) || bad(meta, fhirjson.Object) || bad(it.get(containedMember), fhirjson.Array) {
		return ErrMalformed
	}
	if v.Variant("resourceType", "id", "meta", "contained") || meta.Variant("source", "tag", "extension", "security", "lastUpdated", "versionId") {
		return ErrMalformed // with what we add, two readers could read two things
	}
	for k, m := range meta.Members() {
		switch k {
		case "tag", "security", "extension", "profile":
			if m.Kind() != fhirjson.Array {
				return ErrMalformed
			}
		case "source", "lastUpdated", "versionId":
			if m.Kind() != fhirjson.String {
				return ErrMalformed
			}
		}
	}
	it.kind, it.id = kindOf(typ), id.View()
	it.typ = it.kind.name
	return nil
}

// noteSpelling keeps how a root is written, where that is not how it is compared: references that dangle are written with it.
func (p *preparing) noteSpelling(root, address string, it *item) {
	if written, is := rootOf(address[strings.IndexByte(address, ':')+1:], it.typ, it.id); is && written == root { // nearly always
		return
	}
	if p.spelt == nil {
		p.spelt = map[string]string{}
	}
	written, is := strings.CutSuffix(strings.TrimRight(address, "/"), "/"+it.typ+"/"+it.id)
	if !is {
		written = ""
	}
	if p.spelt[root] == "" {
		p.spelt[root] = written
	}
}

// rootOf is the root of a canonical RESTful address of a resource: what stands before /Type/id.
func rootOf(url, typ, id string) (string, bool) {
	if id == "" || !strings.HasPrefix(url, "//") {
		return "", false
	}
	root := url
	for _, end := range [...]string{id, "/", typ, "/"} {
		rest, is := strings.CutSuffix(root, end)
		if !is {
			return "", false
		}
		root = rest
	}
	return root, true
}

// ofAnother reports whether a canonical address is that of a resource of R4 and not of it: another type or another id. Nothing may be about it by such an address.
func ofAnother(url string, it *item) bool {
	return it.id != "" && strings.HasPrefix(url, "//") && IsType(typeOfAddress(url))
}

// fold reports whether item i is byte for byte a resource that was seen under the same type and id, and which; without an id, whether it is one
// that was seen without an id. Digests are made only where a type and id come twice.
func (p *preparing) fold(i int32) (int32, bool) {
	it := &p.items[i]
	if it.id == "" {
		sum := sha256.Sum256(it.v.Raw())
		if same, is := p.nameless[sum]; is {
			return same, true
		}
		if p.nameless == nil {
			p.nameless = map[[sha256.Size]byte]int32{}
		}
		p.nameless[sum] = i
		return 0, false
	}
	key := typeID{it.typ, it.id}
	first, twice := p.firsts[key]
	if !twice {
		p.firsts[key] = i
		return 0, false
	}
	c := p.copies[key]
	if c == nil {
		if bytes.Equal(p.items[first].v.Raw(), it.v.Raw()) {
			return first, true
		}
		if p.copies == nil {
			p.copies = map[typeID]*copies{}
		}
		c = &copies{[]int32{first}, map[[sha256.Size]byte]int32{sha256.Sum256(p.items[first].v.Raw()): first}}
		p.copies[key] = c
	}
	sum := sha256.Sum256(it.v.Raw())
	if same, is := c.digest[sum]; is {
		return same, true
	}
	c.digest[sum] = i
	c.list = append(c.list, i)
	return 0, false
}

// replace lets an item stand for its copies in place of another of the same bytes.
func (p *preparing) replace(other, by int32) {
	it := &p.items[by]
	if it.id == "" {
		p.nameless[sha256.Sum256(it.v.Raw())] = by
		return
	}
	key := typeID{it.typ, it.id}
	if p.firsts[key] == other {
		p.firsts[key] = by
	}
	if c := p.copies[key]; c != nil {
		c.list[slices.Index(c.list, other)] = by
		c.digest[sha256.Sum256(it.v.Raw())] = by
	}
}

// register makes an address lead to item i. An address of two different resources could be read in two ways and is refused (M-2).
func (p *preparing) register(address string, i int32) error {
	have, taken := p.addresses[address]
	if !taken {
		p.addresses[address] = i
		return nil
	}
	a, b := &p.items[have], &p.items[i]
	if a.typ != b.typ || a.id != b.id || a.id == "" && p.standing(i) != p.standing(have) {
		return ErrMalformed
	}
	return nil
}

// resolve returns the item that an address in it leads to, -1 for none.
func (p *preparing) resolve(address string, it *item) int32 {
	head, _ := splitAddress(address)
	return p.resolveHead(head, it)
}

// resolveHead is resolve for an address of which what follows the id is cut off.
func (p *preparing) resolveHead(head string, it *item) int32 {
	head = strings.TrimSpace(head)
	i := p.lookUp(head, it)
	if i < 0 && strings.HasPrefix(head, "/") { // without its scheme, or from the root of the host (RFC 3986, 4.2)
		authority := ""
		if !strings.HasPrefix(head, "//") && strings.HasPrefix(it.root, "//") {
			host, _, _ := strings.Cut(it.root[2:], "/")
			authority = "//" + host
		}
		i = p.lookUp("https:"+authority+head, it)
	}
	if i < 0 && strings.IndexByte(head, '%') >= 0 { // an escape may hide what ends the id
		if plain, err := url.PathUnescape(head); err == nil {
			head, _ = splitAddress(plain)
			i = p.lookUp(head, it)
		}
	}
	if i < 0 {
		return -1
	}
	to := &p.items[i]
	if p.places != nil { // what has one id at another source, or at another root, and other bytes, may be another thing altogether
		if at, is := p.places[to.addressed()]; is {
			return at
		}
	}
	return to.keeper
}

// lookUp returns the item that was registered under an address, -1 if none was.
func (p *preparing) lookUp(head string, it *item) int32 {
	key := p.key[:0]
	switch {
	case isHTTP(head):
		key = append(key, canonical(head)...)
	case isURN(head):
		key = append(append(key, p.from(it).mark...), canonical(head)...)
	case head == "":
		return -1
	case !oddlySpelt(head):
		key = append(append(append(key, it.root...), '/'), strings.TrimPrefix(head, "/")...)
	case strings.HasPrefix(it.root, "//"): // its dots may lead out of the root, and into it again
		key = append(key, canonical("https:"+it.root+"/"+strings.TrimSpace(head))...)
	default:
		key = append(append(append(key, it.root...), '/'), strings.TrimPrefix(plainPath(head), "/")...)
	}
	p.key = key
	i, found := p.addresses[string(key)]
	if o := p.from(it); !found && o.sole != "" && o.sole != o.base && len(key) > len(o.base) && string(key[:len(o.base)]) == o.base && key[len(o.base)] == '/' {
		// The custodian's addresses may name the server as it knows itself or as we know it.
		p.key = append(append(p.key, o.sole...), key[len(o.base):]...)
		i, found = p.addresses[string(p.key[len(key):])]
	}
	if !found {
		return -1
	}
	return i
}
