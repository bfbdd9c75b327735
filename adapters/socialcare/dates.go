package socialcare

import (
	"strings"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// dateForms are the forms of dates that a mapping may name, as Go's time package writes them. One with a time of day and no zone is London's.
var dateForms = map[string]string{
	"dd/mm/yyyy": "02/01/2006", "d/m/yyyy": "2/1/2006", "mm/yyyy": "01/2006", "yyyy": "2006", "yyyy-mm": "2006-01", "yyyy-mm-dd": "2006-01-02", "dd-mm-yyyy": "02-01-2006",
	"dd.mm.yyyy": "02.01.2006", "dd/mm/yyyy hh:mm": "02/01/2006 15:04", "dd/mm/yyyy hh:mm:ss": "02/01/2006 15:04:05", "yyyy-mm-dd hh:mm:ss": "2006-01-02 15:04:05",
	"yyyy-mm-ddThh:mm:ss": "2006-01-02T15:04:05", "yyyy-mm-ddThh:mm": "2006-01-02T15:04", "dd Mon yyyy": "02 Jan 2006",
}

var dateFormNames = []string{"dd/mm/yyyy", "d/m/yyyy", "dd-mm-yyyy", "dd.mm.yyyy", "dd Mon yyyy", "mm/yyyy", "yyyy", "yyyy-mm", "yyyy-mm-dd", "dd/mm/yyyy hh:mm",
	"dd/mm/yyyy hh:mm:ss", "yyyy-mm-dd hh:mm:ss", "yyyy-mm-ddThh:mm", "yyyy-mm-ddThh:mm:ss"}

// readDate returns a FHIR date or dateTime; "" for what is no date in any of the forms. exact is false where the text says something that FHIR's form
// does not show, so that it must be kept. What is partial stays partial. instant asks for a time of day: a day alone is none.
func readDate(text string, forms []string, instant bool) (out string, exact bool) {
	if zoned(text) {
		_, clock, _ := strings.Cut(text, "T")
		if _, err := record.ParseClinicalTime(text); err == nil && len(clock) > 8 && clock[5] == ':' { // FHIR demands seconds
			return text, true
		}
		return "", false
	}
	for _, form := range forms {
		layout := dateForms[form]
		t, err := time.Parse(layout, text)
		if err != nil || t.Year() == 0 {
			continue
		}
		switch {
		case strings.Contains(layout, "15"):
			return inLondon(t)
		case instant:
			return "", false
		case !strings.Contains(layout, "1") && !strings.Contains(layout, "Jan"):
			return t.Format("2006"), true
		case !strings.Contains(layout, "2/") && !strings.Contains(layout, "02"):
			return t.Format("2006-01"), true
		}
		return t.Format("2006-01-02"), true
	}
	return "", false
}

// zoned reports whether a text is a time with a zone.
func zoned(s string) bool {
	_, clock, timed := strings.Cut(s, "T")
	return timed && (strings.HasSuffix(clock, "Z") || strings.ContainsAny(clock, "+-"))
}

// inLondon gives a wall-clock time London's offset on that day. One that clocks showed twice or never is the day. It is not exact: the zone was not
// written.
func inLondon(t time.Time) (string, bool) {
	wall := t.Format("2006-01-02T15:04:05")
	c, err := record.ParseClinicalTime(wall)
	if err != nil {
		return "", false
	}
	if local := c.Lo.In(record.London); c.Hi.Sub(c.Lo) <= time.Second && local.Format("2006-01-02T15:04:05") == wall {
		return wall + local.Format("-07:00"), false
	}
	return t.Format("2006-01-02"), false
}
