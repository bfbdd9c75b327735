package stu3

import (
	"slices"
	"strings"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

// conv writes R4 while it reads STU3, one object after the other. Extensions are held back until the end of the object that they belong to.
type conv struct {
	t    *table
	lim  Limits
	base string

	out    []byte
	pend   []byte // extensions of the objects that are open, innermost last
	frames []*frame
	depth  int
	taken  int // bytes of out for which Take was asked
	over   bool

	at         int               // index of the entry that is being converted, -1 for none
	newIDs     map[int]string    // entries that need another id, by index
	renamed    map[string]string // old address within the reply -> new
	promotions []promotion
	promoted   map[promotedKey]string // "#id" in an entry -> new address
	members    map[link]bool          // observations that a header names
	held       map[string]bool        // addresses of observations in the reply
	children   map[string][]string    // header -> observations that name it and that it does not name
	unmapped   int
	leftOut    int
}

// frame is an object that is open.
type frame struct {
	v       fhirjson.Value
	s       *shape
	mark    int // where its extensions begin in pend
	n       int // members written
	claimed []string
}

// open begins an object.
func (c *conv) open(v fhirjson.Value, s *shape) *frame {
	if c.depth == len(c.frames) {
		c.frames = append(c.frames, new(frame))
	}
	f := c.frames[c.depth]
	c.depth++
	*f = frame{v: v, s: s, mark: len(c.pend), claimed: f.claimed[:0]}
	c.out = append(c.out, '{')
	return f
}

// close ends it: what R4 demands beside what came, and the extensions.
func (c *conv) close(f *frame) {
	if f.s.end != nil {
		f.s.end(c, f)
	}
	if len(c.pend) > f.mark {
		c.key(f, "extension")
		c.out = append(append(append(c.out, '['), c.pend[f.mark:]...), ']')
		c.pend = c.pend[:f.mark]
	}
	c.out = append(c.out, '}')
	c.depth--
}

// key begins a member. name is one of ours, or one that a strict reader let pass.
func (c *conv) key(f *frame, name string) {
	if f.n > 0 {
		c.out = append(c.out, ',')
	}
	f.n++
	c.out = append(append(append(c.out, '"'), name...), '"', ':')
}

// raw writes a member whose value stays byte for byte.
func (c *conv) raw(f *frame, name string, v fhirjson.Value) {
	c.key(f, name)
	c.out = append(c.out, v.Raw()...)
}

// claim says that a member is being written that more than one element may lead to, and whether it was not written before.
func (c *conv) claim(f *frame, name string) bool {
	if slices.Contains(f.claimed, name) {
		return false
	}
	f.claimed = append(f.claimed, name)
	return true
}

// hold takes what was written since from, an extension of f, and keeps it for the end of f.
func (c *conv) hold(f *frame, from int) {
	if len(c.pend) > f.mark {
		c.pend = append(c.pend, ',')
	}
	c.pend = append(c.pend, c.out[from:]...)
	c.out = c.out[:from]
}

// room asks for the memory that was written into, and sees to the cap.
func (c *conv) room() {
	n := len(c.out) + len(c.pend)
	if c.over {
		return
	}
	if int64(n) > c.lim.Bytes {
		c.over = true
		return
	}
	if more := n - c.taken; more > 0 && c.lim.Take != nil {
		const piece = 64 << 10
		more = (more + piece - 1) / piece * piece
		if !c.lim.Take(int64(more)) {
			c.over = true
			return
		}
		c.taken += more
	}
}

// object converts an object.
func (c *conv) object(v fhirjson.Value, s *shape) {
	f := c.open(v, s)
	for k, m := range v.Members() {
		c.member(f, k, m)
	}
	c.close(f)
}

// member converts one member of an object.
func (c *conv) member(f *frame, k string, m fhirjson.Value) {
	if c.over {
		return
	}
	if r := f.s.rules[k]; r != nil {
		switch {
		case m.Kind() == fhirjson.Null: // nothing was said
		case r.do != nil:
			r.do(c, f, r, m)
		case r.gone:
			c.gone(f, r, m)
		default:
			c.element(f, r, m)
		}
		return
	}
	switch k {
	case "id":
		if m.Kind() == fhirjson.String {
			c.raw(f, "id", m)
			return
		}
	case "extension":
		if m.Kind() == fhirjson.Array {
			for e := range m.Elems() {
				c.extension(f, e)
			}
			return
		}
	case "modifierExtension":
		if m.Kind() == fhirjson.Array && allObjects(m) {
			c.key(f, k)
			c.list(m, func(e fhirjson.Value) { c.plainExtension(e, "") })
			return
		}
	}
	if len(k) > 1 && k[0] == '_' {
		if r := f.s.rules[k[1:]]; r != nil && r.kind != complex && c.besides(f, r, k, m) {
			return
		}
	}
	c.unknown(f, k, m)
}

// besides writes what stands beside a primitive, "_birthDate" beside "birthDate", and reports whether it is dealt with.
func (c *conv) besides(f *frame, r *rule, k string, m fhirjson.Value) bool {
	switch {
	case r.gone || r.do != nil && !transparent[r.path] || r.system != "":
		// With the value, if there is one, it would no longer be beside anything.
		return false
	case m.Kind() == fhirjson.Object && !r.many:
		if v := f.v.Get(k[1:]); v.Exists() && !c.fits(r, v) {
			return false // the value is kept as unmapped, and says so in this place
		}
		c.key(f, "_"+r.to)
		c.object(m, c.t.beside)
		return true
	case m.Kind() == fhirjson.Array && r.many:
		if v := f.v.Get(k[1:]); v.Exists() && (v.Kind() != fhirjson.Array || !c.fits(r, v)) {
			return false
		}
		for e := range m.Elems() {
			if e.Kind() != fhirjson.Object && e.Kind() != fhirjson.Null {
				return false
			}
		}
		c.key(f, "_"+r.to)
		c.list(m, func(e fhirjson.Value) {
			if e.Kind() == fhirjson.Null {
				c.out = append(c.out, "null"...)
				return
			}
			c.object(e, c.t.beside)
		})
		return true
	}
	return false
}

// transparent are the elements with a function of their own that stay a primitive with what stands beside it.
var transparent = map[string]bool{"Coding.system": true, "Reference.reference": true}

// element writes an element that R4 has, under its name there.
func (c *conv) element(f *frame, r *rule, m fhirjson.Value) {
	switch {
	case m.Kind() == fhirjson.Array && r.many && r.kind != complex:
		if !c.fits(r, m) {
			c.unknown(f, r.name, m)
			return
		}
		c.key(f, r.to)
		c.list(m, func(e fhirjson.Value) { c.value(r, e) })
	case m.Kind() == fhirjson.Array && r.many:
		if allObjects(m) {
			c.key(f, r.to)
			c.list(m, func(e fhirjson.Value) { c.value(r, e) })
			return
		}
		c.some(f, r, m)
	case m.Kind() == fhirjson.Array:
		c.only(f, r, m)
	case !c.fits(r, m):
		c.misfit(f, r, m)
	case r.many:
		c.key(f, r.to)
		c.out = append(c.out, '[')
		c.value(r, m)
		c.out = append(c.out, ']')
	default:
		c.key(f, r.to)
		c.value(r, m)
	}
}

// misfit keeps a value that is not of its element's kind or value set, in the element's place where R4 has one: nothing is said of the element but
// that this was given for it.
func (c *conv) misfit(f *frame, r *rule, m fhirjson.Value) {
	switch {
	case r.many || r.kind == complex:
		c.unknown(f, r.name, m)
	case r.system != "" && m.Kind() == fhirjson.String:
		c.key(f, r.to)
		in := c.open(m, c.t.datatypes["CodeableConcept"])
		c.raw(in, "text", m)
		c.unknown(in, r.name, m)
		c.close(in)
	case r.system != "" || f.v.Get("_"+r.name).Exists():
		c.unknown(f, r.name, m)
	default:
		c.key(f, "_"+r.to)
		in := c.open(m, c.t.beside)
		c.unknown(in, r.name, m)
		c.close(in)
	}
}

// some writes those elements of a list that are objects, and keeps the others as unmapped.
func (c *conv) some(f *frame, r *rule, m fhirjson.Value) {
	n := 0
	for e := range m.Elems() {
		if e.Kind() != fhirjson.Object {
			continue
		}
		if n == 0 {
			c.key(f, r.to)
			c.out = append(c.out, '[')
		} else {
			c.out = append(c.out, ',')
		}
		n++
		c.value(r, e)
	}
	if n > 0 {
		c.out = append(c.out, ']')
	}
	for e := range m.Elems() {
		if e.Kind() != fhirjson.Object {
			c.unknown(f, r.name, e)
		}
	}
}

// only writes a list where R4 has one value: the first that fits, and the others as unmapped.
func (c *conv) only(f *frame, r *rule, m fhirjson.Value) {
	written := false
	for e := range m.Elems() {
		if !written && c.fits(r, e) {
			written = true
			c.key(f, r.to)
			c.value(r, e)
			continue
		}
		c.unknown(f, r.name, e)
	}
	if m.Len() == 0 {
		c.unknown(f, r.name, m)
	}
}

// list writes an array.
func (c *conv) list(m fhirjson.Value, each func(e fhirjson.Value)) {
	c.out = append(c.out, '[')
	n := 0
	for e := range m.Elems() {
		if n > 0 {
			c.out = append(c.out, ',')
		}
		n++
		each(e)
	}
	c.out = append(c.out, ']')
}

func allObjects(m fhirjson.Value) bool {
	for e := range m.Elems() {
		if e.Kind() != fhirjson.Object {
			return false
		}
	}
	return true
}

// fits reports whether a value is of the kind that an element has. In a list of primitives null stands for a value that is absent.
func (c *conv) fits(r *rule, m fhirjson.Value) bool {
	if m.Kind() == fhirjson.Array {
		if !r.many {
			return false
		}
		for e := range m.Elems() {
			if !(e.Kind() == fhirjson.Null && r.kind != complex) && (e.Kind() == fhirjson.Array || !c.fits(r, e)) {
				return false
			}
		}
		return true
	}
	switch r.kind {
	case text:
		if r.codes != nil {
			to := r.codes[m.View()]
			return to != "" && to != "?" && m.Kind() == fhirjson.String
		}
		return m.Kind() == fhirjson.String || m.Kind() == fhirjson.Number && r.value == "String"
	case number:
		return m.Kind() == fhirjson.Number || m.Kind() == fhirjson.String && isNumber(m.View())
	case boolean:
		return m.Kind() == fhirjson.Bool
	default:
		return m.Kind() == fhirjson.Object
	}
}

// value writes a value that fits.
func (c *conv) value(r *rule, m fhirjson.Value) {
	switch {
	case m.Kind() == fhirjson.Null:
		c.out = append(c.out, "null"...)
	case r.kind == complex && r.shape != nil:
		c.object(m, r.shape)
	case r.system != "":
		c.coded(r, m)
	case r.codes != nil:
		if to := r.codes[m.View()]; to != m.View() {
			c.out = fhirjson.AppendQuote(c.out, to)
			return
		}
		c.out = append(c.out, m.Raw()...)
	case r.kind == number && m.Kind() == fhirjson.String:
		c.out = append(c.out, m.View()...) // "28" where a number is meant: the same digits
	case r.kind == text && m.Kind() == fhirjson.Number:
		c.out = append(append(append(c.out, '"'), m.Raw()...), '"')
	default:
		c.out = append(c.out, m.Raw()...)
	}
}

// coded writes a code as a CodeableConcept.
func (c *conv) coded(r *rule, m fhirjson.Value) {
	c.out = append(append(append(c.out, `{"coding":[{"system":"`...), r.system...), `","code":`...)
	c.out = fhirjson.AppendQuote(c.out, r.codes[m.View()])
	c.out = append(c.out, `}]}`...)
}

// isNumber reports whether text is a number of JSON, whole.
func isNumber(s string) bool {
	if s == "" || len(s) > 32 || !(s[0] == '-' || s[0] >= '0' && s[0] <= '9') {
		return false
	}
	d, err := fhirjson.Parse([]byte(s), fhirjson.Limits{})
	return err == nil && d.Root().Kind() == fhirjson.Number && len(d.Root().Raw()) == len(s)
}

// resource converts a resource. newID replaces its id if it is not "".
func (c *conv) resource(v fhirjson.Value, newID string) {
	typ := v.Get("resourceType").View()
	s := c.t.resources[typ]
	if s == nil || v.Kind() != fhirjson.Object {
		c.otherResource(v, typ, newID)
		return
	}
	f := c.open(v, s)
	c.key(f, "resourceType")
	c.out = append(append(append(c.out, '"'), s.to...), '"')
	if newID != "" {
		c.key(f, "id")
		c.out = fhirjson.AppendQuote(c.out, newID)
	}
	for k, m := range v.Members() {
		c.room()
		switch {
		case k == "resourceType" || k == "id" && newID != "":
		case !c.common(f, k, m):
			c.member(f, k, m)
		}
	}
	c.close(f)
}

// common writes what every resource has and reports whether m is of that.
func (c *conv) common(f *frame, k string, m fhirjson.Value) bool {
	switch {
	case k == "meta" && m.Kind() == fhirjson.Object:
		c.key(f, k)
		c.object(m, c.t.datatypes["Meta"])
	case k == "text" && m.Kind() == fhirjson.Object && f.s.rules[k] == nil:
		c.raw(f, k, m) // the narrative stays what it is
	case (k == "implicitRules" || k == "language") && m.Kind() == fhirjson.String && f.s.rules[k] == nil:
		c.raw(f, k, m)
	case k == "contained" && m.Kind() == fhirjson.Array && allObjects(m):
		c.contained(f, m)
	default:
		return false
	}
	return true
}

// contained converts contained resources but for those that become entries of their own.
func (c *conv) contained(f *frame, m fhirjson.Value) {
	n := 0
	for e := range m.Elems() {
		if c.at >= 0 && c.depth == 1 {
			if _, gone := c.promoted[promotedKey{c.at, e.Get("id").View()}]; gone {
				continue
			}
		}
		if n == 0 {
			c.key(f, "contained")
			c.out = append(c.out, '[')
		} else {
			c.out = append(c.out, ',')
		}
		n++
		c.resource(e, "")
	}
	if n > 0 {
		c.out = append(c.out, ']')
	}
}

// typeName reports whether s looks like the name of a resource type.
func typeName(s string) bool {
	return s != "" && len(s) <= 64 && strings.IndexFunc(s, func(r rune) bool { return !(r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z') }) < 0
}
