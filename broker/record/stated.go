package record

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// A FieldError names the field of a request that cannot be read and says what to give. It never repeats the value.
type FieldError struct{ Field, Want string }

// Error returns the field and what to give.
func (e *FieldError) Error() string { return e.Field + ": " + e.Want }

// ParsePermission reads the wire form of a permission: `asked-yes`, `asked-earlier; on=2026-01-31`,
// `implied-by-referral; ref="..."`, `cannot-ask; reason="..."`. Empty text is no permission.
func ParsePermission(s string) (Permission, error) {
	const field = "permission"
	kind, params, err := parseStated(field, s)
	if err != nil || kind == "" {
		return Permission{}, err
	}
	p := Permission{Kind: PermissionKind(kind), On: params["on"], Ref: params["ref"], Reason: params["reason"]}
	want := ""
	switch p.Kind {
	case AskedYes, PermissionNotNeeded, AskedNo, PatientSelf, Delegated:
	case AskedEarlier:
		want = "on"
	case ImpliedByReferral:
		want = "ref"
	case CannotAsk, BestInterests:
		want = "reason"
	default:
		return Permission{}, &FieldError{field, "one of asked-yes, asked-earlier, implied-by-referral, cannot-ask, best-interests, not-required, asked-no, patient-self, delegated"}
	}
	for name, value := range params {
		if name != want || strings.TrimSpace(value) == "" {
			return Permission{}, &FieldError{field, kind + " takes " + orNothing(want)}
		}
	}
	if want != "" && params[want] == "" {
		return Permission{}, &FieldError{field, kind + " needs " + want + "="}
	}
	if want == "on" {
		if _, err := time.Parse(time.DateOnly, p.On); err != nil {
			return Permission{}, &FieldError{field, "on= is a day, YYYY-MM-DD"}
		}
	}
	return p, nil
}

// ParseRelationship reads the wire form of a relationship: `admission`, `admission; ref="..."`. Empty text is none;
// what a missing relationship counts as is the transport's to say (the default is self-claimed).
func ParseRelationship(s string) (Relationship, error) {
	const field = "relationship"
	kind, params, err := parseStated(field, s)
	if err != nil || kind == "" {
		return Relationship{}, err
	}
	r := Relationship{Kind: RelationshipKind(kind), Ref: params["ref"]}
	switch r.Kind {
	case Registered, Referral, Admission, Appointment, Attendance, Caseload, SelfClaimed:
	default:
		return Relationship{}, &FieldError{field, "one of registered, referral, admission, appointment, attendance, caseload, self-claimed"}
	}
	ref, given := params["ref"]
	delete(params, "ref")
	if len(params) > 0 || given && strings.TrimSpace(ref) == "" {
		return Relationship{}, &FieldError{field, kind + " takes ref= or nothing"}
	}
	return r, nil
}

func orNothing(s string) string {
	if s == "" {
		return "no parameter"
	}
	return s + "= only"
}

// CheckFreeText holds the rule for any text that people write into a request: UTF-8, at most MaxFreeText bytes, no control characters.
func CheckFreeText(field, s string) error {
	if len(s) > MaxFreeText || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return &FieldError{field, fmt.Sprintf("UTF-8 text of at most %d bytes without control characters", MaxFreeText)}
	}
	return nil
}

// parseStated reads `kind; name=value; name="quoted value"`. A value in quotation marks is taken as it is, and holds none; one
// without them is taken less the blanks around it, and holds none either: so each value can be written again.
func parseStated(field, s string) (string, map[string]string, error) {
	if err := CheckFreeText(field, s); err != nil {
		return "", nil, err
	}
	kind, rest, more := strings.Cut(s, ";")
	kind = strings.TrimSpace(kind)
	params := map[string]string{}
	for more {
		rest = strings.TrimSpace(rest)
		name, value, ok := strings.Cut(rest, "=")
		name = strings.TrimSpace(name)
		if !ok || name == "" || kind == "" {
			return "", nil, &FieldError{field, "kind; name=value"}
		}
		if _, twice := params[name]; twice {
			return "", nil, &FieldError{field, "each name once"}
		}
		value = strings.TrimLeft(value, " ")
		if strings.HasPrefix(value, `"`) {
			end := strings.IndexByte(value[1:], '"')
			if end < 0 {
				return "", nil, &FieldError{field, "close the quotation mark"}
			}
			params[name], rest = value[1:1+end], strings.TrimSpace(value[end+2:])
			if rest != "" && rest[0] != ';' {
				return "", nil, &FieldError{field, "kind; name=value"}
			}
			rest, more = strings.TrimPrefix(rest, ";"), rest != ""
			continue
		}
		value, rest, more = strings.Cut(value, ";")
		if strings.Contains(value, `"`) {
			return "", nil, &FieldError{field, "put the whole value in quotation marks"}
		}
		params[name] = strings.TrimSpace(value)
	}
	return kind, params, nil
}

// String returns the wire form that ParsePermission reads.
func (p Permission) String() string {
	switch {
	case p.On != "":
		return string(p.Kind) + "; on=" + p.On
	case p.Ref != "":
		return string(p.Kind) + `; ref="` + p.Ref + `"`
	case p.Reason != "":
		return string(p.Kind) + `; reason="` + p.Reason + `"`
	}
	return string(p.Kind)
}

// String returns the wire form that ParseRelationship reads.
func (r Relationship) String() string {
	if r.Ref != "" {
		return string(r.Kind) + `; ref="` + r.Ref + `"`
	}
	return string(r.Kind)
}
