package main

import (
	"strings"

	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// readPurpose reads a purpose's code. None is left to the token.
func readPurpose(s string) (v1.Purpose, error) {
	n, ok := v1.Purpose_value["PURPOSE_"+s]
	switch {
	case s == "":
		return v1.Purpose_PURPOSE_UNSPECIFIED, nil
	case !ok || n == 0:
		return 0, useError("-purpose: TREAT (direct care), ETREAT (urgent care), BTG (break-glass) or PATRQT (your own record, or that of a person whose carer you are)")
	}
	return v1.Purpose(n), nil
}

// readPermission reads the text form of a permission: kind; name=value. What a kind needs is the broker's to check.
func readPermission(s string) (*v1.Permission, error) {
	kind, params, ok := readStated(s)
	n, known := v1.PermissionKind_value["PERMISSION_KIND_"+enumName(kind)]
	if s == "" {
		return nil, nil
	}
	p := &v1.Permission{Kind: v1.PermissionKind(n), On: params["on"], Ref: params["ref"], Reason: params["reason"]}
	delete(params, "on")
	delete(params, "ref")
	delete(params, "reason")
	if !ok || !known || n == 0 || len(params) > 0 {
		return nil, useError("-permission: asked-yes, 'asked-earlier; on=YYYY-MM-DD', 'implied-by-referral; ref=...', 'cannot-ask; reason=...', 'best-interests; reason=...', not-required, asked-no, patient-self or delegated")
	}
	return p, nil
}

// readRelationship reads the text form of a relationship: kind, or kind; ref=value.
func readRelationship(s string) (*v1.Relationship, error) {
	kind, params, ok := readStated(s)
	n, known := v1.RelationshipKind_value["RELATIONSHIP_KIND_"+enumName(kind)]
	if s == "" {
		return nil, nil
	}
	r := &v1.Relationship{Kind: v1.RelationshipKind(n), Ref: params["ref"]}
	delete(params, "ref")
	if !ok || !known || n == 0 || len(params) > 0 {
		return nil, useError("-relationship: registered, referral, admission, appointment, attendance, caseload or self-claimed, with '; ref=...' if there is one")
	}
	return r, nil
}

func enumName(code string) string { return strings.ReplaceAll(strings.ToUpper(code), "-", "_") }

// codeOf is the code of an enum value: its name without the prefix, in lower case with hyphens.
func codeOf(name, prefix string) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, prefix)), "_", "-")
}

// readStated reads kind; name=value; name="quoted value".
func readStated(s string) (kind string, params map[string]string, ok bool) {
	kind, rest, more := strings.Cut(s, ";")
	params = map[string]string{}
	for more {
		var name, value string
		name, rest, ok = strings.Cut(rest, "=")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return "", nil, false
		}
		if rest = strings.TrimSpace(rest); strings.HasPrefix(rest, `"`) {
			if value, rest, ok = strings.Cut(rest[1:], `"`); !ok {
				return "", nil, false
			}
			_, rest, more = strings.Cut(rest, ";")
		} else {
			value, rest, more = strings.Cut(rest, ";")
			value = strings.TrimSpace(value)
		}
		if _, twice := params[name]; twice {
			return "", nil, false
		}
		params[name] = value
	}
	return strings.TrimSpace(kind), params, true
}
