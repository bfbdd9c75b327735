package hl7v2

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

// Resources are written as text, member by member: what is empty is left out, because FHIR knows no empty values, and numbers go from message to
// resource character by character.

// member is one member of an object. A nil value leaves it out.
type member struct {
	key   string
	value []byte
}

// object returns a JSON object of the members that have a value, nil if none has.
func object(members ...member) []byte {
	size := 2
	for _, m := range members {
		size += len(m.key) + len(m.value) + 4
	}
	out := append(make([]byte, 0, size), '{')
	for _, m := range members {
		if m.value == nil {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(append(out, '"'), m.key...), '"', ':'), m.value...)
	}
	if len(out) == 1 {
		return nil
	}
	return append(out, '}')
}

// array returns a JSON array of the values that are there, nil if none is.
func array(values ...[]byte) []byte {
	var out []byte
	for _, v := range values {
		if v == nil {
			continue
		}
		if out == nil {
			out = append(out, '[')
		} else {
			out = append(out, ',')
		}
		out = append(out, v...)
	}
	if out == nil {
		return nil
	}
	return append(out, ']')
}

// str returns a JSON string, nil for nothing.
func str(s string) []byte {
	if s == "" {
		return nil
	}
	return fhirjson.Quote(s)
}

// trimmed is str without white space around it, for elements whose value has none.
func trimmed(s string) []byte { return str(strings.TrimSpace(s)) }

// extensions of ours. They keep what FHIR has no element for, or what an element cannot hold exactly.
const (
	ours         = "https://mycarerecord.example/StructureDefinition/"
	extOriginal  = ours + "hl7v2-original"      // valueString: the field as it stood, where the element says less or more
	extField     = ours + "hl7v2-field"         // valueString: "OBX-18: …", a field that was not converted
	extSegment   = ours + "hl7v2-segment"       // valueString: a segment that was not converted
	extSystem    = ours + "hl7v2-coding-system" // valueString: the name of a coding system that has no known address
	absentReason = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
)

func extension(url, value string) []byte {
	if value == "" {
		return nil
	}
	return object(member{"url", str(url)}, member{"valueString", str(value)})
}

// original is the member that keeps, beside an element, how it stood.
func original(key, raw string) member {
	return member{"_" + key, object(member{"extension", array(extension(extOriginal, raw))})}
}

// date returns the members of a date or dateTime element.
func date(key string, m moment) []member {
	if m.raw == "" || m.raw == null {
		return nil
	}
	out := []member{{key, str(m.text)}}
	if !m.exact {
		out = append(out, original(key, m.raw))
	}
	return out
}

// instant returns the members of an element that must have a time of day.
func instant(key string, m moment) []member {
	if !m.full {
		m.text, m.exact = "", false
	}
	return date(key, m)
}

// unknownCode is a required code that the message does not give: FHIR's own way to say so.
func unknownCode(key, raw string) member {
	return member{"_" + key, object(member{"extension", array(object(member{"url", str(absentReason)}, member{"valueCode", str("unknown")}), extension(extOriginal, raw))})}
}

// reference is a Reference to a resource of this reply.
func reference(address string) []byte {
	if address == "" {
		return nil
	}
	return object(member{"reference", str(address)})
}

// identity makes an id of what tells a resource from all others. It is a digest, so that no identifier stands in an address.
func identity(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		_, _ = h.Write([]byte(p)) // a hash takes everything
		_, _ = h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
