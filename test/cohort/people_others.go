package cohort

import "encoding/base64"

// dev has a short history at one practice, which never stated the status of his number.
func (t *town) dev() {
	p := t.someone(Dev, "Dev", "Chaudhary-Hope", "male", "1988-11-30", "a short history at one practice")
	g := t.at(p, "gp", object{"identifier": []any{object{"system": nhsNumberSystem, "value": Dev}}})
	g.condition("2003", sct("195967001", "Asthma"))
	g.medicine(t.day(-45), "Salbutamol 100micrograms/dose inhaler", "Two puffs when needed")
	g.visit("AMB", t.time(-45, "08:50"), t.time(-45, "09:00"), "Asthma review", "Nurse Ottoline Birch")
}

// george's clinic letter stands at the hospital that wrote it and at the practice that received it, and his allergy is told in two ways.
func (t *town) george() {
	p := t.someone(George, "George", "Featherstone", "male", "1949-03-27", "the same letter at two custodians, and an allergy told in two ways")
	const text = "Echocardiogram: ejection fraction 40 %. Start bisoprolol 1.25 mg. Review in three months."
	same := object{"identifier": []any{object{"system": "https://ashfordvale.example/letters", "value": "CARD-2025-00417"}}, "masterIdentifier": object{"system": "https://ashfordvale.example/letters", "value": "CARD-2025-00417"}}
	letter := sct("823681000000100", "Outpatient letter")
	a := t.at(p, "acute")
	clinic := a.visit("AMB", t.time(-33, "11:00"), t.time(-33, "11:25"), "Cardiology outpatient clinic", "Dr Seraphina Holt")
	a.document(t.day(-31), "Cardiology clinic letter", letter, text, same, object{"context": object{"encounter": []any{clinic.ref()}}})
	failing := a.condition(t.day(-33), sct("84114007", "Heart failure"))
	a.add("Observation", "Left ventricular ejection fraction", t.day(-33), category("imaging"), object{"status": "final", "code": loinc("10230-1", "Left ventricular ejection fraction"),
		"effectiveDateTime": t.time(-33, "10:20"), "valueQuantity": qty("40", "%")})
	a.medicine(t.day(-33), "Bisoprolol 1.25mg tablets", "One each morning", object{"reasonReference": []any{failing.ref()}})
	a.allergy("2015-10-01", sct("91936005", "Allergy to penicillin"), "Anaphylaxis", object{"criticality": "high"})
	a.appointment(t.time(58, "11:00"), t.time(58, "11:20"), "Cardiology review", "booked", "Dr Seraphina Holt")

	g := t.at(p, "gp")
	g.document(t.day(-29), "Letter from cardiology", letter, text, same, object{"author": []any{object{"display": "Ashford Vale University Hospitals"}}})
	g.allergy("1990", sct("91936005", "Allergy to penicillin"), "Mild rash as a child", object{"criticality": "low", "verificationStatus": hl7Code("allergyintolerance-verification", "unconfirmed")})
	g.condition(t.day(-28), sct("84114007", "Heart failure"))
	g.medicine(t.day(-28), "Bisoprolol 1.25mg tablets", "One each morning")
	g.result(t.day(-15), loinc("14682-9", "Creatinine"), qty("104", "umol/L"))
	f := t.at(p, "pharmacy")
	f.dispensed(t.day(-27), "Bisoprolol 1.25mg tablets", "28", "One each morning")
}

// sofia is expecting: most of what matters lies ahead.
func (t *town) sofia() {
	p := t.someone(Sofia, "Sofia", "Lindqvist-Marsh", "female", "1996-05-14", "expecting a child: appointments to come")
	c := t.at(p, "community")
	booking := c.visit("AMB", t.time(-98, "09:30"), t.time(-98, "10:30"), "Midwife booking appointment", "Midwife Carys Bowen")
	c.add("EpisodeOfCare", "Maternity care", t.day(-98), object{"status": "active", "type": []any{said("Maternity care")}, "period": object{"start": t.day(-98)}})
	c.pressure(t.time(-98, "09:50"), "112", "70")
	c.finding(t.time(-98, "10:10"), said("Estimated date of delivery"), t.day(105), object{"encounter": booking.ref(), "valueString": nil, "valueDateTime": t.day(105)})
	c.plan(t.day(-98), "Maternity care plan", "Midwife-led care. Prefers the birth centre; partner Jonas to be present.")
	for _, days := range []int{6, 34, 62} {
		c.appointment(t.time(days, "10:00"), t.time(days, "10:20"), "Antenatal check", "booked", "Midwife Carys Bowen")
	}
	a := t.at(p, "acute")
	a.report(t.time(-56, "13:40"), said("Ultrasound scan, 12 weeks"), "Single live fetus, dates agree.")
	a.appointment(t.time(1, "13:20"), t.time(1, "13:50"), "Ultrasound scan, 20 weeks", "booked", "Dr Marguerite Vane")
	a.appointment(t.time(-20, "13:20"), t.time(-20, "13:50"), "Anaesthetic clinic", "cancelled", "Dr Marguerite Vane")
	g := t.at(p, "gp")
	g.condition(t.day(-110), sct("77386006", "Pregnant"))
	g.vaccine(t.day(-12), "Influenza vaccine")
	g.medicine(t.day(-110), "Folic acid 400microgram tablets", "One daily until 12 weeks", object{"status": "completed"})
}

// callum is a child; part of what is written about him is not for his parents' eyes.
func (t *town) callum() {
	p := t.someone(Callum, "Callum", "Drysdale", "male", "2019-10-09", "a child: immunisations, a safeguarding alert")
	g := t.at(p, "gp")
	for _, v := range [][2]string{{"2019-12-04", "6-in-1 vaccine, first dose"}, {"2020-01-08", "6-in-1 vaccine, second dose"}, {"2020-02-05", "6-in-1 vaccine, third dose"},
		{"2020-10-12", "MMR vaccine, first dose"}, {"2023-02-20", "MMR vaccine, second dose"}} {
		g.vaccine(v[0], v[1])
	}
	g.vaccine("2023-02-20", "4-in-1 pre-school booster", object{"status": "not-done", "statusReason": said("Feverish on the day")})
	g.allergy("2021-08-02", sct("91935009", "Allergy to peanut"), "Swelling of the lips", object{"criticality": "high"})
	g.medicine("2021-08-02", "Adrenaline 150micrograms/0.3ml auto-injector", "As directed")
	g.flag("2024-05-16", said("Child in need plan: discuss concerns with the social worker"), "safety", labelled("NOPAT"))
	g.vital(t.time(-14, "16:00"), loinc("29463-7", "Body weight"), qty("21.30", "kg"))
	s := t.at(p, "socialcare")
	s.team("2024-05-16", "Child in need team", "Farida Quayle", "social worker")
	s.plan("2024-05-16", "Child in need plan", "Support for the family; school and health visitor involved.", labelled("NOPAT"))
	c := t.at(p, "community")
	c.visit("AMB", t.time(-40, "13:15"), t.time(-40, "13:45"), "School nurse, hearing check", "Nurse Odette Farrow")
	o := t.at(p, "outofhours")
	o.visit("AMB", t.time(-230, "19:20"), t.time(-230, "19:40"), "Fever and earache", "Dr Imogen Castellane")
	o.medicine(t.day(-230), "Amoxicillin 250mg/5ml oral suspension", "5 ml three times a day for five days", object{"status": "completed"})
}

// winifred's notes go back to paper: years, months, days without a time, times without a zone, and nothing at all.
func (t *town) winifred() {
	p := t.someone(Winifred, "Winifred", "Ashdown", "female", "1938-01-15", "partial, zone-less and missing dates")
	g := t.at(p, "gp")
	g.procedure("1946", said("Tonsillectomy"))
	g.procedure("1978-05", said("Cholecystectomy"))
	g.condition("1962", said("Pulmonary tuberculosis, treated"), resolved("1963"))
	g.condition("2001-08-14", sct("38341003", "Hypertensive disorder"))
	g.finding("2008-07-01T14:30:00", said("Telephone contact"), "Imported from the paper record; the time carries no zone.")
	g.finding("2009-12-31T23:45", said("Telephone contact"), "Imported from the paper record; minutes only.")
	g.condition("", said("Deafness in the left ear"), object{"onsetDateTime": nil, "onsetString": "as long as she can remember"})
	g.condition("", said("Fractured collar bone"), object{"onsetDateTime": nil, "onsetAge": object{"value": 7, "unit": "years", "system": "http://unitsofmeasure.org", "code": "a"}})
	g.add("Observation", "Height", "", object{"status": "final", "code": loinc("8302-2", "Body height"), "valueQuantity": qty("158.0", "cm")}, category("vital-signs"))
	g.vaccine("", "Smallpox vaccine", object{"occurrenceDateTime": nil, "occurrenceString": "before starting school"})
	g.medicine("2001-08", "Amlodipine 5mg tablets", "One each morning")
	a := t.at(p, "acute")
	a.visit("IMP", "1978-05", "1978-06", "Inpatient stay, general surgery", "Mr Alaric Venn")
	a.report("2012-03-25T00:30:00+00:00", said("Chest X-ray"), "Old apical scarring. Taken half an hour before the clocks went forward.")
	a.report("2012-10-28T01:30:00+01:00", said("Chest X-ray, repeat"), "Unchanged. Taken in the hour that came twice.")
}

// idris has COPD and comes by every urgent door there is.
func (t *town) idris() {
	p := t.someone(Idris, "Idris", "Penhallow", "male", "1955-09-21", "urgent care, again and again")
	g := t.at(p, "gp")
	g.condition("2011-02-08", sct("13645005", "Chronic obstructive pulmonary disease"))
	g.finding(t.time(-130, "09:45"), said("Smoking status"), "Smokes ten a day; declined support.")
	g.medicine("2023-01-16", "Prednisolone 5mg tablets", "Rescue pack: six tablets each morning for five days", object{"status": "on-hold"})
	g.document("2024-08-01", "Emergency health care plan", sct("887701000000100", "Emergency health care plan"), "Target saturation 88 to 92 %. Rescue pack at home. Wants hospital if not better in a day.")
	n, a, e, o := t.at(p, "nhs111"), t.at(p, "acute"), t.at(p, "ambulance"), t.at(p, "outofhours")
	for _, days := range []int{-301, -188, -97, -23} {
		n.visit("VR", t.time(days, "02:10"), t.time(days, "02:22"), "111 call: breathing worse", "Desmond Ikande")
		call := e.visit("EMER", t.time(days, "02:40"), t.time(days, "03:30"), "Breathing difficulty, conveyed", "Joss Pemberton-Wray")
		e.vital(t.time(days, "02:52"), loinc("2708-6", "Oxygen saturation"), qty("84.0", "%"), object{"encounter": call.ref()})
		e.add("MedicationAdministration", "Salbutamol nebules", t.day(days), object{"status": "completed", "medicationCodeableConcept": said("Salbutamol 5mg/2.5ml nebuliser liquid"), "effectiveDateTime": t.time(days, "02:58"), "context": call.ref()})
		stay := a.visit("EMER", t.time(days, "03:35"), t.time(days, "09:10"), "Emergency department attendance: exacerbation of COPD", "Dr Kofi Asante-Lloyd")
		a.result(t.time(days, "04:05"), loinc("1988-5", "C reactive protein"), qty("38.0", "mg/L"), object{"encounter": stay.ref()})
		a.document(t.day(days), "Emergency department summary", loinc("59258-4", "Emergency department discharge summary"), "Exacerbation of COPD. Nebulisers, prednisolone. Home with rescue pack.",
			object{"context": object{"encounter": []any{stay.ref()}}})
	}
	o.visit("AMB", t.time(-60, "20:05"), t.time(-60, "20:20"), "Cough and green phlegm", "Dr Imogen Castellane")
	o.medicine(t.day(-60), "Doxycycline 100mg capsules", "Two today, then one a day for four days", object{"status": "completed"})
	f := t.at(p, "pharmacy")
	f.dispensed(t.day(-59), "Doxycycline 100mg capsules", "6", "Two today, then one a day")
	f.dispensed(t.day(-22), "Prednisolone 5mg tablets", "30", "Six each morning for five days")
}

// grace's entries often belong under two headings at once.
func (t *town) grace() {
	p := t.someone(Grace, "Grace", "Mbeki-Sutton", "female", "1967-04-28", "entries in two sections")
	a := t.at(p, "acute")
	tumour := a.condition("2024-01-30", sct("254837009", "Malignant neoplasm of breast"))
	a.procedure("2024-02-21", said("Wide local excision, left breast"), object{"reasonReference": []any{tumour.ref()}})
	sample := a.add("Specimen", "Left breast tissue", "2024-02-21", object{"type": said("Left breast tissue"), "collection": object{"collectedDateTime": "2024-02-21T10:05:00Z"}})
	a.report("2024-02-27T12:00:00Z", said("Histopathology"), "Invasive ductal carcinoma, grade 2, margins clear.")
	a.result("2024-02-27T12:00:00Z", said("Oestrogen receptor score"), qty("8", "{score}"), object{"specimen": sample.ref()})
	// Emergency care and mental health at once: the class says the one, the service the other.
	a.visit("EMER", "2024-06-02T22:15:00+01:00", "2024-06-03T01:05:00+01:00", "Emergency department attendance: panic", "Dr Kofi Asante-Lloyd", object{"serviceType": sct("391281002", "Mental health assessment")})
	a.flag("2024-03-04", said("Chemotherapy: fever above 38 is an emergency, ring the acute oncology line"), "clinical")
	a.plan("2024-03-04", "Chemotherapy plan", "Six cycles, three-weekly, finished in July 2024.", object{"status": "completed", "period": object{"start": "2024-03-04", "end": "2024-07-15"}})
	c := t.at(p, "community")
	c.result("2024-03-22T08:30:00Z", loinc("6690-2", "White blood cell count"), qty("2.90", "10*9/L"))                                     // a result, and community care
	c.document("2024-07-30", "Lymphoedema clinic letter", sct("823681000000100", "Outpatient letter"), "Sleeve fitted, exercises taught.") // a letter, and community care
	g := t.at(p, "gp")
	g.condition("2024-06-10", sct("197480006", "Anxiety disorder")) // history, and mental health
	g.medicine("2024-06-10", "Sertraline 50mg tablets", "One each morning")
	g.medicine("2024-08-01", "Letrozole 2.5mg tablets", "One each day for five years")
	m := t.at(p, "mentalhealth")
	m.visit("VR", "2024-09-12T16:00:00+01:00", "2024-09-12T16:50:00+01:00", "Talking therapy, session 1", "Bronwen Tregarth")
	m.document("2025-01-20", "Discharge letter, talking therapies", sct("823681000000100", "Outpatient letter"), "Eight sessions. Anxiety much better. Knows how to come back.")
}

// harold has a learning disability: plans, alerts, and a sister who speaks for him.
func (t *town) harold() {
	p := t.someone(Harold, "Harold", "Quillfeather", "male", "1971-11-11", "plans, alerts, reasonable adjustments, a carer, and an entry of his own")
	g := t.at(p, "gp")
	g.condition("1975", sct("84757009", "Epilepsy"))
	g.condition("1974", said("Learning disability"))
	g.medicine("2010-10-05", "Sodium valproate 500mg gastro-resistant tablets", "One twice a day")
	g.flag("2022-11-01", said("Reasonable adjustment: longer appointments, easy-read letters, quiet waiting area"), "admin")
	g.add("RelatedPerson", "Sister", "2019-01-01", object{"relationship": []any{said("sister, lasting power of attorney for health and welfare")}, "name": []any{object{"family": "Quillfeather-Nash", "given": []any{"Dorothea"}}}})
	g.document(t.day(-220), "ReSPECT form", sct("1382601000000107", "ReSPECT form"), "For hospital treatment including ventilation. Agreed with Harold and his sister.")
	g.add("Consent", "Agreement to share with his sister", "2023-05-02", object{"status": "active", "scope": hl7Code("consentscope", "patient-privacy"), "category": []any{said("Agreement to share")}, "dateTime": "2023-05-02",
		"policyRule": said("Agreement to share with his sister")})
	s := t.at(p, "socialcare")
	s.team("2019-04-01", "Supported living team", "Farida Quayle", "lead co-ordinator")
	s.plan("2019-04-01", "Supported living plan", "Own flat, support worker daily, day centre on Tuesdays and Fridays.")
	s.add("SupplyDelivery", "Bed sensor for seizures", t.day(-330), object{"status": "completed", "suppliedItem": object{"itemCodeableConcept": said("Bed sensor for seizures")}, "occurrenceDateTime": t.day(-330)})
	c := t.at(p, "community")
	c.plan(t.day(-150), "Epilepsy care plan", "Buccal midazolam after five minutes of seizure; then ring 999.")
	c.finding(t.time(-150, "10:30"), said("Hospital passport"), "Likes trains. Frightened of needles: use cream and time. Says 'hot' for pain.")
	// What people enter themselves through the trust's app is labelled, and shown to nobody but them.
	c.finding(t.day(-20), said("My diary"), "Went to the railway museum with Dot. Good day.", labelled("PATAST"))
	c.add("Goal", "Swim once a week", t.day(-150), object{"lifecycleStatus": "active", "description": said("Swim once a week"), "startDate": t.day(-150)})
	a := t.at(p, "acute")
	a.visit("IMP", t.time(-700, "18:00"), t.time(-698, "11:00"), "Inpatient stay, neurology", "Dr Seraphina Holt")
	a.appointment(t.time(40, "10:30"), t.time(40, "11:15"), "Epilepsy clinic, long appointment", "booked", "Dr Seraphina Holt")
	e := t.at(p, "ambulance")
	e.flag("2023-01-01", said("Premises: ask for the support worker; key in the safe"), "safety")
}

// nia is at the hospital and in the community, which number their resources alike: Observation/1001 is one thing here and another there.
func (t *town) nia() {
	p := t.someone(Nia, "Nia", "Llewellyn-Frost", "female", "1952-08-30", "two custodians use the same resource ids; her old number is superseded")
	p.replaces(OldNumber)
	a := t.at(p, "acute")
	a.condition("2025-02-10", said("Venous leg ulcer, right"))
	a.report("2025-02-10T14:05:00Z", said("Ankle brachial pressure index"), "Right 1.02, left 1.00: compression is safe.")
	a.result("2025-02-10T13:40:00Z", loinc("718-7", "Haemoglobin"), qty("129.0", "g/L"))
	c := t.at(p, "community")
	ulcer := c.condition("2025-02-18", said("Venous leg ulcer, right"))
	for i, days := range []int{-84, -56, -28, -7} {
		size := []string{"12.50", "9.00", "5.25", "2.10"}[i]
		c.vital(t.time(days, "14:20"), said("Ulcer area"), qty(size, "cm2"), object{"focus": []any{ulcer.ref()}})
	}
	c.plan("2025-02-18", "Compression therapy", "Four-layer bandage weekly; hosiery when healed.", object{"addresses": []any{ulcer.ref()}})
	c.appointment(t.time(7, "14:20"), t.time(7, "14:50"), "Leg clinic", "booked", "Sister Philippa Dunmore")
	g := t.at(p, "gp")
	g.add("MedicationStatement", "Paracetamol bought over the counter", t.day(-60), object{"status": "active", "medicationCodeableConcept": said("Paracetamol 500mg tablets"), "effectivePeriod": object{"start": t.day(-60)}, "dateAsserted": t.day(-60)})
	picture := g.add("Binary", "", t.day(-61), object{"subject": nil, "contentType": "text/plain", "data": base64.StdEncoding.EncodeToString([]byte("Scan of a wound chart (text stands in for the picture)."))})
	g.document(t.day(-61), "Wound chart", said("Wound chart"), "", object{"content": []any{object{"attachment": object{"contentType": "text/plain", "url": "{{base}}/Binary/" + picture.id, "title": "Wound chart"}}}})
	f := t.at(p, "pharmacy")
	f.add("Communication", "Advice on stockings", t.day(-6), object{"status": "completed", "sent": t.time(-6, "12:10"), "payload": []any{object{"contentString": "Fitted and shown how to put on compression stockings."}}})
	f.finding(t.time(-6, "12:00"), said("Blood pressure check service"), "134/78, no action.")
}

// arthur died ten days ago: within the window in which his record may still be asked for.
func (t *town) arthur() {
	p := t.someone(Arthur, "Arthur", "Pemberley", "male", "1939-12-05", "died ten days ago: still within the window")
	p.died(t.day(-10))
	g := t.at(p, "gp", object{"deceasedDateTime": t.day(-10)})
	g.condition("2023-03-14", said("Carcinoma of the pancreas"))
	g.document("2025-01-10", "Advance care plan", sct("736366004", "Advance care plan"), "Wishes to die at home. Daughter Constance to be rung first.")
	c := t.at(p, "community")
	c.visit("HH", t.time(-11, "15:00"), t.time(-11, "16:10"), "Palliative care visit", "Sister Philippa Dunmore")
	c.medicine(t.day(-20), "Morphine sulfate 10mg/1ml injection", "2.5 mg under the skin when needed", object{"status": "stopped"})
	o := t.at(p, "outofhours")
	o.visit("HH", t.time(-10, "04:30"), t.time(-10, "05:10"), "Verification of death at home", "Dr Imogen Castellane")
}
