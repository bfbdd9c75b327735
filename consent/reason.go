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
	ReasonPurpose          Reason = "purpose"              // C-2.2
	ReasonUnknown          Reason = "unknown"              // C-2.3, and the five below
	ReasonSuperseded       Reason = "superseded"
	ReasonInvalidated      Reason = "invalidated"
	ReasonRestricted       Reason = "restricted"
	ReasonDeceased         Reason = "deceased"
	ReasonMismatch         Reason = "demographics-mismatch" // the second identifier is not the person's
	ReasonRole             Reason = "role"                  // C-2.4
	ReasonRoleSection      Reason = "role-section"          // C-2.4: the role may ask, but not for this section
	ReasonNotOwn           Reason = "not-own-record"        // a person asks for somebody else's
	ReasonNoActingPerson   Reason = "no-acting-person"      // an engine names nobody
	ReasonExcluded         Reason = "excluded"              // C-2.5
	ReasonPatientEntered   Reason = "patient-entered"       // C-5
	ReasonObjection        Reason = "objection"             // C-2.7
	ReasonAskedNo          Reason = "asked-no"              // C-2.8
	ReasonPermission       Reason = "permission"            // C-2.8: missing
	ReasonRelationship     Reason = "relationship"          // C-2.9: missing
	ReasonBreakGlassReason Reason = "break-glass-reason"    // C-3: a reason of at least 10 characters is missing
	ReasonChanged          Reason = "preferences-changed"   // changed twice while the answer was made
	ReasonTooLarge         Reason = "use-stream"            // too large for one message
	ReasonNobody           Reason = "held-by-nobody"
	ReasonTrouble          Reason = "custodians-in-trouble"
	ReasonWithheld         Reason = "withheld"
	ReasonBudget           Reason = "budget"
	ReasonCancelled        Reason = "cancelled"
)
