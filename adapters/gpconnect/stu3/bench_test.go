package stu3

import (
	"testing"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

// BenchmarkConvert converts the published answers, from indexed reply to indexed result, as the merge is measured from indexed reply to written
// Bundle (broker/merge, BenchmarkAnswer): conversion may take no more than three times as long for a byte. Read beside it is the text before that.
func BenchmarkConvert(b *testing.B) {
	var largest sample
	all := samples(b, "gp-connect-stu3/structured-record")
	for _, s := range all {
		if len(s.text) > len(largest.text) {
			largest = s
		}
	}
	for _, set := range []struct {
		name string
		list []sample
	}{{"largest", []sample{largest}}, {"all", all}} {
		n := int64(0)
		var in [][]fhirjson.Entry
		for _, s := range set.list {
			in = append(in, resourcesOf(s))
			n += int64(len(s.text))
		}
		b.Run(set.name, func(b *testing.B) {
			b.SetBytes(n)
			b.ReportAllocs()
			for b.Loop() {
				for _, entries := range in {
					if _, err := Convert(entries, "https://gp.example/fhir", Limits{}); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
