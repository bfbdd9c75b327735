package test

import (
	"fmt"
	"slices"
	"strings"
)

// codes is the base of what we say in our own codes; only tags and sources that begin so are added.
const codes = "https://mycarerecord.example/"

// shownAs compares what a custodian gave with what an answer shows of it. Apart from the closed list M-3 they are the same text:
// the id, references into the custodian's own reply, meta.tag (added), meta.source (moved). Differences are named by path, never
// by value.
type shownAs struct {
	given      holding
	newID      map[string]string // Type/id at the custodian -> Type/id in the answer
	base       string            // our FHIR base
	resolved   int               // references into the custodian's own reply
	contained  int               // references to contained resources
	dangling   int               // references that lead nowhere in the custodian's own reply either
	bytes      int               // of the given resources
	numbers    int               // number tokens compared
	difference []string
}

func (c *shownAs) say(path, what string) {
	c.difference = append(c.difference, path+": "+what)
}

// resource compares one whole resource.
func (c *shownAs) resource(given, shown *node) {
	typ := given.str("resourceType")
	c.bytes += len(given.raw)
	rest := func(n *node) (keys []string, kids []*node) {
		for i, k := range n.keys {
			if k != "id" && k != "meta" {
				keys, kids = append(keys, k), append(kids, n.kids[i])
			}
		}
		return keys, kids
	}
	givenKeys, givenKids := rest(given)
	shownKeys, shownKids := rest(shown)
	if !slices.Equal(givenKeys, shownKeys) {
		c.say(typ, "other members, or in another order")
		return
	}
	for i := range givenKids {
		c.value(typ+"."+givenKeys[i], givenKeys[i], givenKids[i], shownKids[i])
	}
	c.meta(typ+".meta", given.get("meta"), shown.get("meta"))
	if key := typ + "/" + given.str("id"); c.newID[key] != typ+"/"+shown.str("id") {
		c.say(typ+".id", "not the id that it is known by elsewhere")
	}
}

// value compares everything below the top of a resource and reports whether a reference in it was changed.
func (c *shownAs) value(path, key string, given, shown *node) (changed bool) {
	if given.kind != shown.kind || len(given.kids) != len(shown.kids) || !slices.Equal(given.keys, shown.keys) {
		c.say(path, "another shape")
		return false
	}
	switch given.kind {
	case '{', '[':
		for i := range given.kids {
			p, k := path, key
			if given.kind == '{' {
				p, k = path+"."+given.keys[i], given.keys[i]
			}
			changed = c.value(p, k, given.kids[i], shown.kids[i]) || changed
		}
		if !changed && given.raw != shown.raw {
			c.say(path, "other white space")
		}
		return changed
	case '0':
		c.numbers++
	case '"':
		if key == "reference" {
			return c.reference(path, given, shown)
		}
	}
	if given.raw != shown.raw {
		c.say(path, "another text")
	}
	return false
}

// reference compares one Reference.reference. One that leads into the custodian's own reply must lead to the same resource in the answer; any
// other stays, or becomes absolute to the custodian's server (M-3, M-6).
func (c *shownAs) reference(path string, given, shown *node) (changed bool) {
	if strings.HasPrefix(given.text, "#") {
		c.contained++
		if given.raw != shown.raw {
			c.say(path, "a reference within the resource was changed")
		}
		return false
	}
	target, held := c.given.own(given.text)
	if !held {
		c.dangling++
		if shown.text != given.text && (strings.Contains(given.text, ":") || shown.text != c.given.base+"/"+target) {
			c.say(path, "a reference to elsewhere was changed")
		}
		return shown.raw != given.raw
	}
	c.resolved++
	_, version, _ := strings.Cut(given.text, "/_history/")
	if version != "" {
		version = "/_history/" + version
	}
	if strings.TrimPrefix(shown.text, c.base+"/") != c.newID[target]+version {
		c.say(path, "the reference leads to another resource than it did")
	}
	return true
}

// meta compares the one element that may be added to.
func (c *shownAs) meta(path string, given, shown *node) {
	if shown == nil {
		if given != nil {
			c.say(path, "is gone")
		}
		return
	}
	var tags []*node
	if given != nil {
		tags = given.list("tag")
		for i, k := range given.keys {
			switch k {
			case "tag", "source", "extension":
			default:
				if s := shown.get(k); s == nil || s.raw != given.kids[i].raw {
					c.say(path+"."+k, "another text")
				}
			}
		}
	}
	for _, k := range shown.keys {
		if k != "tag" && k != "source" && k != "extension" && given.get(k) == nil {
			c.say(path+"."+k, "was not there")
		}
	}
	if source := shown.str("source"); source != "" && source != given.str("source") && !strings.HasPrefix(source, codes) {
		c.say(path+".source", "is neither the custodian's nor one of ours")
	}
	for _, tag := range c.added(path+".tag", tags, shown.list("tag")) {
		if !strings.HasPrefix(tag.str("system"), codes+"CodeSystem/") {
			c.say(path+".tag", "one was added that is not of ours")
		}
	}
	extra := c.added(path+".extension", given.list("extension"), shown.list("extension"))
	moved := given.str("source") != "" && shown.str("source") != given.str("source")
	switch {
	case moved && (len(extra) != 1 || !strings.HasSuffix(extra[0].str("url"), "/original-source") || extra[0].str("valueUri") != given.str("source")):
		c.say(path+".source", "was changed and not kept as an extension")
	case !moved && len(extra) > 0:
		c.say(path+".extension", "one was added")
	}
}

// added returns what a list of the answer has more than the custodian's, which stands whole at its head or at its tail.
func (c *shownAs) added(path string, before, after []*node) []*node {
	same := func(a, b *node) bool { return a.raw == b.raw }
	more := len(after) - len(before)
	switch {
	case more >= 0 && slices.EqualFunc(before, after[more:], same):
		return after[:more]
	case more >= 0 && slices.EqualFunc(before, after[:len(before)], same):
		return after[len(before):]
	}
	c.say(path, "what the custodian said was changed")
	return nil
}

// fingerprint is what a resource says apart from M-3, to find the ones whose new id does not tell the old one.
func fingerprint(n *node, known func(reference string) string) string {
	var b strings.Builder
	var write func(n *node, key string, top bool)
	write = func(n *node, key string, top bool) {
		switch {
		case n.kind == '"' && key == "reference":
			fmt.Fprintf(&b, "ref(%s)", known(n.text))
		case n.kind == '{':
			b.WriteByte('{')
			for i, k := range n.keys {
				if top && (k == "id" || k == "meta") {
					continue
				}
				fmt.Fprintf(&b, "%q:", k)
				write(n.kids[i], k, false)
			}
			b.WriteByte('}')
		case n.kind == '[':
			b.WriteByte('[')
			for _, kid := range n.kids {
				write(kid, key, false)
				b.WriteByte(',')
			}
			b.WriteByte(']')
		default:
			b.WriteString(n.raw)
		}
	}
	write(n, "", true)
	return b.String()
}
