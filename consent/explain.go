package consent

import (
	"time"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Explanation says of a decision, or of a part of one, which rule decided, which of the person's choices if one did, and since when; and in words what that
// means to whoever asked (C-9). It says what is not shown and why. It never says whether there is anything.
type Explanation struct {
	Rule       string
	Reason     Reason
	Preference uint64    // ledger position of the choice that decided, 0 if none did
	Recorded   time.Time // when it was recorded; zero if none decided, or that is not known
	Text       string
}

// Explain explains the decision on the request as a whole.
func (d Decision) Explain() Explanation {
	return explain(d.Reason, d.Rule, d.Preference, d.Recorded)
}

// Explain explains the decision on one part.
func (p Part) Explain() Explanation { return explain(p.Reason, p.Rule, p.Position, p.Recorded) }

func explain(reason Reason, rule string, preference uint64, recorded time.Time) Explanation {
	e := Explanation{Rule: rule, Reason: reason, Text: reason.Text()}
	if _, neutral := neutralReasons[reason]; neutral {
		return Explanation{Reason: reason, Text: e.Text} // the rule would tell the neutral classes from others
	}
	if preference == 0 {
		return e
	}
	e.Preference, e.Recorded = preference, recorded
	if !recorded.IsZero() {
		e.Text += " The person's choice was recorded on " + recorded.In(record.London).Format("2 January 2006") + "."
	}
	return e
}

// ForCarer returns e as a carer may read it. Carers may not see objections (C-10): that a person objected, and when, can turn a carer on them. What an
// objection withholds, and a request that nothing is left of, therefore read as what the person does not let the carer see.
func (e Explanation) ForCarer() Explanation {
	if e.Reason != ReasonObjection && e.Reason != ReasonWithheld {
		return e
	}
	return Explanation{Rule: RuleDelegation, Reason: ReasonDelegation, Text: ReasonDelegation.Text()}
}

var neutralReasons = map[Reason]struct{}{ReasonUnknown: {}, ReasonSuperseded: {}, ReasonInvalidated: {}, ReasonRestricted: {}, ReasonDeceased: {}, ReasonMismatch: {}, ReasonNobody: {}}

// ruleTexts are the rules in plain words, for people at a desk and for the person.
var ruleTexts = map[string]string{
	RuleCannotKnow:     "If it cannot be found out what the person chose, or what is asked, nothing is shown.",
	RulePurpose:        "A record is shown for the person's direct care, to the person, and to a carer whom they let see it.",
	RuleNeutral:        "For some people no record is shown here; the answer is the same as if nobody were found.",
	RuleRole:           "What may be seen depends on the role of whoever asks.",
	RuleExcluded:       "Some things an organisation never shares here.",
	RuleOwnRecord:      "An organisation's own staff see its own record.",
	RuleObjection:      "What the person objects to is not shown.",
	RulePermission:     "Whoever asks says that the person agreed, or why they could not be asked.",
	RuleRelationship:   "Whoever asks says how they are involved in the person's care.",
	RulePermit:         "Nothing stands against it.",
	RuleBreakGlass:     "In an emergency staff may go ahead with a reason, which is recorded and reviewed; an objection still holds, unless the organisation that holds the record has decided otherwise.",
	RulePatientEntered: "What the person entered themselves is shown in their own view only.",
	RuleDelegation:     "A carer sees what the person lets them see, for as long as they let them.",
	RuleTrace:          "If the demographics service cannot say who this is, nothing is shown.",
}

// RuleText says a rule in plain words, "" for what is not a rule of a decision.
func RuleText(rule string) string { return ruleTexts[rule] }

// TextForPerson says to the person whose record it is why somebody's request came out as it did. It is "" for what is not a reason.
func (r Reason) TextForPerson() string {
	switch r {
	case ReasonPermitted:
		return "They were allowed to: they said that you agreed, or why you could not be asked, and how they are involved in your care."
	case ReasonOwnRecord:
		return "They saw what their own organisation holds about you."
	case ReasonBreakGlass:
		return "They went ahead without your permission, as staff may in an emergency. They had to give a reason, and it is reviewed."
	case ReasonOverride:
		return "They went ahead against your wish, as the organisation that holds this allows in an emergency. They had to give a reason, and it is reviewed."
	case ReasonCannotKnow, ReasonTraceUnavailable:
		return "Nothing was shown: it could not be found out at that moment whether it might be."
	case ReasonPurpose:
		return "Nothing was shown: they asked for something that your record is not shown for."
	case ReasonUnknown, ReasonSuperseded, ReasonInvalidated, ReasonRestricted, ReasonDeceased, ReasonMismatch, ReasonNobody:
		return "Nothing was shown: no record could be shown for the details that they gave."
	case ReasonRole:
		return "Nothing was shown: their role may not see it."
	case ReasonRoleSection:
		return "Their role does not include this part of your record, so it was not shown."
	case ReasonNotOwn:
		return "Nothing was shown: somebody asked for your record whom you have not let see it."
	case ReasonNoActingPerson:
		return "Nothing was shown: a system asked without naming the person it acted for."
	case ReasonExcluded:
		return "An organisation does not share this here, so it was not shown."
	case ReasonPatientEntered:
		return "What you enter yourself is shown to you only."
	case ReasonDelegation:
		return "You let this carer see other parts of your record, not this one, so it was not shown."
	case ReasonObjection:
		return "It was not shown, because you objected to it."
	case ReasonAskedNo:
		return "Nothing was shown: they said that they had asked you and you said no."
	case ReasonPermission:
		return "Nothing was shown: they did not say that you agreed, nor why you could not be asked."
	case ReasonRelationship:
		return "Nothing was shown: they did not say how they are involved in your care."
	case ReasonBreakGlassReason:
		return "Nothing was shown: they gave no reason for going ahead without your permission."
	case ReasonChanged:
		return "Nothing more was shown: you changed your choices while they asked."
	case ReasonTooLarge, ReasonBudget, ReasonUnread, ReasonTrouble:
		return "Nothing was shown: the request could not be answered."
	case ReasonWithheld:
		return "Nothing was shown: there was nothing that they might see."
	case ReasonCancelled:
		return "They left before they were answered."
	}
	return ""
}
