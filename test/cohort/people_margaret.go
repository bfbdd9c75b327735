package cohort

// margaret is known to everybody: a long history, and every section of a record.
func (t *town) margaret() {
	p := t.someone(Margaret, "Margaret Elsie", "Thornbury", "female", "1941-06-02", "known to all nine; every section, sixty years of history")
	t.margaretsPractice(p)
	t.margaretsHospital(p)
	t.margaretsCommunity(p)
	t.margaretsCouncil(p)

	m := t.at(p, "mentalhealth")
	clinic := m.visit("AMB", t.time(-160, "10:30"), t.time(-160, "11:45"), "Memory clinic assessment", "Bronwen Tregarth")
	m.condition(t.day(-160), sct("386805003", "Mild cognitive disorder"), object{"encounter": clinic.ref()})
	m.add("QuestionnaireResponse", "Cognitive assessment", t.day(-160), object{"status": "completed", "authored": t.time(-160, "11:20"), "encounter": clinic.ref(),
		"item": []any{object{"linkId": "1", "text": "Total score out of 100", "answer": []any{object{"valueInteger": 84}}}}})
	m.document(t.day(-158), "Memory clinic letter to GP", sct("823681000000100", "Outpatient letter"),
		"Thank you for referring Mrs Thornbury. Score 84 of 100. Mild cognitive impairment; daughter agrees she copes well. Review in one year.")

	a := t.at(p, "ambulance")
	call := a.visit("EMER", t.time(-412, "06:48"), t.time(-412, "08:05"), "Fall at home, conveyed to emergency department", "Joss Pemberton-Wray")
	for _, v := range [][3]string{{"8867-4", "Heart rate", "96"}, {"9279-1", "Respiratory rate", "20"}, {"2708-6", "Oxygen saturation", "94.0"}, {"9269-2", "Glasgow coma score total", "15"}} {
		unit := map[string]string{"8867-4": "/min", "9279-1": "/min", "2708-6": "%", "9269-2": "{score}"}[v[0]]
		a.vital(t.time(-412, "07:02"), loinc(v[0], v[1]), qty(v[2], unit), object{"encounter": call.ref()})
	}
	a.add("MedicationAdministration", "Morphine sulfate 5 mg intravenously", t.day(-412), object{"status": "completed", "medicationCodeableConcept": said("Morphine sulfate 10mg/1ml injection"),
		"effectiveDateTime": t.time(-412, "07:10"), "context": call.ref(), "dosage": object{"text": "5 mg intravenously", "dose": qty("5.0", "mg")}})

	f := t.at(p, "pharmacy")
	for _, days := range []int{-84, -56, -28} {
		f.dispensed(t.day(days), "Apixaban 5mg tablets", "56", "One tablet twice a day")
		f.dispensed(t.day(days), "Metformin 500mg modified-release tablets", "112", "Two tablets with breakfast and two with the evening meal")
	}
	f.finding(t.time(-28, "15:10"), said("New medicine service"), "Understands why apixaban was started; no bleeding; takes it reliably with a dosette box.")

	n := t.at(p, "nhs111")
	rang := n.visit("VR", t.time(-9, "21:14"), t.time(-9, "21:31"), "111 call: nosebleed while on a blood thinner", "Desmond Ikande")
	n.add("QuestionnaireResponse", "111 triage", t.day(-9), object{"status": "completed", "authored": t.time(-9, "21:29"), "encounter": rang.ref(),
		"item": []any{object{"linkId": "dx", "text": "Disposition", "answer": []any{object{"valueString": "Speak to a clinician from our service within 2 hours"}}}}})

	o := t.at(p, "outofhours")
	seen := o.visit("AMB", t.time(-9, "22:40"), t.time(-9, "22:58"), "Out of hours telephone consultation", "Dr Imogen Castellane")
	o.finding(t.time(-9, "22:55"), said("Outcome"), "Nosebleed stopped with pressure after ten minutes. Continue apixaban. Full blood count with own GP.", object{"encounter": seen.ref()})
}

func (t *town) margaretsPractice(p *Person) {
	g := t.at(p, "gp", object{"_birthDate": object{"extension": []any{object{"url": "http://hl7.org/fhir/StructureDefinition/patient-birthTime", "valueDateTime": "1941-06-02T04:15:00+01:00"}}},
		"generalPractitioner": []any{object{"display": "Dr Rosalind Hartwell"}}})
	hartwell := object{"recorder": g.staff("Dr Rosalind Hartwell")}
	g.add("RelatedPerson", "Daughter", "2019-01-01", object{"relationship": []any{said("daughter, next of kin")}, "name": []any{object{"family": "Thornbury-Oakes", "given": []any{"Judith"}}},
		"telecom": []any{object{"system": "phone", "value": "01632 960311"}}})
	g.procedure("1963", said("Appendicectomy"))
	g.condition("1998-09", sct("396275006", "Osteoarthritis"), hartwell)
	diabetes := g.condition("2014-03-11", sct("44054006", "Diabetes mellitus type 2"), hartwell)
	pressure := g.condition("2009-01-20", sct("38341003", "Hypertensive disorder"), hartwell)
	rhythm := g.condition("2024-11-05", sct("49436004", "Atrial fibrillation"), hartwell)
	kidney := g.condition("2021-07-14", sct("433144002", "Chronic kidney disease stage 3"), hartwell)
	g.condition("2016-02-01", said("Shingles"), resolved("2016-03-15"))
	g.list(t.day(-120), "Problems", sct("717711000000103", "Problems"), diabetes, pressure, rhythm, kidney)
	// She said so and the practice wrote it down: that is no entry of her own.
	g.allergy("1987", sct("91936005", "Allergy to penicillin"), "Widespread rash", object{"criticality": "high", "recorder": g.staff("Dr Rosalind Hartwell"), "asserter": clone(g.person)})

	var sugar []item
	for _, r := range [][2]string{{"2019-05-02", "61"}, {"2021-05-11", "64"}, {"2023-06-07", "57.0"}, {t.day(-240), "54.0"}, {t.day(-58), "53.50"}} {
		sugar = append(sugar, g.result(r[0], loinc("59261-8", "Haemoglobin A1c (IFCC)"), qty(r[1], "mmol/mol"),
			object{"referenceRange": []any{object{"text": "target below 58 mmol/mol"}}}))
	}
	renal := g.result(t.day(-58), loinc("33914-3", "Estimated glomerular filtration rate"), qty("48", "mL/min/{1.73_m2}"))
	g.report(t.day(-58), said("Diabetes annual review bloods"), "HbA1c better; kidney function stable.", sugar[4], renal)
	g.pressure(t.time(-58, "09:20"), "138", "76")
	g.vital(t.time(-58, "09:22"), loinc("29463-7", "Body weight"), qty("71.40", "kg"))

	review := g.visit("AMB", t.time(-58, "09:15"), t.time(-58, "09:40"), "Diabetes annual review", "Nurse Ottoline Birch")
	g.visit("AMB", "2024-11-05T11:00:00Z", "2024-11-05T11:15:00Z", "Palpitations", "Dr Rosalind Hartwell", object{"reasonReference": []any{rhythm.ref()}})
	g.medicine("2014-03-11", "Metformin 500mg modified-release tablets", "Two tablets twice a day with food", object{"reasonReference": []any{diabetes.ref()},
		"courseOfTherapyType": hl7Code("medicationrequest-course-of-therapy", "continuous")})
	g.medicine("2024-11-05", "Apixaban 5mg tablets", "One tablet twice a day", object{"reasonReference": []any{rhythm.ref()}})
	g.medicine("2009-01-20", "Ramipril 5mg capsules", "One each morning", object{"reasonReference": []any{pressure.ref()}})
	// The medicine stands inside the request, as many systems send it.
	g.medicine("2016-02-02", "", "One tablet five times a day for seven days", object{"status": "completed", "medicationCodeableConcept": nil,
		"medicationReference": object{"reference": "#drug"},
		"contained":           []any{object{"resourceType": "Medication", "id": "drug", "code": said("Aciclovir 800mg tablets")}}})
	g.vaccine("2020-12-29", "COVID-19 mRNA vaccine, first dose")
	g.vaccine(t.day(-35), "Influenza vaccine, adjuvanted", object{"performer": []any{object{"actor": g.staff("Nurse Ottoline Birch")}}, "encounter": review.ref()})
	g.add("FamilyMemberHistory", "Mother: stroke", "2009-01-20", object{"status": "completed", "date": "2009-01-20", "relationship": said("mother"),
		"condition": []any{object{"code": sct("230690007", "Stroke"), "onsetAge": object{"value": 79, "unit": "years", "system": "http://unitsofmeasure.org", "code": "a"}}}})
	g.add("ServiceRequest", "Referral to memory clinic", t.day(-190), object{"status": "completed", "intent": "order", "code": said("Referral to memory clinic"), "authoredOn": t.time(-190, "17:05")})
	g.add("Basic", "Practice administration", t.day(-300), object{"code": said("Large-print letters sent"), "created": t.day(-300)})
	g.add("Communication", "Message about the influenza clinic", t.day(-40), object{"status": "completed", "sent": t.time(-40, "08:00"),
		"payload": []any{object{"contentString": "Your influenza vaccination is due. Please book at Rivermead Surgery."}}})
	g.appointment(t.time(12, "09:10"), t.time(12, "09:20"), "Full blood count", "booked", "Nurse Ottoline Birch")
}

func (t *town) margaretsHospital(p *Person) {
	a := t.at(p, "acute")
	arrived := a.visit("EMER", t.time(-412, "08:12"), t.time(-412, "12:50"), "Emergency department attendance: fall, hip pain", "Dr Kofi Asante-Lloyd",
		object{"location": []any{object{"location": a.place("Emergency Department, Ashford Vale")}}})
	a.add("ImagingStudy", "X-ray of the left hip", t.day(-412), object{"status": "available", "started": t.time(-412, "09:05"), "description": "X-ray of the left hip", "encounter": arrived.ref()})
	stay := a.visit("IMP", t.time(-412, "12:50"), t.time(-403, "14:00"), "Inpatient stay, orthopaedics", "Mr Alaric Venn", object{"partOf": arrived.ref()})
	hip := a.condition(t.day(-412), sct("359817006", "Closed fracture of hip"), object{"encounter": stay.ref(), "category": []any{hl7Code("condition-category", "encounter-diagnosis")}})
	fixed := a.procedure(t.time(-411, "10:20"), sct("52734007", "Total replacement of hip"), object{"encounter": stay.ref(), "reasonReference": []any{hip.ref()},
		"performer": []any{object{"actor": a.staff("Mr Alaric Venn")}}})
	blood := a.result(t.time(-411, "06:30"), loinc("718-7", "Haemoglobin"), qty("118.0", "g/L"))
	salts := a.result(t.time(-411, "06:30"), loinc("2823-3", "Potassium"), qty("4.10", "mmol/L"))
	a.report(t.time(-411, "07:45"), sct("721981007", "Diagnostic studies report"), "Mild anaemia before operation.", blood, salts)
	letter := a.document(t.day(-403), "Discharge summary, orthopaedics", sct("373942005", "Discharge summary"),
		"Fell at home. Left hip replaced. Home with community nursing for the wound and a package of care. Apixaban restarted on day 5.",
		object{"context": object{"encounter": []any{stay.ref()}, "period": object{"start": t.day(-412), "end": t.day(-403)}}})
	a.add("Composition", "Discharge summary, orthopaedics (structured)", t.day(-403), object{"status": "final", "type": sct("373942005", "Discharge summary"),
		"title": "Discharge summary, orthopaedics (structured)", "date": t.time(-403, "13:30"), "author": []any{a.staff("Mr Alaric Venn")}, "encounter": stay.ref(),
		"section": []any{object{"title": "Diagnoses", "entry": []any{hip.ref()}}, object{"title": "Procedures", "entry": []any{fixed.ref()}}, object{"title": "Documents", "entry": []any{letter.ref()}}}})
	a.appointment(t.time(26, "14:30"), t.time(26, "14:50"), "Orthopaedic follow-up, one year", "booked", "Mr Alaric Venn")
	a.appointment(t.time(-200, "10:00"), t.time(-200, "10:20"), "Orthopaedic follow-up, six months", "fulfilled", "Mr Alaric Venn")
}

func (t *town) margaretsCommunity(p *Person) {
	c := t.at(p, "community")
	wound := c.condition(t.day(-402), said("Surgical wound, left hip"), resolved(t.day(-377)))
	for _, days := range []int{-401, -397, -393, -386, -377} {
		visit := c.visit("HH", t.time(days, "11:10"), t.time(days, "11:35"), "District nurse visit", "Sister Philippa Dunmore", object{"reasonReference": []any{wound.ref()}})
		c.finding(t.time(days, "11:25"), said("Wound assessment"), "Clean, dry, healing. Dressing changed.", object{"encounter": visit.ref()})
	}
	c.plan(t.day(-401), "Wound care plan", "Dressing twice a week until healed.", object{"status": "completed", "period": object{"start": t.day(-401), "end": t.day(-377)}, "addresses": []any{wound.ref()}})
	frame := c.add("Device", "Walking frame", t.day(-400), object{"status": "active", "type": said("Walking frame"), "serialNumber": "WF-0042"})
	c.add("DeviceUseStatement", "Walking frame in use", t.day(-400), object{"status": "active", "device": frame.ref(), "timingPeriod": object{"start": t.day(-400)}})
}

func (t *town) margaretsCouncil(p *Person) {
	s := t.at(p, "socialcare")
	team := s.team(t.day(-404), "Home care team", "Farida Quayle", "lead co-ordinator")
	need := s.add("QuestionnaireResponse", "Care Act assessment", t.day(-405), object{"status": "completed", "authored": t.time(-405, "14:00"),
		"item": []any{object{"linkId": "wash", "text": "Washing and dressing", "answer": []any{object{"valueString": "Needs help in the mornings"}}},
			object{"linkId": "meals", "text": "Preparing meals", "answer": []any{object{"valueString": "Manages with ready meals"}}}}})
	aim := s.add("Goal", "Wash and dress alone again", t.day(-404), object{"lifecycleStatus": "active", "description": said("Wash and dress alone again"), "startDate": t.day(-404)})
	s.plan(t.day(-403), "Package of care", "One visit each morning, 30 minutes, seven days a week.", object{"careTeam": []any{team.ref()}, "goal": []any{aim.ref()}, "supportingInfo": []any{need.ref()}})
	s.flag("2022-04-01", said("Key safe by the front door; knock first, hard of hearing"), "admin")
	s.add("EpisodeOfCare", "Reablement", t.day(-403), object{"status": "finished", "type": []any{said("Reablement")}, "period": object{"start": t.day(-403), "end": t.day(-361)}})
	s.add("Task", "Annual review of the package of care", t.day(-30), object{"status": "requested", "intent": "order", "description": "Annual review of the package of care", "authoredOn": t.time(-30, "09:00"),
		"executionPeriod": object{"start": t.day(21)}, "owner": s.staff("Farida Quayle")})
}
