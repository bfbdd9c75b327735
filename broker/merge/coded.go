package merge

import (
	_ "embed"
	"strings"
)

//go:embed coded.txt
var codedText string

// placeKind is what stands at a path.
type placeKind uint8

const (
	coding placeKind = iota + 1
	wording
)

// placeTable says what stands at which path of which type, as far as section rules may look there.
type placeTable map[string]map[string]placeKind

// places is coded.txt, with the paths that lead into concepts and codings.
var places = func() placeTable {
	t := placeTable{}
	for typ, row := range subjects {
		if row.class == person || row.class == either {
			t[typ] = map[string]placeKind{}
			t.codings(typ, "meta.security")
			t.codings(typ, "meta.tag")
		}
	}
	for line := range strings.Lines(codedText) {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] == "#" {
			continue
		}
		for _, path := range f[2:] {
			switch f[1] {
			case "concept":
				t.codings(f[0], path+".coding")
				t[f[0]][path+".text"] = wording
			case "coding":
				t.codings(f[0], path)
			case "text":
				t[f[0]][path] = wording
			}
		}
	}
	return t
}()

func (t placeTable) codings(typ, path string) {
	t[typ][path] = coding
	t[typ][path+".display"] = wording
}

func (t placeTable) has(typ, path string) bool { return t[typ][path] != 0 }

// find says what stands at a path in one of the types, nil for all; 0 for nothing.
func (t placeTable) find(types []string, path string) placeKind {
	for _, typ := range types {
		if k := t[typ][path]; k != 0 {
			return k
		}
	}
	if types == nil {
		for _, paths := range t {
			if k := paths[path]; k != 0 {
				return k
			}
		}
	}
	return 0
}
