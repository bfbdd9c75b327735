package authn

import (
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Stated is what a launch wrote into the token about the question, in the wire forms of broker/record. Empty fields say nothing.
type Stated struct {
	Subject      record.NHSNumber
	Purpose      string
	Permission   string
	Relationship string
}

// Asked is what a request states about itself.
type Asked struct {
	Subject      record.NHSNumber
	Purpose      record.Purpose
	Permission   record.Permission
	Relationship record.Relationship
}

// A DisagreementError says that token and request state different things. It names the field and holds neither value.
type DisagreementError struct{ Field string }

// Error returns the field and what to do.
func (e *DisagreementError) Error() string {
	return e.Field + ": the token states another one than the request: state it once, or the same"
}

// Reconcile fills what the request leaves out from the token. What both state must be equal, else a [*DisagreementError].
func (s Stated) Reconcile(a Asked) (Asked, error) {
	if !s.Subject.IsZero() {
		if !a.Subject.IsZero() && a.Subject != s.Subject {
			return Asked{}, &DisagreementError{"nhs number"}
		}
		a.Subject = s.Subject
	}
	if s.Purpose != "" {
		if a.Purpose != "" && string(a.Purpose) != s.Purpose {
			return Asked{}, &DisagreementError{"purpose"}
		}
		a.Purpose = record.Purpose(s.Purpose)
	}
	if s.Permission != "" {
		if a.Permission.Kind != record.PermissionNone && a.Permission.String() != s.Permission {
			return Asked{}, &DisagreementError{"permission"}
		}
		a.Permission, _ = record.ParsePermission(s.Permission) // it was read when the token was
	}
	if s.Relationship != "" {
		if a.Relationship.Kind != record.RelationshipNone && a.Relationship.String() != s.Relationship {
			return Asked{}, &DisagreementError{"relationship"}
		}
		a.Relationship, _ = record.ParseRelationship(s.Relationship) // likewise
	}
	return a, nil
}

// readStated reads what a staff token says about the question. The second result is the name of the check that failed, "" for none.
func readStated(c claims) (Stated, string) {
	var s Stated
	digits, ok := c.text("nhs_number", 10)
	if !ok {
		return s, "nhs number"
	}
	if digits != "" {
		number, err := record.ParseNHSNumber(digits)
		if err != nil {
			return s, "nhs number"
		}
		s.Subject = number
	}
	if s.Purpose, ok = c.text("purpose_of_use", 16); !ok || s.Purpose != "" && !record.Purpose(s.Purpose).Valid() {
		return s, "purpose"
	}
	text, ok := c.text("permission_to_view", record.MaxFreeText)
	permission, err := record.ParsePermission(text)
	if !ok || err != nil {
		return s, "permission"
	}
	s.Permission = permission.String()
	text, ok = c.text("care_relationship", record.MaxFreeText)
	relationship, err := record.ParseRelationship(text)
	if !ok || err != nil {
		return s, "relationship"
	}
	s.Relationship = relationship.String()
	return s, ""
}
