package hl7v2_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/mycarerecord/mycarerecord/adapters/hl7v2"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

const (
	mshLegacy = `MSH|^~\&|E|X9B01|||20260101||ORF^R04|1|P|2.3||||||UNICODE UTF-8` + "\r"
	ackLegacy = "MSA|AA|{CTL}\r{QPD}\r"

	errInternal   = "ERR|||207^Application internal error^HL70357|E\r"
	errUnknownKey = "ERR|||204^Unknown key identifier^HL70357|E\r"
	errLegacy     = "ERR|^^^207&Application internal error&HL70357\r"
)

// legacyOnly asks as version 2.4 and before do.
func legacyOnly(s *hl7v2.Settings) { s.Queries, s.LegacyQueries = nil, []string{"RES"} }

// That there is no record is believed of an answer that says nothing else. One that speaks of an error, counts hits, goes on elsewhere or holds a record
// beside it is in trouble or contradicts itself.
func TestWhatIsNoRecord(t *testing.T) {
	rsp := func(ack, errs, qak, rest string) string {
		return mshGood + "MSA|" + ack + "\r" + errs + "QAK|{TAG}|" + qak + "\r{QPD}\r" + rest
	}
	legacy := func(more string) string { return mshLegacy + ackLegacy + more }
	legacyMSA := func(more string) string { return mshLegacy + "MSA|AA|{CTL}" + more + "\r{QPD}\r" }
	none, malformed, unauthorised := broker.ErrNoRecord, broker.ErrMalformed, broker.ErrUnauthorised
	for _, c := range []struct {
		name, text string
		legacy     bool
		want       error
	}{
		{"not found", rsp("AA|{CTL}", "", "NF", ""), false, none},
		{"not found, and no hits", rsp("AA|{CTL}", "", "NF|Z71|0|0|00", ""), false, none},
		{"not found, and counts that are null", rsp("AA|{CTL}", "", `NF|Z71|""|""|""`, ""), false, none},
		{"not found, and a warning", rsp("AA|{CTL}", "ERR||MSH^1^8|207|W\r", "NF", ""), false, none},
		{"not found, and that all went well", rsp("AA|{CTL}", "ERR|||0^Message accepted^HL70357|I\rERR|||0\r", "NF", ""), false, none},
		{"not found, and so is the key", rsp("AA|{CTL}", errUnknownKey, "NF", ""), false, none},
		{"not found, and an error", rsp("AA|{CTL}", errInternal, "NF", ""), false, malformed},
		{"not found, and an error in another version's words", rsp("AA|{CTL}", errLegacy, "NF", ""), false, malformed},
		{"not found, and an error without a severity", rsp("AA|{CTL}", "ERR|||207\r", "NF", ""), false, malformed},
		{"not found, and an error of which nothing else is said", rsp("AA|{CTL}", "ERR|\r", "NF", ""), false, malformed},
		{"not found, and an error of which nothing is said", rsp("AA|{CTL}", `ERR|""|""`+"\r", "NF", ""), false, malformed},
		{"not found, and an error about us", rsp("AA|{CTL}", "ERR||MSH^1^8|207|E\r", "NF", ""), false, unauthorised},
		{"not found, and an error in MSA", rsp("AA|{CTL}|Database down|||207", "", "NF", ""), false, malformed},
		{"not found, and three hits", rsp("AA|{CTL}", "", "NF|Z71|3|0|3", ""), false, malformed},
		{"not found, and a hit here", rsp("AA|{CTL}", "", "NF|Z71||1|", ""), false, malformed},
		{"not found, and some remaining", rsp("AA|{CTL}", "", "NF|Z71|||some", ""), false, malformed},
		{"not found, and a continuation", rsp("AA|{CTL}", "", "NF", "DSC|P2|I\r"), false, malformed},
		{"the key is not known", rsp("AE|{CTL}", errUnknownKey, "AE", ""), false, none},
		{"the key is not known, and a warning", rsp("AE|{CTL}", "ERR|||207|W\r"+errUnknownKey, "AE", ""), false, none},
		{"the key is not known, and an error before", rsp("AE|{CTL}", errInternal+errUnknownKey, "AE", ""), false, malformed},
		{"the key is not known, and an error after", rsp("AE|{CTL}", errUnknownKey+errInternal, "AE", ""), false, malformed},
		{"the key is not known, and an error about us", rsp("AE|{CTL}", errUnknownKey+"ERR||MSH^1^3|103|E\r", "AE", ""), false, unauthorised},
		{"the key is not known, and another error in one field", rsp("AE|{CTL}", "ERR|QPD^1^3^204~^^^207\r", "AE", ""), false, malformed},
		{"the key is not known, and a record", rsp("AE|{CTL}", errUnknownKey, "AE", pidGood+labGood), false, malformed},
		{"the key is not known, and three hits", rsp("AE|{CTL}", errUnknownKey, "AE|Z71|3|3|0", ""), false, malformed},
		{"the key is not known, and a continuation", rsp("AE|{CTL}", errUnknownKey, "AE", "DSC|P2|I\r"), false, malformed},
		{"version 2.3: nothing", legacy(""), true, none},
		{"version 2.3: nothing, and an empty continuation", legacy("DSC|\r"), true, none},
		{"version 2.3: nothing, and that all went well", legacyMSA("||||0"), true, none},
		{"version 2.3: nothing, and words", legacyMSA("|No results"), true, none},
		{"version 2.4: not found", legacy("QAK|{TAG}|NF\r"), true, none},
		{"version 2.4: found, and nothing there", legacy("QAK|{TAG}|OK\r"), true, malformed},
		{"version 2.3: nothing, and hits", legacy("QAK|{TAG}||RES|3\r"), true, malformed},
		{"version 2.3: nothing, and an error", legacy(errLegacy), true, malformed},
		{"version 2.3: nothing, and an error without a place", legacy("ERR|207\r"), true, malformed},
		{"version 2.3: nothing, and an error about us", legacy("ERR|MSH^1^4^103\r"), true, unauthorised},
		{"version 2.3: nothing, and an error in MSA", legacyMSA("|Database down|||207"), true, malformed},
		{"version 2.3: nothing, and a continuation", legacy("DSC|P2\r"), true, malformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEvil(t, func(int) string { return block(c.text) })
			only := func(s *hl7v2.Settings) { s.Queries = []string{"Z71^Results^LOCAL"} }
			if c.legacy {
				only = legacyOnly
			}
			if _, err := source(t, e.address, only).Fetch(t.Context(), query(t, held)); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// Before version 2.5 an error has a code and no severity (ERR-1, MSA-6). A record beside it is not whole, whichever version the engine says it speaks.
func TestEarlierErrorsBesideARecord(t *testing.T) {
	for errs, whole := range map[string]bool{
		errLegacy: false, "ERR|PID^1^5^207\r": false, "ERR|PID^1^5^0~PID^1^7^102\r": false, "ERR|PID^1^5\r": false, "ERR|207\r": false,
		"ERR|^^^0&Message accepted&HL70357\r": true, "ERR|^^^207|||W\r": true, "ERR|^^^207|||E\r": false, "": true,
	} {
		for _, c := range []struct {
			text   string
			change func(*hl7v2.Settings)
			source string
		}{
			{mshGood + "MSA|AA|{CTL}\r" + errs + "QAK|{TAG}|OK\r{QPD}\r" + pidGood + labGood, func(s *hl7v2.Settings) { s.Queries = []string{"Z71^Results^LOCAL"} }, "Z71"},
			{mshLegacy + ackLegacy + pidGood + labGood + errs, legacyOnly, "RES"},
		} {
			notWhole(t, errs, c.text, c.change, c.source, whole)
		}
	}
	for code, whole := range map[string]bool{"207": false, "0": true, "": true} {
		notWhole(t, "MSA-6 "+code, mshLegacy+"MSA|AA|{CTL}||||"+code+"\r{QPD}\r"+pidGood+labGood, legacyOnly, "RES", whole)
	}
}

// notWhole asks an engine that answers with a record, and fails unless the reply says that more was promised, or, where it is whole, does not.
func notWhole(t *testing.T, name, text string, change func(*hl7v2.Settings), from string, whole bool) {
	t.Helper()
	e := newEvil(t, func(int) string { return block(text) })
	reply, err := source(t, e.address, change).Fetch(t.Context(), query(t, held))
	var want []record.Part
	if !whole {
		want = []record.Part{{Source: from, Reason: record.PartTruncated}}
	}
	if err != nil || !slices.Equal(reply.Parts, want) {
		t.Errorf("%q beside a record of %s: got %v, %v, want %v", name, from, reply.Parts, err, want)
	}
}
