package audit

import (
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"time"
)

// EntryVersion is the version of an entry's bytes as this package writes them. ENTRY.md describes them for outsiders.
const EntryVersion = 1

// Sizes of an entry's parts, in bytes. maxPayload holds the digests of more resources than one answer may have.
const (
	saltSize    = 32
	leafDataLen = 1 + 1 + 8 + 8 + sha256.Size
	maxPayload  = 32 << 20
)

// Entry is one entry as it is stored. All but Sealed is bound by Leaf; the payload is bound by Commitment.
type Entry struct {
	Position   uint64
	Version    uint8
	Type       EntryType
	Time       time.Time // UTC, whole microseconds, never before the entry in front
	Epoch      uint32    // of the keys that sealed it and made its marks
	Commitment [32]byte  // SHA-256 over salt and payload
	Leaf       [32]byte  // RFC 6962 leaf hash of the entry's leaf data
	Sealed     []byte    // nonce, then salt and payload encrypted; nil once erased
}

// leafData returns what the leaf hash is taken over: version, type, position, time in microseconds since 1970, commitment.
func (e *Entry) leafData() [leafDataLen]byte {
	var b [leafDataLen]byte
	b[0], b[1] = e.Version, byte(e.Type)
	binary.BigEndian.PutUint64(b[2:], e.Position)
	binary.BigEndian.PutUint64(b[10:], uint64(e.Time.UnixMicro()))
	copy(b[18:], e.Commitment[:])
	return b
}

// leaf returns the leaf hash (RFC 6962, section 2.1: SHA-256 over 0x00 and the leaf data).
func (e *Entry) leaf() [32]byte {
	d := e.leafData()
	var b [1 + leafDataLen]byte
	copy(b[1:], d[:])
	return sha256.Sum256(b[:])
}

// associated returns what the encryption binds the payload to: the leaf data less the commitment, and the epoch.
func (e *Entry) associated() []byte {
	d := e.leafData()
	return binary.BigEndian.AppendUint32(append(make([]byte, 0, 18+4), d[:18]...), e.Epoch)
}

// draft is a payload before it has its place in the order. What does not depend on the place is done already: the salt, the commitment, the key for its nonce. The salt
// and the nonce are fresh for every draft, and a draft is sealed once, so that a payload that was rolled back and comes again leaves nothing to compare.
type draft struct {
	epoch      *epoch
	plain      []byte // salt and payload
	commitment [32]byte
	nonce      [nonceSize]byte
	cipher     cipher.AEAD // nil once it was used
}

func newDraft(k *Keys, payload []byte) *draft {
	var salt [saltSize]byte
	var nonce [nonceSize]byte
	_, _ = rand.Read(salt[:]) // crypto/rand.Read never returns an error (Go 1.24)
	_, _ = rand.Read(nonce[:])
	return draftOf(k, payload, salt, nonce)
}

func draftOf(k *Keys, payload []byte, salt [saltSize]byte, nonce [nonceSize]byte) *draft {
	d := &draft{epoch: k.current(), plain: make([]byte, 0, saltSize+len(payload)), nonce: nonce}
	d.plain = append(append(d.plain, salt[:]...), payload...)
	d.commitment = sha256.Sum256(d.plain)
	d.cipher = d.epoch.gcm(d.nonce[:])
	return d
}

// payload is what the draft is of.
func (d *draft) payload() []byte { return d.plain[saltSize:] }

// of reports whether the draft can be sealed with the newest of the keys.
func (d *draft) of(k *Keys) bool { return d.cipher != nil && d.epoch == k.current() }

// entry seals the draft at its place. It MUST be called once.
func (d *draft) entry(position uint64, t EntryType, at time.Time) (Entry, error) {
	if len(d.payload()) > maxPayload {
		return Entry{}, fmt.Errorf("%w: the entry is larger than %d bytes", ErrInvalid, maxPayload)
	}
	e := Entry{Position: position, Version: EntryVersion, Type: t, Time: at, Epoch: d.epoch.number, Commitment: d.commitment}
	e.Leaf = e.leaf()
	e.Sealed = seal(d.cipher, d.nonce, d.plain, e.associated())
	d.cipher = nil
	return e, nil
}

// open checks an entry against its leaf and its commitment and returns the payload. The error wraps ErrDamaged.
func (e *Entry) open(k *Keys) ([]byte, error) {
	damaged := func(what string) ([]byte, error) {
		return nil, fmt.Errorf("%w: entry %d: %s", ErrDamaged, e.Position, what)
	}
	if e.Version != EntryVersion {
		return damaged("its version is unknown to this program")
	}
	want := e.leaf()
	if subtle.ConstantTimeCompare(want[:], e.Leaf[:]) != 1 {
		return damaged("version, type, position, time or commitment differ from the leaf hash")
	}
	epoch, ok := k.epoch(e.Epoch)
	if !ok {
		return damaged("the keys of its epoch are missing")
	}
	if e.Sealed == nil {
		return damaged("its payload was erased")
	}
	plain, ok := epoch.unseal(e.Sealed, e.associated())
	if !ok || len(plain) < saltSize {
		return damaged("its payload does not open with the keys of its epoch")
	}
	if sum := sha256.Sum256(plain); subtle.ConstantTimeCompare(sum[:], e.Commitment[:]) != 1 {
		return damaged("its payload differs from the commitment")
	}
	return plain[saltSize:], nil
}
