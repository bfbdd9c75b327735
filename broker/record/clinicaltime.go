package record

import (
	"errors"
	"time"
	_ "time/tzdata" // Europe/London must be known on a machine without a zone database: the day of a zone-less date depends on it
)

// Precision says how exactly a clinical time was written.
type Precision uint8

// The precisions, widest first.
const (
	Year Precision = iota + 1
	Month
	Day
	Minute
	Second
	Fraction
	Span // a Period, or several points taken together
)

// ClinicalTime is when something in a record happened, as a half-open interval in UTC. The zero value is undated.
// A partial date is never padded: 2019 is the whole of 2019. Text without a zone is a Europe/London day.
type ClinicalTime struct {
	Lo, Hi    time.Time // Lo <= t < Hi; an open end is the zero time
	OpenLo    bool      // the start is not known
	OpenHi    bool      // it goes on, or the end is not known
	Precision Precision
	Element   string // the element that it came from, e.g. "effectiveDateTime"
}

// Dated reports whether there is any time at all.
func (c ClinicalTime) Dated() bool { return c.Precision != 0 }

// Future reports whether all of c lies after now.
func (c ClinicalTime) Future(now time.Time) bool { return c.Dated() && !c.OpenLo && c.Lo.After(now) }

// Overlaps reports whether c and the half-open interval [from, to) share an instant; a zero bound is open.
func (c ClinicalTime) Overlaps(from, to time.Time) bool {
	if !c.Dated() {
		return false
	}
	startsBefore := to.IsZero() || c.OpenLo || c.Lo.Before(to)
	endsAfter := from.IsZero() || c.OpenHi || c.Hi.After(from)
	return startsBefore && endsAfter
}

// ErrClinicalTime is returned for text that is not a FHIR date, dateTime or instant. It never repeats the input.
var ErrClinicalTime = errors.New("not a FHIR date or time: give YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss with a zone")

// London is the zone of dates without one.
var London = func() *time.Location {
	l, err := time.LoadLocation("Europe/London")
	if err != nil {
		panic("the embedded zone database lacks Europe/London")
	}
	return l
}()

// ParseClinicalTime reads a FHIR date, dateTime or instant as an interval (hl7.org/fhir/R4/datatypes.html#dateTime).
// It is lenient where custodians are: seconds may be missing, a zone may be missing (then Europe/London), second 60 is
// the first instant after it, 24:00 is the next midnight. Any number of fraction digits is taken; beyond nanoseconds they are cut.
func ParseClinicalTime(s string) (ClinicalTime, error) {
	bad := func() (ClinicalTime, error) { return ClinicalTime{}, ErrClinicalTime }
	num := func(s string, n int) (int, bool) {
		if len(s) < n {
			return 0, false
		}
		v := 0
		for i := range n {
			if s[i] < '0' || s[i] > '9' {
				return 0, false
			}
			v = v*10 + int(s[i]-'0')
		}
		return v, true
	}
	year, ok := num(s, 4)
	if !ok || year == 0 {
		return bad()
	}
	if len(s) == 4 {
		return day(year, 1, 1, 1, 0, 0, Year), nil
	}
	month, ok := num(s[4:][min(1, len(s)-4):], 2)
	if !ok || s[4] != '-' || month < 1 || month > 12 {
		return bad()
	}
	if len(s) == 7 {
		return day(year, month, 1, 0, 1, 0, Month), nil
	}
	if s[7] != '-' {
		return bad()
	}
	dom, ok := num(s[8:], 2)
	if !ok || dom < 1 || time.Date(year, time.Month(month), dom, 0, 0, 0, 0, time.UTC).Day() != dom {
		return bad()
	}
	if len(s) == 10 {
		return day(year, month, dom, 0, 0, 1, Day), nil
	}
	rest := s[10:]
	if rest[0] != 'T' {
		return bad()
	}
	hour, ok := num(rest[1:], 2)
	if !ok || hour > 24 || len(rest) < 6 || rest[3] != ':' {
		return bad()
	}
	minute, ok := num(rest[4:], 2)
	if !ok || minute > 59 {
		return bad()
	}
	rest = rest[6:]
	sec, nano, width, precision := 0, 0, time.Minute, Minute
	if len(rest) > 0 && rest[0] == ':' {
		if sec, ok = num(rest[1:], 2); !ok || sec > 60 {
			return bad()
		}
		rest, width, precision = rest[3:], time.Second, Second
		if len(rest) > 1 && rest[0] == '.' {
			digits := 0
			unit := int(time.Second)
			for rest = rest[1:]; len(rest) > 0 && rest[0] >= '0' && rest[0] <= '9'; rest = rest[1:] {
				if digits++; digits <= 9 {
					unit /= 10
					nano += unit * int(rest[0]-'0')
				}
			}
			if digits == 0 {
				return bad()
			}
			width, precision = time.Duration(unit), Fraction
		}
	}
	if hour == 24 && (minute != 0 || sec != 0 || nano != 0) {
		return bad()
	}
	zone := London
	switch {
	case rest == "":
	case rest == "Z":
		zone = time.UTC
	case len(rest) == 6 && (rest[0] == '+' || rest[0] == '-') && rest[3] == ':':
		h, ok1 := num(rest[1:], 2)
		m, ok2 := num(rest[4:], 2)
		if !ok1 || !ok2 || h > 14 || m > 59 {
			return bad()
		}
		off := h*3600 + m*60
		if rest[0] == '-' {
			off = -off
		}
		zone = time.FixedZone("", off)
	default:
		return bad()
	}
	lo := time.Date(year, time.Month(month), dom, hour, minute, sec, nano, zone).UTC()
	return ClinicalTime{Lo: lo, Hi: lo.Add(width), Precision: precision}, nil
}

func day(y, m, d, years, months, days int, p Precision) ClinicalTime {
	return ClinicalTime{
		Lo:        time.Date(y, time.Month(m), d, 0, 0, 0, 0, London).UTC(),
		Hi:        time.Date(y+years, time.Month(m+months), d+days, 0, 0, 0, 0, London).UTC(),
		Precision: p,
	}
}
