package authn

import (
	"fmt"
	"strings"
	"testing"
)

// Names that are one but for letter case are found in small objects and in large ones, whatever alphabet they are in.
func TestReadJSONOfManyMembers(t *testing.T) {
	for _, n := range []int{1, fewMembers - 1, fewMembers, fewMembers + 1, 200} {
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

// A token is read with each request.
func TestAllocationsOfReadJSON(t *testing.T) {
	raw := []byte(`{"iss": "https://issuer.example", "sub": "555000001", "aud": "https://broker.example", "exp": 1790000000, "iat": 1789996400, "jti": "0123",
		"name": "Example, Pat", "nhsid_nrbac_roles": [{"person_roleid": "555", "org_code": "X9A01", "role_code": "S0030:G0100:R0260"}]}`)
	got := testing.AllocsPerRun(100, func() {
		if _, err := parseObject(raw); err != nil {
			t.Fatal(err)
		}
	})
	if got > 32 {
		t.Errorf("%.0f allocations, want at most 32", got)
	}
}
