package record

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestParseClinicalTime: each text is the interval of instants that it can mean, in UTC.
func TestParseClinicalTime(t *testing.T) {
	for _, c := range []struct {
		text, lo, hi string
		precision    Precision
	}{
		// Partial dates are the whole of what they say, and never padded.
		{"2019", "2019-01-01T00:00:00Z", "2020-01-01T00:00:00Z", Year},
		{"2019-02", "2019-02-01T00:00:00Z", "2019-03-01T00:00:00Z", Month},
		{"2019-12", "2019-12-01T00:00:00Z", "2020-01-01T00:00:00Z", Month},
		{"2024-02-29", "2024-02-29T00:00:00Z", "2024-03-01T00:00:00Z", Day},
		{"2000-02-29", "2000-02-29T00:00:00Z", "2000-03-01T00:00:00Z", Day},
		{"2019-12-31", "2019-12-31T00:00:00Z", "2020-01-01T00:00:00Z", Day},
		{"0001-01-01", "0001-01-01T00:01:15Z", "0001-01-02T00:01:15Z", Day}, // local mean time, before 1847
		{"9999", "9999-01-01T00:00:00Z", "10000-01-01T00:00:00Z", Year},

		// Days in summer time begin an hour earlier in UTC; those of its change are 23 and 25 hours long.
		{"2019-07-01", "2019-06-30T23:00:00Z", "2019-07-01T23:00:00Z", Day},
		{"2019-06", "2019-05-31T23:00:00Z", "2019-06-30T23:00:00Z", Month},
		{"2019-03", "2019-03-01T00:00:00Z", "2019-03-31T23:00:00Z", Month},
		{"2019-03-31", "2019-03-31T00:00:00Z", "2019-03-31T23:00:00Z", Day},
		{"2019-10-27", "2019-10-26T23:00:00Z", "2019-10-28T00:00:00Z", Day},
		{"1970-01-01", "1969-12-31T23:00:00Z", "1970-01-01T23:00:00Z", Day}, // British Standard Time, 1968 to 1971
		{"1944-06-06", "1944-06-05T22:00:00Z", "1944-06-06T22:00:00Z", Day}, // double summer time

		// Times with a zone.
		{"2019-07-01T10:00:00Z", "2019-07-01T10:00:00Z", "2019-07-01T10:00:01Z", Second},
		{"2019-07-01T10:00:00+01:00", "2019-07-01T09:00:00Z", "2019-07-01T09:00:01Z", Second},
		{"2019-01-01T00:30:00+14:00", "2018-12-31T10:30:00Z", "2018-12-31T10:30:01Z", Second},
		{"2019-12-31T23:30:00-03:30", "2020-01-01T03:00:00Z", "2020-01-01T03:00:01Z", Second},
		{"2019-01-01T00:00:00-00:00", "2019-01-01T00:00:00Z", "2019-01-01T00:00:01Z", Second},
		{"2019-07-01T10:00Z", "2019-07-01T10:00:00Z", "2019-07-01T10:01:00Z", Minute},

		// Times without one are London's.
		{"2019-07-01T10:00:00", "2019-07-01T09:00:00Z", "2019-07-01T09:00:01Z", Second},
		{"2019-01-01T10:00:00", "2019-01-01T10:00:00Z", "2019-01-01T10:00:01Z", Second},
		{"2019-07-01T10:00", "2019-07-01T09:00:00Z", "2019-07-01T09:01:00Z", Minute},
		// The hour that is left out on 31 March 2019 is read as if the clocks had not gone forward.
		{"2019-03-31T00:59:59", "2019-03-31T00:59:59Z", "2019-03-31T01:00:00Z", Second},
		{"2019-03-31T01:30:00", "2019-03-31T01:30:00Z", "2019-03-31T01:30:01Z", Second},
		{"2019-03-31T02:00:00", "2019-03-31T01:00:00Z", "2019-03-31T01:00:01Z", Second},
		// The hour that is there twice on 27 October 2019 may be either.
		{"2019-10-27T00:59:59", "2019-10-26T23:59:59Z", "2019-10-27T00:00:00Z", Second},
		{"2019-10-27T01:00:00", "2019-10-27T00:00:00Z", "2019-10-27T01:00:01Z", Second},
		{"2019-10-27T01:30", "2019-10-27T00:30:00Z", "2019-10-27T01:31:00Z", Minute},
		{"2019-10-27T02:00:00", "2019-10-27T02:00:00Z", "2019-10-27T02:00:01Z", Second},
		{"2019-10-27T01:30:00Z", "2019-10-27T01:30:00Z", "2019-10-27T01:30:01Z", Second}, // but not with a zone

		// Fractions: as many digits as there are, nanoseconds at most.
		{"2019-07-01T10:00:00.5Z", "2019-07-01T10:00:00.5Z", "2019-07-01T10:00:00.6Z", Fraction},
		{"2019-07-01T10:00:00.123Z", "2019-07-01T10:00:00.123Z", "2019-07-01T10:00:00.124Z", Fraction},
		{"2019-07-01T10:00:00.1234567+01:00", "2019-07-01T09:00:00.1234567Z", "2019-07-01T09:00:00.1234568Z", Fraction},
		{"2019-07-01T10:00:00.123456789Z", "2019-07-01T10:00:00.123456789Z", "2019-07-01T10:00:00.12345679Z", Fraction},
		{"2019-07-01T10:00:00.1234567899999Z", "2019-07-01T10:00:00.123456789Z", "2019-07-01T10:00:00.12345679Z", Fraction},
		{"2019-07-01T10:00:00.000Z", "2019-07-01T10:00:00Z", "2019-07-01T10:00:00.001Z", Fraction},
		{"2019-07-01T10:00:00.9", "2019-07-01T09:00:00.9Z", "2019-07-01T09:00:01Z", Fraction},

		// Leap seconds and midnight at the end of a day.
		{"2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z", "2017-01-01T00:00:01Z", Second},
		{"2016-12-31T23:59:60.5Z", "2017-01-01T00:00:00.5Z", "2017-01-01T00:00:00.6Z", Fraction},
		{"2015-07-01T00:59:60+01:00", "2015-07-01T00:00:00Z", "2015-07-01T00:00:01Z", Second},
		{"2019-12-31T24:00:00Z", "2020-01-01T00:00:00Z", "2020-01-01T00:00:01Z", Second},
		{"2019-02-28T24:00", "2019-03-01T00:00:00Z", "2019-03-01T00:01:00Z", Minute},
		{"2019-06-30T24:00:00", "2019-06-30T23:00:00Z", "2019-06-30T23:00:01Z", Second},
	} {
		t.Run(c.text, func(t *testing.T) {
			got, err := ParseClinicalTime(c.text)
			if err != nil {
				t.Fatal(err)
			}
			const form = "2006-01-02T15:04:05.999999999Z07:00"
			if lo, hi := got.Lo.Format(form), got.Hi.Format(form); lo != c.lo || hi != c.hi || got.Precision != c.precision {
				t.Errorf("got %s to %s, precision %d, want %s to %s, precision %d", lo, hi, got.Precision, c.lo, c.hi, c.precision)
			}
			if got.Lo.Location() != time.UTC || got.Hi.Location() != time.UTC || got.OpenLo || got.OpenHi || !got.Dated() || got.Element != "" {
				t.Error("not a closed interval in UTC")
			}
		})
	}
}

func TestParseClinicalTimeRefuses(t *testing.T) {
	for _, text := range []string{
		"", " ", "19", "201", "0000", "0000-01-01", "20190101", "2019-", "2019-1", "2019-00", "2019-13", "2019-1-1", "2019-01-", "2019-01-1",
		"2019-01-00", "2019-01-32", "2019-02-29", "1900-02-29", "2019-04-31", "2019/01/01", "01/02/2019", "2019-01-01 10:00:00Z", "2019-01-01t10:00:00Z",
		"2019-01-01T", "2019-01-01T1", "2019-01-01T10", "2019-01-01T10Z", "2019-01-01T10:", "2019-01-01T10:0", "2019-01-01T10:00:", "2019-01-01T10:00:0Z",
		"2019-01-01T25:00:00Z", "2019-01-01T10:60:00Z", "2019-01-01T10:00:61Z", "2019-01-01T24:00:01Z", "2019-01-01T24:01:00Z", "2019-01-01T24:00:00.001Z",
		"2019-01-01T10:00:00.Z", "2019-01-01T10:00:00.", "2019-01-01T10:00:00,5Z", "2019-01-01T10:00.5Z", "2019-01-01T10:00:00z", "2019-01-01T10:00:00ZZ",
		"2019-01-01T10:00:00+1", "2019-01-01T10:00:00+01", "2019-01-01T10:00:00+0100", "2019-01-01T10:00:00+01:0", "2019-01-01T10:00:00+01:60",
		"2019-01-01T10:00:00+14:01", "2019-01-01T10:00:00+15:00", "2019-01-01T10:00:00+01:00Z", "2019-01-01T10:00:00 Z", "2019-01-01T10:00:00GMT",
		" 2019", "2019 ", "2019\n", "-2019", "+2019", "12019-01-01", "２０１９", "2019-01-01T10:00:00.5.5Z", "about 2019", "2019-01-01T10:00:00\x00",
	} {
		got, err := ParseClinicalTime(text)
		if err != ErrClinicalTime || got != (ClinicalTime{}) {
			t.Errorf("%q: got %v and a time, want ErrClinicalTime", text, err)
		}
	}
}

// TestNothingIsPadded: what is written more exactly lies within what is written less exactly.
func TestNothingIsPadded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := time.Unix(rapid.Int64Range(-2.2e9, 4e9).Draw(t, "unix"), rapid.Int64Range(0, 999_999_999).Draw(t, "nano")).In(London)
		var outer ClinicalTime
		for i, form := range []string{"2006", "2006-01", "2006-01-02", "2006-01-02T15:04", "2006-01-02T15:04:05", "2006-01-02T15:04:05.000", "2006-01-02T15:04:05.0000000"} {
			got, err := ParseClinicalTime(at.Format(form))
			if err != nil {
				t.Fatal(err)
			}
			if got.Lo.After(at) || !got.Hi.After(at) {
				t.Errorf("%s: the instant is not in it", form)
			}
			if i > 0 && (got.Lo.Before(outer.Lo) || got.Hi.After(outer.Hi)) {
				t.Errorf("%s: reaches beyond what is less exact", form)
			}
			outer = got
		}
		zoned, err := ParseClinicalTime(at.Format("2006-01-02T15:04:05Z07:00"))
		if err != nil || !zoned.Lo.Equal(at.Truncate(time.Second)) {
			t.Errorf("with its zone the instant is another: %v", err)
		}
	})
}

func TestFutureAndOverlaps(t *testing.T) {
	day := func(s string) ClinicalTime {
		c, err := ParseClinicalTime(s)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	at := func(s string) time.Time {
		if s == "" {
			return time.Time{}
		}
		return day(s).Lo
	}
	today := day("2026-01-10")
	if day("2026-01-10").Future(today.Lo) || !day("2026-01-11").Future(today.Lo) || day("2026").Future(today.Lo) || (ClinicalTime{}).Future(today.Lo) {
		t.Error("future is what lies whole after now, and has a date")
	}
	if open := (ClinicalTime{OpenLo: true, Hi: at("2027"), Precision: Span}); open.Future(today.Lo) {
		t.Error("what may have begun is not in the future")
	}
	for _, c := range []struct {
		name, from, to string
		time           ClinicalTime
		want           bool
	}{
		{"within", "2026-01-01", "2026-02-01", today, true},
		{"no bounds", "", "", today, true},
		{"from its first instant", "2026-01-10", "", today, true},
		{"from its end", "2026-01-11", "", today, false},
		{"to its first instant", "", "2026-01-10", today, false},
		{"to its end", "", "2026-01-11", today, true},
		{"a year that begins before", "2026-06-01", "2026-06-02", day("2026"), true},
		{"goes on", "2030-01-01", "", ClinicalTime{Lo: at("2020"), OpenHi: true, Precision: Span}, true},
		{"goes on, but later", "", "2019-01-01", ClinicalTime{Lo: at("2020"), OpenHi: true, Precision: Span}, false},
		{"start unknown", "", "1950-01-01", ClinicalTime{OpenLo: true, Hi: at("2020"), Precision: Span}, true},
		{"start unknown, but over", "2021-01-01", "", ClinicalTime{OpenLo: true, Hi: at("2020"), Precision: Span}, false},
		{"undated", "", "", ClinicalTime{}, false},
	} {
		if got := c.time.Overlaps(at(c.from), at(c.to)); got != c.want {
			t.Errorf("%s: got %t, want %t", c.name, got, c.want)
		}
	}
}

func TestStartPrecision(t *testing.T) {
	for _, c := range []struct {
		time ClinicalTime
		want Precision
	}{{ClinicalTime{}, 0}, {ClinicalTime{Precision: Year}, Year}, {ClinicalTime{Precision: Span, Start: Month}, Month}, {ClinicalTime{Precision: Span, OpenLo: true}, 0}} {
		if got := c.time.StartPrecision(); got != c.want {
			t.Errorf("%+v: got %d, want %d", c.time, got, c.want)
		}
	}
}

// FuzzParseClinicalTime: no text makes the parser panic, and what it accepts is an interval that is not empty and keeps to the
// shape of FHIR, the leniences apart.
func FuzzParseClinicalTime(f *testing.F) {
	for _, s := range []string{"2019", "2019-02", "2019-02-28", "2019-10-27T01:30", "2016-12-31T23:59:60Z", "2019-12-31T24:00:00Z", "2019-07-01T10:00:00.1234567+01:00", "2019-01-01T"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseClinicalTime(s)
		if err != nil {
			if err != ErrClinicalTime || c != (ClinicalTime{}) {
				t.Error("another error, or a time with it")
			}
			return
		}
		if !c.Lo.Before(c.Hi) || !c.Dated() {
			t.Errorf("%q is an empty interval", s)
		}
		if strings.Trim(s, "0123456789-:+.TZ") != "" {
			t.Errorf("%q is accepted", s)
		}
		if std, err := time.Parse(time.RFC3339Nano, s); err == nil && c.Precision != Fraction && !c.Lo.Equal(std) {
			t.Errorf("%q: got %v, the standard library reads %v", s, c.Lo, std)
		}
	})
}

func BenchmarkParseClinicalTime(b *testing.B) {
	for _, s := range []string{"2019-07-01T10:00:00.123+01:00", "2019-07-01"} {
		b.Run(s, func(b *testing.B) {
			for b.Loop() {
				if _, err := ParseClinicalTime(s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
