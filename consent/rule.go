package consent

// The rules that a decision can name, from the project's design: section 4 (C), and section 3 for the trace.
// C-2 is an ordered list; the first that hits decides.
const (
	RuleCannotKnow     = "C-2.1"  // cannot find out: refuse
	RulePurpose        = "C-2.2"  // neither direct care by a professional, nor the person's own view or their carer's: refuse
	RuleNeutral        = "C-2.3"  // a neutral class: neutral
	RuleRole           = "C-2.4"  // the role may not ask: refuse; not for this section: withheld
	RuleExcluded       = "C-2.5"  // the custodian never shares it: withheld
	RuleOwnRecord      = "C-2.6"  // the requester's organisation is the custodian: permit
	RuleObjection      = "C-2.7"  // an objection in force: withheld
	RulePermission     = "C-2.8"  // permission asked-no or missing: refuse, or break-glass
	RuleRelationship   = "C-2.9"  // relationship missing: refuse, or break-glass
	RulePermit         = "C-2.10" // permit
	RuleBreakGlass     = "C-3"    // break-glass needs a reason; over an objection only where the custodian says so
	RulePatientEntered = "C-5"    // what the person entered is for their own view only
	RuleDelegation     = "C-6"    // a carer sees what the person lets them see: else withheld
	RuleTrace          = "R-4"    // the demographics service could not be asked
)

// Rules lists the rules in the order above.
func Rules() []string {
	return []string{RuleCannotKnow, RulePurpose, RuleNeutral, RuleRole, RuleExcluded, RuleOwnRecord, RuleObjection, RulePermission,
		RuleRelationship, RulePermit, RuleBreakGlass, RulePatientEntered, RuleDelegation, RuleTrace}
}
