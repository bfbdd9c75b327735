package audit

import (
	"crypto/aes"
	"crypto/cipher"
)

// XAES-256-GCM (c2sp.org/XAES-256-GCM, version 1): AES-256-GCM under a key derived from the first half of a 24-byte random nonce. Plain
// AES-GCM with 12 random bytes must not be used for more than 2^32 messages under one key (NIST SP 800-38D, 8.3), which a busy region
// reaches in a few years; with 24 there is no such bound worth counting.
const (
	nonceSize = 24
	keySize   = 32
)

// xaes is a key, and what does not depend on a nonce.
type xaes struct {
	block cipher.Block
	k1    [aes.BlockSize]byte
}

func newXAES(key [keySize]byte) *xaes {
	c, err := aes.NewCipher(key[:])
	if err != nil {
		panic("a 32-byte AES key was refused")
	}
	x := &xaes{block: c}
	k1 := x.k1[:]
	c.Encrypt(k1, k1)
	msb := byte(0)
	for i := len(k1) - 1; i >= 0; i-- {
		k1[i], msb = k1[i]<<1|msb, k1[i]>>7
	}
	k1[len(k1)-1] ^= -msb & 0x87 // doubling in GF(2^128), as in CMAC
	return x
}

// gcm is the cipher for one nonce.
func (x *xaes) gcm(nonce []byte) cipher.AEAD {
	var derived [keySize]byte
	for i := range 2 {
		m := derived[i*aes.BlockSize : (i+1)*aes.BlockSize]
		copy(m, []byte{0, byte(i + 1), 'X', 0})
		copy(m[4:], nonce[:12])
		for j := range m {
			m[j] ^= x.k1[j]
		}
		x.block.Encrypt(m, m)
	}
	block, err := aes.NewCipher(derived[:])
	if err != nil {
		panic("a 32-byte AES key was refused")
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic("AES-GCM was refused")
	}
	return gcm
}

func gcmFor(key [keySize]byte, nonce []byte) cipher.AEAD { return newXAES(key).gcm(nonce) }

// gcm is the cipher that an epoch's payloads are sealed with under one nonce.
func (e *epoch) gcm(nonce []byte) cipher.AEAD {
	if e.sealing == nil {
		return gcmFor(e.payload, nonce)
	}
	return e.sealing.gcm(nonce)
}

// seal returns nonce, ciphertext and tag. gcm is that for the key and this nonce.
func seal(gcm cipher.AEAD, nonce [nonceSize]byte, plain, associated []byte) []byte {
	out := make([]byte, nonceSize, nonceSize+len(plain)+gcm.Overhead())
	copy(out, nonce[:])
	return gcm.Seal(out, out[12:nonceSize], plain, associated)
}

// unseal returns what seal was given, and false if anything of it differs.
func (e *epoch) unseal(sealed, associated []byte) ([]byte, bool) {
	if len(sealed) < nonceSize {
		return nil, false
	}
	nonce := sealed[:nonceSize]
	plain, err := e.gcm(nonce).Open(nil, nonce[12:], sealed[nonceSize:], associated)
	return plain, err == nil
}

// unseal is that of an epoch with such a key.
func unseal(key [keySize]byte, sealed, associated []byte) ([]byte, bool) {
	return (&epoch{payload: key}).unseal(sealed, associated)
}
