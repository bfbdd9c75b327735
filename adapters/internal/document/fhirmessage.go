package document

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A message of Booking and Referral (BaRS) holds no Composition: what 111, an ambulance service or a clinic has to say stands in the fields of its resources,
// much of it as text that somebody wrote. It is laid out with nothing chosen: a section for each resource, in the order of the message, and in it every
// element that the resource has, by its name. Codes are shown beside their words; systems, ids and what no reader can follow stay in the original.

// barsEvents are the systems of the events of such messages, with the words of those codes that are known.
var barsEvents = map[string]bool{"https://fhir.nhs.uk/CodeSystem/message-events-bars": true, "https://fhir.nhs.uk/CodeSystem/message-event-servicerequest": true,
	"https://fhir.nhs.uk/CodeSystem/message-event-booking": true}

var barsTitles = map[string]string{"servicerequest-request": "Referral or validation request", "servicerequest-response": "Response to a referral or validation request",
	"booking-request": "Booking request", "booking-response": "Response to a booking request"}

// directory are the resources of a message that say who and where; they are named where somebody refers to them.
var directory = map[string]bool{"MessageHeader": true, "Patient": true, "Organization": true, "Practitioner": true, "PractitionerRole": true, "HealthcareService": true, "Endpoint": true,
	"Questionnaire": true, "Schedule": true}

// layOut makes sections of a message, if it is one of BaRS, about one Patient, and names nobody else whom a machine could know for one.
func (d *Described) layOut(bundle *element, all []found) {
	var header *element
	headers, patients := 0, 0
	t := &telling{names: map[string]string{}, kinds: map[string]string{}}
	for _, f := range all {
		switch f.resource.name {
		case "MessageHeader":
			header = f.resource
			headers++
		case "Patient":
			patients++
		}
		label := short(f.resource.label())
		for _, address := range [...]string{f.url, f.resource.name + "/" + f.resource.value("id"), tail(f.url)} {
			if _, taken := t.names[address]; !taken && address != "" { // the first counts
				t.names[address], t.kinds[address] = label, f.resource.name
			}
		}
	}
	event := header.child("eventCoding")
	if bundle.name != "Bundle" || bundle.value("type") != "message" || headers != 1 || patients != 1 || !barsEvents[event.value("system")] {
		return
	}
	for _, f := range all {
		for _, name := range [...]string{"subject", "patient", "for"} {
			for _, about := range f.resource.all(name) {
				for _, to := range about.all("reference") {
					switch t.kinds[versionless(to.attr("value"))] {
					case "", "RelatedPerson", "Person", "Group":
						if to.attr("value") != "" {
							return // it may be about somebody else, and nothing here can tell
						}
					}
				}
				for _, id := range about.all("identifier") {
					d.About.numbers = append(d.About.numbers, id.numbers()...)
				}
			}
		}
	}
	if bundle.ambiguous() {
		return
	}
	for _, f := range all {
		if !directory[f.resource.name] && t.namesAnother(f.resource, d.About.numbers) {
			return
		}
	}
	d.Readable, d.format = true, "FHIR message"
	if code := event.value("code"); code != "" {
		d.Kind = []coding{{event.value("system"), code, event.value("display")}}
	}
	d.Title = barsTitles[event.value("code")]
	if d.Title != "" {
		if reason := header.value("reason", "coding", "code"); reason != "" {
			d.Title += " (" + short(reason) + ")"
		}
	}
	if d.Date = validTime(bundle.value("timestamp")); d.Date == "" {
		d.Date = validTime(header.value("meta", "lastUpdated"))
	}
	for _, who := range [...]string{"author", "sender"} {
		if name := t.reference(header.child(who)); name != "" {
			d.Authors = append(d.Authors, name)
		}
	}
	for _, f := range append([]found{{resource: bundle}}, all...) {
		if f.resource == bundle || directory[f.resource.name] {
			if text := t.modifiers(f.resource); text != "" {
				d.Sections = append(d.Sections, Section{title: spaced(f.resource.name), Text: text})
			}
			continue
		}
		s := Section{title: spaced(f.resource.name)}
		if label := short(f.resource.label()); label != f.resource.name {
			s.title += ": " + label
		}
		s.Text = t.resource(f.resource)
		d.Sections = append(d.Sections, s)
	}
}

// namesAnother reports whether somebody who is not the message's Patient stands anywhere in a resource that would be laid out: by an NHS number, by the address of
// a Patient who is not in the message, or as a Patient within it.
func (t *telling) namesAnother(e *element, numbers []string) bool {
	for _, k := range e.kids {
		to := versionless(k.attr("value"))
		switch {
		case k.name == "Patient":
			return true
		case k.name == "reference" && t.kinds[to] == "" && (strings.HasPrefix(to, "Patient/") || strings.Contains(to, "/Patient/")):
			return true
		case slices.ContainsFunc(k.numbers(), func(n string) bool { return n != "" && !slices.Contains(numbers, n) }):
			return true
		case t.namesAnother(k, numbers):
			return true
		}
	}
	return false
}

// single are elements of which FHIR has one in each place, as far as they are values: whom and what a message names hangs on them.
var single = [...]string{"system", "value", "code", "reference", "use"}

// ambiguous reports whether any of them stands twice within the same element: then one reader takes this for it and another that.
func (e *element) ambiguous() bool {
	for _, name := range single {
		n := 0
		for _, k := range e.kids {
			if k.name == name && k.attr("value") != "" {
				n++
			}
		}
		if n > 1 {
			return true
		}
	}
	return slices.ContainsFunc(e.kids, (*element).ambiguous)
}

// codings are all codes that stand within e, each once, without words: as FHIR has them, and as CDA does.
func (e *element) codings() (list []coding) {
	seen := map[coding]bool{}
	add := func(c coding) {
		if c.Code != "" && !seen[c] { // of a unit too: what stands beside a code hides none
			seen[c] = true
			list = append(list, c)
		}
	}
	var visit func(e *element)
	visit = func(e *element) {
		add(coding{system: e.value("system"), Code: e.value("code")})
		add(coding{system: cdaSystem(e.attr("codeSystem")), Code: e.attr("code")})
		for _, k := range e.kids {
			visit(k)
		}
	}
	visit(e)
	return list
}

// versionless is a reference without the version that it may name.
func versionless(reference string) string {
	before, _, _ := strings.Cut(reference, "/_history/")
	return before
}

// label is how a resource is called where something refers to it: by its name, by what it is about, or by its type.
func (e *element) label() string {
	if name := strings.TrimSpace(e.called()); name != "" {
		return name
	}
	for _, path := range [...]string{"code", "medicationCodeableConcept", "vaccineCode", "type", "category"} {
		if words := conceptWords(e.child(path)); words != "" {
			return words
		}
	}
	return e.name
}

// conceptWords are the words of a CodeableConcept, without codes.
func conceptWords(e *element) string {
	if text := e.value("text"); text != "" {
		return text
	}
	return e.value("coding", "display")
}

// maxLabel is how long a label may be: it is written wherever something refers to what it names.
const maxLabel = 120

func short(s string) string {
	if len(s) <= maxLabel {
		return s
	}
	s = s[:maxLabel]
	for len(s) > 0 && !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "…"
}

// spaced writes a name in the words of which it is made: ServiceRequest, "Service request".
func spaced(name string) string {
	var b strings.Builder
	for i, r := range name {
		switch {
		case i == 0:
			b.WriteRune(unicode.ToUpper(r))
		case unicode.IsUpper(r):
			b.WriteByte(' ')
			b.WriteRune(unicode.ToLower(r))
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// telling writes what resources say.
type telling struct {
	b     strings.Builder
	names map[string]string // by address: what a reference leads to is called
	kinds map[string]string // and of what type it is
}

// unsaid are members of a resource that are not about anybody. Rules by which it must be understood (implicitRules) are said: they may turn its meaning round.
var unsaid = map[string]bool{"id": true, "meta": true, "language": true}

// resource writes one as the div of a narrative: its own narrative, if it has one, and every element; "" if there is nothing.
func (t *telling) resource(r *element) string {
	t.b.Reset()
	t.b.WriteString(`<div xmlns="` + spaceHTML + `">`)
	empty := t.b.Len()
	if text := r.child("text", "div"); text != nil {
		t.b.WriteString("<div>")
		for _, k := range text.kids {
			write(&t.b, k, "div")
		}
		t.b.WriteString("</div>")
	}
	t.members(r, true)
	if t.b.Len() == empty {
		return ""
	}
	t.b.WriteString("</div>")
	return t.b.String()
}

// modifiers writes, of a resource that is not shown, what may change what the others mean.
func (t *telling) modifiers(r *element) string {
	only := &element{name: r.name}
	for _, k := range r.kids {
		if k.name == "implicitRules" || k.name == "modifierExtension" {
			only.kids = append(only.kids, k)
		}
	}
	return t.resource(only)
}

// members writes the elements within e as a list.
func (t *telling) members(e *element, whole bool) {
	begun := false
	for _, k := range e.kids {
		if k.name == "" || whole && (unsaid[k.name] || k.name == "text" && k.child("div") != nil) || !whole && k.name == "id" {
			continue
		}
		if !begun {
			t.b.WriteString("<ul>")
			begun = true
		}
		t.member(k)
	}
	if begun {
		t.b.WriteString("</ul>")
	}
}

// member writes one element with its name: in a line where it is a value or something that is said in words, as a list where it is more.
func (t *telling) member(e *element) {
	name := e.name
	switch {
	case name == "extension" || name == "modifierExtension":
		url := e.attr("url")
		if url == "" {
			url = e.value("url")
		}
		name = short(url[strings.LastIndexByte(url, '/')+1:])
	case strings.HasPrefix(name, "value") && len(name) > len("value") && unicode.IsUpper(rune(name[len("value")])):
		name = "value"
	}
	t.b.WriteString("<li><b>")
	t.escape(spaced(name))
	t.b.WriteString("</b>: ")
	if line, is := t.line(e); is {
		t.escape(line)
	} else {
		t.escape(e.attr("value")) // of a value with something beside it
		t.members(e, false)
	}
	t.b.WriteString("</li>")
}

func (t *telling) escape(s string) {
	for i, line := range strings.Split(s, "\n") {
		if i > 0 {
			t.b.WriteString("<br/>")
		}
		t.b.WriteString(escaper.Replace(plainText(line)))
	}
}

// only reports whether e is made of elements of these names and no more, without a value of its own.
func (e *element) only(names ...string) bool {
	for _, k := range e.kids {
		if k.name != "" && k.name != "id" && !slices.Contains(names, k.name) {
			return false
		}
	}
	return !e.plain() && e.attr("value") == ""
}

// values reports whether the elements within e are values with nothing beside them, those of some names aside.
func (e *element) values(but ...string) bool {
	return !slices.ContainsFunc(e.kids, func(k *element) bool { return k.name != "" && !k.plain() && !slices.Contains(but, k.name) })
}

// line is what an element says in one line, if it can be said so.
func (t *telling) line(e *element) (string, bool) {
	switch {
	case e.plain():
		return e.attr("value"), true
	case e.only("reference", "type", "identifier", "display") && e.values("identifier") && (e.child("reference") != nil || e.child("display") != nil):
		return t.reference(e), true
	case e.only("coding", "text") && e.values("coding") && !slices.ContainsFunc(e.all("coding"), func(c *element) bool { return !c.isCoding() }):
		return t.concept(e), true
	case e.isCoding():
		return t.coding(e), true
	case e.only("start", "end") && e.values():
		return strings.TrimSpace(e.value("start") + " to " + e.value("end")), true
	case e.only("value", "comparator", "unit", "system", "code") && e.values() && e.child("value") != nil && (e.child("unit") != nil || e.child("code") != nil || e.child("comparator") != nil):
		unit, code := e.value("unit"), e.value("code")
		switch {
		case unit == "":
			unit = code
		case code != "" && code != unit:
			unit += " (" + code + ")"
		}
		return strings.TrimSpace(e.value("comparator") + e.value("value") + " " + unit), true
	}
	return "", false
}

// concept is a CodeableConcept: its words, and every coding.
func (t *telling) concept(e *element) string {
	var parts []string
	if text := e.value("text"); text != "" {
		parts = append(parts, text)
	}
	for _, c := range e.all("coding") {
		parts = append(parts, t.coding(c))
	}
	return strings.Join(parts, "; ")
}

// isCoding reports whether e is a Coding and nothing more.
func (e *element) isCoding() bool {
	return e.only("system", "version", "code", "display", "userSelected") && e.values() && (e.child("code") != nil || e.child("display") != nil)
}

func (t *telling) coding(c *element) string {
	code, display := c.value("code"), c.value("display")
	switch {
	case display == "":
		return code
	case code == "":
		return display
	}
	return display + " (" + code + ")"
}

// reference is what a reference is called: by itself, or by what it leads to within the message.
func (t *telling) reference(e *element) string {
	if e == nil {
		return ""
	}
	if display := e.value("display"); display != "" {
		return display
	}
	if label := t.names[versionless(e.value("reference"))]; label != "" {
		return label
	}
	what := e.value("type")
	if what == "" {
		what = "something"
	}
	if id := e.child("identifier"); id != nil && !isNHSNumber(id.value("system")) && id.value("value") != "" {
		return id.value("value") + " (" + what + " that is not in this message)"
	}
	return what + " that is not in this message"
}
