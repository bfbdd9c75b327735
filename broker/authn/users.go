package authn

import (
	"strings"
	"unicode"
)

// sharedWords are names of nobody in particular. An access log is worth what its user ids are worth (reliability plan, T-02), so an
// identity that several people use is no identity.
var sharedWords = map[string]bool{
	"admin": true, "administrator": true, "root": true, "superuser": true, "sysadmin": true, "test": true, "tester": true, "testing": true,
	"user": true, "users": true, "guest": true, "temp": true, "temporary": true, "default": true, "service": true, "svc": true,
	"account": true, "login": true, "nobody": true, "null": true, "nil": true, "none": true, "undefined": true, "na": true,
	"unk": true, "tbc": true, "agency": true, "bank": true, "locum": true, "ward": true, "reception": true, "doctor": true, "nurse": true,
	"clinician": true, "staff": true, "team": true, "clinic": true, "dummy": true, "example": true,
}

// alwaysShared are words that make any user id a shared one.
var alwaysShared = map[string]bool{"system": true, "shared": true, "generic": true, "anonymous": true, "anon": true, "unknown": true}

// isOnePerson reports whether a user id can be that of one person: 3 to 64 of A-Z a-z 0-9 - _ . @ |, not one character over and
// over, not a run of digits counted up, and not made of words that name nobody ("system", "ward2", "shared-ed", "test_user").
func isOnePerson(user string) bool {
	if len(user) < 3 || len(user) > 64 {
		return false
	}
	same, counted := true, true
	for i := range len(user) {
		b := user[i]
		if !(b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || strings.IndexByte("-_.@|", b) >= 0) {
			return false
		}
		same = same && b == user[0]
		counted = counted && b >= '0' && b <= '9' && (i == 0 || b-'0' == (user[i-1]-'0'+1)%10)
	}
	if same || counted {
		return false
	}
	words := strings.FieldsFunc(strings.ToLower(user), func(r rune) bool { return !unicode.IsLetter(r) })
	nobody := len(words) > 0                  // digits alone are how SDS numbers people
	if sharedWords[strings.Join(words, "")] { // n.a
		words = []string{strings.Join(words, "")}
	}
	digits := strings.IndexFunc(user, unicode.IsDigit) >= 0
	for _, w := range words {
		if alwaysShared[w] {
			return false
		}
		nobody = nobody && sharedWords[w]
	}
	if !digits {
		return !nobody && len(words) > 0
	}
	return !nobody || longDigits(user)
}

// longDigits reports whether s has a run of at least six digits: "user555012345678" numbers a person, "user01" does not.
func longDigits(s string) bool {
	run := 0
	for i := range len(s) {
		if s[i] >= '0' && s[i] <= '9' {
			if run++; run >= 6 {
				return true
			}
		} else {
			run = 0
		}
	}
	return false
}
