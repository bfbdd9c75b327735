package record

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"strings"
	"testing"
	texttemplate "text/template"
)

// holders are the ways in which a number comes to stand in other things. Those with unexported fields are the hard ones: fmt
// calls no method there.
type (
	open     struct{ N NHSNumber }
	closed   struct{ n NHSNumber }
	deep     struct{ c closed }
	pointers struct {
		p *NHSNumber
		c *closed
	}
	lists struct {
		list []NHSNumber
		byN  map[NHSNumber]NHSNumber
		any  any
		arr  [2]closed
	}
	embeds  struct{ NHSNumber }
	request struct {
		s Subject
		r Requester
	}
)

// TestNothingPrintsANumber tries every verb and flag, every encoder that the standard library would take, and slog, on numbers
// that stand alone and in everything that may hold them.
func TestNothingPrintsANumber(t *testing.T) {
	const digits = "9990000018"
	n, err := ParseNHSNumber(digits)
	if err != nil {
		t.Fatal(err)
	}
	things := map[string]any{
		"alone": n, "pointer": &n, "open": open{n}, "closed": closed{n}, "closed pointer": &closed{n}, "deep": deep{closed{n}},
		"deep pointer": &deep{closed{n}}, "pointers": pointers{&n, &closed{n}}, "pointer to pointers": &pointers{&n, &closed{n}},
		"lists":   lists{[]NHSNumber{n}, map[NHSNumber]NHSNumber{n: n}, n, [2]closed{{n}, {n}}},
		"slice":   []NHSNumber{n},
		"map":     map[NHSNumber]int{n: 1},
		"to":      map[string]NHSNumber{"n": n},
		"embeds":  embeds{n},
		"subject": Subject{Number: n, Supersedes: []NHSNumber{n}},
		"person":  Requester{Kind: Person, Own: n},
		"both":    request{Subject{Number: n, Supersedes: []NHSNumber{n}}, Requester{Own: n}},
		"error":   fmt.Errorf("with %v: %w", n, ErrNHSNumber),
		"anyway":  []any{n, &n, closed{n}, map[string]any{"n": []NHSNumber{n}}},
		"func":    struct{ f func() NHSNumber }{func() NHSNumber { return n }},
		"chan":    make(chan NHSNumber, 1),
	}
	// The number, as it would stand if each byte were written as a number of base 10 or 16, is looked for too.
	traces := []string{digits, fmt.Sprintf("%x", digits), fmt.Sprintf("%X", digits), fmt.Sprintf("% x", digits),
		strings.Trim(fmt.Sprint([]byte(digits)), "[]"), "999 000 0018", "3B9328F2", "3b9328f2", "9.990000018e"}
	check := func(t *testing.T, how, out string) {
		t.Helper()
		for _, trace := range traces {
			if strings.Contains(out, trace) {
				t.Errorf("%s: the number shows", how)
				return
			}
		}
	}
	for name, thing := range things {
		t.Run(name, func(t *testing.T) {
			for _, flag := range []string{"", "+", "#", " ", "0", "-", "+#", "20", ".20", "-20.15"} {
				for verb := 'A'; verb <= 'z'; verb++ {
					if verb > 'Z' && verb < 'a' {
						continue
					}
					check(t, "%"+flag+string(verb), fmt.Sprintf("%"+flag+string(verb), thing))
				}
			}
			check(t, "Sprint", fmt.Sprint(thing)+fmt.Sprintln(thing)+errors.Join(fmt.Errorf("%v", thing)).Error())

			for how, encode := range map[string]func(*bytes.Buffer) error{
				"json": func(b *bytes.Buffer) error { return json.NewEncoder(b).Encode(thing) },
				"xml":  func(b *bytes.Buffer) error { return xml.NewEncoder(b).Encode(thing) },
				"gob":  func(b *bytes.Buffer) error { return gob.NewEncoder(b).Encode(thing) },
				"template": func(b *bytes.Buffer) error {
					return texttemplate.Must(texttemplate.New("").Parse(`{{.}} {{printf "%#v" .}}`)).Execute(b, thing)
				},
				"html template": func(b *bytes.Buffer) error {
					return template.Must(template.New("").Parse(`<a title="{{.}}">{{.}}<script>{{.}}</script>`)).Execute(b, thing)
				},
				"slog text": func(b *bytes.Buffer) error {
					slog.New(slog.NewTextHandler(b, nil)).With("with", thing).WithGroup("g").Info("m", "k", thing, slog.Any("any", thing), slog.Group("g", "k", thing))
					return nil
				},
				"slog json": func(b *bytes.Buffer) error {
					slog.New(slog.NewJSONHandler(b, nil)).With("with", thing).WithGroup("g").Info("m", "k", thing, slog.Any("any", thing), slog.Group("g", "k", thing))
					return nil
				},
			} {
				var b bytes.Buffer
				text := ""
				if err := encode(&b); err != nil {
					text = err.Error()
				}
				check(t, how, b.String()+text)
			}
		})
	}
	t.Run("panic", func(t *testing.T) {
		defer func() { check(t, "panic", fmt.Sprint(recover())) }()
		panic(fmt.Sprintf("%v %+v", n, closed{n}))
	})
	// What must show where a number is meant to: else the test above would pass for a number that was lost.
	if fmt.Sprint(n) != redacted || n.Reveal() != digits {
		t.Error("the number is not there")
	}
}

// TestNothingPrintsAPerson: the name and the day of birth beside the number are no more printable.
func TestNothingPrintsAPerson(t *testing.T) {
	s := Subject{Standing: Live, Family: "MARKERFAMILY", Given: []string{"MARKERGIVEN"}, BirthDate: "1901-02-03", Deceased: "2001-02-03", Version: "MARKERVERSION"}
	r := Requester{Kind: Person, User: "MARKERUSER", Name: "MARKERNAME", TokenID: "MARKERTOKEN"}
	holder := struct {
		S  Subject
		P  *Subject
		R  Requester
		Rs []Requester
		M  map[string]Subject
	}{s, &s, r, []Requester{r}, map[string]Subject{"s": s}}
	for _, thing := range []any{s, &s, r, &r, holder, &holder, []any{s, r}} {
		var b bytes.Buffer
		for verb := 'A'; verb <= 'z'; verb++ {
			if verb == 'p' || verb == 'w' || verb > 'Z' && verb < 'a' {
				continue // fmt calls no method for %p and %w; vet refuses both on what is no pointer and no error
			}
			for _, flag := range []string{"", "+", "#"} {
				fmt.Fprintf(&b, "%"+flag+string(verb), thing)
			}
		}
		if err := json.NewEncoder(&b).Encode(thing); err != nil {
			t.Fatal("cannot be encoded")
		}
		slog.New(slog.NewTextHandler(&b, nil)).Info("m", "k", thing)
		slog.New(slog.NewJSONHandler(&b, nil)).Info("m", "k", thing)
		if out := b.String(); strings.Contains(out, "MARKER") || strings.Contains(out, "01-02-03") {
			t.Errorf("%T shows a person", thing)
		}
		if !strings.Contains(b.String(), "(redacted)") {
			t.Errorf("%T shows no fixed word", thing)
		}
	}
}
