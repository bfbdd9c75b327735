package hl7v2_test

import (
	"fmt"
	"strings"
	"testing"
)

// A field is kept beside its resource unless all of it stands in what is made of it. That a piece stands somewhere else in the resource, or within
// another word, does not count; that it stands in a value which is put together of nothing but the field does.
func TestWhatIsKept(t *testing.T) {
	const (
		pid = "PID|1||9990000034^^^NHS^NH||Baker^Ann||19500102|F"
		obr = "OBR|1||F1|X^Y"
	)
	var lines []string
	for i := range 250 {
		lines = append(lines, fmt.Sprintf("%s%03d", strings.Repeat("Not seen. ", 9), i))
	}
	alike := strings.Join(lines, "~")
	for _, c := range []struct {
		name     string
		segments []string
		kept     string
		want     bool
	}{
		{"a bad address", []string{pid + "|||1 Old Road^^Town^^ZZ99 9ZZ^^BA"}, "PID-11: 1 Old Road^^Town^^ZZ99 9ZZ^^BA", true},
		{"an address for letters, of somebody married", []string{pid + "|||1 Old Road^^Town^^^^M|||||M"}, "PID-11: 1 Old Road^^Town^^^^M", true},
		{"an address at home", []string{pid + "|||1 Old Road^^Town^^ZZ99 9ZZ"}, "PID-11", false},
		{"a prefix", []string{strings.Replace(pid, "Baker", "Vries&de", 1)}, "PID-5: Vries&de^Ann", true},
		{"a name", []string{strings.Replace(pid, "Baker^Ann", `O\T\T "Baker"^Ann^Mary`, 1)}, "PID-5", false},
		{"the extension of a number", []string{pid, "NK1|1|Baker^Bo|||^^^^44^1632^960123^12"}, "NK1-5: ^^^^44^1632^960123^12", true},
		{"a number in pieces", []string{pid, "NK1|1|Baker^Bo|||^^^^44^1632^960123"}, "NK1-5", false},
		{"a place in words", []string{pid, "PV1|1|I|W1^2^3"}, "PV1-3", false},
		{"a professional in words", []string{pid, "PV1|1|I|||||C1^Field^Ida^^^Dr^^^GMC"}, "PV1-7", false},
		{"a professional and the kind of the name", []string{pid, "PV1|1|I|||||C1^Field^Ida^^^Dr^^^GMC^I"}, "PV1-7: C1^Field^Ida^^^Dr^^^GMC^I", true},
		{"lines of a text", []string{pid, obr, "OBX|1|TX|X^Y||One~Two, three~Four||||||F"}, "OBX-5", false},
		{"a time", []string{pid, obr, "OBX|1|NM|X^Y||5||||||F|||20240101080000+0000"}, "OBX-14", false},
		{"the unit of a number", []string{pid, obr, "OBX|1|NM|X^Y in mg||5|mg|||||F"}, "OBX-6", false},
		{"the unit of a text", []string{pid, obr, "OBX|1|NM|X^Y in mg||.5|mg|||||F"}, "OBX-6", false},
		{"the unit of a text, and its name", []string{pid, obr, "OBX|1|NM|X^Y in mg||.5|mg^milligram|||||F"}, "OBX-6: mg^milligram", true},
		{"lines that are much alike", []string{pid, obr, "OBX|1|TX|X^Y||" + alike + "||||||F"}, "OBX-5", false},
		{"more pieces than are looked for", []string{pid, obr, "OBX|1|TX|X^Y||" + strings.Repeat("a~", 300) + "||||||F"}, "OBX-5: a~a~", true},
		{"a piece behind many empty ones", []string{pid + "|||1 Old Road^^Town" + strings.Repeat("^", 300) + "last"}, "PID-11: 1 Old Road^^Town^^^", true},
	} {
		if got := strings.Contains(everything(t, c.segments...), `"valueString":"`+c.kept); got != c.want {
			t.Errorf("%s: kept %v, want %v", c.name, got, c.want)
		}
	}
}

// A unit stands beside every value that has no place for it, where one OBX has several, too.
func TestUnitsOfSeveralValues(t *testing.T) {
	for value, want := range map[string]bool{".5~.7": true, "0.5~.7": true, "0.5~0.7": false, "0.5~": false} {
		r := one(t, "OBX|1|NM|D^Dose given||"+value+"|g|||||F")
		if got := r.text("note", 0, "text") == "Units: g"; got != want {
			t.Errorf("%s: the unit in a note %v, want %v", value, got, want)
		}
	}
}
