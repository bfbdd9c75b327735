package socialcare

import (
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

// Problem says what is wrong with a mapping, "" for nothing.
func Problem(text string) string {
	if _, err := readMapping([]byte(text)); err != nil {
		return err.Error()
	}
	return ""
}

// Convert makes a resource of one item by the first collection of a mapping.
func Convert(mappingText string, item []byte) ([]byte, error) {
	m, err := readMapping([]byte(mappingText))
	if err != nil {
		return nil, err
	}
	d, err := fhirjson.Parse(item, fhirjson.Limits{})
	if err != nil {
		return nil, err //nolint:wrapcheck // a test's
	}
	it, _, err := m.resource(m.Collections[0], d.Root(), "C1")
	if err != nil {
		return nil, err
	}
	return it.bytes(), nil
}

// Converter is Convert for many items.
func Converter(mappingText string) (func([]byte) ([]byte, error), error) {
	m, err := readMapping([]byte(mappingText))
	return func(item []byte) ([]byte, error) {
		d, err := fhirjson.Parse(item, fhirjson.Limits{})
		if err != nil {
			return nil, err //nolint:wrapcheck // a test's
		}
		it, _, err := m.resource(m.Collections[0], d.Root(), "C1")
		if err != nil {
			return nil, err
		}
		return it.bytes(), nil
	}, err
}

// ReadDate shows a date.
func ReadDate(text string, instant bool, forms ...string) (string, bool) {
	return readDate(text, forms, instant)
}
