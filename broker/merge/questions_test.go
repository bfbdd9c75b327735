package merge

import (
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

func TestOnlySoMuchOfAQuestionIsLookedAt(t *testing.T) {
	p := preparing{req: request(t), rules: everything, reply: replyOf(t, `{"resourceType":"Observation","id":"o",`+toAda+`,"focus":[{"reference":"Observation?_id=o`+strings.Repeat("%2Co", 1000)+`"}]}`)}
	if err := p.index(); err != nil {
		t.Fatal(err)
	}
	p.cited = map[string][]int32{}
	p.scanAll(p.items[1].v, &p.items[1], func(int32) {}, func(string) {})
	if len(p.refs) > mostAsked+3 {
		t.Errorf("%d references", len(p.refs))
	}
}

func TestWhatAsksForTheWithheldIsMasked(t *testing.T) {
	for _, reference := range []string{`"reference":"Condition?identifier=secret-number"`, `"reference":"Condition/?_id=secret-condition"`, `"reference":"Condition/_search?_id=secret-condition"`,
		`"reference":"Condition?_id=secret-condition#x"`, `"reference":"Condition%3F_id=secret-condition"`, `"reference":" Condition?_id= secret-condition"`, `"reference":"?_type=Condition&_id=secret-condition"`,
		`"identifier":[{"system":"urn:s","value":"secret-number"}]`, `"reference":"Observation/o/_history/../../../Condition/secret-condition"`} {
		p := prepare(t, request(t), without(record.MentalHealth), replyOf(t, depression, `{"resourceType":"Observation","id":"o",`+toAda+`}`, `{"resourceType":"Encounter","id":"e",`+toAda+`,"diagnosis":[{"condition":{`+reference+`,"display":"secret-display"}}]}`))
		if got := member(t, p, "Encounter", "gp-e", "diagnosis"); strings.Contains(got, "secret") {
			t.Errorf("%s", got)
		}
	}
}

func TestWhatAsksElsewhereThanInAReference(t *testing.T) {
	for _, x := range []string{`"valueUri":"Condition?_id=secret-condition"`, `"valueAttachment":{"url":"Condition?_id=secret-condition"}`, `"valueUri":"Condition/secret-condition?sig=` + strings.Repeat("A", 1000) + `"`} {
		p := prepare(t, request(t), without(record.MentalHealth), replyOf(t, depression, `{"resourceType":"Task","id":"e","for":{"reference":"Patient/p"},"extension":[{"url":"u",`+x+`}]}`))
		if has(p, "Task", "gp-e") && strings.Contains(string(find(t, p, "Task", "gp-e").JSON), "secret") {
			t.Errorf("%.60s", x)
		}
	}
	p := prepare(t, request(t), without(record.MentalHealth), bare(t, "https://a.example/fhir/Patient/p "+ada,
		`https://b.example/fhir/Condition/secret-condition `+strings.Replace(depression, "Patient/p", "https://a.example/fhir/Patient/p", 1),
		`https://a.example/fhir/DocumentReference/d {"resourceType":"DocumentReference","id":"d",`+toAda+`,"content":[{"attachment":{"url":"https://b.example/fhir/Condition/secret-condition"}}]}`))
	if has(p, "DocumentReference", "gp-d") && strings.Contains(string(find(t, p, "DocumentReference", "gp-d").JSON), "secret") {
		t.Error("an Attachment at another root")
	}
}

// What an Encounter hands down comes by an identifier and a question too.
func TestReferencesWithoutAddressHandDown(t *testing.T) {
	encounter := `{"resourceType":"Encounter","id":"e",` + toAda + `,"identifier":[{"system":"s","value":"v"}],"type":[{"coding":[{"code":"35489007"}]}]}`
	for _, x := range []string{`"encounter":{"identifier":{"system":"s","value":"v"}}`, `"encounter":{"reference":"Encounter?identifier=s|v"}`} {
		p := prepare(t, request(t), without(record.MentalHealth), replyOf(t, encounter, `{"resourceType":"Observation","id":"o",`+toAda+`,`+x+`}`))
		if has(p, "Observation", "gp-o") {
			t.Errorf("%s", find(t, p, "Observation", "gp-o").JSON)
		}
	}
	p := prepare(t, request(t), without(record.MentalHealth), replyOf(t, depression, `{"resourceType":"Binary","id":"b","securityContext":{"identifier":{"system":"urn:s","value":"secret-number"}},"data":"c2VjcmV0"}`,
		`{"resourceType":"Communication","id":"c",`+toAda+`,"payload":[{"contentReference":{"reference":"Binary/b"}}]}`))
	if has(p, "Binary", "gp-b") {
		t.Error("a Binary")
	}
	p = prepare(t, request(t), without(record.MentalHealth), replyOf(t, encounter, `{"resourceType":"DocumentReference","id":"d",`+toAda+`,"context":[{"encounter":[]},{"encounter":[{"reference":"Encounter/e"}]}]}`))
	if has(p, "DocumentReference", "gp-d") {
		t.Error("a context that is not the first")
	}
}

func TestAQuestionForAnythingTellsNothing(t *testing.T) {
	asks := `{"resourceType":"Observation","id":"e",` + toAda + `,"focus":[{"reference":"Location?_id=` + strings.Repeat("a,", 20) + `"}]}`
	a := prepare(t, request(t), without(record.MentalHealth), replyOf(t, asks))
	b := prepare(t, request(t), without(record.MentalHealth), replyOf(t, asks, depression))
	if x, y := string(find(t, a, "Observation", "gp-e").JSON), string(find(t, b, "Observation", "gp-e").JSON); x != y {
		t.Errorf("%s\n%s", x, y)
	}
}
