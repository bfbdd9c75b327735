package authn

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// maxDepth bounds nesting in tokens and key sets. The deepest real one, a CIS2 role, needs three.
const maxDepth = 8

// parseObject is [ReadJSON] for an object.
func parseObject(raw []byte) (map[string]any, error) {
	v, err := ReadJSON(raw, maxDepth)
	if err != nil {
		return nil, err
	}
	object, ok := v.(map[string]any)
	if !ok {
		return nil, errOutsideText
	}
	return object, nil
}

// ReadJSON reads JSON in the one way that every reader must: names that stand twice in an object, or differ only in letter case,
// invalid UTF-8, trailing data and values within more than depth others are refused. encoding/json alone takes the last of two names and matches them
// without regard to case, which has let tokens say two things at once (Vault, CVE-2020-16250). Values are map[string]any, []any,
// string, json.Number, bool and nil. The error says nothing of the text.
func ReadJSON(raw []byte, depth int) (any, error) {
	if !utf8.Valid(raw) || !json.Valid(raw) { // Valid also bounds what Token is given: it alone would pass some broken text
		return nil, errOutsideText
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return nil, errOutsideText
	}
	members, err := count(v, depth)
	if err != nil {
		return nil, err
	}
	if members != names(raw) { // the decoder kept the last of two members with one name
		return nil, errAmbiguousMembers
	}
	return v, nil
}

// count returns how many members a value has, those within it included, and refuses names that differ only in letter case, and what is within more than depth others.
func count(v any, depth int) (members int, err error) {
	if depth < 0 {
		return 0, errOutsideText
	}
	switch v := v.(type) {
	case map[string]any:
		folded := make(map[string]struct{}, len(v))
		for name, inner := range v {
			folded[strings.ToLower(name)] = struct{}{}
			n, err := count(inner, depth-1)
			if err != nil {
				return 0, err
			}
			members += 1 + n
		}
		if len(folded) != len(v) {
			return 0, errAmbiguousMembers
		}
	case []any:
		for _, inner := range v {
			n, err := count(inner, depth-1)
			if err != nil {
				return 0, err
			}
			members += n
		}
	}
	return members, nil
}

// names returns how many members a valid text has: a colon outside a string stands behind each name, and nowhere else.
func names(valid []byte) (n int) {
	inside := false
	for i := 0; i < len(valid); i++ {
		switch c := valid[i]; {
		case c == '"':
			inside = !inside
		case c == '\\':
			i++ // what it escapes ends no string
		case c == ':' && !inside:
			n++
		}
	}
	return n
}
