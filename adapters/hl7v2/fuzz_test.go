package hl7v2_test

import (
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/adapters/hl7v2"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

// seeds are messages of invented people, one of each kind.
var seeds = []string{
	`MSH|^~\&|E|X9B01|||20260101||ORU^R01^ORU_R01|1|P|2.5.1||||||UNICODE UTF-8` + "\r" + `PID|1||9990000034^^^NHS^NH~77^^^X9B01^MR||Ashworth^Zoë^^^Dr||19500304|F` + "\r" +
		"PV1|1|I|W1^2^3|||||C1^Field^Ida^^^Dr^^^GMC||||||||||||V1^^^X9B01^VN\rORC|RE|P1|F1\rOBR|1|P1|F1^X|FBC^Full blood count^L|||20240101080000+0000|||||||||||||||20240101100000+0000||LAB|F\r" +
		`NTE|1|L|A note\.br\of two lines` + "\rOBX|1|NM|718-7^Haemoglobin^LN||135.0|g/L^gram per litre^UCUM|130-170|N|||F|||202401010800\r" +
		"OBX|2|SN|1^A^L||<^0.01|ng/L||L|||P\rOBX|3|SN|1^A^L||^1^:^128\rOBX|4|NM|1^A^L||1~2.50~x\rOBX|5|CWE|1^A^L||1^B^SCT^2^C^L^^^D||||||W\rNTE|1\rSPM|1|||BLD^Blood^L|||||||||||||20240101^20240102|20240103\r",
	`MSH|^~\&|E|X9B01|||20260101||ADT^A08|1|P|2.4||||||8859/1` + "\rEVN|A08|20240101\r" + "PID|1||9990000034^^^NHS^NH||M\xfcller^Ada||1950|A|||1 Hill^^Town^^AB1 2CD||01632 960001^PRN^PH\rPD1||||G1^Field^Ida\r" +
		"NK1|1|Ashworth^Bo|SPO\rPV1|1|E||||||||||||||||||||||||||||||||||||||||||20240101|20240102\rPV2|||^Fall\rAL1|1|DA|1^Penicillin^L|SV|Rash|2020\rDG1|1||S72^Fracture^I10||20240101|F\rPR1|1||W37^Hip^L||20240102\rZZ1|x\rRXA|0\rIN1|1\r",
	`MSH|^~\&|E|X9B01|||20260101||MDM^T02|1|P|2.3` + "\rPID|1||9990000034^^^NHS^NH\rORC|NW\rOBR|1||F1\rTXA|1|DS|TX|20240101||20240102||||||D1||||a.txt|AU|R|AV\r" +
		"OBX|1|TX|1^T^L||Line~Line\rOBX|2|ED|1^P^L||A^AP^PDF^Base64^QUFB\rOBX|3|RP|1^P^L||https://x.example/a^^text^PDF\rOBX|4|CE|1^P^L||A^B^application/pdf^Base64^QUFB\r",
	"MSH$%*!?$A$B$$$20260101$$ORU%R01$1$P$2.5\nPID$1$$9990000034%%%NHS%NH\nOBX$1$ST$1%A$$x!F!y!X41!!.br!!H!?\n",
	"\ufeff" + `MSH|^~\&#|A|B|||20260101||SIU^S12|1|P|2.7` + "\nSCH|1\nRGS|1\nPID|1||x\nOBX|1\n",
}

// FuzzConvert reads any message: nothing panics, what comes out is strict FHIR JSON of resources with a type, every one of them about the person or a
// stranger, and the same message gives the same bytes.
func FuzzConvert(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s), "ASCII")
		f.Add([]byte(s), "WINDOWS-1252")
	}
	f.Fuzz(func(t *testing.T, text []byte, set string) {
		n := number(t, held)
		out, _, err := hl7v2.Convert(text, set, n)
		if err != nil {
			return
		}
		again, _, err := hl7v2.Convert(text, set, n)
		if err != nil || string(again) != string(out) {
			t.Fatal("the same message gives other bytes")
		}
		d, err := fhirjson.Parse(out, fhirjson.Limits{})
		if err != nil {
			t.Fatalf("not strict JSON: %v", err)
		}
		for r := range d.Root().Elems() {
			typ := r.Get("resourceType").Text()
			if typ == "" {
				t.Fatal("a resource without a type")
			}
			if typ == "Patient" {
				continue
			}
			who := r.At("subject", "reference").Text() + r.At("patient", "reference").Text()
			if who != "urn:mycarerecord:subject" && !strings.HasPrefix(who, "urn:mycarerecord:stranger:") {
				t.Fatalf("a %s about nobody", typ)
			}
			if id := r.Get("id").Text(); len(id) != 32 {
				t.Fatalf("a %s without an id", typ)
			}
		}
	})
}

// FuzzBlock reads any bytes as a block of the lower layer: nothing panics, and what is found is what stands between the marks.
func FuzzBlock(f *testing.F) {
	for _, s := range []string{"\x0bMSH|\r\x1c\r", "\r\n\x0bA\r\x1c\rB", "\x0b\x0b", "\x0bA\x1c\x1c", "HTTP/1.1 200 OK\r\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := hl7v2.ReadBlock(text)
		if err != nil {
			return
		}
		if rest := strings.TrimLeft(text, "\r\n"); !strings.HasPrefix(rest, "\x0b"+got+"\x1c\r") || strings.ContainsAny(got, "\x0b\x1c") {
			t.Fatal("something else was found")
		}
	})
}

// FuzzTime reads any time: what it says is a time that FHIR can hold and that the reader of clinical times takes.
func FuzzTime(f *testing.F) {
	for _, s := range []string{"2024", "202402", "20240229", "2024022913", "202402291305", "20240229130507.123+0100", "20241027013000", "x", "99999999", "20240229130507-1400"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		text, exact := hl7v2.ReadTime(raw)
		if exact && back(text) != raw {
			t.Fatal("called exact and is not")
		}
		if text != "" && !strings.HasPrefix(raw, text[:4]) {
			t.Fatal("another year")
		}
	})
}

// BenchmarkConvert says how many MB of messages a second become resources.
func BenchmarkConvert(b *testing.B) {
	obx := "OBX|1|NM|718-7^Haemoglobin^LN||135.0|g/L^gram per litre^UCUM|130-170|N|||F|||20240101080000+0000|||||20240101090000+0000\r"
	head, rest, _ := strings.Cut(seeds[0], "NTE|1|L")
	_ = rest
	text := []byte(head + strings.Repeat(obx, 1000))
	n := number(b, held)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := hl7v2.Convert(text, "ASCII", n); err != nil {
			b.Fatal(err)
		}
	}
}
