package fhirrest

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/brokertest"
)

var binaryAddress = regexp.MustCompile(`https://broker\.example(/fhir/Binary/gp-[0-9a-f]{32}\?ctx=[A-Za-z0-9_-]+)`)

// A document is read at the address that the record gives, byte for byte, with headers that keep a browser from showing it, and is on record.
func TestBinaryOfARealBroker(t *testing.T) {
	page := []byte("<html><script>alert(1)</script>\x00\xff")
	for _, c := range []struct{ held, want string }{{"text/html; charset=utf-8", "text/html; charset=utf-8"}, {"", "application/octet-stream"}, {"application/pdf", "application/pdf"},
		{"text/html\r\nX-Bad: 1", "application/octet-stream"}} {
		k := newHouse(t, func(cfg *broker.Config) { brokertest.WithDocument(cfg, broker.Document{Bytes: page, Type: c.held}) })
		handle := k.h.(*handler).handles.Seal(number(t, brokertest.Ann))
		found := binaryAddress.FindStringSubmatch(bodyOf(t, k.get("/fhir/Patient/"+handle+"/$everything")))
		if found == nil {
			t.Fatal("no address of a document in the record")
		}
		for _, accept := range []string{"*/*", "application/pdf", "text/html, */*;q=0.1", "application/json"} {
			resp := k.get(found[1], "Accept: "+accept)
			if got := bodyOf(t, resp); resp.StatusCode != 200 || got != string(page) {
				t.Fatalf("%s: got %d and other bytes", accept, resp.StatusCode)
			}
			sum := sha256.Sum256(page)
			for name, want := range map[string]string{"Content-Type": c.want, "X-Content-Type-Options": "nosniff", "Content-Disposition": "attachment", "Cache-Control": "no-store",
				"Content-Security-Policy": "default-src 'none'; sandbox", "Referrer-Policy": "no-referrer", "Repr-Digest": "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":", "Content-Encoding": ""} {
				if got := resp.Header.Get(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			if resp.Header.Get("X-Access-Receipt") == "" || resp.Header.Get("ETag") != "" || resp.Header.Get("X-Bad") != "" {
				t.Error("no receipt, or an ETag")
			}
		}
		for _, address := range []string{found[1] + "&_format=json", found[1]} {
			resp := k.get(address, "Accept: application/fhir+json")
			var b struct{ ResourceType, ID, ContentType, Data string }
			text := bodyOf(t, resp)
			if json.Unmarshal([]byte(text), &b) != nil || b.ResourceType != "Binary" || !strings.HasPrefix(found[1], "/fhir/Binary/"+b.ID+"?") || b.ContentType != c.want ||
				resp.Header.Get("Content-Type") != mediaType || resp.Header.Get("Content-Disposition") != "attachment" {
				t.Fatal("not a Binary")
			}
			if data, err := base64.StdEncoding.DecodeString(b.Data); err != nil || !bytes.Equal(data, page) {
				t.Error("a Binary with other bytes")
			}
		}
	}
}

// What is no address of ours reads nothing, is answered as bad input, and is on record.
func TestBinaryAddresses(t *testing.T) {
	k := newKit(t)
	for target, want := range map[string]int{"/fhir/Binary/gp-1?ctx=good": 200, "/fhir/Binary/gp-1?ctx=bad": 400, "/fhir/Binary/gp-1": 404, "/fhir/Binary/gp-1?ctx=good&ctx=good": 404,
		"/fhir/Binary/gp-1?ctx=good&birthdate=x": 400, "/fhir/Binary/gp-1?ctx=good&_format=xml": 406, "/fhir/Binary/gp-1/_history/1?ctx=good": 404, "/fhir/Binary/gp%2f1?ctx=good": 404} {
		before, unread := len(k.broker.asked), k.broker.unread.Load()
		resp := k.get(target, "Accept: */*")
		if resp.StatusCode != want || (len(k.broker.asked)-before == 1) != (want == 200) {
			t.Errorf("%s: got %d, want %d", target, resp.StatusCode, want)
		}
		if recorded := k.broker.unread.Load()-unread == 1; recorded == (want == 200) && want != 406 && !strings.Contains(target, "%2f") {
			t.Errorf("%s: recorded as unread: %v", target, recorded)
		}
	}
	if resp := k.do(k.ask("HEAD", "/fhir/Binary/gp-1?ctx=good", "")); resp.StatusCode != 405 {
		t.Errorf("HEAD: got %d", resp.StatusCode)
	}
	if resp := k.get("/fhir/Binary/gp-1?ctx=good", "-Authorization"); resp.StatusCode != 401 {
		t.Errorf("without a token: got %d", resp.StatusCode)
	}
	if resp := k.get("/fhir/Binary/gp-1?ctx=good", "-X-Purpose-Of-Use"); resp.StatusCode != 400 {
		t.Errorf("without a purpose: got %d", resp.StatusCode)
	}
}
