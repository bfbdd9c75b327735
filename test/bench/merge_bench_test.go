package main

import (
	"io"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/policy"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// BenchmarkMerge is what the comparison's records cost between the socket in and the socket out: five replies scanned, prepared, put in order and
// written. Its parts add up to "whole".
func BenchmarkMerge(b *testing.B) {
	number, err := record.ParseNHSNumber(people[0].Number)
	if err != nil {
		b.Fatal(err)
	}
	req := merge.Request{Base: "https://broker.example/fhir", CodeBase: "https://mycarerecord.example", Handle: "handle", Now: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC),
		IDKey:   []byte("a key of the benchmarks, 32 bytes"),
		Subject: record.Subject{Number: number, Standing: record.Live, Family: people[0].Family, Given: []string{people[0].Given}, Gender: "female", BirthDate: people[0].Born}}
	var never []merge.Code
	for _, c := range policy.DefaultExclusions().Codes {
		never = append(never, merge.Code{System: c.System, Code: c.Code})
	}
	rules := merge.Rules{Permitted: record.AllSections, Excluded: merge.CodesOf(never...)}
	for _, z := range sizes {
		var texts [][]byte
		total := int64(0)
		for _, k := range custodianKeys {
			texts = append(texts, bundleOf(people[0], k, z))
			total += int64(len(texts[len(texts)-1]))
		}
		scan := func() (replies []merge.Reply) {
			for i, k := range custodianKeys {
				doc, err := fhirjson.Parse(texts[i], fhirjson.Limits{})
				if err != nil {
					b.Fatal(err)
				}
				bundle, err := fhirjson.ReadBundle(doc)
				if err != nil {
					b.Fatal(err)
				}
				replies = append(replies, merge.Reply{Custodian: record.Custodian{Key: record.CustodianKey(k.Key), ODS: record.ODSCode(k.ODS), Name: k.Name, Kind: record.CustodianKind(k.Kind)},
					Base: "https://" + k.Key + ".example/fhir", Entries: bundle.Entries, Adapter: "fhirr4/1"})
			}
			return replies
		}
		prepare := func(replies []merge.Reply) (prepared []merge.Prepared) {
			for _, r := range replies {
				p, err := merge.Prepare(req, rules, r)
				if err != nil {
					b.Fatal(err)
				}
				prepared = append(prepared, p)
			}
			return prepared
		}
		write := func(prepared []merge.Prepared) {
			if _, err := merge.Assemble(req, prepared, nil).WriteBundle(io.Discard, merge.BundleMeta{}); err != nil {
				b.Fatal(err)
			}
		}
		replies := scan()
		prepared := prepare(replies)
		for _, part := range []struct {
			name string
			run  func()
		}{{"scan", func() { scan() }}, {"prepare", func() { prepare(replies) }}, {"write", func() { write(prepared) }}, {"whole", func() { write(prepare(scan())) }}} {
			b.Run(z.Name+"/"+part.name, func(b *testing.B) {
				b.SetBytes(total)
				b.ReportAllocs()
				for b.Loop() {
					part.run()
				}
			})
		}
	}
}
