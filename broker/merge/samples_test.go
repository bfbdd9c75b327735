package merge

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// sampleData is the folder of published sample data that stands beside the repository, not in it.
func sampleData(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
	}
	data := filepath.Join(dir, "..", "shared", "data")
	if _, err := os.Stat(data); err == nil {
		return data
	}
	if os.Getenv("CI") != "" {
		t.Fatal("the sample data is missing: put it in shared/data beside the repository")
	}
	t.Skip("no sample data: this test reads shared/data beside the repository")
	return ""
}

type sample struct {
	name    string
	entries []fhirjson.Entry
}

// alreadyRead keeps what several tests read; none of them runs in parallel.
var alreadyRead = map[string][]sample{}

// samples reads the R4 resources of the sample data, file by file. Bundles are taken apart.
func samples(t testing.TB, folders ...string) []sample {
	t.Helper()
	root := sampleData(t)
	var all []sample
	for _, folder := range folders {
		if have, is := alreadyRead[folder]; is {
			all = append(all, have...)
			continue
		}
		var out []sample
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(strings.TrimSuffix(path, ".gz"), ".json") {
				return err
			}
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			var r io.Reader = f
			if strings.HasSuffix(path, ".gz") {
				if r, err = gzip.NewReader(f); err != nil {
					return err
				}
			}
			text, err := io.ReadAll(r)
			if err != nil {
				return err
			}
			doc, err := fhirjson.Parse(bytes.TrimPrefix(text, []byte("\ufeff")), fhirjson.Limits{})
			if err != nil {
				t.Logf("%s is not read: %v", filepath.Base(path), err)
				return nil
			}
			s := sample{name: strings.TrimPrefix(path, root+"/")}
			s.entries = apart(doc.Root(), "", s.entries)
			out = append(out, s)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		alreadyRead[folder] = out
		all = append(all, out...)
	}
	return all
}

// apart takes Bundles apart, nested ones too.
func apart(v fhirjson.Value, url string, out []fhirjson.Entry) []fhirjson.Entry {
	if v.Get("resourceType").Text() == "" {
		return out
	}
	if !v.Get("resourceType").Is("Bundle") {
		return append(out, fhirjson.Entry{FullURL: url, Resource: v})
	}
	for e := range v.Get("entry").Elems() {
		if r := e.Get("resource"); r.Kind() == fhirjson.Object {
			out = apart(r, e.Get("fullUrl").Text(), out)
		}
	}
	return out
}

var r4Folders = []string{"uk-core-r4/json", "fhir-r4-examples", "synthea-r4", "nhs-england-r4", "shift-sensitive", "bars-r4", "ips/json", "ihe-pcf-consent", "nrl"}

// aboutWhom lists the people that a sample's resources are about: by the first address of each subject.
func aboutWhom(s sample) []string {
	var out []string
	for _, e := range s.entries {
		row := subjects[e.Resource.Get("resourceType").Text()]
		for _, path := range append(slices.Clone(row.about), row.among...) {
			for r := range e.Resource.Each(path) {
				address := r.Get("reference").Text()
				other := slices.ContainsFunc(s.entries, func(x fhirjson.Entry) bool {
					return x.FullURL == address && !x.Resource.Get("resourceType").Is("Patient")
				})
				if typ := typeOfAddress(address); (typ == "Patient" || strings.HasPrefix(address, "urn:")) && !other && !slices.Contains(out, address) {
					out = append(out, address)
				}
			}
		}
	}
	return out
}

// withNumber returns a Patient's bytes with the NHS number asked for instead of the identifiers that it has.
func withNumber(v fhirjson.Value) []byte {
	identifier := []byte(`[` + nhs + `]`)
	if old := v.Get("identifier"); old.Exists() {
		return v.Rewrite([]fhirjson.Edit{{Start: old.Start(), End: old.End(), New: identifier}})
	}
	at := v.Get("resourceType").End()
	return v.Rewrite([]fhirjson.Edit{{Start: at, End: at, New: slices.Concat([]byte(`,"identifier":`), identifier)}})
}

// Every sample, once for each person that it is about, as the reply of a custodian of each kind: whatever is shown is what came, but for M-3.
func TestSamplesAreShownAsTheyCame(t *testing.T) {
	req := request(t)
	req.Subject.Family, req.Subject.BirthDate = "", ""
	kinds := record.CustodianKinds
	shownOf := map[string]int{}
	replies, received, dropped := 0, 0, 0
	for _, s := range samples(t, r4Folders...) {
		for _, whom := range aboutWhom(s) {
			kind := kinds[replies%len(kinds)]
			replies++
			if thinned && replies%8 != 0 {
				continue
			}
			reply, sources := replyAbout(t, s, whom)
			reply.Custodian.Kind = kind
			p, err := Prepare(req, everything, reply)
			if err != nil {
				t.Errorf("%s: %v", s.name, err)
				continue
			}
			received += p.Counts.Received
			dropped += p.Counts.Strangers
			if p.Counts.Sum() != p.Counts.Received {
				t.Fatalf("%s: %+v", s.name, p.Counts)
			}
			// Each entry is one of the sources, found by type and business.
			bySource := map[string][]string{}
			prep := preparing{req: req, number: asked, reply: reply}
			for _, v := range sources {
				typ := v.Get("resourceType").Text()
				key := typ + "/" + string(reply.Custodian.Key) + "-" + prep.idOf(typ, v.Get("id").Text())
				bySource[key] = append(bySource[key], string(v.Raw()))
			}
			for _, e := range p.Entries {
				shownOf[e.Type]++
				of := bySource[e.Type+"/"+e.ID]
				if len(of) != 1 {
					continue // without an id, or in copies that differ: of the unit tests
				}
				sameButForM3(t, of[0], e.JSON)
			}
			var b bytes.Buffer
			if _, err := Assemble(req, []Prepared{p}, nil).WriteBundle(&b, BundleMeta{}); err != nil {
				t.Fatal(err)
			}
			if _, err := fhirjson.Parse(b.Bytes(), fhirjson.Limits{}); err != nil {
				t.Fatalf("%s: the answer is not what we would read: %v", s.name, err)
			}
		}
	}
	total := 0
	for _, n := range shownOf {
		total += n
	}
	t.Logf("%d replies, %d resources, %d shown of %d types, %d not attributed", replies, received, total, len(shownOf), dropped)
	if replies < 250 || !thinned && (len(shownOf) < 50 || total < 5000) {
		t.Errorf("the samples are thinner than they were: %d replies, %d types, %d shown", replies, len(shownOf), total)
	}
}

// replyAbout is a sample as the reply of a custodian about one of its people, with the Patient that it lacks; sources are its resources as they
// are in it.
func replyAbout(t testing.TB, s sample, whom string) (reply Reply, sources []fhirjson.Value) {
	t.Helper()
	reply = Reply{Custodian: custodian("gp", record.KindGP), Base: "https://gp.example/fhir"}
	byURL := map[string]bool{}
	found := false
	for _, e := range s.entries {
		r := e.Resource
		if byURL[e.FullURL] {
			e.FullURL = "" // a transaction may say the same address twice
		}
		byURL[e.FullURL] = e.FullURL != ""
		if r.Get("resourceType").Is("Patient") && (e.FullURL == whom || whom == "Patient/"+r.Get("id").Text()) {
			r = parsed(t, string(withNumber(r)))
			found = true
		}
		reply.Entries = append(reply.Entries, fhirjson.Entry{FullURL: e.FullURL, Resource: r})
		sources = append(sources, r)
	}
	if !found {
		head, _ := splitAddress(whom)
		url, id := "", head[strings.LastIndexByte(head, '/')+1:]
		switch {
		case isHTTP(whom):
			url = head
		case strings.HasPrefix(whom, "urn:"):
			url, id = head, "patient"
		}
		r := parsed(t, `{"resourceType":"Patient","id":"`+id+`","identifier":[`+nhs+`]}`)
		reply.Entries = append(reply.Entries, fhirjson.Entry{FullURL: url, Resource: r})
		sources = append(sources, r)
	}
	return reply, sources
}

func TestEveryTypeOfTheSamplesIsInTheTables(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range samples(t, append(slices.Clone(r4Folders), "pds", "stu3-to-r4/expected-r4", "ihe-balp")...) {
		for _, e := range s.entries {
			seen[e.Resource.Get("resourceType").Text()] = true
		}
	}
	for typ := range seen {
		row := subjects[typ]
		if row.class == unknownClass {
			t.Errorf("%s has no row in subjects", typ)
		}
		_, hasDate := dates[typ]
		_, hasHeading := shipped.headings[typ]
		if (row.class == person || row.class == either) && (!hasDate || !hasHeading) {
			t.Errorf("%s has no row in dates or headings", typ)
		}
	}
	if len(seen) < 70 {
		t.Errorf("%d types only", len(seen))
	}
}

// synthea is a whole Synthea person as one custodian's reply.
func synthea(t testing.TB, s sample) Reply {
	reply := Reply{Custodian: custodian("gp", record.KindGP), Base: "https://gp.example/fhir", Adapter: "fhirr4/1"}
	for _, e := range s.entries {
		if e.Resource.Get("resourceType").Is("Patient") {
			e.Resource = parsed(t, string(withNumber(e.Resource)))
		}
		reply.Entries = append(reply.Entries, e)
	}
	return reply
}

// Synthea's people whole: nothing is unaccounted for, nearly everything is dated, nothing is taken for somebody else's.
func TestSyntheaPeople(t *testing.T) {
	req := request(t)
	req.Subject.Family, req.Subject.BirthDate = "", ""
	people := 0
	for _, s := range samples(t, "synthea-r4") {
		if strings.Contains(s.name, "/info/") {
			continue
		}
		if people++; thinned && people > 3 {
			continue
		}
		p := prepare(t, req, everything, synthea(t, s))
		matches, undated := 0, map[string]int{}
		for _, e := range p.Entries {
			if e.Mode == Match {
				matches++
				if !e.Time.Dated() {
					undated[e.Type]++
				}
			}
		}
		for typ, n := range undated { // R4 gives these no clinical time, or Synthea does not fill it
			if typ != "Device" && typ != "CareTeam" && typ != "Goal" && typ != "SupplyDelivery" {
				t.Errorf("%s: %d %s undated", s.name, n, typ)
			}
		}
		if p.Counts.Strangers != 0 || p.Alarm || p.Status.State != record.Returned || matches < 30 {
			t.Errorf("%s: %+v %s", s.name, p.Counts, reasons(p.Status))
		}
		t.Logf("%s: %+v, dangling %d, undated %v", filepath.Base(s.name), p.Counts, p.Dangling, undated)
	}
	if people != 11 {
		t.Errorf("%d people", people)
	}
}

// A mental-health objection on real data: no byte that names a withheld entry is left in structure, and what is shown is whole.
func TestSamplesWithoutMentalHealth(t *testing.T) {
	req := request(t)
	req.Subject.Family, req.Subject.BirthDate = "", ""
	total := 0
	for _, s := range samples(t, "synthea-r4") {
		if strings.Contains(s.name, "/info/") {
			continue
		}
		if total > 0 && thinned {
			continue
		}
		reply := synthea(t, s)
		all := prepare(t, req, everything, reply)
		some := prepare(t, req, without(record.MentalHealth), reply)
		left := map[string]bool{}
		for _, e := range some.Entries {
			left[e.Type+"/"+e.ID] = true
		}
		text := string(bundle(t, Assemble(req, []Prepared{some}, nil), BundleMeta{}))
		gone := 0
		for _, e := range all.Entries {
			if left[e.Type+"/"+e.ID] {
				continue
			}
			if e.Mode == Match {
				gone++
				if e.Section != record.MentalHealth && !e.Others.Has(record.MentalHealth) {
					t.Errorf("%s: %s/%s is withheld and not of mental health", s.name, e.Type, e.ID)
				}
			}
			if strings.Contains(text, strings.TrimPrefix(e.ID, "gp-")) {
				t.Errorf("%s: the id of %s is left", s.name, e.Type)
			}
		}
		if gone != some.Counts.Withheld {
			t.Errorf("%s: %d gone, %d withheld", s.name, gone, some.Counts.Withheld)
		}
		total += gone
	}
	if total == 0 {
		t.Error("nothing of the samples is of mental health")
	}
	t.Logf("%d withheld", total)
}

// BenchmarkAnswer is a whole Synthea person (the largest) at one custodian and at nine, from indexed reply to written Bundle.
func BenchmarkAnswer(b *testing.B) {
	req := request(b)
	req.Subject.Family, req.Subject.BirthDate = "", ""
	var largest sample
	size := 0
	for _, s := range samples(b, "synthea-r4") {
		n := 0
		for _, e := range s.entries {
			n += len(e.Resource.Raw())
		}
		if n > size && !strings.Contains(s.name, "/info/") {
			largest, size = s, n
		}
	}
	for _, custodians := range []int{1, 9} {
		b.Run(fmt.Sprintf("custodians=%d", custodians), func(b *testing.B) {
			replies := make([]Reply, custodians)
			for i := range replies {
				replies[i] = synthea(b, largest)
				replies[i].Custodian.Key = record.CustodianKey(fmt.Sprintf("c%d", i))
			}
			b.SetBytes(int64(size * custodians))
			b.ReportAllocs()
			for b.Loop() {
				prepared := make([]Prepared, custodians)
				for i := range replies {
					var err error
					if prepared[i], err = Prepare(req, everything, replies[i]); err != nil {
						b.Fatal(err)
					}
				}
				if _, err := Assemble(req, prepared, nil).WriteBundle(io.Discard, BundleMeta{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
