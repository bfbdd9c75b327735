package documents

import (
	"bytes"
	"encoding/json"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// The resources that are made here. The Composition says what a document is and shows its text by sections; its coded entries stay in the original, which
// can be opened at the address in the DocumentReference that it belongs to.
const (
	// subjectURL is the address, within a reply, of the Patient who was asked about; the merge makes an id with its key (M-5).
	subjectURL   = "urn:mycarerecord:subject"
	ours         = "https://mycarerecord.example/StructureDefinition/"
	extPointer   = ours + "document-reference" // on a Composition: the DocumentReference of the document that it was made of
	absentReason = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
)

// object is a JSON object whose keys are in the order of the alphabet, so that the same document gives the same bytes.
type object = map[string]any

// patient is the Patient of a custodian that lists documents and no people: the number that was asked for, and nothing else.
func patient(n record.NHSNumber) []byte {
	return written(object{"resourceType": "Patient", "identifier": []any{object{"system": record.NHSNumberSystem, "value": n.Reveal()}}})
}

// composition makes the Composition of a document. about is a reference to its subject, pointer the address of its DocumentReference in the reply.
func (d *described) composition(about object, pointer string) []byte {
	c := object{"resourceType": "Composition", "subject": about, "extension": []any{object{"url": extPointer, "valueReference": object{"reference": pointer}}}}
	if d.id.value != "" {
		c["identifier"] = object{"value": d.id.value}
		if d.id.system != "" {
			c["identifier"].(object)["system"] = d.id.system //nolint:forcetypeassert // made above
		}
	}
	set(c, "status", d.status)
	set(c, "date", d.date)
	set(c, "confidentiality", d.level)
	title := d.title
	if title == "" {
		title = d.kindText
	}
	if title == "" && len(d.kind) > 0 {
		title = d.kind[0].display
	}
	set(c, "title", title)
	if k := codeable(d.kind, d.kindText); k != nil {
		c["type"] = k
	} else {
		c["type"] = object{"extension": []any{object{"url": absentReason, "valueCode": "unknown"}}}
	}
	authors := []any{}
	for _, a := range d.authors {
		if a != "" {
			authors = append(authors, object{"display": a})
		}
	}
	if len(authors) == 0 {
		authors = append(authors, object{"extension": []any{object{"url": absentReason, "valueCode": "unknown"}}})
	}
	c["author"] = authors
	if d.holder != "" {
		c["custodian"] = object{"display": d.holder}
	}
	if list := sections(d.sections); len(list) > 0 {
		c["section"] = list
	}
	return written(c)
}

// set sets a primitive, or says that it is not known, where FHIR demands it.
func set(c object, name, value string) {
	switch {
	case value != "":
		c[name] = value
	case name != "confidentiality":
		c["_"+name] = object{"extension": []any{object{"url": absentReason, "valueCode": "unknown"}}}
	}
}

func sections(list []section) []any {
	var out []any
	for _, s := range list {
		o := object{}
		if s.title != "" {
			o["title"] = s.title
		}
		if code := codeable(s.code, s.codeText); code != nil {
			o["code"] = code
		}
		if s.text != "" {
			o["text"] = object{"status": "generated", "div": s.text}
		}
		if inner := sections(s.sections); len(inner) > 0 {
			o["section"] = inner
		}
		if o["text"] == nil && o["section"] == nil { // cmp-1: the text of it is in the original only
			o["emptyReason"] = object{"coding": []any{object{"system": "http://terminology.hl7.org/CodeSystem/list-empty-reason", "code": "unavailable"}}}
		}
		out = append(out, o)
	}
	return out
}

func codeable(list []coding, text string) object {
	if len(list) == 0 && text == "" {
		return nil
	}
	o := object{}
	var codings []any
	for _, c := range list {
		x := object{"code": c.code}
		if c.system != "" {
			x["system"] = c.system
		}
		if c.display != "" {
			x["display"] = c.display
		}
		codings = append(codings, x)
	}
	if codings != nil {
		o["coding"] = codings
	}
	if text != "" {
		o["text"] = text
	}
	return o
}

// written writes an object of strings.
func written(o object) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(o) != nil {
		panic("documents: strings are always written")
	}
	return bytes.TrimSpace(b.Bytes())
}
