package main

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Types of entry that a checker must know (audit/ENTRY.md).
const (
	typeBegin      = 1
	typeChunk      = 2
	typeReleased   = 3
	typeRefused    = 4
	typeAbandoned  = 7
	typeObjection  = 8
	typeOverride   = 9
	typeReview     = 10
	typeKey        = 14
	typePolicy     = 15
	typeImport     = 16
	typeImported   = 17
	typeAdopted    = 18
	typeRedact     = 19
	typeDelegation = 20
	typeAlert      = 21
	typeHandled    = 22
)

// entry is one line of an export.
type entry struct {
	Position   *uint64 `json:"position"`
	Version    uint8   `json:"version"`
	Type       uint8   `json:"type"`
	Time       int64   `json:"time"`
	Epoch      uint32  `json:"epoch"`
	Commitment string  `json:"commitment"`
	Leaf       string  `json:"leaf"`
	Sealed     []byte  `json:"sealed"`
	Opened     []byte  `json:"opened"`
}

// leafData is what the leaf is a hash of: version, type, position, time, commitment.
func (e *entry) leafData(commitment hash) []byte {
	b := []byte{0, e.Version, e.Type}
	b = binary.BigEndian.AppendUint64(b, *e.Position)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Time))
	return append(b, commitment[:]...)
}

// associated is what the encryption binds the payload to.
func (e *entry) associated() []byte {
	b := []byte{e.Version, e.Type}
	b = binary.BigEndian.AppendUint64(b, *e.Position)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Time))
	return binary.BigEndian.AppendUint32(b, e.Epoch)
}

// payload returns the JSON of an entry: of what the export opened, or of what a key at hand opens. ok is false if there is neither; the error says that what
// there is is not the entry's own.
func (e *entry) payload(keys payloadKeys, commitment hash) (text []byte, ok bool, err error) {
	plain := e.Opened
	if plain == nil {
		if e.Sealed == nil || keys == nil {
			return nil, false, nil
		}
		k, known := keys[e.Epoch]
		if !known {
			return nil, false, errors.New("the key of its epoch is not among those given, or its epoch was changed")
		}
		if plain, known = unseal(k, e.Sealed, e.associated()); !known {
			return nil, false, errors.New("its payload does not open with the key of its epoch")
		}
	}
	if sha256.Sum256(plain) != commitment || len(plain) < 32 {
		return nil, false, errors.New("its payload is not the one that it commits to")
	}
	return plain[32:], true, nil
}

// payloadKeys are the keys that open payloads, by epoch.
type payloadKeys map[uint32][32]byte

// loadKeys reads payload-0001.key and its like from a folder.
func loadKeys(dir string) (payloadKeys, error) {
	names, err := filepath.Glob(filepath.Join(dir, "payload-*.key"))
	if err != nil || len(names) == 0 {
		return nil, errors.New("there is no payload-0001.key in the folder of keys")
	}
	out := payloadKeys{}
	for _, name := range names {
		digits := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(name), "payload-"), ".key")
		n, err := strconv.ParseUint(digits, 10, 32)
		b, err2 := os.ReadFile(name)
		if err != nil || err2 != nil || len(b) != 32 {
			return nil, fmt.Errorf("%s is not a readable file of 32 bytes", filepath.Base(name))
		}
		out[uint32(n)] = [32]byte(b)
	}
	return out, nil
}

// unseal opens XAES-256-GCM (c2sp.org/XAES-256-GCM): AES-256-GCM under a key that is derived from the first half of the nonce.
func unseal(key [32]byte, sealed, associated []byte) ([]byte, bool) {
	if len(sealed) < 24+16 {
		return nil, false
	}
	nonce := sealed[:24]
	c, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, false
	}
	l := make([]byte, 16)
	c.Encrypt(l, l)
	carry := l[0] >> 7
	for i := range 15 {
		l[i] = l[i]<<1 | l[i+1]>>7
	}
	l[15] <<= 1
	if carry == 1 {
		l[15] ^= 0x87
	}
	derived := make([]byte, 0, 32)
	for _, counter := range []byte{1, 2} {
		m := append([]byte{0, counter, 'X', 0}, nonce[:12]...)
		for i := range m {
			m[i] ^= l[i]
		}
		c.Encrypt(m, m)
		derived = append(derived, m...)
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, false
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, false
	}
	plain, err := gcm.Open(nil, nonce[12:], sealed[24:], associated)
	return plain, err == nil && !bytes.Equal(plain, nil)
}
