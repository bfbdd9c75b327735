package fhirjson

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// syntheaBundles reads the whole people of the sample data, which stands beside the repository, not in it.
func syntheaBundles(b testing.TB) [][]byte {
	b.Helper()
	dir := filepath.Join("..", "..", "..", "shared", "data", "synthea-r4")
	files, err := os.ReadDir(dir)
	if err != nil {
		if os.Getenv("CI") != "" {
			b.Fatal("the sample data is missing: put it in shared/data beside the repository")
		}
		b.Skip("no sample data: this reads shared/data beside the repository")
	}
	var out [][]byte
	for _, f := range files {
		if f.IsDir() || !strings.HasSuffix(strings.TrimSuffix(f.Name(), ".gz"), ".json") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			b.Fatal(err)
		}
		if strings.HasSuffix(f.Name(), ".gz") {
			z, err := gzip.NewReader(bytes.NewReader(text))
			if err != nil {
				b.Fatal(err)
			}
			if text, err = io.ReadAll(z); err != nil {
				b.Fatal(err)
			}
		}
		out = append(out, text)
	}
	return out
}

// BenchmarkParse reads real bundles, as published (indented) and with white space taken out, with this package and with encoding/json: in one
// run, so that the ratios count.
func BenchmarkParse(b *testing.B) {
	published := syntheaBundles(b)
	var compact [][]byte
	for _, text := range published {
		var c bytes.Buffer
		if err := json.Compact(&c, text); err != nil {
			b.Fatal(err)
		}
		compact = append(compact, c.Bytes())
	}
	for _, form := range []struct {
		name  string
		texts [][]byte
	}{{"published", published}, {"compact", compact}} {
		for _, reader := range []struct {
			name string
			read func(text []byte) error
		}{
			{"fhirjson", func(text []byte) error { _, err := Parse(text, Limits{}); return err }},
			{"encoding-json-valid", func(text []byte) error {
				if !json.Valid(text) {
					return io.ErrUnexpectedEOF
				}
				return nil
			}},
			{"encoding-json-any", func(text []byte) error { var v any; return json.Unmarshal(text, &v) }},
		} {
			b.Run(form.name+"/"+reader.name, func(b *testing.B) {
				size := int64(0)
				for _, text := range form.texts {
					size += int64(len(text))
				}
				b.SetBytes(size)
				b.ReportAllocs()
				for b.Loop() {
					for _, text := range form.texts {
						if err := reader.read(text); err != nil {
							b.Fatal(err)
						}
					}
				}
			})
		}
	}
}
