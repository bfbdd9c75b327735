// Package record holds the words that every other package shares: who a person
// is, who asks, why, on what permission, which section of a record, and when
// something happened. It imports the standard library only, reads nothing,
// and keeps nothing.
//
// Nothing here prints a person: an [NHSNumber] shows as a fixed word under
// every verb, in logs, in JSON and in errors. [NHSNumber.Reveal] is the one
// word to look for when asking where a number can leave.
package record
