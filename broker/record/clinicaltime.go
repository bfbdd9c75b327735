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
	Start     Precision // of a Span whose start is known: how exactly that was written
	Element   string    // the element that it came from, e.g. "effectiveDateTime"
}

// Dated reports whether there is any time at all.
func (c ClinicalTime) Dated() bool { return c.Precision != 0 }

// StartPrecision is how exactly Lo was written, 0 where the start is not known.
func (c ClinicalTime) StartPrecision() Precision {
	if c.Precision == Span {
		return c.Start
	}
	return c.Precision
}

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
//
// A zone-less time in the hour that is there twice when summer time ends is the interval from the first reading to the end of
// the second: which was meant is not known. One in the hour that is left out when it begins is read as if it had not begun.
//
// The error is always [ErrClinicalTime].
func ParseClinicalTime(s string) (ClinicalTime, error) {
	p := timeText{rest: s}
	year := p.digits(4)
	if p.bad || year == 0 {
		return ClinicalTime{}, ErrClinicalTime
	}
	if p.rest == "" {
		return days(year, 1, 1, 1, 0, 0, Year), nil
	}
	p.skip('-')
	month := p.digits(2)
	if p.bad || month < 1 || month > 12 {
		return ClinicalTime{}, ErrClinicalTime
	}
	if p.rest == "" {
		return days(year, month, 1, 0, 1, 0, Month), nil
	}
	p.skip('-')
	dom := p.digits(2)
	if p.bad || dom < 1 || time.Date(year, time.Month(month), dom, 0, 0, 0, 0, time.UTC).Day() != dom {
		return ClinicalTime{}, ErrClinicalTime
	}
	if p.rest == "" {
		return days(year, month, dom, 0, 0, 1, Day), nil
	}
	p.skip('T')
	hour := p.digits(2)
	p.skip(':')
	minute := p.digits(2)
	if p.bad || hour > 24 || minute > 59 {
		return ClinicalTime{}, ErrClinicalTime
	}
	sec, nano, width, precision := 0, 0, time.Minute, Minute
	if p.at(':') {
		p.skip(':')
		sec, width, precision = p.digits(2), time.Second, Second
		if p.at('.') {
			p.skip('.')
			nano, width = p.fraction()
			precision = Fraction
		}
	}
	offset, zoned := p.zone()
	if p.bad || p.rest != "" || sec > 60 || hour == 24 && (minute != 0 || sec != 0 || nano != 0) {
		return ClinicalTime{}, ErrClinicalTime
	}
	wall := time.Date(year, time.Month(month), dom, hour, minute, sec, nano, time.UTC)
	if zoned {
		lo := wall.Add(-offset)
		return ClinicalTime{Lo: lo, Hi: lo.Add(width), Precision: precision}, nil
	}
	first, last := inLondon(wall)
	return ClinicalTime{Lo: first, Hi: last.Add(width), Precision: precision}, nil
}

// timeText is what is left to read of a date or time. Once bad it stays so.
type timeText struct {
	rest string
	bad  bool
}

func (p *timeText) at(c byte) bool { return p.rest != "" && p.rest[0] == c }

func (p *timeText) skip(c byte) {
	if p.bad = p.bad || !p.at(c); !p.bad {
		p.rest = p.rest[1:]
	}
}

func (p *timeText) digits(n int) (v int) {
	for range n {
		if p.bad = p.bad || p.rest == "" || p.rest[0] < '0' || p.rest[0] > '9'; p.bad {
			return 0
		}
		v, p.rest = v*10+int(p.rest[0]-'0'), p.rest[1:]
	}
	return v
}

// fraction reads at least one digit, and returns the nanoseconds and the width of the last digit that counts.
func (p *timeText) fraction() (nano int, width time.Duration) {
	unit := int(time.Second)
	v := p.digits(1)
	for !p.bad {
		if unit > 1 {
			unit /= 10
			nano += v * unit
		}
		if p.rest == "" || p.rest[0] < '0' || p.rest[0] > '9' {
			break
		}
		v = p.digits(1)
	}
	return nano, time.Duration(unit)
}

// zone reads Z or an offset of at most 14 hours; given is false if there is none.
func (p *timeText) zone() (offset time.Duration, given bool) {
	if p.bad || p.rest == "" {
		return 0, false
	}
	if p.at('Z') {
		p.skip('Z')
		return 0, true
	}
	west := p.at('-')
	if p.bad = !west && !p.at('+'); p.bad {
		return 0, false
	}
	p.rest = p.rest[1:]
	h := p.digits(2)
	p.skip(':')
	m := p.digits(2)
	if h > 14 || m > 59 || h == 14 && m > 0 {
		p.bad = true
	}
	offset = time.Duration(h)*time.Hour + time.Duration(m)*time.Minute
	if west {
		offset = -offset
	}
	return offset, true
}

// days returns the interval from midnight in London, so many years, months and days long.
func days(y, m, d, years, months, count int, p Precision) ClinicalTime {
	lo, _ := inLondon(time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC))
	hi, _ := inLondon(time.Date(y+years, time.Month(m+months), d+count, 0, 0, 0, 0, time.UTC))
	return ClinicalTime{Lo: lo, Hi: hi, Precision: p}
}

// inLondon returns the first and the last instant at which clocks in London showed what wall shows in UTC. They differ only in
// an hour that was there twice. time.Date leaves open which one it gives (its documentation says so), so it is not asked.
func inLondon(wall time.Time) (first, last time.Time) {
	offset := func(t time.Time) time.Duration {
		_, seconds := t.In(London).Zone()
		return time.Duration(seconds) * time.Second
	}
	// No offset of London was ever a day, and it never changed twice within two days.
	before, after := offset(wall.Add(-24*time.Hour)), offset(wall.Add(24*time.Hour))
	first, last = wall.Add(-before), wall.Add(-after)
	switch okFirst, okLast := offset(first) == before, offset(last) == after; {
	case okFirst && okLast && last.Before(first):
		return last, first
	case okFirst && okLast:
		return first, last
	case okLast:
		return last, last
	}
	return first, first // or the clocks never showed it: as if the change had not been
}
