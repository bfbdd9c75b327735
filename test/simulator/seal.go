package simulator

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
)

// seal makes and reads page tokens: nothing of a person can be read in one, and the same page has the same token, so that a
// client that is sent round in a circle can notice.
type seal struct {
	aead cipher.AEAD
	key  []byte // of the nonces
}

func newSeal() *seal {
	s := &seal{key: make([]byte, 32)}
	key := make([]byte, 32)
	_, _ = rand.Read(key) // crypto/rand never fails (Go 1.24)
	_, _ = rand.Read(s.key)
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // 32 bytes are a key
	}
	if s.aead, err = cipher.NewGCM(block); err != nil {
		panic(err) // AES has the right block size
	}
	return s
}

func (s *seal) close(text []byte) string {
	mac := hmac.New(sha256.New, s.key)
	mac.Write(text)
	nonce := mac.Sum(nil)[:s.aead.NonceSize()]
	return base64.RawURLEncoding.EncodeToString(s.aead.Seal(nonce, nonce, text, nil))
}

func (s *seal) open(token string) ([]byte, bool) {
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) < s.aead.NonceSize() {
		return nil, false
	}
	text, err := s.aead.Open(nil, raw[:s.aead.NonceSize()], raw[s.aead.NonceSize():], nil)
	return text, err == nil
}
