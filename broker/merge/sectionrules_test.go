package merge

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/samply/golang-fhir-models/fhir-models/fhir"
	"pgregory.net/rapid"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

func sectionRules(t testing.TB, text string) *SectionRules {
	t.Helper()
	r, err := ParseSections([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// placedUnder returns the sections of a resource of a kind of custodian under rules.
func placedUnder(t testing.TB, r *SectionRules, from record.CustodianKind, typ, members string) (record.Section, record.Sections) {
	t.Helper()
	if members != "" {
		members = "," + members
	}
	p := preparing{req: Request{Sections: r}, sectionSystem: "https://mycarerecord.example" + record.SectionSystemPath}
	p.reply.Custodian.Kind = from
	l := parsed(t, `{"resourceType":"`+typ+`"`+members+`}`).Layout()
	return p.place(kindOf(typ), &l)
}

// standing writes a resource's members so that a value stands at a path.
func standing(path, value string) string {
	names := strings.Split(path, ".")
	for _, name := range slices.Backward(names) {
		value = fmt.Sprintf("{%q:%s}", name, value)
	}
	return value[1 : len(value)-1]
}

// Every type has a heading, and every line of the shipped rules does what it says: for each of its types, at each of its paths, with each member of its list,
// from each kind of custodian that it is about.
func TestEveryShippedRuleHolds(t *testing.T) {
	r := ShippedSections()
	for typ, row := range subjects {
		if _, has := r.headings[typ]; has != (row.class == person || row.class == either) {
			t.Errorf("%s: has a heading: %t", typ, has)
		}
	}
	held := 0
	for _, x := range slices.Concat(r.instead, r.more) {
		var values []string
		for code := range x.list.codes {
			values = append(values, fmt.Sprintf(`{"system":"http://elsewhere.example","code":%q}`, code))
		}
		for _, term := range x.list.terms {
			values = append(values, fmt.Sprintf("%q", "Some "+strings.ToUpper(term)+"X"))
		}
		for _, whole := range x.list.wholes {
			values = append(values, fmt.Sprintf("%q", whole))
		}
		if len(values) == 0 || len(x.list.coded) > 0 {
			t.Fatalf("%s: a list that this test does not know", x.text)
		}
		for typ, row := range subjects {
			if x.types != nil && !x.types[typ] || row.class != person && row.class != either {
				continue
			}
			for _, path := range x.paths {
				for _, value := range values {
					primary, all := placedUnder(t, r, record.KindGP, typ, standing(path, value))
					held++
					switch {
					case !all.Has(x.section) || !all.Has(primary):
						t.Errorf("%s: %s with %s at %s is in %s", x.text, typ, value, path, all)
					case x.leads && !r.stays.Has(r.headings[typ]) && primary != x.section && primary != record.MentalHealth:
						t.Errorf("%s: %s with %s at %s is in %s first", x.text, typ, value, path, primary)
					}
				}
			}
		}
	}
	if held < 4000 {
		t.Errorf("only %d looked at", held)
	}
}

func TestVersionIsOfTheBytes(t *testing.T) {
	text, err := os.ReadFile("sections.txt")
	if err != nil {
		t.Fatal(err)
	}
	sum := func(b []byte) string { s := sha256.Sum256(b); return hex.EncodeToString(s[:]) }
	if got := ShippedSections().Version(); got != sum(text) {
		t.Errorf("the shipped rules are %s, want %s", got, sum(text))
	}
	if got := sectionRules(t, string(text)).Version(); got != sum(text) {
		t.Errorf("a copy of the shipped rules is %s", got)
	}
	if got := sectionRules(t, "extends default\n").Version(); got != sum([]byte(string(text)+"extends default\n")) {
		t.Errorf("rules that extend the shipped ones are %s", got)
	}
}

// coded.txt against samply's model of R4: every concept and coding of the types that stand in sections is there, and nothing else.
func TestPlacesAreElementsOfR4(t *testing.T) {
	seen := 0
	for _, m := range models {
		typ := reflect.TypeOf(m)
		if places[typ.Name()] == nil {
			continue
		}
		seen++
		want := map[string]placeKind{}
		codings := func(path string) { want[path], want[path+".display"] = coding, wording }
		codings("meta.security")
		codings("meta.tag")
		var walk func(in reflect.Type, at string, depth int)
		walk = func(in reflect.Type, at string, depth int) {
			for i := range in.NumField() {
				name, _, _ := strings.Cut(in.Field(i).Tag.Get("json"), ",")
				of := in.Field(i).Type
				for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice {
					of = of.Elem()
				}
				switch {
				case of == reflect.TypeFor[fhir.CodeableConcept]():
					codings(at + name + ".coding")
					want[at+name+".text"] = wording
				case of == reflect.TypeFor[fhir.Coding]():
					codings(at + name)
				case of == reflect.TypeFor[string]() && places[typ.Name()][at+name] == wording:
					want[at+name] = wording
				case of.Kind() == reflect.Struct && of != typ && strings.HasPrefix(of.Name(), typ.Name()) && depth < 3 && !strings.Contains("."+at, "."+name+"."):
					walk(of, at+name+".", depth+1)
				}
			}
		}
		walk(typ, "", 0)
		for path, k := range want {
			if places[typ.Name()][path] != k {
				t.Errorf("%s.%s is not in the list", typ.Name(), path)
			}
		}
		for path := range places[typ.Name()] {
			if want[path] == 0 {
				t.Errorf("%s has no %s", typ.Name(), path)
			}
		}
	}
	if seen != len(places) || seen < 55 {
		t.Errorf("%d types of %d looked at", seen, len(places))
	}
}

// whole is the least that stands alone.
const whole = "default other\nstay none\nhand-down none\nhome none gp,acute,mental-health,community,social-care,ambulance,pharmacy,111,out-of-hours,patient-entered\n"

func TestRegionsExtendTheShippedRules(t *testing.T) {
	region := sectionRules(t, `extends default
snomed mental-health-concepts 24700007          # one more member of a shipped list: the shipped lines see it
snomed mental-health-concepts 35489007          # said here already
terms  mental-health-terms    low mood
codes  wards  https://codes.example/ward|C1, D2#x
terms  letters  = letter to the court
lead   social-care  DocumentReference where description in letters
lead   community    Encounter where type.coding in wards
lead   emergency    Encounter from 111,out-of-hours
instead correspondence Observation where category.coding in results-observations from pharmacy
heading results     Procedure
home    community   111
home    none        pharmacy
`)
	coded := func(path, system, code string) string {
		return standing(path, fmt.Sprintf(`{"system":%q,"code":%q}`, system, code))
	}
	for _, c := range []struct {
		from               record.CustodianKind
		typ, members, want string
	}{
		{record.KindGP, "Condition", coded("code.coding", "http://snomed.info/sct", "24700007"), "mental-health history"},
		{record.KindGP, "Condition", coded("code.coding", "http://snomed.info/sct", "35489007"), "mental-health history"},
		{record.KindGP, "Condition", standing("code.text", `"Low Mood, winter"`), "mental-health history"},
		{record.KindGP, "Condition", standing("code.text", `"anxiety"`), "mental-health history"},
		{record.KindGP, "Condition", ``, "history"},
		{record.KindGP, "Encounter", coded("type.coding", "https://codes.example/ward", "C1"), "community history"},
		{record.KindGP, "Encounter", coded("type.coding", "https://codes.example/other", "C1"), "history"},
		{record.KindGP, "Encounter", coded("type.coding", "", "D2#x"), "community history"},
		{record.KindGP, "Encounter", coded("type.coding", "https://codes.example/ward", "C1") + `,"class":{"code":"EMER"}`, "community history emergency"}, // theirs before ours
		{record.KindOutOfHours, "Encounter", ``, "emergency history"},
		{record.Kind111, "Encounter", ``, "community history emergency"}, // the home first
		{record.KindAcute, "Encounter", ``, "history"},
		{record.KindPharmacy, "Observation", coded("category.coding", "", "laboratory"), "correspondence"},
		{record.KindGP, "Observation", coded("category.coding", "", "laboratory"), "results"},
		{record.KindPharmacy, "Observation", ``, "history"},
		{record.KindGP, "Procedure", ``, "results"},
		{record.KindSocialCare, "Condition", ``, "social-care history"},
		{record.KindGP, "DocumentReference", `"description":"Letter to the court"`, "social-care correspondence"},
		{record.KindGP, "DocumentReference", standing("description", `"No letter to the court"`), "correspondence"},
	} {
		primary, all := placedUnder(t, region, c.from, c.typ, c.members)
		if got := strings.Join(append([]string{primary.Code()}, all.Without(record.SectionsOf(primary)).Codes()...), " "); got != c.want {
			t.Errorf("%s %s %s: got %s, want %s", c.from, c.typ, c.members, got, c.want)
		}
	}
	if s, has := region.Home(record.Kind111); !has || s != record.Community {
		t.Error("111 has another home")
	}
	if _, has := region.Home(record.KindPharmacy); has {
		t.Error("pharmacies have a home")
	}
	if s, has := region.Home(record.KindMentalHealth); !has || s != record.MentalHealth {
		t.Error("what is not said anew does not stand")
	}
	// Nobody else's rules are changed by it.
	if _, all := placedUnder(t, nil, record.KindGP, "Condition", coded("code.coding", "", "24700007")); all.Has(record.MentalHealth) {
		t.Error("a region's list has come into the shipped one")
	}
	if got := strings.Join(region.Explain("Observation", record.KindPharmacy), "\n"); got != `heading history
instead correspondence Observation where category.coding in results-observations from pharmacy
instead results Observation where category.coding in results-observations
also mental-health Observation where code.coding,valueCodeableConcept.coding,component.code.coding,component.valueCodeableConcept.coding in mental-health-concepts
also mental-health all where meta.security,securityLabel.coding in sensitive-labels` {
		t.Errorf("explained as %s", got)
	}
	if got := region.Explain("Practitioner", record.KindGP); got != nil {
		t.Errorf("a Practitioner is explained as %s", got)
	}
}

func TestRulesThatStandAlone(t *testing.T) {
	r := sectionRules(t, whole+"heading results Observation\nmovable Composition\n")
	for typ, want := range map[string]record.Section{"Observation": record.Results, "Condition": record.Other, "Nonsense": record.Other} {
		if got, all := placedUnder(t, r, record.KindMentalHealth, typ, standing("code.text", `"anxiety"`)); got != want || all != record.SectionsOf(want) {
			t.Errorf("%s: got %s of %s, want %s", typ, got, all, want)
		}
	}
}

// TestSectionRuleErrors: every fault is told with its line, and says what to write.
func TestSectionRuleErrors(t *testing.T) {
	const head = "extends default\n"
	for _, c := range []struct{ name, text, want string }{
		{"unknown word", head + "move results Observation", `line 2: unknown word "move": begin with extends, snomed,`},
		{"too few words", head + "heading results", "line 2: write: heading SECTION TYPES"},
		{"too many words", head + "heading results Observation, Procedure", "line 2: write: heading SECTION TYPES"},
		{"a rule that always holds", head + "lead results Observation", "line 2: write: lead SECTION TYPES where PATHS in LIST"},
		{"extends something", "extends sections.txt\n", "line 1: only the default can be extended"},
		{"extends late", "heading results Observation\nextends default", "line 2: only the default can be extended"},
		{"extends twice", head + "extends default", "line 2: only the default can be extended"},
		{"unknown section", head + "heading labs Observation", `line 2: unknown section "labs": one of demographics, medications`},
		{"unknown default", head + "default all", `line 2: unknown section "all"`},
		{"unknown section stays", head + "stay results,labs", `line 2: unknown section "labs"`},
		{"section twice", head + "stay results,results", "line 2: in \"results,results\" a word is missing or is there twice"},
		{"none among others", head + "hand-down results,none", `line 2: unknown section "none"`},
		{"unknown type", head + "heading results Observations", `line 2: "Observations" is no resource type of FHIR R4`},
		{"type of money", head + "heading other Claim", "line 2: Claim stands in no section"},
		{"type that supports", head + "also other Practitioner from gp", "line 2: Practitioner stands in no section"},
		{"all has no heading", head + "heading other all", `line 2: "all" is no resource type`},
		{"type twice", head + "heading results Observation,Observation", "line 2: in "},
		{"heading twice", head + "heading results Observation\nheading history Procedure,Observation", `line 3: "heading of Observation" was there in line 2`},
		{"default twice", head + "default other\ndefault results", `line 3: "default" was there in line 2`},
		{"stay twice", head + "stay none\nstay results", `line 3: "stay" was there in line 2`},
		{"hand-down twice", head + "hand-down none\nhand-down none", `line 3: "hand-down" was there in line 2`},
		{"movable twice", head + "movable Media\nmovable Media", `line 3: "movable" was there in line 2`},
		{"home twice", head + "home other gp\nhome none gp", `line 3: "home of gp" was there in line 2`},
		{"unknown kind", head + "home other surgery", `line 2: unknown kind of custodian "surgery": one of gp acute`},
		{"unknown kind in from", head + "lead other Flag from gp,surgery", `line 2: unknown kind of custodian "surgery"`},
		{"kind twice", head + "lead other Flag from gp,gp", "line 2: in "},
		{"rule twice", head + "lead other Flag from gp\nlead  other Flag  from gp", `line 3: "lead other Flag from gp" was there in line 2`},
		{"unknown list", head + "lead other Flag where code.coding in flags", `line 2: there is no list "flags" yet`},
		{"list below", head + "lead other Flag where code.coding in flags\ncodes flags A", `line 2: there is no list "flags" yet`},
		{"list that nobody looks into", head + "snomed mental-helth-concepts 24700007", "line 2: no line below looks into the list mental-helth-concepts"},
		{"list with a bad name", head + "codes Wards A", "line 2: a list's name is of a-z"},
		{"codes among terms", head + "codes mental-health-terms A", "line 2: the list mental-health-terms has codes or terms, not both"},
		{"terms among codes", head + "terms sensitive-labels secret", "line 2: the list sensitive-labels has codes or terms, not both"},
		{"member twice", head + "codes sensitive-labels A, B\ncodes sensitive-labels B", `line 3: "sensitive-labels: B" was there in line 2`},
		{"member missing", head + "codes sensitive-labels A,, B", "line 2: a member is missing"},
		{"comma at the end", head + "codes sensitive-labels A,", "line 2: a member is missing"},
		{"comma forgotten", head + "codes sensitive-labels A B", `line 2: "A B" is no code: part codes with commas`},
		{"code not to be printed", head + "codes sensitive-labels A\x00", "line 2: \"A\\x00\" is no code"},
		{"wrong check digit", head + "snomed mental-health-concepts 35489008", `line 2: "35489008" is no concept of SNOMED CT`},
		{"digits turned round", head + "snomed mental-health-concepts 34589007", `line 2: "34589007" is no concept of SNOMED CT`},
		{"id of a description", head + "snomed mental-health-concepts 754786011", `line 2: "754786011" is no concept of SNOMED CT`},
		{"no digits", head + "snomed mental-health-concepts depression", `line 2: "depression" is no concept of SNOMED CT`},
		{"system without an address", head + "codes sensitive-labels snomed|1", "line 2: \"snomed|1\": write SYSTEM|CODE with the system's whole address"},
		{"system without a code", head + "codes sensitive-labels http://loinc.org|", "write SYSTEM|CODE"},
		{"term with capitals", head + "terms mental-health-terms Psychosis", `line 2: write "Psychosis" in small letters`},
		{"term that holds everywhere", head + "terms mental-health-terms ps", "line 2: a term has 3 letters or more"},
		{"term of an equals sign", head + "terms mental-health-terms =", "line 2: a term has 3 letters or more"},
		{"element that is none", head + "lead other Flag where catgory.coding in plans", `line 2: "catgory.coding" is no element of these types`},
		{"element of another type", head + "lead other Flag where serviceType.coding in plans", `line 2: "serviceType.coding" is no element of these types`},
		{"one type without", head + "lead other Flag,Patient where category.coding in plans", "line 2: Patient has no element at any of these paths"},
		{"concept itself", head + "lead other Flag where category in plans", `line 2: "category" is no element of these types`},
		{"path twice", head + "lead other Flag where code.coding,code.coding in plans", "line 2: in "},
		{"text in codes", head + "lead other Flag where code.text in plans", "line 2: what stands at code.text cannot be in a list of codes"},
		{"coding in terms", head + "lead other Flag where code.coding in mental-health-terms", "line 2: what stands at code.coding cannot be in a list of terms"},
		{"where without in", head + "lead other Flag where code.coding = plans", "line 2: write: where PATHS in LIST"},
		{"from before where", head + "lead other Flag from gp where code.coding in plans", "line 2: after the types, write: where"},
		{"something else", head + "lead other Flag when asked", "line 2: after the types, write: where"},
		{"empty", "# nothing\n", "line 1: rules that do not extend the default need a line with default SECTION"},
		{"whole without a home", strings.Replace(whole, "mental-health,", "", 1), "say the home of every kind of custodian; mental-health has none: home none mental-health"},
		{"whole without hand-down", strings.Replace(whole, "hand-down none\n", "", 1), "need a line with hand-down SECTIONS"},
		{"whole with a shipped list", whole + "lead other Flag where code.coding in plans", `line 5: there is no list "plans" yet`},
		{"not UTF-8", head + "codes sensitive-labels \xff", "line 1: the file is not UTF-8"},
		{"byte order mark", "\ufeffextends default\n", "line 1: unknown word"},
		{"too large", head + strings.Repeat("# \n", MaxSectionBytes/3), "line 1: the file is larger than 1 MiB"},
		{"long word", head + strings.Repeat("x", 500), `line 2: unknown word "` + strings.Repeat("x", 60) + `…"`},
		{"line of a later fault", "extends default\r\n\r\n# a comment\r\nstay none # fine\r\nwhat\r\n", `line 5: unknown word "what"`},
		{"too many terms", head + "terms mental-health-terms " + numbered("term%d", maxTerms, ", "), "line 2: the list has more than 1000 terms"},
		{"too many lists", head + numbered("codes list%d A", maxSectionLists, "\n"), "there are more than 200 lists"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := ParseSections([]byte(c.text))
			if err == nil || r != nil {
				t.Fatal("got rules, want an error")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %q, want %q in it", err, c.want)
			}
			var line *LineError
			var all LineErrors
			if !errors.As(err, &all) || len(all) > maxSectionFaults || !errors.As(all[0], &line) || line.Line < 1 {
				t.Errorf("got %T, want lines", err)
			}
		})
	}
	var rules strings.Builder
	types := make([]string, 0, len(places))
	for typ := range places {
		types = append(types, typ)
	}
	slices.Sort(types)
	rules.WriteString(head)
	n := 0
	for _, typ := range types {
		for _, k := range record.CustodianKinds {
			n++
			fmt.Fprintf(&rules, "also other %s from %s\n", typ, k)
		}
	}
	if _, err := ParseSections([]byte(rules.String())); n <= maxSectionRules || err == nil || !strings.Contains(err.Error(), "line 502: there are more than 500 lines") {
		t.Errorf("%d rules: got %v", n, err)
	}
	if _, err := ParseSections([]byte(strings.Repeat("what\n", 100))); err == nil || strings.Count(err.Error(), "\n") != maxSectionFaults-1 {
		t.Errorf("got %v, want the first %d lines", err, maxSectionFaults)
	}
}

func numbered(format string, n int, between string) string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf(format, i)
	}
	return strings.Join(out, between)
}

// Whatever the rules are, an entry has one primary section, which is among its sections, so the sum of primaries is the sum of entries; and an objection
// to a section leaves none of its entries.
func TestPrimariesAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		codes := record.AllSections.Codes()
		section := rapid.SampledFrom(codes)
		types := []string{"Patient", "Observation", "Condition", "Encounter", "DiagnosticReport", "List", "Composition", "MedicationRequest", "Flag"}
		text := "extends default\ncodes anything laboratory, EMER, 1234-5, imaging\nalso other all where meta.tag in anything\n"
		for i, typ := range types {
			text += "heading " + section.Draw(t, "heading") + " " + typ + "\n"
			if i > 0 {
				text += rapid.SampledFrom([]string{"instead ", "lead ", "also "}).Draw(t, "word") + section.Draw(t, "section") + " " + typ + " from gp\n"
			}
		}
		stay := rapid.SliceOfNDistinct(section, 1, 5, rapid.ID[string]).Draw(t, "stay")
		text += "stay " + strings.Join(stay, ",") + "\nhome " + section.Draw(t, "home") + " gp\n"
		rules, err := ParseSections([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		req := Request{Base: "https://broker.example/fhir", CodeBase: "https://mycarerecord.example", Handle: "handle", Now: now, IDKey: []byte("a key of the tests"), Sections: rules}
		n, _ := record.ParseNHSNumber(asked)
		req.Subject = record.Subject{Number: n, Standing: record.Live}
		reply, _ := makeReply(t, "one", rapid.IntRange(0, 15).Draw(t, "n"))
		reply.Custodian = record.Custodian{Key: "one", Kind: record.KindGP}
		p, err := Prepare(req, everything, reply)
		if err != nil {
			t.Fatal(err)
		}
		placed, primaries := 0, map[record.Section]int{}
		for _, e := range p.Entries {
			if row := subjects[e.Type]; row.class != person {
				continue
			}
			placed++
			primaries[e.Section]++
			if e.Others.Has(e.Section) || !p.Sections.Has(e.Section) {
				t.Fatalf("%s is in %s first, and in %s", e.Type, e.Section, e.Others)
			}
			var tags []string
			doc, err := fhirjson.Parse(e.JSON, fhirjson.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			for tag := range doc.Root().Each("meta.tag") {
				if tag.Get("system").Is(req.CodeBase + record.SectionSystemPath) {
					tags = append(tags, tag.Get("code").Text())
				}
			}
			if want := append([]string{e.Section.Code()}, e.Others.Codes()...); !slices.Equal(tags, want) {
				t.Fatalf("tags %s, want %s", tags, want)
			}
		}
		sum := 0
		for _, n := range primaries {
			sum += n
		}
		if sum != placed || placed == 0 {
			t.Fatalf("%d primaries, %d entries", sum, placed)
		}
		closed := section.Draw(t, "closed")
		s, _ := record.ParseSection(closed)
		limited := everything
		limited.Permitted = record.AllSections.Without(record.SectionsOf(s))
		p, err = Prepare(req, limited, reply)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range p.Entries {
			if subjects[e.Type].class == person && (e.Section == s || e.Others.Has(s)) {
				t.Fatalf("%s is shown although it is in %s", e.Type, s)
			}
		}
	})
}

func TestFaultsAreFew(t *testing.T) {
	var b strings.Builder
	b.WriteString("extends default\n")
	for i := range 100 {
		fmt.Fprintf(&b, "codes unused-%d A\n", i)
	}
	_, err := ParseSections([]byte(b.String()))
	var lines LineErrors
	if !errors.As(err, &lines) || len(lines) != maxSectionFaults || lines[0].Line != 2 {
		t.Errorf("%v", err)
	}
}

// FuzzParseSections: no text makes the parser panic, and under whatever it accepts every type has one primary section among its sections, whatever is said of it.
func FuzzParseSections(f *testing.F) {
	f.Add(shippedText)
	f.Add("extends default\ncodes x A, http://loinc.org|1-8\nlead other Flag,Condition where code.coding in x from gp,111 # why\nhome none gp\n")
	f.Add("extends default\nterms t = whole, a part\nalso results all where code.text,code.coding.display in t\r\nheading other Basic\x00")
	f.Add(whole + "movable Composition\nsnomed s 35489007\ninstead other Observation where code.coding in s\n")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseSections([]byte(text))
		if err != nil {
			var lines LineErrors
			if r != nil || !errors.As(err, &lines) || len(lines) == 0 || len(lines) > maxSectionFaults {
				t.Fatalf("%v", err)
			}
			return
		}
		if len(r.Version()) != 64 || len(r.placements) != len(kinds)+1 {
			t.Fatal("half made")
		}
		for typ := range places {
			for _, from := range append(record.CustodianKinds[:], "") {
				primary, all := placedUnder(t, r, from, typ, standing("code", `{"text":"anxiety","coding":[{"system":"http://snomed.info/sct","code":"35489007"}]}`)+`,"class":{"code":"EMER"}`)
				if !all.Has(primary) || all.Without(record.AllSections) != 0 {
					t.Fatalf("%s is in %s first, in %s", typ, primary, all)
				}
				if s, has := r.Home(from); has && !all.Has(s) {
					t.Fatalf("%s is not at home in %s", typ, s)
				}
			}
		}
	})
}
