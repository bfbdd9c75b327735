package merge

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// made is a resource that a property test made, and what must become of it.
type made struct {
	url, typ, id, text string
	mark               string // unique text in it
	fate               string // "shown", "stranger", "withheld", "financial", "filtered"; supporting ones are "support"
	refs               []int  // resources of the same reply that it refers to
	hidden             bool   // its id must be nowhere
	nowhere, masks     int    // references that lead nowhere, and that are made to lead to another custodian by our own base
}

// makeReply draws a custodian's reply: a graph of resources in which ids are reused between types and custodians, references take every
// form, and some resources are somebody else's, of a withheld section, financial, or support nothing.
func makeReply(t *rapid.T, key string, n int) (Reply, []made) {
	base := "https://" + key + ".example/fhir"
	pick := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
	list := []made{{typ: "Patient", id: "1", mark: "mark-" + key + "-patient-", fate: "shown"}}
	used := map[string]bool{"Patient/1": true}
	for i := 1; i <= n; i++ {
		m := made{fate: pick("fate", "shown", "shown", "shown", "stranger", "withheld", "withheld", "financial", "support", "support", "filtered"),
			mark: fmt.Sprintf("mark-%s-%d-", key, i)}
		switch m.fate {
		case "shown":
			m.typ = pick("type", "Observation", "Condition", "Encounter", "DiagnosticReport", "List", "Composition")
		case "stranger":
			m.typ = pick("type", "Observation", "Condition")
		case "withheld":
			m.typ = pick("type", "Condition", "Flag")
		case "financial":
			m.typ = pick("type", "Claim", "Coverage")
		case "support":
			m.typ = pick("type", "Practitioner", "Organization", "Medication")
		case "filtered":
			m.typ = "MedicationRequest"
		}
		m.id = pick("id", "1", "2", "3", "a", "b-c", strings.Repeat("x", 64), "9990000026", "sp ace")
		m.hidden = m.fate == "withheld" || m.fate == "stranger"
		if m.hidden || used[m.typ+"/"+m.id] {
			m.id = fmt.Sprintf("hide%s%d", key, i)
			if !m.hidden {
				m.id = fmt.Sprintf("u%d", i)
			}
		}
		used[m.typ+"/"+m.id] = true
		list = append(list, m)
	}
	for i := range list {
		m := &list[i]
		if i > 0 && rapid.Bool().Draw(t, "has fullUrl") {
			m.url = pick("url", base+"/"+m.typ+"/"+m.id, fmt.Sprintf("urn:uuid:00000000-0000-0000-0000-%012d", i))
		}
	}
	address := func(to int) string {
		m := list[to]
		forms := []string{m.typ + "/" + m.id, base + "/" + m.typ + "/" + m.id, m.typ + "/" + m.id + "/_history/3"}
		if m.url != "" {
			forms = append(forms, m.url)
		}
		return rapid.SampledFrom(forms).Draw(t, "address")
	}
	quote := func(s string) string { return string(fhirjson.Quote(s)) }
	for i := range list {
		m := &list[i]
		ws := pick("space", "", " ", "\n  ", "\t")
		var members []string
		members = append(members, `"resourceType":`+ws+quote(m.typ), `"id":`+quote(m.id)+ws, `"language"`+ws+`:`+quote(m.mark))
		if rapid.Bool().Draw(t, "has meta") {
			members = append(members, `"meta":{"lastUpdated":"2020-01-01T00:00:00Z","tag":[{"code":"t"}],`+ws+`"source":"urn:old"}`)
		}
		subject := address(0)
		if m.fate == "stranger" {
			subject = pick("stranger", "Patient/2", "https://elsewhere.example/Patient/1", "Patient/"+theirs)
		}
		switch {
		case i == 0:
			members = append(members, `"identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000018"}]`)
		case m.fate == "financial":
			members = append(members, `"patient":{"reference":`+quote(subject)+`}`)
		case m.fate != "support":
			members = append(members, `"subject":{"reference":`+quote(subject)+`}`)
			if i%3 != 0 {
				members = append(members, `"`+map[string]string{"Encounter": "x", "List": "date", "Composition": "date"}[m.typ]+`":"2020"`)
			}
		}
		if m.fate == "withheld" {
			members = append(members, `"code":{"text":"Major depression `+m.mark+`"}`)
		}
		var refs []string
		for range rapid.IntRange(0, 3).Draw(t, "refs") {
			to := rapid.IntRange(0, len(list)-1).Draw(t, "to")
			if m.fate == "support" && list[to].fate != "support" || to == 0 {
				continue // Practitioners refer to nobody's record
			}
			m.refs = append(m.refs, to)
			refs = append(refs, `{"reference":`+ws+quote(address(to))+`,"display":`+quote("display of "+list[to].mark)+`}`)
		}
		if rapid.Bool().Draw(t, "dangling") {
			m.nowhere++
			refs = append(refs, `{"reference":"Basic/nowhere"}`)
		}
		for range rapid.IntRange(0, 2).Draw(t, "hostile") { // the ids that entries have in our answers
			to := pick("to type", "Observation", "Condition", "Encounter", "Patient", "Practitioner") + "/" + pick("to key", "gp", "acute") + "-" + pick("to id", "1", "2", "3", "a", "b-c")
			if m.typ == "List" || m.typ == "Composition" {
				to = strings.Replace(to, "Patient/", "Flag/", 1) // a List with a Patient that is not theirs is no List of theirs
			}
			form := pick("form", "", "/", "//", "https://broker.example/fhir/", "http://broker.example/fhir/", "HTTPS://BROKER.example/fhir/", base+"/")
			if strings.Contains(strings.ToLower(form), "//broker") {
				m.masks++
			} else {
				m.nowhere++
			}
			refs = append(refs, `{"reference":`+quote(form+to+pick("version", "", "/_history/1"))+`}`)
		}
		if len(refs) > 0 {
			switch m.typ {
			case "List":
				for j := range refs {
					refs[j] = `{"item":` + refs[j] + `}`
				}
				members = append(members, `"entry":[`+strings.Join(refs, ws+`,`)+`]`)
			case "Composition":
				members = append(members, `"section":[{"title":"t","section":[{"title":"u","entry":[`+strings.Join(refs, `,`+ws)+`]}]},{"title":"v"}]`)
			default:
				members = append(members, `"extension":[{"url":"u","extension":[{"url":"v","valueReference":`+strings.Join(refs, `},{"url":"v","valueReference":`)+`}]}]`)
			}
		}
		rest := members[1:]
		shuffle(t, rest)
		m.text = `{` + ws + strings.Join(members, `,`+ws) + ws + `}`
	}
	// The same bytes may come twice.
	reply := Reply{Custodian: record.Custodian{Key: record.CustodianKey(key), ODS: "X9A01", Name: "N", Kind: record.KindGP}, Base: base}
	for i, m := range list {
		times := 1
		if i > 0 && rapid.IntRange(0, 5).Draw(t, "twice") == 0 {
			times = 2
		}
		for range times {
			d, err := fhirjson.Parse([]byte(m.text), fhirjson.Limits{})
			if err != nil {
				t.Fatalf("%v: %s", err, m.text)
			}
			reply.Entries = append(reply.Entries, fhirjson.Entry{FullURL: m.url, Resource: d.Root()})
		}
	}
	return reply, list
}

func shuffle[T any](t *rapid.T, s []T) {
	seed := rapid.Uint64().Draw(t, "shuffle")
	rand.New(rand.NewPCG(seed, 1)).Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
}

// expected returns which resources must be shown: the record's own, and what supports them directly or through others.
func expected(list []made) map[int]bool {
	want := map[int]bool{}
	var reach func(i int)
	reach = func(i int) {
		if want[i] {
			return
		}
		want[i] = true
		for _, to := range list[i].refs {
			if list[to].fate == "support" {
				reach(to)
			}
		}
	}
	for i, m := range list {
		if m.fate == "shown" {
			reach(i)
		}
	}
	return want
}

var markPattern = regexp.MustCompile(`"language"\s*:\s*"(mark-[a-z0-9-]+-)"`)

func TestPropertiesOfAnAnswer(t *testing.T) {
	req := request(t)
	req.Subject.Family, req.Subject.BirthDate = "", ""
	req.Filter.Types = []string{"Observation", "Condition", "Encounter", "DiagnosticReport", "List", "Composition", "Flag"} // not MedicationRequest
	rules := without(record.MentalHealth)
	rapid.Check(t, func(t *rapid.T) {
		keys := []string{"gp", "acute"}
		var prepared []Prepared
		var replies []Reply
		var lists [][]made
		for _, key := range keys {
			reply, list := makeReply(t, key, rapid.IntRange(0, 14).Draw(t, "n"))
			p, err := Prepare(req, rules, reply)
			if err != nil {
				t.Fatalf("%v", err)
			}
			prepared, replies, lists = append(prepared, p), append(replies, reply), append(lists, list)
		}
		var b bytes.Buffer
		if _, err := Assemble(req, prepared, nil).WriteBundle(&b, BundleMeta{}); err != nil {
			t.Fatal(err)
		}
		d, err := fhirjson.Parse(b.Bytes(), fhirjson.Limits{})
		if err != nil {
			t.Fatalf("the answer is not what we would read: %v", err)
		}
		whole, err := fhirjson.ReadBundle(d)
		if err != nil {
			t.Fatal(err)
		}

		// By their marks: where each resource is in the answer.
		at := map[string]fhirjson.Entry{}
		byURL := map[string]string{}
		for _, e := range whole.Entries {
			if _, twice := byURL[e.FullURL]; twice {
				t.Fatalf("%s twice", e.FullURL)
			}
			byURL[e.FullURL] = ""
			if m := markPattern.FindSubmatch(e.Resource.Raw()); m != nil {
				if _, twice := at[string(m[1])]; twice {
					t.Fatalf("%s is in the answer twice", m[1])
				}
				at[string(m[1])] = e
				byURL[e.FullURL] = string(m[1])
			}
		}
		// No reference leads to another custodian's entry (M-6), whatever rule a reader goes by.
		for _, e := range whole.Entries {
			if e.Resource.Get("resourceType").Is("OperationOutcome") || !strings.Contains(e.Resource.Get("id").Text(), "-") {
				continue // ours: it links them
			}
			e.Resource.Walk(func(key string, v fhirjson.Value) bool {
				if key != "reference" {
					return true
				}
				head, _, _ := strings.Cut(v.Text(), "/_history/")
				for _, address := range [...]string{head, req.Base + "/" + head, req.Base + head, "https:" + head, strings.Replace(strings.ToLower(head), "http:", "https:", 1)} {
					if _, is := byURL[address]; is && owner(address[strings.LastIndexByte(address, '/')+1:]) != owner(e.Resource.Get("id").Text()) {
						t.Fatalf("%s of %s leads to %s", v.Text(), e.FullURL, address)
					}
				}
				return true
			})
		}
		for c, list := range lists {
			want := expected(list)
			shown := 0
			for i, m := range list {
				e, is := at[m.mark]
				if is != want[i] {
					t.Fatalf("%s %s/%s: shown %v, want %v\n%s", m.fate, m.typ, m.id, is, want[i], m.text)
				}
				if !is {
					if m.hidden && (bytes.Contains(b.Bytes(), []byte(m.mark)) || bytes.Contains(b.Bytes(), []byte(m.id))) {
						t.Fatalf("something is left of %s %s: %s", m.fate, m.id, m.text)
					}
					continue
				}
				shown++
				if !strings.HasPrefix(e.Resource.Get("id").Text(), keys[c]+"-") {
					t.Fatalf("id %s", e.Resource.Get("id").Text())
				}
				if got, want := edges(t, e.Resource, req.Base, byURL), wanted(list, i, want); !slices.Equal(got, want) {
					t.Fatalf("references of %s: got %v, want %v\n in %s\nout %s", m.mark, got, want, m.text, e.Resource.Raw())
				}
				sameButForM3(t, m.text, e.Resource.Raw())
			}
			if prepared[c].Counts.Shown != shown || prepared[c].Counts.Received != len(replies[c].Entries) {
				t.Fatalf("%+v, shown %d of %d", prepared[c].Counts, shown, len(replies[c].Entries))
			}
			count := func(fate string) int {
				n := 0
				for _, m := range list {
					if m.fate == fate {
						n++
					}
				}
				return n
			}
			got := prepared[c].Counts
			if got.Strangers != count("stranger") || got.Withheld != count("withheld") || got.Financial != count("financial") || got.Filtered != count("filtered") ||
				got.Folded != len(replies[c].Entries)-len(list) {
				t.Fatalf("%+v", got)
			}
		}

		// In whatever order the resources come and the custodians answer, the bytes are the same.
		again := make([]Prepared, 0, len(replies))
		for _, reply := range replies {
			reply.Entries = slices.Clone(reply.Entries)
			shuffle(t, reply.Entries)
			p, err := Prepare(req, rules, reply)
			if err != nil {
				t.Fatal(err)
			}
			again = append(again, p)
		}
		shuffle(t, again)
		var b2 bytes.Buffer
		if _, err := Assemble(req, again, nil).WriteBundle(&b2, BundleMeta{}); err != nil {
			t.Fatal(err)
		}
		// Statuses are in the order given; with none given, outcomes follow the custodians' keys.
		if !bytes.Equal(b.Bytes(), b2.Bytes()) {
			t.Fatal("the order of arrival changes the answer")
		}
	})
}

// edges lists what the references of a resource in the answer lead to, by mark: "masked", "filtered" or "nowhere" for what is not there.
func edges(t *rapid.T, v fhirjson.Value, base string, byURL map[string]string) []string {
	var out []string
	v.Visit(func(around []fhirjson.Value, x fhirjson.Value) bool {
		if x.KeyIs("valueCode") && x.Is("masked") {
			out = append(out, "masked")
		}
		if x.KeyIs("reference") && !around[len(around)-1].KeyIs("subject") {
			head, _, _ := strings.Cut(x.Text(), "/_history/")
			switch mark, is := byURL[base+"/"+head]; {
			case is:
				out = append(out, mark)
			case strings.HasPrefix(head, "MedicationRequest/"):
				out = append(out, "filtered")
			default:
				out = append(out, "nowhere")
			}
		}
		return true
	})
	slices.Sort(out)
	return out
}

// wanted is the same from what was made.
func wanted(list []made, i int, shown map[int]bool) []string {
	var out []string
	for _, to := range list[i].refs {
		switch {
		case shown[to]:
			out = append(out, list[to].mark)
		case list[to].hidden && (list[i].typ == "List" || list[i].typ == "Composition"):
		case list[to].hidden:
			out = append(out, "masked")
		case list[to].fate == "filtered":
			out = append(out, "filtered")
		default:
			out = append(out, "nowhere")
		}
	}
	for range list[i].nowhere {
		out = append(out, "nowhere")
	}
	for range list[i].masks {
		out = append(out, "masked")
	}
	slices.Sort(out)
	return out
}

// owner is the key of the custodian that an id of an answer is of.
func owner(id string) string {
	id = strings.TrimPrefix(id, "provenance-")
	key, _, _ := strings.Cut(id, "-")
	return key
}

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// sameButForM3 fails unless out is in with nothing changed but what M-3 lists: id, references, addresses of documents, what we add to meta,
// masks and the lines that go with them.
func sameButForM3(t fataler, in string, out []byte) {
	t.Helper()
	a, b := decoded(t, []byte(in)), decoded(t, out)
	meta, _ := b["meta"].(map[string]any)
	source, _ := meta["source"].(string)
	if !strings.HasPrefix(source, "https://mycarerecord.example/custodian/") {
		t.Fatalf("meta.source is %q", source)
	}
	delete(meta, "source")
	ours := func(list any, key, prefix string, each func(any)) []any {
		var rest []any
		l, _ := list.([]any)
		for _, x := range l {
			if s, _ := x.(map[string]any)[key].(string); strings.HasPrefix(s, prefix) {
				each(x)
			} else {
				rest = append(rest, x)
			}
		}
		return rest
	}
	tags := 0
	put := func(key string, list []any) {
		if delete(meta, key); len(list) > 0 {
			meta[key] = list
		}
	}
	put("tag", ours(meta["tag"], "system", "https://mycarerecord.example/CodeSystem/", func(any) { tags++ }))
	put("extension", ours(meta["extension"], "url", "https://mycarerecord.example/StructureDefinition/original-source", func(x any) { meta["source"] = x.(map[string]any)["valueUri"] }))
	if tags == 0 {
		t.Fatalf("no tag of ours")
	}
	if am, is := a["meta"].(map[string]any); !is && len(meta) == 0 {
		delete(b, "meta")
	} else if is {
		for _, k := range []string{"tag", "extension"} {
			if l, _ := am[k].([]any); l != nil && len(l) == 0 {
				delete(am, k)
			}
		}
	}
	if b["id"] == a["id"] || a["id"] == "" {
		t.Fatalf("the id is not ours")
	}
	delete(a, "id")
	delete(b, "id")
	if where := differs("", a, b); where != "" {
		t.Fatalf("changed at %s\n in %s\nout %s", where, in, out)
	}
}

func decoded(t fataler, b []byte) map[string]any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v map[string]any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("not JSON: %v", err)
	}
	return v
}

var maskTree = map[string]any{"extension": []any{map[string]any{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "masked"}}}

// differs returns the path of the first difference that M-3 does not list, "" if there is none.
func differs(path string, a, b any) string {
	switch a := a.(type) {
	case map[string]any:
		b, is := b.(map[string]any)
		if !is {
			return path
		}
		if _, reference := a["reference"]; (reference || a["url"] != nil) && reflect.DeepEqual(b, maskTree) {
			return ""
		}
		for k, x := range a {
			y, there := b[k]
			if (k == "entry" || k == "section") && !there {
				continue // all its lines went
			}
			if _, text := x.(string); text && (k == "reference" || k == "url" && !strings.Contains(path, "xtension")) {
				if _, text := y.(string); text {
					continue
				}
			}
			if !there {
				return path + "." + k
			}
			if where := differs(path+"."+k, x, y); where != "" {
				return where
			}
		}
		for k := range b {
			if _, there := a[k]; !there {
				return path + ".+" + k
			}
		}
		return ""
	case []any:
		b, is := b.([]any)
		if !is {
			return path
		}
		lines := strings.HasSuffix(path, ".entry") || strings.HasSuffix(path, ".section")
		j := 0
		for i, x := range a {
			if j < len(b) {
				where := differs(fmt.Sprintf("%s[%d]", path, i), x, b[j])
				if where == "" {
					j++
					continue
				}
				if !lines {
					return where
				}
			}
			if !lines {
				return path
			}
		}
		if j != len(b) {
			return path
		}
		return ""
	}
	if a != b {
		return path
	}
	return ""
}

// A hundred thousand numbers, written in every way that JSON allows, come out byte for byte (H-05).
func TestNumbersKeepTheirText(t *testing.T) {
	total := 100_000
	if thinned {
		total = 5_000
	}
	random := rand.New(rand.NewPCG(1, 2))
	digits := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte('0' + random.IntN(10))
		}
		return string(b)
	}
	var texts []string
	var want [][]string
	for made := 0; made < total; {
		var numbers []string
		for range 100 {
			n := "0"
			if random.IntN(3) > 0 {
				n = string(rune('1'+random.IntN(9))) + digits(random.IntN(25))
			}
			if random.IntN(2) > 0 {
				n += "." + digits(1+random.IntN(20)) + strings.Repeat("0", random.IntN(4))
			}
			if random.IntN(4) == 0 {
				n += [...]string{"e", "E", "e+", "E-", "e-"}[random.IntN(5)] + digits(1+random.IntN(3))
			}
			if random.IntN(4) == 0 {
				n = "-" + n
			}
			numbers = append(numbers, n)
			made++
		}
		texts = append(texts, fmt.Sprintf(`{"resourceType":"Observation","id":"%d",%s,"component":[{"valueQuantity":{"value":%s}}]}`, len(texts), toAda,
			strings.Join(numbers, `}},{"valueQuantity" : { "value":`)))
		want = append(want, numbers)
	}
	p := prepare(t, request(t), everything, replyOf(t, texts...))
	for i, numbers := range want {
		n := 0
		for q := range parsed(t, string(find(t, p, "Observation", fmt.Sprintf("gp-%d", i)).JSON)).Each("component.valueQuantity.value") {
			if string(q.Raw()) != numbers[n] {
				t.Fatalf("%s became %s", numbers[n], q.Raw())
			}
			n++
		}
		if n != len(numbers) {
			t.Fatalf("%d of %d numbers", n, len(numbers))
		}
	}
}

func TestTheComparisonSeesChanges(t *testing.T) {
	for _, c := range [][2]string{{`{"a":1}`, `{"a":1.0}`}, {`{"a":1}`, `{}`}, {`{}`, `{"a":1}`}, {`{"a":[1,2]}`, `{"a":[1]}`}, {`{"a":"x"}`, `{"a":"y"}`}, {`{"a":null}`, `{}`},
		{`{"a":{"reference":"x","display":"d"}}`, `{"a":{"reference":"y"}}`}, {`{"extension":[{"url":"a"}]}`, `{"extension":[{"url":"b"}]}`}, {`{"a":[]}`, `{"a":{}}`},
		{`{"a":{"b":1}}`, `{"a":` + maskJSON + `}`}} {
		if differs("", decoded(t, []byte(c[0])), decoded(t, []byte(c[1]))) == "" {
			t.Errorf("%s and %s count as the same", c[0], c[1])
		}
	}
}
