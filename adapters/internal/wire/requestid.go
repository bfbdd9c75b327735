package wire

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// RequestID returns the caller's request id in the one form that may leave: a UUID, lower case. An id that is a UUID stays the same; of any
// other, which the caller chose and which might say anything, a name-based one is made (RFC 9562, version 8), so that both sides' logs can
// still be brought together.
func RequestID(id string) string {
	if isUUID(id) && !record.HoldsNHSNumber(id) {
		return id
	}
	sum := sha256.Sum256([]byte("mycarerecord request id\x00" + id))
	sum[6] = sum[6]&0x0f | 0x80
	sum[8] = sum[8]&0x3f | 0x80
	h := hex.EncodeToString(sum[:16])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return false
			}
		} else if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
			return false
		}
	}
	return true
}
