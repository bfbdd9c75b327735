package cohort

// aisha has bipolar disorder and objects to mental health being shown. What the mental health trust holds, what others coded, and what
// refers to it must all be gone from an answer, and the rest whole.
func (t *town) aisha() {
	p := t.someone(Aisha, "Aisha", "Rahman-Cole", "female", "1993-02-19", "objects to the mental-health section; other entries refer to it")
	p.Objections = []Objection{{Scope: "section", Section: "mental-health", Reason: "She works at the hospital and does not want colleagues to see it."}}

	m := t.at(p, "mentalhealth")
	opened := m.visit("AMB", "2018-03-06T10:00:00Z", "2018-03-06T11:30:00Z", "First assessment, early intervention team", "Bronwen Tregarth")
	bipolar := m.condition("2018-03-06", sct("13746004", "Bipolar disorder"), object{"encounter": opened.ref()})
	m.medicine("2018-03-20", "Lithium carbonate 400mg modified-release tablets", "Two tablets at night", object{"reasonReference": []any{bipolar.ref()}})
	m.add("RiskAssessment", "Risk assessment", t.day(-75), object{"status": "final", "occurrenceDateTime": t.time(-75, "15:00"), "code": said("Risk assessment"),
		"prediction": []any{object{"outcome": said("Relapse"), "qualitativeRisk": said("low while on lithium")}}})
	m.document(t.day(-75), "Crisis plan", sct("736253002", "Mental health crisis plan"),
		"Early signs: sleeping less than four hours, spending. Ring the duty desk before attending the emergency department. Sister: Leila.")
	m.flag(t.day(-75), said("See the crisis plan before acting"), "behavioral")
	m.finding(t.time(-75, "15:30"), said("Clinician's note, not for the patient"), "Discussed with supervisor.", labelled("NOPAT"))
	m.appointment(t.time(9, "13:00"), t.time(9, "13:45"), "Care programme review", "booked", "Bronwen Tregarth")

	g := t.at(p, "gp")
	known := g.condition("2018-03-30", sct("13746004", "Bipolar disorder"), object{"recorder": g.staff("Dr Rosalind Hartwell")})
	thyroid := g.condition("2022-09-14", sct("40930008", "Hypothyroidism"))
	g.list(t.day(-50), "Problems", sct("717711000000103", "Problems"), known, thyroid)
	g.medicine("2022-09-14", "Levothyroxine sodium 75microgram tablets", "One each morning before breakfast", object{"reasonReference": []any{thyroid.ref()}})
	g.medicine("2018-04-02", "Lithium carbonate 400mg modified-release tablets", "Two tablets at night", object{"reasonReference": []any{known.ref()}})
	g.result(t.day(-50), loinc("14334-7", "Lithium, serum"), qty("0.70", "mmol/L"))
	g.result(t.day(-50), loinc("3016-3", "Thyrotropin"), qty("2.4", "m[IU]/L"))
	g.vaccine("2021-06-03", "COVID-19 mRNA vaccine, first dose")

	a := t.at(p, "acute")
	night := a.visit("EMER", t.time(-610, "23:10"), t.time(-609, "03:40"), "Emergency department attendance: wrist injury", "Dr Kofi Asante-Lloyd")
	a.condition(t.day(-610), said("Sprained wrist"), object{"encounter": night.ref()}, resolved(t.day(-590)))
	liaison := a.visit("AMB", t.time(-609, "02:30"), t.time(-609, "03:20"), "Mental health liaison", "Dr Kofi Asante-Lloyd",
		object{"serviceType": sct("391281002", "Mental health assessment"), "partOf": night.ref()})
	a.finding(t.time(-609, "03:15"), said("Liaison outcome"), "Settled. Known to the early intervention team. No new risk.", object{"encounter": liaison.ref()})
	a.report(t.time(-610, "23:55"), said("X-ray of the right wrist"), "No fracture.")
}

// thomas objects to all sharing.
func (t *town) thomas() {
	p := t.someone(Thomas, "Thomas", "Okonkwo-Bell", "male", "1979-12-24", "objects to all sharing: an organisation sees its own record and nothing else")
	p.Objections = []Objection{{Scope: "all", Reason: "He prefers to tell people himself."}}
	g := t.at(p, "gp")
	g.condition("2012-05-17", sct("195967001", "Asthma"))
	g.medicine("2012-05-17", "Salbutamol 100micrograms/dose inhaler", "Two puffs when needed")
	a := t.at(p, "acute")
	a.visit("EMER", "2023-02-11T19:05:00Z", "2023-02-11T23:20:00Z", "Emergency department attendance: acute asthma", "Dr Kofi Asante-Lloyd")
	a.result("2023-02-11T19:40:00Z", loinc("1988-5", "C reactive protein"), qty("12.0", "mg/L"))
}

// eleanor objects to one custodian's record being shown.
func (t *town) eleanor() {
	p := t.someone(Eleanor, "Eleanor", "Wispwood", "female", "1958-08-03", "objects to the county council's record being shown")
	p.Objections = []Objection{{Scope: "custodian", Custodian: "socialcare", Reason: "Family matters that have nothing to do with her health."}}
	g := t.at(p, "gp")
	g.condition("2020-01-15", sct("13645005", "Chronic obstructive pulmonary disease"))
	g.medicine("2020-01-15", "Tiotropium 2.5micrograms/dose inhaler", "Two puffs each morning")
	g.finding(t.time(-90, "10:05"), said("Smoking status"), "Stopped in 2019, thirty pack years.")
	s := t.at(p, "socialcare")
	s.add("EpisodeOfCare", "Carer's support", "2021-03-01", object{"status": "active", "type": []any{said("Carer's support")}, "period": object{"start": "2021-03-01"}})
	s.plan("2021-03-01", "Carer's support plan", "Respite for two weeks a year; sitting service on Thursdays.")
	c := t.at(p, "community")
	c.visit("AMB", t.time(-70, "14:00"), t.time(-70, "14:40"), "Pulmonary rehabilitation, week 1", "Physiotherapist Rhona Struan")
	c.vital(t.time(-70, "14:10"), loinc("2708-6", "Oxygen saturation"), qty("93.0", "%"))
}
