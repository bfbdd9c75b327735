package broker

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// page is a question with where it goes on. It travels to the asker and back, sealed: it holds the person's number, and only its asker can use it.
type page struct {
	Operation string // Ask or Total
	Question  audit.Question
	Reason    string
	Followed  Followed
}

// pageLife is how long a page token is good for.
const pageLife = time.Hour

// maxPageToken is longer than any token that is made: a question names at most 64 of anything.
const maxPageToken = 8 << 10

// sealedPage is what stands in a token. Numbers have no JSON of their own, on purpose, and are written out here, where they are sealed at once.
type sealedPage struct {
	Operation    string             `json:"o"`
	Kind         audit.QuestionKind `json:"k"`
	Subjects     []string           `json:"s,omitempty"`
	User         string             `json:"u,omitempty"`
	Organisation record.ODSCode     `json:"g,omitempty"`
	Holder       record.ODSCode     `json:"h,omitempty"`
	From         time.Time          `json:"f,omitzero"`
	Until        time.Time          `json:"t,omitzero"`
	Outcomes     []audit.EntryType  `json:"e,omitempty"`
	Purposes     []record.Purpose   `json:"p,omitempty"`
	Before       uint64             `json:"b"`
	Reason       string             `json:"r,omitempty"`
	Named        bool               `json:"n,omitempty"`
	Answered     bool               `json:"c,omitempty"`
	Archive      string             `json:"a,omitempty"`
	Expires      int64              `json:"x"`
}

// newPages returns what seals page tokens: AES-256-GCM under a key of its own, made from that of handles, so that all replicas of a deployment open each other's.
func newPages(handleKey []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, handleKey, nil, "mycarerecord page token v1", 32)
	if err != nil {
		return nil, errors.New("broker: the key of page tokens cannot be made")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, errors.New("broker: the key of page tokens cannot be used")
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// asker is what a token is bound to: who asks, in which role, by which system.
func asker(r record.Requester) []byte {
	text, _ := json.Marshal([]string{string(r.Kind), r.Issuer, r.User, r.RoleProfile, r.JobRole, string(r.Organisation), r.Client, r.Own.Reveal()}) // strings never fail
	return text
}

// nextPage seals where the question goes on, "" where it does not.
func (b *Broker) nextPage(p page, before uint64, r record.Requester) string {
	if before == 0 {
		return ""
	}
	q := p.Question
	s := sealedPage{Operation: p.Operation, Kind: q.Kind, User: q.User, Organisation: q.Organisation, Holder: q.Holder, From: q.From, Until: q.Until, Outcomes: q.Outcomes,
		Purposes: q.Purposes, Before: before, Reason: p.Reason, Named: p.Followed.Named, Answered: p.Followed.Answered, Archive: q.Archive, Expires: time.Now().Add(pageLife).Unix()}
	for _, n := range q.Subjects {
		s.Subjects = append(s.Subjects, n.Reveal())
	}
	text, err := json.Marshal(s)
	if err != nil {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(b.pages.Seal(nil, nil, text, asker(r)))
}

// openPage opens a token that this asker was given.
func (b *Broker) openPage(token, operation string, r record.Requester) (page, bool) {
	if len(token) > maxPageToken {
		return page{}, false
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(sealed) < b.pages.Overhead() {
		return page{}, false
	}
	text, err := b.pages.Open(nil, nil, sealed, asker(r))
	if err != nil {
		return page{}, false
	}
	var s sealedPage
	if json.Unmarshal(text, &s) != nil || s.Operation != operation || time.Now().Unix() >= s.Expires {
		return page{}, false
	}
	p := page{Operation: s.Operation, Reason: s.Reason, Followed: Followed{Named: s.Named, Answered: s.Answered},
		Question: audit.Question{Kind: s.Kind, User: s.User, Organisation: s.Organisation, Holder: s.Holder, From: s.From, Until: s.Until, Outcomes: s.Outcomes,
			Purposes: s.Purposes, Before: s.Before, Archive: s.Archive}}
	for _, digits := range s.Subjects {
		n, err := record.ParseNHSNumber(digits)
		if err != nil {
			return page{}, false
		}
		p.Question.Subjects = append(p.Question.Subjects, n)
	}
	if len(p.Question.Subjects) > 1 {
		p.Followed.Superseded = p.Question.Subjects[1:]
	}
	return p, true
}
