package hl7v2

import (
	"strings"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// moment is a time of a message as FHIR can say it.
type moment struct {
	text  string // a FHIR date or dateTime; "" if there is none, or none that can be read
	raw   string // as it stood
	exact bool   // text says neither more nor less than raw
	full  bool   // text has a time of day
}

// readTime reads a DTM, DT or TS: YYYY[MM[DD[HH[MM[SS[.S…]]]]]][+/-ZZZZ] (HL7 2.5.1 section 2.A.22).
//
// What is partial stays partial. FHIR demands seconds and a zone with a time of day: seconds that were not written are filled with zeros, as
// FHIR allows, and a zone that was not written is that of London on that day. An hour without minutes, and a time that London clocks showed twice
// or never, cannot be said in FHIR: the day is, which claims less. So is a time whose hour is not sure, because the message has another default than
// London's (see message.zone). Wherever text is not all that raw says, raw is kept beside it.
func readTime(raw, unstated string) moment {
	m := moment{raw: raw}
	digits, zone, ok := splitZone(raw)
	if !ok {
		return m
	}
	digits, fraction, dotted := strings.Cut(digits, ".")
	if dotted && (len(digits) != 14 || fraction == "" || !allDigits(fraction)) || !allDigits(digits) || len(digits) < 4 || len(digits) > 14 || len(digits)%2 != 0 {
		return m
	}
	if digits[:4] == "0000" {
		return m
	}
	date := digits[:4]
	if len(digits) >= 6 {
		date += "-" + digits[4:6]
	}
	if len(digits) >= 8 {
		date += "-" + digits[6:8]
	}
	if _, err := record.ParseClinicalTime(date); err != nil {
		return m
	}
	m.text = date
	if len(digits) <= 8 {
		m.exact = zone == ""
		return m
	}
	if len(digits) < 12 {
		return m
	}
	clock := digits[8:10] + ":" + digits[10:12] + ":00"
	if len(digits) == 14 {
		clock = clock[:6] + digits[12:14]
	}
	if digits[8:10] > "23" || digits[10:12] > "59" || clock[6:] > "59" {
		return m
	}
	if zone == "" {
		offset, known := london(date + "T" + clock)
		if !known || unstated != "" && unstated != offset {
			return m
		}
		zone = offset
	} else {
		m.exact = len(digits) == 14
	}
	if dotted {
		clock += "." + fraction
	}
	m.text, m.full = date+"T"+clock+zone, true
	if _, err := record.ParseClinicalTime(m.text); err != nil {
		m.text, m.full, m.exact = date, false, false
	}
	return m
}

// moment reads a time of the segment.
func (s segment) moment(raw string) moment { return readTime(raw, s.zone) }

// foreign returns the zone of MSH-7 where it is not what London's clocks show at that moment, else "". HL7 2.5.1 section 2.15.9.7 makes the zone of
// MSH-7 the default of all times of the message. Whose MSH-7 is London's does not mean that: read so, a message of July would move every time of
// January by an hour. Who writes another zone may mean it, or may write this one time by another clock than the rest. A zone that London never has is
// another whatever the time; of one that it has, a time that is not exact does not say whether it is London's then.
func foreign(sent string) string {
	_, zone, _ := splitZone(sent)
	if zone != "" && zone != "+00:00" && zone != "+01:00" {
		return zone
	}
	m := readTime(sent, "")
	t, err := record.ParseClinicalTime(m.text)
	if zone == "" || !m.full || err != nil || t.Lo.In(record.London).Format("-07:00") == zone {
		return ""
	}
	return zone
}

// splitZone cuts +ZZZZ or -ZZZZ off, and returns it with a colon.
func splitZone(raw string) (digits, zone string, ok bool) {
	i := strings.LastIndexAny(raw, "+-")
	if i < 0 {
		return raw, "", true
	}
	z := raw[i+1:]
	if len(z) != 4 || !allDigits(z) || z > "1400" || z[2:] > "59" {
		return "", "", false
	}
	return raw[:i], raw[i:i+3] + ":" + z[2:], true
}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// london returns the offset of a wall-clock time in London, false if clocks there showed it twice or never.
func london(wall string) (string, bool) {
	t, err := record.ParseClinicalTime(wall)
	if err != nil || t.Hi.Sub(t.Lo) > time.Second {
		return "", false
	}
	local := t.Lo.In(record.London)
	if local.Format("2006-01-02T15:04:05") != wall {
		return "", false
	}
	return local.Format("-07:00"), true
}
