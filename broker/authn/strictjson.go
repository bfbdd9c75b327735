package authn

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// maxDepth bounds nesting in tokens and key sets. The deepest real one, a CIS2 role, needs three.
const maxDepth = 8

// parseObject reads a JSON object in the one way that every reader must: names that stand twice, or differ only in letter case,
// invalid UTF-8, trailing data and deep nesting are refused. encoding/json alone takes the last of two names and matches them
// without regard to case, which has let tokens say two things at once (Vault, CVE-2020-16250). Values are map[string]any, []any,
// string, json.Number, bool and nil. The error says nothing of the text.
func parseObject(raw []byte) (map[string]any, error) {
	if !utf8.Valid(raw) || !json.Valid(raw) { // Valid also bounds what Token is given: it alone would pass some broken text
		return nil, errOutsideText
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	v, err := parseValue(d, 0)
	if err != nil {
		return nil, err
	}
	object, ok := v.(map[string]any)
	if !ok {
		return nil, errOutsideText
	}
	return object, nil
}

func parseValue(d *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, errOutsideText
	}
	t, err := d.Token()
	if err != nil {
		return nil, errOutsideText
	}
	switch t {
	case json.Delim('{'):
		object, folded := map[string]any{}, map[string]bool{}
		for d.More() {
			name, err := d.Token()
			key, isText := name.(string)
			if err != nil || !isText {
				return nil, errOutsideText
			}
			if folded[strings.ToLower(key)] {
				return nil, errAmbiguousMembers
			}
			folded[strings.ToLower(key)] = true
			if object[key], err = parseValue(d, depth+1); err != nil {
				return nil, err
			}
		}
		_, err := d.Token()
		return object, err
	case json.Delim('['):
		list := []any{}
		for d.More() {
			v, err := parseValue(d, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := d.Token()
		return list, err
	}
	return t, nil
}
