package hl7v2_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/adapters/hl7v2"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/test/simulator"
)

// Pieces that begin with each other, and values that are almost put together of them, get no more work than their bytes are worth.
func TestLookingForPiecesIsLinear(t *testing.T) {
	for _, n := range []int{250, 1000, 4000} {
		var pieces, values []string
		for i := range 130 {
			pieces = append(pieces, strings.Repeat("ab ", n-150+i)+"a")
		}
		for i := range 38 {
			values = append(values, fmt.Sprintf("%sx%c%c", strings.Repeat("ab ", n), 'A'+i/26, 'A'+i%26))
		}
		field := strings.Join(append(append(pieces, values...), "ab ab", "ab"), "~")
		for i, v := range values { // as a family name stands behind a given one
			values[i] = "ab " + v
		}
		if compared := hl7v2.Compared(field, values...); compared > 20*len(field) || compared < len(field)/4 {
			t.Errorf("%d bytes compared for a field of %d", compared, len(field))
		} else {
			t.Logf("%d bytes compared for a field of %d", compared, len(field))
		}
	}
}

// Each value of an OBX is a component or a file that repeats what stands beside it: more of that than a resource may be is not written first.
func TestValuesThatRepeatWhatIsBesideThem(t *testing.T) {
	long, often := strings.Repeat("x", 2_000), strings.Repeat("1~", 9_000)
	for name, text := range map[string]string{
		"a code":              "OBX|1|NM|" + long + "^A^L||" + often + "||||||F\r",
		"a unit":              "OBX|1|NM|1^A^L||" + often + "|" + long + "|||||F\r",
		"a time":              "OBX|1|RP|1^A^L||" + often + "||||||F|||" + long + "\r",
		"the report's time":   "OBR|1||F1|X^Y^L|||" + long + "\rOBX|1|RP|1^A^L||" + often + "||||||F\r",
		"the document's time": "TXA|1|DS|AP|||" + long + "||||||D1|||||AU\rOBX|1|RP|1^A^L||" + often + "||||||F\r",
	} {
		_, _, err := hl7v2.Convert([]byte(`MSH|^~\&|A|B|C|D|20260101||ORU^R01|1|P|2.5.1||||||ASCII`+"\rPID|1||"+held+"^^^NHS^NH\r"+text), "", number(t, held))
		if !errors.Is(err, broker.ErrTooMuch) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// A request that ends while an answer is converted ends the conversion.
func TestConversionEndsWithTheRequest(t *testing.T) {
	answer := block(good + strings.Repeat(obxGood, 15_000))
	e := newEvil(t, func(int) string { return answer })
	s := source(t, e.address, func(s *hl7v2.Settings) { s.Queries = []string{simulator.QueryResults} })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	q := query(t, held)
	q.Limits = broker.DefaultLimits
	taken, after := int64(0), 0
	q.Limits.Take = func(n int64) bool {
		if taken += n; taken > int64(len(answer))+64<<10 { // all has been read, and what is made of it is counted
			cancel()
			after++
		}
		return true
	}
	if _, err := s.Fetch(ctx, q); !errors.Is(err, context.Canceled) || after == 0 || after > 2 {
		t.Errorf("got %v, and %d resources more", err, after)
	}
}
