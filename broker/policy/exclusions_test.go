package policy

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestDefaultExclusions(t *testing.T) {
	list := DefaultExclusions()
	var groups []string
	for _, c := range list.Codes {
		if !slices.Contains(groups, c.Group) {
			groups = append(groups, c.Group)
		}
		if c.System != "http://snomed.info/sct" || !verhoeff(c.Code) {
			t.Errorf("%s: not a SNOMED CT identifier whose check digit is right", c.Code)
		}
	}
	if want := []string{"sexual-health", "fertility", "gender-recognition"}; !slices.Equal(groups, want) {
		t.Errorf("got groups %v, want %v", groups, want)
	}
	if list.Date == "" || len(list.Version) != 64 {
		t.Error("the list has no date or no version")
	}
	if strings.Count(strings.ToLower(defaultExclusions), "to be confirmed by the region") < len(groups)+1 {
		t.Error("each group says that it is to be confirmed by the region")
	}
}

// verhoeff reports whether a SNOMED CT identifier ends in its check digit (SNOMED CT Release File Specifications, 5.5): whoever mistypes one digit of a code
// would share what the list should keep back.
func verhoeff(code string) bool {
	d := [8][10]int{1: {1, 5, 7, 6, 2, 8, 3, 0, 9, 4}}
	for i := range 10 {
		d[0][i] = i
	}
	for row := 2; row < 8; row++ {
		for i := range 10 {
			d[row][i] = d[row-1][d[1][i]]
		}
	}
	times := func(a, b int) int { // in the dihedral group of order ten
		switch {
		case a < 5 && b < 5:
			return (a + b) % 5
		case a < 5:
			return 5 + (a+b-5)%5
		case b < 5:
			return 5 + (a-5-b+5)%5
		}
		return (a - b + 5) % 5
	}
	c := 0
	for i := range len(code) {
		digit := int(code[len(code)-1-i] - '0')
		if digit < 0 || digit > 9 {
			return false
		}
		c = times(c, d[i%8][digit])
	}
	return c == 0 && len(code) >= 6 && len(code) <= 18
}

func TestExclusionsAreStrict(t *testing.T) {
	good := "date 2026-01-31\nexclude a http://snomed.info/sct|1 # a comment\nexclude b urn:x#y|2\n"
	for name, c := range map[string]struct{ text, want string }{
		"good":         {good, ""},
		"no date":      {"exclude a s|1\n", "it has no date"},
		"two dates":    {good + "date 2026-01-31\n", "line 4: write one date"},
		"bad date":     {"date soon\n", "line 1: write one date"},
		"nothing":      {"date 2026-01-31\n", "excludes nothing"},
		"no code":      {good + "exclude a s|\n", "line 4: write: exclude"},
		"no system":    {good + "exclude a |1\n", "line 4: write: exclude"},
		"bad group":    {good + "exclude A s|1\n", "line 4: write: exclude"},
		"twice":        {good + "exclude c urn:x#y|2\n", "line 4: this code was there before"},
		"another word": {good + "allow a s|1\n", "line 4: write: date"},
		"not UTF-8":    {"\xff", "not UTF-8"},
	} {
		path := filepath.Join(t.TempDir(), "exclusions.txt")
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		list, err := LoadExclusions(path)
		if c.want == "" {
			if err != nil || len(list.Codes) != 2 || list.Codes[1] != (ExcludedCode{"b", "urn:x#y", "2"}) {
				t.Errorf("%s: %v", name, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	if _, err := LoadExclusions(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that is not there is read")
	}
}
