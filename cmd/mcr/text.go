package main

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// safe makes text from outside fit for a terminal: what could move the cursor, change colours or turn the direction of writing becomes a
// visible mark, line ends and tabs become spaces. Everything that did not come from this program passes through here before it is shown.
func safe(s string) string {
	return strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t' || r == '\u0085' || r == '\u2028' || r == '\u2029':
			return ' '
		case r == utf8.RuneError, unicode.IsControl(r), invisible(r):
			return '\uFFFD'
		}
		return r
	}, s)), " ")
}

// invisible reports whether r changes how other text is shown, without being seen: direction marks, zero-width spaces, tags. The joiners
// U+200C and U+200D stay: people's names are written with them.
func invisible(r rune) bool {
	return r == 0x200B || r == 0x200E || r == 0x200F || r >= 0x202A && r <= 0x202E || r >= 0x2060 && r <= 0x206F || r == 0xFEFF || r == 0x061C || r == 0x00AD ||
		r >= 0xE0000 && r <= 0xE007F || r >= 0xFFF9 && r <= 0xFFFB
}

// cells is how many columns s takes, near enough: marks that sit on another character take none, wide East Asian characters two.
func cells(s string) int {
	n := 0
	for _, r := range s {
		switch {
		case unicode.Is(unicode.Mn, r) || unicode.Is(unicode.Me, r):
		case unicode.In(r, unicode.Han, unicode.Hangul, unicode.Hiragana, unicode.Katakana) || r >= 0xFF01 && r <= 0xFF60 || r >= 0x1F300 && r <= 0x1FAFF:
			n += 2
		default:
			n++
		}
	}
	return n
}

// pad fills s with spaces to a width.
func pad(s string, width int) string { return s + strings.Repeat(" ", max(0, width-cells(s))) }

// wrap breaks s into lines of at most width columns, at spaces where it can. There is always one line.
func wrap(s string, width int) []string {
	width = max(width, 10)
	var lines []string
	line := ""
	for _, word := range strings.Fields(s) {
		for cells(word) > width { // longer than a line: cut
			if line != "" {
				lines, line = append(lines, line), ""
			}
			cut := 0
			for i, r := range word {
				if cells(word[:i+utf8.RuneLen(r)]) > width {
					break
				}
				cut = i + utf8.RuneLen(r)
			}
			lines, word = append(lines, word[:cut]), word[cut:]
		}
		switch {
		case line == "":
			line = word
		case cells(line)+1+cells(word) <= width:
			line += " " + word
		default:
			lines, line = append(lines, line), word
		}
	}
	return append(lines, line)
}

// groupNumber writes an NHS number as people do: 999 000 0018.
func groupNumber(s string) string {
	if len(s) != 10 {
		return safe(s)
	}
	return safe(s[:3] + " " + s[3:6] + " " + s[6:])
}

// words turns a code into words: entered-in-error stays as the record says it, returned_in_part does not.
func words(code string) string { return strings.ReplaceAll(safe(code), "_", " ") }
