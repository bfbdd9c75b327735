package merge

import (
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"
	"unicode"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

// What is a reference, and what becomes of it (M-3, M-5, M-6, C-4):
//
//   - The string `reference` of every Reference, wherever it stands: elements, extensions, contained resources. Three elements of R4 have
//     that name and are no Reference (DetectedIssue.reference, Immunization.education.reference, Expression.reference).
//   - The `url` of every Attachment that leads to the custodian's own server, or to where its documents are.
//   - A Reference that gives an identifier, or asks for a resource (questions.go), if that is of the reply and must not be shown. So is whatever else holds such an
//     identifier, under a name that ends so: relatesTo.targetIdentifier.
//
// A reference within the reply gets the new id; a version, fragment or query after it stays. To a resource that is withheld, or dropped because it is
// somebody else's, it is masked: the whole Reference is replaced, display and identifier with it, and what stands within it is no reference any more. References to
// `#contained` are left alone.
//
// Anything else (not in the reply, conditional, to a financial resource) leads nowhere in the answer, is kept and counted as dangling, and must
// not lead to another custodian's entry instead (M-6):
//
//   - A relative one would now be read against our base. It becomes absolute to the custodian's server (standards.md 1.7, 5).
//   - An absolute one, or a urn, stays byte for byte.
//   - One on our own base names a place in our answers that a custodian cannot know anything about. It is masked.
type ref struct {
	text       fhirjson.Value // the string with the address; absent where it is by identifier, or asks for one
	rest       string         // what of the address follows the id: see splitAddress
	whole      fhirjson.Value // the Reference or Attachment
	line       fhirjson.Value // the List.entry or Composition.section.entry that it is, if it is one
	holder     fhirjson.Value // the List or Composition of that line
	identifier string         // where it is by identifier: see businessKey
	target     int32          // item, -1 for none
	document   bool           // an Attachment
	asks       *question      // where it asks
}

// leads reports whether a reference leads to a resource of the reply. One that only asks for it does not: it is noted where something is withheld and nowhere else, and what
// is shown beside must not tell that.
func (r *ref) leads() bool { return r.target >= 0 && r.text.Exists() }

// scan finds the references of it.
func (p *preparing) scan(it *item) {
	it.refs[0] = int32(len(p.refs))
	p.around = it.v.Addresses(p.around, func(around []fhirjson.Value, x fhirjson.Value) {
		if p.address(it, around, x) && x.KeyIs("reference") && mayAsk(x.View()) {
			if q := p.questionOf(x.View(), it, true); q != nil && q.any { // masked whether anything is withheld or not: that it is must not tell
				p.refs = append(p.refs, p.lined(ref{asks: q, whole: around[len(around)-1], target: -1}, around, it.typ))
				p.asked = true
			}
		}
	})
	it.refs[1] = int32(len(p.refs))
}

// scanAll does what scan does, for a reply of which something is withheld, as if what stands in v stood in it: see spread. It also finds questions for withheld resources and
// their identifiers, and reports every other string that is the address of a resource of the reply, or asks for it by that or by an identifier.
func (p *preparing) scanAll(v fhirjson.Value, it *item, cites func(target int32), citesKey func(key string)) {
	p.around = v.VisitOn(p.around, func(around []fhirjson.Value, x fhirjson.Value) bool {
		switch x.Kind() {
		case fhirjson.String:
			if p.address(it, around, x) {
				p.question(it, around, x)
			} else if !x.KeyIs("div") {
				if s := x.View(); strings.IndexByte(s, '/') >= 0 || isURN(s) {
					if t := p.resolve(s, it); t >= 0 {
						cites(t)
					}
				}
				if s := x.View(); mayAsk(s) {
					if q := p.questionOf(s, it, false); q != nil {
						q.answers(cites, citesKey)
					}
				}
			}
		case fhirjson.Object:
			in := x
			if at := around; len(at) > 0 && at[len(at)-1].Kind() == fhirjson.Array {
				in, around = at[len(at)-1], at[:len(at)-1]
			}
			if key := in.KeyView(); len(around) > 0 && (key == "identifier" || key == "requisition" || strings.HasSuffix(key, "Identifier")) {
				p.byIdentifier(it, around, in, x)
			}
		}
		return true
	})
}

// question notes what a Reference or an Attachment asks for.
func (p *preparing) question(it *item, around []fhirjson.Value, x fhirjson.Value) {
	if !mayAsk(x.View()) {
		return
	}
	if q := p.questionOf(x.View(), it, x.KeyIs("reference")); q != nil && (q.any && x.KeyIs("reference") || len(q.ids)+len(q.keys) > 0) {
		p.refs = append(p.refs, p.lined(ref{asks: q, whole: around[len(around)-1], target: -1}, around, it.typ))
	}
}

// byIdentifier notes an Identifier that is of a resource in the reply, in it: id, which is the member of that name or one of several there. In a Reference it is the Reference that
// must go where that resource may not be seen, elsewhere the Identifier. The identifiers of a resource are its own.
func (p *preparing) byIdentifier(it *item, around []fhirjson.Value, member, id fhirjson.Value) {
	own := member.KeyIs("identifier") || member.KeyIs("masterIdentifier")
	whole, key := around[len(around)-1], businessKey(id)
	switch {
	case key == "" || own && whole.Get("resourceType").Exists() || p.carriers(key) == nil:
	case member.KeyIs("identifier") && isReferenceShaped(whole):
		p.refs = append(p.refs, p.lined(ref{whole: whole, identifier: key, target: -1}, around, it.typ))
	default:
		p.refs = append(p.refs, ref{whole: id, identifier: key, target: -1})
	}
}

// isReferenceShaped reports whether an object has only what a Reference has.
func isReferenceShaped(v fhirjson.Value) bool {
	for key := range v.Members() {
		switch strings.TrimPrefix(key, "_") {
		case "reference", "identifier", "type", "display", "id", "extension":
		default:
			return false
		}
	}
	return true
}

// lined is a reference with the line that it is, if it is one.
func (p *preparing) lined(r ref, around []fhirjson.Value, typ string) ref {
	r.line, r.holder = p.lineOf(around, typ)
	return r
}

// address notes a string if it is the address of a Reference or of an Attachment on the custodian's own server, and reports whether it is of either.
func (p *preparing) address(it *item, around []fhirjson.Value, x fhirjson.Value) bool {
	switch {
	case x.KeyIs("reference") && p.isReference(around, it.typ):
		if address := x.View(); !strings.HasPrefix(address, "#") && address != "" {
			head, rest := splitAddress(address)
			p.refs = append(p.refs, p.lined(ref{text: x, rest: rest, whole: around[len(around)-1], target: p.resolveHead(head, it)}, around, it.typ))
		}
	case x.KeyIs("url") && p.isAttachment(around, it.typ):
		if address := x.View(); p.own(address, it) || p.leadsHere(address) || p.rules.DocumentAddress != nil && hasScheme(address) || p.resolve(address, it) >= 0 {
			head, rest := splitAddress(address)
			p.refs = append(p.refs, ref{text: x, rest: rest, whole: around[len(around)-1], target: p.resolveHead(head, it), document: true})
		}
	default:
		return false
	}
	return true
}

// refsOf are the references of it.
func (p *preparing) refsOf(it *item) []ref { return p.refs[it.refs[0]:it.refs[1]] }

// isReference reports whether the `reference` in the innermost container is that of a Reference. typ is the type of the root.
func (p *preparing) isReference(around []fhirjson.Value, typ string) bool {
	if len(around) < 2 {
		return false // DetectedIssue.reference, a uri
	}
	if len(around) == 3 && around[1].KeyIs("contained") {
		return false // the same of a contained one
	}
	typ = p.holderType(around, typ)
	switch memberName(around) {
	case "education":
		return typ != "Immunization"
	case "valueExpression", "expression":
		return false // Expression.reference, a uri
	case "condition":
		return len(around) < 3 || !around[len(around)-2].KeyIs("valueTriggerDefinition") // an Expression too
	}
	return true
}

// memberName is the name of the member that the innermost container is, or is an element of. It is a view.
func memberName(around []fhirjson.Value) string {
	o := around[len(around)-1]
	if len(around) > 1 && around[len(around)-2].Kind() == fhirjson.Array {
		o = around[len(around)-2]
	}
	return o.KeyView()
}

// attachments are the elements of type Attachment in R4, but for Media.content and those with a value[x] of their own.
var attachments = words("attachment presentedForm photo contentAttachment sourceAttachment valueAttachment image document contentAsAttachment")

func (p *preparing) isAttachment(around []fhirjson.Value, typ string) bool {
	o := around[len(around)-1]
	if o.Kind() != fhirjson.Object {
		return false
	}
	return attachments[memberName(around)] || o.KeyIs("content") && p.holderType(around, typ) == "Media"
}

// holderType is the type of the resource that the innermost container belongs to: typ, or that of the contained one that it stands in.
func (p *preparing) holderType(around []fhirjson.Value, typ string) string {
	if len(around) > 2 && around[1].KeyIs("contained") {
		return p.typeWithin(around[2])
	}
	return typ
}

// typeWithin is the type of a contained resource, asked once for each and not for each of its references.
func (p *preparing) typeWithin(c fhirjson.Value) string {
	if p.within != c {
		p.within, p.withinType = c, c.Get("resourceType").View()
	}
	return p.withinType
}

// lineOf returns the List.entry or Composition.section.entry that the innermost container is the reference of, and the resource that it
// is a line of: the root or a contained one.
func (p *preparing) lineOf(around []fhirjson.Value, typ string) (line, holder fhirjson.Value) {
	o := around[len(around)-1]
	h := 0
	if len(around) > 2 && around[1].KeyIs("contained") {
		h = 2
		typ = p.typeWithin(around[h])
	}
	within := around[h+1:]
	switch {
	case typ == "List" && len(within) == 3 && within[0].KeyIs("entry") && o.KeyIs("item"):
		return within[1], around[h]
	case typ == "Composition" && len(within) >= 4 && within[0].KeyIs("section") && within[len(within)-2].KeyIs("entry"):
		return o, around[h]
	}
	return
}

// own reports whether an address is on the custodian's own server.
func (p *preparing) own(address string, it *item) bool {
	if p.leadsHere(address) {
		return false
	}
	if isHTTP(address) {
		c := canonical(address)
		for i := range p.origins {
			if base := p.origins[i].base; base != "" && strings.HasPrefix(c, base+"/") {
				return true
			}
		}
		return it.root != "" && strings.HasPrefix(c, it.root+"/")
	}
	if isURN(address) {
		return p.resolve(address, it) >= 0
	}
	return address != "" && !hasScheme(address) && address[0] != '#'
}

// absolute is an address on the custodian's server in full, in two parts: on the root that its entry is on, or on that of the server. Where neither
// is known, or is ours, it is a name in the custodian's own part of our name space, where nothing stands. It is empty for one that climbs out of
// that too.
func (p *preparing) absolute(address string, it *item) (root, rest string) {
	if hasScheme(address) {
		return address, ""
	}
	if strings.HasPrefix(address, "//") { // with a host, without a scheme (RFC 3986, 4.2)
		if root = "https:"; p.leadsHere(root + address) {
			return "", ""
		}
		return root, address
	}
	rest = strings.TrimLeft(address, "/")
	first, _, _ := strings.Cut(rest, "/")
	fromBase := IsType(first) // what begins so is meant from the server's base, and not from the root of its host
	for _, of := range [...]string{it.root, p.from(it).base} {
		s := p.server(of)
		if host := originOf(s.root); rest != address && host != "" && !fromBase && !(s.near && p.leadsHere(host+address)) {
			return host, address
		}
		if s.root != "" && !(s.near && p.leadsHere(s.root+rest)) {
			return s.root, rest
		}
	}
	if root = p.req.CodeBase + CustodianPath + string(p.reply.Custodian.Key) + "/"; p.leadsHere(root + rest) {
		return "", ""
	}
	return root, rest
}

// originOf is the scheme and host of an absolute http address, "" of any other.
func originOf(address string) string {
	if !isHTTP(address) {
		return ""
	}
	host := strings.IndexByte(address, ':') + len("://")
	if i := strings.IndexByte(address[host:], '/'); i >= 0 {
		return address[:host+i]
	}
	return address
}

// server is where a canonical root is.
type server struct {
	root string // in full, with a slash at its end; "" if there is none
	near bool   // on our own host and port: what is there may lead here
}

// server is asked once for each root, not for each reference.
func (p *preparing) server(root string) server {
	s, known := p.servers[root]
	if known {
		return s
	}
	written, odd := p.spelt[root]
	switch {
	case odd && written != "":
		s.root = written + "/"
	case root != "" && !odd:
		s.root = "https:" + root + "/"
	}
	for i := range p.origins {
		if o := &p.origins[i]; root != "" && root == o.base {
			s.root = strings.TrimRight(o.given, "/") + "/"
		}
	}
	if to, err := url.Parse(s.root); err != nil || p.sameHost(to) {
		s.near = true
	}
	if p.servers == nil {
		p.servers = map[string]server{}
	}
	p.servers[root] = s
	return s
}

// hasScheme reports whether an address begins with a scheme (RFC 3986, 3.1): it is then no relative one.
func hasScheme(address string) bool {
	for i := range len(address) {
		switch c := address[i] | 0x20; {
		case c >= 'a' && c <= 'z':
		case i > 0 && (address[i] >= '0' && address[i] <= '9' || address[i] == '+' || address[i] == '-' || address[i] == '.'):
		default:
			return i > 0 && address[i] == ':'
		}
	}
	return false
}

// leadsHere reports whether an absolute address is on our own base, however it is spelt: with another scheme, in capitals, with the port that
// is meant anyway, with dots in its path. A custodian that knows another's ids could lead a reader to its entries by one.
func (p *preparing) leadsHere(address string) bool {
	if !hasScheme(address) || isURN(address) {
		return false
	}
	scheme, rest, _ := strings.Cut(address, ":")
	if !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https") {
		to, err := url.Parse(address)
		return err == nil && p.sameHost(to) && p.belowUs(to.Path)
	}
	// What is no address, and in which browsers find one all the same, is taken for one of ours: a slash too few; a backslash, a tab, an escape or another alphabet in the host.
	if !strings.HasPrefix(rest, "//") {
		return true
	}
	authority, end := rest[2:], len(rest)
	if i := strings.IndexAny(authority, "/?#"); i >= 0 {
		authority, end = authority[:i], i+2
	}
	to, err := url.Parse("https://" + authority)
	odd := func(c rune) bool { return c == '\\' || c == '%' || c > unicode.MaxASCII } // browsers have ASCII for more letters than one would think
	if err != nil || to.Host == "" || strings.ContainsFunc(authority, odd) {
		return true
	}
	if !p.sameHost(to) {
		return false
	}
	way := strings.NewReplacer("\t", "", "\n", "", "\r", "", "\\", "/").Replace(rest[end:])
	way, _, _ = strings.Cut(way, "#")
	way, _, _ = strings.Cut(way, "?")
	plain, err := url.PathUnescape(way)
	return err != nil || p.belowUs(plain)
}

// belowUs reports whether a path on our host is below our base.
func (p *preparing) belowUs(way string) bool {
	base := strings.TrimRight(p.here.Path, "/") + "/"
	return strings.HasPrefix(path.Clean("/"+way)+"/", base)
}

// sameHost reports whether an address is on our host and port.
func (p *preparing) sameHost(to *url.URL) bool {
	if p.here == nil {
		p.here, _ = url.Parse(p.req.Base)
		if p.here == nil {
			p.here = &url.URL{}
		}
	}
	return to.Host != "" && sameName(strings.TrimSuffix(to.Hostname(), "."), p.here.Hostname()) && port(to) == port(p.here)
}

// sameName reports whether a host may be ours. Browsers read numbers in many ways (10.1, 0x0a000001, [::ffff:10.0.0.1]): where ours is one, each that no parser here reads may be it.
func sameName(host, ours string) bool {
	if strings.EqualFold(host, ours) {
		return true
	}
	us, err := netip.ParseAddr(ours)
	if err != nil {
		return false
	}
	if them, err := netip.ParseAddr(host); err == nil {
		return them.Unmap() == us.Unmap()
	}
	last := strings.ToLower(host[strings.LastIndexByte(host, '.')+1:])
	return last != "" && strings.Trim(strings.TrimPrefix(last, "0x"), "0123456789abcdef") == "" && last[0] >= '0' && last[0] <= '9'
}

// port is an address's port. http and https count as one: proxies change one for the other.
func port(u *url.URL) string {
	if n := strings.TrimLeft(u.Port(), "0"); n != "80" && n != "443" {
		return n
	}
	return ""
}

// masked reports whether a reference is to something that must not be shown. An identifier is, if all that carry it are.
func (p *preparing) masked(r *ref) bool {
	switch {
	case r.asks != nil:
		return r.asks.any || slices.ContainsFunc(r.asks.ids, func(i int32) bool { return p.items[i].hidden() }) || slices.ContainsFunc(r.asks.keys, p.secretly)
	case r.identifier != "":
		return p.secretly(r.identifier)
	}
	return r.target >= 0 && p.items[r.target].hidden()
}

// hidden reports whether it must not be named: references to it are masked, and what names it where nothing can be masked goes. Of what names nobody for certain (a
// definition, a code system, an entry without a subject) there is nothing to hide: references to it dangle.
func (it *item) hidden() bool { return it.fate == withheld || it.stranger && it.fate == dropped }

// absent reports whether nothing of it may be used: it is hidden, or whose it is cannot be told.
func (it *item) absent() bool { return it.fate == withheld || it.fate == dropped }
