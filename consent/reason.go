package consent

// Reason is why a decision is what it is. The list is closed (C-9).
type Reason string

// The reasons.
const (
	ReasonPermitted        Reason = "permitted"            // C-2.10
	ReasonOwnRecord        Reason = "own-record"           // C-2.6
	ReasonBreakGlass       Reason = "break-glass"          // C-2.8, C-2.9: permitted by break-glass
	ReasonOverride         Reason = "objection-overridden" // C-3: break-glass, and the custodian's policy says so
	ReasonCannotKnow       Reason = "cannot-know"          // C-2.1
	ReasonTraceUnavailable Reason = "trace-unavailable"
	ReasonPurpose          Reason = "purpose"              // C-2.2: neither direct care by a professional nor the person's own view
	ReasonUnknown          Reason = "unknown"              // C-2.3, and the five below
	ReasonSuperseded       Reason = "superseded"
	ReasonInvalidated      Reason = "invalidated"
	ReasonRestricted       Reason = "restricted"
	ReasonDeceased         Reason = "deceased"
	ReasonMismatch         Reason = "demographics-mismatch" // the second identifier is not the person's
	ReasonRole             Reason = "role"                  // C-2.4
	ReasonRoleSection      Reason = "role-section"          // C-2.4: the role may ask, but not for this section
	ReasonNotOwn           Reason = "not-own-record"        // C-2.2: a person asks for somebody else's
	ReasonNoActingPerson   Reason = "no-acting-person"      // C-2.4: an engine names nobody
	ReasonExcluded         Reason = "excluded"              // C-2.5
	ReasonPatientEntered   Reason = "patient-entered"       // C-5
	ReasonDelegation       Reason = "delegation"            // C-6: the carer may see the record, but not this part
	ReasonObjection        Reason = "objection"             // C-2.7
	ReasonAskedNo          Reason = "asked-no"              // C-2.8
	ReasonPermission       Reason = "permission"            // C-2.8: missing
	ReasonRelationship     Reason = "relationship"          // C-2.9: missing
	ReasonBreakGlassReason Reason = "break-glass-reason"    // C-3: a reason of at least 10 characters is missing
	ReasonChanged          Reason = "preferences-changed"   // changed twice while the answer was made
	ReasonTooLarge         Reason = "use-stream"            // too large for one message
	ReasonNobody           Reason = "held-by-nobody"
	ReasonTrouble          Reason = "custodians-in-trouble"
	ReasonWithheld         Reason = "withheld" // permitted, but every custodian withholds for a reason of its own
	ReasonBudget           Reason = "budget"
	ReasonCancelled        Reason = "cancelled"
	ReasonUnread           Reason = "unreadable-request" // bad input of a known caller: recorded, nobody traced or asked (L-6)
)

// Reasons lists all reasons, in the order above.
func Reasons() []Reason {
	return []Reason{ReasonPermitted, ReasonOwnRecord, ReasonBreakGlass, ReasonOverride, ReasonCannotKnow, ReasonTraceUnavailable,
		ReasonPurpose, ReasonUnknown, ReasonSuperseded, ReasonInvalidated, ReasonRestricted, ReasonDeceased, ReasonMismatch,
		ReasonRole, ReasonRoleSection, ReasonNotOwn, ReasonNoActingPerson, ReasonExcluded, ReasonPatientEntered, ReasonDelegation, ReasonObjection,
		ReasonAskedNo, ReasonPermission, ReasonRelationship, ReasonBreakGlassReason, ReasonChanged, ReasonTooLarge, ReasonNobody,
		ReasonTrouble, ReasonWithheld, ReasonBudget, ReasonCancelled, ReasonUnread}
}

// neutralText is the one text of every neutral class: who reads it must not be able to tell them apart.
const neutralText = "No record can be shown for these details. Check the NHS number and the date of birth, and trace the person again."

// Text returns one plain sentence or two for the person who asked: what happened and what they can do. It never says what is
// withheld, nor where, nor which of the neutral classes it is. It is "" for what is not a reason.
func (r Reason) Text() string {
	switch r {
	case ReasonPermitted:
		return "You may see this."
	case ReasonOwnRecord:
		return "This is your own organisation's record."
	case ReasonBreakGlass:
		return "Shown by break-glass. Your reason is recorded and will be reviewed."
	case ReasonOverride:
		return "Shown by break-glass against the person's wish, as this organisation allows in an emergency. Your reason is recorded and will be reviewed."
	case ReasonCannotKnow:
		return "It cannot be found out at the moment whether this may be shown. Try again in a few minutes."
	case ReasonTraceUnavailable:
		return "The demographics service cannot be asked at the moment who this is. Try again in a few minutes."
	case ReasonPurpose:
		return "Records are shown for direct care, and to the person themselves, and for nothing else. Give the purpose that you ask for."
	case ReasonUnknown, ReasonSuperseded, ReasonInvalidated, ReasonRestricted, ReasonDeceased, ReasonMismatch, ReasonNobody:
		return neutralText
	case ReasonRole:
		return "Your role may not see records for this purpose. Choose another role if you have one, or ask your information governance team."
	case ReasonRoleSection:
		return "Your role does not include this part of the record."
	case ReasonNotOwn:
		return "You can see only your own record here, and that of a person who lets you. They can write that down under their own name."
	case ReasonDelegation:
		return "The person lets you see other parts of their record, not this one."
	case ReasonNoActingPerson:
		return "The system that asks must name the person who is acting."
	case ReasonExcluded:
		return "The organisation that holds this does not share it here. Ask them for a copy if you need it."
	case ReasonPatientEntered:
		return "What people enter themselves is shown only in their own view."
	case ReasonObjection:
		return "Not shown, at the person's wish. If care depends on it, talk to them, or ring the organisation that may hold it."
	case ReasonAskedNo:
		return "The person was asked and said no."
	case ReasonPermission:
		return "Ask the person, and state their permission to view. If they cannot be asked, state why."
	case ReasonRelationship:
		return "State how you are involved in the person's care."
	case ReasonBreakGlassReason:
		return "Break-glass needs a reason of at least 10 characters."
	case ReasonChanged:
		return "The person's choices changed while the answer was made. Ask again."
	case ReasonTooLarge:
		return "The record is too large for one message. Ask for it as a stream."
	case ReasonTrouble:
		return "Nothing could be shown, and not every organisation could be reached. Try again in a few minutes."
	case ReasonWithheld:
		return "Nothing can be shown here. If care depends on it, ring the organisations that are named."
	case ReasonBudget:
		return "There was too little time left to ask. Allow more time and ask again."
	case ReasonUnread:
		return "The request could not be read. Mend what is named, and send it again."
	case ReasonCancelled:
		return "The request was cancelled before it was answered."
	}
	return ""
}
