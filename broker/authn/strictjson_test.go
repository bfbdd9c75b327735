package authn

import (
	"fmt"
	"strings"
	"testing"
)

// Names that are one but for letter case are found in small objects and in large ones, whatever alphabet they are in.
func TestReadJSONOfManyMembers(t *testing.T) {
	for _, n := range []int{1, 24, 200} {
		var members []string
		for i := range n {
			members = append(members, fmt.Sprintf(`"Née-%d": [%d, {"x": "\u00e9\\"}]`, i, i))
		}
		text := func(more ...string) []byte { return []byte("{" + strings.Join(append(members, more...), " , ") + "}") }
		v, err := ReadJSON(text(), maxDepth)
		if object, is := v.(map[string]any); err != nil || !is || len(object) != n {
			t.Errorf("%d members: %v, %d read", n, err, len(object))
		}
		for _, again := range []string{"Née-0", "née-0", "NÉE-0", `n\u00c9e-0`, fmt.Sprintf("néE-%d", n-1)} {
			if _, err := ReadJSON(text(`"`+again+`": 1`), maxDepth); err != errAmbiguousMembers { //nolint:errorlint // it is that one
				t.Errorf("%d members and %s: %v", n, again, err)
			}
		}
		if _, err := ReadJSON(text(`"nee-0": 1`), maxDepth); err != nil {
			t.Errorf("%d members and another: %v", n, err)
		}
	}
}
