package fhirjson

import (
	"strconv"
	"strings"
)

// Entry is one resource of a custodian's reply: its address there, if it gave one, and its bytes. Address and mode are views of the text, which the
// resource keeps alive anyway.
type Entry struct {
	FullURL  string
	Mode     string // search.mode: match, include, outcome or ""
	Resource Value  // an object with a string resourceType
}

// Bundle is one page of a custodian's reply.
type Bundle struct {
	Type    string
	Next    string // link with relation next, in whatever case, "" if none
	Entries []Entry
	Missing int // entries without a resource that say nothing of a request: something is not there, and nobody knows what
}

// ReadBundle reads a Bundle's own fields and the places of its resources. What is not a Bundle, entries whose resource is not an object with a resourceType, links
// that do not say what they lead to, and names that are FHIR's but for case are refused: the error is always an [*Error]. An entry without a resource counts for nothing where it says what became of a
// request (FHIR R4 Bundle, bdl-5), and as missing elsewhere.
func ReadBundle(d *Doc) (Bundle, error) {
	root := d.Root()
	if !root.Get("resourceType").Is("Bundle") {
		return Bundle{}, &Error{"not a Bundle", 0}
	}
	if root.Variant("type", "total", "entry") {
		return Bundle{}, &Error{"a name in other case", 0}
	}
	next, err := Next(root)
	if err != nil {
		return Bundle{}, err
	}
	b := Bundle{Type: root.Get("type").Text(), Next: next}
	list := root.Get("entry")
	if list.Exists() && list.Kind() != Array {
		return Bundle{}, &Error{"entry is not an array", list.Start()}
	}
	b.Entries = make([]Entry, 0, list.Len())
	for e := range list.Elems() {
		r := e.Get("resource")
		if e.Variant("resource", "fullUrl", "search") {
			return Bundle{}, &Error{"a name in other case", e.Start()}
		}
		if !r.Exists() && e.Kind() == Object {
			if !e.Get("request").Exists() && !e.Get("response").Exists() {
				b.Missing++
			}
			continue
		}
		if r.Kind() != Object || r.Get("resourceType").View() == "" {
			return Bundle{}, &Error{"not a resource", e.Start()}
		}
		if id := r.Get("id"); id.Exists() && id.Kind() != String {
			return Bundle{}, &Error{"id is not a string", id.Start()}
		}
		b.Entries = append(b.Entries, Entry{FullURL: e.Get("fullUrl").View(), Mode: e.At("search", "mode").View(), Resource: r})
	}
	return b, nil
}

// Next is where a Bundle's next page is, "" if it says that there is none. What it says of links and cannot be read may be the way to that page: the error is always an
// [*Error].
func Next(bundle Value) (string, error) {
	if bundle.Variant("link") {
		return "", &Error{"a name in other case", bundle.Start()}
	}
	links := bundle.Get("link")
	if links.Kind() == Null {
		return "", nil // some write nothing for an empty list
	}
	next := ""
	for l := range links.Elems() {
		relation := l.Get("relation")
		if relation.Kind() != String {
			return "", &Error{"link is not readable", l.Start()}
		}
		if !strings.EqualFold(relation.View(), "next") {
			continue
		}
		if next != "" || l.Get("url").Text() == "" {
			return "", &Error{"next link unclear", l.Start()}
		}
		next = l.Get("url").Text()
	}
	return next, nil
}

// maxTotal is more than any search returns.
const maxTotal = 1 << 30

// Total is how many matches a searchset says that there are on all its pages together: 0 if it says nothing, 2^30, more than there can be, if it says more than that or what
// it says is no number.
func Total(bundle Value) int {
	said := bundle.Get("total")
	if !said.Exists() {
		return 0
	}
	n, err := strconv.Atoi(string(said.Raw()))
	if err != nil || n < 0 {
		return maxTotal
	}
	return min(n, maxTotal)
}
