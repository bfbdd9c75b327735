package document

import (
	"slices"
	"strings"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// readFHIR reads a FHIR document, STU3 or R4, in XML or JSON: a Bundle with a Composition, also inside a message, as transfers of care and 111 reports are
// sent. A message without one (BaRS) is laid out by its resources.
func readFHIR(root *element) *Described {
	d := &Described{format: "FHIR document"}
	var compositions, patients, all []found
	every(root, nil, 0, func(f found) {
		all = append(all, f)
		switch f.resource.name {
		case "Composition":
			compositions = append(compositions, f)
		case "Patient":
			patients = append(patients, f)
		}
	})
	if len(compositions) != 1 {
		for _, p := range patients {
			d.About.add(p.resource)
		}
		if len(compositions) == 0 {
			d.layOut(root, all)
		}
		return d
	}
	c := compositions[0]
	comp := c.resource
	subject := comp.child("subject")
	if p := c.resolve(subject.value("reference"), patients); p != nil {
		d.About.add(p)
	} else {
		for _, p := range patients {
			d.About.add(p.resource)
		}
	}
	for _, id := range subject.all("identifier") {
		d.About.numbers = append(d.About.numbers, id.numbers()...)
	}
	d.Readable = true
	d.id = identifier{comp.value("identifier", "system"), comp.value("identifier", "value")}
	d.Kind, d.KindText = concept(comp.child("type"))
	d.Title, d.Date = comp.value("title"), validTime(comp.value("date"))
	switch s := comp.value("status"); s {
	case "preliminary", "final", "amended", "entered-in-error":
		d.status = s
	}
	if l := comp.value("confidentiality"); slices.Contains([]string{"U", "L", "M", "N", "R", "V"}, l) {
		d.level = l
	}
	authors := comp.all("author")
	more := max(0, len(authors)-maxAuthors)
	names := c.names(append([]*element{comp.child("custodian")}, authors[:len(authors)-more]...))
	d.holder, d.Authors = names[0], withMore(names[1:], more)
	for _, s := range comp.all("section") {
		d.Sections = append(d.Sections, fhirSection(s, 0))
	}
	return d
}

// found is a resource, and the Bundle that it stands in.
type found struct {
	resource *element
	url      string
	bundle   *element
}

// every finds the resources of a Bundle and of the Bundles in it.
func every(resource, bundle *element, depth int, f func(found)) {
	if depth > 8 || resource == nil {
		return
	}
	if resource.name != "Bundle" {
		f(found{resource, "", bundle})
		return
	}
	for _, e := range resource.all("entry") {
		inner := e.child("resource")
		if inner == nil {
			continue
		}
		for _, r := range inner.kids {
			switch r.name {
			case "":
			case "Bundle":
				every(r, resource, depth+1, f)
			default:
				f(found{r, e.value("fullUrl"), resource})
			}
		}
	}
}

// resolve finds what a reference means among some resources of the same Bundle.
func (f found) resolve(reference string, among []found) *element {
	if reference == "" {
		return nil
	}
	for _, x := range among {
		if x.bundle == f.bundle && (x.url == reference || x.resource.name+"/"+x.resource.value("id") == reference || strings.HasSuffix(x.url, "/"+reference)) {
			return x.resource
		}
	}
	return nil
}

// names are what references to somebody are called, by themselves or by what they lead to in the same Bundle; "" for what is not found. The Bundle is gone
// through once, however many references there are.
func (f found) names(references []*element) []string {
	names := make([]string, len(references))
	wanted := map[string][]int{}
	for i, r := range references {
		names[i] = r.value("display")
		if to := r.value("reference"); names[i] == "" && to != "" {
			wanted[to] = append(wanted[to], i)
		}
	}
	if len(wanted) == 0 {
		return names
	}
	every(f.bundle, nil, 0, func(x found) {
		if x.bundle != f.bundle {
			return
		}
		for _, address := range [...]string{x.url, x.resource.name + "/" + x.resource.value("id"), tail(x.url)} {
			for _, i := range wanted[address] {
				names[i] = x.resource.called()
			}
			delete(wanted, address) // the first counts
		}
	})
	return names
}

// tail is the type and id at the end of an address, "" if it has none.
func tail(url string) string {
	i := strings.LastIndexByte(url, '/')
	if i < 0 {
		return ""
	}
	return url[strings.LastIndexByte(url[:i], '/')+1:]
}

// called is the name of a person, an organisation or a device.
func (e *element) called() string {
	name := e.child("name")
	switch {
	case name.attr("value") != "": // an organisation, a device
		return name.attr("value")
	case name.value("text") != "":
		return name.value("text")
	}
	var parts []string
	for _, part := range [...]string{"prefix", "given", "family"} {
		for _, p := range name.all(part) {
			parts = append(parts, p.attr("value"))
		}
	}
	return strings.Join(parts, " ")
}

func fhirSection(e *element, depth int) Section {
	s := Section{title: e.value("title"), Text: narrative(e.child("text", "div"))}
	s.code, s.codeText = concept(e.child("code"))
	if depth < 16 {
		for _, x := range e.all("section") {
			s.Sections = append(s.Sections, fhirSection(x, depth+1))
		}
	}
	return s
}

func concept(e *element) (list []coding, text string) {
	for _, c := range e.all("coding") {
		if code := c.value("code"); code != "" {
			list = append(list, coding{c.value("system"), code, c.value("display")})
		}
	}
	return list, e.value("text")
}

// add takes from a Patient whom a document is about.
func (p *Person) add(patient *element) {
	for _, id := range patient.all("identifier") {
		if id.value("use") != "old" {
			p.numbers = append(p.numbers, id.numbers()...)
		}
	}
	if born := validTime(patient.value("birthDate")); born != "" {
		p.born = born
	}
	p.family = patient.value("name", "family")
}

// isNHSNumber knows the systems of NHS numbers, those of before and the OIDs of CDA too.
func isNHSNumber(system string) bool {
	switch strings.ToLower(system) {
	case strings.ToLower(record.NHSNumberSystem), "http://fhir.nhs.net/id/nhs-number", "http://fhir.nhs.uk/id/nhs-number", "urn:oid:" + oidNHSNumber, "urn:oid:" + oidNotVerified:
		return true
	}
	return false
}

// validTime returns s if it is a FHIR date or dateTime, and "" if not.
func validTime(s string) string {
	if _, err := record.ParseClinicalTime(s); err != nil {
		return ""
	}
	return s
}
