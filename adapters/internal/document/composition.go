package document

import (
	"bytes"
	"encoding/json"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// The resources that are made here. The Composition says what a document is and shows its text by sections; its coded entries stay in the original, which
// can be opened at the address in the DocumentReference that it belongs to.
const (
	// SubjectURL is the address, within a reply, of the Patient who was asked about; the merge makes an id with its key (M-5).
	SubjectURL   = "urn:mycarerecord:subject"
	ours         = "https://mycarerecord.example/StructureDefinition/"
	extPointer   = ours + "document-reference" // on a Composition: the DocumentReference of the document that it was made of
	extCoded     = ours + "coded"              // on a Composition: a code that stands as text in it, so that what a custodian never shares is known by it (C-2.5)
	AbsentReason = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
)

// Object is a JSON object whose keys are in the order of the alphabet, so that the same document gives the same bytes.
type Object = map[string]any

// Patient is the Patient of a custodian that lists documents and no people: the number that was asked for, and nothing else.
func Patient(n record.NHSNumber) []byte {
	return Written(Object{"resourceType": "Patient", "identifier": []any{Object{"system": record.NHSNumberSystem, "value": n.Reveal()}}})
}

// Composition makes the Composition of a document. about is a reference to its subject, pointer the address of its DocumentReference in the reply.
func (d *Described) Composition(about Object, pointer string) []byte {
	extensions := []any{Object{"url": extPointer, "valueReference": Object{"reference": pointer}}}
	for _, x := range codings(d.coded) {
		extensions = append(extensions, Object{"url": extCoded, "valueCoding": x})
	}
	c := Object{"resourceType": "Composition", "subject": about, "extension": extensions}
	if list := codings(d.labels); list != nil {
		c["meta"] = Object{"security": list} // C-5
	}
	if d.id.value != "" {
		c["identifier"] = Object{"value": d.id.value}
		if d.id.system != "" {
			c["identifier"].(Object)["system"] = d.id.system //nolint:forcetypeassert // made above
		}
	}
	set(c, "status", d.status)
	set(c, "date", d.Date)
	set(c, "confidentiality", d.level)
	title := d.Title
	if title == "" {
		title = d.KindText
	}
	if title == "" && len(d.Kind) > 0 {
		title = d.Kind[0].display
	}
	set(c, "title", title)
	if k := codeable(d.Kind, d.KindText); k != nil {
		c["type"] = k
	} else {
		c["type"] = Object{"extension": []any{Object{"url": AbsentReason, "valueCode": "unknown"}}}
	}
	authors := []any{}
	for _, a := range d.Authors {
		if a != "" {
			authors = append(authors, Object{"display": a})
		}
	}
	if len(authors) == 0 {
		authors = append(authors, Object{"extension": []any{Object{"url": AbsentReason, "valueCode": "unknown"}}})
	}
	c["author"] = authors
	if d.holder != "" {
		c["custodian"] = Object{"display": d.holder}
	}
	if list := sections(d.Sections); len(list) > 0 {
		c["section"] = list
	}
	return Written(c)
}

// set sets a primitive, or says that it is not known, where FHIR demands it.
func set(c Object, name, value string) {
	switch {
	case value != "":
		c[name] = value
	case name != "confidentiality":
		c["_"+name] = Object{"extension": []any{Object{"url": AbsentReason, "valueCode": "unknown"}}}
	}
}

func sections(list []Section) []any {
	var out []any
	for _, s := range list {
		o := Object{}
		if s.title != "" {
			o["title"] = s.title
		}
		if code := codeable(s.code, s.codeText); code != nil {
			o["code"] = code
		}
		if s.Text != "" {
			o["text"] = Object{"status": "generated", "div": s.Text}
		}
		if inner := sections(s.Sections); len(inner) > 0 {
			o["section"] = inner
		}
		if o["text"] == nil && o["section"] == nil { // cmp-1: the text of it is in the original only
			o["emptyReason"] = Object{"coding": []any{Object{"system": "http://terminology.hl7.org/CodeSystem/list-empty-reason", "code": "unavailable"}}}
		}
		out = append(out, o)
	}
	return out
}

func codeable(list []coding, text string) Object {
	if len(list) == 0 && text == "" {
		return nil
	}
	o := Object{}
	if list := codings(list); list != nil {
		o["coding"] = list
	}
	if text != "" {
		o["text"] = text
	}
	return o
}

func codings(list []coding) (out []any) {
	for _, c := range list {
		x := Object{"code": c.Code}
		if c.system != "" {
			x["system"] = c.system
		}
		if c.display != "" {
			x["display"] = c.display
		}
		out = append(out, x)
	}
	return out
}

// Written writes an object of strings.
func Written(o Object) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(o) != nil {
		panic("document: strings are always written")
	}
	return bytes.TrimSpace(b.Bytes())
}
