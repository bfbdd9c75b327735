package hl7v2_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/adapters/hl7v2"
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
