package broker

import (
	"encoding/base32"
	"errors"
	"fmt"
	"strconv"

	siv "github.com/tink-crypto/tink-go/v2/daead/subtle"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Handles seals NHS numbers into the ids of the Patients that we author, and opens them (M-7). A handle is lower-case base32 of an AES-SIV
// seal (RFC 5297) over the key epoch and the number: the same for everyone in a deployment, 36 characters, meaningless without the key.
// It grants nothing: whoever shows one is asked everything again. AES-SIV is tink-go's (Apache-2.0): the standard library has no
// deterministic authenticated encryption.
type Handles struct{ aead *siv.AESSIV }

const handleEpoch = 1

var handleEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewHandles takes a key of 64 bytes.
func NewHandles(key []byte) (*Handles, error) {
	if len(key) != siv.AESSIVKeySize {
		return nil, errors.New("broker: the key of handles must be 64 bytes")
	}
	aead, err := siv.NewAESSIV(key)
	if err != nil {
		return nil, errors.New("broker: the key of handles cannot be used")
	}
	return &Handles{aead}, nil
}

// Seal returns the handle of a number, "" for the zero number.
func (h *Handles) Seal(n record.NHSNumber) string {
	v, err := strconv.ParseUint(n.Reveal(), 10, 64)
	if err != nil {
		return ""
	}
	plain := []byte{handleEpoch, byte(v >> 32), byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}
	sealed, err := h.aead.EncryptDeterministically(plain, []byte("handle"))
	if err != nil {
		return ""
	}
	return handleEncoding.EncodeToString(sealed)
}

// Open returns the number of a handle, and false if it is none of ours.
func (h *Handles) Open(handle string) (record.NHSNumber, bool) {
	if len(handle) != handleEncoding.EncodedLen(22) {
		return record.NHSNumber{}, false
	}
	sealed, err := handleEncoding.DecodeString(handle)
	if err != nil {
		return record.NHSNumber{}, false
	}
	plain, err := h.aead.DecryptDeterministically(sealed, []byte("handle"))
	if err != nil || len(plain) != 6 || plain[0] != handleEpoch {
		return record.NHSNumber{}, false
	}
	v := uint64(plain[1])<<32 | uint64(plain[2])<<24 | uint64(plain[3])<<16 | uint64(plain[4])<<8 | uint64(plain[5])
	n, err := record.ParseNHSNumber(fmt.Sprintf("%010d", v))
	return n, err == nil && h.Seal(n) == handle // base32 leaves spare bits: only the one canonical text is ours
}

// Handles returns the broker's.
func (b *Broker) Handles() *Handles { return b.handles }
