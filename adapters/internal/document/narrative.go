package document

import "strings"

// kept are the elements of a narrative that stay, by what they are in XHTML. CDA's and XHTML's own names are both here; no attribute stays but the two that a
// table needs, so nothing can run, load or lead anywhere. Of any other element the text stays.
var kept = map[string]string{
	"paragraph": "p", "p": "p", "div": "div", "span": "span", "content": "span", "list": "ul", "ul": "ul", "ol": "ol", "item": "li", "li": "li", "br": "br", "hr": "hr",
	"table": "table", "thead": "thead", "tbody": "tbody", "tfoot": "tfoot", "tr": "tr", "td": "td", "th": "th", "caption": "caption",
	"sub": "sub", "sup": "sup", "b": "b", "strong": "strong", "i": "i", "em": "em", "u": "u", "pre": "pre", "blockquote": "blockquote", "dl": "dl", "dt": "dt", "dd": "dd",
	"h1": "h1", "h2": "h2", "h3": "h3", "h4": "h4", "h5": "h5", "h6": "h6", "footnote": "span", "code": "code",
}

// silent are elements of which the text is no text.
var silent = map[string]bool{"script": true, "style": true, "template": true, "iframe": true, "object": true, "svg": true}

var escaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;")

// narrative writes a section's text as the div of a FHIR narrative, "" where there is none. A picture that the text shows is named as one, and what is
// marked as deleted says so: its meaning would turn round otherwise.
func narrative(e *element) string {
	if e == nil {
		return ""
	}
	var b strings.Builder
	for _, k := range e.kids {
		write(&b, k, "")
	}
	if strings.TrimSpace(b.String()) == "" {
		return ""
	}
	return `<div xmlns="` + spaceHTML + `">` + b.String() + `</div>`
}

// write writes one piece. within is the element around it, in XHTML.
func write(b *strings.Builder, e *element, within string) {
	if e.name == "" {
		b.WriteString(escaper.Replace(plainText(e.text)))
		return
	}
	name := strings.ToLower(e.name)
	if silent[name] {
		return
	}
	to := kept[name]
	switch {
	case name == "list" && e.attr("listType") == "ordered":
		to = "ol"
	case name == "caption" && within != "table":
		to = "b"
	case name == "renderMultiMedia" || name == "rendermultimedia" || name == "img":
		b.WriteString("[picture in the original]")
	case name == "del":
		b.WriteString("[deleted: ")
		defer b.WriteString("]")
	}
	if e.attr("revised") == "delete" {
		b.WriteString("[deleted: ")
		defer b.WriteString("]")
	}
	if to == "" {
		for _, k := range e.kids {
			write(b, k, within)
		}
		return
	}
	b.WriteString("<" + to)
	for _, span := range [...]string{"colspan", "rowspan"} {
		if v := e.attr(span); (to == "td" || to == "th") && len(v) <= 3 && v != "" && strings.Trim(v, "0123456789") == "" {
			b.WriteString(" " + span + `="` + v + `"`)
		}
	}
	if to == "br" || to == "hr" {
		b.WriteString("/>")
		return
	}
	b.WriteString(">")
	for _, k := range e.kids {
		write(b, k, to)
	}
	b.WriteString("</" + to + ">")
}

// plainText leaves out what XML 1.0 does not know as text.
func plainText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' && r != '\r' || r == '\ufffe' || r == '\uffff' {
			return -1
		}
		return r
	}, s)
}
